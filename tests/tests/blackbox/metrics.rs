//! What operators watch, on a port of its own.

use super::shared;
use limn_tests::eventually;

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
