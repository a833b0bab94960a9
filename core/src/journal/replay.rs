//! The commit log read back: what each record changes.
//!
//! Everything that reads a commit log reads it by this: the recovery of a restart, which takes the log as a whole, and
//! whoever reads along while another process writes. They differ in the [`Policy`] only.
//!
//! Order of calls: [`Replay::handle_record`] for every record, file after file from the oldest on. Its events are to be
//! carried out in their order.

use super::checkpoint::StoreCheckpoint;
use super::kept_shape::{KeptCheckpoint, KeptShape};
use super::packed::{Head, PackedCheckpoint};
use super::record::{Record, ShapePartitions, ShapeViews};
use super::tables::Tables;
use crate::log::compaction::Compacted;
use crate::log::fragment::{Fragment, ShapeItem};
use crate::log::shape_log::{PackPlace, ShapeLog, SnapshotProgress};
use crate::pg::SnapshotFilter;
use crate::protocol::kept_request::Families;
use crate::shape::dependent::{DependentState, Move};
use crate::{Handle, Lsn, ShapeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Facts of the last records of a commit log that must be known before the earlier ones are replayed.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    records: u64,
    /// How many records there are up to the last commit. Items behind it belong to a transaction that was cut off.
    committed_records: u64,
    /// Shapes that go later on: their files may be gone already.
    removed: BTreeSet<ShapeId>,
    /// The last segment of each shape that is written anew later on: those before may be gone already.
    compacted: BTreeMap<ShapeId, Compacted>,
}

impl Survey {
    /// Takes the next record's payload. Of most records the survey needs to know only that they are there, so they are
    /// not decoded.
    pub fn handle_payload(&mut self, payload: &[u8]) {
        self.records += 1;
        match Record::decode_if_surveyed(payload) {
            Some(Record::Commit(_)) => self.committed_records = self.records,
            Some(Record::Removed(id)) => {
                self.removed.insert(id);
            }
            Some(Record::Compacted(compacted)) => {
                self.compacted.insert(compacted.id, compacted.segment);
            }
            _ => {}
        }
    }
}

/// Which records count.
#[derive(Debug, Clone)]
pub enum Policy {
    /// The log is read to its end: items count up to the last commit, and a shape that is removed later on was never
    /// there. The survey has taken the same records.
    UntilLastCommit(Survey),
    /// The log grows: items are appended at once, and become visible with their commit.
    AsItComes,
}

/// Tells what each record of a commit log changes.
#[derive(Debug)]
pub struct Replay {
    policy: Policy,
    chunk_bytes_max: u64,
    records: u64,
    tables: Tables,
    families: Families,
    shapes: BTreeSet<ShapeId>,
    /// Shapes that the open transaction has reached.
    open: BTreeSet<ShapeId>,
    processed: Lsn,
    next_id: u32,
    last_handle_us: u64,
}

/// A shape that the commit log speaks of for the first time.
#[derive(Debug)]
pub struct AddedShape {
    /// The shape.
    pub created: KeptShape,
    /// Its handle.
    pub handle: Handle,
    /// Its log, up to here.
    pub log: ShapeLog,
    /// The results of its subqueries, where it has some.
    pub dependent: DependentState,
}

