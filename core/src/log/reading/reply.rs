//! The reply to one request.

use super::{Look, Mode, Part, Standing, destination, lsn_behind_live_rows};
use crate::log::shape_log::Read;
use crate::{Lsn, Offset};
use std::time::Duration;

/// How long a read waits for the next chunk of a snapshot that is being written.
pub(super) const CHUNK_WAIT: Duration = Duration::from_secs(30);
/// How long a read that would say up-to-date waits until Postgres is followed.
pub(super) const CURRENT_WAIT: Duration = Duration::from_secs(5);
/// How often the log is read again for a request whose offset lies ahead.
pub(super) const AHEAD_POLL: Duration = Duration::from_millis(100);

/// The next step of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send this.
    Send(Answer),
    /// Look again once the wait is over, or its time.
    Wait(Wait),
    /// Refuse the request.
    Refuse(Refuse),
}

/// A reply with success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A part of the log.
    Part {
        /// Which.
        part: Part,
        /// Where the client is after it.
        offset: Offset,
        /// True where the same read gives the same bytes until the log is compacted, and always the same rows.
        closed: bool,
        /// The LSN to name, where the reply says up-to-date.
        up_to_date: Option<Lsn>,
    },
    /// The first chunk of the snapshot, which is still being written: it is sent as it grows.
    GrowingSnapshot {
        /// Where the client is after it.
        offset: Offset,
    },
    /// That nothing has come, and that the client is up to date.
    NothingNew {
        /// Where the log ends.
        offset: Offset,
        /// The LSN to name.
        lsn: Lsn,
    },
    /// That the client has this reply already.
    NotModified {
        /// Where the client is after it.
        offset: Offset,
        /// [`Look::segment_start`]
        segment_start: u64,
        /// Whether the reply says up-to-date.
        up_to_date: bool,
    },
    /// The head of a stream of events.
    Events {
        /// The end of the first part that it will send.
        offset: Offset,
        /// Whether that is the end of the log.
        up_to_date: bool,
        /// Whether there is anything to send at once.
        has_pending: bool,
    },
}

/// A wait. It also ends where the server is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// The event that ends the wait.
    pub what: Awaited,
    /// When to look again in any case; counts like [`Look::now`].
    pub until: Duration,
}

/// The event that a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// A change of the shape, by a live request that has everything.
    News,
    /// The next chunk of the snapshot, or the LSN from which on its rows can be called up to date.
    Chunk,
    /// The log, to reach the offset of the request.
    Offset,
    /// Postgres, to be followed.
    Current,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refuse {
    /// The shape was dropped: the client starts over (409).
    MustRefetch,
    /// Nothing may be called up to date at the moment (503).
    Away,
    /// The snapshot's next chunk was not written in time (503).
    ChunkMissing,
    /// The offset is none of this log (400).
    OutOfBounds,
    /// The server ends (503).
    Stopping,
}

/// One request for a log, up to its reply.
///
/// Order of calls: [`next`](Self::next) with look after look, until it gives anything but [`Next::Wait`].
#[derive(Debug)]
pub struct Reading {
    mode: Mode,
    long_poll_timeout: Duration,
    has_moves: bool,
    has_waited: bool,
    is_parked: bool,
    /// When the wait for Postgres ends, while there is one.
    current_until: Option<Duration>,
}

impl Reading {
    /// A request that has just come. `has_moves` says whether the shape's log may hold moves.
    #[must_use]
    pub const fn new(mode: Mode, long_poll_timeout: Duration, has_moves: bool) -> Self {
        Self { mode, long_poll_timeout, has_moves, has_waited: false, is_parked: false, current_until: None }
    }

