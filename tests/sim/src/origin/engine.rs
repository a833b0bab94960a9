//! Carries out what core's writer decides, one event at a time, as `limn_origin::engine` does.

use super::commit_log::CommitLog;
use super::move_session::MoveSession;
use super::{Shape, layout};
use crate::fault::{Fault, Faults};
use crate::files::Files;
use crate::judge::Event;
use crate::postgres::{Frame, Postgres, Walsender, described};
use crate::random::Random;
use limn_core::journal::record::read_frame;
use limn_core::journal::{Record, Ticket};
use limn_core::log::Rope;
use limn_core::log::segment::SegmentAppend;
use limn_core::pg::SnapshotFilter;
use limn_core::pgoutput::{Message, decode};
use limn_core::shape::Described;
use limn_core::shape::dependent::View;
use limn_core::store::{Effect, Progress, Question, Writer};
use limn_core::{Lsn, ShapeId};
use limn_disk::{Packs, Piece, segment};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// The writer, and what its effects reach.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) files: Files,
    pub(super) faults: Faults,
    pub(super) writer: Writer<Rc<Shape>>,
    pub(super) commit_log: CommitLog,
    pub(super) packs: Packs<Files>,
    pub(super) move_session: MoveSession,
    /// The LSN that replies may name.
    pub(super) processed: Lsn,
    /// False until everything that may have been served before is there again.
    pub(super) is_active: bool,
    pub(super) link: Option<Walsender>,
    confirmed: Lsn,
    /// What has happened since this was last asked.
    pub(super) events: Vec<Event>,
    /// Tails that a thread is about to write.
    writing: VecDeque<(ShapeId, Rc<Shape>, SegmentAppend)>,
    /// The file whose checkpoint waits for these segments to be synced.
    syncing: Option<(u64, Vec<Rc<Shape>>)>,
}

impl Engine {
    pub(super) fn new(
        files: Files,
        faults: Faults,
        writer: Writer<Rc<Shape>>,
        (commit_log, packs): (CommitLog, Packs<Files>),
        processed: Lsn,
    ) -> Self {
        Self {
            files,
            faults,
            writer,
            commit_log,
            packs,
            move_session: MoveSession::new(faults),
            processed,
            is_active: false,
            link: None,
            confirmed: Lsn::ZERO,
            events: Vec::new(),
            writing: VecDeque::new(),
            syncing: None,
        }
    }

    pub(super) fn handle_connected(&mut self, postgres: &Postgres) {
        self.writer.handle_connected(Lsn::new(postgres.confirmed()), Lsn::new(postgres.wal_end()));
        self.confirmed = Lsn::ZERO;
        self.link = Some(Walsender::start(postgres));
        self.is_active = self.faults.has(Fault::ActiveTooEarly);
    }

    pub(super) fn handle_disconnect(&mut self) {
        self.writer.handle_disconnect();
        (self.link, self.is_active) = (None, false);
    }

    /// Works off one frame; the loop's turn ends with [`Engine::end_turn`].
    pub(super) fn handle_frame(&mut self, frame: &Frame) -> io::Result<()> {
        match frame {
            Frame::XLogData(at, data) => {
                let message = decode(data).expect("the model speaks pgoutput");
                if let (Message::Begin(begin), true) = (&message, self.faults.has(Fault::ProcessedTooEarly)) {
                    self.processed = self.processed.max(begin.final_lsn);
                }
                loop {
                    let taken = self.writer.handle_message(&message, Lsn::new(*at));
                    let progress = taken.expect("the model keeps the stream's rules");
                    self.execute()?;
                    let Progress::Again(questions) = progress else { break };
                    questions.iter().for_each(|question| self.answer(question));
                }
            }
            Frame::Keepalive(wal_end) => self.writer.handle_keepalive(Lsn::new(*wal_end)),
        }
        Ok(())
    }

    /// Ends a turn of the loop: what is pending is queued, and Postgres hears what is durable.
    pub(super) fn end_turn(&mut self, postgres: &mut Postgres) -> io::Result<()> {
        self.writer.end_turn();
        self.execute()?;
        let confirmable = self.writer.logs().confirmable();
        if self.link.is_some() && confirmable != self.confirmed {
            postgres.confirm(confirmable.as_u64());
            self.confirmed = confirmable;
        }
        Ok(())
    }

    pub(super) fn handle_durable(&mut self) {
        self.writer.handle_synced(self.commit_log.durable());
    }

    pub(super) fn handle_tick(&mut self, last_handle_us: u64) -> io::Result<()> {
        self.writer.handle_tick(last_handle_us);
        self.confirmed = Lsn::ZERO;
        self.execute()
    }

    /// The task that syncs segments after a checkpoint. Where it fails, the process ends: a second sync may succeed without
    /// having written anything.
    pub(super) fn sync_segments(&mut self) -> io::Result<()> {
        let Some((file, shapes)) = self.syncing.take() else { return Ok(()) };
        if !self.faults.has(Fault::SegmentsNotSynced) {
            let dirs = shapes.iter().map(|shape| shape.dir.as_path());
            let places = shapes.iter().filter_map(|shape| shape.log.borrow().snapshot().pack);
            let synced = segment::sync_all(&self.files, &layout(), dirs, places);
            if synced.is_err() && self.faults.has(Fault::SyncsAgain) && !self.files.disk().is_off() {
                self.syncing = Some((file, shapes));
                return Ok(());
            }
            synced?;
        }
        self.writer.handle_segments_synced(file);
        self.execute()
    }

