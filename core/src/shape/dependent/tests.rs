//! Moves, with real pgoutput frames and answers as COPY gives them: table `t` is shown, subqueries read table `q`.

use super::held::HELD_BYTES_MAX;
use super::{DependentState, LogEntry, RoundRequest, View, ViewChange};
use crate::log::Fragment;
use crate::pg::{Column, QualifiedName, Relation, SnapshotBounds, SnapshotFilter, oid};
use crate::protocol::request::parse_shape_request;
use crate::protocol::route::Method;
use crate::shape::GeneratedColumns;
use crate::shape::definition::Definition;
use crate::shape::dependent::Member;
use crate::shape::rotation::RotationCause;
use crate::shape::router::Router;
use crate::shape::tests::{begin, commit, describe_as, feed, truncate_of, tuple};
use crate::{Lsn, ShapeId};
use serde_json::{Value, json};
use std::sync::Arc;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const OUTER: u32 = 16_384;
const INNER: u32 = 16_390;
const ID: ShapeId = ShapeId(1);
const IN: &str = "parent+IN+(SELECT+id+FROM+q+WHERE+on)";

type Cell = Option<&'static str>;

fn relation(oid: u32, name: &str, columns: &[(&str, u32)]) -> Arc<Relation> {
    let column = |(index, &(name, type_oid)): (usize, &(&str, u32))| Column {
        not_null: index == 0,
        pk_index: (index == 0).then_some(0),
        ..Column::new(name, type_oid, "t")
    };
    let columns = columns.iter().enumerate().map(column).collect();
    Arc::new(Relation::new(oid, QualifiedName::new("public", name), columns))
}

const OUTER_COLUMNS: [(&str, u32); 3] = [("id", oid::INT4), ("parent", oid::INT4), ("note", oid::TEXT)];
const INNER_COLUMNS: [(&str, u32); 2] = [("id", oid::INT4), ("on", oid::BOOL)];

pub(super) fn definition(clause: &str) -> Definition {
    let query = format!("table=t&offset=-1&where={}", clause.replace("on)", "\"on\")"));
    let request = parse_shape_request(Method::Get, &query).unwrap();
    let inner = relation(INNER, "q", &INNER_COLUMNS);
    let outer = relation(OUTER, "t", &OUTER_COLUMNS);
    Definition::resolve(&request.definition, &outer, &GeneratedColumns::Never, &[inner]).unwrap()
}

fn view(members: &[Cell]) -> View {
    members.iter().map(|text| Member::new([text.map(str::as_bytes)])).collect()
}

/// Sees every transaction below `next`, and none that commits at or after `ends_at`.
fn snapshot(next: u64, ends_at: u64) -> SnapshotFilter {
    SnapshotFilter { bounds: SnapshotBounds { xmin: next, xmax: next, xip: Vec::new() }, ends_at }
}

/// A router with one shape whose subquery returns `members`.
fn router(clause: &str, members: &[Cell]) -> Router {
    let mut router = Router::default();
    let state = DependentState { views: vec![view(members)], ..DependentState::default() };
    router.add_restored(ID, &definition(clause), "handle", snapshot(800, 50), state);
    router
}

fn outer(kind: &str, old: &[Cell], new: &[Cell]) -> Vec<u8> {
    change(OUTER, kind, old, new)
}

fn inner(kind: &str, old: &[Cell], new: &[Cell]) -> Vec<u8> {
    change(INNER, kind, old, new)
}

fn change(oid: u32, kind: &str, old: &[Cell], new: &[Cell]) -> Vec<u8> {
    let mut frame = [kind.as_bytes(), &oid.to_be_bytes()].concat();
    for (mark, cells) in [(b'O', old), (b'N', new)] {
        if !cells.is_empty() {
            frame.push(mark);
            frame.extend_from_slice(&tuple(cells));
        }
    }
    frame
}

