//! The stream and the effects, as `limn_origin::engine` has them.

use super::{Origin, layout};
use crate::faulty::keepalive;
use crate::judge::Event;
use crate::postgres::{Frame, Postgres, Walsender, described};
use crate::random::Random;
use limn_core::Lsn;
use limn_core::pgoutput::decode;
use limn_core::store::{Effect, Piece, Progress, Question, Report, SegmentWork};
use limn_disk::{sync_segments, work_on_segment, write_tail};
use std::io;

impl Origin {
    /// Connects to Postgres where there is no connection.
    pub fn connect(&mut self, postgres: &Postgres) {
        if self.link.is_none() {
            self.writer.handle_connected(Lsn::new(postgres.confirmed()), Lsn::new(postgres.wal_end()));
            self.link = Some(Walsender::start(postgres));
        }
    }

    /// The connection breaks.
    pub fn disconnect(&mut self) {
        self.writer.handle_disconnect();
        (self.link, self.is_active) = (None, false);
    }

    /// Postgres crashes: every connection breaks.
    pub fn handle_postgres_crash(&mut self) {
        self.disconnect();
        self.move_session.close();
    }

    /// Reads a frame of the stream, where there is one. The turn goes on.
    pub fn read_frame(&mut self, postgres: &Postgres) -> io::Result<bool> {
        let frame = self.link.as_mut().and_then(|link| link.next(postgres));
        frame.as_ref().map_or(Ok(()), |frame| self.handle_frame(frame))?;
        Ok(frame.is_some())
    }

    /// A keepalive comes.
    pub fn read_keepalive(&mut self, postgres: &mut Postgres) -> io::Result<()> {
        let frame = self.link.as_ref().map(|link| keepalive(link, postgres, self.faults));
        frame.map_or(Ok(()), |frame| self.handle_frame(&frame))?;
        self.end_turn(postgres)
    }

    fn handle_frame(&mut self, frame: &Frame) -> io::Result<()> {
        let (at, data) = match frame {
            Frame::XLogData(at, data) => (Lsn::new(*at), data),
            Frame::Keepalive(wal_end) => {
                self.writer.handle_keepalive(Lsn::new(*wal_end));
                return Ok(());
            }
        };
        let message = decode(data).expect("the model speaks pgoutput");
        loop {
            let progress =
                self.writer.handle_message(&message, at).expect("the model keeps the stream's rules");
            self.execute()?;
            let Progress::Again(questions) = progress else { return Ok(()) };
            for question in questions {
                let Question::Relation { oid, .. } = question else {
                    unreachable!("core judges every clause")
                };
                self.writer.handle_described(oid, described(oid));
            }
        }
    }

    /// No more is at hand: what is pending is queued, and Postgres hears what is durable.
    pub fn end_turn(&mut self, postgres: &mut Postgres) -> io::Result<()> {
        self.writer.end_turn();
        self.execute()?;
        if let Some(confirmed) = self.writer.due_confirmation() {
            postgres.confirm(confirmed.as_u64());
            self.writer.handle_confirmed(confirmed);
        }
        Ok(())
    }

    /// Carries out what was decided.
    pub(super) fn execute(&mut self) -> io::Result<()> {
        while let Some(effect) = self.writer.poll_effect() {
            match effect {
                Effect::CommitLog(piece) => {
                    if let Piece::Append { bytes, .. } = &piece {
                        self.events.push(Event::Queued(bytes.clone()));
                    }
                    self.commit_queue.push_back(piece);
                }
                Effect::SyncSegments(sync) => self.syncing = Some(sync),
                Effect::WriteTail(write) => self.writing.push_back(write),
                Effect::WorkOnSegment(work) => {
                    if matches!(work, SegmentWork::RemoveFolder { .. }) {
                        // Nothing is written to a folder that goes.
                        self.write_queued_tails(usize::MAX)?;
                    }
                    self.segment_work.push_back(work);
                }
                Effect::Publish { processed, .. } => self.processed = self.processed.max(processed),
                Effect::Joined { shape } => shape.log.change(|log| log.handle_joined()),
                Effect::SnapshotDurable { shape } => shape.is_durable.set(true),
                Effect::CaughtUp => self.is_active = true,
                Effect::Rotated { shape, cause } => self.events.push(Event::Rotated(shape.handle, cause)),
                Effect::Round(request) => self.move_session.request(request),
                // Clients look by themselves.
                Effect::Dropped { .. } | Effect::Wake { .. } | Effect::Began { .. } | Effect::Moved => {}
            }
        }
        Ok(())
    }

    /// The commit log's thread takes a group.
    pub fn write_group(&mut self, pieces_max: usize) -> io::Result<()> {
        let mut pieces = std::iter::from_fn(|| self.commit_queue.pop_front()).take(pieces_max);
        let last = self.commit_writer.write_group(|| pieces.next(), |_, write_and_sync| write_and_sync())?;
        self.durable = last.unwrap_or(self.durable);
        Ok(())
    }

    /// The thread that writes tails takes some.
    pub fn write_tails(&mut self, count: usize) -> io::Result<()> {
        self.write_queued_tails(count)?;
        self.execute()
    }

    fn write_queued_tails(&mut self, count: usize) -> io::Result<()> {
        for write in self.writing.drain(..count.min(self.writing.len())) {
            self.writer.handle_report(write_tail(&self.files, &layout(), &write)?);
        }
        Ok(())
    }

    /// The segments of a checkpoint are synced.
    pub fn sync_segments(&mut self) -> io::Result<()> {
        let Some(sync) = self.syncing.take() else { return Ok(()) };
        self.writer.handle_report(sync_segments(&self.files, &layout(), &sync)?);
        self.execute()
    }

    /// The thread that works on segments takes its next step. Where that fails, the shape's old segment stays.
    pub fn work_on_segments(&mut self) -> io::Result<()> {
        if let Some(work) = self.segment_work.pop_front() {
            let release_pack = |place| self.packs.release(place);
            let worked = work_on_segment(&self.files, &layout(), work, || true, release_pack);
            self.files.check_power()?;
            worked.report.into_iter().for_each(|report| self.writer.handle_report(report));
        }
        self.execute()
    }

    /// The engine hears what is durable.
    pub fn handle_durable(&mut self, postgres: &mut Postgres) -> io::Result<()> {
        self.writer.handle_report(Report::Synced(self.durable));
        self.end_turn(postgres)
    }

    /// The engine's clock ticks.
    pub fn handle_tick(&mut self, postgres: &mut Postgres) -> io::Result<()> {
        self.writer.handle_tick(self.handles.last_us());
        self.end_turn(postgres)
    }

    /// The session in which moves are made takes its next step.
    pub fn step_move(&mut self, postgres: &mut Postgres, random: &mut Random) -> io::Result<()> {
        let outcome = self.move_session.step(postgres, random);
        outcome.into_iter().for_each(|outcome| self.writer.handle_round(outcome));
        self.end_turn(postgres)
    }
}
