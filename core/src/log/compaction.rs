//! Compaction: a segment written anew without the updates that later ones of the same row make needless.
//!
//! What clients rely on: at each offset at which a reply may end, a client has the same rows whichever generation of the
//! log gave them to it. Clients, caches and the edge may therefore go on in one generation with what they have of another.
//! Updates are merged inside of one *window* only, a run of items that is one chunk of the new segment; replies end at its
//! end. Inserts and deletes stay, so that no row comes twice, or goes twice, for a client that was in the midst of a
//! window. What else is lost: transactions show fewer of their changes, and an update that took others in tells no old
//! values. A transaction keeps its last item where a reply may have ended in the midst of it.
//!
//! Positions in the change log do not shift: what is left lies directly before the place up to which was compacted. A
//! segment's start says how far that is from the beginning of its files.

mod compactor;
mod item;

pub use compactor::{Compactor, WINDOW_BYTES_MAX, Written};
pub use item::NotAChange;

use super::shape_log::{ChunkEnd, Chunks, Mark};
use serde::{Deserialize, Serialize};

/// Where a segment begins in the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct SegmentStart {
    /// How often the log was compacted before. Names the segment's files.
    pub generation: u64,
    /// Position of the first byte.
    pub byte: u64,
    /// Number of the first item.
    pub item: u64,
}

impl SegmentStart {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// An item's place in the segment's files, of which `mark` tells the place in the change log.
    #[must_use]
    pub const fn in_segment(self, mark: Mark) -> Mark {
        Mark { end: mark.end - self.byte, ..mark }
    }

    /// The place in the change log of an item, of which `mark` tells the place in the segment's files.
    #[must_use]
    pub const fn in_log(self, mark: Mark) -> Mark {
        Mark { end: mark.end + self.byte, ..mark }
    }
}

/// A place between two items of a change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Bytes before it.
    pub byte: u64,
    /// Items before it.
    pub item: u64,
}

/// A compaction that is to be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Where the segment begins that is there.
    pub start: SegmentStart,
    /// Up to where it is compacted.
    pub cut: Cut,
    /// Item bytes at which a chunk closes.
    pub chunk_bytes_max: u64,
}

/// The new segment, as far as it is compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What it was made by.
    pub plan: Plan,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its length in items.
    pub items: u64,
    /// Its chunks, whose ends are positions in its file.
    pub chunks: Chunks,
}

impl Plan {
    /// Bytes of what is compacted.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.cut.byte - self.start.byte
    }
}

impl Draft {
    /// Where the new segment begins.
    #[must_use]
    pub const fn start(&self) -> SegmentStart {
        let Plan { start, cut, .. } = self.plan;
        SegmentStart {
            generation: start.generation + 1,
            byte: cut.byte - self.bytes,
            item: cut.item - self.items,
        }
    }

    /// True where the new segment is shorter by at least a quarter: else what caches have of the log is worth more.
    #[must_use]
    pub const fn is_worthwhile(&self) -> bool {
        let before = self.plan.len_bytes();
        self.bytes <= before - before / 4
    }

    /// Takes an item that came behind the cut; `mark` has its place in the change log.
    pub fn copy(&mut self, mark: Mark, item_bytes: u64) {
        self.chunks.push(self.start().in_segment(mark), item_bytes);
    }

    /// The segment once everything up to `end` is in it, the last of `items` items.
    #[must_use]
    pub fn finish(&self, end: Mark, items: u64) -> Compacted {
        let start = self.start();
        let closed = self.chunks.closed().iter().map(|chunk| start.in_log(*chunk)).collect();
        Compacted { start, closed, open_chunk_bytes: self.chunks.open_bytes(), end, items }
    }
}

/// A segment that takes the place of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// Where it begins.
    pub start: SegmentStart,
    /// The closed chunks.
    pub closed: Vec<ChunkEnd>,
    /// Item bytes in the open chunk.
    pub open_chunk_bytes: u64,
    /// Its last item.
    pub end: Mark,
    /// Items of the log up to there.
    pub items: u64,
}
