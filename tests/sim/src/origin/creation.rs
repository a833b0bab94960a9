//! How shapes are made, as `limn_origin::shapes::creation` does it, one wait at a time.

use super::engine::Engine;
use super::{Shape, layout};
use crate::fault::Fault;
use crate::files::File;
use crate::judge::Event;
use crate::postgres::{Postgres, Row, Tables};
use crate::random::Random;
use crate::shapes::{KINDS, Kind};
use limn_core::journal::record::{CreatedShape, SnapshotDone};
use limn_core::log::shape_log::SnapshotProgress;
use limn_core::log::{ItemFormat, ShapeLog};
use limn_core::pg::{self, SnapshotBounds, SnapshotFilter};
use limn_core::shape::SnapshotWriter;
use limn_core::shape::dependent::View;
use limn_core::store::{Batch, SnapshotLimits, SnapshotQueue};
use limn_core::{Handle, ShapeId};
use limn_disk::{Files as _, segment};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

/// The shapes that are being made.
#[derive(Debug)]
pub(super) struct Creations {
    queue: SnapshotQueue<Vec<u32>, Creation>,
    runs: Vec<Run>,
    chunk_bytes_max: u64,
}

/// A shape on its way.
#[derive(Debug)]
pub(super) struct Creation {
    pub(super) id: ShapeId,
    pub(super) kind: usize,
    pub(super) handle: Handle,
    dir: PathBuf,
    /// True once the engine knows the shape.
    pub(super) is_registered: bool,
}

/// A snapshot, and the shapes that it serves.
#[derive(Debug)]
struct Run {
    batch: Batch<Vec<u32>, Creation>,
    stage: Stage,
    is_begun: bool,
    /// The shape at hand.
    current: Option<Creation>,
    /// Shapes that need another snapshot.
    later: Vec<Creation>,
}

#[derive(Debug)]
enum Stage {
    Register,
    Snapshot,
    /// The snapshot is taken, its position is being asked for.
    Position(SnapshotBounds, Box<Tables>, u64),
    Open(SnapshotFilter, Box<Tables>),
    Copy(SnapshotFilter, Box<Tables>, Box<Copying>),
    Sync(SnapshotFilter, Box<Tables>, File),
    /// With the bytes of a small snapshot, whose file was not synced.
    Done(SnapshotFilter, Box<Tables>, Option<Vec<u8>>),
    Over,
}

#[derive(Debug)]
struct Copying {
    rows: Vec<Row>,
    writer: SnapshotWriter,
    /// Opened for the first bytes of a snapshot that is not small.
    file: Option<File>,
    /// Bytes in the file.
    written: u64,
}

impl Creations {
    pub(super) fn new(limits: SnapshotLimits, chunk_bytes_max: u64) -> Self {
        Self { queue: SnapshotQueue::new(limits), runs: Vec::new(), chunk_bytes_max }
    }

    pub(super) fn begin(&mut self, id: ShapeId, kind: usize, handle: Handle) {
        let dir = layout().shape_dir(handle);
        let tables = KINDS[kind].definition.relations().iter().map(|relation| relation.oid).collect();
        self.queue.push(tables, Creation { id, kind, handle, dir, is_registered: false });
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_idle() && self.runs.is_empty()
    }

    /// The shapes that are being made.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Creation> {
        let under_way =
            self.runs.iter().flat_map(|run| run.batch.iter().chain(&run.current).chain(&run.later));
        self.queue.iter().chain(under_way)
    }

    /// Takes the next step with one of the snapshots.
    ///
    /// # Errors
    /// Where the power is off: the process ends. Any other failure ends only the making of a shape.
    pub(super) fn step(
        &mut self,
        engine: &mut Engine,
        postgres: &Postgres,
        random: &mut Random,
    ) -> io::Result<()> {
        while let Some(batch) = self.queue.poll() {
            self.runs.push(Run {
                batch,
                stage: Stage::Register,
                is_begun: false,
                current: None,
                later: Vec::new(),
            });
        }
        if self.runs.is_empty() {
            return Ok(());
        }
        let index = random.index(self.runs.len());
        let outcome = self.runs[index].step(&mut self.queue, engine, postgres, random, self.chunk_bytes_max);
        match outcome {
            Err(error) if engine.files.disk().is_off() => return Err(error),
            Err(_) => self.runs[index].fail(engine),
            Ok(()) => {}
        }
        if matches!(self.runs[index].stage, Stage::Over) {
            let mut run = self.runs.swap_remove(index);
            let tables = run.batch.tables().clone();
            self.queue.handle_end(&tables, run.is_begun);
            run.later.extend(run.batch.take());
            self.queue.give_back(tables, run.later);
        }
        Ok(())
    }
}

