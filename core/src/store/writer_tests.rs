//! What becomes of each message, and what Postgres is asked on the way.

use super::tests::{TestShape, shown};
use super::*;
use crate::journal::{Tables, Ticket};
use crate::log::ShapeLog;
use crate::pgoutput::decode;
use crate::shape::dependent::DependentState;
use crate::shape::tests::{
    COLUMNS, TABLE, begin, commit, definition, describe, insert, nothing_running, relation, truncate,
};
use crate::shape::{Described, DropCause};
use crate::{Lsn, Offset, ShapeId};
use std::cell::RefCell;
use std::rc::Rc;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// A clause that core leaves to Postgres.
const JUDGED: &str = "where=soundex(note)='A000'";
const ROW: [Option<&str>; 3] = [Some("1"), None, Some("a")];

/// A writer with shapes 0, 1, … that are past their snapshot, whose stream has begun and is caught up.
struct Run {
    writer: Writer<TestShape>,
    shapes: Vec<TestShape>,
}

impl Run {
    fn new(queries: &[&str], limits: Limits) -> Self {
        let mut run =
            Self { writer: Writer::new(limits, 1, Tables::default(), Lsn::ZERO), shapes: Vec::new() };
        for (id, query) in (0..).zip(queries) {
            let shape = TestShape { id: ShapeId(id), log: Rc::new(RefCell::new(ShapeLog::new(1_000_000))) };
            run.shapes.push(shape.clone());
            let definition = definition(query, &relation());
            let state = DependentState::default();
            run.writer.add_restored(ShapeId(id), (shape, &definition), "", (nothing_running(), true), state);
        }
        run.writer.handle_connected(Lsn::new(60), Lsn::new(60));
        assert_eq!(run.effects(), ["publish 59 []", "caught up"]);
        run
    }

    /// Takes a transaction of one row, with commit LSN 100, and all that follows from it.
    fn feed_transaction(&mut self) {
        for frame in [begin(100, 900), describe(&COLUMNS), insert(&ROW), commit(100)] {
            self.feed(&frame);
        }
        self.writer.end_turn();
        self.effects();
    }

    /// Takes a message as far as it goes: what Postgres must answer, and the effects so far.
    fn take(&mut self, frame: &[u8]) -> (Vec<String>, Vec<String>) {
        let progress = self.writer.handle_message(&decode(frame).unwrap(), Lsn::new(61)).unwrap();
        let questions = match progress {
            Progress::Done => Vec::new(),
            Progress::Again(questions) => questions.iter().map(asked).collect(),
        };
        (questions, self.effects())
    }

    /// Takes a message to its end; the catalog says that its relation is a table by itself.
    fn feed(&mut self, frame: &[u8]) -> Vec<String> {
        let mut effects = Vec::new();
        loop {
            let (questions, more) = self.take(frame);
            effects.extend(more);
            if questions.is_empty() {
                return effects;
            }
            self.writer.handle_described(TABLE, Described::default());
        }
    }

    fn effects(&mut self) -> Vec<String> {
        let mut effects = Vec::new();
        while let Some(effect) = self.writer.poll_effect() {
            let flushed =
                if let Effect::WriteTail(TailWrite { id, .. }) = &effect { Some(*id) } else { None };
            effects.push(shown(effect));
            flushed.into_iter().for_each(|id| self.writer.handle_report(Report::Flushed(id)));
        }
        effects
    }

    fn last_offset(&self, id: usize) -> Offset {
        self.shapes[id].log.borrow().last_offset()
    }
}

fn asked(question: &Question) -> String {
    match question {
        Question::Relation { oid, xid } => format!("describe {oid} as {xid:?} left it"),
        Question::Rows(rows) => format!("judge {} rows of {}", rows.rows(), rows.id.0),
    }
}

#[test]
fn a_relation_is_asked_about_before_its_message_counts() {
    let mut run = Run::new(&[""], Limits::default());
    assert_eq!(run.take(&begin(100, 900)), (vec![], vec!["began 100".to_owned()]));
    let (relation, question) = (describe(&COLUMNS), format!("describe {TABLE} as Some(900) left it"));
    assert_eq!(run.take(&relation), (vec![question.clone()], vec![]));
    run.writer.handle_described(TABLE, Described::default());
    assert_eq!(run.take(&relation), (vec![], vec![]));
    assert_eq!(run.take(&relation), (vec![question], vec![]), "each time that it is described");
}

