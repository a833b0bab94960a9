//! Up to which LSN the stream is durable: what may be confirmed to Postgres at most (invariant 4).
//! [`store::Logs::confirmable`](crate::store::Logs::confirmable), which alone asks it, holds more back for shapes with
//! subqueries.
//!
//! Postgres forgets what is confirmed, so nothing is confirmed that a crash of ours could lose: the end of
//! the last transaction whose bytes are durable, or, with nothing open and nothing unsynced, the position
//! the keepalive reports.
//!
//! Order of calls: `handle_begin`, `handle_commit` per transaction; `handle_synced` as the commit log
//! reports; `handle_keepalive` in between; [`FlushTracker::confirmable`] at any time.

use super::pending::Ticket;
use crate::Lsn;
use std::collections::VecDeque;

/// The machine that follows transactions from Postgres to the disk.
#[derive(Debug, Default)]
pub struct FlushTracker {
    in_transaction: bool,
    /// Transactions whose bytes are not durable yet, as (ticket, end LSN), oldest first.
    unsynced: VecDeque<(Ticket, Lsn)>,
    confirmable: Lsn,
}

impl FlushTracker {
    /// A tracker that starts at the position that Postgres has confirmed already.
    #[must_use]
    pub const fn new(confirmed: Lsn) -> Self {
        Self { in_transaction: false, unsynced: VecDeque::new(), confirmable: confirmed }
    }

    /// A transaction starts.
    pub const fn handle_begin(&mut self) {
        self.in_transaction = true;
    }

    /// The transaction that ends at `end` was handed to the commit log under `ticket`, or touched no shape
    /// (`None`). Tickets increase.
    pub fn handle_commit(&mut self, end: Lsn, ticket: Option<Ticket>) {
        self.in_transaction = false;
        match (ticket, self.unsynced.back_mut()) {
            (Some(ticket), _) => self.unsynced.push_back((ticket, end)),
            // Nothing of its own to sync, but it may not overtake the one before.
            (None, Some(last)) => last.1 = end,
            (None, None) => self.confirmable = self.confirmable.max(end),
        }
    }

    /// Everything up to and including `ticket` is durable.
    pub fn handle_synced(&mut self, ticket: Ticket) {
        while let Some((_, end)) = self.unsynced.pop_front_if(|(waiting, _)| *waiting <= ticket) {
            self.confirmable = self.confirmable.max(end);
        }
    }

    /// Postgres says that its WAL ends at `wal_end` and that we have been sent everything before.
    pub fn handle_keepalive(&mut self, wal_end: Lsn) {
        if !self.in_transaction && self.unsynced.is_empty() {
            self.confirmable = self.confirmable.max(wal_end);
        }
    }

    /// The LSN that may be confirmed as flushed now. Never decreases.
    #[must_use]
    pub const fn confirmable(&self) -> Lsn {
        self.confirmable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn lsn(position: u64) -> Lsn {
        Lsn::new(position)
    }

    #[test]
    fn nothing_is_confirmed_before_it_is_durable() {
        let mut flush = FlushTracker::new(lsn(10));
        flush.handle_begin();
        flush.handle_commit(lsn(20), Some(Ticket::new(1)));
        flush.handle_commit(lsn(30), Some(Ticket::new(2)));
        flush.handle_keepalive(lsn(90));
        assert_eq!(flush.confirmable(), lsn(10));
        flush.handle_synced(Ticket::new(1));
        assert_eq!(flush.confirmable(), lsn(20));
        flush.handle_keepalive(lsn(90));
        assert_eq!(flush.confirmable(), lsn(20));
        flush.handle_synced(Ticket::new(2));
        flush.handle_keepalive(lsn(90));
        assert_eq!(flush.confirmable(), lsn(90));
    }

    #[test]
    fn a_transaction_without_shapes_does_not_overtake() {
        let mut flush = FlushTracker::new(lsn(10));
        flush.handle_commit(lsn(20), Some(Ticket::new(1)));
        flush.handle_commit(lsn(30), None);
        assert_eq!(flush.confirmable(), lsn(10));
        flush.handle_synced(Ticket::new(1));
        assert_eq!(flush.confirmable(), lsn(30));
        flush.handle_commit(lsn(40), None);
        assert_eq!(flush.confirmable(), lsn(40));
    }

    #[test]
    fn an_open_transaction_holds_the_keepalive_back() {
        let mut flush = FlushTracker::new(lsn(10));
        flush.handle_begin();
        flush.handle_keepalive(lsn(50));
        assert_eq!(flush.confirmable(), lsn(10));
    }

    #[test]
    fn confirmation_never_goes_back() {
        let mut flush = FlushTracker::new(lsn(10));
        flush.handle_keepalive(lsn(50));
        flush.handle_commit(lsn(20), None);
        flush.handle_keepalive(lsn(15));
        assert_eq!(flush.confirmable(), lsn(50));
    }
}
