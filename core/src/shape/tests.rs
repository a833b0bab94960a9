//! The router with real pgoutput frames: which items reach which shape.

use super::GeneratedColumns;
use super::definition::Definition;
use super::dependent::DependentState;
use super::rotation::RotationCause;
use super::router::{Described, RouteError, Router, Step};
use crate::ShapeId;
use crate::pg::{Column, QualifiedName, Relation, SnapshotBounds, SnapshotFilter, oid};
use crate::pgoutput::decode;
use crate::protocol::request::parse_shape_request;
use crate::protocol::route::Method;
use serde_json::Value;
use std::sync::Arc;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

pub(crate) const TABLE: u32 = 16384;
pub(crate) const COLUMNS: [(&str, u32); 3] = [("id", oid::INT4), ("n", oid::INT4), ("note", oid::TEXT)];

pub(crate) type Cell = Option<&'static str>;

pub(crate) fn relation() -> Arc<Relation> {
    let column = |(index, &(name, type_oid)): (usize, &(&str, u32))| Column {
        not_null: index == 0,
        pk_index: (index == 0).then_some(0),
        ..Column::new(name, type_oid, "t")
    };
    let columns = COLUMNS.iter().enumerate().map(column).collect();
    Arc::new(Relation::new(TABLE, QualifiedName::new("public", "t"), columns))
}

pub(crate) fn definition(query: &str, relation: &Arc<Relation>) -> Definition {
    let request = parse_shape_request(Method::Get, &format!("table=t&offset=-1&{query}")).unwrap();
    Definition::resolve(&request.definition, relation, &GeneratedColumns::Never, &[]).unwrap()
}

/// Sees every transaction below 800, and none that commits later.
pub(crate) fn nothing_running() -> SnapshotFilter {
    SnapshotFilter { bounds: SnapshotBounds { xmin: 800, xmax: 800, xip: Vec::new() }, ends_at: 50 }
}

/// A router with shapes 0, 1, … that are past their snapshot.
pub(crate) fn router(queries: &[&str]) -> Router {
    router_of(&relation(), queries)
}

/// The same of a table that looks otherwise.
fn router_of(relation: &Arc<Relation>, queries: &[&str]) -> Router {
    let mut router = Router::default();
    for (id, query) in (0..).zip(queries) {
        router.add_restored(
            ShapeId(id),
            &definition(query, relation),
            "",
            nothing_running(),
            DependentState::default(),
        );
    }
    router
}

pub(crate) fn begin(commit: u64, xid: u32) -> Vec<u8> {
    [b"B".as_slice(), &commit.to_be_bytes(), &0_u64.to_be_bytes(), &xid.to_be_bytes()].concat()
}

pub(crate) fn commit(lsn: u64) -> Vec<u8> {
    [b"C\0".as_slice(), &lsn.to_be_bytes(), &(lsn + 8).to_be_bytes(), &0_u64.to_be_bytes()].concat()
}

pub(crate) fn describe(columns: &[(&str, u32)]) -> Vec<u8> {
    describe_as(TABLE, "t", columns)
}

pub(crate) fn describe_as(relation: u32, name: &str, columns: &[(&str, u32)]) -> Vec<u8> {
    let mut frame = [b"R".as_slice(), &relation.to_be_bytes(), b"public\0", name.as_bytes(), b"\0f"].concat();
    frame.extend_from_slice(&(columns.len() as u16).to_be_bytes());
    for (name, type_oid) in columns {
        frame.push(1);
        frame.extend_from_slice(name.as_bytes());
        frame.push(0);
        frame.extend_from_slice(&type_oid.to_be_bytes());
        frame.extend_from_slice(&(-1_i32).to_be_bytes());
    }
    frame
}

