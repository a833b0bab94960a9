//! Tables in which two rows may hold one key inside a transaction: with a DEFERRABLE primary key, and without one. What
//! a client has behind the transaction is what SQL has.

use super::open;
use limn_tests::{Cluster, Follower, Limn, Sql, encode};

/// Reads everything that was written so far, and holds it against `select`. [`Follower`] refuses a row that is inserted
/// twice, or changed without being there.
async fn assert_shows(server: &Limn, sql: &Sql, shape: &mut Follower, select: &str) {
    let lsn = server.barrier(sql).await;
    shape.sync_to(lsn).await;
    let mut expected = sql.rows(select).await;
    expected.sort();
    assert_eq!(shape.rows(), expected, "{select}");
}

/// Makes a table of three rows whose key is checked as `check` says.
async fn create(sql: &Sql, table: &str, check: &str) {
    sql.execute(&format!(
        "CREATE TABLE {table} (id int, v text, n int DEFAULT 0, PRIMARY KEY (id) {check});
         INSERT INTO {table} VALUES (1, 'a'), (2, 'b'), (3, 'c')"
    ))
    .await;
}

/// Transactions that let two rows of `@` hold one key for a while.
const TRANSACTIONS: [&str; 12] = [
    "UPDATE @ SET id = id + 1",
    "UPDATE @ SET id = id - 1",
    "UPDATE @ SET id = CASE id WHEN 1 THEN 2 WHEN 2 THEN 1 ELSE id END",
    "UPDATE @ SET id = CASE id WHEN 1 THEN 2 WHEN 2 THEN 1 ELSE id END, v = v || 'x'",
    "UPDATE @ SET id = id + 1; UPDATE @ SET id = id + 1; UPDATE @ SET n = n + 1 WHERE id < 4",
    "UPDATE @ SET id = id + 1; UPDATE @ SET id = id - 1",
    "SET CONSTRAINTS ALL DEFERRED; INSERT INTO @ VALUES (2, 'new', 5); DELETE FROM @ WHERE id = 2 AND v <> 'new'",
    "SET CONSTRAINTS ALL DEFERRED; INSERT INTO @ SELECT * FROM @; DELETE FROM @ WHERE ctid IN (SELECT min(ctid) FROM @ GROUP BY id)",
    "SET CONSTRAINTS ALL DEFERRED; INSERT INTO @ VALUES (3, 'gone'); DELETE FROM @ WHERE v = 'gone'",
    "SET CONSTRAINTS ALL DEFERRED; UPDATE @ SET id = 7; UPDATE @ SET id = 3 + ascii(v), n = ascii(v)",
    "SAVEPOINT s; UPDATE @ SET id = id + 1; ROLLBACK TO s; UPDATE @ SET id = -id",
    "UPDATE @ SET v = 'z' WHERE id IN (SELECT min(id) FROM @); INSERT INTO @ VALUES (90, 'y'); UPDATE @ SET id = id + 1",
];

/// Runs a transaction in which `@` stands for the table.
async fn run(sql: &Sql, table: &str, transaction: &str) {
    sql.execute(&format!("BEGIN; {}; COMMIT", transaction.replace('@', table))).await;
}

#[tokio::test]
async fn a_key_that_moves_on_to_the_next_row_takes_nobody_elses_place() {
    let server = open().await;
    let sql = server.sql().await;
    for (table, check) in [("dk_now", "DEFERRABLE"), ("dk_late", "DEFERRABLE INITIALLY DEFERRED")] {
        create(&sql, table, check).await;
        let mut shapes = Vec::new();
        for (query, select) in [
            ("", "SELECT * FROM @"),
            ("&replica=full", "SELECT * FROM @"),
            ("&columns=id,v", "SELECT id, v FROM @"),
            ("&where=id%20%3E%202", "SELECT * FROM @ WHERE id > 2"),
            ("&where=v%20%3D%20'b'", "SELECT * FROM @ WHERE v = 'b'"),
            ("&where=v%20%3C%20'c'&replica=full", "SELECT * FROM @ WHERE v < 'c'"),
            ("&where=md5(v)%20%3E%20'8'", "SELECT * FROM @ WHERE md5(v) > '8'"),
        ] {
            let shape = server.follow(&format!("table={table}{query}")).await;
            shapes.push((shape, select.replace('@', table)));
        }
        for transaction in TRANSACTIONS {
            run(&sql, table, transaction).await;
            for (shape, select) in &mut shapes {
                assert_shows(server, &sql, shape, select).await;
            }
        }
        assert!(shapes.iter().all(|(shape, _)| shape.rotations() == 0));
    }
}

