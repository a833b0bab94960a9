//! Records for tests.

use super::record::{CreatedShape, Record, ShapeCheckpoint, SnapshotDone, StoreCheckpoint};
use crate::ShapeId;
use crate::log::{Fragment, ShapeLog, shape_log::SnapshotProgress};
use crate::pg::{SnapshotBounds, SnapshotFilter};
use crate::shape::dependent::{DependentState, Move};

pub(super) const ITEM: &[u8] = b"{\"headers\":{}}";
pub(super) const LAST: &str = ",{\"headers\":{,\"last\":true}}";
pub(super) const NOT_LAST: &str = ",{\"headers\":{}}";

pub(super) fn created(id: u32) -> Record {
    Record::Created(Box::new(CreatedShape::sample(ShapeId(id))))
}

pub(super) fn filter() -> SnapshotFilter {
    SnapshotFilter { bounds: SnapshotBounds { xmin: 1, xmax: 1, xip: Vec::new() }, ends_at: 9 }
}

pub(super) fn done(id: u32) -> Record {
    let progress = SnapshotProgress { bytes: 2, chunk_ends: vec![2], complete: true };
    Record::SnapshotDone(SnapshotDone { id: ShapeId(id), filter: filter(), progress })
}

pub(super) fn items(tx: u64, op: u64, shapes: &[u32]) -> Fragment {
    let mut fragment = Fragment::new(tx);
    let shapes: Vec<ShapeId> = shapes.iter().copied().map(ShapeId).collect();
    fragment.push(op, ITEM, &shapes);
    fragment
}

/// A move that changes no view, behind which nothing is held back.
pub(super) fn moved(id: u32, consumed: u64, items: Fragment) -> Move {
    Move { id: ShapeId(id), consumed, changes: Vec::new(), items, visible_up_to: u64::MAX }
}

/// A checkpoint of shapes whose snapshots are durable, with empty logs.
pub(super) fn checkpoint(processed: u64, shapes: &[u32]) -> StoreCheckpoint {
    let shape = |id: &u32| ShapeCheckpoint {
        created: CreatedShape::sample(ShapeId(*id)),
        filter: Some(filter()),
        log: ShapeLog::new(1_000).checkpoint().unwrap(),
        is_joined: true,
        dependent: DependentState::default(),
    };
    StoreCheckpoint { processed, last_handle_us: 0, shapes: shapes.iter().map(shape).collect() }
}
