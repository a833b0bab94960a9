//! Items 92–119: changes as messages, chunks of the log.

use super::{followed, followed_as, full_row, open, small_chunks, table};
use limn_tests::{Follower, Step, encode, eventually};
use serde_json::{Value, json};

fn operation(change: &Value) -> &str {
    change["headers"]["operation"].as_str().unwrap_or_default()
}

fn positions(changes: &[Value]) -> Vec<u64> {
    changes.iter().map(|change| change["headers"]["op_position"].as_u64().expect("a number")).collect()
}

fn lasts(changes: &[Value]) -> Vec<bool> {
    changes.iter().map(|change| change["headers"]["last"] == true).collect()
}

/// What comes for statements after which the shape shows nothing new; `marker` is seen afterwards.
async fn assert_silent(shape: &mut Follower, sql: &limn_tests::Sql, statements: &str, marker: &str) {
    sql.execute(statements).await;
    sql.execute(marker).await;
    let changes = shape.changes(1).await;
    assert_eq!(operation(&changes[0]), "insert", "only the marker comes: {changes:?}");
}

#[tokio::test]
async fn item_092_an_insert() {
    let (_, sql, mut shape) = followed("t92").await;
    sql.execute("INSERT INTO t92 VALUES (4, 'four', 40)").await;
    let change = shape.changes(1).await.remove(0);
    assert_eq!(change["key"], "\"public\".\"t92\"/\"4\"");
    assert_eq!(change["value"], full_row(4, Some("four"), Some(40)));
    let mut headers = change["headers"].clone();
    for changing in ["lsn", "txids"] {
        assert!(headers.as_object_mut().and_then(|headers| headers.remove(changing)).is_some(), "{changing}");
    }
    let expected =
        json!({ "operation": "insert", "relation": ["public", "t92"], "op_position": 0, "last": true });
    assert_eq!(headers, expected);
    assert_eq!(change.as_object().map(serde_json::Map::len), Some(3));
}

#[tokio::test]
async fn item_093_an_update_has_the_key_and_what_changed() {
    let (_, sql, mut shape) = followed("t93").await;
    sql.execute("UPDATE t93 SET n = 11 WHERE id = 1").await;
    let change = shape.changes(1).await.remove(0);
    assert_eq!((operation(&change), &change["value"]), ("update", &json!({ "id": "1", "n": "11" })));
    assert_eq!(change.get("old_value"), None);
    sql.execute("UPDATE t93 SET a = NULL WHERE id = 1").await;
    assert_eq!(shape.changes(1).await[0]["value"], json!({ "id": "1", "a": null }));
}

#[tokio::test]
async fn item_094_a_full_update_has_the_row_and_what_was() {
    let (_, sql, mut shape) = followed_as("t94", "&replica=full").await;
    sql.execute("UPDATE t94 SET n = 11 WHERE id = 1").await;
    let change = shape.changes(1).await.remove(0);
    assert_eq!((operation(&change), &change["value"]), ("update", &full_row(1, Some("one"), Some(11))));
    assert_eq!(change["old_value"], json!({ "n": "10" }));
}

#[tokio::test]
async fn item_095_a_delete_has_the_key_or_the_row() {
    let (server, sql, mut shape) = followed("t95").await;
    let mut full = server.follow("table=t95&replica=full").await;
    sql.execute("DELETE FROM t95 WHERE id = 1").await;
    let change = shape.changes(1).await.remove(0);
    assert_eq!((operation(&change), &change["value"]), ("delete", &json!({ "id": "1" })));
    let change = full.changes(1).await.remove(0);
    assert_eq!((operation(&change), &change["value"]), ("delete", &full_row(1, Some("one"), Some(10))));
    assert_eq!(change.get("old_value"), None);
}