/// Feeds a transaction; gives the items that go into the log at once.
fn transaction(router: &mut Router, lsn: u64, xid: u32, changes: &[Vec<u8>]) -> Vec<Value> {
    feed(router, &begin(lsn, xid));
    feed(router, &describe_as(OUTER, "t", &OUTER_COLUMNS));
    feed(router, &describe_as(INNER, "q", &INNER_COLUMNS));
    changes.iter().for_each(|change| {
        feed(router, change);
    });
    feed(router, &commit(lsn));
    let items = values(router.fragment());
    router.clear_fragment();
    items
}

fn values(fragment: &Fragment) -> Vec<Value> {
    fragment.items().map(|item| serde_json::from_slice(item.bytes).unwrap()).collect()
}

/// Opens a round's snapshot and lets the stream come up to it.
fn open(router: &mut Router, filter: SnapshotFilter) -> Option<RoundRequest> {
    assert!(matches!(router.rounds().poll_request(), Some(RoundRequest::Open(tables)) if tables.len() == 2));
    let position = Lsn::new(filter.ends_at);
    router.rounds().handle_opened(filter, true);
    router.rounds().handle_position(position);
    router.rounds().poll_request()
}

fn answer(router: &mut Router, answers: &[&str]) -> Option<RoundRequest> {
    let answers: Vec<Vec<u8>> = answers.iter().map(|answer| answer.as_bytes().to_vec()).collect();
    router.handle_answers(&answers);
    router.rounds().poll_request()
}

fn questions(request: Option<RoundRequest>) -> Vec<String> {
    match request {
        Some(RoundRequest::Ask(questions)) => questions,
        other => panic!("{other:?}"),
    }
}

const ON: Cell = Some("t");
const OFF: Cell = Some("f");

#[test]
fn a_member_that_comes_brings_its_rows() {
    let mut router = router(IN, &[Some("1")]);
    assert!(transaction(&mut router, 100, 810, &[inner("I", &[], &[Some("2"), ON])]).is_empty());
    assert_eq!(router.take_log_entries(), [LogEntry::Bound(ID, Some(Lsn::new(99)))]);
    let asked = questions(open(&mut router, snapshot(811, 120)));
    let members = "SELECT DISTINCT * FROM (SELECT \"id\" FROM \"public\".\"q\" WHERE \"on\") AS m(c0) WHERE ((c0 = ANY ('{\"2\"}')))";
    assert_eq!(asked, [members]);
    let asked = questions(answer(&mut router, &["2\n"]));
    assert!(
        asked[0].starts_with("SELECT \"id\", \"parent\", \"note\" FROM \"public\".\"t\" WHERE ("),
        "{asked:?}"
    );
    assert!(asked[0].ends_with(" AND (((\"parent\" = ANY ('{\"2\"}'))))"), "{asked:?}");
    assert_eq!(answer(&mut router, &["7\t2\tx\n"]), Some(RoundRequest::Close));
    let entries = router.take_log_entries();
    let [LogEntry::Move(made), LogEntry::Bound(ID, None)] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((made.consumed, made.items.tx), (100, 100));
    assert_eq!(made.changes, [ViewChange { enter: vec![Member::new([Some(&b"2"[..])])], leave: vec![] }]);
    let items = values(&made.items);
    assert_eq!(items[0]["headers"]["event"], "move-in");
    assert_eq!(items[0]["headers"]["txids"], json!([810]));
    assert_eq!(items[1]["value"], json!({"id": "7", "parent": "2", "note": "x"}));
    assert_eq!(items[1]["headers"]["is_move_in"], true);
    assert_eq!(items[1]["headers"]["tags"][0], items[0]["headers"]["patterns"][0]["value"]);
    assert_eq!(items[2]["headers"]["control"], "snapshot-end");
    assert_eq!(items.len(), 3);
    let after = transaction(&mut router, 200, 830, &[outer("I", &[], &[Some("8"), Some("2"), None])]);
    assert_eq!(after[0]["headers"]["operation"], "insert");
}

