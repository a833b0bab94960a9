//! When a segment is compacted, and what a compaction waits for.

use super::compaction::{CANDIDATES_MAX, SMALL_SEGMENTS_MAX};
use super::effect::{Effect, SharedShape};
use super::tests::{TestShape, shown};
use super::{Limits, Logs, SegmentWork, TailWrite};
use crate::journal::{Tables, Ticket};
use crate::log::compaction::{Compacted, Draft};
use crate::log::shape_log::{Chunks, Mark, SnapshotProgress};
use crate::log::{Fragment, ShapeLog};
use crate::pg::{SnapshotBounds, SnapshotFilter};
use crate::shape::DropCause;
use crate::{Lsn, ShapeId};
use std::cell::RefCell;
use std::rc::Rc;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ITEM: &[u8] = b"{\"headers\":{}}";

/// Logs whose tails are written at once. Compactions are carried out in words only: half of the bytes are left.
struct Store {
    logs: Logs<TestShape>,
    /// The effects of compactions.
    told: Vec<String>,
    draft: Option<(ShapeId, Draft)>,
    compacted: Option<(ShapeId, Compacted)>,
}

impl Store {
    /// Of so many shapes, the first of which has subqueries where that is said.
    fn new(count: u32, has_subqueries: bool) -> Self {
        let mut logs = Logs::new(Limits::default(), 1, Tables::default(), Lsn::ZERO);
        for id in 1..=count {
            let mut log = ShapeLog::new(1_000_000);
            log.handle_snapshot_progress(SnapshotProgress { complete: true, ..SnapshotProgress::default() });
            log.handle_joined();
            let shape = TestShape { id: ShapeId(id), log: Rc::new(RefCell::new(log)) };
            let filter =
                SnapshotFilter { bounds: SnapshotBounds { xmin: 1, xmax: 1, xip: Vec::new() }, ends_at: 1 };
            logs.restore(ShapeId(id), (shape, has_subqueries && id == 1), filter, None, true);
        }
        Self { logs, told: Vec::new(), draft: None, compacted: None }
    }

    /// Transactions with an item of each of these shapes, which are then written to their segments.
    fn transactions(&mut self, commits: impl IntoIterator<Item = u64>, shapes: &[u32]) {
        for commit in commits {
            self.logs.handle_begin(Lsn::new(commit), 7);
            let mut fragment = Fragment::new(commit);
            let targets: Vec<ShapeId> = shapes.iter().copied().map(ShapeId).collect();
            fragment.push(0, ITEM, &targets);
            self.logs.append(&fragment);
            self.logs.commit(Lsn::new(commit), Lsn::new(commit + 5));
        }
        self.logs.flush_tails();
        self.run();
    }

    /// Carries out what is due, but for the ends of compactions.
    fn run(&mut self) {
        self.logs.end_turn();
        while let Some(effect) = self.logs.poll_prompt_effect().or_else(|| self.logs.poll_tail()) {
            match &effect {
                Effect::WriteTail(TailWrite { id, .. }) => self.logs.handle_flushed(*id),
                Effect::WorkOnSegment(SegmentWork::Compact { id, plan, .. }) => {
                    let (bytes, items) = (plan.len_bytes() / 2, 1);
                    let draft = Draft { plan: *plan, bytes, items, chunks: Chunks::new(1_000_000) };
                    self.draft = Some((*id, draft));
                    self.told.push(shown(effect));
                }
                Effect::WorkOnSegment(SegmentWork::Finish { id, shape, draft, end }) => {
                    let offset = shape.log.borrow().last_offset();
                    let last = Mark { tx: offset.tx(), op: 0, end: end.byte };
                    self.compacted = Some((*id, draft.finish(last, end.item)));
                    self.told.push(shown(effect));
                }
                Effect::WorkOnSegment(SegmentWork::Remove { .. } | SegmentWork::RemoveFolder { .. }) => {
                    self.told.push(shown(effect));
                }
                _ => {}
            }
        }
    }

    fn tick(&mut self) -> Vec<String> {
        self.logs.handle_compaction_tick();
        self.run();
        self.take()
    }

    /// Time goes by until what was noted is due.
    fn ticks(&mut self) -> Vec<String> {
        [self.tick(), self.tick()].concat()
    }

