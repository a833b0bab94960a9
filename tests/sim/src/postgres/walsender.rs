//! A replication connection: what the slot sends, frame by frame.

use super::leaf::LEAVES;
use super::{Postgres, frame};
use std::collections::VecDeque;

/// A message on the replication connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A pgoutput message, and its position in the WAL.
    XLogData(u64, Vec<u8>),
    /// Everything that commits before was sent.
    Keepalive(u64),
}

/// One connection.
#[derive(Debug)]
pub struct Walsender {
    /// The next transaction of the WAL.
    next: usize,
    described: [bool; LEAVES.len()],
    queue: VecDeque<(u64, Vec<u8>)>,
}

impl Walsender {
    /// Starts where the slot was told to.
    #[must_use]
    pub fn start(postgres: &Postgres) -> Self {
        let next = postgres.wal.partition_point(|transaction| transaction.commit < postgres.confirmed);
        Self { next, described: [false; LEAVES.len()], queue: VecDeque::new() }
    }

    /// The next frame; `None` while there is nothing to send.
    pub fn next(&mut self, postgres: &Postgres) -> Option<Frame> {
        if self.queue.is_empty() {
            let transaction = postgres.wal.get(self.next)?;
            self.next += 1;
            self.queue.extend(frame::frames(transaction, &mut self.described));
        }
        self.queue.pop_front().map(|(at, bytes)| Frame::XLogData(at, bytes))
    }

    /// A keepalive, which may come between any two frames.
    #[must_use]
    pub fn keepalive(&self, postgres: &Postgres) -> Frame {
        let open = if self.queue.is_empty() { self.next } else { self.next - 1 };
        let unsent = postgres.wal.get(open).map(|transaction| transaction.commit);
        Frame::Keepalive(unsent.unwrap_or(postgres.wal_end))
    }

    /// True where everything was sent.
    #[must_use]
    pub fn is_idle(&self, postgres: &Postgres) -> bool {
        self.queue.is_empty() && self.next == postgres.wal.len()
    }
}
