//! A session inside a snapshot.

use super::{Postgres, Tables};
use limn_core::pg::{SnapshotBounds, SnapshotFilter};

/// A session that takes a snapshot, and answers from it.
#[derive(Debug, Default)]
pub struct Session(State);

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    /// The snapshot is taken, its position is being asked for.
    Taken(SnapshotBounds, Box<Tables>),
    Open(Box<Tables>),
}

impl Session {
    /// Takes the next of two steps: to a new snapshot, then to its position. Tells what the snapshot holds once both are
    /// done.
    pub fn open(&mut self, postgres: &Postgres) -> Option<SnapshotFilter> {
        match std::mem::take(&mut self.0) {
            State::Taken(bounds, tables) => {
                self.0 = State::Open(tables);
                Some(SnapshotFilter { bounds, ends_at: postgres.wal_end() })
            }
            State::Closed | State::Open(_) => {
                let (bounds, tables) = postgres.snapshot();
                self.0 = State::Taken(bounds, Box::new(tables));
                None
            }
        }
    }

    /// The tables, as the snapshot shows them, where it is open.
    #[must_use]
    pub const fn tables(&self) -> Option<&Tables> {
        match &self.0 {
            State::Open(tables) => Some(tables),
            State::Closed | State::Taken(..) => None,
        }
    }
}
