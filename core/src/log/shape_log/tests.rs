//! Which bytes answer which offset, while a log is written, flushed and restored.

use super::*;
use crate::log::compaction::{Compacted, Cut};
use crate::log::rope::SHARED_BYTES_MIN;
use crate::log::segment::SegmentAppend;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ITEM: &[u8] = b"{\"headers\":{}}";
/// Length of an item that ends its transaction, with its comma.
const LAST_ITEM_BYTES: usize = b",{\"headers\":{,\"last\":true}}".len();

fn log_with_snapshot() -> ShapeLog {
    let mut log = ShapeLog::new(60);
    log.handle_snapshot_progress(SnapshotProgress {
        bytes: 30,
        chunk_ends: vec![20, 30],
        complete: true,
        pack: None,
    });
    log.handle_joined();
    log
}

/// The clock of a server that is current and has processed everything up to a commit LSN.
const fn at(processed: u64) -> Clock {
    Clock { processed: Lsn::new(processed), is_current: true }
}

fn end(offset: Offset, lsn: u64) -> Read {
    Read::End { offset, up_to_date: Some(Lsn::new(lsn)) }
}

fn text(log: &ShapeLog, bytes: Range<u64>) -> String {
    String::from_utf8(log.tail_part(bytes).to_vec()).unwrap()
}

#[test]
fn the_snapshot_is_read_by_chunks_then_the_log() {
    let log = log_with_snapshot();
    let chunk = |start, end, n| Read::Snapshot { start, end: Some(end), offset: Offset::snapshot_chunk(n) };
    assert_eq!(log.read(Offset::Start, at(0)), chunk(0, 20, 0));
    assert_eq!(log.read(Offset::new(0, 0), at(0)), chunk(20, 30, 1));
    let done = end(Offset::SNAPSHOT_END, 0);
    assert_eq!(log.read(Offset::new(0, 1), at(0)), done);
    assert_eq!(log.read(Offset::new(0, 77), at(0)), done);
    assert_eq!(log.read(Offset::new(0, u64::MAX), at(0)), done);
    assert_eq!(log.read(Offset::SNAPSHOT_END, at(0)), done);
}

#[test]
fn an_unfinished_snapshot_streams_its_first_chunk_and_holds_the_others() {
    let mut log = ShapeLog::new(60);
    let first = Read::Snapshot { start: 0, end: None, offset: Offset::snapshot_chunk(0) };
    assert_eq!(log.read(Offset::Start, at(0)), first);
    assert_eq!(log.read(Offset::new(0, 0), at(0)), Read::Pending);
    log.handle_snapshot_progress(SnapshotProgress {
        bytes: 25,
        chunk_ends: vec![20],
        complete: false,
        pack: None,
    });
    assert_eq!(log.read(Offset::new(0, 0), at(0)), Read::Pending);
    assert_eq!(log.read(Offset::new(0, 3), at(0)), Read::Pending);
}

#[test]
fn items_are_visible_only_after_commit_and_the_last_one_says_so() {
    let mut log = log_with_snapshot();
    log.append(100, 0, ITEM);
    log.append(100, 2, ITEM);
    assert_eq!(log.read(Offset::SNAPSHOT_END, at(0)), end(Offset::SNAPSHOT_END, 0));
    assert!(log.commit());
    assert_eq!(log.last_offset(), Offset::new(100, 2));
    let Read::Changes { range: LogRange { bytes, .. }, offset, closed, up_to_date } =
        log.read(Offset::SNAPSHOT_END, at(100))
    else {
        panic!()
    };
    assert_eq!((offset, closed, up_to_date), (Offset::new(100, 2), false, Some(Lsn::new(100))));
    assert_eq!(text(&log, bytes), ",{\"headers\":{}},{\"headers\":{,\"last\":true}}");
    let Read::Changes { range: LogRange { bytes, .. }, .. } = log.read(Offset::new(100, 1), at(100)) else {
        panic!()
    };
    assert_eq!(text(&log, bytes), ",{\"headers\":{,\"last\":true}}");
}