#[test]
fn a_member_that_goes_needs_no_rows() {
    let mut router = router(IN, &[Some("1")]);
    transaction(&mut router, 100, 810, &[inner("U", &[Some("1"), ON], &[Some("1"), OFF])]);
    questions(open(&mut router, snapshot(811, 120)));
    assert_eq!(answer(&mut router, &[""]), Some(RoundRequest::Close));
    let entries = router.take_log_entries();
    let [_, LogEntry::Move(made), LogEntry::Bound(ID, None)] = &entries[..] else { panic!("{entries:?}") };
    let items = values(&made.items);
    assert_eq!((items.len(), &items[0]["headers"]["event"]), (1, &json!("move-out")));
}

#[test]
fn a_duplicate_keeps_its_member_there() {
    let mut router = router(IN, &[Some("1")]);
    transaction(&mut router, 100, 810, &[inner("D", &[Some("1"), ON], &[])]);
    questions(open(&mut router, snapshot(811, 120)));
    assert_eq!(answer(&mut router, &["1\n"]), Some(RoundRequest::Close));
    let entries = router.take_log_entries();
    let [_, LogEntry::Move(made), LogEntry::Bound(ID, None)] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((made.consumed, made.changes[0].is_empty(), made.items.is_empty()), (100, true, true));
}

#[test]
fn what_cannot_concern_a_subquery_starts_nothing() {
    let mut router = router(IN, &[Some("1")]);
    let off = inner("I", &[], &[Some("2"), OFF]);
    let same = inner("U", &[Some("1"), ON], &[Some("1"), ON]);
    transaction(&mut router, 100, 810, &[off, same]);
    assert_eq!(router.rounds().poll_request(), None);
    assert_eq!(router.take_log_entries(), []);
}

#[test]
fn an_inner_row_that_becomes_another_concerns_it() {
    let mut router = router("parent+IN+(SELECT+id+FROM+q)", &[Some("1")]);
    transaction(&mut router, 100, 810, &[inner("U", &[Some("1"), ON], &[Some("2"), ON])]);
    assert_eq!(router.take_log_entries(), [LogEntry::Bound(ID, Some(Lsn::new(99)))]);
}

/// Shapes are found by their views, and by what their subqueries demand: those of others are not asked.
#[test]
fn after_a_move_rows_are_found_by_the_new_view() {
    let on = |id: &str| format!("parent+IN+(SELECT+id+FROM+q+WHERE+on)+AND+note+<>+'{id}'");
    let mut router = router(&on("x"), &[Some("1")]);
    let off = DependentState { views: vec![view(&[Some("3")])], ..DependentState::default() };
    let other = "parent+IN+(SELECT+id+FROM+q+WHERE+id+>+2)";
    router.add_restored(ShapeId(2), &definition(other), "other", snapshot(800, 50), off);
    let change = inner("U", &[Some("1"), ON], &[Some("2"), ON]);
    transaction(&mut router, 100, 810, &[change]);
    assert_eq!(
        router.take_log_entries(),
        [LogEntry::Bound(ID, Some(Lsn::new(99)))],
        "the other one asks for greater ids"
    );
    let asked = questions(open(&mut router, snapshot(811, 120)));
    assert_eq!(asked.len(), 1);
    let asked = questions(answer(&mut router, &["2\n"]));
    assert_eq!(asked.len(), 1);
    assert_eq!(answer(&mut router, &[""]), Some(RoundRequest::Close));
    let targets = |router: &mut Router, lsn, parent| {
        feed(router, &begin(lsn, 900));
        feed(router, &outer("I", &[], &[Some("9"), Some(parent), Some("y")]));
        let targets: Vec<ShapeId> =
            router.fragment().items().flat_map(|item| item.targets.to_vec()).collect();
        feed(router, &commit(lsn));
        router.clear_fragment();
        targets
    };
    assert_eq!(targets(&mut router, 200, "1"), []);
    assert_eq!(targets(&mut router, 300, "2"), [ID]);
    assert_eq!(targets(&mut router, 400, "3"), [ShapeId(2)]);
}