/// A change that a record makes. Only [`Added`](Self::Added) speaks of a shape that was not added before, and nothing speaks
/// of one that was removed.
#[derive(Debug)]
pub enum Event<'a> {
    /// A shape is there; its snapshot may not be durable yet.
    Added(Box<AddedShape>),
    /// The bytes of a shape's snapshot. They were written before the record, and may not be durable there.
    Snapshot {
        /// The shape.
        id: ShapeId,
        /// The place of the bytes in a pack; `None` for a file of the shape's own.
        pack: Option<PackPlace>,
        /// The bytes.
        content: &'a [u8],
    },
    /// A shape's snapshot is durable, and holds the transactions that the filter tells.
    Readable(ShapeId, Arc<SnapshotFilter>),
    /// A shape's log changes.
    Log(ShapeId, LogChange<'a>),
    /// The tables whose rows a shape includes are others now.
    Partitions(&'a ShapePartitions),
    /// The results of a shape's subqueries in its snapshot.
    Views(ShapeViews),
    /// A move, whose items were appended, is complete.
    Moved(&'a Move),
    /// A shape's log is visible up to a commit LSN, or to its end. So far readers may see it; what they see then
    /// includes every commit up to `processed`.
    Bound {
        /// The shape.
        id: ShapeId,
        /// A commit LSN; `None` where the log is visible to its end.
        up_to: Option<Lsn>,
        /// A commit LSN.
        processed: Lsn,
    },
    /// A shape is gone.
    Removed(ShapeId),
    /// Every shape shows the transactions up to this commit LSN.
    Processed(Lsn),
}

/// A change of a shape's log.
#[derive(Debug)]
pub enum LogChange<'a> {
    /// Items of a transaction, or of a move, that is not complete yet.
    Append {
        /// Its commit LSN.
        tx: u64,
        /// All of this shape.
        items: &'a [ShapeItem<'a>],
    },
    /// The transaction is complete.
    Commit,
    /// The move is complete; a bound that shows it follows.
    EndMove,
    /// The snapshot has grown.
    Snapshot(SnapshotProgress),
    /// The stream has come up to the snapshot.
    Joined,
    /// Another segment takes the place of the log's.
    Compacted(Compacted),
}

impl LogChange<'_> {
    /// Carries the change out. True where readers may be told something new.
    pub fn apply(self, log: &mut ShapeLog) -> bool {
        match self {
            Self::Append { tx, items } => {
                for item in items {
                    log.append_item(tx, item.op, item.bytes, item.shared);
                }
            }
            Self::Commit => return log.commit(),
            Self::EndMove => log.end_move(),
            Self::Snapshot(progress) => log.handle_snapshot_progress(progress),
            Self::Joined => {
                log.handle_joined();
                return true;
            }
            Self::Compacted(segment) => log.handle_compacted(&segment),
        }
        false
    }
}

impl Replay {
    /// A replay that has read nothing. The chunks of its logs close at `chunk_bytes_max` item bytes.
    #[must_use]
    pub fn new(policy: Policy, chunk_bytes_max: u64) -> Self {
        Self {
            policy,
            chunk_bytes_max,
            records: 0,
            tables: Tables::default(),
            families: Families::default(),
            shapes: BTreeSet::new(),
            open: BTreeSet::new(),
            processed: Lsn::ZERO,
            next_id: 0,
            last_handle_us: 0,
        }
    }

    /// Takes the next record, and hands what it changes to `each`.
    ///
    /// # Errors
    /// Whatever `each` reports. The replay cannot go on then.
    pub fn handle_record<E>(
        &mut self,
        record: Record,
        mut each: impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.records += 1;
        let each = &mut each;
        match record {
            Record::Packed(checkpoint) => self.handle_packed(&checkpoint, each),
            Record::Checkpoint(checkpoint) => self.handle_checkpoint(*checkpoint, each),
            Record::Table(table) => {
                self.tables.handle_stored(*table);
                Ok(())
            }
            Record::Created(created) => {
                let log = ShapeLog::new(self.chunk_bytes_max);
                self.next_id = self.next_id.max(created.id.0 + 1);
                // A handle that cannot be read was never given to anybody.
                let Ok(handle) = created.handle.parse::<Handle>() else { return Ok(()) };
                // Nor was one whose tables are unknown, since they are described before.
                let Some(created) = created.map_tables(|table| self.tables.resolve(table)) else {
                    return Ok(());
                };
                let shape = KeptShape::of(created, handle, &mut self.families);
                self.add(shape, log, DependentState::default(), each).map(drop)
            }
            Record::Removed(id) => self.remove(id, each),
            Record::Items(fragment) if self.counts() => {
                let reached = self.append(&fragment, each)?;
                self.open.extend(reached);
                Ok(())
            }
            // The transaction was cut off: Postgres will send it again, whole.
            Record::Items(_) => Ok(()),
            Record::Commit(tx) => {
                let reached = std::mem::take(&mut self.open);
                reached.into_iter().try_for_each(|id| each(Event::Log(id, LogChange::Commit)))?;
                self.raise_processed(tx);
                each(Event::Processed(self.processed))
            }
            // May come while a transaction is open in other shapes, which it does not end.
            Record::Backfill(fragment) => {
                let reached = self.append(&fragment, each)?;
                self.open.retain(|id| !reached.contains(id));
                reached.into_iter().try_for_each(|id| each(Event::Log(id, LogChange::Commit)))
            }
            Record::Move(made) if self.shapes.contains(&made.id) => {
                self.append(&made.items, each)?;
                self.open.remove(&made.id);
                each(Event::Log(made.id, LogChange::EndMove))?;
                each(Event::Moved(&made))?;
                let up_to = self.bound_behind(&made);
                each(Event::Bound { id: made.id, up_to, processed: Lsn::new(made.consumed) })
            }
            record => self.handle_state(record, each),
        }
    }