#[tokio::test]
async fn item_096_other_columns_are_not_told() {
    let (_, sql, mut shape) = followed_as("t96", "&columns=id,a").await;
    assert_silent(&mut shape, &sql, "UPDATE t96 SET n = 99", "INSERT INTO t96 VALUES (4, 'x', 1)").await;
    sql.execute("UPDATE t96 SET n = 98, a = 'new' WHERE id = 1").await;
    assert_eq!(shape.changes(1).await[0]["value"], json!({ "id": "1", "a": "new" }));
}

#[tokio::test]
async fn item_097_an_update_that_changes_nothing_is_not_told() {
    let (server, sql, mut shape) = followed("t97").await;
    let mut full = server.follow("table=t97&replica=full").await;
    assert_silent(&mut shape, &sql, "UPDATE t97 SET n = n", "INSERT INTO t97 VALUES (4, 'x', 1)").await;
    assert_eq!(full.changes(1).await[0]["value"]["id"], "4");
}

#[tokio::test]
async fn item_098_last_marks_the_end_of_a_transaction() {
    let (_, sql, mut shape) = followed("t98").await;
    sql.execute(
        "BEGIN; INSERT INTO t98 VALUES (4, 'x', 1), (5, 'y', 2); UPDATE t98 SET n = 3 WHERE id = 4; COMMIT",
    )
    .await;
    let changes = shape.changes(3).await;
    assert_eq!(lasts(&changes), [false, false, true]);
    assert_eq!(changes[2]["value"], json!({ "id": "4", "n": "3" }));
    assert!(changes[0]["headers"].get("last").is_none(), "absent, not false");
}

#[tokio::test]
async fn item_099_a_transaction_has_one_lsn_in_all_shapes() {
    let (server, sql, mut shape) = followed("t99").await;
    table(&sql, "u99").await;
    let mut other = server.follow("table=u99").await;
    sql.execute(
        "BEGIN; INSERT INTO t99 VALUES (4, 'x', 1); INSERT INTO u99 VALUES (4, 'y', 1);
         INSERT INTO t99 VALUES (5, 'z', 1); COMMIT",
    )
    .await;
    let (changes, others) = (shape.changes(2).await, other.changes(1).await);
    assert_eq!(changes[0]["headers"]["lsn"], changes[1]["headers"]["lsn"]);
    assert_eq!(changes[0]["headers"]["lsn"], others[0]["headers"]["lsn"]);
    assert_eq!((positions(&changes), positions(&others)), (vec![0, 4], vec![2]));
}

#[tokio::test]
async fn item_100_positions_grow() {
    let (_, sql, mut shape) = followed("t100").await;
    sql.execute(
        "BEGIN; INSERT INTO t100 VALUES (4, 'x', 1); UPDATE t100 SET n = 2 WHERE id = 4;
         DELETE FROM t100 WHERE id = 1; INSERT INTO t100 VALUES (6, 'x', 1); COMMIT",
    )
    .await;
    assert_eq!(positions(&shape.changes(4).await), [0, 2, 4, 6]);
}

#[tokio::test]
async fn item_101_other_published_tables_take_positions() {
    let (server, sql, mut shape) = followed("t101").await;
    table(&sql, "u101").await;
    table(&sql, "w101").await;
    let _published = server.follow("table=u101").await;
    sql.execute(
        "BEGIN; INSERT INTO u101 VALUES (4), (5), (6); INSERT INTO t101 VALUES (4, 'x', 1);
         INSERT INTO w101 VALUES (4), (5); INSERT INTO t101 VALUES (5, 'x', 1); COMMIT",
    )
    .await;
    assert_eq!(
        positions(&shape.changes(2).await),
        [6, 8],
        "three for `u101`, none for `w101`, which has no shape"
    );
}

#[tokio::test]
async fn item_102_txids_hold_the_transactions_id() {
    let (_, sql, mut shape) = followed("t102").await;
    sql.execute("BEGIN; INSERT INTO t102 VALUES (4, 'f', 4)").await;
    let id: u64 = sql.value("SELECT pg_current_xact_id()::text").await.parse().expect("a number");
    sql.execute("SAVEPOINT s; INSERT INTO t102 VALUES (5, 'f', 4); RELEASE s; COMMIT").await;
    for change in shape.changes(2).await {
        assert_eq!(change["headers"]["txids"], json!([id & 0xffff_ffff]));
    }
}

