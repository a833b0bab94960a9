//! Items 217, 218, 225: Postgres goes, and comes back.

use super::table;
use limn_tests::{Cluster, Follower, Limn, Response, eventually};
use serde_json::json;

async fn health(server: &Limn) -> Response {
    server.client().get("/v1/health").await
}

async fn wait_starting(server: &Limn) {
    eventually("health says `starting`", async || {
        let health = health(server).await;
        (health.status == 202 && health.json() == json!({ "status": "starting" })).then_some(())
    })
    .await;
}

fn assert_away(response: &Response, retry_after: &str, what: &str) {
    assert_eq!(response.status, 503, "{what}: {}", response.text());
    assert_eq!(response.header("retry-after"), Some(retry_after), "{what}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{what}");
    assert!(response.json()["message"].is_string(), "{what}");
}

#[tokio::test]
async fn item_225_an_outage_is_503_and_passes() {
    let mut cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    table(&database.connect().await, "t").await;
    let mut server = Limn::start(&database, &["--long-poll-timeout-ms", "2000"]).await;
    let mut shape = server.follow("table=t").await;
    database.connect().await.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    let change = shape.changes(1).await.remove(0);
    let snapshot = server.get("table=t&offset=-1").await;

    cluster.stop().await;
    wait_starting(&server).await;
    let (client, live, now) = (server.client(), shape.target(true), "table=t&offset=now");
    assert_away(&client.get(&live).await, "5", "live");
    assert_away(&client.get(&shape.target(false)).await, "5", "a read that would be up to date");
    assert_away(&server.get(now).await, "5", "now");
    assert_away(&server.get("table=unknown&offset=-1").await, "1", "a table that cannot be looked up");
    assert_eq!(server.get("table=t&offset=-1").await.body, snapshot.body, "what is stored is served");
    let stored = server.get(&format!("table=t&handle={}&offset=0_inf", shape.handle())).await;
    assert_eq!((stored.status, stored.json()), (200, json!([change])));
    assert_eq!(stored.header("electric-up-to-date"), None);

    cluster.resume().await;
    server.wait_active().await;
    let sql = database.connect().await;
    sql.execute("INSERT INTO t VALUES (5, 'back', 1)").await;
    assert_eq!(shape.changes(1).await[0]["value"]["id"], "5");
    assert_eq!(shape.rotations(), 0);
    assert_eq!(server.get("table=t&offset=-1").await.header("electric-handle"), Some(shape.handle()));
}

#[tokio::test]
async fn item_225_who_waits_is_told_of_the_outage() {
    let mut cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    table(&database.connect().await, "t").await;
    let server = Limn::start(&database, &["--long-poll-timeout-ms", "3000"]).await;
    let shape = server.follow("table=t").await;
    let (client, target) = (server.client(), shape.target(true));
    let waiting = tokio::spawn(async move { client.get(&target).await });
    server.wait_parked(1).await;
    cluster.stop().await;
    let response = waiting.await.expect("is answered");
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.header("retry-after").is_some());
}

#[tokio::test]
async fn item_217_218_before_postgres_was_ever_reached_and_after() {
    let mut cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    table(&database.connect().await, "t").await;
    cluster.stop().await;
    let mut server = Limn::stopped(&database, &[]);
    server.spawn();
    let client = server.client();
    let request =
        limn_tests::Request { method: "GET", target: "/v1/health", ..limn_tests::Request::default() };
    let health = eventually("it listens", async || client.try_send(&request).await.ok()).await;
    assert_eq!((health.status, health.json()), (202, json!({ "status": "starting" })));
    let refused = server.get("table=t&offset=-1").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    cluster.resume().await;
    server.wait_active().await;
    let health = server.client().get("/v1/health").await;
    assert_eq!((health.status, health.json()), (200, json!({ "status": "active" })));
    assert_eq!(server.follow("table=t").await.rows().len(), 3);
}

#[tokio::test]
async fn a_lost_connection_is_made_again() {
    let cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let server = Limn::start(&database, &[]).await;
    let mut shape = server.follow("table=t").await;
    for id in 10..13 {
        sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            .await;
        sql.execute(&format!("INSERT INTO t VALUES ({id}, 'x', 1)")).await;
        eventually("the change comes", async || {
            shape.step(true).await;
            shape.keys().iter().any(|key| key.ends_with(&format!("\"{id}\""))).then_some(())
        })
        .await;
    }
    assert_eq!(shape.rotations(), 0);
}

#[tokio::test]
async fn postgres_ends_although_a_move_is_under_way() {
    let mut cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    let (sql, holder) = (database.connect().await, database.connect().await);
    table(&sql, "t").await;
    sql.execute("CREATE TABLE chosen (n int PRIMARY KEY)").await;
    let mut server = Limn::start(&database, &["--long-poll-timeout-ms", "2000"]).await;
    let mut shape = server.follow("table=t&where=n%20IN%20(SELECT%20n%20FROM%20chosen)").await;
    holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
    sql.execute("INSERT INTO chosen VALUES (10)").await;
    eventually("the move waits for the table", async || {
        let waiting = "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND relation = 't'::regclass";
        (sql.value(waiting).await != "0").then_some(())
    })
    .await;
    // Where the stream was held for the move, Postgres would wait for the stream, and the move for Postgres.
    cluster.stop().await;
    cluster.resume().await;
    server.wait_active().await;
    let lsn = server.barrier(&database.connect().await).await;
    shape.sync_to(lsn).await;
    assert_eq!((shape.rows().len(), shape.rotations()), (1, 0));
}

#[tokio::test]
async fn what_a_snapshot_has_shown_outlives_a_crash_of_postgres() {
    let mut cluster = Cluster::start(&["wal_writer_delay=10s"]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let mut server = Limn::start(&database, &[]).await;
    // The table is published: nothing more has to be committed for another shape of it.
    server.follow("table=t").await;
    sql.execute("SET synchronous_commit = off; INSERT INTO t VALUES (4, 'not flushed', 1)").await;
    let mut shape = Follower::new(server.client(), "table=t&columns=id");
    shape.step(false).await;
    assert_eq!(shape.rows().len(), 4);
    cluster.crash().await;
    cluster.resume().await;
    server.wait_active().await;
    let sql = database.connect().await;
    let lsn = server.barrier(&sql).await;
    shape.sync_to(lsn).await;
    assert_eq!(sql.value("SELECT count(*)::text FROM t").await, shape.rows().len().to_string());
}