#[test]
fn a_truncate_that_the_snapshot_holds_rotates_nothing() {
    for truncated in [OUTER, INNER] {
        let mut router = router(IN, &[Some("1")]);
        for (lsn, xid, rotated) in [(40, 700, vec![]), (45, 801, vec![(ID, RotationCause::Truncated)])] {
            transaction(&mut router, lsn, xid, &[truncate_of(truncated)]);
            assert_eq!(router.take_rotations(), rotated);
        }
    }
}

#[test]
fn a_shape_beside_a_removed_one_goes_on() {
    let mut router = router(IN, &[Some("1")]);
    let state = DependentState { views: vec![view(&[Some("1")])], ..DependentState::default() };
    router.add_restored(ShapeId(2), &definition(IN), "other", snapshot(800, 50), state);
    router.remove(ShapeId(2));
    transaction(&mut router, 100, 810, &[inner("D", &[Some("1"), ON], &[])]);
    assert_eq!(router.take_log_entries(), [LogEntry::Bound(ID, Some(Lsn::new(99)))]);
}

#[test]
fn a_column_that_comes_changes_the_shape_that_shows_all_of_its_own_table() {
    let widened = |router: &mut Router, oid, name, columns: &[(&str, u32)]| {
        feed(router, &begin(100, 810));
        feed(router, &describe_as(oid, name, &[columns, &[("more", oid::TEXT)]].concat()));
        router.take_rotations()
    };
    let outer = |router: &mut Router| widened(router, OUTER, "t", &OUTER_COLUMNS);
    let inner = |router: &mut Router| widened(router, INNER, "q", &INNER_COLUMNS);
    let some = format!("{IN}&columns=id,parent");
    assert_eq!(outer(&mut router(IN, &[])), [(ID, RotationCause::SchemaChanged)]);
    assert_eq!(outer(&mut router(&some, &[])), []);
    assert_eq!(inner(&mut router(IN, &[])), []);
}

#[test]
fn what_the_snapshot_holds_comes_before_the_move_and_the_rest_behind_it() {
    let mut router = router(IN, &[Some("1")]);
    transaction(&mut router, 100, 810, &[inner("I", &[], &[Some("2"), ON])]);
    let held = |id| outer("I", &[], &[Some(id), Some("2"), None]);
    assert!(transaction(&mut router, 110, 811, &[held("5")]).is_empty(), "held back");
    assert!(transaction(&mut router, 130, 813, &[held("6")]).is_empty());
    questions(open(&mut router, snapshot(812, 120)));
    questions(answer(&mut router, &["2\n"]));
    answer(&mut router, &["5\t2\t\\N\n"]);
    let entries = router.take_log_entries();
    let [_, LogEntry::Move(made), LogEntry::Transaction(after), LogEntry::Bound(ID, None)] = &entries[..]
    else {
        panic!("{entries:?}")
    };
    assert_eq!(made.consumed, 110, "the insert of 5 is in the rows, not in the log");
    assert_eq!(values(&made.items)[1]["value"]["id"], "5");
    assert_eq!((after.tx, &values(after)[0]["value"]["id"]), (130, &json!("6")));
}

#[test]
fn a_snapshot_that_lacks_an_earlier_transaction_is_not_used() {
    let mut router = router(IN, &[Some("1")]);
    transaction(&mut router, 100, 810, &[inner("I", &[], &[Some("2"), ON])]);
    transaction(&mut router, 110, 812, &[outer("I", &[], &[Some("5"), Some("1"), None])]);
    transaction(&mut router, 115, 811, &[outer("I", &[], &[Some("6"), Some("1"), None])]);
    // 812 committed before 811, and is not visible yet.
    let inverted = SnapshotBounds { xmin: 812, xmax: 813, xip: vec![812] };
    assert_eq!(
        open(&mut router, SnapshotFilter { bounds: inverted, ends_at: 120 }),
        Some(RoundRequest::Close)
    );
    questions(open(&mut router, snapshot(813, 121)));
}

