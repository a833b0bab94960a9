//! The body of a stream of events: items, up-to-date messages, keep-alive comments and the end (protocol §6.3).

use super::{Look, Part, lsn_behind_live_rows};
use crate::log::shape_log::Read;
use crate::{Lsn, Offset};
use std::time::Duration;

/// After this time a stream ends as soon as it has sent everything.
const STREAM_TIMEOUT: Duration = Duration::from_secs(60);
/// The silence after which a comment keeps proxies awake.
const KEEP_ALIVE: Duration = Duration::from_secs(21);

/// One client's stream of events. Unlike Electric's it goes on across chunk boundaries.
///
/// Order of calls: [`next`](Self::next) with look after look, each read after [`after`](Self::after), until it gives
/// [`NextEvents::End`]; [`handle_sent`](Self::handle_sent) whenever bytes have gone out.
#[derive(Debug)]
pub struct EventStream {
    after: Offset,
    has_moves: bool,
    /// A stream that began with pending items ends with them: the client comes again from there.
    ends_when_caught_up: bool,
    /// Items were sent that no up-to-date message has followed: the client does not move on by them yet.
    is_open: bool,
    keep_alive_at: Duration,
}

/// The next step of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextEvents {
    /// Send the items of a part, then an up-to-date message where there is an LSN to name.
    Send {
        /// Which part.
        part: Part,
        /// The LSN to name.
        up_to_date: Option<Lsn>,
    },
    /// Send a comment.
    KeepAlive,
    /// Look again once the shape has changed, or at this time; counts like [`Look::now`].
    Wait(Duration),
    /// End the stream. The client's next request is told why.
    End,
}

impl EventStream {
    /// A stream that begins behind `after`. `has_pending` says whether there was anything to send at that time,
    /// `has_moves` whether the shape's log may hold moves.
    #[must_use]
    pub const fn new(after: Offset, has_pending: bool, has_moves: bool) -> Self {
        Self { after, has_moves, ends_when_caught_up: has_pending, is_open: false, keep_alive_at: KEEP_ALIVE }
    }

    /// Behind which offset to read.
    #[must_use]
    pub const fn after(&self) -> Offset {
        self.after
    }

    /// Bytes have gone out.
    pub fn handle_sent(&mut self, now: Duration) {
        self.keep_alive_at = now + KEEP_ALIVE;
    }

    /// Decides the next step from a look at the log behind [`after`](Self::after).
    pub fn next(&mut self, look: &Look) -> NextEvents {
        let Some(read) = look.read.clone().filter(|_| look.standing.is_current()) else {
            return NextEvents::End;
        };
        match read {
            Read::Changes { range, offset, up_to_date, .. } => {
                (self.after, self.is_open) = (offset, up_to_date.is_none());
                let named = |lsn| lsn_behind_live_rows(self.has_moves, offset, lsn);
                NextEvents::Send { part: Part::Changes(range), up_to_date: up_to_date.map(named) }
            }
            Read::Snapshot { start, end: Some(end), offset } => {
                (self.after, self.is_open) = (offset, true);
                NextEvents::Send { part: Part::Snapshot(start..end), up_to_date: None }
            }
            // Nothing but an up-to-date message moves the client on: one follows the rows of a snapshot too.
            Read::End { up_to_date, .. } if self.is_open => {
                self.is_open = false;
                NextEvents::Send { part: Part::Nothing, up_to_date }
            }
            Read::End { .. } if self.ends_when_caught_up => NextEvents::End,
            Read::End { .. } | Read::Pending => self.wait(look),
            Read::Snapshot { end: None, .. } | Read::Ahead | Read::Search => NextEvents::End,
        }
    }

    fn wait(&self, look: &Look) -> NextEvents {
        if look.is_stopping || look.now >= STREAM_TIMEOUT {
            return NextEvents::End;
        }
        if look.now >= self.keep_alive_at {
            return NextEvents::KeepAlive;
        }
        NextEvents::Wait(self.keep_alive_at.min(STREAM_TIMEOUT))
    }
}
