//! What the write path decides, and in which order.

use super::*;
use crate::journal::Tables;
use crate::journal::Ticket;
use crate::journal::record::{CreatedShape, Record, SnapshotDone, read_frame};
use crate::log::shape_log::SnapshotProgress;
use crate::log::{Fragment, ShapeLog};
use crate::pg::snapshot::{SnapshotBounds, SnapshotFilter};
use crate::shape::DropCause;
use crate::shape::dependent::{Move, ViewChange};
use crate::{Lsn, Offset, ShapeId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ITEM: &[u8] = b"{\"headers\":{}}";
/// In a log: behind a comma, and where it is the last of its transaction with its mark.
const ITEM_BYTES: usize = 1 + ITEM.len();
const LAST_BYTES: usize = ITEM_BYTES + ",\"last\":true".len();

/// A shape of the tests.
#[derive(Debug, Clone)]
pub(super) struct TestShape {
    pub(super) id: ShapeId,
    pub(super) log: Rc<RefCell<ShapeLog>>,
}

impl SharedShape for TestShape {
    fn with_log<T>(&self, change: impl FnOnce(&mut ShapeLog) -> T) -> T {
        change(&mut self.log.borrow_mut())
    }

    fn created(&self) -> CreatedShape {
        CreatedShape::sample(self.id)
    }
}

/// Logs with shapes, and the effects that were polled, in words.
struct Store {
    logs: Logs<TestShape>,
    shapes: BTreeMap<u32, TestShape>,
    /// Whether tails are reported as written at once.
    flushes: bool,
}

impl Store {
    fn new(limits: Limits, ids: &[u32]) -> Self {
        let mut store = Self {
            logs: Logs::new(limits, 1, Tables::default(), Lsn::ZERO),
            shapes: BTreeMap::new(),
            flushes: true,
        };
        for id in ids {
            let shape = store.shape(*id);
            store.logs.restore(ShapeId(*id), (shape, false), filter(), None, true);
        }
        store
    }

    fn shape(&mut self, id: u32) -> TestShape {
        let log = Rc::new(RefCell::new(ShapeLog::new(1_000_000)));
        let shape = TestShape { id: ShapeId(id), log };
        self.shapes.insert(id, shape.clone());
        shape
    }

    fn register(&mut self, id: u32, has_subqueries: bool) {
        let shape = self.shape(id);
        self.logs.register(ShapeId(id), shape, has_subqueries);
    }

    /// A transaction that commits at `commit`, with one item for each of the shapes.
    fn transaction(&mut self, commit: u64, shapes: &[u32]) {
        self.logs.handle_begin(Lsn::new(commit), 7);
        if !shapes.is_empty() {
            self.logs.append(&fragment(commit, 0, shapes));
        }
        self.logs.commit(Lsn::new(commit), Lsn::new(commit + 5));
    }

    /// Carries out everything that is due.
    fn effects(&mut self) -> Vec<String> {
        let mut effects = Vec::new();
        while let Some(effect) = self.logs.poll_prompt_effect().or_else(|| self.logs.poll_tail()) {
            if let Effect::WriteTail(TailWrite { id, .. }) = &effect
                && self.flushes
            {
                let id = *id;
                effects.push(shown(effect));
                self.logs.handle_flushed(id);
            } else {
                effects.push(shown(effect));
            }
        }
        effects
    }

    fn end_turn(&mut self) -> Vec<String> {
        self.logs.end_turn();
        self.effects()
    }

    fn synced(&mut self, ticket: u64) -> Vec<String> {
        self.logs.handle_synced(Ticket::new(ticket));
        self.effects()
    }

    /// The commit LSN of the last item that a shape's readers see.
    fn visible(&self, id: u32) -> u64 {
        match self.shapes[&id].log.borrow().last_offset() {
            offset if offset.is_virtual() => 0,
            offset => offset.tx(),
        }
    }

    fn confirmable(&self) -> u64 {
        self.logs.confirmable().as_u64()
    }
}

pub(super) fn shown(effect: Effect<TestShape>) -> String {
    let ids = |shapes: &[TestShape]| shapes.iter().map(|shape| shape.id.0).collect::<Vec<_>>();
    match effect {
        Effect::CommitLog(Piece::Append { ticket, bytes }) => {
            format!("append {ticket:?} {}", records(&bytes.to_vec()))
        }
        Effect::CommitLog(Piece::StartFile { number, ticket, checkpoint }) => {
            format!("start file {number} {ticket:?} {}", records(&checkpoint.to_vec()))
        }
        Effect::SyncSegments(SegmentSync { file, shapes }) => {
            format!("sync for file {file} {:?}", ids(&shapes))
        }
        Effect::CommitLog(Piece::DeleteBefore { number }) => format!("delete before {number}"),
        Effect::WriteTail(TailWrite { id, append, .. }) => {
            format!("write {} at {} of {}", append.items.len(), append.items_at, id.0)
        }
        Effect::WorkOnSegment(SegmentWork::Compact { id, plan, .. }) => {
            format!("compact {} items of {}", plan.cut.item, id.0)
        }
        Effect::WorkOnSegment(SegmentWork::Finish { id, end, .. }) => {
            format!("finish {} items of {}", end.item, id.0)
        }
        Effect::WorkOnSegment(SegmentWork::Remove { shape, generation }) => {
            format!("remove segment {generation} of {}", shape.id.0)
        }
        Effect::WorkOnSegment(SegmentWork::RemoveFolder { id, .. }) => {
            format!("remove folder of {}", id.0)
        }
        Effect::Publish { processed, grown } => format!("publish {} {:?}", processed.as_u64(), ids(&grown)),
        Effect::Joined { shape } => format!("joined {}", shape.id.0),
        Effect::Began { commit, .. } => format!("began {}", commit.as_u64()),
        Effect::Moved => "moved".to_owned(),
        Effect::Round(_) => "round".to_owned(),
        Effect::CaughtUp => "caught up".to_owned(),
        Effect::Rotated { shape, cause } => format!("rotated {}: {cause:?}", shape.id.0),
        Effect::Wake { shape } => format!("wake {}", shape.id.0),
        Effect::SnapshotDurable { shape } => format!("snapshot of {} is durable", shape.id.0),
        Effect::Dropped { shape, cause } => format!("dropped {}: {}", shape.id.0, cause.as_str()),
    }
}

/// The records of a piece, by name.
fn records(mut bytes: &[u8]) -> String {
    let mut names = Vec::new();
    while let Some((payload, length)) = read_frame(bytes) {
        let shown = match Record::decode(payload).unwrap() {
            Record::Packed(checkpoint) => {
                let shapes: Vec<_> = checkpoint.ids().map(|id| id.0).collect();
                format!("checkpoint at {} of {shapes:?}", checkpoint.head.processed)
            }
            Record::Commit(tx) => format!("commit {tx}"),
            Record::Bound(bound) => match bound.up_to {
                Some(up_to) => format!("visible to {}", up_to.as_u64()),
                None => "visible to its end".to_owned(),
            },
            record => format!("{record:?}").split(['(', ' ']).next().unwrap().to_lowercase(),
        };
        names.push(shown);
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty());
    names.join(", ")
}

fn fragment(tx: u64, op: u64, shapes: &[u32]) -> Fragment {
    let mut fragment = Fragment::new(tx);
    let shapes: Vec<_> = shapes.iter().copied().map(ShapeId).collect();
    fragment.push(op, ITEM, &shapes);
    fragment
}

fn bounds(xmax: u64) -> SnapshotBounds {
    SnapshotBounds { xmin: xmax, xmax, xip: Vec::new() }
}

fn filter() -> SnapshotFilter {
    SnapshotFilter { bounds: bounds(3), ends_at: 40 }
}

fn a_move(id: u32, consumed: u64, op: u64) -> Move {
    let changes = vec![ViewChange::default()];
    Move { id: ShapeId(id), consumed, changes, items: fragment(consumed, op, &[id]), visible_up_to: None }
}

const fn lsn(position: u64) -> Lsn {
    Lsn::new(position)
}

const TICKET_1: &str = "append Ticket(1)";

#[test]
fn a_transaction_is_shown_at_its_commit_and_then_written() {
    let mut store = Store::new(Limits::default(), &[1, 2, 3]);
    store.logs.handle_begin(lsn(100), 7);
    store.logs.append(&fragment(100, 0, &[1, 3]));
    store.logs.append(&fragment(100, 2, &[3]));
    assert_eq!((store.visible(1), store.visible(3), store.effects()), (0, 0, vec![]));
    store.logs.commit(lsn(100), lsn(105));
    assert_eq!((store.visible(1), store.visible(2), store.visible(3)), (100, 0, 100));
    assert_eq!(store.effects(), ["publish 100 [1, 3]"]);
    assert_eq!(store.end_turn(), [format!("{TICKET_1} items, items, commit 100")]);
    assert_eq!(store.end_turn(), Vec::<String>::new(), "nothing is pending");
}

#[test]
fn a_transaction_is_confirmed_once_it_is_durable() {
    let mut store = Store::new(Limits::default(), &[1]);
    store.logs.handle_connected(lsn(50));
    assert_eq!((store.effects(), store.confirmable()), (vec!["publish 49 []".to_owned()], 50));
    store.transaction(100, &[1]);
    store.end_turn();
    store.transaction(200, &[1]);
    store.end_turn();
    store.transaction(300, &[]);
    store.logs.handle_keepalive(lsn(400));
    assert_eq!(store.confirmable(), 50);
    store.synced(1);
    assert_eq!(store.confirmable(), 105);
    store.synced(2);
    assert_eq!(store.confirmable(), 305, "it touched no shape, and overtakes nothing");
    store.logs.handle_keepalive(lsn(400));
    assert_eq!(store.confirmable(), 400);
}

#[test]
fn what_is_sent_again_is_confirmed_with_what_it_added_before() {
    let mut store = Store::new(Limits::default(), &[1]);
    store.transaction(100, &[1]);
    store.end_turn();
    store.logs.handle_disconnect();
    store.logs.handle_connected(lsn(50));
    store.transaction(100, &[1]);
    assert_eq!(store.effects(), ["publish 100 []", "publish 100 []"], "it shows nothing new");
    assert_eq!(store.confirmable(), 50);
    store.end_turn();
    store.synced(2);
    assert_eq!(store.confirmable(), 105);
}

#[test]
fn a_transaction_that_is_cut_off_is_not_ended_by_another() {
    let mut store = Store::new(Limits::default(), &[1, 2]);
    store.logs.handle_begin(lsn(100), 7);
    store.logs.append(&fragment(100, 0, &[1]));
    store.logs.handle_disconnect();
    store.logs.handle_connected(lsn(50));
    store.transaction(90, &[2]);
    assert_eq!((store.visible(1), store.visible(2)), (0, 90));
    store.transaction(100, &[1]);
    assert_eq!(store.visible(1), 100);
}

#[test]
fn a_new_shape_is_joined_when_the_stream_has_come_to_its_snapshot() {
    let mut store = Store::new(Limits::default(), &[]);
    store.transaction(30, &[]);
    store.effects();
    store.register(4, false);
    store.logs.handle_snapshot_taken(ShapeId(4), lsn(40));
    store.logs.handle_position(lsn(39));
    assert_eq!(store.effects(), Vec::<String>::new());
    store.logs.handle_position(lsn(40));
    assert_eq!(store.end_turn(), ["joined 4".to_owned(), format!("{TICKET_1} table, created, joined")]);
    store.register(5, false);
    store.logs.handle_snapshot_taken(ShapeId(5), lsn(105));
    store.transaction(100, &[]);
    store.logs.handle_position(lsn(105));
    assert_eq!(
        store.effects(),
        ["publish 100 []", "joined 5"],
        "its rows are ahead of what was published before"
    );
    store.end_turn();
    let progress = SnapshotProgress { bytes: 2, chunk_ends: vec![2], complete: true, pack: None };
    store.logs.handle_snapshot_done(SnapshotDone {
        id: ShapeId(4),
        filter: filter(),
        progress,
        content: None,
    });
    assert_eq!(store.end_turn(), ["append Ticket(3) snapshotdone"]);
    assert_eq!(store.synced(2), Vec::<String>::new());
    assert_eq!(store.synced(3), ["snapshot of 4 is durable"]);
}

/// The snapshot may hold a transaction behind one that it does not hold: Postgres shows commits in another order than
/// the WAL has them.
#[test]
fn a_shape_that_moves_joins_once_it_shows_all_up_to_its_snapshot() {
    let mut store = Store::new(Limits::default(), &[]);
    store.register(4, true);
    store.logs.handle_snapshot_taken(ShapeId(4), Lsn::new(100));
    store.logs.set_visible_up_to(ShapeId(4), Some(Lsn::new(63)));
    store.logs.handle_position(Lsn::new(120));
    assert!(!store.end_turn().contains(&"joined 4".to_owned()), "what commits at 64 is held back");
    store.logs.set_visible_up_to(ShapeId(4), Some(Lsn::new(110)));
    store.end_turn();
    assert!(!store.effects().contains(&"joined 4".to_owned()), "that it shows more is not durable");
    let last = store.logs.pending.last_ticket();
    store.logs.handle_synced(last);
    assert!(store.effects().contains(&"joined 4".to_owned()));
}

#[test]
fn a_restored_shape_joins_anew_where_that_was_not_durable() {
    let mut store = Store::new(Limits { commit_file_bytes_max: 0, ..Limits::default() }, &[1]);
    let shape = TestShape { id: ShapeId(2), log: Rc::new(RefCell::new(ShapeLog::new(1_000_000))) };
    let filter = SnapshotFilter { ends_at: 90, ..filter() };
    store.logs.restore(ShapeId(2), (shape, false), filter, None, false);
    let is_joined =
        |store: &Store| store.logs.ids().iter().map(|id| store.logs.shapes[id].is_joined).collect();
    store.logs.handle_position(lsn(89));
    let before: Vec<bool> = is_joined(&store);
    store.logs.handle_position(lsn(90));
    let after: Vec<bool> = is_joined(&store);
    assert_eq!((before, after), (vec![true, false], vec![true, true]));
    assert_eq!(store.end_turn(), ["joined 2".to_owned(), format!("{TICKET_1} joined")]);
}

#[test]
fn a_snapshot_must_hold_what_was_read_before_the_shape_was_there() {
    let mut store = Store::new(Limits::default(), &[]);
    store.logs.handle_begin(lsn(100), 7);
    store.register(4, false);
    store.logs.commit(lsn(100), lsn(105));
    store.logs.handle_begin(lsn(200), 8);
    assert!(!store.logs.is_snapshot_complete(ShapeId(4), &bounds(7)));
    assert!(store.logs.is_snapshot_complete(ShapeId(4), &bounds(8)), "what began later comes by the stream");
    assert!(!store.logs.are_logs_in(&bounds(7)));
    assert!(store.logs.are_logs_in(&bounds(8)));
    store.logs.handle_snapshot_taken(ShapeId(4), lsn(40));
    assert!(store.logs.is_snapshot_complete(ShapeId(4), &bounds(7)), "it was decided");
}

#[test]
fn a_dropped_shape_keeps_its_files_until_that_is_durable() {
    let mut store = Store::new(Limits::default(), &[1, 2]);
    store.transaction(100, &[1, 2]);
    store.end_turn();
    store.logs.remove(ShapeId(1), DropCause::Deleted);
    assert_eq!(store.effects(), ["dropped 1: deleted"]);
    assert_eq!(store.logs.ids(), [ShapeId(2)]);
    assert_eq!(store.logs.tails_bytes(), LAST_BYTES, "its tail is gone");
    store.end_turn();
    assert_eq!(store.synced(1), Vec::<String>::new());
    assert_eq!(store.synced(2), ["remove folder of 1"]);
    store.transaction(200, &[1, 2]);
    assert_eq!(store.effects(), ["publish 200 [2]"]);
    store.logs.remove(ShapeId(1), DropCause::Deleted);
    assert_eq!(store.effects(), Vec::<String>::new());
}

#[test]
fn a_move_is_visible_once_it_is_durable_and_confirmed_then() {
    let mut store = Store::new(Limits::default(), &[1, 2]);
    store.transaction(100, &[1, 2]);
    store.logs.set_visible_up_to(ShapeId(1), Some(lsn(199)));
    store.transaction(200, &[1, 2]);
    store.end_turn();
    store.synced(1);
    assert_eq!((store.visible(1), store.visible(2)), (100, 200));
    assert_eq!(
        store.confirmable(),
        199,
        "a crash needs the transaction again: the shape still has to resolve it"
    );
    store.logs.append_move(a_move(1, 200, 4));
    store.logs.set_visible_up_to(ShapeId(1), None);
    assert_eq!(store.end_turn(), ["wake 1", "append Ticket(2) move, visible to its end"]);
    assert_eq!((store.visible(1), store.confirmable()), (100, 199));
    assert_eq!(store.synced(2), ["wake 1"]);
    assert_eq!(store.shapes[&1].log.borrow().last_offset(), Offset::new(200, 4));
    assert_eq!(store.confirmable(), 205);
}

#[test]
fn a_shape_whose_subqueries_are_unknown_holds_back_what_is_confirmed() {
    let mut store = Store::new(Limits::default(), &[]);
    store.logs.handle_connected(lsn(50));
    store.register(4, true);
    store.register(5, false);
    store.transaction(100, &[]);
    store.end_turn();
    store.synced(1);
    assert_eq!(store.confirmable(), 50);
    store.logs.handle_views(ShapeId(4));
    assert_eq!(store.confirmable(), 105);
    store.register(6, true);
    store.transaction(200, &[]);
    store.end_turn();
    store.synced(2);
    assert_eq!(store.confirmable(), 105);
    store.logs.remove(ShapeId(6), DropCause::CreationFailed);
    assert_eq!(store.confirmable(), 205);
}

/// A crash before that is durable brings it back, and what it has to resolve must come again.
#[test]
fn a_shape_that_was_dropped_in_a_move_holds_back_what_is_confirmed_until_that_is_durable() {
    let mut store = Store::new(Limits::default(), &[1, 2]);
    store.logs.set_visible_up_to(ShapeId(1), Some(Lsn::new(99)));
    store.transaction(100, &[2]);
    store.end_turn();
    let last = store.logs.pending.last_ticket();
    store.logs.handle_synced(last);
    assert_eq!(store.confirmable(), 99);
    store.logs.remove(ShapeId(1), DropCause::Deleted);
    assert_eq!(store.confirmable(), 99);
    store.end_turn();
    assert_eq!(store.confirmable(), 99);
    let last = store.logs.pending.last_ticket();
    store.logs.handle_synced(last);
    assert_eq!(store.confirmable(), 105);
}

#[test]
fn what_was_held_back_ends_no_transaction_of_other_shapes() {
    let mut store = Store::new(Limits::default(), &[1, 2]);
    store.logs.handle_begin(lsn(100), 7);
    store.logs.append(&fragment(100, 0, &[1]));
    store.logs.backfill(fragment(90, 0, &[2]));
    assert_eq!((store.visible(1), store.visible(2)), (0, 90));
    assert_eq!(store.effects(), ["wake 2"]);
    store.logs.commit(lsn(100), lsn(105));
    assert_eq!(store.end_turn(), ["publish 100 [1]", "append Ticket(1) items, backfill, commit 100"]);
}

#[test]
fn a_long_tail_is_written() {
    let limits = Limits { tail_bytes_max: 2 * LAST_BYTES, ..Limits::default() };
    let mut store = Store::new(limits, &[1, 2]);
    store.transaction(100, &[1, 2]);
    store.transaction(200, &[1]);
    assert_eq!(store.effects(), ["publish 100 [1, 2]", "publish 200 [1]"]);
    store.transaction(300, &[1]);
    // With what is finished when it is taken.
    let written = format!("write {} at 0 of 1", 3 * LAST_BYTES);
    assert_eq!(store.effects(), ["publish 300 [1]".to_owned(), written]);
    assert_eq!(store.logs.tails_bytes(), LAST_BYTES, "the other one stays");
}

#[test]
fn what_comes_while_a_tail_is_written_waits_for_the_next_time() {
    let limits = Limits { tail_bytes_max: LAST_BYTES, ..Limits::default() };
    let mut store = Store::new(limits, &[1]);
    store.flushes = false;
    store.transaction(100, &[1]);
    store.transaction(200, &[1]);
    store.effects();
    store.transaction(300, &[1]);
    store.transaction(400, &[1]);
    assert_eq!(store.effects(), ["publish 300 [1]", "publish 400 [1]"], "it is being written already");
    assert_eq!(store.logs.tails_bytes(), 4 * LAST_BYTES);
    store.logs.handle_flushed(ShapeId(1));
    assert_eq!(store.logs.tails_bytes(), 2 * LAST_BYTES);
    assert_eq!(store.effects(), [format!("write {} at {} of 1", 2 * LAST_BYTES, 2 * LAST_BYTES)]);
    store.logs.handle_flushed(ShapeId(1));
    assert_eq!((store.logs.tails_bytes(), store.effects()), (0, vec![]));
}

#[test]
fn what_comes_while_all_tails_are_written_is_written_behind_them() {
    let limits = Limits { tails_bytes_max: 2 * LAST_BYTES, ..Limits::default() };
    let mut store = Store::new(limits, &[1, 2]);
    store.flushes = false;
    store.transaction(100, &[1, 2]);
    store.transaction(200, &[1]);
    let written = |bytes, at, id| format!("write {bytes} at {at} of {id}");
    let effects = store.effects();
    assert!(effects.contains(&written(2 * LAST_BYTES, 0, 1)), "all are full: {effects:?}");
    // The first is being written, to which three more come.
    [300, 400, 500].iter().for_each(|commit| store.transaction(*commit, &[1]));
    store.effects();
    store.logs.handle_flushed(ShapeId(1));
    assert_eq!(store.effects(), [written(3 * LAST_BYTES, 2 * LAST_BYTES, 1)], "too much is left");
}

#[test]
fn all_tails_together_are_bounded_also_inside_a_transaction() {
    let limits = Limits { tails_bytes_max: 20 * ITEM_BYTES, ..Limits::default() };
    let ids: Vec<u32> = (0..10).collect();
    let mut store = Store::new(limits, &ids);
    store.logs.handle_begin(lsn(100), 7);
    let mut longest = 0;
    for op in 0..50 {
        store.logs.append(&fragment(100, 2 * op, &ids));
        longest = longest.max(store.logs.tails_bytes());
        store.effects();
    }
    assert!(longest <= 30 * ITEM_BYTES, "one fragment beyond the limit at most: {longest}");
    assert!(store.logs.tails_bytes() <= 20 * ITEM_BYTES);
    store.logs.commit(lsn(100), lsn(105));
    assert_eq!((store.visible(0), store.visible(9)), (100, 100));
}

#[test]
fn a_fragment_is_full_also_by_the_shapes_that_it_goes_to() {
    let limits =
        Limits { fragment_bytes_max: 1_000, fragment_delivered_bytes_max: 10_000, ..Limits::default() };
    let mut fragment = Fragment::new(100);
    let shapes: Vec<_> = (0..100).map(ShapeId).collect();
    fragment.push(0, &[b'a'; 99], &shapes);
    assert!(!limits.is_full(&fragment));
    fragment.push(2, b"a", &shapes);
    assert!(limits.is_full(&fragment));
    fragment.reset(200);
    fragment.push(0, &[b'a'; 1_000], &[ShapeId(1)]);
    assert!(limits.is_full(&fragment));
}

#[test]
fn much_that_is_pending_is_handed_on_within_a_turn() {
    let limits = Limits { pending_bytes_max: 60, ..Limits::default() };
    let mut store = Store::new(limits, &[1]);
    store.logs.handle_begin(lsn(100), 7);
    store.logs.append(&fragment(100, 0, &[1]));
    assert_eq!(store.effects(), Vec::<String>::new());
    store.logs.append(&fragment(100, 2, &[1]));
    assert_eq!(store.effects(), [format!("{TICKET_1} items, items")]);
}

#[test]
fn a_checkpoint_waits_for_tails_and_the_older_files_for_segments() {
    let limits = Limits { commit_file_bytes_max: 60, ..Limits::default() };
    let mut store = Store::new(limits, &[1, 2]);
    store.flushes = false;
    store.transaction(100, &[2]);
    store.end_turn();
    store.logs.begin_checkpoint();
    store.logs.continue_checkpoint(70, |_| None);
    assert_eq!(store.effects(), [format!("write {LAST_BYTES} at 0 of 2")]);
    store.transaction(200, &[2]);
    store.logs.continue_checkpoint(70, |_| None);
    assert_eq!(store.effects(), ["publish 200 [2]"], "the tail is being written");
    store.logs.handle_flushed(ShapeId(2));
    store.logs.continue_checkpoint(70, |_| None);
    assert_eq!(
        store.effects(),
        [format!("write {LAST_BYTES} at {LAST_BYTES} of 2")],
        "more has come meanwhile"
    );
    store.logs.handle_flushed(ShapeId(2));
    store.logs.continue_checkpoint(70, |_| None);
    assert_eq!(
        store.effects(),
        [
            "append Ticket(2) items, commit 200",
            "start file 2 Ticket(3) checkpoint at 200 of [1, 2]",
            "sync for file 2 [2]",
        ]
    );
    store.logs.begin_checkpoint();
    store.logs.continue_checkpoint(70, |_| None);
    assert_eq!(store.effects(), Vec::<String>::new(), "one at a time");
    store.logs.handle_segments_synced(2);
    assert_eq!(store.effects(), ["delete before 2"]);
    store.logs.begin_checkpoint();
    assert_eq!(store.effects(), Vec::<String>::new(), "the new file is short");
}

#[test]
fn every_limit_of_the_write_path_is_that_of_the_table() {
    // As `docs/operate.md` tells them.
    assert_eq!(
        Limits::default(),
        Limits {
            tail_bytes_max: 64 << 10,
            tails_bytes_max: 24 << 20,
            pending_bytes_max: 1 << 20,
            commit_file_bytes_max: 64 << 20,
            fragment_bytes_max: 256 << 10,
            fragment_delivered_bytes_max: 16 << 20,
        }
    );
}
