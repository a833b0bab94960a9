//! One shape's log: which bytes answer which offset.
//!
//! A log has two parts, the snapshot and the changes, each a run of bytes in which every item is preceded
//! by a comma: any range that starts at an item is, without its first byte, the inside of a JSON array.
//! The machine knows positions only. The snapshot's bytes and the *flushed* part of the changes are files;
//! the rest of the changes is the in-memory *tail*.
//!
//! Order of calls: [`handle_snapshot_progress`](ShapeLog::handle_snapshot_progress) while the snapshot is
//! written, and [`handle_joined`](ShapeLog::handle_joined) once the stream has come up to it; for each transaction
//! [`append`](ShapeLog::append)… then [`commit`](ShapeLog::commit), for each move `append`… then
//! [`end_move`](ShapeLog::end_move); [`set_visible_up_to`](ShapeLog::set_visible_up_to) before a transaction that a
//! move still has to resolve, and once the move is durable; [`flushable`](ShapeLog::flushable) to a file and
//! [`handle_flushed`](ShapeLog::handle_flushed) whenever convenient.

use super::compaction::SegmentStart;
use super::item::{ITEM_SUFFIX, LAST_SUFFIX};
use super::rope::{Rope, SharedBytes};
use crate::{Lsn, Offset};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::Range;

mod chunks;
mod compact;
mod read;

pub use chunks::Chunks;
pub use read::{Clock, Found, IndexSearch, LogRange, Read};

/// The log of one shape.
#[derive(Debug, Clone)]
pub struct ShapeLog {
    snapshot: SnapshotProgress,
    /// The chunks of the change log.
    chunks: Chunks,
    /// Where the segment begins, where that is not the log's beginning.
    compacted: Option<Box<compact::State>>,
    /// End of the flushed part, in bytes and in items, and the offset of its last item.
    flushed_bytes: u64,
    flushed_items: u64,
    flushed_offset: Offset,
    /// Bytes after the flushed part; those of a long item are shared with other logs.
    tail: Rope,
    /// The finished items in the tail.
    marks: Vec<Mark>,
    /// The newest item, still without its final form: it may turn out to be the transaction's last.
    open_item: Option<OpenItem>,
    /// The ends of complete transactions and moves that are not visible yet, oldest first, each with the number of items up
    /// to it.
    unpublished: VecDeque<(Mark, u64)>,
    /// The visible part: its last item's offset, and its length in bytes and in items.
    published_offset: Offset,
    published_bytes: u64,
    published_items: u64,
    /// Whether the stream has come up to the snapshot: before that, the rows are ahead of any LSN that could be named.
    is_joined: bool,
    /// The commit LSN up to which transactions are visible, where a move is pending; `None` where all of them are.
    visible_up_to: Option<Lsn>,
    /// A commit LSN that the visible rows include, where a move brought them further than its offset tells.
    covered_up_to: Lsn,
    /// The part of the tail that was handed out last, and where it is in the change log.
    shared: Option<Box<(Range<u64>, SharedBytes)>>,
}

/// How far the snapshot is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProgress {
    /// Bytes written so far.
    pub bytes: u64,
    /// Where each closed chunk ends.
    pub chunk_ends: Vec<u64>,
    /// True once the snapshot-end message is written.
    pub complete: bool,
    /// The place of the bytes, if they share a file with those of other shapes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<PackPlace>,
}

/// The place of a small shape's snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackPlace {
    /// The number of the file that the shapes share.
    pub pack: u64,
    /// Byte position of the snapshot in it.
    pub at: u64,
}

/// The end of a closed chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkEnd {
    /// Commit LSN of the chunk's last item.
    pub tx: u64,
    /// Operation of the chunk's last item.
    pub op: u64,
    /// Byte position behind it.
    pub end: u64,
}

/// One finished item: its offset, and the byte position behind it.
pub type Mark = ChunkEnd;

/// The state of a log that a restart needs, taken when its tail is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The snapshot, which may be unfinished.
    pub snapshot: SnapshotProgress,
    /// The closed chunks.
    pub closed: Vec<ChunkEnd>,
    /// Item bytes in the open chunk.
    pub open_chunk_bytes: u64,
    /// Where the segment begins.
    #[serde(default, skip_serializing_if = "SegmentStart::is_default")]
    pub start: SegmentStart,
    /// Byte position of the segment's end.
    pub flushed_bytes: u64,
    /// The number of items before the segment's end.
    pub flushed_items: u64,
    /// Offset (commit LSN, operation) of the segment's last item.
    pub last: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct OpenItem {
    tx: u64,
    op: u64,
    /// Where the item starts in the tail, behind its comma.
    start: usize,
}

