//! The loop that owns the router, as `limn_origin::engine::Engine` runs it, one event at a time.

use super::logs::Logs;
use super::{Shape, segment};
use crate::disk::{Disk, DiskError};
use crate::fault::Fault;
use crate::postgres::{Frame, Postgres, Walsender};
use limn_core::journal::FlushTracker;
use limn_core::journal::record::{Record, SnapshotDone, StoreCheckpoint};
use limn_core::log::shape_log::SnapshotProgress;
use limn_core::pg::SnapshotFilter;
use limn_core::pgoutput::{Message, decode};
use limn_core::shape::{RotationCause, Router, Step};
use limn_core::{Handle, Lsn, ShapeId};

/// The engine's state.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) router: Router,
    pub(super) logs: Logs,
    /// False until everything that may have been served before is there again.
    pub(super) is_active: bool,
    pub(super) link: Option<Walsender>,
    catch_up_to: Lsn,
    received: Lsn,
    confirmed: Lsn,
    /// The file whose checkpoint waits for these segments to be synced.
    syncing: Option<(u64, Vec<Handle>)>,
    /// From a checkpoint until its segments are synced: for ever, where they cannot be.
    checkpointing: bool,
}

/// Shapes that an event removed, and why.
pub(super) type Rotations = Vec<(Handle, RotationCause)>;

impl Engine {
    pub(super) const fn new(router: Router, logs: Logs) -> Self {
        Self {
            router,
            logs,
            is_active: false,
            link: None,
            catch_up_to: Lsn::ZERO,
            received: Lsn::ZERO,
            confirmed: Lsn::ZERO,
            syncing: None,
            checkpointing: false,
        }
    }

    pub(super) fn handle_connected(&mut self, postgres: &Postgres) {
        self.router.handle_disconnect();
        let confirmed = Lsn::new(postgres.confirmed());
        self.logs.flush = FlushTracker::new(confirmed);
        (self.received, self.confirmed) = (confirmed, Lsn::ZERO);
        self.catch_up_to = Lsn::new(postgres.wal_end());
        // What was confirmed ends there: a transaction may still commit at that very position.
        self.logs.processed = self.logs.processed.max(confirmed.as_u64() - 1);
        self.link = Some(Walsender::start(postgres));
        self.is_active = self.logs.faults.has(Fault::ActiveTooEarly);
        self.note_position(confirmed);
    }

    pub(super) fn handle_disconnect(&mut self) {
        self.link = None;
        self.router.handle_disconnect();
        self.logs.handle_disconnect();
        self.is_active = false;
    }

    /// Works off one frame; the loop's turn ends with [`Engine::end_turn`].
    pub(super) fn handle_frame(&mut self, disk: &mut Disk, frame: &Frame) -> Result<Rotations, DiskError> {
        match frame {
            Frame::XLogData(at, data) => {
                let message = decode(data).expect("the model speaks pgoutput");
                let rotations = self.handle_message(disk, &message)?;
                self.received = self.received.max(Lsn::new(*at));
                Ok(rotations)
            }
            Frame::Keepalive(wal_end) => {
                let wal_end = Lsn::new(*wal_end);
                if self.logs.faults.has(Fault::BelievesKeepalives) {
                    self.logs.flush = FlushTracker::new(self.logs.flush.confirmable().max(wal_end));
                }
                self.logs.flush.handle_keepalive(wal_end);
                self.note_position(wal_end);
                Ok(Vec::new())
            }
        }
    }

    /// Ends a turn of the loop: what is pending is queued, and Postgres hears what is durable.
    pub(super) fn end_turn(&mut self, postgres: &mut Postgres) {
        self.logs.queue();
        let confirmable = self.logs.flush.confirmable();
        if self.link.is_some() && confirmable != self.confirmed {
            postgres.confirm(confirmable.as_u64());
            self.confirmed = confirmable;
        }
    }

    pub(super) fn handle_tick(&mut self, disk: &mut Disk) -> Result<(), DiskError> {
        self.logs.flush_tails(disk)?;
        // While the stream is not caught up, a transaction that was cut off may lie half in the logs.
        let whole = self.is_active && !self.router.in_transaction();
        if whole && !self.checkpointing && self.logs.wants_checkpoint() {
            self.syncing = Some(self.logs.checkpoint(disk)?);
            self.checkpointing = true;
        }
        self.confirmed = Lsn::ZERO;
        Ok(())
    }