#[tokio::test]
async fn item_103_the_offset_is_that_of_the_last_message() {
    let (_, sql, mut shape) = followed("t103").await;
    sql.execute("INSERT INTO t103 VALUES (4, 'x', 1), (5, 'y', 2)").await;
    let changes = shape.changes(2).await;
    assert_eq!(shape.offset(), format!("{}_2", changes[1]["headers"]["lsn"].as_str().expect("a string")));
}

#[tokio::test]
async fn item_104_another_primary_key_is_a_delete_and_an_insert() {
    let (server, sql, mut shape) = followed("t104").await;
    let mut full = server.follow("table=t104&replica=full").await;
    sql.execute("UPDATE t104 SET id = 100 WHERE id = 1").await;
    let changes = shape.changes(2).await;
    let (old, new) = ("\"public\".\"t104\"/\"1\"", "\"public\".\"t104\"/\"100\"");
    assert_eq!((operation(&changes[0]), operation(&changes[1])), ("delete", "insert"));
    assert_eq!((&changes[0]["key"], &changes[0]["headers"]["key_change_to"]), (&json!(old), &json!(new)));
    assert_eq!((&changes[1]["key"], &changes[1]["headers"]["key_change_from"]), (&json!(new), &json!(old)));
    assert_eq!(changes[0]["value"], json!({ "id": "1" }));
    assert_eq!(changes[1]["value"], full_row(100, Some("one"), Some(10)));
    assert_eq!((positions(&changes), lasts(&changes)), (vec![0, 1], vec![false, true]));
    assert_eq!(full.changes(2).await[0]["value"], full_row(1, Some("one"), Some(10)));
}

#[tokio::test]
async fn item_104_primary_keys_may_change_twice() {
    let (_, sql, mut shape) = followed("t104a").await;
    sql.execute(
        "BEGIN; UPDATE t104a SET id = 102 WHERE id = 1; UPDATE t104a SET id = 103 WHERE id = 102; COMMIT",
    )
    .await;
    let changes = shape.changes(4).await;
    assert_eq!(positions(&changes), [0, 1, 2, 3]);
    assert_eq!(changes[3]["headers"]["key_change_from"], "\"public\".\"t104a\"/\"102\"");
}

#[tokio::test]
async fn item_105_without_a_primary_key_an_update_changes_the_key() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute("CREATE TABLE t105 (a int, b text); INSERT INTO t105 VALUES (1, 'x')").await;
    let mut shape = server.follow("table=t105").await;
    sql.execute("UPDATE t105 SET b = 'y'").await;
    let changes = shape.changes(2).await;
    assert_eq!((operation(&changes[0]), operation(&changes[1])), ("delete", "insert"));
    assert_eq!(changes[0]["value"], json!({ "a": "1", "b": "x" }));
    assert_eq!(changes[0]["headers"]["key_change_to"], "\"public\".\"t105\"/\"1\"/\"y\"");
}

#[tokio::test]
async fn item_106_rows_enter_and_leave_by_their_own_change() {
    let (server, sql, mut shape) = followed_as("t106", &format!("&where={}", encode("n >= 15"))).await;
    let mut full = server.follow(&format!("table=t106&replica=full&where={}", encode("n >= 15"))).await;
    sql.execute("UPDATE t106 SET n = 1 WHERE id = 2").await;
    let change = shape.changes(1).await.remove(0);
    assert_eq!((operation(&change), &change["value"]), ("delete", &json!({ "id": "2" })));
    assert_eq!(full.changes(1).await[0]["value"], full_row(2, Some("two"), Some(20)), "the row as it was");
    sql.execute("UPDATE t106 SET n = 50 WHERE id = 1").await;
    let change = shape.changes(1).await.remove(0);
    assert_eq!((operation(&change), &change["value"]), ("insert", &full_row(1, Some("one"), Some(50))));
    sql.execute("UPDATE t106 SET n = 51 WHERE id = 1").await;
    let change = shape.changes(1).await.remove(0);
    assert_eq!((operation(&change), &change["value"]), ("update", &json!({ "id": "1", "n": "51" })));
}

