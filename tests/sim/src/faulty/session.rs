//! Sessions inside a snapshot: of new shapes, and of moves.

use crate::fault::{Fault, Faults};
use crate::postgres::{self, Postgres, Row, Tables};
use crate::questions;
use crate::random::Random;
use crate::shapes::Kind;
use limn_core::pg::SnapshotFilter;
use limn_core::shape::dependent::{RoundOutcome, RoundRequest};
use std::collections::VecDeque;

/// A session inside a snapshot.
#[derive(Debug, Default)]
pub struct Session {
    session: postgres::Session,
    /// The end of the WAL before the snapshot, where a bug takes that for its position.
    before: Option<u64>,
    /// Rows that are to come, while a shape is copied.
    copying: Option<Vec<Row>>,
}

/// The session in which moves are made, and the requests of rounds that wait for it.
#[derive(Debug, Default)]
pub struct MoveSession {
    requests: VecDeque<RoundRequest>,
    session: Session,
    faults: Faults,
}

impl Session {
    /// Takes the next step to a snapshot for new shapes ([`postgres::Session::open`]).
    pub fn open(&mut self, postgres: &Postgres, faults: Faults) -> Option<SnapshotFilter> {
        self.open_with(postgres, faults.has(Fault::NotesPositionFirst))
    }

    fn open_with(&mut self, postgres: &Postgres, notes_position_first: bool) -> Option<SnapshotFilter> {
        let before = self.before.replace(postgres.wal_end()).filter(|_| notes_position_first);
        let filter = self.session.open(postgres)?;
        let ends_at = before.map_or(filter.ends_at, |before| before.saturating_sub(200));
        Some(SnapshotFilter { ends_at, ..filter })
    }

    /// The tables, as the snapshot shows them.
    ///
    /// # Panics
    /// Where it is not open.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        self.session.tables().expect("the snapshot is open")
    }

    /// The next rows of a shape, at most so many; none behind the last one.
    pub fn copy(&mut self, kind: &Kind, count: usize) -> Vec<Row> {
        let rows = self.copying.take().unwrap_or_else(|| kind.rows(self.tables()));
        let (rows, rest) = rows.split_at(count.min(rows.len()));
        self.copying = (!rows.is_empty()).then(|| rest.to_vec());
        rows.to_vec()
    }
}

impl MoveSession {
    /// A session that is closed.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self { faults, ..Self::default() }
    }

    /// A request waits.
    pub fn request(&mut self, request: RoundRequest) {
        self.requests.push_back(request);
    }

    /// True where no request waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// Postgres has gone, and the session with it.
    pub fn close(&mut self) {
        self.session = Session::default();
    }

    /// Takes the next step, which fails now and then. Returns what came of a request.
    pub fn step(&mut self, postgres: &Postgres, random: &mut Random) -> Option<RoundOutcome> {
        let request = self.requests.pop_front()?;
        let outcome = match &request {
            _ if random.once_in(12) => None,
            RoundRequest::Open(_) => match self.open(postgres) {
                None => {
                    // Its position comes with the next step.
                    self.requests.push_front(request);
                    return None;
                }
                opened => opened.map(RoundOutcome::Opened),
            },
            RoundRequest::Ask(questions) => self.ask(questions, postgres).map(RoundOutcome::Answered),
            RoundRequest::Close => None,
        };
        if outcome.is_none() {
            self.close();
        }
        let failed = (request != RoundRequest::Close).then_some(RoundOutcome::Failed(None));
        outcome.or(failed)
    }

    fn open(&mut self, postgres: &Postgres) -> Option<SnapshotFilter> {
        let first = self.faults.has(Fault::NotesPositionOfMoveFirst);
        let mut filter = self.session.open_with(postgres, first)?;
        if self.faults.has(Fault::OpensMoveTooEarly) {
            // As if it held everything that was read.
            filter.bounds.xip.clear();
            filter.bounds.xmax += 1_000;
        }
        Some(filter)
    }

    fn ask(&self, questions: &[String], postgres: &Postgres) -> Option<Vec<Vec<u8>>> {
        let tables = self.session.session.tables()?;
        let now = self.faults.has(Fault::AnswersMoveLate).then(|| postgres.snapshot().1);
        let seen = now.as_ref().unwrap_or(tables);
        Some(questions.iter().map(|sql| questions::answer(sql, seen)).collect())
    }
}