    /// Takes a record that says something of one shape, and nothing of transactions.
    fn handle_state<E>(
        &mut self,
        record: Record,
        each: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match record {
            Record::SnapshotDone(done) if self.shapes.contains(&done.id) => {
                if let Some(content) = &done.content {
                    each(Event::Snapshot { id: done.id, pack: done.progress.pack, content })?;
                }
                each(Event::Log(done.id, LogChange::Snapshot(done.progress)))?;
                each(Event::Readable(done.id, Arc::new(done.filter)))
            }
            Record::Joined(joined) => {
                self.raise_processed(joined.processed);
                each(Event::Processed(self.processed))?;
                if self.shapes.contains(&joined.id) {
                    each(Event::Log(joined.id, LogChange::Joined))?;
                }
                Ok(())
            }
            Record::Partitions(now) if self.shapes.contains(&now.id) => each(Event::Partitions(&now)),
            Record::Views(views) if self.shapes.contains(&views.id) => each(Event::Views(views)),
            // A restart has taken up the last one of a shape as soon as it knew the shape.
            Record::Compacted(compacted)
                if self.shapes.contains(&compacted.id) && matches!(self.policy, Policy::AsItComes) =>
            {
                each(Event::Log(compacted.id, LogChange::Compacted(compacted.segment)))
            }
            Record::Bound(bound) if self.shapes.contains(&bound.id) => {
                each(Event::Bound { id: bound.id, up_to: bound.up_to, processed: self.processed })
            }
            // Of a shape that is not there.
            _ => Ok(()),
        }
    }

    /// The commit LSN of the last transaction that every shape shows.
    #[must_use]
    pub const fn processed(&self) -> Lsn {
        self.processed
    }

    /// The tables of the shapes that are left.
    #[must_use]
    pub fn into_tables(mut self) -> Tables {
        self.tables.forget_unused();
        self.tables
    }

    /// A number above those of all shapes that the log speaks of.
    #[must_use]
    pub const fn next_id(&self) -> u32 {
        self.next_id
    }

    /// The newest time that a handle carries which the log speaks of.
    #[must_use]
    pub const fn last_handle_us(&self) -> u64 {
        self.last_handle_us
    }

    /// The bound behind a move. What was held back behind it may not be written yet: who reads along shows the move and no
    /// more, until [`Record::Bound`] comes. A restart gets what is missing from Postgres before it calls anything up to date.
    fn bound_behind(&self, made: &Move) -> Option<Lsn> {
        match self.policy {
            Policy::AsItComes => Some(Lsn::new(made.consumed)),
            Policy::UntilLastCommit(_) => made.visible_up_to,
        }
    }

    /// Whether the items of the record that was taken last count.
    const fn counts(&self) -> bool {
        match &self.policy {
            Policy::UntilLastCommit(survey) => self.records <= survey.committed_records,
            Policy::AsItComes => true,
        }
    }

    fn handle_packed<E>(
        &mut self,
        checkpoint: &PackedCheckpoint,
        each: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.begin_checkpoint(checkpoint.head, || checkpoint.ids().collect(), each)?;
        let (mut tables, mut families) =
            (std::mem::take(&mut self.tables), std::mem::take(&mut self.families));
        let mut shapes = checkpoint.shapes(&mut tables, |shape, tables| shape.keep(tables, &mut families));
        let added = shapes.try_for_each(|shape| self.add_at_checkpoint(shape, checkpoint.head, each));
        drop(shapes);
        (self.tables, self.families) = (tables, families);
        added?;
        each(Event::Processed(self.processed))
    }

