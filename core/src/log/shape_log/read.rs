//! Reads of a log: which bytes answer an offset, and which LSN a reply may name.
//!
//! This is the only place that decides whether what was read is up to date, and up to which LSN. What a request then
//! gets, [`Reading`](crate::log::Reading) decides.

use super::{Changes, ShapeLog};
use crate::log::compaction::SegmentStart;
use crate::{Lsn, Offset};
use std::ops::Range;

/// The server's position in the replication stream when a reader opens a log.
///
/// Take it *before* the log is locked: `processed` then never runs ahead of what is visible in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The commit LSN of the last transaction that every shape's log shows.
    pub processed: Lsn,
    /// Whether Postgres is followed, and nothing is known to be wrong with the shape's tables: the end of a
    /// log is called up to date only then.
    pub is_current: bool,
}

/// The part of a log behind an offset, and the position that a reply may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A part of the snapshot; `end` is `None` while its chunk is still being written.
    Snapshot {
        /// Byte position of the chunk in the snapshot.
        start: u64,
        /// Byte position behind the chunk.
        end: Option<u64>,
        /// Where the client is after it.
        offset: Offset,
    },
    /// Items of the change log.
    Changes {
        /// Where they are.
        range: LogRange,
        /// Where the client is after them.
        offset: Offset,
        /// True where the same read gives the same bytes until the log is compacted, and always the same rows.
        closed: bool,
        /// The greatest LSN that the reply may name, where it may say up-to-date: nothing follows, and the server
        /// is current.
        up_to_date: Option<Lsn>,
    },
    /// Nothing follows the offset.
    End {
        /// The later of the asked offset and the log's last.
        offset: Offset,
        /// The greatest LSN that the reply may name; `None` while the server is not current, so that nothing may
        /// be called up to date.
        up_to_date: Option<Lsn>,
    },
    /// Nothing can be sent or said yet: the next chunk of the snapshot is not written, the stream has not come up
    /// to the snapshot, or the log holds more than the shape's visible part.
    Pending,
    /// The offset lies beyond the log, and beyond what the server has processed.
    Ahead,
    /// The offset lies inside the flushed part: [search](ShapeLog::index_search) the segment's index for the byte position
    /// behind the last item at or before it, then ask [`ShapeLog::read_at`].
    Search,
}

/// Items of a change log, as one segment of it has them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogRange {
    /// The segment. It is there for some time after another one has taken its place.
    pub start: SegmentStart,
    /// Byte positions in the change log.
    pub bytes: Range<u64>,
}

/// Where in a segment's index an offset is to be searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexSearch {
    /// Which segment.
    pub start: SegmentStart,
    /// The number of its entries that count.
    pub entries: u64,
}

/// A byte position in the change log that a segment's index gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The segment.
    pub start: SegmentStart,
    /// The position.
    pub byte: u64,
}

impl ShapeLog {
    /// The log behind `after`, and the position that may be named. An offset beyond the log, but not beyond what is processed,
    /// is the end: the log simply has nothing there.
    #[must_use]
    pub fn read(&self, after: Offset, clock: Clock) -> Read {
        if let Some(read) = self.read_snapshot(after) {
            return read;
        }
        let published = self.last_offset();
        if after > published {
            let is_known = after.tx() <= self.shown_up_to(clock).as_u64();
            return if is_known { self.end(after, clock) } else { Read::Ahead };
        }
        if after == published {
            return self.end(after, clock);
        }
        self.locate(after).map_or(Read::Search, |position| self.read_behind(after, position, clock))
    }

    /// The log behind `after`, whose item ends where the segment's index says. [`Read::Search`] where that is another
    /// segment by now.
    #[must_use]
    pub fn read_at(&self, after: Offset, found: Found, clock: Clock) -> Read {
        if found.start != self.start() && found.byte < self.differs_up_to() {
            return Read::Search;
        }
        self.read_behind(after, found.byte, clock)
    }

    /// The entries of the segment's index among which a visible offset is to be searched. Those of items that are not
    /// visible may be missing where another process writes the segment: a start cuts off what belongs to a transaction
    /// that its commit log does not have to the end.
    #[must_use]
    pub fn index_search(&self) -> IndexSearch {
        let (start, changes) = (self.start(), self.changes());
        let entries = changes.flushed_items.min(changes.published_items).saturating_sub(start.item);
        IndexSearch { start, entries }
    }