#[test]
fn what_a_move_holds_back_becomes_visible_later_and_in_order() {
    let mut log = log_with_snapshot();
    assert!(!log.set_visible_up_to(Some(Lsn::new(99)), Lsn::new(90)));
    log.append(100, 0, ITEM);
    log.commit();
    log.append(100, 2, ITEM);
    log.end_move();
    log.append(110, 0, ITEM);
    log.commit();
    log.append(120, 0, ITEM);
    assert_eq!(log.last_offset(), Offset::SNAPSHOT_END);
    assert!(log.set_visible_up_to(Some(Lsn::new(100)), Lsn::new(110)));
    assert_eq!(log.last_offset(), Offset::new(100, 2));
    let Read::Changes { range: LogRange { bytes, .. }, .. } = log.read(Offset::new(100, 0), at(100)) else {
        panic!()
    };
    assert_eq!(text(&log, bytes), ",{\"headers\":{}}", "a move's messages are not marked");
    assert!(log.set_visible_up_to(None, Lsn::new(110)), "the open transaction stays unseen");
    assert_eq!(log.last_offset(), Offset::new(110, 0));
}

#[test]
fn flushing_does_not_publish() {
    let mut log = log_with_snapshot();
    log.set_visible_up_to(Some(Lsn::new(99)), Lsn::new(90));
    log.append(100, 0, ITEM);
    log.commit();
    log.handle_flushed();
    assert_eq!(log.read(Offset::SNAPSHOT_END, at(100)), end(Offset::SNAPSHOT_END, 99));
    assert!(log.set_visible_up_to(None, Lsn::new(100)));
    assert!(matches!(log.read(Offset::SNAPSHOT_END, at(100)), Read::Changes { up_to_date: Some(_), .. }));
}

#[test]
fn an_empty_transaction_grows_nothing() {
    let mut log = log_with_snapshot();
    assert!(!log.commit());
    log.append(100, 0, ITEM);
    log.commit();
    assert!(!log.append(100, 0, ITEM), "a replayed item is left out");
    assert!(!log.commit());
}

#[test]
fn a_transaction_that_is_sent_again_is_completed() {
    let mut log = log_with_snapshot();
    log.append(100, 0, ITEM);
    log.commit();
    log.append(110, 0, ITEM);
    // The connection broke; Postgres starts again at the transaction before.
    assert!(!log.append(100, 0, ITEM), "visible already: no commit due");
    assert_eq!(log.last_offset(), Offset::new(100, 0));
    assert!(log.append(110, 0, ITEM), "there already, but not visible");
    assert!(log.append(110, 2, ITEM));
    assert!(log.commit());
    let Read::Changes { range: LogRange { bytes, .. }, .. } = log.read(Offset::new(100, 0), at(110)) else {
        panic!()
    };
    assert_eq!(text(&log, bytes), ",{\"headers\":{}},{\"headers\":{,\"last\":true}}");
}

#[test]
fn chunks_close_behind_the_item_that_fills_them_and_never_change() {
    let mut log = log_with_snapshot();
    for tx in 1..=10 {
        log.append(tx, 0, ITEM);
        log.commit();
    }
    let Read::Changes { range: LogRange { bytes, .. }, offset, closed, up_to_date } =
        log.read(Offset::SNAPSHOT_END, at(10))
    else {
        panic!()
    };
    assert_eq!((offset, closed, up_to_date), (Offset::new(3, 0), true, None));
    let first = text(&log, bytes);
    log.append(11, 0, ITEM);
    log.commit();
    let Read::Changes { range: LogRange { bytes, .. }, .. } = log.read(Offset::SNAPSHOT_END, at(11)) else {
        panic!()
    };
    assert_eq!(text(&log, bytes), first);
}

#[test]
fn a_chunk_that_ends_the_log_is_not_closed_for_readers() {
    let mut log = log_with_snapshot();
    for tx in 1..=3 {
        log.append(tx, 0, ITEM);
        log.commit();
    }
    let Read::Changes { closed, up_to_date, .. } = log.read(Offset::SNAPSHOT_END, at(3)) else { panic!() };
    assert_eq!((closed, up_to_date), (false, Some(Lsn::new(3))));
}