#[tokio::test]
async fn item_107_another_key_across_the_filter_is_one_operation() {
    let (_, sql, mut shape) = followed_as("t107", &format!("&where={}", encode("id < 50"))).await;
    sql.execute("UPDATE t107 SET id = 100 WHERE id = 1").await;
    let change = shape.changes(1).await.remove(0);
    assert_eq!((operation(&change), &change["key"]), ("delete", &json!("\"public\".\"t107\"/\"1\"")));
    assert!(change["headers"].get("key_change_to").is_none() && change["headers"]["op_position"] == 0);
    sql.execute("UPDATE t107 SET id = 7 WHERE id = 100").await;
    let change = shape.changes(1).await.remove(0);
    assert_eq!((operation(&change), &change["value"]), ("insert", &full_row(7, Some("one"), Some(10))));
    assert!(change["headers"].get("key_change_from").is_none() && change["headers"]["op_position"] == 0);
}

#[tokio::test]
async fn item_108_large_values_that_did_not_change_are_there() {
    let server = open().await;
    let sql = server.sql().await;
    // Random, so that it cannot be compressed and is stored out of line.
    sql.execute(
        "CREATE TABLE t108 (id int PRIMARY KEY, big text, n int);
         INSERT INTO t108 SELECT 1, string_agg(md5(random()::text), ''), 1 FROM generate_series(1, 500)",
    )
    .await;
    let big = sql.value("SELECT big FROM t108").await;
    let mut full = server.follow("table=t108&replica=full").await;
    let mut filtered = server.follow(&format!("table=t108&where={}", encode("n > 1"))).await;
    let mut plain = server.follow("table=t108").await;
    sql.execute("UPDATE t108 SET n = 2").await;
    let row = json!({ "id": "1", "big": big, "n": "2" });
    let change = full.changes(1).await.remove(0);
    assert!(change["value"] == row && change["old_value"] == json!({ "n": "1" }), "replica=full");
    assert!(filtered.changes(1).await[0]["value"] == row, "a row that enters");
    assert_eq!(plain.changes(1).await[0]["value"], json!({ "id": "1", "n": "2" }));
    sql.execute("UPDATE t108 SET id = 2").await;
    assert!(plain.changes(2).await[1]["value"]["big"] == big, "a new key");
}

#[tokio::test]
async fn item_109_booleans_in_the_log() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute("CREATE TABLE t109 (id int PRIMARY KEY, b bool)").await;
    let mut shape = server.follow("table=t109").await;
    sql.execute("INSERT INTO t109 VALUES (1, true), (2, false)").await;
    let changes = shape.changes(2).await;
    assert_eq!((&changes[0]["value"]["b"], &changes[1]["value"]["b"]), (&json!("t"), &json!("f")));
}

#[tokio::test]
async fn item_110_a_long_log_has_several_chunks() {
    let server = small_chunks().await;
    let sql = server.sql().await;
    sql.execute("CREATE TABLE t110 (id int PRIMARY KEY, a text)").await;
    let mut shape = server.follow("table=t110").await;
    let mut other = server.follow("table=t110").await;
    sql.execute("INSERT INTO t110 SELECT i, repeat('y', 900) FROM generate_series(1, 24) i").await;
    sql.execute("INSERT INTO t110 VALUES (99, 'later')").await;
    let mut sizes = Vec::new();
    let changes = shape.changes(25).await;
    assert_eq!(lasts(&changes).iter().filter(|last| **last).count(), 2);
    // The same again, chunk by chunk.
    while sizes.iter().sum::<usize>() < 25 {
        let Step::Messages(messages) = other.step(false).await else { unreachable!("the log is there") };
        let is_last = other.response().header("electric-up-to-date").is_some();
        sizes.push(messages.len() - usize::from(is_last));
    }
    assert_eq!((shape.rows(), shape.offset()), (other.rows(), other.offset()));
    assert_eq!(sizes, [10, 10, 5], "the tenth of these closes a chunk");
}