impl ShapeLog {
    /// An empty log whose chunks close at `chunk_bytes_max` item bytes.
    #[must_use]
    pub const fn new(chunk_bytes_max: u64) -> Self {
        Self {
            snapshot: SnapshotProgress { bytes: 0, chunk_ends: Vec::new(), complete: false, pack: None },
            chunks: Chunks::new(chunk_bytes_max),
            compacted: None,
            flushed_bytes: 0,
            flushed_items: 0,
            flushed_offset: Offset::SNAPSHOT_END,
            tail: Rope::new(),
            marks: Vec::new(),
            open_item: None,
            unpublished: VecDeque::new(),
            published_offset: Offset::SNAPSHOT_END,
            published_bytes: 0,
            published_items: 0,
            is_joined: false,
            visible_up_to: None,
            covered_up_to: Lsn::ZERO,
            shared: None,
        }
    }

    /// The log as a checkpoint left it.
    #[must_use]
    pub fn restore(chunk_bytes_max: u64, checkpoint: Checkpoint) -> Self {
        let last = checkpoint.last.map_or(Offset::SNAPSHOT_END, |(tx, op)| Offset::new(tx, op));
        Self {
            snapshot: checkpoint.snapshot,
            chunks: Chunks::restore(chunk_bytes_max, checkpoint.closed, checkpoint.open_chunk_bytes),
            compacted: compact::State::of(checkpoint.start),
            flushed_bytes: checkpoint.flushed_bytes,
            flushed_items: checkpoint.flushed_items,
            flushed_offset: last,
            published_offset: last,
            published_bytes: checkpoint.flushed_bytes,
            published_items: checkpoint.flushed_items,
            ..Self::new(chunk_bytes_max)
        }
    }