#[test]
fn offsets_beyond_the_log_are_ahead_unless_the_wal_was_read_that_far() {
    let mut log = log_with_snapshot();
    log.append(100, 0, ITEM);
    log.commit();
    assert_eq!(log.read(Offset::new(200, 0), at(150)), Read::Ahead);
    assert_eq!(log.read(Offset::new(200, 0), at(200)), end(Offset::new(200, 0), 200));
    assert_eq!(log.read(Offset::new(100, 0), at(0)), end(Offset::new(100, 0), 100));
}

/// What is to be appended to the segment, and to its index.
fn flushable(log: &ShapeLog) -> (Vec<u8>, Vec<Mark>) {
    (SegmentAppend::of(log).map_or_else(Vec::new, |append| append.items.to_vec()), log.flushable().to_vec())
}

#[test]
fn a_long_item_is_in_the_logs_of_all_shapes_and_in_memory_once() {
    let long = [&vec![b'x'; SHARED_BYTES_MIN][..], ITEM].concat();
    let shared = Bytes::from(long.clone());
    let (mut sharing, mut copying) = (log_with_snapshot(), log_with_snapshot());
    for (tx, op) in [(1, 0), (1, 2), (2, 0)] {
        sharing.append_item(tx, op, &shared, Some(&shared));
        copying.append(tx, op, &long);
        if op == 2 {
            assert_eq!((sharing.commit(), copying.commit()), (true, true));
        }
    }
    let all = 0..sharing.tail_bytes() as u64;
    assert_eq!(sharing.tail_part(all.clone()).to_vec(), copying.tail_part(all).to_vec());
    assert_eq!(flushable(&sharing), flushable(&copying));
    let Read::Changes { range: LogRange { bytes, .. }, .. } = sharing.read(Offset::SNAPSHOT_END, at(1))
    else {
        panic!()
    };
    let mut reply = sharing.shared_tail_part(bytes.clone());
    assert_eq!(reply.to_vec(), copying.shared_tail_part(bytes).to_vec());
    assert_eq!(reply.next_piece(1).as_deref(), Some(&b","[..]));
    assert_eq!(reply.next_piece(1).map(|piece| piece.as_ptr()), Some(shared.as_ptr()));
    sharing.handle_flushed();
    copying.handle_flushed();
    assert_eq!((sharing.commit(), copying.commit()), (true, true));
    assert_eq!(flushable(&sharing), flushable(&copying));
}

#[test]
fn flushing_keeps_every_position() {
    let mut log = log_with_snapshot();
    for tx in 1..=5 {
        log.append(tx, 0, ITEM);
        log.commit();
    }
    let before = log.read(Offset::new(4, 0), at(5));
    log.append(6, 0, ITEM);
    let (bytes, marks) = flushable(&log);
    assert_eq!((bytes.len() as u64, marks.len()), (marks[4].end, 5));
    log.handle_flushed();
    assert_eq!(log.read(Offset::new(2, 0), at(5)), Read::Search);
    assert_eq!(
        log.read(Offset::new(3, 0), at(5)),
        log.read_at(Offset::new(3, 0), found(log.changes().chunks.closed()[0].end), at(5))
    );
    assert_eq!(log.read(Offset::new(4, 0), at(5)), Read::Search);
    assert_eq!(log.read_at(Offset::new(4, 0), found(marks_end(&before)), at(5)), before);
    assert_eq!(log.read(Offset::new(5, 0), at(5)), end(Offset::new(5, 0), 5));
    assert!(log.commit());
    assert!(matches!(log.read(Offset::new(5, 0), at(6)), Read::Changes { up_to_date: Some(_), .. }));
}

