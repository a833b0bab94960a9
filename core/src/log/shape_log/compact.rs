//! A log whose segment is written anew ([`compaction`](crate::log::compaction)).

use super::changes::State;
use super::{ChunkEnd, Chunks, Offset, ShapeLog};
use crate::log::compaction::{Compacted, Cut, Plan, SegmentStart};

impl ShapeLog {
    /// Where the segment begins.
    #[must_use]
    pub fn start(&self) -> SegmentStart {
        self.changes().compacted.as_deref().map(|state| state.start).unwrap_or_default()
    }

    /// Up to this byte position the segment has other bytes than the one before.
    pub(super) fn differs_up_to(&self) -> u64 {
        self.changes().compacted.as_deref().map_or(0, |state| state.differs_up_to)
    }

    /// The compaction of all that is in the segment and visible; `None` where it is not known yet that it will stay so.
    #[must_use]
    pub fn plan_compaction(&self) -> Option<Plan> {
        let is_settled = self.snapshot.is_complete() && self.is_joined && self.visible_up_to().is_none();
        let changes = self.changes();
        let flushed = Cut { byte: changes.flushed_bytes, item: changes.flushed_items };
        let published = Cut { byte: changes.published_bytes, item: changes.published_items };
        let cut = if flushed.byte <= published.byte { flushed } else { published };
        is_settled.then(|| Plan { start: self.start(), cut, chunk_bytes_max: self.chunk_bytes_max })
    }

    /// The ends of closed chunks up to the cut of a compaction.
    #[must_use]
    pub fn chunk_ends_before(&self, cut: Cut) -> Vec<ChunkEnd> {
        self.changes().chunks.closed().iter().take_while(|end| end.end <= cut.byte).copied().collect()
    }

    /// The end of the segment, the last of whose items has this offset, where all of it is visible.
    #[must_use]
    pub fn whole_segment(&self) -> Option<Cut> {
        let changes = self.changes();
        let is_visible = changes.flushed_bytes <= changes.published_bytes;
        is_visible.then_some(Cut { byte: changes.flushed_bytes, item: changes.flushed_items })
    }

    /// Another segment takes the place of the one that is there. What it holds is visible, and no more in memory.
    pub fn handle_compacted(&mut self, compacted: &Compacted) {
        let Compacted { start, closed, open_chunk_bytes, end, items } = compacted;
        let offset = Offset::new(end.tx, end.op);
        let changes = self.changes_mut();
        changes.handle_flushed_to(end.end);
        if changes.flushed_bytes < end.end {
            // A restart takes from the new segment what the records before told.
            (changes.flushed_bytes, changes.flushed_items, changes.flushed_offset) =
                (end.end, *items, offset);
        }
        if changes.published_bytes < end.end {
            (changes.published_bytes, changes.published_items, changes.published_offset) =
                (end.end, *items, offset);
        }
        changes.chunks = Chunks::restore(changes.chunks.bytes_max(), closed.clone(), *open_chunk_bytes);
        let mut begin = end.end;
        for mark in &changes.marks {
            changes.chunks.push(*mark, mark.end - begin - 1);
            begin = mark.end;
        }
        changes.compacted = Some(Box::new(State { start: *start, differs_up_to: end.end }));
        changes.shared = None;
    }
}
