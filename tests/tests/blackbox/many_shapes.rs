//! Many shapes of one table: they share snapshots, files and what the catalog says.

use super::{shared, table};
use futures::future::join_all;
use limn_tests::{Follower, Limn, Signal, Sql, eventually};
use std::fs;

const SHAPES: usize = 300;

/// A server with a table `m` that has three rows for each of the shapes `n = …`.
async fn server() -> (Limn, Sql) {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    sql.execute("CREATE TABLE m (id serial PRIMARY KEY, n int, note text)").await;
    let rows = format!("SELECT i % {SHAPES}, 'old' FROM generate_series(1, {}) i", SHAPES * 3);
    sql.execute(&format!("INSERT INTO m (n, note) {rows}")).await;
    (server, sql)
}

async fn follow_all(server: &Limn) -> Vec<Follower> {
    let queries: Vec<String> = (0..SHAPES).map(|n| format!("table=m&where=n%3D{n}")).collect();
    join_all(queries.iter().map(|query| server.follow(query))).await
}

async fn assert_rows(sql: &Sql, shapes: &[Follower], since: &str) {
    let counts =
        "SELECT string_agg(count::text, ',' ORDER BY n) FROM (SELECT n, count(*) FROM m GROUP BY 1) s";
    let counts = sql.value(counts).await;
    let seen: Vec<String> = shapes.iter().map(|shape| shape.rows().len().to_string()).collect();
    assert_eq!(seen.join(","), counts, "{since}");
}

async fn sync_all(server: &Limn, sql: &Sql, shapes: &mut [Follower]) {
    let lsn = server.barrier(sql).await;
    join_all(shapes.iter_mut().map(|shape| shape.sync_to(lsn))).await;
}

/// Every shape's snapshot.
async fn bodies(server: &Limn) -> Vec<Vec<u8>> {
    let body = async |n| server.get(&format!("table=m&where=n%3D{n}&offset=-1")).await.body;
    join_all((0..SHAPES).map(body)).await
}

fn files(server: &Limn) -> Vec<String> {
    let names = fs::read_dir(server.storage().join("shapes")).expect("the folder is there");
    names.map(|entry| entry.expect("a name").file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn shapes_that_are_made_at_once_while_rows_come_miss_none_and_have_none_twice() {
    let (server, sql) = server().await;
    let writer = server.sql().await;
    let writing = tokio::spawn(async move {
        for round in 0..40 {
            let rows = format!("SELECT (i * 7 + {round}) % {SHAPES}, 'new' FROM generate_series(1, 50) i");
            writer.execute(&format!("INSERT INTO m (n, note) {rows}")).await;
        }
    });
    let mut shapes = follow_all(&server).await;
    writing.await.expect("all is written");
    sync_all(&server, &sql, &mut shapes).await;
    assert_rows(&sql, &shapes, "after the crowd").await;
    assert_eq!(server.metric(r#"limn_requests_refused_total{kind="initial"}"#).await, 0);
}

#[tokio::test]
async fn small_snapshots_survive_a_kill_and_go_with_their_shapes() {
    let (mut server, sql) = server().await;
    let mut shapes = follow_all(&server).await;
    for shape in &shapes {
        server.wait_durable(shape).await;
    }
    assert!(files(&server).len() <= SHAPES / 100, "one file has many snapshots: {:?}", files(&server));
    sql.execute("UPDATE m SET note = 'changed' WHERE n < 100").await;
    sync_all(&server, &sql, &mut shapes).await;
    let handles: Vec<String> = shapes.iter().map(|shape| shape.handle().to_owned()).collect();
    let before = bodies(&server).await;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        server.signal(signal);
        server.wait().await;
        server.resume().await;
        let after = bodies(&server).await;
        assert_eq!(after, before, "every snapshot is the same behind {signal}");
    }
    sql.execute("INSERT INTO m (n, note) SELECT n, 'last' FROM generate_series(0, 299) n").await;
    sync_all(&server, &sql, &mut shapes).await;
    assert_rows(&sql, &shapes, "after two restarts").await;
    let now: Vec<&str> = shapes.iter().map(Follower::handle).collect();
    assert_eq!(now, handles, "no shape has started over");
    sql.execute("TRUNCATE m").await;
    // The shape by which positions are told stays, with its folder and its pack.
    eventually("no file is left of the shapes", async || (files(&server).len() <= 2).then_some(())).await;
}

#[tokio::test]
async fn a_column_that_was_just_added_is_known() {
    let (server, sql) = server().await;
    for turn in 0..5 {
        // Asks for the table as it is.
        server.follow(&format!("table=m&where=n%3D{turn}")).await;
        sql.execute(&format!("ALTER TABLE m ADD COLUMN c{turn} int DEFAULT {turn}")).await;
        let by_clause = server.get(&format!("table=m&where=c{turn}%3D{turn}&offset=-1")).await;
        assert_eq!(by_clause.status, 200, "{}", by_clause.text());
        sql.execute(&format!("ALTER TABLE m ADD COLUMN d{turn} int DEFAULT {turn}")).await;
        let whole = server.get(&format!("table=m&where=n%3D{}&offset=-1", 100 + turn)).await;
        assert_eq!(whole.status, 200, "{}", whole.text());
        assert!(whole.json()[0]["value"][format!("d{turn}")].is_string(), "{}", whole.text());
    }
}

#[tokio::test]
async fn a_table_that_was_just_made_again_is_the_new_one() {
    let (server, sql) = server().await;
    for turn in 0..3 {
        server.follow(&format!("table=m&where=n%3D{turn}")).await;
        sql.execute(
            "DROP TABLE m; CREATE TABLE m (id text PRIMARY KEY, n int); INSERT INTO m VALUES ('x', 1)",
        )
        .await;
        let answer = server.get(&format!("table=m&where=n%3C{}&offset=-1", 10 + turn)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()[0]["value"]["id"], "x", "{}", answer.text());
    }
}

#[tokio::test]
async fn a_refusal_is_taken_back_as_soon_as_its_reason_has_gone() {
    let (server, sql) = server().await;
    for turn in 0..3 {
        let query = format!("table=later{turn}&offset=-1");
        assert_eq!(server.get(&query).await.status, 400, "there is no such table");
        table(&sql, &format!("later{turn}")).await;
        assert_eq!(server.get(&query).await.status, 200);
        sql.execute(&format!("DROP TABLE later{turn}")).await;
        eventually("the table is unknown again", async || {
            (server.get(&query).await.status == 400).then_some(())
        })
        .await;
    }
}

/// Behind a shape whose query takes long, others of the table do not wait.
#[tokio::test]
async fn a_slow_snapshot_holds_no_other_of_its_table_up() {
    let (server, sql) = server().await;
    server.follow("table=m&where=n%3D0").await;
    // Read by the clause of one shape only, row by row.
    sql.execute("CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN $1; END'")
        .await;
    let (client, query) = (server.client(), "/v1/shape?table=m&where=slow(n)%3D1&offset=-1");
    let slow = tokio::spawn(async move { client.get(query).await });
    let is_begun =
        "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'COPY%slow%' AND state = 'active'";
    eventually("the slow query runs", async || (sql.value(is_begun).await == "1").then_some(())).await;
    for n in 1..20 {
        assert_eq!(server.get(&format!("table=m&where=n%3D{n}&offset=-1")).await.status, 200);
    }
    assert!(!slow.is_finished(), "900 rows take nine seconds");
    assert_eq!(slow.await.expect("it is answered").status, 200);
}
