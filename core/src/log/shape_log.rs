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
use super::item::ITEM_SUFFIX;
use super::rope::{Rope, SharedBytes};
use crate::{Lsn, Offset};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::Range;

mod changes;
mod chunks;
mod compact;
mod read;
mod snapshot;

use changes::{Changes, State, number};
pub use chunks::{ChunkEnd, Chunks, Mark};
pub use read::{Clock, Found, IndexSearch, LogRange, Read};
use snapshot::Snapshot;
pub use snapshot::{PackPlace, SmallSnapshot, SnapshotProgress};

/// The log of one shape. One that has not changed is small: there may be a million of them.
#[derive(Debug, Clone)]
pub struct ShapeLog {
    snapshot: Snapshot,
    chunk_bytes_max: u64,
    /// `None` before the first one.
    changes: Option<Box<Changes>>,
    /// Whether the stream has come up to the snapshot: before that, the rows are ahead of any LSN that could be named.
    is_joined: bool,
    /// The commit LSN up to which transactions are visible, where a move is pending; `MAX` where all of them are.
    visible_up_to: u64,
    /// A commit LSN that the visible rows include, where a move brought them further than its offset tells.
    covered_up_to: Lsn,
}

/// The state of a log that a restart needs, taken when its tail is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

impl ShapeLog {
    /// An empty log whose chunks close at `chunk_bytes_max` item bytes.
    #[must_use]
    pub const fn new(chunk_bytes_max: u64) -> Self {
        Self {
            snapshot: Snapshot::Begun,
            chunk_bytes_max,
            changes: None,
            is_joined: false,
            visible_up_to: u64::MAX,
            covered_up_to: Lsn::ZERO,
        }
    }

    /// The log of a shape that has not changed since its snapshot.
    #[must_use]
    pub fn unchanged(chunk_bytes_max: u64, snapshot: SmallSnapshot) -> Self {
        Self { snapshot: Snapshot::Packed(snapshot), ..Self::new(chunk_bytes_max) }
    }

    /// The snapshot, where it is a small one and all that there is of the log.
    #[must_use]
    pub const fn as_unchanged(&self) -> Option<SmallSnapshot> {
        match (&self.snapshot, &self.changes) {
            (Snapshot::Packed(small), None) => Some(*small),
            _ => None,
        }
    }

    /// The log as a checkpoint left it.
    #[must_use]
    pub fn restore(chunk_bytes_max: u64, checkpoint: Checkpoint) -> Self {
        let log = Self { snapshot: checkpoint.snapshot.into(), ..Self::new(chunk_bytes_max) };
        let is_changed = checkpoint.last.is_some()
            || checkpoint.flushed_bytes > 0
            || checkpoint.open_chunk_bytes > 0
            || !checkpoint.start.is_default();
        if !is_changed {
            return log;
        }
        let last = checkpoint.last.map_or(Offset::SNAPSHOT_END, |(tx, op)| Offset::new(tx, op));
        let changes = Changes {
            chunks: Chunks::restore(chunk_bytes_max, checkpoint.closed, checkpoint.open_chunk_bytes),
            compacted: State::of(checkpoint.start),
            flushed_bytes: checkpoint.flushed_bytes,
            flushed_items: checkpoint.flushed_items,
            flushed_offset: last,
            published_offset: last,
            published_bytes: checkpoint.flushed_bytes,
            published_items: checkpoint.flushed_items,
            ..Changes::new(chunk_bytes_max)
        };
        Self { changes: Some(Box::new(changes)), ..log }
    }

