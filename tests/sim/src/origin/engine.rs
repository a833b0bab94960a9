//! The loop that owns the router and the logs, as `limn_origin::engine::Engine` runs it, one event at a time.

use super::commit_log::CommitLog;
use super::{Faults, Shape, segment};
use crate::disk::{Disk, DiskError};
use crate::fault::Fault;
use crate::postgres::{Frame, Postgres, Walsender, described};
use limn_core::journal::record::{SnapshotDone, StoreCheckpoint, read_frame};
use limn_core::journal::{Record, Ticket};
use limn_core::log::segment::SegmentAppend;
use limn_core::log::shape_log::SnapshotProgress;
use limn_core::pg::SnapshotFilter;
use limn_core::pgoutput::{Message, decode};
use limn_core::shape::{DropCause, RotationCause, Router, Step};
use limn_core::store::{Effect, Limits, Logs};
use limn_core::{Handle, Lsn, ShapeId};
use std::collections::VecDeque;
use std::rc::Rc;

/// The engine's state.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) limits: Limits,
    pub(super) faults: Faults,
    pub(super) router: Router,
    pub(super) logs: Logs<Rc<Shape>>,
    pub(super) commit_log: CommitLog,
    /// The LSN that replies may name.
    pub(super) processed: Lsn,
    /// False until everything that may have been served before is there again.
    pub(super) is_active: bool,
    pub(super) link: Option<Walsender>,
    catch_up_to: Option<Lsn>,
    received: Lsn,
    confirmed: Lsn,
    /// Tails that a thread is about to write.
    writing: VecDeque<(ShapeId, Rc<Shape>, SegmentAppend)>,
    /// The file whose checkpoint waits for these segments to be synced.
    syncing: Option<(u64, Vec<Rc<Shape>>)>,
}

/// Shapes that an event removed, and why.
pub(super) type Rotations = Vec<(Handle, RotationCause)>;

impl Engine {
    pub(super) const fn new(
        (limits, faults): (Limits, Faults),
        router: Router,
        logs: Logs<Rc<Shape>>,
        commit_log: CommitLog,
        processed: Lsn,
    ) -> Self {
        Self {
            limits,
            faults,
            router,
            logs,
            commit_log,
            processed,
            is_active: false,
            link: None,
            catch_up_to: None,
            received: Lsn::ZERO,
            confirmed: Lsn::ZERO,
            writing: VecDeque::new(),
            syncing: None,
        }
    }

    pub(super) fn handle_connected(&mut self, postgres: &Postgres) {
        self.router.handle_disconnect();
        let confirmed = Lsn::new(postgres.confirmed());
        self.logs.handle_connected(confirmed);
        (self.received, self.confirmed) = (confirmed, Lsn::ZERO);
        self.catch_up_to = Some(Lsn::new(postgres.wal_end()));
        self.link = Some(Walsender::start(postgres));
        self.is_active = self.faults.has(Fault::ActiveTooEarly);
        self.note_position(confirmed);
    }