    /// The task that syncs segments after a checkpoint. Where it fails, the older files stay.
    pub(super) fn sync_segments(&mut self, disk: &mut Disk) -> Result<(), DiskError> {
        let Some((file, handles)) = self.syncing.take() else { return Ok(()) };
        let faults = self.logs.faults;
        let sync = |handle: &Handle| match faults.has(Fault::SegmentsNotSynced) {
            true => Ok(()),
            false => segment::sync(disk, *handle, faults),
        };
        match handles.iter().try_for_each(sync) {
            Ok(()) => {
                self.checkpointing = false;
                self.logs.commit_log.forget_before(disk, file);
                Ok(())
            }
            Err(DiskError::Off) => Err(DiskError::Off),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn register(&mut self, shape: Shape) {
        self.router.add_waiting(shape.created.id, shape.definition(), "");
        self.logs.insert(shape);
    }

    /// The shape's snapshot was taken; false where it lacks what was read before the shape was registered.
    pub(super) fn handle_snapshot_taken(
        &mut self,
        disk: &mut Disk,
        id: ShapeId,
        filter: &SnapshotFilter,
    ) -> Result<bool, DiskError> {
        let Some(shape) = self.logs.shapes.get(&id) else { return Ok(true) };
        let sees_all = self.logs.recent.are_in(shape.registered_at, &filter.bounds);
        if !sees_all && !self.logs.faults.has(Fault::TakesSnapshotTooEarly) {
            return Ok(false);
        }
        self.logs.joining.push((id, Lsn::new(filter.ends_at)));
        if !self.router.in_transaction() {
            self.logs.handle_position(self.received);
        }
        let transactions = self.router.handle_snapshot(id, filter);
        self.logs.backfill(disk, id, transactions)?;
        Ok(true)
    }

    pub(super) fn handle_snapshot_done(
        &mut self,
        id: ShapeId,
        filter: &SnapshotFilter,
        progress: SnapshotProgress,
    ) {
        let ticket = self.logs.next_ticket();
        if let Some(shape) = self.logs.shapes.get_mut(&id) {
            shape.filter = Some(filter.clone());
            shape.done_ticket = Some(ticket);
            self.logs.record(&Record::SnapshotDone(SnapshotDone { id, filter: filter.clone(), progress }));
        }
    }

    pub(super) fn remove(&mut self, disk: &mut Disk, id: ShapeId) -> Result<(), DiskError> {
        self.router.remove(id);
        self.logs.remove(disk, id)
    }

    fn handle_message(&mut self, disk: &mut Disk, message: &Message<'_>) -> Result<Rotations, DiskError> {
        if let Message::Begin(begin) = message {
            self.logs.recent.handle_commit(begin.final_lsn.as_u64(), begin.xid);
            if self.logs.faults.has(Fault::ProcessedTooEarly) {
                self.logs.processed = self.logs.processed.max(begin.final_lsn.as_u64());
            }
        }
        let step = self.router.handle_message(message).expect("the model keeps the stream's rules");
        match step {
            Step::Began => self.logs.flush.handle_begin(),
            Step::Continued if self.router.fragment().len_bytes() < self.logs.settings.fragment_bytes_max => {
            }
            Step::Continued | Step::Committed { .. } => {
                self.logs.append(disk, self.router.fragment())?;
                self.router.clear_fragment();
            }
        }
        let mut rotations = Vec::new();
        for (id, cause) in self.router.take_rotations() {
            rotations.extend(self.logs.shapes.get(&id).map(|shape| (shape.handle, cause)));
            self.logs.remove(disk, id)?;
        }
        if let Step::Committed { commit, end, xid } = step {
            self.logs.commit(commit, end, xid);
            self.note_position(end);
        }
        if self.logs.should_queue() {
            self.logs.queue();
        }
        Ok(rotations)
    }

    /// The stream has come this far.
    fn note_position(&mut self, position: Lsn) {
        self.received = self.received.max(position);
        self.logs.handle_position(self.received);
        self.is_active |= self.link.is_some() && self.received >= self.catch_up_to;
    }
}

/// A checkpoint as the first frame of a file.
pub(super) fn encode_checkpoint(checkpoint: StoreCheckpoint) -> Vec<u8> {
    let mut bytes = Vec::new();
    Record::Checkpoint(Box::new(checkpoint)).encode(&mut bytes);
    bytes
}
