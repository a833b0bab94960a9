//! A log whose segment is written anew ([`compaction`](crate::log::compaction)).

use super::{ChunkEnd, Chunks, Offset, ShapeLog};
use crate::log::compaction::{Compacted, Cut, Plan, SegmentStart};

/// The segment of a log that was compacted.
#[derive(Debug, Clone)]
pub(super) struct State {
    start: SegmentStart,
    /// Up to here the bytes at a position may be others than in the segment before.
    differs_up_to: u64,
}

impl State {
    pub(super) fn of(start: SegmentStart) -> Option<Box<Self>> {
        (!start.is_default()).then(|| Box::new(Self { start, differs_up_to: 0 }))
    }
}

impl ShapeLog {
    /// Where the segment begins.
    #[must_use]
    pub fn start(&self) -> SegmentStart {
        self.compacted.as_deref().map(|state| state.start).unwrap_or_default()
    }

    /// Up to this byte position the segment has other bytes than the one before.
    pub(super) fn differs_up_to(&self) -> u64 {
        self.compacted.as_deref().map_or(0, |state| state.differs_up_to)
    }

    /// The compaction of all that is in the segment and visible; `None` where it is not known yet that it will stay so.
    #[must_use]
    pub fn plan_compaction(&self) -> Option<Plan> {
        let is_settled = self.snapshot.complete && self.is_joined && self.visible_up_to.is_none();
        let flushed = Cut { byte: self.flushed_bytes, item: self.flushed_items };
        let published = Cut { byte: self.published_bytes, item: self.published_items };
        let cut = if flushed.byte <= published.byte { flushed } else { published };
        is_settled.then(|| Plan { start: self.start(), cut, chunk_bytes_max: self.chunks.bytes_max() })
    }

    /// The ends of closed chunks up to the cut of a compaction.
    #[must_use]
    pub fn chunk_ends_before(&self, cut: Cut) -> Vec<ChunkEnd> {
        self.chunks.closed().iter().take_while(|end| end.end <= cut.byte).copied().collect()
    }

    /// The end of the segment, the last of whose items has this offset, where all of it is visible.
    #[must_use]
    pub fn whole_segment(&self) -> Option<Cut> {
        let is_visible = self.flushed_bytes <= self.published_bytes;
        is_visible.then_some(Cut { byte: self.flushed_bytes, item: self.flushed_items })
    }

    /// Another segment takes the place of the one that is there. What it holds is visible, and no more in memory.
    pub fn handle_compacted(&mut self, compacted: &Compacted) {
        let Compacted { start, closed, open_chunk_bytes, end, items } = compacted;
        let offset = Offset::new(end.tx, end.op);
        self.handle_flushed_to(end.end);
        if self.flushed_bytes < end.end {
            // A restart takes from the new segment what the records before told.
            (self.flushed_bytes, self.flushed_items, self.flushed_offset) = (end.end, *items, offset);
        }
        if self.published_bytes < end.end {
            (self.published_bytes, self.published_items, self.published_offset) = (end.end, *items, offset);
        }
        self.chunks = Chunks::restore(self.chunks.bytes_max(), closed.clone(), *open_chunk_bytes);
        let mut begin = end.end;
        for mark in &self.marks {
            self.chunks.push(*mark, mark.end - begin - 1);
            begin = mark.end;
        }
        self.compacted = Some(Box::new(State { start: *start, differs_up_to: end.end }));
        self.shared = None;
    }
}