impl Run {
    fn step(
        &mut self,
        queue: &mut SnapshotQueue<Vec<u32>, Creation>,
        engine: &mut Engine,
        postgres: &Postgres,
        random: &mut Random,
        chunk_bytes_max: u64,
    ) -> io::Result<()> {
        let faults = engine.faults;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Register => {
                let new = self.batch.iter_mut().filter(|creation| !creation.is_registered);
                new.for_each(|creation| creation.register(engine, chunk_bytes_max));
                Stage::Snapshot
            }
            Stage::Snapshot => {
                let (bounds, tables) = postgres.snapshot();
                Stage::Position(bounds, Box::new(tables), postgres.wal_end())
            }
            Stage::Position(bounds, tables, before) => {
                self.is_begun = true;
                queue.handle_begun(self.batch.tables());
                let first = faults.has(Fault::NotesPositionFirst);
                let ends_at = if first { before.saturating_sub(200) } else { postgres.wal_end() };
                Stage::Open(SnapshotFilter { bounds, ends_at }, tables)
            }
            Stage::Open(filter, tables) => match self.batch.poll() {
                None => Stage::Over,
                Some(creation) => {
                    let views = creation.kind().views(&tables);
                    if engine.writer.logs().shape(creation.id).is_none() {
                        // It was removed meanwhile.
                        Stage::Open(filter, tables)
                    } else if engine.handle_snapshot_taken(creation.id, &filter, views.clone()) {
                        engine.events.push(Event::Snapshot(creation.handle, creation.kind));
                        let creation = self.current.insert(creation);
                        let copying = creation.begin_copy(&tables, views, chunk_bytes_max);
                        Stage::Copy(filter, tables, Box::new(copying))
                    } else {
                        self.later.push(creation);
                        Stage::Open(filter, tables)
                    }
                }
            },
            Stage::Copy(filter, tables, mut copying) => {
                let Some(creation) = &self.current else { unreachable!("its rows are being copied") };
                let written = copying.step(creation, &filter, engine, random)?;
                let others = self.batch.handle_written(copying.written);
                queue.give_back(self.batch.tables().clone(), others);
                match written {
                    None => Stage::Copy(filter, tables, copying),
                    Some(Written::Large(file)) => Stage::Sync(filter, tables, file),
                    Some(Written::Small(content)) => Stage::Done(filter, tables, Some(content)),
                }
            }
            Stage::Sync(filter, tables, file) => {
                let Some(creation) = &self.current else { unreachable!("its file is being synced") };
                segment::sync_snapshot(&engine.files, &creation.dir, &file)?;
                Stage::Done(filter, tables, None)
            }
            Stage::Done(filter, tables, content) => {
                let content = content.filter(|_| !faults.has(Fault::ForgetsSmallSnapshots));
                self.current
                    .take()
                    .into_iter()
                    .for_each(|it| it.end(engine, filter.clone(), content.clone()));
                Stage::Open(filter, tables)
            }
            Stage::Over => Stage::Over,
        };
        Ok(())
    }

    /// The disk fails for the shape at hand, or for all of them.
    fn fail(&mut self, engine: &mut Engine) {
        let Some(failed) = self.current.take().or_else(|| self.batch.poll()) else { return };
        engine.writer.remove(failed.id, limn_core::shape::DropCause::Deleted);
        engine.events.push(Event::Failed(failed.handle));
    }
}

