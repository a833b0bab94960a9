//! Which shapes a restart brings back, and with which logs.

use super::*;
use crate::Offset;
use crate::journal::record::ShapePartitions;
use crate::journal::record::{ShapeBound, ShapeJoined, ShapeViews};
use crate::journal::samples::{
    self, Changes, ITEM, LAST, NOT_LAST, PLACE, checkpoint, compacted, created, done, items, moved,
    small_snapshot,
};
use crate::log::compaction::SegmentStart;
use crate::log::{Clock, Read};
use crate::shape::dependent::{Member, Move, View, ViewChange};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn recover_with(records: Vec<Record>, tail_bytes_max: usize) -> (RecoveredStore, Changes) {
    samples::recover(records, 1_000, tail_bytes_max)
}

fn recover(records: Vec<Record>) -> RecoveredStore {
    recover_with(records, usize::MAX).0
}

fn read(shape: &RecoveredShape, processed: u64) -> Read {
    shape.log.read(Offset::SNAPSHOT_END, Clock { processed: Lsn::new(processed), is_current: true })
}

fn text(shape: &RecoveredShape) -> String {
    match read(shape, 0) {
        Read::Changes { range, .. } => String::from_utf8(shape.log.tail_part(range.bytes).to_vec()).unwrap(),
        _ => String::new(),
    }
}

fn bound(id: u32, up_to: Option<u64>) -> Record {
    Record::Bound(ShapeBound { id: ShapeId(id), up_to: up_to.map(Lsn::new) })
}

fn ids(store: &RecoveredStore) -> Vec<u32> {
    store.shapes.iter().map(|shape| shape.created.id.0).collect()
}

#[test]
fn items_count_up_to_the_last_commit() {
    let records = vec![
        created(3),
        done(3),
        Record::Items(items(20, 0, &[3])),
        Record::Items(items(20, 2, &[3])),
        Record::Commit(20),
        Record::Items(items(30, 0, &[3])),
    ];
    let store = recover(records);
    assert_eq!((store.processed, store.next_id), (20, 4));
    assert_eq!(text(&store.shapes[0]), [NOT_LAST, LAST].concat());
    assert_eq!(store.shapes[0].log.tail_bytes(), NOT_LAST.len() + LAST.len(), "and nothing is open");
    assert_eq!((store.shapes[0].handle.created_us(), store.last_handle_us), (3, 3));
}

#[test]
fn what_is_not_an_item_counts_behind_the_last_commit_too() {
    let made = moved(2, 40, items(40, 0, &[2]));
    let records = vec![
        created(1),
        Record::Commit(20),
        Record::Items(items(50, 0, &[2])),
        created(2),
        done(1),
        done(2),
        Record::Backfill(items(30, 0, &[1])),
        Record::Move(made),
    ];
    let store = recover(records);
    assert_eq!(store.shapes.iter().map(text).collect::<Vec<_>>(), [LAST, NOT_LAST]);
}

#[test]
fn a_backfill_ends_no_transaction_of_other_shapes() {
    let records = vec![
        created(1),
        done(1),
        created(2),
        Record::Items(items(30, 0, &[1])),
        Record::Backfill(items(20, 0, &[2])),
        Record::Items(items(30, 2, &[1, 2])),
        Record::Commit(30),
        done(2),
    ];
    let store = recover(records);
    assert_eq!(text(&store.shapes[0]), [NOT_LAST, LAST].concat());
    assert_eq!(text(&store.shapes[1]), [LAST, LAST].concat());
}

#[test]
fn what_is_removed_or_unfinished_does_not_come_back() {
    let items = Record::Items(items(20, 0, &[1, 2, 3]));
    let mut records = vec![created(1), done(1), created(2), created(3), done(3), items, Record::Commit(20)];
    records.extend([Record::Removed(ShapeId(1)), created(7)]);
    let store = recover(records);
    assert_eq!((ids(&store), store.next_id), (vec![3], 8));
}

