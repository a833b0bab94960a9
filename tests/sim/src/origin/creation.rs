//! How a shape is made, as `limn_origin::shapes::creation` does it, one wait at a time.

use super::engine::Engine;
use super::{Event, Shape, layout};
use crate::fault::Fault;
use crate::files::File;
use crate::postgres::{Postgres, Row, Tables};
use crate::random::Random;
use crate::shapes::KINDS;
use limn_core::journal::record::{CreatedShape, SnapshotDone};
use limn_core::log::{ItemFormat, ShapeLog};
use limn_core::pg::{self, SnapshotBounds, SnapshotFilter};
use limn_core::shape::SnapshotWriter;
use limn_core::shape::dependent::View;
use limn_core::{Handle, ShapeId};
use limn_disk::{Files as _, segment};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

/// A shape on its way.
#[derive(Debug)]
pub(super) struct Creation {
    pub(super) id: ShapeId,
    pub(super) kind: usize,
    pub(super) handle: Handle,
    dir: PathBuf,
    chunk_bytes_max: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Folder,
    Register,
    Snapshot,
    /// The snapshot is taken, its position is being asked for.
    Position(SnapshotBounds, Box<Tables>, u64),
    Taken(SnapshotFilter, Box<Tables>),
    Copy(Box<Copying>),
    Sync(SnapshotFilter, File),
    /// With the bytes of a small snapshot, whose file was not synced.
    Done(SnapshotFilter, Option<Vec<u8>>),
}

#[derive(Debug)]
struct Copying {
    filter: SnapshotFilter,
    rows: Vec<Row>,
    writer: SnapshotWriter,
    file: File,
    /// Bytes in the file.
    written: u64,
}

/// The outcome of a step.
pub(super) struct Progress {
    pub(super) goes_on: bool,
    pub(super) event: Option<Event>,
}

impl Creation {
    pub(super) fn new(id: ShapeId, kind: usize, handle: Handle, chunk_bytes_max: u64) -> Self {
        let dir = layout().shape_dir(handle);
        Self { id, kind, handle, dir, chunk_bytes_max, stage: Stage::Folder }
    }

    /// True once the engine knows the shape.
    pub(super) const fn is_registered(&self) -> bool {
        !matches!(self.stage, Stage::Folder | Stage::Register)
    }

