//! What a request is answered, by what it asks, what was read, and how the server stands.

use super::reply::{AHEAD_POLL, CHUNK_WAIT, CURRENT_WAIT};
use super::*;
use crate::log::compaction::SegmentStart;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const LAST: Offset = Offset::new(100, 2);
const TIMEOUT: Duration = Duration::from_secs(20);
/// A time at which every wait is over.
const LATE: Duration = Duration::from_secs(40);
const STANDINGS: [Standing; 4] = [Standing::Active, Standing::ReadOnly, Standing::Away, Standing::Faulty];

/// What may be read, before the standing decides whether the end is called up to date.
#[derive(Debug, Clone, Copy)]
enum Found {
    Dropped,
    Snapshot,
    Chunk,
    Last,
    End,
    Pending,
    Ahead,
}

fn read(found: Found, standing: Standing) -> Option<Read> {
    let up_to_date = standing.is_current().then_some(Lsn::new(150));
    let range = LogRange { start: SegmentStart::default(), bytes: 5..9 };
    let changes =
        |closed, up_to_date| Read::Changes { range: range.clone(), offset: LAST, closed, up_to_date };
    Some(match found {
        Found::Dropped => return None,
        Found::Snapshot => Read::Snapshot { start: 0, end: Some(5), offset: Offset::snapshot_chunk(0) },
        Found::Chunk => changes(true, None),
        Found::Last => changes(false, up_to_date),
        Found::End => Read::End { offset: LAST, up_to_date },
        Found::Pending => Read::Pending,
        Found::Ahead => Read::Ahead,
    })
}

fn look(found: Found, standing: Standing, now: Duration) -> Look {
    Look { now, read: read(found, standing), standing, is_stopping: false }
}

/// A word for what comes next: the LSN that is named, or why nothing is sent.
fn word(next: &Next) -> String {
    let said = |up_to_date: Option<Lsn>| up_to_date.map_or(String::new(), |lsn| format!(" {}", lsn.as_u64()));
    match next {
        Next::Send(Answer::Part { part: Part::Nothing, up_to_date, .. }) => {
            format!("end{}", said(*up_to_date))
        }
        Next::Send(Answer::Part { up_to_date, .. }) => format!("rows{}", said(*up_to_date)),
        Next::Send(Answer::GrowingSnapshot { .. }) => "growing".to_owned(),
        Next::Send(Answer::NothingNew { lsn, .. }) => format!("nothing {}", lsn.as_u64()),
        Next::Send(Answer::NotModified { .. }) => "known".to_owned(),
        Next::Send(Answer::Events { up_to_date, has_pending, .. }) => {
            format!(
                "events{}{}",
                if *has_pending { " rows" } else { "" },
                if *up_to_date { " end" } else { "" }
            )
        }
        Next::Wait(wait) => format!("wait {:?}", wait.what),
        Next::Refuse(refuse) => format!("{refuse:?}"),
    }
}