#[test]
fn a_flush_in_the_midst_of_a_transaction_moves_no_chunk() {
    let items = [(1, 0), (1, 2), (2, 0), (2, 4), (2, 6), (3, 0), (4, 0), (4, 2)];
    let written = |flush_after: usize| {
        let mut log = log_with_snapshot();
        for (number, (tx, op)) in items.into_iter().enumerate() {
            if number > 0 && items[number - 1].0 != tx {
                log.commit();
            }
            log.append(tx, op, ITEM);
            if number == flush_after {
                log.handle_flushed();
            }
        }
        log.commit();
        log.handle_flushed();
        log.checkpoint().unwrap()
    };
    let unflushed = written(items.len());
    assert_eq!(unflushed.closed.len(), 2);
    assert_eq!(unflushed.flushed_items, items.len() as u64);
    (0..items.len()).for_each(|number| assert_eq!(written(number), unflushed, "after {number}"));
}

#[test]
fn the_tail_is_what_was_not_flushed() {
    let mut log = log_with_snapshot();
    assert_eq!((log.tail_bytes(), log.flushed_bytes(), log.flushed_items()), (0, 0, 0));
    log.append(1, 0, ITEM);
    log.append(1, 2, ITEM);
    assert_eq!(log.checkpoint(), None, "an item is open");
    let (bytes, marks) = flushable(&log);
    assert_eq!((bytes.len(), marks.len()), (1 + ITEM.len(), 1), "its last item may still change");
    log.handle_flushed();
    assert_eq!(log.checkpoint(), None);
    assert_eq!(log.tail_bytes(), 1 + ITEM.len());
    assert_eq!((log.flushed_bytes(), log.flushed_items()), (1 + ITEM.len() as u64, 1));
    log.commit();
    let (bytes, marks) = flushable(&log);
    assert_eq!((&bytes[..], marks.len()), (&b",{\"headers\":{,\"last\":true}}"[..], 1));
    // A range that begins before the tail: the part in memory.
    assert_eq!(text(&log, 0..log.flushed_bytes() + 2), ",{");
}

#[test]
fn what_comes_while_a_tail_is_written_stays_in_memory() {
    let mut log = log_with_snapshot();
    log.append(1, 0, ITEM);
    log.commit();
    let append = SegmentAppend::of(&log).unwrap();
    log.append(2, 0, ITEM);
    log.commit();
    log.append(3, 0, ITEM);
    let Read::Changes { range: LogRange { bytes, .. }, .. } = log.read(Offset::new(1, 0), at(2)) else {
        panic!()
    };
    let second = text(&log, bytes.clone());
    log.handle_flushed_to(append.end());
    assert_eq!((log.flushed_items(), log.flushed_bytes()), (1, append.end()));
    assert_eq!(text(&log, bytes), second);
    log.commit();
    let rest = SegmentAppend::of(&log).unwrap();
    assert_eq!((rest.items_at, rest.entries_at), (append.end(), append.entries.len() as u64));
    log.handle_flushed_to(rest.end());
    assert_eq!((log.tail_bytes(), log.flushed_items()), (0, 3));
    assert!(SegmentAppend::of(&log).is_none());
}

#[test]
fn offsets_are_searched_among_the_visible_items() {
    let mut log = log_with_snapshot();
    for tx in [1, 2] {
        log.append(tx, 0, ITEM);
        log.commit();
    }
    // Of a transaction whose end has not come, a part may be in the segment already.
    log.append(3, 0, ITEM);
    log.append(3, 2, ITEM);
    log.handle_flushed();
    assert_eq!((log.flushed_items(), log.index_search().entries), (3, 2));
    assert_eq!(log.read(Offset::new(1, 0), at(2)), Read::Search);
    assert_eq!(
        log.read(Offset::new(2, 0), at(2)),
        log.read_at(Offset::new(2, 0), found(log.changes().published_bytes), at(2))
    );
    log.commit();
    assert_eq!(log.index_search().entries, 3, "the fourth is in memory");
    log.set_visible_up_to(Some(Lsn::new(3)), Lsn::new(3));
    log.append(4, 0, ITEM);
    log.commit();
    log.handle_flushed();
    assert_eq!((log.flushed_items(), log.index_search().entries), (5, 4), "the fifth is held back");
    let restored = ShapeLog::restore(1_000, log.checkpoint().unwrap());
    assert_eq!(restored.index_search().entries, 5);
}

