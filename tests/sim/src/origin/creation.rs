//! Makes shapes as `limn_origin::shapes::creation` does: by the steps that core says, on the model's tables.

use super::{Origin, Shape, layout};
use crate::faulty::{Log, Session};
use crate::files::{File, Files};
use crate::judge::Event;
use crate::postgres::{Postgres, Row, TableRow};
use crate::random::Random;
use crate::settings::Settings;
use crate::shapes::{KINDS, Kind};
use limn_core::journal::record::CreatedShape;
use limn_core::log::ShapeLog;
use limn_core::log::shape_log::SnapshotProgress;
use limn_core::pg::SnapshotFilter;
use limn_core::shape::{DropCause, SnapshotWriter};
use limn_core::store::{RunId, SnapshotStep};
use limn_core::{Handle, ShapeId};
use limn_disk::{SnapshotOut, WrittenSnapshot, segment};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// A shape on its way.
#[derive(Debug)]
pub struct Creation {
    id: ShapeId,
    pub kind: usize,
    pub handle: Handle,
    /// True once the writer knows the shape.
    pub is_registered: Cell<bool>,
}

/// A run, and what it keeps from one step to the next.
#[derive(Debug)]
pub struct Run {
    id: RunId,
    session: Session,
    /// Rows that are to come, and the way of the shape's snapshot to the disk.
    copying: Option<(Vec<Row>, SnapshotOut<Files>)>,
    unsynced: BTreeMap<ShapeId, File>,
}

impl Origin {
    /// The newest shape of a kind, which is made where there is none; `None` while that is not possible.
    /// `clock_us` is what the system's clock says.
    pub fn find_or_create(&mut self, kind: usize, clock_us: u64) -> Option<Handle> {
        let shapes = self.shapes().filter(|shape| shape.kind == kind).map(|shape| shape.handle);
        let making = self.snapshots.iter().filter(|creation| creation.kind == kind);
        let known = shapes.chain(making.map(|creation| creation.handle)).max();
        if known.is_some() || !self.is_active {
            return known;
        }
        let (id, is_registered) = (ShapeId(self.next_id), Cell::new(false));
        self.next_id += 1;
        let handle = Handle::new(5_000 + kind as u64, self.handles.next_us(clock_us));
        let tables = KINDS[kind].definition.relations().iter().map(|relation| relation.oid).collect();
        self.snapshots.push(tables, Rc::new(Creation { id, kind, handle, is_registered }));
        Some(handle)
    }

    /// Takes the next step of one of the runs. A failure ends only the making of a shape, while the power is on.
    pub fn create(&mut self, postgres: &mut Postgres, random: &mut Random) -> io::Result<()> {
        while let Some(id) = self.snapshots.poll_run() {
            let (session, unsynced) = (Session::default(), BTreeMap::new());
            self.runs.push(Run { id, session, copying: None, unsynced });
        }
        if !self.runs.is_empty() {
            let mut run = self.runs.swap_remove(random.index(self.runs.len()));
            if let Err(error) = self.step(&mut run, postgres, random) {
                if self.files.disk().is_off() {
                    return Err(error);
                }
                (run.session, run.copying) = (Session::default(), None);
                for failed in self.snapshots.handle_failed(run.id) {
                    self.writer.remove(failed.id, DropCause::CreationFailed);
                    self.events.push(Event::Failed(failed.handle));
                }
            }
            match self.snapshots.next(run.id) {
                SnapshotStep::Over => self.snapshots.end(run.id),
                _ => self.runs.push(run),
            }
        }
        self.end_turn(postgres)
    }