    fn handle_checkpoint<E>(
        &mut self,
        checkpoint: StoreCheckpoint,
        each: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let StoreCheckpoint { processed, last_handle_us, shapes, tables } = checkpoint;
        let head = Head { processed, last_handle_us };
        tables.into_iter().for_each(|table| self.tables.handle_stored(table));
        let ids = || shapes.iter().map(|shape| shape.created.id).collect();
        self.begin_checkpoint(head, ids, each)?;
        for shape in shapes {
            self.next_id = self.next_id.max(shape.created.id.0 + 1);
            if let Some(shape) = shape.keep(&mut self.tables, &mut self.families) {
                self.add_at_checkpoint(shape, head, each)?;
            }
        }
        each(Event::Processed(self.processed))
    }

    /// The first checkpoint says what there is. A later one says what the records before it say already, and names
    /// what outlived the writer, should that have started again: a snapshot that was not finished did not.
    fn begin_checkpoint<E>(
        &mut self,
        head: Head,
        named: impl FnOnce() -> BTreeSet<ShapeId>,
        each: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.raise_processed(head.processed);
        self.last_handle_us = self.last_handle_us.max(head.last_handle_us);
        if self.shapes.is_empty() {
            return Ok(());
        }
        let gone: Vec<ShapeId> = self.shapes.difference(&named()).copied().collect();
        gone.into_iter().try_for_each(|id| self.remove(id, each))
    }

    fn add_at_checkpoint<E>(
        &mut self,
        checkpoint: KeptCheckpoint<'_>,
        head: Head,
        each: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let KeptCheckpoint { shape, filter, log, is_joined, dependent } = checkpoint;
        let (id, up_to) = (shape.id, dependent.visible_up_to);
        let log = log.restore(self.chunk_bytes_max);
        if self.shapes.contains(&id) || !self.add(shape.into_owned(), log, dependent.into_owned(), each)? {
            return Ok(());
        }
        // Before a shape has joined, what it is still to resolve may have been read already.
        let covers = if is_joined { Lsn::new(head.processed) } else { Lsn::ZERO };
        each(Event::Bound { id, up_to, processed: covers })?;
        if is_joined {
            each(Event::Log(id, LogChange::Joined))?;
        }
        if let Some(filter) = filter {
            each(Event::Readable(id, filter))?;
        }
        Ok(())
    }

    /// Adds a shape; false where it is left out.
    fn add<E>(
        &mut self,
        created: KeptShape,
        mut log: ShapeLog,
        dependent: DependentState,
        each: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let (id, handle) = (created.id, created.handle);
        self.next_id = self.next_id.max(id.0 + 1);
        self.last_handle_us = self.last_handle_us.max(handle.created_us());
        if matches!(&self.policy, Policy::UntilLastCommit(survey) if survey.removed.contains(&id)) {
            return Ok(false);
        }
        self.shapes.insert(id);
        if let Policy::UntilLastCommit(survey) = &self.policy
            && let Some(segment) = survey.compacted.get(&id)
        {
            // What the records before it append is in the new segment already.
            log.handle_compacted(segment);
        }
        each(Event::Added(Box::new(AddedShape { created, handle, log, dependent })))?;
        Ok(true)
    }

    fn remove<E>(&mut self, id: ShapeId, each: &mut impl FnMut(Event<'_>) -> Result<(), E>) -> Result<(), E> {
        self.open.remove(&id);
        if self.shapes.remove(&id) { each(Event::Removed(id)) } else { Ok(()) }
    }

    /// Appends the items and names the shapes they went to.
    fn append<E>(
        &self,
        fragment: &Fragment,
        each: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<BTreeSet<ShapeId>, E> {
        let (mut pairs, mut reached) = (Vec::new(), BTreeSet::new());
        let items: Vec<ShapeItem<'_>> = fragment.by_shape(&mut pairs).collect();
        for items in items.chunk_by(|one, next| one.shape == next.shape) {
            let id = items.first().map(|item| item.shape).filter(|id| self.shapes.contains(id));
            let Some(id) = id else { continue };
            each(Event::Log(id, LogChange::Append { tx: fragment.tx, items }))?;
            reached.insert(id);
        }
        Ok(reached)
    }

    fn raise_processed(&mut self, processed: u64) {
        self.processed = self.processed.max(Lsn::new(processed));
    }
}

#[cfg(test)]
mod tests;
