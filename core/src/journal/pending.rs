//! Records on their way to the commit log, and the tickets under which they become durable.

use super::record::{Record, encode_commit, encode_items};
use crate::Lsn;
use crate::log::{Fragment, Rope};

/// The number of a piece of the commit log. Pieces are written, and become durable, in the order of their tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(u64);

impl Ticket {
    /// Before the first piece: what has this ticket is durable from the start.
    pub const ZERO: Self = Self(0);

    /// A ticket from its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The ticket of the next piece.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Records that are not handed to the commit log's writer yet. They all become one piece, so that the ticket of each
/// is known when it is pushed.
#[derive(Debug, Default)]
pub struct Pending {
    bytes: Rope,
    /// The ticket of the last piece that was handed on.
    handed_on: Ticket,
}

impl Pending {
    /// Adds a record and returns its ticket.
    pub fn push(&mut self, record: &Record) -> Ticket {
        self.push_with(|out| record.encode_shared(out))
    }

    /// Adds a record that `encode` appends as a frame.
    pub fn push_with(&mut self, encode: impl FnOnce(&mut Rope)) -> Ticket {
        encode(&mut self.bytes);
        self.handed_on.next()
    }

    /// Adds the items of a transaction, as [`Record::Items`].
    pub fn push_items(&mut self, fragment: &Fragment) -> Ticket {
        encode_items(&mut self.bytes, fragment);
        self.handed_on.next()
    }

    /// Adds the end of a transaction, as [`Record::Commit`].
    pub fn push_commit(&mut self, commit: Lsn) -> Ticket {
        encode_commit(&mut self.bytes, commit.as_u64());
        self.handed_on.next()
    }

    /// The ticket with which everything is durable that was pushed so far.
    #[must_use]
    pub fn last_ticket(&self) -> Ticket {
        if self.bytes.is_empty() { self.handed_on } else { self.handed_on.next() }
    }

    /// Bytes that are not handed on yet.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Hands on what was pushed, as the next piece; `None` where that is nothing.
    pub fn take(&mut self) -> Option<(Ticket, Rope)> {
        if self.bytes.is_empty() {
            return None;
        }
        self.handed_on = self.handed_on.next();
        Some((self.handed_on, std::mem::take(&mut self.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShapeId;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn what_is_pushed_has_the_ticket_of_the_next_piece() {
        let mut pending = Pending::default();
        assert_eq!((pending.last_ticket(), pending.take().is_none()), (Ticket::ZERO, true));
        let first = pending.push(&Record::Removed(ShapeId(1)));
        assert_eq!(first, Ticket::new(1));
        assert_eq!(pending.push_commit(Lsn::new(70)), first);
        assert_eq!(pending.last_ticket(), first);
        let length = pending.len_bytes();
        let (ticket, bytes) = pending.take().unwrap();
        assert_eq!((ticket, bytes.len(), pending.len_bytes()), (first, length, 0));
        assert_eq!(pending.last_ticket(), first, "nothing was pushed since");
        assert_eq!(pending.push_items(&Fragment::new(80)), Ticket::new(2));
    }
}