pub(crate) fn tuple(cells: &[Cell]) -> Vec<u8> {
    let mut bytes = (cells.len() as u16).to_be_bytes().to_vec();
    for cell in cells {
        match cell {
            None => bytes.push(b'n'),
            Some("(toast)") => bytes.push(b'u'),
            Some(text) => {
                bytes.push(b't');
                bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    bytes
}

pub(crate) fn insert(new: &[Cell]) -> Vec<u8> {
    [b"I".as_slice(), &TABLE.to_be_bytes(), b"N", &tuple(new)].concat()
}

pub(crate) fn update(old: &[Cell], new: &[Cell]) -> Vec<u8> {
    [b"U".as_slice(), &TABLE.to_be_bytes(), b"O", &tuple(old), b"N", &tuple(new)].concat()
}

fn update_without_old(new: &[Cell]) -> Vec<u8> {
    [b"U".as_slice(), &TABLE.to_be_bytes(), b"N", &tuple(new)].concat()
}

pub(crate) fn delete(old: &[Cell]) -> Vec<u8> {
    [b"D".as_slice(), &TABLE.to_be_bytes(), b"O", &tuple(old)].concat()
}

pub(crate) fn truncate() -> Vec<u8> {
    truncate_of(TABLE)
}

pub(crate) fn truncate_of(relation: u32) -> Vec<u8> {
    [b"T".as_slice(), &1_u32.to_be_bytes(), b"\0", &relation.to_be_bytes()].concat()
}

pub(crate) fn feed(router: &mut Router, frame: &[u8]) -> Step {
    router.handle_message(&decode(frame).unwrap()).unwrap()
}

/// One transaction's items as (shape, op, operation, value).
fn transaction(router: &mut Router, lsn: u64, changes: &[Vec<u8>]) -> Vec<(u32, u64, String, Value)> {
    feed(router, &begin(lsn, 900));
    changes.iter().for_each(|change| {
        feed(router, change);
    });
    let items = items(router);
    assert_eq!(
        feed(router, &commit(lsn)),
        Step::Committed { commit: crate::Lsn::new(lsn), end: crate::Lsn::new(lsn + 8), xid: 900 }
    );
    items
}

pub(crate) fn items(router: &Router) -> Vec<(u32, u64, String, Value)> {
    let mut pairs = Vec::new();
    let parsed = router.fragment().by_shape(&mut pairs).map(|item| {
        let value: Value = serde_json::from_slice(item.bytes).unwrap();
        let operation = value["headers"]["operation"].as_str().unwrap().to_owned();
        (item.shape.0, item.op, operation, value["value"].clone())
    });
    parsed.collect()
}

pub(crate) fn brief(items: Vec<(u32, u64, String, Value)>) -> Vec<(u32, u64, String)> {
    items.into_iter().map(|(shape, op, operation, _)| (shape, op, operation)).collect()
}

pub(crate) fn text(shape: u32, op: u64, operation: &str) -> (u32, u64, String) {
    (shape, op, operation.to_owned())
}

#[test]
fn ops_count_every_change_by_two() {
    let mut router = router(&["", "where=n%3D5"]);
    let items = transaction(
        &mut router,
        100,
        &[describe(&COLUMNS), insert(&[Some("1"), Some("4"), None]), insert(&[Some("2"), Some("5"), None])],
    );
    assert_eq!(brief(items), [text(0, 0, "insert"), text(0, 2, "insert"), text(1, 2, "insert")]);
}

#[test]
fn rows_enter_and_leave_by_their_own_change() {
    for filter in ["where=n%3D5", "where=n%3E4", "where=n%3D5%20AND%20id%3E0"] {
        let mut router = router(&[filter]);
        let (out, inside) = ([Some("1"), Some("4"), None], [Some("1"), Some("5"), None]);
        let changes = [
            describe(&COLUMNS),
            update(&out, &inside),
            update(&inside, &[Some("1"), Some("5"), Some("x")]),
            update(&inside, &out),
            update(&out, &[Some("1"), None, None]),
            delete(&out),
        ];
        let items = transaction(&mut router, 100, &changes);
        let operations = [text(0, 0, "insert"), text(0, 2, "update"), text(0, 4, "delete")];
        assert_eq!(brief(items), operations, "{filter}");
    }
}

#[test]
fn an_entering_row_shows_values_that_were_not_sent() {
    let mut router = router(&["where=n%3D5"]);
    let change = update(&[Some("1"), Some("4"), Some("long")], &[Some("1"), Some("5"), Some("(toast)")]);
    let items = transaction(&mut router, 100, &[describe(&COLUMNS), change]);
    assert_eq!(items[0].3["note"], "long");
}

#[test]
fn a_key_change_takes_two_ops_and_crossing_the_filter_takes_one() {
    let mut router = router(&["", "where=n%3D5"]);
    let change = update(&[Some("1"), Some("4"), None], &[Some("2"), Some("5"), None]);
    let items = transaction(&mut router, 100, &[describe(&COLUMNS), change]);
    assert_eq!(brief(items), [text(0, 0, "delete"), text(0, 1, "insert"), text(1, 0, "insert")]);
}

#[test]
fn changes_of_unselected_columns_are_nothing() {
    let mut router = router(&["columns=id,n"]);
    let change = update(&[Some("1"), Some("4"), None], &[Some("1"), Some("4"), Some("x")]);
    assert_eq!(transaction(&mut router, 100, &[describe(&COLUMNS), change]), []);
}

#[test]
fn a_removed_shape_gets_nothing() {
    let mut router = router(&["where=n%3D5", "where=n%3D5", "", "where=n%3E1"]);
    [0, 2, 3].into_iter().for_each(|id| router.remove(ShapeId(id)));
    let items = transaction(&mut router, 100, &[describe(&COLUMNS), insert(&[Some("1"), Some("5"), None])]);
    assert_eq!(brief(items), [text(1, 0, "insert")]);
}

#[test]
fn a_shape_beside_a_removed_one_stays() {
    let filters = ["", "", "where=n%3E1", "where=n%3E2", "where=n%3D5", "where=n%3D5"];
    let mut router = router(&filters);
    [0, 2, 4].into_iter().for_each(|id| router.remove(ShapeId(id)));
    let items = transaction(&mut router, 100, &[describe(&COLUMNS), insert(&[Some("1"), Some("5"), None])]);
    assert_eq!(brief(items), [text(1, 0, "insert"), text(3, 0, "insert"), text(5, 0, "insert")]);
}

#[test]
fn formats_and_outcomes_are_not_mixed_up() {
    let filters = ["", "columns=id,n", "replica=full", "where=n%3D5", "columns=id,n&where=n%3D5", ""];
    let mut router = router(&filters);
    let change = update(&[Some("1"), Some("4"), Some("x")], &[Some("1"), Some("5"), Some("x")]);
    let items = transaction(&mut router, 100, &[describe(&COLUMNS), change]);
    let shown: Vec<_> = items.into_iter().map(|(id, _, operation, value)| (id, operation, value)).collect();
    let changed = || serde_json::json!({"id": "1", "n": "5"});
    let whole = || serde_json::json!({"id": "1", "n": "5", "note": "x"});
    let expected = [
        (0, "update".to_owned(), changed()),
        (1, "update".to_owned(), changed()),
        (2, "update".to_owned(), whole()),
        (3, "insert".to_owned(), whole()),
        (4, "insert".to_owned(), changed()),
        (5, "update".to_owned(), changed()),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn what_is_shared_is_encoded_once() {
    let mut router = router(&["", "", "columns=id,n"]);
    transaction(&mut router, 100, &[describe(&COLUMNS), insert(&[Some("1"), None, None])]);
    let targets: Vec<usize> = router.fragment().items().map(|item| item.targets.len()).collect();
    assert_eq!(targets, [2, 1]);
}

#[test]
fn the_open_transaction_is_known() {
    let mut router = router(&[""]);
    assert_eq!((router.open_xid(), router.in_transaction()), (None, false));
    feed(&mut router, &begin(100, 900));
    assert_eq!((router.open_xid(), router.in_transaction()), (Some(900), true));
    feed(&mut router, &commit(100));
    assert_eq!((router.open_xid(), router.in_transaction()), (None, false));
    feed(&mut router, &begin(110, 901));
    router.handle_disconnect();
    assert_eq!((router.open_xid(), router.in_transaction()), (None, false));
}

#[test]
fn truncate_takes_the_shapes_and_an_op() {
    let mut router = router(&["", "where=n%3D5"]);
    feed(&mut router, &begin(100, 900));
    feed(&mut router, &truncate());
    let gone = router.take_rotations();
    assert_eq!(gone, [(ShapeId(0), RotationCause::Truncated), (ShapeId(1), RotationCause::Truncated)]);
    router.add_restored(
        ShapeId(2),
        &definition("", &relation()),
        "",
        nothing_running(),
        DependentState::default(),
    );
    feed(&mut router, &describe(&COLUMNS));
    feed(&mut router, &insert(&[Some("1"), None, None]));
    assert_eq!(brief(items(&router)), [text(2, 2, "insert")]);
}

#[test]
fn a_truncate_that_the_snapshot_holds_rotates_nothing() {
    let mut router = router(&["", "where=n=1"]);
    for (lsn, xid, rotated) in [(40, 700, vec![]), (45, 801, vec![0, 1])] {
        feed(&mut router, &begin(lsn, xid));
        feed(&mut router, &describe(&COLUMNS));
        feed(&mut router, &truncate());
        feed(&mut router, &commit(lsn));
        let ids: Vec<u32> = router.take_rotations().iter().map(|(id, _)| id.0).collect();
        assert_eq!(ids, rotated);
    }
}

#[test]
fn an_update_without_its_old_row_rotates() {
    let mut router = router(&[""]);
    feed(&mut router, &begin(100, 900));
    feed(&mut router, &describe(&COLUMNS));
    feed(&mut router, &update_without_old(&[Some("1"), None, None]));
    assert_eq!(router.take_rotations(), [(ShapeId(0), RotationCause::IdentityLost)]);
}

#[test]
fn a_row_that_cannot_be_judged_rotates_its_shape_only() {
    let mut router = router(&["where=1%2Fn%3D1", ""]);
    let change = insert(&[Some("1"), Some("0"), None]);
    let items = transaction(&mut router, 100, &[describe(&COLUMNS), change]);
    assert_eq!(brief(items), [text(1, 0, "insert")]);
    let gone = router.take_rotations();
    assert!(matches!(gone[..], [(ShapeId(0), RotationCause::Unjudgeable(_))]), "{gone:?}");
}

#[test]
fn schema_changes_rotate_exactly_the_shapes_they_touch() {
    let rotated = |columns: &[(&str, u32)]| {
        let mut router = router(&["", "columns=id,n", "columns=id&where=note%3D%27x%27"]);
        feed(&mut router, &begin(100, 900));
        feed(&mut router, &describe(columns));
        router.take_rotations().into_iter().map(|(id, _)| id.0).collect::<Vec<_>>()
    };
    assert!(rotated(&COLUMNS).is_empty());
    // A column more: only who shows all columns.
    assert_eq!(rotated(&[COLUMNS[0], COLUMNS[1], COLUMNS[2], ("more", oid::TEXT)]), [0]);
    // `note` dropped: who shows it and who asks for it.
    assert_eq!(rotated(&[COLUMNS[0], COLUMNS[1]]), [0, 2]);
    // `n` has another type.
    assert_eq!(rotated(&[COLUMNS[0], ("n", oid::INT8), COLUMNS[2]]), [0, 1]);
    // `id` renamed.
    assert_eq!(rotated(&[("uid", oid::INT4), COLUMNS[1], COLUMNS[2]]), [0, 1, 2]);
}

#[test]
fn a_table_of_another_name_rotates_its_shapes() {
    let mut router = router(&["", "columns=id"]);
    feed(&mut router, &begin(100, 900));
    feed(&mut router, &describe_as(TABLE, "renamed", &COLUMNS));
    let ids: Vec<u32> = router.take_rotations().iter().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [0, 1]);
}

#[test]
fn a_dropped_column_moves_no_value_to_another() {
    let mut router = router(&["columns=id,note"]);
    let change = insert(&[Some("1"), Some("kept")]);
    let items = transaction(&mut router, 100, &[describe(&[COLUMNS[0], COLUMNS[2]]), change]);
    assert_eq!(items[0].3, serde_json::json!({"id": "1", "note": "kept"}));
}

#[test]
fn changes_wait_for_the_snapshot_and_then_follow_it() {
    let mut router = Router::default();
    router.add_waiting(ShapeId(0), &definition("", &relation()), "");
    let row = |id| insert(&[Some(id), None, None]);
    assert_eq!(transaction(&mut router, 10, &[describe(&COLUMNS), row("1")]), []);
    feed(&mut router, &begin(20, 803));
    feed(&mut router, &row("2"));
    feed(&mut router, &commit(20));
    // The open transaction is split by the news of the snapshot.
    feed(&mut router, &begin(30, 804));
    feed(&mut router, &row("3"));
    let bounds = SnapshotBounds { xmin: 803, xmax: 901, xip: vec![803, 804] };
    let complete = router.handle_snapshot(ShapeId(0), &SnapshotFilter { bounds, ends_at: 40 });
    assert_eq!(complete.iter().map(|fragment| fragment.tx).collect::<Vec<_>>(), [20]);
    feed(&mut router, &row("4"));
    assert_eq!(brief(items(&router)), [text(0, 0, "insert"), text(0, 2, "insert")]);
    feed(&mut router, &commit(30));
    // Visible in the snapshot although it commits later; and one that is past it.
    assert_eq!(transaction(&mut router, 40, &[row("5")]), []);
    assert_eq!(transaction(&mut router, 50, &[row("6")]).len(), 1);
}

#[test]
fn what_a_broken_connection_cut_off_does_not_wait_twice() {
    let mut router = Router::default();
    router.add_waiting(ShapeId(0), &definition("", &relation()), "");
    feed(&mut router, &begin(20, 803));
    feed(&mut router, &describe(&COLUMNS));
    feed(&mut router, &insert(&[Some("1"), None, None]));
    router.handle_disconnect();
    let bounds = SnapshotBounds { xmin: 803, xmax: 803, xip: Vec::new() };
    let filter = SnapshotFilter { bounds, ends_at: 10 };
    assert_eq!(router.handle_snapshot(ShapeId(0), &filter), []);
}

#[test]
fn a_waiting_shape_loses_nothing_when_the_stream_starts_over() {
    let mut router = Router::default();
    router.add_waiting(ShapeId(0), &definition("", &relation()), "");
    let row = |id| insert(&[Some(id), None, None]);
    for (lsn, id) in [(10, "1"), (20, "2"), (30, "3")] {
        assert_eq!(transaction(&mut router, lsn, &[describe(&COLUMNS), row(id)]), []);
    }
    router.handle_disconnect();
    // The second comes again when the snapshot is known: it keeps its place before the third.
    feed(&mut router, &begin(20, 900));
    feed(&mut router, &describe(&COLUMNS));
    let bounds = SnapshotBounds { xmin: 1, xmax: 1, xip: vec![] };
    let complete = router.handle_snapshot(ShapeId(0), &SnapshotFilter { bounds, ends_at: 90 });
    assert_eq!(complete.iter().map(|fragment| fragment.tx).collect::<Vec<_>>(), [10, 20, 30]);
    feed(&mut router, &row("2"));
    feed(&mut router, &commit(20));
    assert_eq!(transaction(&mut router, 30, &[row("3")]), []);
    assert_eq!(transaction(&mut router, 40, &[row("4")]).len(), 1);
}

#[test]
fn what_a_snapshot_holds_does_not_come_again_with_a_new_connection() {
    let mut router = Router::default();
    router.add_waiting(ShapeId(0), &definition("", &relation()), "");
    let row = |id| insert(&[Some(id), None, None]);
    let bounds = SnapshotBounds { xmin: 901, xmax: 901, xip: vec![] };
    router.handle_snapshot(ShapeId(0), &SnapshotFilter { bounds, ends_at: 20 });
    assert_eq!(transaction(&mut router, 10, &[describe(&COLUMNS), row("1")]), []);
    // Beyond the snapshot: its filter is over.
    assert_eq!(transaction(&mut router, 30, &[row("2")]).len(), 1);
    router.handle_disconnect();
    assert_eq!(transaction(&mut router, 10, &[describe(&COLUMNS), row("1")]), []);
    assert_eq!(transaction(&mut router, 40, &[row("3")]).len(), 1);
}

#[test]
fn a_truncate_that_comes_again_rotates_no_shape_that_was_made_since() {
    let mut router = router(&[""]);
    transaction(&mut router, 10, &[truncate()]);
    assert_eq!(router.take_rotations().len(), 1);
    router.add_restored(
        ShapeId(1),
        &definition("", &relation()),
        "",
        nothing_running(),
        DependentState::default(),
    );
    router.handle_disconnect();
    transaction(&mut router, 10, &[truncate()]);
    assert_eq!(router.take_rotations(), []);
    router.handle_other_history();
    transaction(&mut router, 10, &[truncate()]);
    assert_eq!(router.take_rotations().len(), 1);
}

#[test]
fn a_stream_that_breaks_its_rules_is_an_error() {
    let mut router = router(&[""]);
    let change = insert(&[Some("1"), None, None]);
    let change = decode(&change).unwrap();
    assert_eq!(router.handle_message(&change), Err(RouteError::OutsideTransaction));
    feed(&mut router, &begin(100, 900));
    assert_eq!(router.handle_message(&change), Err(RouteError::UnknownRelation { oid: TABLE }));
}

const LEAF: u32 = 16500;
const MIDDLE: u32 = 16400;

/// What the catalog says of a relation below others.
fn below(ancestors: &[u32], is_partition: bool) -> Described {
    Described { ancestors: ancestors.to_vec(), is_partition, ..Described::default() }
}

/// A change of the partition, whose columns stand in another order.
fn insert_into_leaf(note: Cell, id: Cell, n: Cell) -> Vec<u8> {
    [b"I".as_slice(), &LEAF.to_be_bytes(), b"N", &tuple(&[note, id, n])].concat()
}

fn describe_leaf() -> Vec<u8> {
    describe_as(LEAF, "t_leaf", &[COLUMNS[2], COLUMNS[0], COLUMNS[1]])
}

#[test]
fn a_partitions_changes_reach_the_table_above_under_its_name() {
    let mut router = router(&["where=n%3D5"]);
    router.handle_described(LEAF, below(&[MIDDLE, TABLE], true));
    feed(&mut router, &begin(100, 900));
    feed(&mut router, &describe_leaf());
    feed(&mut router, &insert_into_leaf(Some("x"), Some("1"), Some("5")));
    feed(&mut router, &insert_into_leaf(Some("x"), Some("2"), Some("4")));
    let mut pairs = Vec::new();
    let item = router.fragment().by_shape(&mut pairs).next().unwrap();
    let value: Value = serde_json::from_slice(item.bytes).unwrap();
    assert_eq!(value["key"], "\"public\".\"t\"/\"1\"");
    assert_eq!(value["value"], serde_json::json!({"id": "1", "n": "5", "note": "x"}));
    assert_eq!(items(&router).len(), 1);
}

#[test]
fn a_shape_that_comes_later_knows_the_partitions_that_were_described() {
    let mut router = Router::default();
    router.handle_described(LEAF, below(&[TABLE], true));
    feed(&mut router, &begin(100, 900));
    feed(&mut router, &describe_leaf());
    router.add_restored(
        ShapeId(0),
        &definition("", &relation()),
        "",
        nothing_running(),
        DependentState::default(),
    );
    feed(&mut router, &insert_into_leaf(None, Some("1"), None));
    assert_eq!(brief(items(&router)), [text(0, 0, "insert")]);
}

#[test]
fn emptying_a_partition_rotates_the_table_above() {
    let mut router = router(&[""]);
    router.handle_described(LEAF, below(&[TABLE], true));
    feed(&mut router, &begin(100, 900));
    feed(&mut router, &truncate_of(LEAF));
    assert_eq!(router.take_rotations(), [(ShapeId(0), RotationCause::Truncated)]);
}

/// Feeds the description of a partition or another child that has the columns of the table above and one more.
fn widened_child(router: &mut Router, is_partition: bool) {
    router.handle_described(LEAF, below(&[TABLE], is_partition));
    feed(router, &begin(100, 900));
    let more = ("more", COLUMNS[1].1);
    feed(router, &describe_as(LEAF, "t_leaf", &[COLUMNS[0], COLUMNS[1], COLUMNS[2], more]));
}

#[test]
fn a_column_that_came_shows_in_a_partition() {
    let mut router = router(&["", "columns=id,n"]);
    widened_child(&mut router, true);
    assert_eq!(router.take_rotations(), [(ShapeId(0), RotationCause::SchemaChanged)]);
}

#[test]
fn a_child_by_inherits_may_have_columns_of_its_own() {
    let parent = Arc::new(Relation { has_children: true, ..relation().as_ref().clone() });
    let mut router = router_of(&parent, &["", "columns=id,n"]);
    widened_child(&mut router, false);
    assert_eq!(router.take_rotations(), []);
    let row = tuple(&[Some("1"), Some("4"), None, Some("5")]);
    feed(&mut router, &[b"I".as_slice(), &LEAF.to_be_bytes(), b"N", &row].concat());
    router.settle(true, |_| false);
    let mut pairs = Vec::new();
    let item = router.fragment().by_shape(&mut pairs).next().unwrap();
    let value: Value = serde_json::from_slice(item.bytes).unwrap();
    assert_eq!(value["key"], "\"public\".\"t\"/16500/\"1\"");
}

#[test]
fn the_first_child_starts_over_shapes_whose_keys_do_not_name_it() {
    let mut router = router(&[""]);
    router.handle_described(LEAF, below(&[TABLE], false));
    assert_eq!(router.take_rotations(), [(ShapeId(0), RotationCause::SchemaChanged)]);
}

#[test]
fn a_column_that_went_shows_in_a_partition() {
    let mut router = router(&["columns=id,n", "columns=id,note"]);
    router.handle_described(LEAF, below(&[TABLE], true));
    feed(&mut router, &begin(100, 900));
    feed(&mut router, &describe_as(LEAF, "t_leaf", &[COLUMNS[0], COLUMNS[1]]));
    assert_eq!(router.take_rotations(), [(ShapeId(1), RotationCause::SchemaChanged)]);
}