    pub(super) fn handle_disconnect(&mut self) {
        self.link = None;
        self.router.handle_disconnect();
        self.logs.handle_disconnect();
        (self.is_active, self.catch_up_to) = (false, None);
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
                if self.faults.has(Fault::BelievesKeepalives) {
                    self.logs.handle_connected(self.logs.confirmable().max(wal_end));
                }
                self.logs.handle_keepalive(wal_end);
                self.note_position(wal_end);
                Ok(Vec::new())
            }
        }
    }

    /// Ends a turn of the loop: what is pending is queued, and Postgres hears what is durable.
    pub(super) fn end_turn(&mut self, disk: &mut Disk, postgres: &mut Postgres) -> Result<(), DiskError> {
        self.logs.end_turn();
        self.execute(disk)?;
        let confirmable = self.logs.confirmable();
        if self.link.is_some() && confirmable != self.confirmed {
            postgres.confirm(confirmable.as_u64());
            self.confirmed = confirmable;
        }
        Ok(())
    }

    pub(super) fn handle_durable(&mut self) {
        self.logs.handle_synced(self.commit_log.durable());
    }

    pub(super) fn handle_tick(&mut self, disk: &mut Disk) -> Result<(), DiskError> {
        self.logs.flush_tails();
        // While the stream is not caught up, a transaction that was cut off may lie half in the logs.
        if self.is_active && !self.router.in_transaction() {
            self.logs.begin_checkpoint();
            self.execute(disk)?;
            self.write_tails(disk, usize::MAX)?;
            // Here handles count shapes, and do not come from a clock.
            self.logs.continue_checkpoint(0, |_| None);
        }
        self.confirmed = Lsn::ZERO;
        Ok(())
    }

    /// The task that syncs segments after a checkpoint. Where it fails, the older files stay.
    pub(super) fn sync_segments(&mut self, disk: &mut Disk) -> Result<(), DiskError> {
        let Some((file, shapes)) = self.syncing.take() else { return Ok(()) };
        let faults = self.faults;
        let sync = |shape: &Rc<Shape>| match faults.has(Fault::SegmentsNotSynced) {
            true => Ok(()),
            false => segment::sync(disk, shape.handle, faults),
        };
        match shapes.iter().try_for_each(sync) {
            Ok(()) => {
                self.logs.handle_segments_synced(file);
                self.execute(disk)
            }
            Err(DiskError::Off) => Err(DiskError::Off),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn register(&mut self, shape: Shape) {
        let id = shape.created.id;
        self.router.add_waiting(id, shape.definition(), "");
        self.logs.register(id, Rc::new(shape), false);
    }

    /// The shape's snapshot was taken; false where it lacks what was read before the shape was registered.
    pub(super) fn handle_snapshot_taken(&mut self, id: ShapeId, filter: &SnapshotFilter) -> bool {
        let is_complete = self.logs.is_snapshot_complete(id, &filter.bounds);
        if !is_complete && !self.faults.has(Fault::TakesSnapshotTooEarly) {
            return false;
        }
        self.logs.handle_snapshot_taken(id, Lsn::new(filter.ends_at));
        if !self.router.in_transaction() {
            self.logs.handle_position(self.received);
        }
        for transaction in self.router.handle_snapshot(id, filter) {
            self.logs.backfill(transaction);
        }
        true
    }

    pub(super) fn handle_snapshot_done(
        &mut self,
        id: ShapeId,
        filter: &SnapshotFilter,
        progress: SnapshotProgress,
    ) {
        self.logs.handle_snapshot_done(SnapshotDone { id, filter: filter.clone(), progress });
    }

    pub(super) fn remove(&mut self, id: ShapeId) {
        self.router.remove(id);
        self.logs.remove(id, DropCause::Deleted);
    }

    /// The end of the process, as far as it is known: which shapes are durable now?
    pub(super) fn handle_end(&mut self) {
        self.handle_durable();
        while let Some(effect) = self.logs.poll_effect() {
            if let Effect::SnapshotDurable { shape } = effect {
                shape.is_durable.set(true);
            }
        }
    }

    fn handle_message(&mut self, disk: &mut Disk, message: &Message<'_>) -> Result<Rotations, DiskError> {
        if let Message::Relation(relation) = message
            && !self.faults.has(Fault::ForgetsPartitions)
        {
            self.router.handle_described(relation.oid, described(relation.oid));
        }
        if let Message::Begin(begin) = message {
            self.logs.handle_begin(begin.final_lsn, begin.xid);
            if self.faults.has(Fault::ProcessedTooEarly) {
                self.processed = self.processed.max(begin.final_lsn);
            }
        }
        let step = self.router.handle_message(message).expect("the model keeps the stream's rules");
        if matches!(step, Step::Committed { .. }) || self.limits.is_full(self.router.fragment()) {
            self.logs.append(self.router.fragment());
            self.router.clear_fragment();
        }
        let mut rotations = Vec::new();
        for (id, cause) in self.router.take_rotations() {
            rotations.extend(self.logs.shape(id).map(|shape| (shape.handle, cause.clone())));
            self.logs.remove(id, DropCause::from(&cause));
        }
        if let Step::Committed { commit, end, .. } = step {
            self.logs.commit(commit, end);
            self.note_position(end);
        }
        self.execute(disk)?;
        Ok(rotations)
    }

    /// The stream has come this far.
    fn note_position(&mut self, position: Lsn) {
        self.received = self.received.max(position);
        self.logs.handle_position(self.received);
    }

    /// Carries out what the logs have decided.
    pub(super) fn execute(&mut self, disk: &mut Disk) -> Result<(), DiskError> {
        while let Some(effect) = self.logs.poll_effect() {
            match effect {
                Effect::Append { ticket, bytes } => self.append(ticket, bytes),
                Effect::StartFile { number, ticket, checkpoint } => {
                    self.commit_log.start_file(number, ticket, checkpoint);
                }
                Effect::SyncSegments { file, shapes } => self.syncing = Some((file, shapes)),
                Effect::DeleteFilesBefore { file } => self.commit_log.delete_before(file),
                Effect::WriteTail { id, shape, append } => {
                    self.writing.push_back((id, shape, append));
                    if self.faults.has(Fault::ReportsTailsFirst) {
                        self.logs.handle_flushed(id);
                    }
                }
                Effect::RemoveFolder { shape } => {
                    // Nothing is written to a folder that goes.
                    self.write_tails(disk, usize::MAX)?;
                    disk.remove_folder(&segment::folder(shape.handle))?;
                }
                Effect::Publish { processed, .. } => self.processed = self.processed.max(processed),
                Effect::Joined { shape } => shape.log.borrow_mut().handle_joined(),
                Effect::SnapshotDurable { shape } => shape.is_durable.set(true),
                Effect::Dropped { shape, .. } if self.faults.has(Fault::RemovesFilesFirst) => {
                    disk.remove_folder(&segment::folder(shape.handle))?;
                }
                // Clients look by themselves.
                Effect::Dropped { .. } | Effect::Wake { .. } => {}
            }
        }
        // Once readers are told of everything that was served before.
        self.is_active |= self.catch_up_to.take_if(|end| *end <= self.received).is_some();
        Ok(())
    }

    /// The thread writes up to so many tails, while the stream is read on.
    pub(super) fn write_tails(&mut self, disk: &mut Disk, count: usize) -> Result<(), DiskError> {
        for _ in 0..count {
            let Some((id, shape, append)) = self.writing.pop_front() else { return Ok(()) };
            segment::write(disk, shape.handle, &append, self.faults)?;
            self.logs.handle_flushed(id);
        }
        Ok(())
    }

    pub(super) fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    fn append(&mut self, ticket: Ticket, bytes: Vec<u8>) {
        match self.faults.has(Fault::ForgetsBackfills) {
            true => self.commit_log.append(ticket, without_backfills(&bytes)),
            false => self.commit_log.append(ticket, bytes),
        }
        if self.faults.has(Fault::ConfirmsBeforeSync) {
            self.logs.handle_synced(ticket);
        }
    }
}

/// The frames of a piece, but for those of transactions that waited for a snapshot.
fn without_backfills(bytes: &[u8]) -> Vec<u8> {
    let (mut rest, mut kept) = (bytes, Vec::new());
    while let Some((payload, length)) = read_frame(rest) {
        if !matches!(Record::decode(payload), Ok(Record::Backfill(_))) {
            kept.extend_from_slice(&rest[..length]);
        }
        rest = &rest[length..];
    }
    kept
}

/// A checkpoint as the first frame of a file.
pub(super) fn encode_checkpoint(checkpoint: StoreCheckpoint) -> Vec<u8> {
    let mut bytes = Vec::new();
    Record::Checkpoint(Box::new(checkpoint)).encode(&mut bytes);
    bytes
}