    fn step(&mut self, run: &mut Run, postgres: &Postgres, random: &mut Random) -> io::Result<()> {
        match self.snapshots.next(run.id) {
            SnapshotStep::Register(new) => {
                new.iter().for_each(|creation| self.register(creation));
                self.snapshots.handle_registered(run.id);
            }
            SnapshotStep::Begin(_) => {
                let begun = run.session.open(postgres, self.faults);
                begun.into_iter().for_each(|filter| self.snapshots.handle_begun(run.id, filter));
            }
            SnapshotStep::Take { shape, filter } => self.take(run, &shape, &filter),
            SnapshotStep::Copy { shape, filter } => self.copy(run, &shape, &filter, random)?,
            SnapshotStep::Close => {
                run.session = Session::default();
                self.snapshots.handle_closed(run.id);
            }
            SnapshotStep::Sync(shape) => {
                let file = run.unsynced.remove(&shape.id).expect("it was written");
                segment::sync_snapshot(&self.files, &layout().shape_dir(shape.handle), &file)?;
                self.snapshots.handle_synced(run.id);
            }
            SnapshotStep::Finish { shape, filter, content } => {
                self.writer.handle_snapshot_done(shape.id, filter, content);
                self.snapshots.handle_done(run.id);
            }
            SnapshotStep::Pause => self.snapshots.handle_paused(run.id),
            SnapshotStep::Over => {}
        }
        Ok(())
    }

    fn register(&mut self, creation: &Creation) {
        let (kind, handle) = (creation.kind(), creation.handle);
        let created = CreatedShape::new(creation.id, handle, &kind.request, &kind.definition);
        let log = Log::of_first(ShapeLog::new(self.settings.chunk_bytes_max), self.faults);
        let shape = Rc::new(Shape::new(created, handle, log, false));
        self.writer.register(creation.id, shape, &kind.definition, &handle.to_string());
        creation.is_registered.set(true);
    }

    fn take(&mut self, run: &Run, creation: &Creation, filter: &SnapshotFilter) {
        let tables = run.session.tables().expect("the snapshot is open");
        if self.writer.logs().shape(creation.id).is_none() {
            // It was removed meanwhile.
            self.snapshots.handle_refused(run.id);
        } else if self.writer.handle_snapshot_taken(creation.id, filter, creation.kind().views(tables)) {
            self.events.push(Event::Snapshot(creation.handle, creation.kind));
            self.snapshots.handle_taken(run.id);
        } else {
            let failed = self.snapshots.handle_incomplete(run.id, Duration::ZERO);
            assert!(failed.is_none(), "no time goes by");
        }
    }

    /// Writes some rows, and the end behind the last one.
    fn copy(
        &mut self,
        run: &mut Run,
        creation: &Creation,
        filter: &SnapshotFilter,
        random: &mut Random,
    ) -> io::Result<()> {
        let copying = run.copying.take();
        let (mut rows, mut out) = copying.unwrap_or_else(|| self.begin_copy(&run.session, creation));
        for row in std::iter::from_fn(|| rows.pop()).take(1 + random.index(5)) {
            out.push_row(&TableRow(row)).expect("every row can be judged");
        }
        if rows.is_empty() {
            let (progress, written) = out.finish(&filter.bounds, |bytes| self.packs.append(bytes))?;
            self.show(creation, progress);
            let content = match written {
                WrittenSnapshot::Small(content) => Some(content),
                WrittenSnapshot::Large(file) => {
                    run.unsynced.insert(creation.id, file);
                    None
                }
            };
            self.snapshots.handle_copied(run.id, content);
            return Ok(());
        }
        if out.is_full() {
            let progress = out.write()?;
            self.snapshots.handle_written(run.id, progress.bytes);
            self.show(creation, progress);
        }
        if random.once_in(20) {
            self.snapshots.handle_slow(run.id);
        }
        run.copying = Some((rows, out));
        Ok(())
    }

    fn begin_copy(&self, session: &Session, creation: &Creation) -> (Vec<Row>, SnapshotOut<Files>) {
        let (kind, tables) = (creation.kind(), session.tables().expect("the snapshot is open"));
        let Settings { chunk_bytes_max, write_bytes, .. } = self.settings;
        let writer =
            SnapshotWriter::of(&kind.definition, creation.handle, kind.views(tables), chunk_bytes_max);
        let dir = layout().shape_dir(creation.handle);
        (kind.rows(tables), SnapshotOut::new(self.files.clone(), dir, writer, write_bytes))
    }

    fn show(&self, creation: &Creation, progress: SnapshotProgress) {
        if let Some(shape) = self.writer.logs().shape(creation.id) {
            shape.log.change(|log| log.handle_snapshot_progress(progress));
            shape.is_readable.set(true);
        }
    }
}

impl Creation {
    fn kind(&self) -> &'static Kind {
        &KINDS[self.kind]
    }
}