#[tokio::test]
async fn item_111_a_complete_chunk_never_changes() {
    let server = small_chunks().await;
    let sql = server.sql().await;
    sql.execute("CREATE TABLE t111 (id int PRIMARY KEY, a text)").await;
    let mut shape = server.follow("table=t111").await;
    let target = shape.target(false);
    sql.execute("INSERT INTO t111 SELECT i, repeat('y', 900) FROM generate_series(1, 14) i").await;
    shape.changes(14).await;
    let first = server.client().get(&target).await;
    assert_eq!((first.header("electric-up-to-date"), first.header("limn-chunk")), (None, Some("closed")));
    sql.execute("INSERT INTO t111 VALUES (99, 'later'); DELETE FROM t111 WHERE id = 1").await;
    shape.changes(2).await;
    let second = server.client().get(&target).await;
    assert_eq!(first.header("electric-offset"), second.header("electric-offset"));
    assert_eq!(first.body, second.body);
    let live = server.client().get(&format!("{target}&live=true")).await;
    assert_eq!((live.body == first.body, live.header("electric-up-to-date")), (true, None));
    let open = server.client().get(&shape.target(false)).await;
    assert_eq!(open.header("limn-chunk"), None, "what can still grow is not marked");
}

#[tokio::test]
async fn item_112_a_caught_up_reply_ends_with_up_to_date() {
    let (server, sql, mut shape) = followed("t112").await;
    sql.execute("INSERT INTO t112 VALUES (4, 'x', 1)").await;
    let changes = shape.changes(1).await;
    let response = server.get(&format!("table=t112&handle={}&offset=0_inf", shape.handle())).await;
    assert_eq!(response.header("electric-up-to-date"), Some(""));
    let body = response.json();
    assert_eq!((&body[0], &body[1]["headers"]["control"]), (&changes[0], &json!("up-to-date")));
    assert_eq!(body.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn item_113_the_last_seen_lsn_is_decimal_and_not_behind() {
    let (server, sql, mut shape) = followed("t113").await;
    sql.execute("INSERT INTO t113 VALUES (4, 'x', 1)").await;
    let lsn: u64 = shape.changes(1).await[0]["headers"]["lsn"]
        .as_str()
        .and_then(|lsn| lsn.parse().ok())
        .expect("decimal");
    let live = shape.response().json();
    assert_eq!(live[1]["headers"]["global_last_seen_lsn"], lsn.to_string(), "a live reply names its own end");
    let read = server.get(&format!("table=t113&handle={}&offset=0_inf", shape.handle())).await.json();
    let seen = read[1]["headers"]["global_last_seen_lsn"].as_str().and_then(|lsn| lsn.parse::<u64>().ok());
    assert!(seen.is_some_and(|seen| seen >= lsn), "{read}");
}

#[tokio::test]
async fn item_114_another_table_raises_the_last_seen_lsn() {
    let (server, sql, mut shape) = followed("t114").await;
    let lsn = server.barrier(&sql).await;
    let messages = shape.sync_to(lsn).await;
    assert!(messages.iter().all(|message| message["headers"]["control"] == "up-to-date"), "{messages:?}");
    assert_eq!(shape.offset(), "0_inf");
}

#[tokio::test]
async fn item_116_a_large_transaction_arrives_whole() {
    let (_, sql, mut shape) = followed("t116").await;
    sql.execute("INSERT INTO t116 SELECT i, 'row', i FROM generate_series(11, 10010) i").await;
    let changes = shape.changes(10_000).await;
    assert_eq!(positions(&changes), (0..10_000).map(|n| 2 * n).collect::<Vec<_>>());
    assert_eq!(lasts(&changes).iter().position(|last| *last), Some(9_999));
    assert_eq!(shape.rows().len(), 10_003);
}

#[tokio::test]
async fn item_117_a_transaction_over_several_tables_is_split() {
    let (server, sql, mut shape) = followed("t117").await;
    table(&sql, "u117").await;
    let mut other = server.follow("table=u117").await;
    sql.execute(
        "BEGIN; INSERT INTO u117 VALUES (4); INSERT INTO t117 VALUES (4, 'x', 1); INSERT INTO u117 VALUES (5); COMMIT",
    )
    .await;
    let (changes, others) = (shape.changes(1).await, other.changes(2).await);
    assert_eq!((positions(&changes), lasts(&changes)), (vec![2], vec![true]));
    assert_eq!((positions(&others), lasts(&others)), (vec![0, 4], vec![false, true]));
}

#[tokio::test]
async fn item_118_what_is_rolled_back_is_not_told() {
    let (_, sql, mut shape) = followed("t118").await;
    sql.execute("BEGIN; INSERT INTO t118 VALUES (4, 'x', 1); ROLLBACK").await;
    let half = "BEGIN; INSERT INTO t118 VALUES (5, 'x', 1); SAVEPOINT s; INSERT INTO t118 VALUES (6, 'x', 1);
                ROLLBACK TO s; COMMIT";
    sql.execute(half).await;
    let changes = shape.changes(1).await;
    assert_eq!((&changes[0]["value"]["id"], lasts(&changes)), (&json!("5"), vec![true]));
}

#[tokio::test]
async fn item_119_a_filter_that_is_null_does_not_hold() {
    let (_, sql, mut shape) = followed_as("t119", &format!("&where={}", encode("n <> 10"))).await;
    assert_eq!(shape.rows().len(), 1);
    sql.execute("INSERT INTO t119 VALUES (7, 'x', NULL), (8, 'y', 1)").await;
    assert_eq!(shape.changes(1).await[0]["value"]["id"], "8");
    sql.execute("UPDATE t119 SET n = NULL WHERE id = 8").await;
    assert_eq!(operation(&shape.changes(1).await[0]), "delete");
}

/// As docs/http-api.md tells an application to learn which change is its own.
#[tokio::test]
async fn txids_are_what_the_documented_sql_returns() {
    const ASK: &str = "SELECT pg_current_xact_id()::xid::text";
    let documented = std::fs::read_to_string("../docs/http-api.md").expect("the documentation is there");
    assert!(documented.contains(ASK));
    let (server, sql, mut shape) = followed("txids").await;
    let moved = "t_moved";
    table(&sql, moved).await;
    let subquery = encode(&format!("id IN (SELECT id FROM {moved})"));
    let mut moving = server.follow(&format!("table=txids&where={subquery}")).await;
    for (change, affects_moving) in [
        ("INSERT INTO txids VALUES (4, 'x', 1)", false),
        ("SAVEPOINT s; UPDATE txids SET n = 5 WHERE id = 4; RELEASE s", false),
        ("DO $$ BEGIN DELETE FROM txids WHERE id = 4; EXCEPTION WHEN others THEN NULL; END $$", false),
        ("DELETE FROM t_moved WHERE id = 1", true),
    ] {
        sql.execute(&format!("BEGIN; {change}")).await;
        let txid: u64 = sql.value(ASK).await.parse().expect("a number");
        sql.execute("COMMIT").await;
        let message = if affects_moving {
            eventually("the move", async || match moving.step(true).await {
                Step::Messages(messages) => {
                    messages.into_iter().find(|message| message["headers"]["event"] == "move-out")
                }
                other => unreachable!("{other:?}"),
            })
            .await
        } else {
            shape.changes(1).await.remove(0)
        };
        assert_eq!(message["headers"]["txids"], json!([txid]), "{change}");
    }
}
