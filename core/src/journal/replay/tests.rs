//! What each record changes, and that both policies come to the same.

use super::*;
use crate::journal::record::CreatedShape;
use crate::journal::record::{ShapeBound, ShapeJoined};
use crate::journal::samples::{checkpoint, compacted, created, done, items, moved};
use std::convert::Infallible;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

mod policies;

/// What each record changes, in short, as it comes.
fn told(records: Vec<Record>) -> Vec<String> {
    let mut replay = Replay::new(Policy::AsItComes, 1_000);
    let mut told = Vec::new();
    for record in records {
        let each = |event: Event<'_>| {
            told.push(short(&event));
            Ok::<_, Infallible>(())
        };
        replay.handle_record(record, each).unwrap();
    }
    told
}

fn short(event: &Event<'_>) -> String {
    match event {
        Event::Added(shape) => format!("added {}", shape.created.id.0),
        Event::Snapshot { id, content, .. } => {
            format!("{} bytes of the snapshot of {}", content.len(), id.0)
        }
        Event::Readable(id, _) => format!("readable {}", id.0),
        Event::Log(id, change) => format!("{} {}", short_change(change), id.0),
        Event::Partitions(now) => format!("partitions {}", now.id.0),
        Event::Views(views) => format!("views {}", views.id.0),
        Event::Moved(made) => format!("moved {}", made.id.0),
        Event::Bound { id, up_to, processed } => {
            format!("bound {} at {:?} of {}", id.0, up_to.map(Lsn::as_u64), processed.as_u64())
        }
        Event::Removed(id) => format!("removed {}", id.0),
        Event::Processed(lsn) => format!("processed {}", lsn.as_u64()),
    }
}

fn short_change(change: &LogChange<'_>) -> String {
    match change {
        LogChange::Append { tx, items } => format!("{} of {tx} to", items.len()),
        LogChange::Commit => "commit".to_owned(),
        LogChange::EndMove => "end move".to_owned(),
        LogChange::Snapshot(_) => "snapshot".to_owned(),
        LogChange::Joined => "joined".to_owned(),
        LogChange::Compacted(_) => "compacted".to_owned(),
    }
}

#[test]
fn a_shape_of_a_checkpoint_that_had_not_joined_joins_by_a_record() {
    let mut start = checkpoint(20, &[1, 2]);
    start.shapes[1].is_joined = false;
    let joined = Record::Joined(ShapeJoined { id: ShapeId(2), processed: 30 });
    let told = told(vec![Record::Checkpoint(Box::new(start)), joined]);
    let of_interest = told.iter().filter(|it| it.starts_with("joined") || it.starts_with("processed"));
    assert_eq!(of_interest.collect::<Vec<_>>(), ["joined 1", "processed 20", "processed 30", "joined 2"]);
    let bounds: Vec<_> = told.iter().filter(|it| it.starts_with("bound")).collect();
    assert_eq!(
        bounds,
        ["bound 1 at None of 20", "bound 2 at None of 0"],
        "it may have to resolve what was read"
    );
}

#[test]
fn a_shape_is_readable_once_its_snapshot_is_durable() {
    let joined = Record::Joined(ShapeJoined { id: ShapeId(1), processed: 30 });
    let removed = Record::Removed(ShapeId(1));
    let expected =
        ["added 1", "snapshot 1", "readable 1", "processed 30", "joined 1", "removed 1", "processed 30"];
    assert_eq!(told(vec![created(1), done(1), joined.clone(), removed, joined]), expected);
}

#[test]
fn nothing_is_told_of_a_shape_that_is_not_there() {
    let id = ShapeId(1);
    let partitions = ShapePartitions { id, table: None, partitions: vec![7] };
    let views = ShapeViews { id, views: Vec::new() };
    let made = moved(1, 30, items(30, 0, &[1]));
    let records = vec![
        done(1),
        Record::Items(items(20, 0, &[1])),
        Record::Backfill(items(20, 0, &[1])),
        Record::Move(made.clone()),
        Record::Bound(ShapeBound { id, up_to: Some(Lsn::new(20)) }),
        Record::Partitions(partitions.clone()),
        Record::Views(views.clone()),
        Record::Removed(id),
    ];
    assert_eq!(told(records), Vec::<String>::new());
    // Nor is a name believed that was never given to anybody.
    let unreadable = CreatedShape { handle: "x".to_owned(), ..CreatedShape::sample(id).described() };
    assert_eq!(told(vec![Record::Created(Box::new(unreadable)), done(1)]), Vec::<String>::new());
    let records = vec![
        created(1),
        Record::Partitions(partitions),
        Record::Views(views),
        Record::Bound(ShapeBound { id, up_to: Some(Lsn::new(20)) }),
        Record::Bound(ShapeBound { id, up_to: None }),
        Record::Move(made),
    ];
    let mut expected = vec!["added 1", "partitions 1", "views 1", "bound 1 at Some(20) of 0"];
    expected.push("bound 1 at None of 0");
    expected.extend(["1 of 30 to 1", "end move 1", "moved 1", "bound 1 at Some(30) of 30"]);
    assert_eq!(told(records), expected);
}