#[test]
fn the_files_of_a_shape_that_is_removed_later_are_left_alone() {
    let records = vec![
        created(1),
        small_snapshot(1),
        Record::Items(items(20, 0, &[1])),
        Record::Commit(20),
        Record::Removed(ShapeId(1)),
    ];
    let (_, Changes { flushed, snapshots }) = recover_with(records, 0);
    assert_eq!((flushed, snapshots), (vec![], vec![]), "its folder may be gone");
}

#[test]
fn a_snapshot_that_only_the_commit_log_holds_is_written_again() {
    let (store, changes) = recover_with(vec![created(1), small_snapshot(1), created(2), done(2)], 0);
    assert_eq!(ids(&store), [1, 2]);
    assert_eq!(changes.snapshots, [(1, Some(PLACE), b",1".to_vec())]);
    let places: Vec<_> = store.shapes.iter().map(|shape| shape.log.pack()).collect();
    assert_eq!(places, [Some(PLACE), None]);
}

#[test]
fn what_subqueries_return_and_how_far_a_log_is_whole_is_remembered() {
    let member = |text: &str| Member::new([Some(text.as_bytes())]);
    let views = vec![View::from_iter([member("1")])];
    let mut records = vec![created(1), Record::Views(ShapeViews { id: ShapeId(1), views }), done(1)];
    records.push(bound(1, Some(20)));
    let dependent = |records: Vec<Record>| recover(records).shapes.remove(0).dependent;
    let before = dependent(records.clone());
    assert!(before.views[0].has(&member("1")));
    assert_eq!((before.consumed, before.visible_up_to), (0, Some(Lsn::new(20))));

    let change = ViewChange { enter: vec![member("2")], leave: vec![member("1")] };
    let made = Move { changes: vec![change], ..moved(1, 30, items(30, 4, &[1])) };
    let held = Record::Move(Move { visible_up_to: Some(Lsn::new(35)), ..made.clone() });
    let cut_off = dependent([records.clone(), vec![held]].concat());
    assert_eq!(
        (cut_off.consumed, cut_off.visible_up_to),
        (30, Some(Lsn::new(35))),
        "what commits at 36 waits for the next move"
    );
    records.push(Record::Move(made));
    let after = dependent(records);
    assert!(after.views[0].has(&member("2")) && !after.views[0].has(&member("1")));
    assert_eq!((after.consumed, after.visible_up_to), (30, None));
}

#[test]
fn a_shape_with_subqueries_joins_anew_where_that_was_not_durable() {
    let views = Record::Views(ShapeViews { id: ShapeId(1), views: vec![View::default()] });
    let records = vec![created(1), views, done(1)];
    assert_eq!(told(records.clone()), Read::Pending);
    let joined = Record::Joined(ShapeJoined { id: ShapeId(1), processed: 80 });
    assert!(matches!(told([records, vec![joined]].concat()), Read::End { up_to_date: Some(_), .. }));
    assert!(matches!(told(vec![created(1), done(1)]), Read::End { up_to_date: Some(_), .. }), "without");
}

/// What readers are told of a shape whose transactions were processed up to 90.
fn told(records: Vec<Record>) -> Read {
    read(&recover(records).shapes[0], 90)
}

#[test]
fn a_log_with_more_than_its_whole_part_is_not_called_up_to_date() {
    let records = vec![created(1), done(1), Record::Items(items(50, 0, &[1])), bound(1, Some(49))];
    let records = [records, vec![Record::Commit(50)]].concat();
    assert!(matches!(told(records.clone()), Read::Changes { up_to_date: None, .. }));
    let lifted = [records, vec![bound(1, None)]].concat();
    assert!(matches!(told(lifted), Read::Changes { up_to_date: Some(lsn), .. } if lsn == Lsn::new(90)));
}

#[test]
fn a_move_tells_how_far_its_rows_are_whatever_bound_follows() {
    let made = moved(1, 30, items(20, 4, &[1]));
    let records = vec![created(1), done(1), Record::Move(made), bound(1, Some(25))];
    assert!(matches!(told(records), Read::Changes { up_to_date: Some(lsn), .. } if lsn == Lsn::new(30)));
}

