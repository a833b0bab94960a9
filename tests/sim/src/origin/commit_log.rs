//! The commit log's queue, and the thread that empties it as a step of its own.

use crate::files::Files;
use limn_core::journal::Ticket;
use limn_disk::{CommitWriter, Piece};
use std::collections::VecDeque;
use std::io;

/// The queue, and who writes it.
#[derive(Debug)]
pub(super) struct CommitLog {
    queue: VecDeque<Piece>,
    /// The last ticket that the writer has reported as durable.
    durable: Ticket,
    writer: CommitWriter<Files>,
}

impl CommitLog {
    pub(super) const fn new(writer: CommitWriter<Files>) -> Self {
        Self { queue: VecDeque::new(), durable: Ticket::ZERO, writer }
    }

    pub(super) const fn durable(&self) -> Ticket {
        self.durable
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn queue(&mut self, piece: Piece) {
        self.queue.push_back(piece);
    }

    /// Writes up to `pieces_max` of what is queued, as one group.
    pub(super) fn write_group(&mut self, pieces_max: usize) -> io::Result<()> {
        let mut pieces = std::iter::from_fn(|| self.queue.pop_front()).take(pieces_max);
        let last = self.writer.write_group(|| pieces.next(), |_, write_and_sync| write_and_sync())?;
        self.durable = last.unwrap_or(self.durable);
        Ok(())
    }
}