#[test]
fn a_transaction_ends_for_all_shapes_that_it_reached_and_a_backfill_for_its_own() {
    let mut fragment = items(30, 0, &[2, 1]);
    fragment.push(2, b"{}", &[ShapeId(1), ShapeId(9)]);
    let records = vec![
        created(1),
        created(2),
        Record::Items(fragment),
        Record::Backfill(items(20, 0, &[2])),
        Record::Commit(30),
        Record::Commit(25),
    ];
    let mut expected = vec!["added 1", "added 2", "2 of 30 to 1", "1 of 30 to 2", "1 of 20 to 2", "commit 2"];
    expected.extend(["commit 1", "processed 30", "processed 30"]);
    assert_eq!(told(records), expected);
}

#[test]
fn a_shape_that_goes_in_an_open_transaction_or_moves_is_not_committed() {
    let made = moved(2, 30, items(30, 2, &[2]));
    let records = vec![
        Record::Checkpoint(Box::new(checkpoint(5, &[1, 2]))),
        Record::Items(items(30, 0, &[1, 2])),
        Record::Removed(ShapeId(1)),
        Record::Move(made),
        Record::Commit(30),
    ];
    let told = told(records);
    assert!(!told.iter().any(|event| event.starts_with("commit")), "{told:?}");
}

#[test]
fn the_first_checkpoint_tells_all_and_a_later_one_what_is_new() {
    let mut first = checkpoint(50, &[1, 2, 3]);
    first.shapes[0].dependent.visible_up_to = Some(Lsn::new(40));
    first.shapes[1].filter = None;
    let later = checkpoint(40, &[1, 4]);
    let records = vec![Record::Checkpoint(Box::new(first)), Record::Checkpoint(Box::new(later))];
    let mut expected = vec!["added 1", "bound 1 at Some(40) of 50", "joined 1", "readable 1"];
    expected.extend(["added 2", "bound 2 at None of 50", "joined 2"]);
    expected.extend(["added 3", "bound 3 at None of 50", "joined 3", "readable 3", "processed 50"]);
    expected.extend(["removed 2", "removed 3"]);
    expected.extend(["added 4", "bound 4 at None of 40", "joined 4", "readable 4", "processed 50"]);
    assert_eq!(told(records), expected);
}

#[test]
fn a_transaction_that_was_cut_off_stays_open_over_a_new_file_until_it_comes_again() {
    let file = vec![
        Record::Checkpoint(Box::new(checkpoint(5, &[1]))),
        created(2),
        Record::Items(items(30, 0, &[1, 2])),
    ];
    let again = vec![
        Record::Checkpoint(Box::new(checkpoint(5, &[1]))),
        Record::Items(items(30, 0, &[1])),
        Record::Commit(30),
    ];
    let mut expected = vec!["added 1", "bound 1 at None of 5", "joined 1", "readable 1", "processed 5"];
    expected.extend(["added 2", "1 of 30 to 1", "1 of 30 to 2", "removed 2", "processed 5"]);
    expected.extend(["1 of 30 to 1", "commit 1", "processed 30"]);
    assert_eq!(told([file, again].concat()), expected);
}

#[test]
fn a_compaction_is_told_in_its_place() {
    let records = vec![
        created(1),
        Record::Items(items(20, 0, &[1])),
        compacted(2, (1, 20), 9, 9),
        compacted(1, (1, 20), 9, 9),
        Record::Commit(20),
    ];
    assert_eq!(told(records)[1..], ["1 of 20 to 1", "compacted 1", "commit 1", "processed 20"]);
}

#[test]
fn an_error_ends_the_record_and_is_told() {
    let mut replay = Replay::new(Policy::AsItComes, 1_000);
    let mut events = 0;
    let failed = replay.handle_record(Record::Checkpoint(Box::new(checkpoint(5, &[1, 2]))), |_| {
        events += 1;
        Err("the disk is full")
    });
    assert_eq!((failed, events), (Err("the disk is full"), 1));
}

#[test]
fn readers_are_woken_where_they_can_be_told_more() {
    let mut log = ShapeLog::new(1_000);
    let fragment = items(20, 0, &[1]);
    let mut pairs = Vec::new();
    let items: Vec<_> = fragment.by_shape(&mut pairs).collect();
    let progress = SnapshotProgress { bytes: 2, chunk_ends: vec![2], complete: true, pack: None };
    assert!(!LogChange::Snapshot(progress).apply(&mut log));
    assert!(!LogChange::Commit.apply(&mut log), "of nothing");
    assert!(LogChange::Joined.apply(&mut log));
    assert!(!LogChange::Append { tx: 20, items: &items }.apply(&mut log));
    assert!(LogChange::Commit.apply(&mut log));
    assert!(!LogChange::Append { tx: 30, items: &items }.apply(&mut log));
    assert!(!LogChange::EndMove.apply(&mut log), "it is shown by its bound");
    assert_eq!((log.snapshot().bytes, log.flushable().len()), (2, 2));
}
