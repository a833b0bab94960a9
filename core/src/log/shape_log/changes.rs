//! The changes of a log that has some: which are in the segment, which in memory, and which of them are visible.

use super::chunks::{Chunks, Mark};
use crate::Offset;
use crate::log::compaction::SegmentStart;
use crate::log::item::{ITEM_SUFFIX, LAST_SUFFIX};
use crate::log::rope::{Rope, SharedBytes};
use std::collections::VecDeque;
use std::ops::Range;

/// The changes of a log.
#[derive(Debug, Clone)]
pub(super) struct Changes {
    /// Their chunks.
    pub(super) chunks: Chunks,
    /// Where the segment begins, where that is not the log's beginning.
    pub(super) compacted: Option<Box<State>>,
    /// End of the flushed part, in bytes and in items, and the offset of its last item.
    pub(super) flushed_bytes: u64,
    pub(super) flushed_items: u64,
    pub(super) flushed_offset: Offset,
    /// Bytes after the flushed part; those of a long item are shared with other logs.
    pub(super) tail: Rope,
    /// The finished items in the tail.
    pub(super) marks: Vec<Mark>,
    /// The newest item, still without its final form: it may turn out to be the transaction's last.
    pub(super) open_item: Option<OpenItem>,
    /// The ends of complete transactions and moves that are not visible yet, oldest first, each with the number of items up
    /// to it.
    pub(super) unpublished: VecDeque<(Mark, u64)>,
    /// The visible part: its last item's offset, and its length in bytes and in items.
    pub(super) published_offset: Offset,
    pub(super) published_bytes: u64,
    pub(super) published_items: u64,
    /// The part of the tail that was handed out last, and where it is in the change log.
    pub(super) shared: Option<Box<(Range<u64>, SharedBytes)>>,
}

/// The segment of a log that was compacted.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) start: SegmentStart,
    /// Up to here the bytes at a position may be others than in the segment before.
    pub(super) differs_up_to: u64,
}

impl State {
    pub(super) fn of(start: SegmentStart) -> Option<Box<Self>> {
        (!start.is_default()).then(|| Box::new(Self { start, differs_up_to: 0 }))
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct OpenItem {
    pub(super) tx: u64,
    pub(super) op: u64,
    /// Where the item starts in the tail, behind its comma.
    pub(super) start: usize,
}

/// Those of a log that has none. Nobody appends to it.
pub(super) static NONE: Changes = Changes::new(0);

impl Changes {
    /// None so far; their chunks close at `chunk_bytes_max` item bytes.
    pub(super) const fn new(chunk_bytes_max: u64) -> Self {
        Self {
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
            shared: None,
        }
    }

    /// The offset of the last item, which may not be finished.
    pub(super) fn newest(&self) -> Offset {
        self.open_item.map_or(self.last_finished(), |open| Offset::new(open.tx, open.op))
    }

    /// The offset of the last finished item.
    fn last_finished(&self) -> Offset {
        self.marks.last().map_or(self.flushed_offset, |mark| Offset::new(mark.tx, mark.op))
    }

    /// Appends an item behind the [newest](Self::newest), of which `push` copies so many bytes.
    pub(super) fn append(&mut self, tx: u64, op: u64, copied: usize, push: impl FnOnce(&mut Rope)) {
        self.finish_item(false);
        self.tail.reserve(1 + copied + LAST_SUFFIX.len() - ITEM_SUFFIX.len());
        self.tail.push(b',');
        self.open_item = Some(OpenItem { tx, op, start: self.tail.len() });
        push(&mut self.tail);
    }

    /// Gives the newest item its final form; where that fills the open chunk, closes it.
    pub(super) fn finish_item(&mut self, last_of_transaction: bool) {
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

    /// The finished items are a transaction or a move to its end.
    pub(super) fn note_end(&mut self) {
        let end = self.flushed_bytes + self.tail.len() as u64;
        let known = self.unpublished.back().map_or(self.published_bytes, |(last, _)| last.end);
        if let (true, Some((tx, op))) = (end > known, number(self.last_finished())) {
            let items = self.flushed_items + self.marks.len() as u64;
            self.unpublished.push_back((Mark { tx, op, end }, items));
        }
    }

    /// Makes visible what is complete up to a commit LSN. True where there was something.
    pub(super) fn publish(&mut self, up_to: u64) -> bool {
        let before = self.published_bytes;
        while let Some((end, items)) = self.unpublished.pop_front_if(|(end, _)| end.tx <= up_to) {
            self.published_items = items;
            self.published_bytes = end.end;
            self.published_offset = Offset::new(end.tx, end.op);
        }
        self.published_bytes > before
    }

    /// The part of `range` (positions in the change log) that is in memory.
    pub(super) fn tail_part(&self, range: Range<u64>) -> Rope {
        let position = |at: u64| usize::try_from(at.saturating_sub(self.flushed_bytes)).unwrap_or(usize::MAX);
        self.tail.part(position(range.start)..position(range.end))
    }

    /// The items up to byte `end` of the change log are in the segment.
    pub(super) fn handle_flushed_to(&mut self, end: u64) {
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
}

/// An offset of an item as numbers; `None` for any other.
pub(super) const fn number(offset: Offset) -> Option<(u64, u64)> {
    match offset {
        Offset::At { tx, op: crate::Op::Number(op) } if tx > 0 => Some((tx, op)),
        _ => None,
    }
}