/// A position that the index of a segment gave that was never compacted.
fn found(byte: u64) -> Found {
    Found { start: SegmentStart::default(), byte }
}

fn marks_end(read: &Read) -> u64 {
    let Read::Changes { range: LogRange { bytes, .. }, .. } = read else { panic!() };
    bytes.start
}

#[test]
fn a_checkpoint_restores_the_same_answers() {
    let mut log = log_with_snapshot();
    for tx in 1..=5 {
        log.append(tx, 0, ITEM);
        log.commit();
    }
    assert_eq!(log.checkpoint(), None, "the tail is not flushed");
    log.handle_flushed();
    let mut restored = ShapeLog::restore(60, log.checkpoint().unwrap());
    restored.handle_joined();
    for after in ["-1", "0_0", "0_inf", "3_0", "4_0", "5_0", "9_0"] {
        let after = after.parse().unwrap();
        assert_eq!(restored.read(after, at(5)), log.read(after, at(5)));
    }
    // And goes on as the log itself does: chunks close where they would have.
    for log in [&mut log, &mut restored] {
        for tx in 6..=9 {
            log.append(tx, 0, ITEM);
            log.commit();
        }
        log.handle_flushed();
    }
    assert_eq!(restored.checkpoint(), log.checkpoint());
}

#[test]
fn readers_of_one_part_of_the_tail_share_its_bytes() {
    let mut log = log_with_snapshot();
    let read = |log: &mut ShapeLog, after| {
        let Read::Changes { range: LogRange { bytes, .. }, .. } = log.read(after, at(3)) else { panic!() };
        let shared = log.shared_tail_part(bytes.clone());
        assert_eq!(shared.to_vec(), log.tail_part(bytes).to_vec());
        shared
    };
    for tx in 1..=2 {
        log.append(tx, 0, ITEM);
        log.commit();
    }
    let place = |part: &SharedBytes| part.clone().next_piece(usize::MAX).unwrap().as_ptr();
    let first = read(&mut log, Offset::new(1, 0));
    assert_eq!(place(&read(&mut log, Offset::new(1, 0))), place(&first));
    // An open transaction takes nothing away from those who come late.
    log.append(3, 0, ITEM);
    assert_eq!(place(&read(&mut log, Offset::new(1, 0))), place(&first));
    // Another part: its own bytes, and those that are on their way stay.
    let longer = read(&mut log, Offset::SNAPSHOT_END);
    assert_eq!((longer.len(), first.len()), (2 * first.len(), LAST_ITEM_BYTES));
    log.handle_flushed();
    assert!(log.changes().shared.is_none(), "the tail's memory is free again");
    assert!(log.shared_tail_part(0..log.flushed_bytes()).is_empty());
    assert_eq!(longer.len(), 2 * LAST_ITEM_BYTES);
}

/// A log with five transactions in its segment, of which compaction has left the last two, and one in its tail.
fn compacted_log() -> (ShapeLog, ShapeLog, Compacted) {
    let mut log = log_with_snapshot();
    for tx in 1..=5 {
        log.append(tx, 0, ITEM);
        log.commit();
    }
    log.handle_flushed();
    log.append(6, 0, ITEM);
    log.commit();
    let before = log.clone();
    let item = LAST_ITEM_BYTES as u64;
    let start = SegmentStart { generation: 1, byte: 3 * item, item: 3 };
    let end = Mark { tx: 5, op: 0, end: 5 * item };
    let segment = Compacted { start, closed: Vec::new(), open_chunk_bytes: 2 * (item - 1), end, items: 5 };
    log.handle_compacted(&segment);
    (before, log, segment)
}