#[test]
fn a_checkpoint_is_where_a_recovery_begins() {
    let stored = |bound| {
        let mut stored = checkpoint(90, &[1]);
        stored.last_handle_us = 70;
        stored.shapes[0].dependent.visible_up_to = bound;
        Record::Checkpoint(Box::new(stored))
    };
    let store = recover(vec![stored(Some(Lsn::new(50)))]);
    assert_eq!((store.processed, store.shapes.len(), store.next_id), (90, 1, 2));
    assert_eq!(store.last_handle_us, 70, "of a shape that was gone before");
    assert_eq!(store.shapes[0].dependent.visible_up_to, Some(Lsn::new(50)));
}

#[test]
fn a_compacted_segment_holds_what_the_records_before_it_append() {
    let last = LAST.len() as u64;
    let records = vec![
        Record::Checkpoint(Box::new(checkpoint(10, &[1, 2]))),
        Record::Items(items(20, 0, &[1, 2])),
        Record::Commit(20),
        compacted(1, (1, 20), last, last),
        Record::Items(items(30, 0, &[1])),
        Record::Commit(30),
        compacted(1, (2, 30), 2 * last, last),
        compacted(9, (1, 30), 2 * last, last),
        Record::Items(items(40, 0, &[1])),
        Record::Commit(40),
        Record::Items(items(50, 0, &[1])),
    ];
    let (store, changes) = recover_with(records, 0);
    // Each when its item comes, and when its transaction ends: of the first shape only what is in no segment yet.
    assert_eq!(changes.flushed.iter().map(|(handle, _)| *handle).collect::<Vec<_>>(), [2, 2, 1, 1]);
    let log = &store.shapes[0].log;
    assert_eq!((log.start().generation, log.start().byte), (2, last));
    assert_eq!((log.flushed_bytes(), log.last_offset()), (3 * last, Offset::new(40, 0)));
    assert_eq!(store.shapes[1].log.start(), SegmentStart::default());
}

#[test]
fn a_later_checkpoint_names_what_outlived_the_writer() {
    let later = Record::Checkpoint(Box::new(checkpoint(90, &[1, 3])));
    let first = Record::Checkpoint(Box::new(checkpoint(50, &[1])));
    let items = Record::Items(items(60, 0, &[1]));
    // The snapshot of 2 was being taken when the writer was killed, of 4 there may be no files any more; 3 is not in
    // the files before.
    let records = vec![first, created(2), created(4), done(4), items, Record::Commit(60), later];
    let store = recover(records);
    assert_eq!((ids(&store), store.processed, store.next_id), (vec![1, 3], 90, 5));
    assert_eq!(text(&store.shapes[0]), LAST, "the records before say what the checkpoint says");
}

#[test]
fn partitions_are_those_that_were_told_last() {
    let partitions =
        |table, oid| Record::Partitions(ShapePartitions { id: ShapeId(1), table, partitions: vec![oid] });
    let records =
        vec![created(1), done(1), partitions(None, 8), partitions(Some(1), 9), partitions(Some(7), 10)];
    let created = &recover(records).shapes[0].created.created();
    assert_eq!(created.partitions, [9]);
    assert_eq!(created.inner_partitions.iter().collect::<Vec<_>>(), [(&7, &vec![10])]);
}

#[test]
fn a_shape_that_joined_tells_how_far_all_others_are() {
    let joined = Record::Joined(ShapeJoined { id: ShapeId(1), processed: 80 });
    assert_eq!(recover(vec![created(1), done(1), Record::Commit(20), joined]).processed, 80);
}

#[test]
fn long_tails_are_handed_out() {
    let records = vec![
        created(1),
        Record::Items(items(20, 0, &[1])),
        Record::Items(items(20, 2, &[1])),
        Record::Commit(20),
    ];
    let (_, changes) = recover_with(records, ITEM.len() + 1);
    let (two, last) = (2 * NOT_LAST.len(), LAST.len());
    assert_eq!(changes.flushed, [(1, two), (1, last)]);
}
