//! The write path's own state of one shape.

use super::effect::SharedShape;
use super::tails::{TailState, Tails};
use super::visibility::Visibility;
use crate::log::ShapeLog;
use crate::pg::snapshot::SnapshotFilter;
use crate::{Lsn, ShapeId};
use std::sync::Arc;

/// A shape and the state that only the write path has of it.
#[derive(Debug)]
pub(super) struct Tracked<S> {
    id: ShapeId,
    pub(super) shape: S,
    pub(super) snapshot: Snapshot,
    pub(super) visibility: Visibility,
    /// Where the log's newest bytes are.
    pub(super) tail: TailState,
    /// Whether the stream has come up to its snapshot.
    pub(super) is_joined: bool,
    /// Whether the open transaction has reached it.
    pub(super) is_touched: bool,
    /// True where its segment or its snapshot was written since the last checkpoint, and is not durable.
    pub(super) has_grown: bool,
    /// False where its readers have to get every change.
    pub(super) is_compactable: bool,
    /// Bytes that were left of the segment at the last compaction.
    pub(super) compacted_bytes: u64,
}

/// How far a shape's snapshot is.
#[derive(Debug)]
pub(super) enum Snapshot {
    /// Not taken yet, or to be taken again.
    Awaited {
        /// The newest transaction that had been read when the shape was registered: the snapshot must hold it.
        registered_at: Lsn,
    },
    /// Taken; its rows are being written.
    Taken,
    /// Written; the record that says so is queued.
    Done(Arc<SnapshotFilter>),
}

impl<S: SharedShape> Tracked<S> {
    /// A shape whose log is empty.
    pub(super) const fn new(id: ShapeId, shape: S, snapshot: Snapshot, visibility: Visibility) -> Self {
        Self {
            id,
            shape,
            snapshot,
            visibility,
            tail: TailState::Empty,
            is_joined: false,
            is_touched: false,
            has_grown: false,
            is_compactable: false,
            compacted_bytes: 0,
        }
    }

    /// Changes the log, whose tail may grow by that.
    pub(super) fn change<T>(&mut self, tails: &mut Tails, change: impl FnOnce(&mut ShapeLog) -> T) -> T {
        let (outcome, before, after) = self.shape.with_log(|log| {
            let before = log.tail_bytes();
            let outcome = change(log);
            (outcome, before, log.tail_bytes())
        });
        tails.handle_change(self.id, &mut self.tail, before, after);
        outcome
    }

    /// The snapshot's filter, once the snapshot is written.
    pub(super) const fn filter(&self) -> Option<&Arc<SnapshotFilter>> {
        match &self.snapshot {
            Snapshot::Done(filter) => Some(filter),
            Snapshot::Awaited { .. } | Snapshot::Taken => None,
        }
    }
}
