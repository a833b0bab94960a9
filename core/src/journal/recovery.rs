//! The shapes and positions that a restart takes from the commit log.
//!
//! The log is gone through twice. A [`Survey`] learns what later records say about earlier ones; the [`Recovery`] then
//! rebuilds every shape from the oldest checkpoint and all records behind it.
//!
//! Order of calls: [`Survey::handle_payload`] for every record; [`Recovery::new`]; [`Recovery::handle_record`] for every
//! record again; [`Recovery::finish`].
//!
//! `limn_disk::recover` feeds it the records and does what it says to the files; which shapes survive, [`Recovery::finish`]
//! decides. They go to [`store::Writer::restore`](crate::store::Writer::restore).

use super::kept_shape::{KeptCheckpoint, KeptLog, KeptShape};
use super::record::{Record, encode_checkpoint};
use super::replay::{AddedShape, Event, LogChange, Policy, Replay, Survey};
use super::tables::Tables;
use crate::log::Rope;
use crate::log::shape_log::{PackPlace, ShapeLog};
use crate::pg::SnapshotFilter;
use crate::shape::Definition;
use crate::shape::dependent::DependentState;
use crate::{Handle, Lsn, ShapeId};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rebuilds the shapes.
#[derive(Debug)]
pub struct Recovery {
    replay: Replay,
    shapes: Shapes,
}

/// The shapes' files, as a recovery changes them. None of it has to be durable before the recovery ends.
pub trait ShapeFiles {
    /// Why a file could not be changed.
    type Error;

    /// Moves the finished items of a log's tail to the shape's segment.
    ///
    /// # Errors
    /// Whatever the files report.
    fn flush_tail(&mut self, handle: Handle, log: &mut ShapeLog) -> Result<(), Self::Error>;

    /// Writes a shape's snapshot, to its place in a pack or to a file of its own.
    ///
    /// # Errors
    /// Whatever the files report.
    fn write_snapshot(
        &mut self,
        handle: Handle,
        pack: Option<PackPlace>,
        content: &[u8],
    ) -> Result<(), Self::Error>;
}

#[derive(Debug)]
struct Shapes {
    tail_bytes_max: usize,
    by_id: BTreeMap<ShapeId, (Box<AddedShape>, Option<Arc<SnapshotFilter>>)>,
    /// The last one that came: shapes share snapshots.
    filter: Option<Arc<SnapshotFilter>>,
}

/// A shape that survived.
#[derive(Debug, Clone)]
pub struct RecoveredShape {
    /// The shape.
    pub created: KeptShape,
    /// Its handle.
    pub handle: Handle,
    /// Which transactions its snapshot holds.
    pub filter: Arc<SnapshotFilter>,
    /// Its log, whose tail is still to be flushed.
    pub log: ShapeLog,
    /// Whether the stream had come up to its snapshot.
    pub is_joined: bool,
    /// The results of its subqueries, where it has some.
    pub dependent: DependentState,
}

/// A shape that survived, as its owner holds it.
#[derive(Debug)]
pub struct MadeShape<S> {
    /// As its owner holds it, with its log.
    pub shape: S,
    /// Its definition.
    pub definition: Definition,
    pub(crate) id: ShapeId,
    pub(crate) handle: Handle,
    pub(crate) filter: Arc<SnapshotFilter>,
    pub(crate) is_joined: bool,
    pub(crate) dependent: DependentState,
}

impl RecoveredShape {
    /// The shape as `make` makes it of its identity and its log, with its definition.
    pub fn make<S>(self, make: impl FnOnce(KeptShape, ShapeLog) -> (S, Definition)) -> MadeShape<S> {
        let Self { created, handle, filter, log, is_joined, dependent } = self;
        let id = created.id;
        let (shape, definition) = make(created, log);
        MadeShape { shape, definition, id, handle, filter, is_joined, dependent }
    }

    /// The shape's entry in the checkpoint that a start writes; `None` while its log has a tail that was not flushed.
    fn checkpoint(&self) -> Option<KeptCheckpoint<'_>> {
        Some(KeptCheckpoint {
            shape: Cow::Borrowed(&self.created),
            filter: Some(Arc::clone(&self.filter)),
            log: KeptLog::of(&self.log)?,
            is_joined: self.is_joined,
            dependent: Cow::Borrowed(&self.dependent),
        })
    }
}

/// Everything that the commit log held.
#[derive(Debug)]
pub struct RecoveredStore {
    /// Shapes whose snapshot was durable.
    pub shapes: Vec<RecoveredShape>,
    /// Their tables.
    pub tables: Tables,
    /// The commit LSN of the last transaction.
    pub processed: u64,
    /// A number above those of all shapes that the log speaks of.
    pub next_id: u32,
    /// The newest time that a handle carries which the log speaks of.
    pub last_handle_us: u64,
}