#[test]
fn rows_are_judged_before_their_transaction_is_shown() {
    let mut run = Run::new(&["", JUDGED], Limits::default());
    run.feed(&begin(100, 900));
    run.feed(&describe(&COLUMNS));
    assert_eq!(run.feed(&insert(&ROW)), Vec::<String>::new());
    let end = commit(100);
    assert_eq!(run.take(&end), (vec!["judge 1 rows of 1".to_owned()], vec![]));
    assert_eq!((run.last_offset(0), run.last_offset(1)), (Offset::SNAPSHOT_END, Offset::SNAPSHOT_END));
    run.writer.handle_judged(ShapeId(1), Ok(&[true]));
    assert_eq!(run.take(&end), (vec![], vec!["publish 100 [0, 1]".to_owned()]));
    assert_eq!((run.last_offset(0), run.last_offset(1)), (Offset::new(100, 0), Offset::new(100, 0)));
}

#[test]
fn a_shape_that_postgres_cannot_judge_is_dropped_and_the_others_go_on() {
    let mut run = Run::new(&["", JUDGED], Limits::default());
    run.feed(&begin(100, 900));
    run.feed(&describe(&COLUMNS));
    run.feed(&insert(&ROW));
    assert_eq!(run.take(&commit(100)).0.len(), 1);
    run.writer.handle_judged(ShapeId(1), Err("out of memory".to_owned()));
    let (questions, effects) = run.take(&commit(100));
    let rotated = r#"rotated 1: Refused("out of memory")"#;
    assert_eq!(effects, [rotated, "dropped 1: refused_by_postgres", "publish 100 [0]"]);
    assert!(questions.is_empty(), "{questions:?}");
}

#[test]
fn a_message_whose_question_was_not_answered_comes_again_from_its_beginning() {
    let mut run = Run::new(&[JUDGED], Limits::default());
    let transaction = [begin(100, 900), describe(&COLUMNS), insert(&ROW)];
    transaction.iter().for_each(|frame| drop(run.feed(frame)));
    assert_eq!(run.take(&commit(100)).0.len(), 1);
    run.writer.handle_connected(Lsn::new(60), Lsn::new(108));
    assert_eq!(run.effects(), ["publish 59 []"]);
    transaction.iter().for_each(|frame| drop(run.feed(frame)));
    assert_eq!(run.take(&commit(100)), (vec!["judge 1 rows of 0".to_owned()], vec![]));
    run.writer.handle_judged(ShapeId(0), Ok(&[true]));
    let (_, effects) = run.take(&commit(100));
    assert_eq!(effects, ["publish 100 [0]", "caught up"], "not before readers see what was served before");
}

#[test]
fn what_the_stream_says_of_a_table_drops_its_shapes() {
    let mut run = Run::new(&["", "where=n=3"], Limits::default());
    run.feed(&begin(100, 900));
    run.feed(&describe(&COLUMNS));
    let effects = run.feed(&truncate());
    assert_eq!(
        effects,
        ["rotated 0: Truncated", "dropped 0: truncate", "rotated 1: Truncated", "dropped 1: truncate"]
    );
    assert_eq!(run.feed(&commit(100)), ["publish 100 []"]);
}

#[test]
fn another_history_drops_every_shape_and_counts_from_its_own_beginning() {
    let mut run = Run::new(&["", ""], Limits::default());
    run.feed(&begin(100, 900));
    run.feed(&commit(100));
    run.writer.handle_disconnect();
    run.writer.handle_other_history(DropCause::SlotLost);
    assert_eq!(run.effects(), ["dropped 0: slot_lost", "dropped 1: slot_lost"]);
    run.writer.handle_connected(Lsn::new(31), Lsn::new(31));
    assert_eq!(run.effects(), ["publish 30 []", "caught up"]);
    assert_eq!(run.writer.received(), Lsn::new(31));
}

#[test]
fn a_checkpoint_is_written_between_transactions_of_a_stream_that_is_caught_up() {
    let limits = Limits { commit_file_bytes_max: 10, ..Limits::default() };
    let mut run = Run::new(&[""], limits);
    run.feed_transaction();
    run.feed(&begin(200, 901));
    run.writer.handle_tick(7);
    let flushed = run.effects();
    assert!(flushed.len() == 1 && flushed[0].starts_with("write "), "{flushed:?}");
    run.feed(&commit(200));
    run.writer.handle_disconnect();
    run.writer.handle_tick(7);
    assert_eq!(run.effects(), Vec::<String>::new(), "a transaction may be cut off in the logs");
    run.writer.handle_connected(Lsn::new(208), Lsn::new(208));
    run.effects();
    run.writer.handle_tick(7);
    assert_eq!(run.effects(), ["start file 2 Ticket(2) checkpoint at 207 of [0]", "sync for file 2 [0]"]);
}