#[tokio::test]
async fn rows_without_a_primary_key_may_take_each_others_place() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute(
        "CREATE TABLE dk_none (id int, v text); INSERT INTO dk_none VALUES (1, 'a'), (2, 'a'), (3, NULL)",
    )
    .await;
    let mut shape = server.follow("table=dk_none").await;
    let mut some = server.follow("table=dk_none&where=id%20%3C%203&replica=full").await;
    for transaction in [
        "UPDATE @ SET id = id + 1",
        "UPDATE @ SET id = id - 1; UPDATE @ SET v = 'b' WHERE id = 2",
        "UPDATE @ SET id = CASE id WHEN 1 THEN 3 WHEN 3 THEN 1 ELSE id END, v = NULL",
        "INSERT INTO @ VALUES (9, 'x'); UPDATE @ SET id = 10 - id",
    ] {
        run(&sql, "dk_none", transaction).await;
        assert_shows(server, &sql, &mut shape, "SELECT * FROM dk_none").await;
        assert_shows(server, &sql, &mut some, "SELECT * FROM dk_none WHERE id < 3").await;
    }
    assert_eq!((shape.rotations(), some.rotations()), (0, 0));
}

#[tokio::test]
async fn composite_keys_and_keys_of_partitions_may_be_deferrable_too() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute(
        "CREATE TABLE dk_pair (b int, v text, a text, PRIMARY KEY (a, b) DEFERRABLE);
         INSERT INTO dk_pair VALUES (1, 'p', 'x'), (2, 'q', 'x'), (1, 'r', 'y');
         CREATE TABLE dk_parts (id int, r text, v text, PRIMARY KEY (id, r) DEFERRABLE INITIALLY DEFERRED) PARTITION BY LIST (r);
         CREATE TABLE dk_parts_a PARTITION OF dk_parts FOR VALUES IN ('a');
         CREATE TABLE dk_parts_b PARTITION OF dk_parts FOR VALUES IN ('b');
         INSERT INTO dk_parts VALUES (1, 'a', 'p'), (1, 'b', 'q'), (2, 'a', 'r'), (2, 'b', 's')",
    )
    .await;
    for (table, transactions) in [
        ("dk_pair", ["UPDATE @ SET b = b + 1", "UPDATE @ SET a = CASE a WHEN 'x' THEN 'y' ELSE 'x' END"]),
        ("dk_parts", ["UPDATE @ SET id = id + 1", "UPDATE @ SET r = CASE r WHEN 'a' THEN 'b' ELSE 'a' END"]),
    ] {
        let mut shape = server.follow(&format!("table={table}")).await;
        let mut some = server.follow(&format!("table={table}&where=v%20%3E%20'p'")).await;
        for transaction in transactions {
            run(&sql, table, transaction).await;
            assert_shows(server, &sql, &mut shape, &format!("SELECT * FROM {table}")).await;
            assert_shows(server, &sql, &mut some, &format!("SELECT * FROM {table} WHERE v > 'p'")).await;
        }
        assert_eq!((shape.rotations(), some.rotations()), (0, 0));
    }
}

#[tokio::test]
async fn shapes_with_subqueries_follow_keys_that_move_on() {
    let server = open().await;
    let sql = server.sql().await;
    create(&sql, "dk_outer", "DEFERRABLE").await;
    create(&sql, "dk_inner", "DEFERRABLE").await;
    let clause = "id IN (SELECT id FROM dk_inner WHERE v <> 'b')";
    let mut shape = server.follow(&format!("table=dk_outer&where={}", encode(clause))).await;
    for transaction in [
        "UPDATE dk_outer SET id = id + 1",
        "UPDATE dk_inner SET id = id + 1",
        "UPDATE dk_inner SET id = id - 1; UPDATE dk_outer SET id = id - 1, v = v || 'x'",
    ] {
        run(&sql, "", transaction).await;
        assert_shows(server, &sql, &mut shape, &format!("SELECT * FROM dk_outer WHERE {clause}")).await;
    }
    assert_eq!(shape.rotations(), 0);
}

