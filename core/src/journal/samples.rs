//! Records for tests.

use super::checkpoint::{ShapeCheckpoint, StoreCheckpoint};
use super::record::{CreatedShape, Record, ShapeCompacted, SnapshotDone, read_frame};
use super::recovery::{RecoveredStore, Recovery, ShapeFiles};
use super::replay::Survey;
use crate::log::compaction::{Compacted, SegmentStart};
use crate::log::shape_log::{Mark, PackPlace, SnapshotProgress};
use crate::log::{Fragment, ShapeLog};
use crate::pg::{SnapshotBounds, SnapshotFilter};
use crate::shape::dependent::{DependentState, Move};
use crate::{Handle, ShapeId};
use std::convert::Infallible;

pub(super) const ITEM: &[u8] = b"{\"headers\":{}}";
pub(super) const LAST: &str = ",{\"headers\":{,\"last\":true}}";
pub(super) const NOT_LAST: &str = ",{\"headers\":{}}";

pub(super) fn created(id: u32) -> Record {
    Record::Created(Box::new(CreatedShape::sample(ShapeId(id)).described()))
}

pub(super) fn filter() -> SnapshotFilter {
    SnapshotFilter { bounds: SnapshotBounds { xmin: 1, xmax: 1, xip: Vec::new() }, ends_at: 9 }
}

pub(super) fn done(id: u32) -> Record {
    let progress = SnapshotProgress { bytes: 2, chunk_ends: vec![2], complete: true, pack: None };
    Record::SnapshotDone(SnapshotDone { id: ShapeId(id), filter: filter(), progress, content: None })
}

pub(super) const PLACE: PackPlace = PackPlace { pack: 3, at: 70 };

/// The same for a snapshot that only the record makes durable.
pub(super) fn small_snapshot(id: u32) -> Record {
    match done(id) {
        Record::SnapshotDone(done) => {
            let progress = SnapshotProgress { pack: Some(PLACE), ..done.progress };
            Record::SnapshotDone(SnapshotDone { content: Some(b",1".to_vec()), progress, ..done })
        }
        record => record,
    }
}

/// The changes that a recovery made to the shapes' files: for each the time of the handle, and the length of the tail, or
/// the place and the bytes of the snapshot.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) flushed: Vec<(u64, usize)>,
    pub(super) snapshots: Vec<(u64, Option<PackPlace>, Vec<u8>)>,
}

impl ShapeFiles for Changes {
    type Error = Infallible;

    fn flush_tail(&mut self, handle: Handle, log: &mut ShapeLog) -> Result<(), Infallible> {
        self.flushed.push((handle.created_us(), log.tail_bytes()));
        log.handle_flushed();
        Ok(())
    }

    fn write_snapshot(
        &mut self,
        handle: Handle,
        pack: Option<PackPlace>,
        content: &[u8],
    ) -> Result<(), Infallible> {
        self.snapshots.push((handle.created_us(), pack, content.to_vec()));
        Ok(())
    }
}

/// Recovers from a commit log, and returns also the changes that this made to the shapes' files.
pub(super) fn recover(
    records: Vec<Record>,
    chunk_bytes_max: u64,
    tail_bytes_max: usize,
) -> (RecoveredStore, Changes) {
    let mut survey = Survey::default();
    for record in &records {
        let mut frame = Vec::new();
        record.encode(&mut frame);
        survey.handle_payload(read_frame(&frame).unwrap().0);
    }
    let mut recovery = Recovery::new(survey, chunk_bytes_max, tail_bytes_max);
    let mut changes = Changes::default();
    for record in records {
        let Ok(()) = recovery.handle_record(record, &mut changes);
    }
    (recovery.finish(), changes)
}

pub(super) fn items(tx: u64, op: u64, shapes: &[u32]) -> Fragment {
    let mut fragment = Fragment::new(tx);
    let shapes: Vec<ShapeId> = shapes.iter().copied().map(ShapeId).collect();
    fragment.push(op, ITEM, &shapes);
    fragment
}

/// A move that changes no view, behind which nothing is held back.
pub(super) fn moved(id: u32, consumed: u64, items: Fragment) -> Move {
    Move { id: ShapeId(id), consumed, changes: Vec::new(), items, visible_up_to: None }
}

/// The segment of a shape is written anew: of what was up to the item of this transaction, so many bytes are left.
pub(super) fn compacted(id: u32, (generation, tx): (u64, u64), end: u64, left: u64) -> Record {
    let start = SegmentStart { generation, byte: end - left, item: 0 };
    let (closed, end) = (Vec::new(), Mark { tx, op: 0, end });
    let segment = Compacted { start, closed, open_chunk_bytes: left, end, items: 1 };
    Record::Compacted(ShapeCompacted { id: ShapeId(id), segment })
}

/// A checkpoint of shapes whose snapshots are durable, with empty logs.
pub(super) fn checkpoint(processed: u64, shapes: &[u32]) -> StoreCheckpoint {
    let shape = |id: &u32| ShapeCheckpoint {
        created: CreatedShape::sample(ShapeId(*id)).described(),
        filter: Some(filter()),
        log: ShapeLog::new(1_000).checkpoint().unwrap(),
        is_joined: true,
        dependent: DependentState::default(),
    };
    let shapes = shapes.iter().map(shape).collect();
    StoreCheckpoint { processed, last_handle_us: 0, shapes, tables: Vec::new() }
}
