//! The session in which moves are made, as `limn_origin::engine::move_session` keeps it, one wait at a time.

use super::Shape;
use crate::fault::{Fault, Faults};
use crate::postgres::{Postgres, Tables};
use crate::questions;
use crate::random::Random;
use limn_core::pg::{SnapshotBounds, SnapshotFilter};
use limn_core::shape::dependent::RoundRequest;
use limn_core::store::Writer;
use std::collections::VecDeque;
use std::rc::Rc;

/// Carries rounds' requests out, in their order.
#[derive(Debug)]
pub(super) struct MoveSession {
    requests: VecDeque<RoundRequest>,
    session: Session,
    faults: Faults,
}

#[derive(Debug)]
enum Session {
    Closed,
    /// The snapshot is taken, its position is being asked for. With the end of the WAL before it.
    Position(SnapshotBounds, Box<Tables>, u64),
    Open(Box<Tables>),
}

impl MoveSession {
    pub(super) const fn new(faults: Faults) -> Self {
        Self { requests: VecDeque::new(), session: Session::Closed, faults }
    }

    pub(super) fn request(&mut self, request: RoundRequest) {
        self.requests.push_back(request);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// Postgres has gone, and the session with it.
    pub(super) fn handle_postgres_crash(&mut self) {
        self.session = Session::Closed;
    }

    /// Takes the next step, which fails now and then.
    pub(super) fn step(&mut self, writer: &mut Writer<Rc<Shape>>, postgres: &Postgres, random: &mut Random) {
        let Some(request) = self.requests.front() else { return };
        if random.once_in(12) {
            return self.fail(writer);
        }
        match (request, std::mem::replace(&mut self.session, Session::Closed)) {
            (RoundRequest::Open(_), Session::Position(bounds, tables, before)) => {
                let first = self.faults.has(Fault::NotesPositionOfMoveFirst);
                let ends_at = if first { before.saturating_sub(200) } else { postgres.wal_end() };
                self.session = Session::Open(tables);
                self.requests.pop_front();
                let mut filter = SnapshotFilter { bounds, ends_at };
                if self.faults.has(Fault::OpensMoveTooEarly) {
                    // As if it held everything that was read.
                    filter.bounds.xip.clear();
                    filter.bounds.xmax += 1_000;
                }
                writer.handle_round_opened(filter);
            }
            (RoundRequest::Open(_), _) => {
                let (bounds, tables) = postgres.snapshot();
                self.session = Session::Position(bounds, Box::new(tables), postgres.wal_end());
            }
            (RoundRequest::Ask(asked), Session::Open(tables)) => {
                let now = self.faults.has(Fault::AnswersMoveLate).then(|| postgres.snapshot().1);
                let seen = now.as_ref().unwrap_or(&tables);
                let answers: Vec<Vec<u8>> = asked.iter().map(|sql| questions::answer(sql, seen)).collect();
                self.session = Session::Open(tables);
                self.requests.pop_front();
                writer.handle_round_answered(&answers);
            }
            (RoundRequest::Ask(_), _) => self.fail(writer),
            (RoundRequest::Close, _) => drop(self.requests.pop_front()),
        }
    }

    /// The session breaks: the round comes to nothing.
    fn fail(&mut self, writer: &mut Writer<Rc<Shape>>) {
        self.session = Session::Closed;
        match self.requests.pop_front() {
            // Nobody waits for the end of a snapshot.
            Some(RoundRequest::Close) | None => {}
            Some(RoundRequest::Open(_) | RoundRequest::Ask(_)) => writer.handle_round_failed(None),
        }
    }
}