#[test]
fn a_snapshot_that_is_not_complete_is_opened_again() {
    let mut router = router(IN, &[]);
    transaction(&mut router, 100, 810, &[inner("I", &[], &[Some("2"), ON])]);
    assert!(matches!(router.rounds().poll_request(), Some(RoundRequest::Open(tables)) if tables.len() == 2));
    router.rounds().handle_opened(snapshot(810, 120), false);
    assert!(matches!(router.rounds().poll_request(), Some(RoundRequest::Open(tables)) if tables.len() == 2));
    router.rounds().handle_opened(snapshot(811, 120), true);
    router.rounds().handle_position(Lsn::new(119));
    assert_eq!(router.rounds().poll_request(), None, "the stream has to come up to the snapshot");
    router.rounds().handle_position(Lsn::new(120));
    questions(router.rounds().poll_request());
}

#[test]
fn a_round_that_fails_is_made_again() {
    let mut router = router(IN, &[]);
    transaction(&mut router, 100, 810, &[inner("I", &[], &[Some("2"), ON])]);
    questions(open(&mut router, snapshot(811, 120)));
    router.rounds().handle_failed(None);
    assert_eq!(questions(open(&mut router, snapshot(812, 130))).len(), 1);
    router.rounds().handle_failed(Some((0, RotationCause::Refused("no".to_owned()))));
    assert_eq!(router.take_rotations(), [(ID, RotationCause::Refused("no".to_owned()))]);
    assert_eq!(router.rounds().poll_request(), None);
}

#[test]
fn a_null_in_not_in_starts_the_shape_over() {
    let mut router = router(&IN.replace("+IN", "+NOT+IN"), &[Some("1")]);
    transaction(&mut router, 100, 810, &[inner("I", &[], &[None, ON])]);
    questions(open(&mut router, snapshot(811, 120)));
    answer(&mut router, &["\\N\n"]);
    assert_eq!(router.take_rotations(), [(ID, RotationCause::NullMember)]);
}

#[test]
fn not_in_over_nothing_takes_null_in() {
    let mut router = router(&IN.replace("+IN", "+NOT+IN"), &[Some("1")]);
    transaction(&mut router, 100, 810, &[inner("D", &[Some("1"), ON], &[])]);
    questions(open(&mut router, snapshot(811, 120)));
    let asked = questions(answer(&mut router, &[""]));
    assert!(asked[0].ends_with("(((\"parent\" IS NULL OR \"parent\" = ANY ('{\"1\"}'))))"), "{asked:?}");
}

#[test]
fn a_row_that_stays_by_another_disjunct_is_not_sent_again() {
    let mut router = router(&format!("{IN}+OR+note='x'"), &[]);
    transaction(&mut router, 100, 810, &[inner("I", &[], &[Some("2"), ON])]);
    questions(open(&mut router, snapshot(811, 120)));
    questions(answer(&mut router, &["2\n"]));
    answer(&mut router, &["7\t2\tx\n8\t2\ty\n"]);
    let entries = router.take_log_entries();
    let [_, LogEntry::Move(made), _] = &entries[..] else { panic!("{entries:?}") };
    let items = values(&made.items);
    assert_eq!((items.len(), &items[1]["value"]["id"]), (3, &json!("8")));
    assert_eq!(items[1]["headers"]["active_conditions"], json!([true, false]));
}

#[test]
fn a_row_with_another_key_goes_and_comes_with_its_tags() {
    let mut router = router(IN, &[Some("2"), Some("3")]);
    let changes = [outer("U", &[Some("7"), Some("2"), Some("a")], &[Some("8"), Some("3"), Some("a")])];
    let items = transaction(&mut router, 100, 810, &changes);
    let [gone, come] = &items[..] else { panic!("{items:?}") };
    let told = |item: &Value| (item["headers"]["operation"].clone(), item["headers"]["op_position"].clone());
    assert_eq!((told(gone), told(come)), ((json!("delete"), json!(0)), (json!("insert"), json!(1))));
    let tags = |item: &Value| item["headers"]["tags"].as_array().unwrap().clone();
    let (before, after) = (tags(gone), tags(come));
    assert_eq!((before.len(), after.len(), &before[0]), (2, 1, &after[0]), "it goes by both");
    assert!(gone["headers"].get("removed_tags").is_none() && come["headers"].get("removed_tags").is_none());
}

