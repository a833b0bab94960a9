//! Reads of a log: which bytes answer an offset.

use super::ShapeLog;
use crate::Offset;
use std::ops::Range;

/// The answer to "what comes after this offset?".
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
        /// Byte range in the change log.
        bytes: Range<u64>,
        /// Where the client is after them.
        offset: Offset,
        /// True where the same read gives the same bytes for ever.
        closed: bool,
        /// True where nothing follows.
        up_to_date: bool,
    },
    /// Nothing follows the offset; `offset` is where the client stands.
    UpToDate {
        /// The later of the asked offset and the log's last.
        offset: Offset,
    },
    /// The snapshot chunk that follows is not written yet.
    Pending,
    /// The offset lies beyond the log.
    Ahead,
    /// The offset lies inside the flushed part: find the byte position behind the last item at or before
    /// it among the segment's index entries, then ask [`ShapeLog::read_at`].
    Search,
}

impl ShapeLog {
    /// What comes after `after`. `processed` is the commit LSN up to which the WAL has been read: an
    /// offset beyond the log but not beyond it is no error (the log simply has nothing there).
    #[must_use]
    pub fn read(&self, after: Offset, processed: u64) -> Read {
        if let Some(read) = self.read_snapshot(after) {
            return read;
        }
        if after > self.published_offset {
            return if after.tx() <= processed { Read::UpToDate { offset: after } } else { Read::Ahead };
        }
        self.locate(after).map_or(Read::Search, |position| self.read_at(after, position))
    }

    /// What comes after `after`, whose item ends at byte `position` of the change log.
    #[must_use]
    pub fn read_at(&self, after: Offset, position: u64) -> Read {
        if position >= self.published_bytes {
            return Read::UpToDate { offset: after.max(self.published_offset) };
        }
        let chunk = self.closed.partition_point(|chunk| chunk.end <= position);
        match self.closed.get(chunk).filter(|chunk| chunk.end <= self.published_bytes) {
            Some(chunk) => {
                let offset = Offset::new(chunk.tx, chunk.op);
                let up_to_date = offset >= self.published_offset;
                Read::Changes { bytes: position..chunk.end, offset, closed: !up_to_date, up_to_date }
            }
            None => Read::Changes {
                bytes: position..self.published_bytes,
                offset: self.published_offset,
                closed: false,
                up_to_date: true,
            },
        }
    }

    fn read_snapshot(&self, after: Offset) -> Option<Read> {
        let chunk = match after {
            Offset::Start => 0,
            Offset::At { tx: 0, op: crate::Op::Number(op) } => op.checked_add(1)?,
            Offset::At { .. } => return None,
        };
        let ends = &self.snapshot.chunk_ends;
        // A chunk number beyond the address space is beyond the snapshot as well.
        let index = usize::try_from(chunk).ok()?;
        let start = index.checked_sub(1).map_or(Some(&0), |previous| ends.get(previous));
        let offset = Offset::snapshot_chunk(chunk);
        match (start, ends.get(index)) {
            (Some(&start), Some(&end)) => Some(Read::Snapshot { start, end: Some(end), offset }),
            _ if self.snapshot.complete => None,
            (Some(&start), None) if chunk == 0 => Some(Read::Snapshot { start, end: None, offset }),
            _ => Some(Read::Pending),
        }
    }

    /// The byte position behind the last item at or before `after`; `None` where only the segment's index
    /// knows.
    fn locate(&self, after: Offset) -> Option<u64> {
        if after.is_virtual() {
            return Some(0);
        }
        if after >= self.flushed_offset || self.flushed_bytes == 0 {
            let next = self.marks.partition_point(|mark| Offset::new(mark.tx, mark.op) <= after);
            let before = next.checked_sub(1).and_then(|index| self.marks.get(index));
            return Some(before.map_or(self.flushed_bytes, |mark| mark.end));
        }
        let chunk = self.closed.binary_search_by_key(&after, |chunk| Offset::new(chunk.tx, chunk.op));
        chunk.ok().and_then(|index| self.closed.get(index)).map(|chunk| chunk.end)
    }
}
