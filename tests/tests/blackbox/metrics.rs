//! What operators watch, on a port of its own.

use super::shared;
use limn_tests::{Limn, eventually};

const ANSWERED: &str = "limn_http_requests_total{route=\"shape\",status=\"200\"}";
const REFUSED: &str = "limn_http_requests_total{route=\"shape\",status=\"400\"}";

#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let server = shared(&[]).await;
    let before = (server.metric(ANSWERED).await, server.metric(REFUSED).await);
    for _ in 0..3 {
        assert_eq!(server.get("table=t&offset=-1").await.status, 200);
    }
    assert_eq!(server.get("table=t").await.status, 400);
    let after = (server.metric(ANSWERED).await, server.metric(REFUSED).await);
    assert_eq!(after, (before.0 + 3, before.1 + 1));
}

#[tokio::test]
async fn the_public_port_has_no_metrics() {
    let server = shared(&[]).await;
    assert_eq!(server.client().get("/metrics").await.status, 404);
}

#[tokio::test]
async fn shapes_and_transactions_are_counted() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    let mut shape = server.follow("table=t").await;
    let before = server.metric("limn_transactions_total").await;
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    assert!(server.metric("limn_transactions_total").await > before);
    // Set now and then, not at every change.
    eventually("one shape is counted", async || (server.metric("limn_shapes").await == 1).then_some(()))
        .await;
}

/// Waits until a metric satisfies `wanted`: some are set now and then, not at every change.
async fn until(server: &Limn, name: &str, wanted: impl Fn(u64) -> bool) {
    eventually(name, async || wanted(server.metric(name).await).then_some(())).await;
}

#[tokio::test]
async fn the_way_of_a_change_can_be_watched() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    let mut shape = server.follow("table=t").await;
    let before = server.metric("limn_commit_sync_seconds_count").await;
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    let end = sql.lsn().await;
    until(&server, "limn_received_lsn", |lsn| lsn >= end).await;
    until(&server, "limn_confirmed_lsn", |lsn| lsn >= end).await;
    until(&server, "limn_commit_sync_seconds_count", |count| count > before).await;
    until(&server, "limn_slot_retained_bytes", |bytes| bytes > 0).await;
    until(&server, r#"limn_storage_bytes{part="commit"}"#, |bytes| bytes > 0).await;
    until(&server, r#"limn_storage_bytes{part="shapes"}"#, |bytes| bytes > 0).await;
    assert_eq!(server.metric("limn_commit_queue_pieces").await, 0);
    assert_eq!(server.metric("limn_snapshots").await, 0);
}

#[tokio::test]
async fn bytes_and_refusals_are_counted() {
    let server = shared(&["--max-concurrent-requests", r#"{"initial":0,"existing":5}"#]).await;
    let served = server.metric("limn_response_bytes_total").await;
    let refused = server.get("table=t&offset=-1").await;
    assert_eq!(refused.status, 503);
    assert_eq!(server.metric(r#"limn_requests_refused_total{kind="initial"}"#).await, 1);
    let length = refused.body.len() as u64;
    assert_eq!(server.metric("limn_response_bytes_total").await, served + length);
}

#[tokio::test]
async fn snapshots_and_lag_show_while_they_last() {
    let cluster = limn_tests::Cluster::start(&[]).await;
    let database = cluster.database().await;
    let (sql, holder) = (database.connect().await, database.connect().await);
    super::table(&sql, "t").await;
    let server = Limn::start(&database, &[]).await;
    server.follow("table=t").await;
    holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
    let client = server.client();
    let reading = tokio::spawn(async move { client.get("/v1/shape?table=t&columns=id&offset=-1").await });
    until(&server, "limn_snapshots", |count| count == 1).await;
    holder.execute("COMMIT").await;
    assert_eq!(reading.await.expect("is answered").status, 200);
    until(&server, "limn_snapshots", |count| count == 0).await;
    let walsender = sql.value("SELECT active_pid::text FROM pg_replication_slots").await;
    let stopped = super::unsound::Stopped::new(walsender.parse().expect("a process id"));
    sql.execute("INSERT INTO t SELECT n, repeat('x', 1000), n FROM generate_series(10, 2000) n").await;
    until(&server, "limn_replication_lag_bytes", |bytes| bytes > 1_000_000).await;
    drop(stopped);
    until(&server, "limn_replication_lag_bytes", |bytes| bytes < 100_000).await;
}