#[test]
fn what_comes_again_is_skipped() {
    let mut router = router(IN, &[]);
    let came = [inner("I", &[], &[Some("2"), ON])];
    let row = [outer("I", &[], &[Some("5"), Some("2"), None])];
    transaction(&mut router, 90, 809, &row);
    transaction(&mut router, 100, 810, &came);
    questions(open(&mut router, snapshot(811, 120)));
    questions(answer(&mut router, &["2\n"]));
    answer(&mut router, &["5\t2\t\\N\n"]);
    let state = router.rounds().state(ID).unwrap();
    assert_eq!(state, DependentState { consumed: 100, views: vec![view(&[Some("2")])], visible_up_to: None });
    router.handle_disconnect();
    assert!(transaction(&mut router, 90, 809, &row).is_empty());
    let mut restarted = Router::default();
    restarted.add_restored(ID, &definition(IN), "handle", snapshot(800, 50), state);
    assert!(transaction(&mut restarted, 90, 809, &row).is_empty(), "the row came with the move");
    transaction(&mut restarted, 100, 810, &came);
    assert_eq!(restarted.rounds().poll_request(), None);
}

#[test]
fn a_transaction_that_is_cut_off_is_forgotten() {
    let mut router = router(IN, &[]);
    transaction(&mut router, 100, 810, &[inner("I", &[], &[Some("2"), ON])]);
    feed(&mut router, &begin(110, 811));
    feed(&mut router, &outer("I", &[], &[Some("5"), Some("2"), None]));
    router.handle_disconnect();
    transaction(&mut router, 110, 811, &[outer("I", &[], &[Some("6"), Some("2"), None])]);
    questions(open(&mut router, snapshot(811, 105)));
    answer(&mut router, &[""]);
    let entries = router.take_log_entries();
    let [_, LogEntry::Move(made), LogEntry::Bound(ID, None)] = &entries[..] else { panic!("{entries:?}") };
    assert!(made.changes[0].is_empty(), "2 is not there: {entries:?}");
}

#[test]
fn changes_during_the_snapshot_wait_for_its_views() {
    let mut router = Router::default();
    router.add_waiting(ID, &definition(IN), "handle");
    let row = |id| outer("I", &[], &[Some(id), Some("1"), None]);
    transaction(&mut router, 100, 810, &[row("5")]);
    transaction(&mut router, 110, 812, &[row("6")]);
    router.handle_dependent_snapshot(ID, &snapshot(811, 105), vec![view(&[Some("1")])]);
    let entries = router.take_log_entries();
    let [LogEntry::Transaction(after), LogEntry::Bound(ID, None)] = &entries[..] else {
        panic!("{entries:?}")
    };
    assert_eq!(values(after)[0]["value"]["id"], "6");
}

#[test]
fn a_move_holds_so_much_back_and_no_more() {
    let mut router = router(IN, &[Some("1")]);
    transaction(&mut router, 100, 810, &[inner("I", &[], &[Some("2"), ON])]);
    let insert = |id: &'static str, bytes: usize| {
        let note: &'static str = "x".repeat(bytes).leak();
        outer("I", &[], &[Some(id), Some("1"), Some(note)])
    };
    transaction(&mut router, 200, 811, &[insert("7", HELD_BYTES_MAX - 1_000)]);
    assert_eq!(router.take_rotations(), []);
    transaction(&mut router, 300, 812, &[insert("8", 1_000)]);
    assert_eq!(router.take_rotations(), [(ID, RotationCause::HeldOverrun)]);
}