    /// The state that a restart needs; `None` while the tail is not flushed or a transaction is open.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let whole = self.tail.is_empty() && self.open_item.is_none();
        whole.then(|| Checkpoint {
            snapshot: self.snapshot.clone(),
            closed: self.chunks.closed().to_vec(),
            open_chunk_bytes: self.chunks.open_bytes(),
            start: self.start(),
            flushed_bytes: self.flushed_bytes,
            flushed_items: self.flushed_items,
            last: number(self.flushed_offset),
        })
    }

    /// The snapshot has grown.
    pub fn handle_snapshot_progress(&mut self, progress: SnapshotProgress) {
        self.snapshot = progress;
    }

    /// How far the snapshot is.
    #[must_use]
    pub const fn snapshot(&self) -> &SnapshotProgress {
        &self.snapshot
    }

    /// Appends an item of the open transaction. Offsets must increase; an item at or before the newest one
    /// is a replay and is left out.
    ///
    /// Returns true where the item is not visible yet: the transaction must be committed here.
    pub fn append(&mut self, tx: u64, op: u64, item: &[u8]) -> bool {
        self.append_by(tx, op, item.len(), |tail| tail.extend_from_slice(item))
    }

    /// The same; where the item's bytes are given as what can be shared too, the log does not copy them.
    pub fn append_item(&mut self, tx: u64, op: u64, item: &[u8], shared: Option<&Bytes>) -> bool {
        let Some(shared) = shared.filter(|shared| shared.len() > ITEM_SUFFIX.len()) else {
            return self.append(tx, op, item);
        };
        self.append_by(tx, op, ITEM_SUFFIX.len(), |tail| {
            // How it ends is known only once it is known what follows.
            let end = shared.len() - ITEM_SUFFIX.len();
            tail.push_shared(shared.slice(..end));
            tail.extend_from_slice(shared.get(end..).unwrap_or_default());
        })
    }

    fn append_by(&mut self, tx: u64, op: u64, copied: usize, push: impl FnOnce(&mut Rope)) -> bool {
        let offset = Offset::new(tx, op);
        let newest = self.open_item.map_or(self.last_finished(), |open| Offset::new(open.tx, open.op));
        if offset <= newest {
            return offset > self.published_offset;
        }
        self.finish_item(false);
        self.tail.reserve(1 + copied + LAST_SUFFIX.len() - ITEM_SUFFIX.len());
        self.tail.push(b',');
        self.open_item = Some(OpenItem { tx, op, start: self.tail.len() });
        push(&mut self.tail);
        true
    }

    /// Ends the transaction: its last item is marked, and everything appended becomes visible, as far as
    /// [`set_visible_up_to`](Self::set_visible_up_to) allows.
    ///
    /// Returns true where something became visible.
    pub fn commit(&mut self) -> bool {
        self.finish_item(true);
        self.note_end();
        self.publish()
    }

    /// Ends a move: like a transaction, but its messages carry no mark (protocol §4.8), and it becomes visible only
    /// by [`set_visible_up_to`](Self::set_visible_up_to), once it is durable.
    pub fn end_move(&mut self) {
        self.finish_item(false);
        self.note_end();
    }

    /// The stream has come up to the snapshot: there are LSNs that replies can name.
    pub const fn handle_joined(&mut self) {
        self.is_joined = true;
    }

    /// Whether the stream has come up to the snapshot.
    #[must_use]
    pub const fn is_joined(&self) -> bool {
        self.is_joined
    }

    /// Transactions and moves are visible up to this commit LSN, or all of them where it is `None`. `processed` is the
    /// commit LSN of the last transaction that every shape's log shows: what becomes visible includes it.
    ///
    /// Returns true where something became visible.
    pub fn set_visible_up_to(&mut self, up_to: Option<Lsn>, processed: Lsn) -> bool {
        self.visible_up_to = up_to;
        self.covered_up_to = self.covered_up_to.max(up_to.map_or(processed, |up_to| up_to.min(processed)));
        self.publish()
    }

    /// Makes visible what is complete and may be.
    fn publish(&mut self) -> bool {
        let before = self.published_bytes;
        let up_to = self.visible_up_to.map_or(u64::MAX, Lsn::as_u64);
        while let Some((end, items)) = self.unpublished.pop_front_if(|(end, _)| end.tx <= up_to) {
            self.published_items = items;
            self.published_bytes = end.end;
            self.published_offset = Offset::new(end.tx, end.op);
        }
        self.published_bytes > before
    }

    fn note_end(&mut self) {
        let end = self.flushed_bytes + self.tail.len() as u64;
        let known = self.unpublished.back().map_or(self.published_bytes, |(last, _)| last.end);
        if let (true, Some((tx, op))) = (end > known, number(self.last_finished())) {
            let items = self.flushed_items + self.marks.len() as u64;
            self.unpublished.push_back((Mark { tx, op, end }, items));
        }
    }

    /// The offset of the last visible item; `0_inf` where there is none.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        self.published_offset
    }

    /// The number of items before the segment's end.
    #[must_use]
    pub const fn flushed_items(&self) -> u64 {
        self.flushed_items
    }

    /// The position of the segment's end in bytes: what lies beyond is in the tail.
    #[must_use]
    pub const fn flushed_bytes(&self) -> u64 {
        self.flushed_bytes
    }

    /// The part of `range` (positions in the change log) that is in memory.
    #[must_use]
    pub fn tail_part(&self, range: Range<u64>) -> Rope {
        let position = |at: u64| usize::try_from(at.saturating_sub(self.flushed_bytes)).unwrap_or(usize::MAX);
        self.tail.part(position(range.start)..position(range.end))
    }

    /// The part of `range` that is in memory, to be sent. Whoever asks for the same part, as all do that wait for the
    /// same change, gets the same bytes, not a copy of them. They are kept until another part is asked for, or the tail
    /// is flushed; `range` lies in the visible part, whose bytes never change.
    pub fn shared_tail_part(&mut self, range: Range<u64>) -> SharedBytes {
        let range = range.start.max(self.flushed_bytes)..range.end;
        if range.is_empty() {
            return SharedBytes::new();
        }
        if let Some((_, bytes)) = self.shared.as_deref().filter(|(shared, _)| *shared == range) {
            return bytes.clone();
        }
        let bytes = self.tail_part(range.clone()).into_shared();
        self.shared = Some(Box::new((range, bytes.clone())));
        bytes
    }

    /// Bytes held in memory.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.tail.len()
    }

    /// The marks of the tail's finished items, to be appended to the segment's index. Their bytes, to be appended to the
    /// segment, are those up to the end of the last one. Empty where there is nothing to flush.
    #[must_use]
    pub fn flushable(&self) -> &[Mark] {
        &self.marks
    }

    /// Notes that the bytes which [`flushable`](Self::flushable) gave are in the segment.
    pub fn handle_flushed(&mut self) {
        if let Some(last) = self.marks.last() {
            self.handle_flushed_to(last.end);
        }
    }

    /// The items up to byte `end` of the change log are in the segment. What was appended since they were taken
    /// from [`flushable`](Self::flushable) stays in the tail.
    pub fn handle_flushed_to(&mut self, end: u64) {
        let items = self.marks.partition_point(|mark| mark.end <= end);
        let Some(last) = items.checked_sub(1).and_then(|index| self.marks.get(index)).copied() else {
            return;
        };
        let bytes = (last.end - self.flushed_bytes) as usize;
        self.tail.cut_start(bytes);
        if let Some(open) = &mut self.open_item {
            open.start -= bytes;
        }
        self.shared = None;
        self.flushed_items += items as u64;
        self.flushed_bytes = last.end;
        self.flushed_offset = Offset::new(last.tx, last.op);
        self.marks.drain(..items);
        self.marks.shrink_to_fit();
        self.tail.shrink_to_fit();
    }

    /// The offset of the last finished item.
    fn last_finished(&self) -> Offset {
        self.marks.last().map_or(self.flushed_offset, |mark| Offset::new(mark.tx, mark.op))
    }

    /// Gives the newest item its final form; where that fills the open chunk, closes it.
    fn finish_item(&mut self, last_of_transaction: bool) {
        let Some(item) = self.open_item.take() else { return };
        if last_of_transaction {
            self.tail.cut_end(ITEM_SUFFIX.len());
            self.tail.extend_from_slice(LAST_SUFFIX);
        }
        let end = self.flushed_bytes + self.tail.len() as u64;
        let mark = Mark { tx: item.tx, op: item.op, end };
        self.marks.push(mark);
        self.chunks.push(mark, (self.tail.len() - item.start) as u64);
    }
}

const fn number(offset: Offset) -> Option<(u64, u64)> {
    match offset {
        Offset::At { tx, op: crate::Op::Number(op) } if tx > 0 => Some((tx, op)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
