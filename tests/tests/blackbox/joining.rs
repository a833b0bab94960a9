//! Items 71, 84: the seam between snapshot and log. No row is lost there, and none is told twice: a follower
//! refuses both. Transactions stay open here, so every test has a Postgres of its own.

use super::table;
use limn_tests::{Cluster, Follower, Limn, Sql, encode, eventually};
use serde_json::json;

/// A server whose table `t` has no shape yet.
async fn own() -> (Cluster, Limn) {
    let cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    table(&database.connect().await, "t").await;
    let server = Limn::start(&database, &["--chunk-bytes-max", "10000"]).await;
    (cluster, server)
}

/// Checks that the shape shows what the table holds.
async fn assert_equal_in_the_end(server: &Limn, sql: &Sql, shape: &mut Follower, query: &str) {
    let lsn = server.barrier(sql).await;
    shape.sync_to(lsn).await;
    let mut expected = sql.rows(query).await;
    expected.sort();
    assert_eq!(shape.rows(), expected);
}

#[tokio::test]
async fn item_084_a_transaction_that_was_open_during_the_snapshot_comes_by_the_log() {
    let (_cluster, server) = own().await;
    let (sql, writer) = (server.sql().await, server.sql().await);
    let _published = server.follow("table=t&columns=id").await;
    writer.execute("BEGIN; INSERT INTO t VALUES (100, 'open', 1)").await;
    let id = writer.value("SELECT pg_current_xact_id()::text").await;
    sql.execute("INSERT INTO t VALUES (101, 'done', 1)").await;
    let query = format!("table=t&where={}", encode("id > 0"));
    let first = server.get(&format!("{query}&offset=-1")).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let body = first.json();
    let messages = body.as_array().expect("an array");
    let ids: Vec<&str> = messages.iter().filter_map(|message| message["value"]["id"].as_str()).collect();
    assert_eq!(ids, ["1", "2", "3", "101"]);
    let end = &messages.last().expect("the snapshot's end")["headers"];
    assert!(end["xip_list"].as_array().is_some_and(|open| open.contains(&json!(id))), "{end}");
    let mut shape = server.follow(&query).await;
    writer.execute("COMMIT").await;
    assert_eq!(shape.changes(1).await[0]["value"]["id"], "100");
    assert_equal_in_the_end(&server, &sql, &mut shape, "SELECT * FROM t").await;
}

#[tokio::test]
async fn item_084_a_row_committed_during_a_slow_snapshot_comes_once() {
    let (_cluster, server) = own().await;
    let (sql, writer) = (server.sql().await, server.sql().await);
    let _published = server.follow("table=t&columns=id").await;
    // The snapshot is taken, then its rows have to wait.
    writer.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
    let client = server.client();
    let reading = tokio::spawn(async move {
        let mut shape = Follower::new(client, "table=t");
        shape.sync().await;
        shape
    });
    wait_blocked(&sql).await;
    writer.execute("INSERT INTO t VALUES (100, 'late', 1); UPDATE t SET n = 99 WHERE id = 1; DELETE FROM t WHERE id = 2; COMMIT").await;
    let mut shape = reading.await.expect("is read");
    assert_equal_in_the_end(&server, &sql, &mut shape, "SELECT * FROM t").await;
}

#[tokio::test]
async fn a_snapshot_that_waited_for_a_truncate_shows_what_is_behind_it() {
    let (_cluster, server) = own().await;
    let (sql, writer) = (server.sql().await, server.sql().await);
    let _published = server.follow("table=t&columns=id").await;
    writer.execute("BEGIN; TRUNCATE t; INSERT INTO t VALUES (7, 'behind', 1)").await;
    let client = server.client();
    let reading = tokio::spawn(async move {
        let mut shape = Follower::new(client, "table=t");
        shape.sync().await;
        shape
    });
    wait_blocked(&sql).await;
    writer.execute("COMMIT").await;
    // The TRUNCATE may let the shape start over, but nothing is up to date without the row.
    let shape = reading.await.expect("is read");
    assert_eq!(shape.keys(), ["\"public\".\"t\"/\"7\""]);
}

