//! Where Electric is known to answer wrongly, or to give up, and no numbered item shows what Limn does.
//! `README.md` says which test belongs to which of these.

use super::{followed, open, shared, table};
use limn_tests::{Follower, Step, encode, eventually};
use serde_json::{Value, json};

/// Two columns whose names JSON must escape.
const ODD_NAMES: &str = r#"id int PRIMARY KEY, "b\s" text, "n
l" text"#;

#[tokio::test]
async fn names_of_columns_are_escaped_in_the_snapshot_too() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute(&format!("CREATE TABLE odd_names ({ODD_NAMES}); INSERT INTO odd_names VALUES (1, 'x', 'y')"))
        .await;
    let mut shape = server.follow("table=odd_names").await;
    sql.execute("INSERT INTO odd_names VALUES (2, 'x', 'y')").await;
    let change = shape.changes(1).await[0]["value"].clone();
    assert_eq!(change, json!({ "id": "2", "b\\s": "x", "n\nl": "y" }));
    let mut expected = sql.rows("SELECT * FROM odd_names").await;
    expected.sort();
    assert_eq!(shape.rows(), expected);
}

#[tokio::test]
async fn types_are_told_as_they_are() {
    let server = open().await;
    let sql = server.sql().await;
    // The statement declares no dimension, and Postgres notes none.
    sql.execute("CREATE TABLE odd_types AS SELECT 1 AS id, ARRAY[1] AS list, point '(1,2)' AS place, name 'n' AS name").await;
    assert_eq!(sql.value("SELECT attndims::text FROM pg_attribute WHERE attname = 'list'").await, "0");
    let response = server.get("table=odd_types&offset=-1").await;
    let schema: Value =
        serde_json::from_str(response.header("electric-schema").expect("is told")).expect("JSON");
    assert_eq!(schema["list"], json!({ "type": "int4", "dims": 1 }));
    assert_eq!(
        (&schema["place"], &schema["name"]),
        (&json!({ "type": "point" }), &json!({ "type": "name" }))
    );
}

#[tokio::test]
async fn texts_are_compared_as_their_collation_says() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute(
        "CREATE TABLE collated (id int PRIMARY KEY, a text COLLATE \"en-US-x-icu\");
         INSERT INTO collated VALUES (1, 'b'), (2, 'B'), (3, 'ä'), (4, 'Z'), (5, NULL)",
    )
    .await;
    for clause in ["a < 'c'", "a > 'B'", "a BETWEEN 'a' AND 'b'"] {
        let mut shape = server.follow(&format!("table=collated&where={}", encode(clause))).await;
        sql.execute("UPDATE collated SET a = a || ''; UPDATE collated SET a = lower(a) WHERE a = 'Z'").await;
        sql.execute("UPDATE collated SET a = 'Z' WHERE id = 4; UPDATE collated SET id = -id").await;
        let lsn = server.barrier(&sql).await;
        shape.sync_to(lsn).await;
        let mut expected = sql.rows(&format!("SELECT * FROM collated WHERE {clause}")).await;
        expected.sort();
        assert_eq!(shape.rows(), expected, "{clause}");
    }
}

#[tokio::test]
async fn an_update_without_its_old_row_starts_over_the_shapes_of_its_table_alone() {
    let (server, sql, mut other) = followed("identity_kept").await;
    table(&sql, "identity_lost").await;
    let mut shape = server.follow("table=identity_lost").await;
    sql.execute(
        "ALTER TABLE identity_lost REPLICA IDENTITY DEFAULT; UPDATE identity_lost SET n = 1 WHERE id = 1",
    )
    .await;
    eventually("the shape starts over", async || (shape.step(true).await == Step::Rotated).then_some(()))
        .await;
    let lsn = server.barrier(&sql).await;
    shape.sync_to(lsn).await;
    other.sync_to(lsn).await;
    assert_eq!((other.rotations(), other.rows().len()), (0, 3));
    let mut expected = sql.rows("SELECT * FROM identity_lost").await;
    expected.sort();
    assert_eq!(shape.rows(), expected);
}

#[tokio::test]
async fn thousands_of_transactions_may_wait_for_a_move() {
    let server = shared(&[]).await;
    let (sql, holder) = (server.sql().await, server.sql().await);
    sql.execute("CREATE TABLE inner_table (id int, active bool); INSERT INTO inner_table VALUES (10, true), (20, false)").await;
    let clause = "n IN (SELECT id FROM inner_table WHERE active)";
    let mut shape = server.follow(&format!("table=t&where={}", encode(clause))).await;
    // Nobody can read the rows that come.
    holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
    let toggles = "DO $$ BEGIN FOR i IN 1..2501 LOOP
        UPDATE inner_table SET active = NOT active; COMMIT; END LOOP; END $$";
    sql.execute(toggles).await;
    holder.execute("INSERT INTO t VALUES (30, 'held', 20); COMMIT").await;
    let lsn = server.barrier(&sql).await;
    shape.sync_to(lsn).await;
    let mut expected = sql.rows(&format!("SELECT * FROM t WHERE {clause}")).await;
    expected.sort();
    assert_eq!((shape.rows(), shape.rotations()), (expected, 0));
}

#[tokio::test]
async fn a_shape_that_waits_for_its_snapshot_does_not_hold_the_slot() {
    let server = shared(&[]).await;
    let (sql, holder) = (server.sql().await, server.sql().await);
    table(&sql, "locked").await;
    let mut shape = server.follow("table=t").await;
    server.follow("table=locked&columns=id").await;
    holder.execute("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE").await;
    let client = server.client();
    let waiting = tokio::spawn(async move {
        let mut shape = Follower::new(client, "table=locked");
        shape.sync().await;
    });
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    let lsn = sql.lsn().await;
    eventually("Postgres may forget what was read", async || {
        let confirmed = "SELECT (confirmed_flush_lsn - '0/0')::text FROM pg_replication_slots WHERE database = current_database()";
        let is_past = sql.value(confirmed).await.parse::<u64>().expect("a position") >= lsn;
        if !is_past {
            sql.execute("INSERT INTO t VALUES ((SELECT max(id) + 1 FROM t), 'x', 1)").await;
        }
        is_past.then_some(())
    })
    .await;
    holder.execute("COMMIT").await;
    waiting.await.expect("is read in the end");
}