#[tokio::test]
async fn only_keys_with_several_changes_are_told_otherwise_than_before() {
    let server = open().await;
    let sql = server.sql().await;
    create(&sql, "dk_plain", "DEFERRABLE").await;
    let shape = server.follow("table=dk_plain&log=changes_only").await;
    let mut full = server.follow("table=dk_plain").await;
    sql.execute(
        "BEGIN; UPDATE dk_plain SET v = 'x' WHERE id = 1; UPDATE dk_plain SET id = 9 WHERE id = 2; COMMIT",
    )
    .await;
    let changes = full.changes(3).await;
    let told: Vec<_> = changes.iter().map(|change| (&change["headers"], change["key"].as_str())).collect();
    let operations: Vec<_> = told.iter().map(|(headers, _)| headers["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["update", "delete", "insert"]);
    assert_eq!(told[1].0["key_change_to"], r#""public"."dk_plain"/"9""#);
    assert_eq!(told[2].0["key_change_from"], r#""public"."dk_plain"/"2""#);
    let positions: Vec<_> =
        told.iter().map(|(headers, _)| headers["op_position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [0, 2, 3]);
    assert_eq!(told[2].0["last"], true);
    let query = format!("table=dk_plain&log=changes_only&offset=0_inf&handle={}", shape.handle());
    assert_eq!(server.get(&query).await.json().as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn fifty_thousand_keys_move_on_in_one_transaction() {
    let server = open().await;
    let sql = server.sql().await;
    create(&sql, "dk_many", "DEFERRABLE").await;
    sql.execute("INSERT INTO dk_many SELECT g, 'row ' || g FROM generate_series(4, 50000) g").await;
    let mut shape = server.follow("table=dk_many").await;
    let mut some = server.follow("table=dk_many&where=id%20%25%2010%20%3D%200&columns=id,v").await;
    sql.execute("UPDATE dk_many SET id = id + 1").await;
    assert_shows(server, &sql, &mut shape, "SELECT * FROM dk_many").await;
    assert_shows(server, &sql, &mut some, "SELECT id, v FROM dk_many WHERE id % 10 = 0").await;
    assert_eq!((shape.rotations(), some.rotations()), (0, 0));
}

#[tokio::test]
async fn a_transaction_beyond_the_limit_goes_on_or_starts_its_shapes_over() {
    let server = open().await;
    let sql = server.sql().await;
    create(&sql, "dk_huge", "DEFERRABLE").await;
    create(&sql, "dk_huge_other", "DEFERRABLE").await;
    let mut shape = server.follow("table=dk_huge&where=id%20%3C%2010").await;
    let mut other = server.follow("table=dk_huge_other").await;
    // Each key is changed once: nothing has to be remembered of it but that.
    sql.execute("INSERT INTO dk_huge SELECT g, g || repeat('x', 1000) FROM generate_series(10, 80000) g")
        .await;
    assert_shows(server, &sql, &mut shape, "SELECT * FROM dk_huge WHERE id < 10").await;
    assert_eq!(shape.rotations(), 0);
    sql.execute("BEGIN; UPDATE dk_huge_other SET id = id + 1; UPDATE dk_huge SET id = id + 1; COMMIT").await;
    assert_shows(server, &sql, &mut shape, "SELECT * FROM dk_huge WHERE id < 10").await;
    assert_shows(server, &sql, &mut other, "SELECT * FROM dk_huge_other").await;
    assert_eq!((shape.rotations(), other.rotations()), (1, 0));
    assert!(server.metric(r#"limn_rotations_total{cause="transaction_overrun"}"#).await >= 1);
}

#[tokio::test]
async fn a_transaction_that_was_open_during_the_snapshot_is_told_key_by_key_too() {
    let cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    let (sql, writer) = (database.connect().await, database.connect().await);
    create(&sql, "t", "DEFERRABLE").await;
    let server = Limn::start(&database, &[]).await;
    let mut published = server.follow("table=t&columns=id").await;
    writer.execute("BEGIN; UPDATE t SET id = id + 1").await;
    let mut shape = Follower::new(server.client(), "table=t");
    shape.step(false).await;
    writer.execute("COMMIT").await;
    assert_shows(&server, &sql, &mut shape, "SELECT * FROM t").await;
    assert_shows(&server, &sql, &mut published, "SELECT id FROM t").await;
    assert_eq!((shape.rotations(), published.rotations()), (0, 0));
}

#[tokio::test]
async fn the_same_changes_come_again_after_kill_9() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    create(&sql, "t", "DEFERRABLE").await;
    sql.execute("INSERT INTO t SELECT g, 'row ' || g FROM generate_series(4, 5000) g").await;
    let mut server = Limn::start(&database, &[]).await;
    let mut shape = server.follow("table=t").await;
    server.wait_durable(&shape).await;
    for _ in 0..3 {
        sql.execute("UPDATE t SET id = id + 1; UPDATE t SET id = id + 1, v = v || '.' WHERE id > 2000").await;
        shape.step(false).await;
        server.kill().await;
        server.resume().await;
        assert_shows(&server, &sql, &mut shape, "SELECT * FROM t").await;
    }
    assert_eq!(shape.rotations(), 0);
}

#[tokio::test]
async fn a_key_may_become_deferrable_later() {
    let server = open().await;
    let sql = server.sql().await;
    create(&sql, "dk_later", "").await;
    let mut shape = server.follow("table=dk_later").await;
    for transaction in [
        "INSERT INTO dk_later VALUES (4, 'd'); UPDATE dk_later SET id = id + 10 WHERE id = 4;
         ALTER TABLE dk_later DROP CONSTRAINT dk_later_pkey, ADD PRIMARY KEY (id) DEFERRABLE; UPDATE dk_later SET id = id + 1",
        "UPDATE dk_later SET id = id + 1",
    ] {
        run(&sql, "dk_later", transaction).await;
        assert_shows(server, &sql, &mut shape, "SELECT * FROM dk_later").await;
    }
    assert_eq!(shape.rotations(), 0);
}
