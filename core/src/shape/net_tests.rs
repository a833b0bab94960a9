//! Tables in which two rows may hold one key for a while: what shapes are told at the end of the transaction.

use super::net::NET_BYTES_MAX;
use super::rotation::RotationCause;
use super::router::{Described, Router};
use super::tests::{
    COLUMNS, TABLE, begin, brief, commit, describe, feed, insert, items, router, text, update,
};
use crate::ShapeId;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// A router whose table has a deferrable key, and a transaction that has begun.
fn began(queries: &[&str]) -> Router {
    let mut router = router(queries);
    router.handle_described(TABLE, Described { key_always_unique: false, ..Described::default() });
    feed(&mut router, &begin(100, 900));
    feed(&mut router, &describe(&COLUMNS));
    router
}

/// `UPDATE t SET id = id + 1` over the rows 1 and 2.
fn move_on(router: &mut Router) {
    feed(router, &update(&[Some("1"), Some("5"), None], &[Some("2"), Some("5"), None]));
    feed(router, &update(&[Some("2"), Some("6"), None], &[Some("3"), Some("6"), None]));
}

#[test]
fn each_shape_is_told_one_change_of_a_key() {
    let mut router = began(&["", "where=n%3D5", "where=id%3E2", "columns=id"]);
    move_on(&mut router);
    assert_eq!(items(&router), [], "more may come");
    feed(&mut router, &commit(100));
    let told = [
        (0, 0, "delete"),
        (0, 2, "update"),
        (0, 3, "insert"),
        (1, 0, "delete"),
        (1, 2, "insert"),
        (2, 3, "insert"),
        (3, 0, "delete"),
        (3, 3, "insert"),
    ];
    assert_eq!(brief(items(&router)), told.map(|(shape, op, operation)| text(shape, op, operation)));
}

#[test]
fn what_is_due_comes_in_pieces() {
    let mut router = began(&[""]);
    move_on(&mut router);
    assert!(!router.settle(false, |fragment| !fragment.is_empty()), "the transaction is not over");
    let mut pieces = Vec::new();
    while router.settle(true, |fragment| !fragment.is_empty()) {
        pieces.push(brief(items(&router)));
        router.clear_fragment();
    }
    assert_eq!(pieces, [[text(0, 0, "delete")], [text(0, 2, "update")], [text(0, 3, "insert")]]);
    feed(&mut router, &commit(100));
    assert_eq!(items(&router), []);
}

#[test]
fn a_transaction_that_is_cut_off_is_counted_anew() {
    let mut router = began(&[""]);
    move_on(&mut router);
    router.handle_disconnect();
    feed(&mut router, &begin(100, 900));
    feed(&mut router, &describe(&COLUMNS));
    feed(&mut router, &insert(&[Some("9"), None, None]));
    feed(&mut router, &commit(100));
    assert_eq!(brief(items(&router)), [text(0, 0, "insert")]);
}

/// As many large rows as need settling before their transaction ends.
fn overrun(router: &mut Router) -> usize {
    let note: &str = Box::leak("x".repeat(NET_BYTES_MAX / 8).into_boxed_str());
    let mut settled = 0;
    for id in ["11", "12", "13", "14", "15", "16", "17", "18", "19"] {
        feed(router, &insert(&[Some(id), None, Some(note)]));
        while router.settle(false, |fragment| !fragment.is_empty()) {
            settled += items(router).len();
            router.clear_fragment();
        }
    }
    settled
}

#[test]
fn a_large_transaction_goes_on_where_each_key_changes_once() {
    let mut router = began(&[""]);
    assert!(overrun(&mut router) >= 8);
    feed(&mut router, &insert(&[Some("20"), None, None]));
    feed(&mut router, &commit(100));
    assert!(router.take_rotations().is_empty());
    assert_eq!(brief(items(&router)).last(), Some(&text(0, 18, "insert")));
}

#[test]
fn a_key_that_changes_again_behind_it_starts_its_shapes_over() {
    let mut router = began(&["", "where=n%3D5"]);
    overrun(&mut router);
    feed(&mut router, &update(&[Some("10"), None, None], &[Some("11"), None, None]));
    let causes = [0, 1].map(|id| (ShapeId(id), RotationCause::TransactionOverrun));
    assert_eq!(router.take_rotations(), causes);
    feed(&mut router, &commit(100));
}