    /// Takes the next step.
    pub(super) fn step(
        &mut self,
        engine: &mut Engine,
        postgres: &Postgres,
        random: &mut Random,
    ) -> io::Result<Progress> {
        let faults = engine.faults;
        if self.is_registered()
            && engine.writer.logs().shape(self.id).is_none()
            && !self.registers_late(engine)
        {
            // It was removed meanwhile.
            return Ok(Progress { goes_on: false, event: None });
        }
        let mut event = None;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Folder) {
            Stage::Folder => {
                segment::create(&engine.files, &self.dir)?;
                Stage::Register
            }
            Stage::Register => {
                if !faults.has(Fault::RegistersAfterSnapshot) {
                    self.register(engine);
                }
                Stage::Snapshot
            }
            Stage::Snapshot => {
                let (bounds, tables) = postgres.snapshot();
                Stage::Position(bounds, Box::new(tables), postgres.wal_end())
            }
            Stage::Position(bounds, tables, before) => {
                let first = faults.has(Fault::NotesPositionFirst);
                let ends_at = if first { before.saturating_sub(200) } else { postgres.wal_end() };
                Stage::Taken(SnapshotFilter { bounds, ends_at }, tables)
            }
            Stage::Taken(filter, tables) => {
                if faults.has(Fault::RegistersAfterSnapshot) {
                    self.register(engine);
                }
                let views = KINDS[self.kind].views(&tables);
                if engine.handle_snapshot_taken(self.id, &filter, views.clone()) {
                    let copying = self.begin_copy(engine, filter, &tables, views)?;
                    event = Some(Event::Snapshot(self.handle, self.kind));
                    Stage::Copy(Box::new(copying))
                } else {
                    Stage::Snapshot
                }
            }
            Stage::Copy(copying) => self.copy(engine, *copying, random)?,
            Stage::Sync(filter, file) => {
                segment::sync_snapshot(&engine.files, &self.dir, &file)?;
                Stage::Done(filter, None)
            }
            Stage::Done(filter, content) => {
                let content = content.filter(|_| !faults.has(Fault::ForgetsSmallSnapshots));
                if let Some(shape) = engine.writer.logs().shape(self.id) {
                    let progress = shape.log.borrow().snapshot().clone();
                    engine.writer.handle_snapshot_done(SnapshotDone {
                        id: self.id,
                        filter,
                        progress,
                        content,
                    });
                }
                return Ok(Progress { goes_on: false, event: None });
            }
        };
        Ok(Progress { goes_on: true, event })
    }

    fn registers_late(&self, engine: &Engine) -> bool {
        let is_early = matches!(self.stage, Stage::Snapshot | Stage::Position(..) | Stage::Taken(..));
        is_early && engine.faults.has(Fault::RegistersAfterSnapshot)
    }

    fn register(&self, engine: &mut Engine) {
        let kind = &KINDS[self.kind];
        let created = CreatedShape {
            id: self.id,
            handle: self.handle.to_string(),
            request: kind.request.clone(),
            relation: kind.definition.relation.as_ref().clone(),
            partitions: Vec::new(),
            inner: kind.definition.inner_relations().iter().map(|inner| inner.as_ref().clone()).collect(),
            inner_partitions: std::collections::BTreeMap::new(),
        };
        let mut log = ShapeLog::new(self.chunk_bytes_max);
        if engine.faults.has(Fault::ForgetsToJoin) {
            log.handle_joined();
        }
        let shape = Shape::new(created, self.handle, log, engine.faults);
        let salt = self.handle.to_string();
        engine.writer.register(self.id, Rc::new(shape), &kind.definition, &salt);
    }

    fn begin_copy(
        &self,
        engine: &Engine,
        filter: SnapshotFilter,
        tables: &Tables,
        views: Vec<View>,
    ) -> io::Result<Copying> {
        let file = engine.files.create(&segment::snapshot_path(&self.dir))?;
        let kind = &KINDS[self.kind];
        let rows =
            tables[kind.table].values().filter(|row| (kind.holds)(row, tables)).rev().cloned().collect();
        let definition = &kind.definition;
        let format =
            ItemFormat::new(&definition.relation, &definition.projection.columns, definition.replica);
        let tagger = definition.tagger(&self.handle.to_string(), views);
        let writer = SnapshotWriter::new(format, tagger, self.chunk_bytes_max);
        Ok(Copying { filter, rows, writer, file, written: 0 })
    }

    /// Writes some rows, and the end behind the last one.
    fn copy(&self, engine: &mut Engine, mut copying: Copying, random: &mut Random) -> io::Result<Stage> {
        for _ in 0..=random.below(5) {
            if let Some(row) = copying.rows.pop() {
                copying.writer.push_row(&TableRow(&row)).expect("every row can be judged");
            }
        }
        let is_over = copying.rows.is_empty();
        if is_over {
            copying.writer.finish(&copying.filter.bounds);
        }
        let bytes = copying.writer.buffer().to_vec();
        engine.files.write_at(&copying.file, &bytes, copying.written)?;
        // Here small is what one step writes.
        let is_small = is_over && copying.written == 0;
        copying.written += bytes.len() as u64;
        let progress = copying.writer.handle_written();
        if let Some(shape) = engine.writer.logs().shape(self.id) {
            shape.log.borrow_mut().handle_snapshot_progress(progress);
            shape.is_readable.set(true);
        }
        Ok(match (is_over, is_small) {
            (true, true) => Stage::Done(copying.filter, Some(bytes)),
            (true, false) => Stage::Sync(copying.filter, copying.file),
            (false, _) => Stage::Copy(Box::new(copying)),
        })
    }
}

/// A row of the model's table.
struct TableRow<'a>(&'a Row);

impl pg::Row for TableRow<'_> {
    fn text(&self, column: usize) -> Option<&[u8]> {
        self.0.get(column)?.as_ref().map(String::as_bytes)
    }
}