    fn read_behind(&self, after: Offset, position: u64, clock: Clock) -> Read {
        let Changes { chunks, published_bytes, published_offset, .. } = self.changes();
        let (published_bytes, published_offset) = (*published_bytes, *published_offset);
        if position >= published_bytes {
            return self.end(after.max(published_offset), clock);
        }
        let closed = chunks.closed();
        let chunk = closed.partition_point(|chunk| chunk.end <= position);
        let chunk = closed.get(chunk).filter(|chunk| chunk.end <= published_bytes);
        let (end, offset) = chunk.map_or((published_bytes, published_offset), |chunk| {
            (chunk.end, Offset::new(chunk.tx, chunk.op))
        });
        let is_last = offset >= published_offset;
        let up_to_date = (is_last && self.is_complete(offset)).then(|| self.lsn_at(offset, clock)).flatten();
        // A chunk that ends the log is closed only once something follows: what a reply says of the end changes.
        let range = LogRange { start: self.start(), bytes: position..end };
        Read::Changes { range, offset, closed: chunk.is_some() && !is_last, up_to_date }
    }

    /// The end of the log, for a client that has none of its rows: those may be ahead of the LSN.
    #[must_use]
    pub fn read_end(&self, clock: Clock) -> Read {
        let offset = self.last_offset();
        Read::End { offset, up_to_date: self.lsn_at(offset, clock) }
    }

    fn end(&self, offset: Offset, clock: Clock) -> Read {
        if self.is_complete(offset) {
            Read::End { offset, up_to_date: self.lsn_at(offset, clock) }
        } else {
            Read::Pending
        }
    }

    /// Whether the visible items up to `offset` are the rows at some LSN that can be named. They are not before the
    /// stream has come up to the snapshot, nor where a crash left more in the log than its visible part.
    fn is_complete(&self, offset: Offset) -> bool {
        self.is_joined && self.visible_up_to().is_none_or(|up_to| offset.tx() <= up_to.as_u64())
    }

    /// The greatest LSN whose changes are all among the items up to `offset`, which is the log's end.
    fn lsn_at(&self, offset: Offset, clock: Clock) -> Option<Lsn> {
        let lsn = self.shown_up_to(clock).max(self.covered_up_to).max(Lsn::new(offset.tx()));
        clock.is_current.then_some(lsn)
    }

    /// The commit LSN up to which the log shows what the server has processed.
    fn shown_up_to(&self, clock: Clock) -> Lsn {
        self.visible_up_to().map_or(clock.processed, |up_to| up_to.min(clock.processed))
    }

    fn read_snapshot(&self, after: Offset) -> Option<Read> {
        let chunk = match after {
            Offset::Start => 0,
            Offset::At { tx: 0, op: crate::Op::Number(op) } => op.checked_add(1)?,
            Offset::At { .. } => return None,
        };
        // A chunk number beyond the address space is beyond the snapshot as well.
        let index = usize::try_from(chunk).ok()?;
        let start = index.checked_sub(1).map_or(Some(0), |previous| self.snapshot.chunk_end(previous));
        let offset = Offset::snapshot_chunk(chunk);
        match (start, self.snapshot.chunk_end(index)) {
            (Some(start), Some(end)) => Some(Read::Snapshot { start, end: Some(end), offset }),
            _ if self.snapshot.is_complete() => None,
            (Some(start), None) if chunk == 0 => Some(Read::Snapshot { start, end: None, offset }),
            _ => Some(Read::Pending),
        }
    }