    /// The shape's snapshot was taken; false where it lacks what was read before the shape was registered.
    pub(super) fn handle_snapshot_taken(
        &mut self,
        id: ShapeId,
        filter: &SnapshotFilter,
        views: Vec<View>,
    ) -> bool {
        let is_taken = self.writer.handle_snapshot_taken(id, filter, views.clone());
        if is_taken || !self.faults.has(Fault::TakesSnapshotTooEarly) {
            return is_taken;
        }
        // As if it held everything that was read.
        let mut believed = filter.clone();
        believed.bounds.xip.clear();
        self.writer.handle_snapshot_taken(id, &believed, views)
    }

    /// The end of the process, as far as it is known: which shapes are durable now?
    pub(super) fn handle_end(&mut self) {
        self.handle_durable();
        while let Some(effect) = self.writer.poll_effect() {
            if let Effect::SnapshotDurable { shape } = effect {
                shape.is_durable.set(true);
            }
        }
    }

    /// Carries out what was decided.
    pub(super) fn execute(&mut self) -> io::Result<()> {
        while let Some(effect) = self.writer.poll_effect() {
            match effect {
                Effect::Append { ticket, bytes } => self.append(ticket, bytes),
                Effect::StartFile { number, ticket, checkpoint } => {
                    self.commit_log.queue(Piece::StartFile { number });
                    self.commit_log.queue(Piece::Append { ticket, bytes: checkpoint });
                }
                Effect::SyncSegments { file, shapes } => self.syncing = Some((file, shapes)),
                Effect::DeleteFilesBefore { file: number } => {
                    self.commit_log.queue(Piece::DeleteBefore { number });
                }
                Effect::WriteTail { id, shape, append } => {
                    self.writing.push_back((id, shape, append));
                    if self.faults.has(Fault::ReportsTailsFirst) {
                        self.writer.handle_flushed(id);
                    }
                }
                Effect::RemoveFolder { shape } => {
                    // Nothing is written to a folder that goes.
                    self.write_tails(usize::MAX)?;
                    self.remove_files(&shape)?;
                }
                Effect::Publish { processed, .. } => self.processed = self.processed.max(processed),
                Effect::Joined { shape } => shape.log.borrow_mut().handle_joined(),
                Effect::SnapshotDurable { shape } => shape.is_durable.set(true),
                Effect::CaughtUp => self.is_active = true,
                Effect::Rotated { shape, cause } => self.events.push(Event::Rotated(shape.handle, cause)),
                Effect::Dropped { shape, .. } if self.faults.has(Fault::RemovesFilesFirst) => {
                    self.remove_files(&shape)?;
                }
                Effect::Round(request) => self.move_session.request(request),
                // Clients look by themselves.
                Effect::Dropped { .. } | Effect::Wake { .. } | Effect::Began { .. } | Effect::Moved => {}
            }
        }
        Ok(())
    }

    fn remove_files(&mut self, shape: &Shape) -> io::Result<()> {
        let place = shape.log.borrow().snapshot().pack;
        place.map_or(Ok(()), |place| self.packs.release(place))?;
        segment::remove_dir(&self.files, &shape.dir)
    }

    fn answer(&mut self, question: &Question) {
        match question {
            Question::Relation { oid, .. } if self.faults.has(Fault::ForgetsPartitions) => {
                self.writer.handle_described(*oid, Described::default());
            }
            Question::Relation { oid, .. } => self.writer.handle_described(*oid, described(*oid)),
            Question::Rows(_) => unreachable!("core judges every clause of the model"),
        }
    }

    /// The session in which moves are made takes its next step.
    pub(super) fn step_move(&mut self, postgres: &Postgres, random: &mut Random) {
        self.move_session.step(&mut self.writer, postgres, random);
    }

    /// The thread writes up to so many tails, while the stream is read on.
    pub(super) fn write_tails(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let Some((id, shape, append)) = self.writing.pop_front() else { return Ok(()) };
            segment::write(&self.files, &shape.dir, &append)?;
            self.writer.handle_flushed(id);
        }
        Ok(())
    }

    pub(super) fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    fn append(&mut self, ticket: Ticket, bytes: Rope) {
        self.events.push(Event::Queued(bytes.clone()));
        let kept = match self.faults.0 {
            Some(Fault::ForgetsRemovals) => without(&bytes, |record| matches!(record, Record::Removed(_))),
            Some(Fault::ForgetsBackfills) => without(&bytes, |record| matches!(record, Record::Backfill(_))),
            Some(Fault::ForgetsMoves) => without(&bytes, |record| matches!(record, Record::Move(_))),
            Some(Fault::ForgetsBounds) => without(&bytes, |record| matches!(record, Record::Bound(_))),
            _ => bytes,
        };
        self.commit_log.queue(Piece::Append { ticket, bytes: kept });
        if self.faults.has(Fault::ConfirmsBeforeSync) {
            self.writer.handle_synced(ticket);
        }
    }
}

/// The frames of a piece, but for those of some records.
fn without(bytes: &Rope, forgets: impl Fn(&Record) -> bool) -> Rope {
    let (bytes, mut kept) = (bytes.to_vec(), Rope::new());
    let mut rest = &bytes[..];
    while let Some((payload, length)) = read_frame(rest) {
        if !Record::decode(payload).is_ok_and(|record| forgets(&record)) {
            kept.extend_from_slice(&rest[..length]);
        }
        rest = &rest[length..];
    }
    kept
}