#[test]
fn a_compacted_log_is_read_from_where_its_segment_begins() {
    let (before, log, Compacted { start, .. }) = compacted_log();
    let Read::Changes { range, offset, .. } = log.read(Offset::SNAPSHOT_END, at(6)) else { panic!() };
    let item = LAST_ITEM_BYTES as u64;
    // The item in the tail fills the chunk, as it would where the segment's items had just come.
    assert_eq!((range.start, range.bytes.clone(), offset), (start, 3 * item..6 * item, Offset::new(6, 0)));
    assert_eq!(text(&log, range.bytes), text(&before, 5 * item..6 * item));
    assert_eq!(log.read(Offset::new(5, 0), at(6)), {
        let Read::Changes { range, offset, closed, up_to_date } = before.read(Offset::new(5, 0), at(6))
        else {
            panic!()
        };
        Read::Changes { range: LogRange { start, ..range }, offset, closed, up_to_date }
    });
    assert_eq!(log.read(Offset::new(6, 0), at(6)), end(Offset::new(6, 0), 6));
}

#[test]
fn what_an_older_index_gave_is_searched_again_where_it_has_moved() {
    let (before, log, segment) = compacted_log();
    assert_eq!(before.read(Offset::new(2, 0), at(6)), Read::Search);
    let item = LAST_ITEM_BYTES as u64;
    let read = |byte, start| log.read_at(Offset::new(2, 0), Found { start, byte }, at(6));
    assert_eq!(read(2 * item, SegmentStart::default()), Read::Search);
    assert!(matches!(read(3 * item, segment.start), Read::Changes { .. }));
    assert!(
        matches!(read(5 * item, SegmentStart::default()), Read::Changes { .. }),
        "there nothing has moved"
    );
    assert_eq!(log.index_search().entries, 2);
}

#[test]
fn a_restart_knows_a_compacted_log_again() {
    let (_, mut log, segment) = compacted_log();
    // From an older checkpoint, over which the commit log repeats all items.
    let mut recovered = log_with_snapshot();
    recovered.handle_compacted(&segment);
    for tx in 1..=6 {
        recovered.append(tx, 0, ITEM);
        recovered.commit();
    }
    log.handle_flushed();
    recovered.handle_flushed();
    assert_eq!(log.checkpoint(), recovered.checkpoint());
    assert_eq!(log.checkpoint().map(|checkpoint| checkpoint.start), Some(segment.start));
    let restored = ShapeLog::restore(60, log.checkpoint().unwrap());
    assert_eq!(restored.checkpoint(), log.checkpoint());
}

#[test]
fn what_is_visible_and_in_the_segment_can_be_compacted() {
    let mut log = log_with_snapshot();
    log.append(1, 0, ITEM);
    log.commit();
    log.append(2, 0, ITEM);
    log.append(2, 2, ITEM);
    let cut = |log: &ShapeLog| log.plan_compaction().map(|plan| plan.cut.item);
    assert_eq!((cut(&log), log.whole_segment()), (Some(0), Some(Cut { byte: 0, item: 0 })));
    log.handle_flushed();
    assert_eq!(
        (cut(&log), log.whole_segment()),
        (Some(1), None),
        "the second transaction may come to nothing"
    );
    log.commit();
    assert_eq!((cut(&log), log.whole_segment().map(|end| end.item)), (Some(2), Some(2)));
    log.set_visible_up_to(Some(Lsn::new(2)), Lsn::ZERO);
    assert_eq!(cut(&log), None, "a move may come between");
}

#[test]
fn chunks_end_before_a_cut_where_they_end_at_it() {
    let mut log = log_with_snapshot();
    for tx in 1..=6 {
        log.append(tx, 0, ITEM);
        log.commit();
    }
    let ends = |byte| {
        let ends = log.chunk_ends_before(Cut { byte, item: 0 });
        ends.iter().map(|end| end.end).collect::<Vec<u64>>()
    };
    let all = ends(u64::MAX);
    assert!(all.len() > 1 && all.is_sorted());
    assert_eq!((ends(all[0] - 1), ends(all[0])), (vec![], vec![all[0]]));
    assert_eq!(ends(all[1] - 1), [all[0]]);
}

#[test]
fn a_place_in_a_segment_is_one_in_the_log() {
    let start = SegmentStart { generation: 1, byte: 30, item: 3 };
    let in_log = Mark { end: 50, tx: 7, op: 2 };
    assert_eq!(start.in_segment(in_log), Mark { end: 20, ..in_log });
    assert_eq!(start.in_log(start.in_segment(in_log)), in_log);
}
