//! A session inside a snapshot.

use crate::fault::{Fault, Faults};
use crate::postgres::{self, Postgres, Tables};
use crate::questions;
use limn_core::pg::SnapshotFilter;

/// A session inside a snapshot of new shapes, or of a move.
#[derive(Debug, Default)]
pub struct Session {
    session: postgres::Session,
    /// The end of the WAL before the snapshot, where a bug takes that for its position.
    before: Option<u64>,
}

impl Session {
    /// Takes the next step to a snapshot for new shapes ([`postgres::Session::open`]).
    pub fn open(&mut self, postgres: &Postgres, faults: Faults) -> Option<SnapshotFilter> {
        self.open_with(postgres, faults.has(Fault::NotesPositionFirst))
    }

    /// The same for a move.
    pub fn open_for_move(&mut self, postgres: &Postgres, faults: Faults) -> Option<SnapshotFilter> {
        let mut filter = self.open_with(postgres, faults.has(Fault::NotesPositionOfMoveFirst))?;
        if faults.has(Fault::OpensMoveTooEarly) {
            // As if it held everything that was read.
            filter.bounds.xip.clear();
            filter.bounds.xmax += 1_000;
        }
        Some(filter)
    }

    fn open_with(&mut self, postgres: &Postgres, notes_position_first: bool) -> Option<SnapshotFilter> {
        let before = self.before.replace(postgres.wal_end()).filter(|_| notes_position_first);
        let filter = self.session.open(postgres)?;
        let ends_at = before.map_or(filter.ends_at, |before| before.saturating_sub(200));
        Some(SnapshotFilter { ends_at, ..filter })
    }

    /// The tables, as the snapshot shows them, where it is open.
    #[must_use]
    pub const fn tables(&self) -> Option<&Tables> {
        self.session.tables()
    }

    /// The answers to a move's questions, where the snapshot is open.
    #[must_use]
    pub fn ask(&self, questions: &[String], postgres: &Postgres, faults: Faults) -> Option<Vec<Vec<u8>>> {
        let now = faults.has(Fault::AnswersMoveLate).then(|| postgres.snapshot().1);
        let seen = now.as_ref().or(self.tables()).filter(|_| self.tables().is_some())?;
        Some(questions.iter().map(|sql| questions::answer(sql, seen)).collect())
    }
}
