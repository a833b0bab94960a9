//! The write path's second half, as in `limn_origin::engine::logs`: shape logs, the commit log, what is durable.

use super::commit_log::CommitLog;
use super::{Faults, Settings, Shape, segment};
use crate::disk::{Disk, DiskError};
use crate::fault::Fault;
use limn_core::journal::record::{Record, ShapeCheckpoint, StoreCheckpoint, encode_commit, encode_items};
use limn_core::journal::{FlushTracker, RecentCommits};
use limn_core::log::Fragment;
use limn_core::shape::dependent::DependentState;
use limn_core::{Handle, Lsn, ShapeId};
use std::collections::{BTreeMap, BTreeSet};

/// Every shape's log, with what makes it durable.
#[derive(Debug)]
pub(super) struct Logs {
    pub(super) settings: Settings,
    pub(super) faults: Faults,
    pub(super) commit_log: CommitLog,
    pub(super) flush: FlushTracker,
    pub(super) shapes: BTreeMap<ShapeId, Shape>,
    pub(super) recent: RecentCommits,
    /// The commit LSN of the last transaction that every shape shows.
    pub(super) processed: u64,
    durable_ticket: u64,
    pending: Vec<u8>,
    touched: BTreeSet<ShapeId>,
    dirty: BTreeSet<ShapeId>,
    unsynced: BTreeSet<ShapeId>,
    /// Shapes whose snapshot the stream has not come up to, with where it ends.
    pub(super) joining: Vec<(ShapeId, Lsn)>,
    /// Folders of removed shapes, which may go with the ticket.
    leaving: Vec<(u64, Handle)>,
}

impl Logs {
    pub(super) fn new(settings: Settings, faults: Faults, commit_log: CommitLog) -> Self {
        Self {
            settings,
            faults,
            commit_log,
            flush: FlushTracker::default(),
            shapes: BTreeMap::new(),
            recent: RecentCommits::default(),
            processed: 0,
            durable_ticket: 0,
            pending: Vec::new(),
            touched: BTreeSet::new(),
            dirty: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            joining: Vec::new(),
            leaving: Vec::new(),
        }
    }

    /// Appends a fragment of the open transaction.
    pub(super) fn append(&mut self, disk: &mut Disk, fragment: &Fragment) -> Result<(), DiskError> {
        if fragment.is_empty() {
            return Ok(());
        }
        encode_items(&mut self.pending, fragment);
        let mut pairs = Vec::new();
        for item in fragment.by_shape(&mut pairs) {
            let Some(shape) = self.shapes.get_mut(&item.shape) else { continue };
            let invisible = shape.log.append(fragment.tx, item.op, item.bytes);
            if shape.log.tail_bytes() > self.settings.tail_bytes_max {
                segment::flush_tail(disk, shape.handle, &mut shape.log, self.faults)?;
            }
            // What a new connection repeats may be visible already, before a transaction that is cut off.
            if invisible {
                self.touched.insert(item.shape);
            }
            if self.faults.has(Fault::PublishesFragments) {
                shape.log.commit();
            }
        }
        Ok(())
    }

    /// Ends the open transaction.
    pub(super) fn commit(&mut self, commit: Lsn, end: Lsn, xid: u32) {
        let touched = std::mem::take(&mut self.touched);
        if !touched.is_empty() {
            encode_commit(&mut self.pending, commit.as_u64());
        }
        // A transaction that is sent again adds nothing, but what it added before may still be unsynced.
        let last = self.commit_log.last_ticket() + u64::from(!self.pending.is_empty());
        let unsynced = last > self.durable_ticket && !self.faults.has(Fault::ConfirmsBeforeSync);
        self.flush.handle_commit(end, unsynced.then_some(last));
        self.recent.handle_commit(commit.as_u64(), xid);
        for id in &touched {
            if let Some(shape) = self.shapes.get_mut(id) {
                shape.log.commit();
            }
        }
        self.processed = self.processed.max(commit.as_u64());
        self.dirty.extend(&touched);
        self.unsynced.extend(&touched);
    }

    /// The writer has reported: what is durable now?
    pub(super) fn handle_durable(&mut self, disk: &mut Disk) -> Result<(), DiskError> {
        self.durable_ticket = self.commit_log.durable();
        self.flush.handle_synced(self.durable_ticket);
        let (go, stay) = std::mem::take(&mut self.leaving)
            .into_iter()
            .partition(|(ticket, _)| *ticket <= self.durable_ticket);
        self.leaving = stay;
        let go: Vec<(u64, Handle)> = go;
        go.iter().try_for_each(|(_, handle)| disk.remove_folder(&segment::folder(*handle)))
    }