#[test]
fn a_transaction_is_handed_on_in_parts() {
    let limits = Limits { fragment_bytes_max: 1, pending_bytes_max: 1, ..Limits::default() };
    let mut run = Run::new(&[""], limits);
    run.feed(&begin(100, 900));
    run.feed(&describe(&COLUMNS));
    assert_eq!(run.feed(&insert(&ROW)), ["append Ticket(1) items"]);
    assert_eq!(run.feed(&insert(&[Some("2"), None, None])), ["append Ticket(2) items"]);
    assert_eq!(run.last_offset(0), Offset::SNAPSHOT_END);
    assert_eq!(run.feed(&commit(100)), ["publish 100 [0]", "append Ticket(3) commit 100"]);
    assert_eq!(run.last_offset(0), Offset::new(100, 2));
}

#[test]
fn a_short_commit_log_needs_no_checkpoint() {
    let mut run = Run::new(&[""], Limits::default());
    run.feed_transaction();
    run.writer.handle_tick(7);
    let written = run.effects();
    assert!(written.len() == 1 && written[0].starts_with("write "), "{written:?}");
    run.writer.handle_tick(7);
    assert_eq!(run.effects(), Vec::<String>::new());
}

#[test]
fn a_keepalive_moves_what_was_received_and_what_may_be_confirmed() {
    let mut run = Run::new(&[""], Limits::default());
    run.feed(&begin(100, 900));
    run.feed(&commit(100));
    run.writer.handle_keepalive(Lsn::new(300));
    assert_eq!((run.writer.received(), run.writer.logs().confirmable()), (Lsn::new(300), Lsn::new(300)));
}

#[test]
fn postgres_is_told_what_is_new_and_once_for_each_tick_and_connection() {
    let mut run = Run::new(&[""], Limits::default());
    assert_eq!(run.writer.due_confirmation(), Some(Lsn::new(60)));
    run.writer.handle_confirmed(Lsn::new(60));
    assert_eq!(run.writer.due_confirmation(), None);
    run.writer.handle_keepalive(Lsn::new(300));
    assert_eq!(run.writer.due_confirmation(), Some(Lsn::new(300)));
    run.writer.handle_confirmed(Lsn::new(300));
    run.writer.handle_tick(7);
    assert_eq!(run.writer.due_confirmation(), Some(Lsn::new(300)), "nothing was said for a while");
    run.writer.handle_confirmed(Lsn::new(300));
    run.writer.handle_disconnect();
    run.writer.handle_tick(7);
    assert_eq!(run.writer.due_confirmation(), None, "there is nobody to tell");
    run.writer.handle_connected(Lsn::new(300), Lsn::new(300));
    assert_eq!(run.writer.due_confirmation(), Some(Lsn::new(300)));
}

#[test]
fn a_tail_can_wait_until_too_much_is_in_memory() {
    let limits = Limits { tail_bytes_max: 1, ..Limits::default() };
    let mut run = Run::new(&[""], limits);
    for frame in [begin(100, 900), describe(&COLUMNS)] {
        run.feed(&frame);
    }
    for frame in [insert(&ROW), commit(100)] {
        assert!(matches!(
            run.writer.handle_message(&decode(&frame).unwrap(), Lsn::new(61)),
            Ok(Progress::Done)
        ));
    }
    let mut prompt = Vec::new();
    while let Some(effect) = run.writer.poll_prompt_effect() {
        prompt.push(shown(effect));
    }
    assert_eq!(prompt, ["publish 100 [0]"], "readers do not wait for the disk");
    assert!(!run.writer.logs().are_tails_full());
    assert!(matches!(run.writer.poll_effect(), Some(Effect::WriteTail(_))));

    let mut run = Run::new(&[""], Limits { tails_bytes_max: 1, ..limits });
    for frame in [begin(100, 900), describe(&COLUMNS)] {
        run.feed(&frame);
    }
    for frame in [insert(&ROW), commit(100)] {
        assert!(run.writer.handle_message(&decode(&frame).unwrap(), Lsn::new(61)).is_ok());
    }
    assert!(run.writer.logs().are_tails_full());
}

#[test]
fn a_folder_goes_once_nothing_is_written_to_it_any_more() {
    let mut run = Run::new(&["", ""], Limits::default());
    run.feed_transaction();
    run.writer.handle_tick(0);
    let tails = std::iter::from_fn(|| run.writer.poll_effect());
    assert!(
        tails.take(1).all(|effect| matches!(effect, Effect::WriteTail(TailWrite { id: ShapeId(0), .. })))
    );
    [0, 1].into_iter().for_each(|id| run.writer.remove(ShapeId(id), DropCause::Deleted));
    run.writer.end_turn();
    run.writer.handle_report(Report::Synced(Ticket::new(u64::MAX)));
    let removals = |effects: Vec<String>| -> Vec<String> {
        effects.into_iter().filter(|effect| effect.starts_with("remove")).collect()
    };
    assert_eq!(removals(run.effects()), ["remove folder of 1"], "whose tail waited in memory");
    run.writer.handle_report(Report::Flushed(ShapeId(0)));
    assert_eq!(removals(run.effects()), ["remove folder of 0"]);
}