    /// The byte position behind the last item at or before `after`; `None` where only the segment's index
    /// knows.
    fn locate(&self, after: Offset) -> Option<u64> {
        if after.is_virtual() {
            return Some(self.start().byte);
        }
        let Changes { chunks, flushed_bytes, flushed_offset, marks, .. } = self.changes();
        if after >= *flushed_offset || *flushed_bytes == 0 {
            let next = marks.partition_point(|mark| Offset::new(mark.tx, mark.op) <= after);
            let before = next.checked_sub(1).and_then(|index| marks.get(index));
            return Some(before.map_or(*flushed_bytes, |mark| mark.end));
        }
        let closed = chunks.closed();
        let chunk = closed.binary_search_by_key(&after, |chunk| Offset::new(chunk.tx, chunk.op));
        chunk.ok().and_then(|index| closed.get(index)).map(|chunk| chunk.end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SnapshotProgress;
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const LAST: Offset = Offset::new(100, 0);

    /// A log whose one transaction committed at 100, in the segment or in memory.
    fn log(is_joined: bool, visible_up_to: Option<u64>, is_flushed: bool) -> ShapeLog {
        let mut log = ShapeLog::new(1_000);
        log.handle_snapshot_progress(SnapshotProgress {
            bytes: 2,
            chunk_ends: vec![2],
            complete: true,
            pack: None,
        });
        log.append(90, 0, b"{}");
        log.append(100, 0, b"{}");
        log.commit();
        log.set_visible_up_to(visible_up_to.map(Lsn::new), Lsn::ZERO);
        if is_joined {
            log.handle_joined();
        }
        if is_flushed {
            log.handle_flushed();
        }
        log
    }

    /// Reads as a server does, by way of the index where the log asks for it.
    fn read(log: &ShapeLog, after: Offset, clock: Clock) -> Read {
        match log.read(after, clock) {
            Read::Search => log.read_at(after, Found { start: SegmentStart::default(), byte: 3 }, clock),
            read => read,
        }
    }

    /// The up-to-date message at the end of a reply.
    #[derive(Debug, PartialEq)]
    enum Said {
        UpTo(u64),
        Nothing,
        NotYet,
    }

    #[test]
    fn a_reply_says_up_to_date_where_all_of_this_holds() {
        // Joined, visible up to, current; then what follows the rows, and what is said where there are none.
        let table = [
            (true, None, true, Said::UpTo(150), Said::UpTo(150)),
            (true, None, false, Said::Nothing, Said::Nothing),
            (true, Some(120), true, Said::UpTo(120), Said::UpTo(120)),
            (true, Some(120), false, Said::Nothing, Said::Nothing),
            // A crash left more in the log than its visible part.
            (true, Some(99), true, Said::Nothing, Said::NotYet),
            (true, Some(99), false, Said::Nothing, Said::NotYet),
            (false, None, true, Said::Nothing, Said::NotYet),
            (false, None, false, Said::Nothing, Said::NotYet),
            (false, Some(120), true, Said::Nothing, Said::NotYet),
        ];
        let said = |lsn: Option<Lsn>| lsn.map_or(Said::Nothing, |lsn| Said::UpTo(lsn.as_u64()));
        for (is_joined, visible_up_to, is_current, behind_rows, at_end) in table {
            for is_flushed in [false, true] {
                let log = log(is_joined, visible_up_to, is_flushed);
                let clock = Clock { processed: Lsn::new(150), is_current };
                let case = format!("{is_joined} {visible_up_to:?} {is_current} {is_flushed}");
                for after in [Offset::SNAPSHOT_END, Offset::new(90, 0)] {
                    let Read::Changes { offset, closed, up_to_date, .. } = read(&log, after, clock) else {
                        panic!("{case}: no rows after {after}")
                    };
                    assert_eq!((offset, closed), (LAST, false), "{case}");
                    assert_eq!(said(up_to_date), behind_rows, "{case}: after {after}");
                }
                let end = match read(&log, LAST, clock) {
                    Read::End { offset: LAST, up_to_date } => said(up_to_date),
                    Read::Pending => Said::NotYet,
                    other => panic!("{case}: {other:?}"),
                };
                assert_eq!(end, at_end, "{case}");
                assert!(matches!(read(&log, Offset::Start, clock), Read::Snapshot { .. }), "{case}");
            }
        }
    }

    #[test]
    fn an_offset_is_ahead_of_what_is_visible_whatever_was_processed() {
        let clock = Clock { processed: Lsn::new(150), is_current: true };
        assert_eq!(log(true, Some(120), false).read(Offset::new(130, 0), clock), Read::Ahead);
        let up_to_date = Some(Lsn::new(150));
        let end = Read::End { offset: Offset::new(130, 0), up_to_date };
        assert_eq!(log(true, None, false).read(Offset::new(130, 0), clock), end);
    }

    #[test]
    fn rows_that_a_move_brought_further_than_the_clock_are_named_by_their_lsn() {
        let mut log = log(true, Some(99), false);
        // The move becomes visible after the clock was read.
        let clock = Clock { processed: Lsn::new(110), is_current: true };
        log.set_visible_up_to(None, Lsn::new(140));
        assert_eq!(log.read(LAST, clock), Read::End { offset: LAST, up_to_date: Some(Lsn::new(140)) });
        assert_eq!(log.read_end(clock), log.read(LAST, clock));
    }

    #[test]
    fn the_end_can_be_named_to_who_has_no_rows() {
        let clock = Clock { processed: Lsn::new(150), is_current: true };
        let end = |up_to_date| Read::End { offset: LAST, up_to_date };
        assert_eq!(log(false, None, false).read_end(clock), end(Some(Lsn::new(150))));
        assert_eq!(log(true, None, false).read_end(Clock { is_current: false, ..clock }), end(None));
    }

    #[test]
    fn the_offset_is_named_where_the_clock_lags_behind_it() {
        let clock = Clock { processed: Lsn::new(60), is_current: true };
        let up_to_date = Some(Lsn::new(100));
        assert_eq!(log(true, None, false).read(LAST, clock), Read::End { offset: LAST, up_to_date });
    }
}