    /// The state that a restart needs; `None` while the tail is not flushed or a transaction is open.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let changes = self.changes();
        let whole = changes.tail.is_empty() && changes.open_item.is_none();
        whole.then(|| Checkpoint {
            snapshot: self.snapshot(),
            closed: changes.chunks.closed().to_vec(),
            open_chunk_bytes: changes.chunks.open_bytes(),
            start: self.start(),
            flushed_bytes: changes.flushed_bytes,
            flushed_items: changes.flushed_items,
            last: number(changes.flushed_offset),
        })
    }

    fn changes(&self) -> &Changes {
        self.changes.as_deref().unwrap_or(&changes::NONE)
    }

    fn changes_mut(&mut self) -> &mut Changes {
        let chunk_bytes_max = self.chunk_bytes_max;
        self.changes.get_or_insert_with(|| Box::new(Changes::new(chunk_bytes_max)))
    }

    /// The snapshot has grown.
    pub fn handle_snapshot_progress(&mut self, progress: SnapshotProgress) {
        self.snapshot = progress.into();
    }

    /// How far the snapshot is.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotProgress {
        self.snapshot.progress()
    }

    /// The place of the snapshot's bytes, if they share a file with those of other shapes.
    #[must_use]
    pub fn pack(&self) -> Option<PackPlace> {
        self.snapshot.pack()
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
        let changes = self.changes();
        if offset <= changes.newest() {
            return offset > changes.published_offset;
        }
        self.changes_mut().append(tx, op, copied, push);
        true
    }

    /// Ends the transaction: its last item is marked, and everything appended becomes visible, as far as
    /// [`set_visible_up_to`](Self::set_visible_up_to) allows.
    ///
    /// Returns true where something became visible.
    pub fn commit(&mut self) -> bool {
        self.end_items(true);
        self.publish()
    }

    /// Ends a move: like a transaction, but its messages carry no mark (protocol §4.8), and it becomes visible only
    /// by [`set_visible_up_to`](Self::set_visible_up_to), once it is durable.
    pub fn end_move(&mut self) {
        self.end_items(false);
    }

    fn end_items(&mut self, are_transaction: bool) {
        if let Some(changes) = &mut self.changes {
            changes.finish_item(are_transaction);
            changes.note_end();
        }
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
        self.visible_up_to = up_to.map_or(u64::MAX, Lsn::as_u64);
        self.covered_up_to = self.covered_up_to.max(up_to.map_or(processed, |up_to| up_to.min(processed)));
        self.publish()
    }

    /// Makes visible what is complete and may be.
    fn publish(&mut self) -> bool {
        let up_to = self.visible_up_to;
        self.changes.as_mut().is_some_and(|changes| changes.publish(up_to))
    }

    /// The bound of the visible part, where it has one.
    fn visible_up_to(&self) -> Option<Lsn> {
        (self.visible_up_to != u64::MAX).then_some(Lsn::new(self.visible_up_to))
    }

    /// The offset of the last visible item; `0_inf` where there is none.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.changes().published_offset
    }

    /// The number of items before the segment's end.
    #[must_use]
    pub fn flushed_items(&self) -> u64 {
        self.changes().flushed_items
    }

    /// The position of the segment's end in bytes: what lies beyond is in the tail.
    #[must_use]
    pub fn flushed_bytes(&self) -> u64 {
        self.changes().flushed_bytes
    }

    /// The part of `range` (positions in the change log) that is in memory.
    #[must_use]
    pub fn tail_part(&self, range: Range<u64>) -> Rope {
        self.changes().tail_part(range)
    }

    /// The part of `range` that is in memory, to be sent. Whoever asks for the same part, as all do that wait for the
    /// same change, gets the same bytes, not a copy of them. They are kept until another part is asked for, or the tail
    /// is flushed; `range` lies in the visible part, whose bytes never change.
    pub fn shared_tail_part(&mut self, range: Range<u64>) -> SharedBytes {
        let Some(changes) = &mut self.changes else { return SharedBytes::new() };
        let range = range.start.max(changes.flushed_bytes)..range.end;
        if range.is_empty() {
            return SharedBytes::new();
        }
        if let Some((_, bytes)) = changes.shared.as_deref().filter(|(shared, _)| *shared == range) {
            return bytes.clone();
        }
        let bytes = changes.tail_part(range.clone()).into_shared();
        changes.shared = Some(Box::new((range, bytes.clone())));
        bytes
    }

    /// Bytes held in memory.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.changes().tail.len()
    }

    /// The marks of the tail's finished items, to be appended to the segment's index. Their bytes, to be appended to the
    /// segment, are those up to the end of the last one. Empty where there is nothing to flush.
    #[must_use]
    pub fn flushable(&self) -> &[Mark] {
        &self.changes().marks
    }

    /// Notes that the bytes which [`flushable`](Self::flushable) gave are in the segment.
    pub fn handle_flushed(&mut self) {
        if let Some(last) = self.flushable().last() {
            self.handle_flushed_to(last.end);
        }
    }

    /// The items up to byte `end` of the change log are in the segment. What was appended since they were taken
    /// from [`flushable`](Self::flushable) stays in the tail.
    pub fn handle_flushed_to(&mut self, end: u64) {
        if let Some(changes) = &mut self.changes {
            changes.handle_flushed_to(end);
        }
    }
}

#[cfg(test)]
mod tests;
