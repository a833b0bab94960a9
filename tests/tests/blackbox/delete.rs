//! Items 157–160: `DELETE /v1/shape`.

use super::{HeldSnapshot, invalid, must_refetch, open, shared, small_chunks, table};
use limn_tests::{Limn, Request, Response, eventually};
use serde_json::json;
use tokio::task::JoinHandle;

async fn delete(server: &Limn, query: &str) -> Response {
    let target = format!("/v1/shape?{query}");
    server.client().send(&Request { method: "DELETE", target: &target, ..Request::default() }).await
}

#[tokio::test]
async fn item_157_delete_is_to_be_allowed_first() {
    let server = small_chunks().await;
    for query in ["table=t", "", "table=nope"] {
        let response = delete(server, query).await;
        assert_eq!(
            (response.status, response.json()),
            (405, json!({ "message": "DELETE not allowed" })),
            "{query}"
        );
        assert_eq!(response.header("cache-control"), Some("no-cache"));
    }
}

#[tokio::test]
async fn item_158_by_handle_and_by_definition() {
    let server = open().await;
    table(&server.sql().await, "t158").await;
    let all = server.follow("table=t158").await;
    let response = delete(server, &format!("handle={}", all.handle())).await;
    assert_eq!((response.status, response.text().as_str()), (202, ""));
    assert_eq!(response.header("cache-control"), Some("no-cache"));
    server.follow("table=t158&where=n%3D10").await;
    assert_eq!(delete(server, "table=t158&where=n%20%3D%2010").await.status, 202);
    let some = server.follow("table=t158&columns=id,a&replica=full").await;
    assert_eq!(delete(server, "table=t158").await.status, 404, "gone already");
    let both = format!("table=t158&columns=a,id&replica=full&handle={}", some.handle());
    assert_eq!(delete(server, &both).await.status, 202);
}

#[tokio::test]
async fn item_159_what_cannot_be_deleted() {
    let server = open().await;
    table(&server.sql().await, "t159").await;
    for query in ["table=t159", "handle=1-1"] {
        let response = delete(server, query).await;
        assert_eq!(
            (response.status, response.json()),
            (404, json!({ "message": "No existing shape found" })),
            "{query}"
        );
    }
    let all = server.follow("table=t159").await;
    assert_eq!(delete(server, &format!("table=t159&where=n%3D1&handle={}", all.handle())).await.status, 404);
    let some = server.follow("table=t159&where=n%3D1").await;
    let text = "The specified shape definition and handle do not match. Please ensure the shape definition is correct or \
                omit the shape handle from the request to obtain a new one.";
    for handle in [some.handle(), "1-1"] {
        let response = delete(server, &format!("table=t159&handle={handle}")).await;
        assert_eq!((response.status, response.json()), (400, json!({ "message": text })), "{handle}");
    }
    for (query, parameter, text) in [
        ("", "handle", "can't be blank when shape definition is missing"),
        ("table=t159&live=banana", "live", "is invalid"),
        ("table=t159&where=zz", "where", "At location 0: unknown reference zz"),
    ] {
        let response = delete(server, query).await;
        assert_eq!((response.status, response.json()), (400, invalid(parameter, text)), "{query}");
        assert_eq!(response.header("cache-control"), Some("no-cache"), "{query}");
        assert_eq!(response.header("surrogate-control"), None, "{query}");
    }
    assert_eq!(
        delete(server, "table=t159&offset=abc&live=true").await.status,
        202,
        "these do not matter here"
    );
}

#[tokio::test]
async fn item_160_a_deleted_shape_is_made_anew() {
    let server = shared(&["--allow-shape-deletion"]).await;
    let shape = server.follow("table=t").await;
    let old = shape.handle().to_owned();
    let (client, target) = (server.client(), shape.target(true));
    let waiting = tokio::spawn(async move { client.get(&target).await });
    server.wait_parked(1).await;
    assert_eq!(delete(&server, "table=t").await.status, 202);
    let refused = waiting.await.expect("is answered");
    assert_eq!((refused.status, refused.json()), (409, must_refetch()));
    let shape = server.follow("table=t").await;
    assert!(shape.handle() != old && shape.rows().len() == 3);
}

/// A request for the shape, which is being created.
fn ask(server: &Limn, query: &'static str) -> JoinHandle<Response> {
    let client = server.client();
    tokio::spawn(async move { client.get(&format!("/v1/shape?{query}")).await })
}

/// What a deletion must not leave behind: a warning, or the shape.
async fn assert_gone_in_silence(server: &Limn) {
    eventually("no snapshot is under way", async || {
        (server.metric("limn_snapshots").await == 0).then_some(())
    })
    .await;
    let output = server.output();
    assert!(!output.contains("cannot create a shape"), "{output}");
}

/// The engine knows the shape; its snapshot waits for a lock.
#[tokio::test]
async fn a_shape_whose_snapshot_waits_is_deleted_without_a_warning() {
    let held = HeldSnapshot::begin(&["--allow-shape-deletion"]).await;
    assert_eq!(delete(&held.server, "table=t").await.status, 202);
    held.holder.execute("ROLLBACK").await;
    let shape = held.reading.await.expect("the shape is read, made anew");
    assert_eq!(shape.rotations(), 1, "whoever waited for it is told to start over");
    assert_gone_in_silence(&held.server).await;
}

/// The engine does not know the shape yet; the table is about to be published, and has an open writer.
#[tokio::test]
async fn a_shape_that_waits_for_writers_is_deleted() {
    let server = shared(&["--allow-shape-deletion"]).await;
    let (sql, writer) = (server.sql().await, server.sql().await);
    table(&sql, "fresh").await;
    // Elsewhere the identity would have to wait for the writer too.
    sql.execute("ALTER TABLE fresh REPLICA IDENTITY FULL").await;
    writer.execute("BEGIN; INSERT INTO fresh VALUES (4, 'x', 1)").await;
    let waiting = ask(&server, "table=fresh&offset=-1");
    let published = "SELECT count(*)::text FROM pg_publication_tables WHERE tablename = 'fresh'";
    eventually("the table is published", async || (sql.value(published).await != "0").then_some(())).await;
    assert_eq!(delete(&server, "table=fresh").await.status, 202);
    let told = waiting.await.expect("an answer");
    assert_eq!((told.status, told.json()), (409, must_refetch()));
    writer.execute("COMMIT").await;
    assert_gone_in_silence(&server).await;
    assert_eq!(delete(&server, "table=fresh").await.status, 404, "nothing is left of it");
    let mut shape = server.follow("table=fresh").await;
    assert_eq!(shape.rows().len(), 4);
    sql.execute("DELETE FROM fresh WHERE id = 4").await;
    shape.changes(1).await;
}