    /// Decides the next step from a look at the log. `is_known`: the client's `if-none-match` lists the tag of the reply
    /// that would send what was read.
    pub fn next(&mut self, look: &Look, is_known: bool) -> Next {
        let Some(read) = &look.read else { return Next::Refuse(Refuse::MustRefetch) };
        if look.standing.is_current() {
            self.current_until = None;
        }
        if let Some((offset, up_to_date)) = destination(read) {
            if is_known && self.may_revalidate() {
                let (up_to_date, segment_start) = (up_to_date.is_some(), look.segment_start());
                return Next::Send(Answer::NotModified { offset, segment_start, up_to_date });
            }
            if self.mode == Mode::Events {
                let has_pending = !matches!(read, Read::End { .. });
                return self.begin(look, offset, up_to_date.is_some(), has_pending);
            }
        }
        match read.clone() {
            Read::Snapshot { end: None, offset, .. } => Next::Send(Answer::GrowingSnapshot { offset }),
            Read::Snapshot { start, end: Some(end), offset } => {
                let part = Part::Snapshot(start..end);
                Next::Send(Answer::Part { part, offset, closed: true, up_to_date: None })
            }
            Read::Changes { range, offset, closed, up_to_date } => {
                let named = |lsn| match self.mode {
                    Mode::LongPoll => lsn_behind_live_rows(self.has_moves, offset, lsn),
                    _ => lsn,
                };
                let (part, up_to_date) = (Part::Changes(range), up_to_date.map(named));
                Next::Send(Answer::Part { part, offset, closed, up_to_date })
            }
            Read::End { offset, up_to_date: Some(lsn) } => self.end(look, offset, lsn),
            Read::End { up_to_date: None, .. } => self.wait_current(look),
            Read::Pending | Read::Search => self.wait_for_chunk(look),
            Read::Ahead => self.wait_for_offset(look),
        }
    }

    /// A live request revalidates only when it comes. A stream of events never does: whoever has its tag may have
    /// received a part of it only. Nor does `offset=now`, whose replies have tags of their own.
    const fn may_revalidate(&self) -> bool {
        !self.has_waited && matches!(self.mode, Mode::CatchUp | Mode::LongPoll)
    }

    /// A stream of events begins while the server is current, and, where it would have to wait at once, not while the
    /// server stops.
    fn begin(&mut self, look: &Look, offset: Offset, up_to_date: bool, has_pending: bool) -> Next {
        if !look.standing.is_current() {
            return self.wait_current(look);
        }
        if look.is_stopping && !has_pending {
            return Next::Refuse(Refuse::Stopping);
        }
        Next::Send(Answer::Events { offset, up_to_date, has_pending })
    }

    /// Nothing follows, and that may be said: a live request waits for news first.
    fn end(&mut self, look: &Look, offset: Offset, lsn: Lsn) -> Next {
        if self.mode == Mode::Now {
            return Next::Send(Answer::NothingNew { offset, lsn });
        }
        if self.mode != Mode::LongPoll {
            let (part, up_to_date) = (Part::Nothing, Some(lsn));
            return Next::Send(Answer::Part { part, offset, closed: false, up_to_date });
        }
        // A request that has waited for news is answered also where the server stops; others come again, to the
        // server's successor.
        let is_over = look.now >= self.long_poll_timeout || (look.is_stopping && self.is_parked);
        if is_over && self.has_waited {
            return Next::Send(Answer::NothingNew { offset, lsn });
        }
        self.is_parked = true;
        self.wait(look, Awaited::News, self.long_poll_timeout)
    }

    /// The end may not be called up to date. That may pass, unless it is for a table's fault.
    fn wait_current(&mut self, look: &Look) -> Next {
        let until = *self.current_until.get_or_insert(look.now + CURRENT_WAIT);
        if look.standing == Standing::Faulty || look.now >= until {
            return Next::Refuse(Refuse::Away);
        }
        self.wait(look, Awaited::Current, until)
    }

    fn wait_for_chunk(&mut self, look: &Look) -> Next {
        if !self.has_waited || look.now < CHUNK_WAIT {
            return self.wait(look, Awaited::Chunk, CHUNK_WAIT);
        }
        Next::Refuse(if look.standing.is_current() { Refuse::ChunkMissing } else { Refuse::Away })
    }

    /// The offset lies beyond the log. Only a server that follows Postgres knows that nothing is there: what the
    /// client has seen elsewhere may be on its way to the others.
    fn wait_for_offset(&mut self, look: &Look) -> Next {
        let limit = self.long_poll_timeout / 2;
        if !self.has_waited || look.now < limit {
            return self.wait(look, Awaited::Offset, limit.min(look.now + AHEAD_POLL));
        }
        Next::Refuse(if look.standing == Standing::Active { Refuse::OutOfBounds } else { Refuse::Away })
    }

    const fn wait(&mut self, look: &Look, what: Awaited, until: Duration) -> Next {
        if look.is_stopping {
            return Next::Refuse(Refuse::Stopping);
        }
        self.has_waited = true;
        Next::Wait(Wait { what, until })
    }
}
