//! Makes shapes as `limn_origin::shapes::creation` does: by the steps that core says, on the model's tables.

use super::Origin;
use crate::faulty::{Session, Shape};
use crate::files::{File, Files, layout};
use crate::judge::Event;
use crate::postgres::{Postgres, TableRow};
use crate::random::Random;
use crate::shapes::Kind;
use limn_core::journal::record::CreatedShape;
use limn_core::log::ShapeLog;
use limn_core::log::reading::Standing;
use limn_core::pg::SnapshotFilter;
use limn_core::shape::DropCause;
use limn_core::store::{NewShapesAnswer, RunId, SnapshotStep};
use limn_core::{Handle, ShapeId};
use limn_disk::{SnapshotOut, segment};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// A run, and what it keeps from one step to the next.
#[derive(Debug)]
pub struct Run {
    id: RunId,
    session: Session,
    out: Option<SnapshotOut<Files, Rc<Shape>>>,
}

impl Origin {
    /// The newest shape of a kind, which is made where there is none; `None` while that is not possible.
    /// `clock_us` is what the system's clock says.
    pub fn find_or_create(&mut self, kind: &'static Kind, clock_us: u64) -> Option<Handle> {
        let known = self.front.find(kind);
        if known.is_some() || self.front.standing != Standing::Active {
            return known;
        }
        let id = ShapeId(self.next_id);
        self.next_id += 1;
        let handle = Handle::new(5_000 + kind.number, self.handles.next_us(clock_us));
        let created = CreatedShape::new(id, handle, &kind.request, &kind.definition);
        let log = ShapeLog::new(self.settings.sizes.chunk_bytes_max);
        let shape = Shape::of_first(created, (handle, log), false, self.faults);
        let tables = kind.definition.relations().iter().map(|relation| relation.oid).collect();
        self.snapshots.push(tables, shape.clone());
        self.front.shapes.push(shape);
        Some(handle)
    }

    /// Takes the next step of one of the runs. A failure ends only the making of a shape, while the power is on.
    pub fn create(&mut self, postgres: &Postgres, random: &mut Random) -> io::Result<()> {
        while let Some(id) = self.snapshots.poll_run() {
            self.runs.push(Run { id, session: Session::default(), out: None });
        }
        let Some(mut run) = random.take(&mut self.runs) else { return Ok(()) };
        let step = self.snapshots.next(run.id);
        let is_over = matches!(step, SnapshotStep::Over);
        if self.step(&mut run, step, postgres, random).is_err() {
            self.files.check_power()?;
            (run.session, run.out) = (Session::default(), None);
            for failed in self.snapshots.handle_failed(run.id) {
                self.writer.remove(failed.created.id, DropCause::CreationFailed);
            }
        }
        self.runs.extend((!is_over).then_some(run));
        Ok(())
    }

    fn step(
        &mut self,
        run: &mut Run,
        step: SnapshotStep<Rc<Shape>, File>,
        postgres: &Postgres,
        random: &mut Random,
    ) -> io::Result<()> {
        match step {
            SnapshotStep::Tell(new) => {
                let taken = Event::of_new(&new);
                let answer = self.writer.handle_new_shapes(new);
                self.events.extend(taken.filter(|_| answer == NewShapesAnswer::Noted));
                // One that was dropped, which nobody waits for.
                drop(self.snapshots.handle_answer(run.id, answer, Duration::ZERO));
            }
            SnapshotStep::Begin(_) => {
                let begun = run.session.open(postgres, self.faults);
                begun.into_iter().for_each(|filter| self.snapshots.handle_begun(run.id, filter));
            }
            SnapshotStep::Ask(shape) => {
                self.snapshots.handle_views(run.id, shape.kind.views(run.session.tables()));
            }
            SnapshotStep::Copy { shape, filter, views } => {
                let (files, sizes) = (self.files.clone(), self.settings.sizes);
                let begin = || SnapshotOut::new(files, &layout(), shape.clone(), views, sizes);
                let out = run.out.take().unwrap_or_else(begin);
                self.copy(run, (shape.kind, out), &filter, random)?;
            }
            SnapshotStep::Close => {
                run.session = Session::default();
                self.snapshots.handle_closed(run.id);
            }
            SnapshotStep::Sync { shape, file } => {
                segment::sync_snapshot(&self.files, &layout().shape_dir(shape.handle), &file)?;
                self.snapshots.handle_synced(run.id);
            }
            SnapshotStep::Pause => self.snapshots.handle_paused(run.id),
            SnapshotStep::Over => self.snapshots.end(run.id),
        }
        Ok(())
    }

    /// Copies some rows; ends behind the last one.
    fn copy(
        &mut self,
        run: &mut Run,
        (kind, mut out): (&'static Kind, SnapshotOut<Files, Rc<Shape>>),
        filter: &SnapshotFilter,
        random: &mut Random,
    ) -> io::Result<()> {
        let rows = run.session.copy(kind, 1 + random.index(5));
        if rows.is_empty() {
            let written = out.finish(&filter.bounds, |content| self.threads.packs.append(content))?;
            self.snapshots.handle_copied(run.id, written);
            return Ok(());
        }
        for row in rows {
            out.push_row(&TableRow(row)).expect("every row can be judged");
            let written = out.write_if_full()?;
            written.into_iter().for_each(|bytes| self.snapshots.handle_written(run.id, bytes));
        }
        if random.once_in(20) {
            self.snapshots.handle_slow(run.id);
        }
        run.out = Some(out);
        Ok(())
    }
}