    fn drafted(&mut self) -> Vec<String> {
        let (id, draft) = self.draft.take().unwrap();
        self.logs.handle_drafted(id, Some(draft));
        self.continued()
    }

    fn continued(&mut self) -> Vec<String> {
        self.logs.continue_compaction();
        self.run();
        self.take()
    }

    fn compacted(&mut self) -> Vec<String> {
        let (id, compacted) = self.compacted.take().unwrap();
        self.logs.handle_compacted(id, Some(compacted));
        self.run();
        self.take()
    }

    fn synced(&mut self) {
        self.logs.handle_synced(Ticket::new(u64::MAX));
        self.run();
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    fn generation(&self, id: u32) -> u64 {
        self.logs.shape(ShapeId(id)).unwrap().with_log(|log| log.start().generation)
    }
}

#[test]
fn a_segment_is_compacted_a_tick_after_it_has_grown() {
    let mut store = Store::new(1, false);
    store.transactions(1..=4, &[1]);
    assert_eq!(store.tick(), Vec::<String>::new(), "it may have come just before");
    store.transactions([5], &[1]);
    assert_eq!(store.tick(), ["compact 4 items of 1"]);
    assert_eq!(store.drafted(), ["finish 5 items of 1"]);
    assert_eq!(store.compacted(), Vec::<String>::new());
    assert_eq!(store.generation(1), 0, "a crash may still take it back");
    assert_eq!((store.tick(), store.tick()), (vec![], vec![]));
    store.synced();
    assert_eq!(store.generation(1), 1);
    // Who has looked into the old one reads to the end.
    assert_eq!((store.tick(), store.tick()), (vec![], vec!["remove segment 0 of 1".to_owned()]));
}

#[test]
fn it_is_compacted_again_once_it_is_twice_as_long() {
    let mut store = Store::new(1, false);
    store.transactions(1..=8, &[1]);
    store.ticks();
    store.drafted();
    store.compacted();
    store.synced();
    // It has the bytes of four items now.
    store.transactions(9..=11, &[1]);
    let told: Vec<String> = (0..4).flat_map(|_| store.tick()).collect();
    assert_eq!(told, ["remove segment 0 of 1"]);
    store.transactions([12], &[1]);
    assert_eq!(store.ticks(), ["compact 12 items of 1"]);
}

#[test]
fn what_came_while_it_was_compacted_is_compacted_next() {
    let mut store = Store::new(1, false);
    store.transactions(1..=4, &[1]);
    store.ticks();
    store.transactions(5..=12, &[1]);
    store.drafted();
    store.compacted();
    store.synced();
    let told: Vec<String> = (0..4).flat_map(|_| store.tick()).collect();
    assert_eq!(told, ["remove segment 0 of 1", "compact 12 items of 1"]);
}

#[test]
fn a_draft_that_saves_little_is_removed() {
    let mut store = Store::new(1, false);
    store.transactions(1..=4, &[1]);
    store.ticks();
    let (_, draft) = store.draft.as_mut().unwrap();
    draft.bytes = draft.plan.len_bytes() * 9 / 10;
    assert_eq!(store.drafted(), ["remove segment 1 of 1"]);
    store.transactions(5..=7, &[1]);
    assert_eq!(store.ticks(), Vec::<String>::new());
    store.transactions([8], &[1]);
    assert_eq!(store.ticks(), ["compact 8 items of 1"]);
}

#[test]
fn a_compaction_that_fails_is_tried_again_later() {
    let mut store = Store::new(1, false);
    store.transactions(1..=4, &[1]);
    store.ticks();
    store.logs.handle_drafted(ShapeId(1), None);
    store.transactions(5..=8, &[1]);
    assert_eq!(store.ticks(), ["compact 8 items of 1"]);
    store.drafted();
    store.logs.handle_compacted(ShapeId(1), None);
    assert_eq!(store.generation(1), 0);
    // What came meanwhile is not lost to the segment.
    store.transactions(9..=16, &[1]);
    assert_eq!(store.ticks(), ["compact 16 items of 1"]);
}

#[test]
fn it_is_finished_only_while_the_segment_is_whole_and_nothing_is_written_to_it() {
    let mut store = Store::new(1, false);
    store.transactions(1..=4, &[1]);
    store.ticks();
    // Half of a transaction is in the segment.
    store.logs.handle_begin(Lsn::new(9), 7);
    for op in [0, 2] {
        let mut fragment = Fragment::new(9);
        fragment.push(op, ITEM, &[ShapeId(1)]);
        store.logs.append(&fragment);
    }
    store.logs.flush_tails();
    store.run();
    assert_eq!(store.drafted(), Vec::<String>::new());
    store.logs.commit(Lsn::new(9), Lsn::new(12));
    assert_eq!(store.continued(), ["finish 5 items of 1"]);
    // While it is copied, the tail stays in memory; then it is written to the new segment.
    store.transactions([20], &[1]);
    let tail = |store: &Store| store.logs.shape(ShapeId(1)).unwrap().with_log(|log| log.tail_bytes());
    assert!(tail(&store) > 0);
    store.compacted();
    store.synced();
    store.logs.flush_tails();
    store.run();
    assert_eq!(tail(&store), 0);
}

#[test]
fn a_checkpoint_and_the_end_of_a_compaction_wait_for_each_other() {
    let mut store = Store::new(1, false);
    store.logs.limits.commit_file_bytes_max = 0;
    store.transactions(1..=4, &[1]);
    store.ticks();
    store.logs.begin_checkpoint();
    store.logs.continue_checkpoint(0, |_| None);
    // The checkpoint believes the segment that is there.
    assert_eq!(store.drafted(), Vec::<String>::new());
    store.logs.handle_segments_synced(2);
    assert_eq!(store.continued(), ["finish 4 items of 1"]);
    store.transactions([5], &[1]);
    store.logs.begin_checkpoint();
    store.logs.continue_checkpoint(0, |_| None);
    assert_eq!(store.logs.file_number, 2, "the tail is not written yet");
    store.compacted();
    store.synced();
    store.logs.flush_tails();
    store.run();
    store.logs.continue_checkpoint(0, |_| None);
    assert_eq!(store.logs.file_number, 3);
}

#[test]
fn a_shape_that_goes_ends_its_compaction() {
    for stage in 0..4 {
        let mut store = Store::new(2, false);
        store.transactions(1..=4, &[1]);
        store.transactions(5..=8, &[2]);
        store.ticks();
        if stage > 0 {
            store.drafted();
        }
        if stage == 3 {
            store.compacted();
        }
        store.logs.remove(ShapeId(1), DropCause::Deleted);
        let told = match stage {
            0 => store.drafted(),
            1 => store.compacted(),
            3 => {
                store.synced();
                let (folder, begun) = store.told.split_first().unwrap();
                assert_eq!(folder, "remove folder of 1");
                begun.to_vec()
            }
            _ => {
                store.logs.handle_compacted(ShapeId(1), None);
                store.run();
                store.take()
            }
        };
        assert_eq!(told, ["compact 4 items of 2"], "{stage}");
    }
}

#[test]
fn few_small_segments_are_compacted_at_a_time() {
    let count = 2 * SMALL_SEGMENTS_MAX as u32;
    let mut store = Store::new(count, false);
    store.transactions(1..=4, &(1..=count).collect::<Vec<_>>());
    for _ in 0..2 {
        let mut begun = store.ticks();
        while store.draft.is_some() {
            begun.extend(store.drafted());
            begun.extend(store.compacted());
            store.synced();
            begun.extend(store.take());
        }
        let begun = begun.iter().filter(|effect| effect.starts_with("compact")).count();
        assert_eq!(begun, SMALL_SEGMENTS_MAX);
    }
}

#[test]
fn the_candidates_are_bounded() {
    let count = CANDIDATES_MAX as u32 + 10;
    let mut store = Store::new(count, false);
    store.transactions(1..=2, &(1..=count).collect::<Vec<_>>());
    assert_eq!(store.logs.compactions.candidates(), CANDIDATES_MAX);
}

#[test]
fn shapes_with_subqueries_are_left_as_they_are() {
    let mut store = Store::new(2, true);
    store.transactions(1..=4, &[1, 2]);
    assert_eq!(store.ticks(), ["compact 4 items of 2"]);
}