    /// The open transaction will be sent again from its beginning.
    pub(super) fn handle_disconnect(&mut self) {
        self.touched.clear();
    }

    /// Appends transactions that waited for the snapshot of one shape.
    pub(super) fn backfill(
        &mut self,
        disk: &mut Disk,
        id: ShapeId,
        transactions: Vec<Fragment>,
    ) -> Result<(), DiskError> {
        for fragment in transactions {
            let Some(shape) = self.shapes.get_mut(&id) else { return Ok(()) };
            for item in fragment.items() {
                shape.log.append(fragment.tx, item.op, item.bytes);
            }
            shape.log.commit();
            if shape.log.tail_bytes() > self.settings.tail_bytes_max {
                segment::flush_tail(disk, shape.handle, &mut shape.log, self.faults)?;
            }
            self.dirty.insert(id);
            self.unsynced.insert(id);
            if !self.faults.has(Fault::ForgetsBackfills) {
                self.record(&Record::Backfill(fragment));
            }
        }
        Ok(())
    }

    /// Every transaction before `position` is in the logs.
    pub(super) fn handle_position(&mut self, position: Lsn) {
        for (id, _) in self.joining.extract_if(.., |(_, ends_at)| *ends_at <= position) {
            if let Some(shape) = self.shapes.get_mut(&id) {
                shape.log.handle_joined();
            }
        }
    }

    /// Adds a new shape.
    pub(super) fn insert(&mut self, shape: Shape) {
        self.record(&Record::Created(Box::new(shape.created.clone())));
        self.shapes.insert(shape.created.id, shape);
    }

    /// Removes a shape: nobody finds it from now on, and its files go once that is durable.
    pub(super) fn remove(&mut self, disk: &mut Disk, id: ShapeId) -> Result<(), DiskError> {
        let Some(shape) = self.shapes.remove(&id) else { return Ok(()) };
        self.record(&Record::Removed(id));
        self.touched.remove(&id);
        self.dirty.remove(&id);
        self.unsynced.remove(&id);
        if self.faults.has(Fault::RemovesFilesFirst) {
            return disk.remove_folder(&segment::folder(shape.handle));
        }
        self.leaving.push((self.commit_log.last_ticket() + 1, shape.handle));
        Ok(())
    }

    pub(super) fn record(&mut self, record: &Record) {
        record.encode(&mut self.pending);
    }

    /// The ticket under which what is pending will be queued.
    pub(super) const fn next_ticket(&self) -> u64 {
        self.commit_log.last_ticket() + 1
    }

    pub(super) fn should_queue(&self) -> bool {
        self.pending.len() > self.settings.pending_bytes_max
    }

    /// Queues what is pending for the commit log.
    pub(super) fn queue(&mut self) {
        if !self.pending.is_empty() {
            self.commit_log.append(std::mem::take(&mut self.pending));
        }
    }

    /// Flushes every tail that holds something.
    pub(super) fn flush_tails(&mut self, disk: &mut Disk) -> Result<(), DiskError> {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(shape) = self.shapes.get_mut(&id) {
                segment::flush_tail(disk, shape.handle, &mut shape.log, self.faults)?;
            }
        }
        Ok(())
    }

    pub(super) const fn wants_checkpoint(&self) -> bool {
        self.commit_log.file_bytes() > self.settings.commit_file_bytes_max
    }

    /// Starts a new commit log file with a checkpoint; between transactions only. Gives the file's number, and the
    /// shapes whose segments must be synced before the files before it may go.
    pub(super) fn checkpoint(&mut self, disk: &mut Disk) -> Result<(u64, Vec<Handle>), DiskError> {
        self.queue();
        self.flush_tails(disk)?;
        let mut bytes = Vec::new();
        Record::Checkpoint(Box::new(self.state())).encode(&mut bytes);
        let unsynced = std::mem::take(&mut self.unsynced);
        let handles = unsynced.iter().filter_map(|id| Some(self.shapes.get(id)?.handle)).collect();
        Ok((self.commit_log.rotate(bytes), handles))
    }

    fn state(&self) -> StoreCheckpoint {
        let shape = |shape: &Shape| {
            let (created, filter) = (shape.created.clone(), shape.filter.clone());
            let (log, dependent) = (shape.log.checkpoint()?, DependentState::default());
            Some(ShapeCheckpoint { created, filter, log, dependent })
        };
        let shapes = self.shapes.values().filter_map(shape).collect();
        // Here handles count shapes, and do not come from a clock.
        StoreCheckpoint { processed: self.processed, last_handle_us: 0, shapes }
    }
}
