//! Requests for a log: when one is answered and with what, when it waits and for what.
//!
//! [`Reading`] decides about the reply to one request, [`EventStream`] about what follows the head of a stream of
//! events. The owner reads the log and tells what it found as a [`Look`]; the machine says what to send, or until when
//! to wait and for what before the next look. Times count from the beginning of the request or of the stream.
//!
//! The owner subscribes to the shape's changes *before* it looks: a change between look and wait then ends the wait.

mod event_stream;
mod reply;
#[cfg(test)]
mod tests;

pub use event_stream::{EventStream, NextEvents};
pub use reply::{Answer, Awaited, Next, Reading, Refuse, Wait};

use super::shape_log::{LogRange, Read};
use crate::protocol::request::{RequestOffset, ShapeRequest};
use crate::{Lsn, Offset};
use std::ops::Range;
use std::time::Duration;

/// The state of the server, as far as it matters to one shape: it decides whether replies may say up-to-date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Postgres is followed, and nothing is known to be wrong with the shape's tables.
    Active,
    /// Another server's folder is followed instead: the log is as far as that server made it durable.
    ReadOnly,
    /// Postgres is not followed, or cannot be believed. May pass within seconds.
    Away,
    /// Postgres is followed, and one of the shape's tables has a fault, which somebody must mend.
    Faulty,
}

impl Standing {
    /// True where replies may say up-to-date.
    #[must_use]
    pub const fn is_current(self) -> bool {
        matches!(self, Self::Active | Self::ReadOnly)
    }
}

/// One look at a shape's log: the result of a read, and the state of the server at that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The time since the request or the stream began.
    pub now: Duration,
    /// The read behind the client's offset, never [`Read::Search`]; `None` where the shape was dropped.
    pub read: Option<Read>,
    /// The state from which the read's [`Clock`](super::Clock) was made.
    pub standing: Standing,
    /// Whether the server is about to end: nothing is waited for any more.
    pub is_stopping: bool,
}

impl Look {
    /// Where the client is after it was sent what was read; `None` where there is nothing to send or to say yet.
    #[must_use]
    pub fn offset(&self) -> Option<Offset> {
        self.read.as_ref().and_then(destination).map(|(offset, _)| offset)
    }

    /// [`LogReply::segment_start`](crate::protocol::reply::LogReply::segment_start) of a reply that sends what was read.
    #[must_use]
    pub fn segment_start(&self) -> u64 {
        match &self.read {
            Some(Read::Changes { range, .. }) => range.start.byte,
            _ => 0,
        }
    }
}

/// How a client reads a log: the parameters `live` and `live_sse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `offset=now`: where the log ends.
    Now,
    /// The rest of the log, without a wait.
    CatchUp,
    /// The rest of the log; at its end the reply waits for the next change.
    LongPoll,
    /// The rest of the log and all that follows, as a stream of events.
    Events,
}

impl Mode {
    /// The kind that a request's parameters choose.
    #[must_use]
    pub const fn of(request: &ShapeRequest) -> Self {
        match (request.offset, request.live, request.live_sse) {
            (RequestOffset::Now, ..) => Self::Now,
            (_, _, true) => Self::Events,
            (_, true, false) => Self::LongPoll,
            (_, false, false) => Self::CatchUp,
        }
    }
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// Bytes of the snapshot.
    Snapshot(Range<u64>),
    /// Items of the change log.
    Changes(LogRange),
    /// No item.
    Nothing,
}

impl Part {
    /// [`LogReply::segment_start`](crate::protocol::reply::LogReply::segment_start) of a reply that sends the part.
    #[must_use]
    pub const fn segment_start(&self) -> u64 {
        match self {
            Self::Changes(range) => range.start.byte,
            Self::Snapshot(_) | Self::Nothing => 0,
        }
    }
}

/// Where a client is after it was sent what was read, and the LSN to name there; `None` where there is nothing to send
/// or to say yet.
const fn destination(read: &Read) -> Option<(Offset, Option<Lsn>)> {
    match *read {
        Read::Snapshot { offset, .. } => Some((offset, None)),
        Read::Changes { offset, up_to_date, .. } | Read::End { offset, up_to_date } => {
            Some((offset, up_to_date))
        }
        Read::Pending | Read::Ahead | Read::Search => None,
    }
}

/// The LSN that a live reply names behind rows: that of its last row (protocol §6.1), so that the reply is the same for
/// every client that waited. Behind a move the rows are further than their offset tells.
fn lsn_behind_live_rows(has_moves: bool, offset: Offset, greatest: Lsn) -> Lsn {
    if has_moves { greatest } else { Lsn::new(offset.tx()) }
}