impl Creation {
    fn kind(&self) -> &'static Kind {
        &KINDS[self.kind]
    }

    fn register(&mut self, engine: &mut Engine, chunk_bytes_max: u64) {
        let kind = self.kind();
        let created = CreatedShape {
            id: self.id,
            handle: self.handle.to_string(),
            request: kind.request.clone(),
            relation: kind.definition.relation.clone(),
            partitions: Vec::new(),
            inner: kind.definition.inner_relations(),
            inner_partitions: BTreeMap::new(),
        };
        let mut log = ShapeLog::new(chunk_bytes_max);
        if engine.faults.has(Fault::ForgetsToJoin) {
            log.handle_joined();
        }
        let shape = Shape::new(created, self.handle, log, engine.faults.has(Fault::PublishesFragments));
        let salt = self.handle.to_string();
        engine.writer.register(self.id, Rc::new(shape), &kind.definition, &salt);
        self.is_registered = true;
    }

    fn begin_copy(&self, tables: &Tables, views: Vec<View>, chunk_bytes_max: u64) -> Copying {
        let kind = self.kind();
        let rows =
            tables[kind.table].values().filter(|row| (kind.holds)(row, tables)).rev().cloned().collect();
        let definition = &kind.definition;
        let format =
            ItemFormat::new(&definition.relation, &definition.projection.columns, definition.replica);
        let tagger = definition.tagger(&self.handle.to_string(), views);
        let writer = SnapshotWriter::new(format, tagger, chunk_bytes_max);
        Copying { rows, writer, file: None, written: 0 }
    }

    fn end(self, engine: &mut Engine, filter: SnapshotFilter, content: Option<Vec<u8>>) {
        if let Some(shape) = engine.writer.logs().shape(self.id) {
            let progress = shape.log.borrow().snapshot().clone();
            engine.writer.handle_snapshot_done(SnapshotDone { id: self.id, filter, progress, content });
        }
    }
}

impl Copying {
    /// Writes some rows, and the end behind the last one. Returns something once that is written.
    fn step(
        &mut self,
        creation: &Creation,
        filter: &SnapshotFilter,
        engine: &mut Engine,
        random: &mut Random,
    ) -> io::Result<Option<Written>> {
        for _ in 0..=random.below(5) {
            if let Some(row) = self.rows.pop() {
                self.writer.push_row(&TableRow(&row)).expect("every row can be judged");
            }
        }
        let is_over = self.rows.is_empty();
        if is_over {
            self.writer.finish(&filter.bounds);
        }
        let bytes = self.writer.buffer().to_vec();
        // Here small is what one step writes.
        let pack = match is_over && self.written == 0 {
            true => Some(engine.packs.append(&bytes)?),
            false => None,
        };
        if pack.is_none() {
            self.write(creation, engine, &bytes)?;
        }
        self.written += bytes.len() as u64;
        let progress = SnapshotProgress { pack, ..self.writer.handle_written() };
        if let Some(shape) = engine.writer.logs().shape(creation.id) {
            shape.log.borrow_mut().handle_snapshot_progress(progress);
            shape.is_readable.set(true);
        }
        let large = self.file.take_if(|_| is_over).map(Written::Large);
        Ok(large.or_else(|| is_over.then_some(Written::Small(bytes))))
    }

    fn write(&mut self, creation: &Creation, engine: &Engine, bytes: &[u8]) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                segment::create_dir(&engine.files, &creation.dir)?;
                engine.files.create(&segment::snapshot_path(&creation.dir))?
            }
        };
        engine.files.write_at(self.file.insert(file), bytes, self.written)
    }
}

/// A snapshot that is written, and not durable yet.
enum Written {
    /// Its bytes, which are also in a pack.
    Small(Vec<u8>),
    /// The file, which is to be synced.
    Large(File),
}

/// A row of the model's table.
struct TableRow<'a>(&'a Row);

impl pg::Row for TableRow<'_> {
    fn text(&self, column: usize) -> Option<&[u8]> {
        self.0.get(column)?.as_ref().map(String::as_bytes)
    }
}
