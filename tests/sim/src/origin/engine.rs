//! The stream and the effects, as `limn_origin::engine` has them.

use super::Origin;
use crate::judge::Event;
use crate::postgres::{Frame, Postgres, Walsender};
use crate::threads::Thread;
use limn_core::Lsn;
use limn_core::log::ShapeLog;
use limn_core::log::reading::Standing;
use limn_core::pgoutput::decode;
use limn_core::store::{Effect, Followed, Progress, SharedShape};
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
        (self.link, self.front.standing) = (None, Standing::Away);
    }

    /// Takes a frame of the stream. The turn goes on.
    pub fn handle_frame(&mut self, frame: &Frame) -> io::Result<()> {
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
            questions.iter().for_each(|question| self.writer.ask(question));
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

    /// A thread does so much of what is queued for it.
    pub fn run(&mut self, thread: Thread, count: usize) -> io::Result<()> {
        let reports = self.threads.run(thread, count)?;
        reports.into_iter().for_each(|report| self.writer.handle_report(report));
        Ok(())
    }

    /// Carries out what was decided.
    fn execute(&mut self) -> io::Result<()> {
        while let Some(effect) = self.writer.poll_effect() {
            self.events.extend(Event::of(&effect));
            match effect {
                Effect::CommitLog(piece) => self.threads.pieces.push_back(piece),
                Effect::WriteTail(write) => self.threads.tails.push_back(write),
                Effect::SyncSegments(sync) => self.threads.syncs.push_back(sync),
                Effect::WorkOnSegment(work) => self.threads.segments.push_back(work),
                Effect::Publish { processed, .. } => self.front.publish(processed),
                Effect::Joined { shape } => shape.with_log(ShapeLog::handle_joined),
                Effect::SnapshotDurable { shape } => shape.is_durable.set(true),
                Effect::CaughtUp => self.front.standing = Standing::Active,
                Effect::Dropped { shape, .. } => self.front.retire(shape),
                Effect::Round(request) => self.move_session.request(request),
                // Clients look by themselves.
                Effect::Rotated { .. } | Effect::Wake { .. } | Effect::Began { .. } | Effect::Moved => {}
            }
        }
        Ok(())
    }
}