impl RecoveredStore {
    /// Appends the record with which the first commit log file of a start begins. `last_handle_us` is the newest time of
    /// a handle, also of those that the start passes over.
    ///
    /// # Panics
    /// If a shape's tail was not flushed.
    pub fn encode_checkpoint(&self, last_handle_us: u64, out: &mut Rope) {
        let positions = (self.processed, last_handle_us);
        let shapes = self.shapes.iter().map(|shape| shape.checkpoint().expect("recovery flushes every tail"));
        // Of all tables, so that none gets a number that the logs will not know.
        encode_checkpoint(out, positions, shapes, &mut self.tables.clone());
    }
}

impl Recovery {
    /// A recovery after its survey. Tails that grow beyond `tail_bytes_max` are handed out to be flushed.
    #[must_use]
    pub fn new(survey: Survey, chunk_bytes_max: u64, tail_bytes_max: usize) -> Self {
        let replay = Replay::new(Policy::UntilLastCommit(survey), chunk_bytes_max);
        Self { replay, shapes: Shapes { tail_bytes_max, by_id: BTreeMap::new(), filter: None } }
    }

    /// Takes the next record. What the commit log alone makes durable goes to the shapes' files: snapshots, and tails that
    /// are long.
    ///
    /// # Errors
    /// Whatever `files` reports.
    pub fn handle_record<F: ShapeFiles>(&mut self, record: Record, files: &mut F) -> Result<(), F::Error> {
        let Self { replay, shapes } = self;
        replay.handle_record(record, |event| shapes.handle_event(event, files))
    }

    /// The shapes whose snapshot is durable. The others are lost: their clients start over.
    #[must_use]
    pub fn finish(self) -> RecoveredStore {
        let processed = self.replay.processed();
        let survivor = |(shape, filter): (Box<AddedShape>, Option<Arc<SnapshotFilter>>)| {
            let AddedShape { created, handle, mut log, dependent } = *shape;
            let is_joined = log.is_joined();
            // A restart reads on from Postgres before it says anything. A shape with subqueries may hold back what it
            // reads, and joins by what it shows.
            if dependent.views.is_empty() {
                log.handle_joined();
            }
            log.set_visible_up_to(dependent.visible_up_to, processed);
            filter.map(|filter| RecoveredShape { created, handle, filter, log, is_joined, dependent })
        };
        let (next_id, last_handle_us) = (self.replay.next_id(), self.replay.last_handle_us());
        RecoveredStore {
            shapes: self.shapes.by_id.into_values().filter_map(survivor).collect(),
            tables: self.replay.into_tables(),
            processed: processed.as_u64(),
            next_id,
            last_handle_us,
        }
    }
}

impl Shapes {
    fn handle_event<F: ShapeFiles>(&mut self, event: Event<'_>, files: &mut F) -> Result<(), F::Error> {
        match event {
            Event::Added(shape) => {
                self.by_id.insert(shape.created.id, (shape, None));
            }
            Event::Readable(id, filter) => {
                let shared = self.filter.take().filter(|shared| *shared == filter);
                let shared = shared.unwrap_or(filter);
                if let Some((_, known)) = self.by_id.get_mut(&id) {
                    *known = Some(Arc::clone(&shared));
                }
                self.filter = Some(shared);
            }
            Event::Log(id, change) => return self.change_log(id, change, files),
            Event::Snapshot { id, pack, content } => {
                if let Some(shape) = self.get_mut(id) {
                    return files.write_snapshot(shape.handle, pack, content);
                }
            }
            Event::Partitions(now) => {
                if let Some(shape) = self.get_mut(now.id) {
                    shape.created.set_partitions(now.table, &now.partitions);
                }
            }
            Event::Views(views) => {
                if let Some(shape) = self.get_mut(views.id) {
                    shape.dependent = DependentState { views: views.views, ..DependentState::default() };
                }
            }
            Event::Moved(made) => {
                if let Some(shape) = self.get_mut(made.id) {
                    shape.log.set_visible_up_to(None, Lsn::new(made.consumed));
                    shape.dependent.apply(made);
                }
            }
            // Holds from the end on. What the segments hold beyond it is visible after a restart in any case, and is
            // only not called up to date.
            Event::Bound { id, up_to, .. } => {
                if let Some(shape) = self.get_mut(id) {
                    shape.dependent.visible_up_to = up_to;
                }
            }
            Event::Removed(id) => {
                self.by_id.remove(&id);
            }
            // The replay knows it.
            Event::Processed(_) => {}
        }
        Ok(())
    }

    fn change_log<F: ShapeFiles>(
        &mut self,
        id: ShapeId,
        change: LogChange<'_>,
        files: &mut F,
    ) -> Result<(), F::Error> {
        let tail_bytes_max = self.tail_bytes_max;
        let Some(AddedShape { handle, log, .. }) = self.get_mut(id) else { return Ok(()) };
        change.apply(log);
        if log.tail_bytes() > tail_bytes_max { files.flush_tail(*handle, log) } else { Ok(()) }
    }

    fn get_mut(&mut self, id: ShapeId) -> Option<&mut AddedShape> {
        self.by_id.get_mut(&id).map(|(shape, _)| shape.as_mut())
    }
}

#[cfg(test)]
mod tests;
