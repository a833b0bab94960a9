//! Clauses that Postgres judges: when it is asked, about what, and what comes of the answers.

use super::postgres_judged::ASKED_BYTES_MAX;
use super::rotation::RotationCause;
use super::router::Router;
use super::tests::{
    COLUMNS, begin, brief, commit, delete, describe, feed, insert, items, router, text, update,
};
use crate::ShapeId;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ID: ShapeId = ShapeId(0);

/// A shape that Postgres judges, and a transaction that has begun.
fn began() -> Router {
    let mut router = router(&["where=soundex(note)='A000'"]);
    feed(&mut router, &begin(100, 900));
    feed(&mut router, &describe(&COLUMNS));
    router
}

#[test]
fn a_transaction_is_asked_about_once_it_is_complete() {
    let mut router = began();
    feed(&mut router, &insert(&[Some("1"), None, Some("a")]));
    feed(&mut router, &insert(&[Some("2"), None, Some("b")]));
    feed(&mut router, &update(&[Some("3"), None, Some("a")], &[Some("3"), None, Some("b")]));
    feed(&mut router, &delete(&[Some("4"), None, None]));
    assert!(!router.has_questions(), "more may come");
    feed(&mut router, &commit(100));
    assert!(router.has_questions());
    let questions = router.questions();
    let notes = ["a", "b", "a", "b"].map(|note| Some(note.to_owned())).into_iter().chain([None]).collect();
    assert_eq!((questions.len(), questions[0].id, &questions[0].columns), (1, ID, &vec![notes]));
    assert_eq!(items(&router), [], "nothing before it is judged");

    // Row by row, an old one before the new one.
    router.handle_judged(ID, &[true, false, true, false, true]);
    let judged = [text(0, 0, "insert"), text(0, 4, "delete"), text(0, 6, "delete")];
    assert_eq!(brief(items(&router)), judged);
    assert!(!router.has_questions());
    assert_eq!(router.questions(), []);
}

#[test]
fn without_such_a_shape_nothing_is_asked() {
    let mut router = router(&[""]);
    feed(&mut router, &begin(100, 900));
    feed(&mut router, &describe(&COLUMNS));
    feed(&mut router, &insert(&[Some("1"), None, Some("a")]));
    feed(&mut router, &commit(100));
    assert!(!router.has_questions());
}

#[test]
fn many_rows_are_asked_about_at_once() {
    let mut router = began();
    let long: &'static str = "x".repeat(ASKED_BYTES_MAX / 2).leak();
    feed(&mut router, &insert(&[Some("1"), None, Some(long)]));
    assert!(!router.has_questions());
    feed(&mut router, &insert(&[Some("2"), None, Some(long)]));
    assert!(router.has_questions(), "inside the transaction");
    router.handle_judged(ID, &[false, true]);
    assert_eq!(brief(items(&router)), [text(0, 2, "insert")]);
    assert!(!router.has_questions());
}

#[test]
fn what_the_snapshot_holds_does_not_come_again() {
    let mut router = router(&["where=soundex(note)='A000'"]);
    feed(&mut router, &begin(40, 700));
    feed(&mut router, &describe(&COLUMNS));
    feed(&mut router, &insert(&[Some("1"), None, Some("a")]));
    feed(&mut router, &commit(40));
    router.handle_judged(ID, &[true]);
    assert_eq!(items(&router), []);
}

#[test]
fn a_shape_that_postgres_refuses_goes() {
    let mut router = began();
    feed(&mut router, &insert(&[Some("1"), None, Some("a")]));
    feed(&mut router, &commit(100));
    router.handle_refused(ID, "no such function".to_owned());
    assert_eq!(router.take_rotations(), [(ID, RotationCause::Refused("no such function".to_owned()))]);
    assert!(!router.has_questions());
}

fn feed_all(router: &mut Router, frames: &[Vec<u8>]) {
    for frame in frames {
        feed(router, frame);
    }
}

#[test]
fn a_transaction_that_postgres_did_not_judge_comes_again_whole() {
    let mut router = router(&["where=soundex(note)='A000'", ""]);
    let frames = [begin(100, 900), describe(&COLUMNS), insert(&[Some("1"), None, Some("a")]), commit(100)];
    feed_all(&mut router, &frames);
    assert!(router.has_questions());
    // No answer came: the stream is started again, and begins before the transaction.
    router.handle_disconnect();
    feed_all(&mut router, &frames);
    assert!(router.has_questions());
    router.handle_judged(ID, &[true]);
    assert_eq!(brief(items(&router)), [text(0, 0, "insert"), text(1, 0, "insert")]);

    // Judged, it is complete, and is left out where it comes once more.
    router.clear_fragment();
    router.handle_disconnect();
    feed_all(&mut router, &frames);
    assert!(!router.has_questions());
    assert_eq!(items(&router), []);
}