type Row = (Mode, Found, [&'static str; 4]);

fn check(table: &[Row], next: impl Fn(Mode, Found, Standing) -> Next) {
    for (mode, found, expected) in table {
        for (standing, expected) in STANDINGS.iter().zip(expected) {
            let next = next(*mode, *found, *standing);
            assert_eq!(word(&next), *expected, "{mode:?}, {found:?}, {standing:?}");
        }
    }
}

#[test]
fn what_is_there_is_sent_at_once_and_the_rest_waited_for() {
    let table = [
        // Active, read-only, away, faulty.
        (Mode::Now, Found::End, ["nothing 150", "nothing 150", "wait Current", "Away"]),
        (Mode::CatchUp, Found::Snapshot, ["rows"; 4]),
        (Mode::CatchUp, Found::Chunk, ["rows"; 4]),
        (Mode::CatchUp, Found::Last, ["rows 150", "rows 150", "rows", "rows"]),
        (Mode::CatchUp, Found::End, ["end 150", "end 150", "wait Current", "Away"]),
        (Mode::CatchUp, Found::Pending, ["wait Chunk"; 4]),
        (Mode::CatchUp, Found::Ahead, ["wait Offset"; 4]),
        (Mode::LongPoll, Found::Snapshot, ["rows"; 4]),
        (Mode::LongPoll, Found::Chunk, ["rows"; 4]),
        (Mode::LongPoll, Found::Last, ["rows 100", "rows 100", "rows", "rows"]),
        (Mode::LongPoll, Found::End, ["wait News", "wait News", "wait Current", "Away"]),
        (Mode::LongPoll, Found::Pending, ["wait Chunk"; 4]),
        (Mode::LongPoll, Found::Ahead, ["wait Offset"; 4]),
        (Mode::Events, Found::Snapshot, ["events rows", "events rows", "wait Current", "Away"]),
        (Mode::Events, Found::Chunk, ["events rows", "events rows", "wait Current", "Away"]),
        (Mode::Events, Found::Last, ["events rows end", "events rows end", "wait Current", "Away"]),
        (Mode::Events, Found::End, ["events end", "events end", "wait Current", "Away"]),
        (Mode::Events, Found::Pending, ["wait Chunk"; 4]),
        (Mode::Events, Found::Ahead, ["wait Offset"; 4]),
    ];
    check(&table, |mode, found, standing| {
        Reading::new(mode, TIMEOUT, false).next(&look(found, standing, Duration::ZERO), false)
    });
    for mode in [Mode::Now, Mode::CatchUp, Mode::LongPoll, Mode::Events] {
        check(&[(mode, Found::Dropped, ["MustRefetch"; 4])], |mode, found, standing| {
            Reading::new(mode, TIMEOUT, false).next(&look(found, standing, Duration::ZERO), false)
        });
    }
}

#[test]
fn a_wait_that_brought_nothing_ends_with_what_may_be_said() {
    let table = [
        (Mode::Now, Found::End, ["nothing 150", "nothing 150", "Away", "Away"]),
        (Mode::CatchUp, Found::End, ["end 150", "end 150", "Away", "Away"]),
        (Mode::CatchUp, Found::Pending, ["ChunkMissing", "ChunkMissing", "Away", "Away"]),
        (Mode::CatchUp, Found::Ahead, ["OutOfBounds", "Away", "Away", "Away"]),
        (Mode::LongPoll, Found::End, ["nothing 150", "nothing 150", "Away", "Away"]),
        (Mode::LongPoll, Found::Pending, ["ChunkMissing", "ChunkMissing", "Away", "Away"]),
        (Mode::LongPoll, Found::Ahead, ["OutOfBounds", "Away", "Away", "Away"]),
        (Mode::Events, Found::Pending, ["ChunkMissing", "ChunkMissing", "Away", "Away"]),
        (Mode::Events, Found::Ahead, ["OutOfBounds", "Away", "Away", "Away"]),
    ];
    check(&table, |mode, found, standing| {
        let mut reading = Reading::new(mode, TIMEOUT, false);
        reading.next(&look(found, standing, Duration::ZERO), false);
        reading.next(&look(found, standing, LATE), false)
    });
}

#[test]
fn a_server_that_stops_sends_what_is_there_and_waits_for_nothing() {
    let table = [
        (Mode::Now, Found::End, ["nothing 150", "nothing 150", "Stopping", "Away"]),
        (Mode::CatchUp, Found::Last, ["rows 150", "rows 150", "rows", "rows"]),
        (Mode::CatchUp, Found::End, ["end 150", "end 150", "Stopping", "Away"]),
        (Mode::CatchUp, Found::Pending, ["Stopping"; 4]),
        (Mode::CatchUp, Found::Ahead, ["Stopping"; 4]),
        (Mode::LongPoll, Found::Last, ["rows 100", "rows 100", "rows", "rows"]),
        (Mode::LongPoll, Found::End, ["Stopping", "Stopping", "Stopping", "Away"]),
        (Mode::Events, Found::Last, ["events rows end", "events rows end", "Stopping", "Away"]),
        (Mode::Events, Found::End, ["Stopping", "Stopping", "Stopping", "Away"]),
    ];
    let stopping = |found, standing| Look { is_stopping: true, ..look(found, standing, Duration::ZERO) };
    check(&table, |mode, found, standing| {
        Reading::new(mode, TIMEOUT, false).next(&stopping(found, standing), false)
    });
    // Whoever waits for news is told that there are none.
    let parked = (Mode::LongPoll, Found::End, ["nothing 150", "nothing 150", "Stopping", "Away"]);
    check(&[parked], |mode, found, standing| {
        let mut reading = Reading::new(mode, TIMEOUT, false);
        reading.next(&look(found, Standing::Active, Duration::ZERO), false);
        reading.next(&stopping(found, standing), false)
    });
}

#[test]
fn a_reply_that_the_client_has_is_not_sent_again() {
    let table = [
        (Mode::Now, Found::End, ["nothing 150", "nothing 150", "wait Current", "Away"]),
        (Mode::CatchUp, Found::Snapshot, ["known"; 4]),
        (Mode::CatchUp, Found::Last, ["known"; 4]),
        (Mode::CatchUp, Found::End, ["known"; 4]),
        (Mode::LongPoll, Found::End, ["known"; 4]),
        (Mode::Events, Found::Last, ["events rows end", "events rows end", "wait Current", "Away"]),
    ];
    check(&table, |mode, found, standing| {
        Reading::new(mode, TIMEOUT, false).next(&look(found, standing, Duration::ZERO), true)
    });
    // A live request has waited for something newer than its tag.
    let mut reading = Reading::new(Mode::LongPoll, TIMEOUT, false);
    reading.next(&look(Found::End, Standing::Active, Duration::ZERO), false);
    assert_eq!(word(&reading.next(&look(Found::End, Standing::Active, TIMEOUT), true)), "nothing 150");
}

#[test]
fn behind_moves_a_live_reply_names_how_far_the_rows_are() {
    let mut reading = Reading::new(Mode::LongPoll, TIMEOUT, true);
    assert_eq!(word(&reading.next(&look(Found::Last, Standing::Active, Duration::ZERO), false)), "rows 150");
}

#[test]
fn waits_have_limits() {
    let until = |mode, found, standing, now| match Reading::new(mode, TIMEOUT, false)
        .next(&look(found, standing, now), false)
    {
        Next::Wait(wait) => wait.until,
        next => panic!("{next:?}"),
    };
    let now = Duration::from_secs(3);
    assert_eq!(until(Mode::LongPoll, Found::End, Standing::Active, now), TIMEOUT);
    assert_eq!(until(Mode::CatchUp, Found::Pending, Standing::Active, now), CHUNK_WAIT);
    assert_eq!(until(Mode::CatchUp, Found::End, Standing::Away, now), now + CURRENT_WAIT);
    assert_eq!(until(Mode::CatchUp, Found::Ahead, Standing::Active, now), now + AHEAD_POLL);
    assert_eq!(until(Mode::CatchUp, Found::Ahead, Standing::Active, TIMEOUT / 2), TIMEOUT / 2);
}

#[test]
fn each_outage_is_waited_for_anew_and_no_longer_than_its_limit() {
    let mut reading = Reading::new(Mode::LongPoll, TIMEOUT, false);
    let mut next = |found, standing, seconds| {
        word(&reading.next(&look(found, standing, Duration::from_secs(seconds)), false))
    };
    assert_eq!(next(Found::End, Standing::Away, 1), "wait Current");
    assert_eq!(next(Found::End, Standing::Active, 5), "wait News");
    assert_eq!(next(Found::End, Standing::Away, 8), "wait Current");
    assert_eq!(next(Found::End, Standing::Away, 12), "wait Current");
    assert_eq!(next(Found::End, Standing::Away, 13), "Away");
}

/// The stream's next step in a word.
fn event_word(next: &NextEvents) -> String {
    match next {
        NextEvents::Send { part, up_to_date } => {
            let said = up_to_date.map_or(String::new(), |lsn| format!(" {}", lsn.as_u64()));
            format!("{}{said}", if *part == Part::Nothing { "end" } else { "rows" })
        }
        NextEvents::KeepAlive => "comment".to_owned(),
        NextEvents::Wait(until) => format!("wait {}", until.as_secs()),
        NextEvents::End => "over".to_owned(),
    }
}

#[test]
fn a_stream_says_what_a_reply_may_say() {
    let table = [
        (Found::Dropped, ["over"; 4]),
        (Found::Snapshot, ["rows", "rows", "over", "over"]),
        (Found::Chunk, ["rows", "rows", "over", "over"]),
        (Found::Last, ["rows 100", "rows 100", "over", "over"]),
        (Found::End, ["wait 21", "wait 21", "over", "over"]),
        (Found::Pending, ["wait 21", "wait 21", "over", "over"]),
        (Found::Ahead, ["over"; 4]),
    ];
    for (found, expected) in table {
        for (standing, expected) in STANDINGS.iter().zip(expected) {
            let mut stream = EventStream::new(Offset::SNAPSHOT_END, false, false);
            let next = stream.next(&look(found, *standing, Duration::ZERO));
            assert_eq!(event_word(&next), expected, "{found:?}, {standing:?}");
        }
    }
    let mut stream = EventStream::new(Offset::SNAPSHOT_END, false, true);
    assert_eq!(event_word(&stream.next(&look(Found::Last, Standing::Active, Duration::ZERO))), "rows 150");
}

#[test]
fn a_stream_goes_on_across_chunks_and_says_once_that_it_has_everything() {
    let mut stream = EventStream::new(Offset::Start, false, false);
    let mut next = |found| {
        let next = event_word(&stream.next(&look(found, Standing::Active, Duration::ZERO)));
        (next, stream.after().to_string())
    };
    let step = |next: &str, after: &str| (next.to_owned(), after.to_owned());
    assert_eq!(next(Found::Snapshot), step("rows", "0_0"));
    assert_eq!(next(Found::End), step("end 150", "0_0"));
    assert_eq!(next(Found::End), step("wait 21", "0_0"));
    assert_eq!(next(Found::Chunk), step("rows", "100_2"));
    assert_eq!(next(Found::Last), step("rows 100", "100_2"));
    assert_eq!(next(Found::End), step("wait 21", "100_2"));
}

#[test]
fn a_stream_that_began_with_rows_ends_behind_them() {
    let mut stream = EventStream::new(Offset::SNAPSHOT_END, true, false);
    let mut next = |found| event_word(&stream.next(&look(found, Standing::Active, Duration::ZERO)));
    assert_eq!(next(Found::Last), "rows 100");
    assert_eq!(next(Found::End), "over");
}

#[test]
fn silence_is_broken_by_comments_and_a_stream_ends_in_time() {
    let mut stream = EventStream::new(LAST, false, false);
    let at = |seconds| look(Found::End, Standing::Active, Duration::from_secs(seconds));
    assert_eq!(event_word(&stream.next(&at(0))), "wait 21");
    assert_eq!(event_word(&stream.next(&at(21))), "comment");
    stream.handle_sent(Duration::from_secs(21));
    assert_eq!(event_word(&stream.next(&at(30))), "wait 42");
    stream.handle_sent(Duration::from_secs(50));
    assert_eq!(event_word(&stream.next(&at(50))), "wait 60");
    // What has come is sent even then.
    let rows = look(Found::Last, Standing::Active, Duration::from_secs(61));
    assert_eq!(event_word(&stream.next(&rows)), "rows 100");
    assert_eq!(event_word(&stream.next(&at(61))), "over");
    let stopping = Look { is_stopping: true, ..at(1) };
    assert_eq!(event_word(&EventStream::new(LAST, false, false).next(&stopping)), "over");
}