#[tokio::test]
async fn a_table_that_is_altered_while_its_shape_is_made_shows_its_new_column() {
    let (_cluster, server) = own().await;
    let (sql, writer) = (server.sql().await, server.sql().await);
    // Else the change of the identity would wait for the writer.
    sql.execute("ALTER TABLE t REPLICA IDENTITY FULL").await;
    // Whoever wrote the table before it was published is waited for: the columns are known by then, the snapshot is not.
    writer.execute("BEGIN; INSERT INTO t VALUES (4, 'old', 1)").await;
    let client = server.client();
    let reading = tokio::spawn(async move {
        let mut shape = Follower::new(client, "table=t");
        shape.sync().await;
        shape
    });
    wait_published(&sql).await;
    writer.execute("ALTER TABLE t ADD COLUMN more int; INSERT INTO t VALUES (5, 'new', 1, 2); COMMIT").await;
    let mut shape = reading.await.expect("is read");
    assert!(shape.rows().iter().all(|row| row.contains_key("more")), "{:?}", shape.rows());
    assert_equal_in_the_end(&server, &sql, &mut shape, "SELECT * FROM t").await;
}

/// Waits until `t` is published.
async fn wait_published(sql: &Sql) {
    eventually("the table is published", async || {
        let published = "SELECT count(*)::text FROM pg_publication_tables WHERE tablename = 't'";
        (sql.value(published).await == "1").then_some(())
    })
    .await;
}

/// Waits until somebody waits for a lock on `t`.
async fn wait_blocked(sql: &Sql) {
    eventually("the snapshot waits for the table", async || {
        let waiting = "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND relation = 't'::regclass";
        (sql.value(waiting).await != "0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn item_084_rows_committed_during_a_large_snapshot_come_once() {
    let (_cluster, server) = own().await;
    let (sql, writer) = (server.sql().await, server.sql().await);
    sql.execute("INSERT INTO t SELECT i, md5(i::text), i FROM generate_series(4, 30000) i").await;
    let client = server.client();
    let reading = tokio::spawn(async move {
        let mut shape = Follower::new(client, "table=t");
        shape.sync().await;
        shape
    });
    let mut id = 100_000;
    while !reading.is_finished() {
        let sql = format!(
            "BEGIN; INSERT INTO t VALUES ({id}, 'late', 1); UPDATE t SET n = {id} WHERE id = {}; COMMIT",
            id % 30_000
        );
        writer.execute(&sql).await;
        id += 1;
    }
    let mut shape = reading.await.expect("is read");
    assert_equal_in_the_end(&server, &sql, &mut shape, "SELECT * FROM t").await;
}

#[tokio::test]
async fn a_writer_that_was_open_when_the_table_was_published_is_not_lost() {
    let (_cluster, server) = own().await;
    let (sql, writer) = (server.sql().await, server.sql().await);
    // Else the change of the identity would wait for the writer.
    sql.execute("ALTER TABLE t REPLICA IDENTITY FULL").await;
    writer.execute("BEGIN; INSERT INTO t VALUES (100, 'before', 1)").await;
    let client = server.client();
    let reading = tokio::spawn(async move {
        let mut shape = Follower::new(client, "table=t");
        shape.sync().await;
        shape
    });
    wait_published(&sql).await;
    sql.execute("INSERT INTO t VALUES (101, 'meanwhile', 1)").await;
    writer.execute("INSERT INTO t VALUES (102, 'after', 1); COMMIT").await;
    let mut shape = reading.await.expect("is read");
    assert_equal_in_the_end(&server, &sql, &mut shape, "SELECT * FROM t").await;
}

#[tokio::test]
async fn a_writer_that_stays_open_means_try_again_later() {
    let (_cluster, server) = own().await;
    let (sql, writer) = (server.sql().await, server.sql().await);
    writer.execute("BEGIN; INSERT INTO t VALUES (100, 'open', 1)").await;
    let refused = server.get("table=t&offset=-1").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    let seconds = refused.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "{refused:?}");
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    writer.execute("COMMIT").await;
    let mut shape = server.follow("table=t").await;
    assert_equal_in_the_end(&server, &sql, &mut shape, "SELECT * FROM t").await;
}
