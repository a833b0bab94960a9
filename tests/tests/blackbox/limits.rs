//! Items 223, 224: the number of shapes, and of requests under way.

use super::{HeldSnapshot, invalid, must_refetch, shared, table};
use limn_tests::{Response, eventually};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Longer than the minute between two counts of the shapes.
const COUNT_TIME_MAX: Duration = Duration::from_secs(120);

fn assert_refused(response: &Response, kind: &str) {
    assert_eq!(response.status, 503, "{}", response.text());
    let body = response.json();
    assert_eq!(body["code"], "concurrent_request_limit_exceeded");
    let message = format!("Concurrent {kind} request limit exceeded (limit: 1), please retry");
    assert_eq!(body["message"], message);
    let retry_after_s: u64 =
        response.header("retry-after").and_then(|seconds| seconds.parse().ok()).expect("seconds");
    assert!((6..=10).contains(&retry_after_s), "{retry_after_s}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("surrogate-control"), Some("no-store"));
    assert_eq!(response.header("electric-internal-known-error"), Some("true"));
}

#[tokio::test]
async fn item_223_beyond_the_limit_the_shape_that_was_read_first_goes() {
    let server = shared(&["--max-shapes", "2"]).await;
    let mut all = server.follow("table=t").await;
    let oldest = server.follow("table=t&columns=id").await;
    let mut newest = server.follow("table=t&columns=id,a").await;
    all.sync().await;
    let counted = async {
        while server.metric(r#"limn_rotations_total{cause="expired"}"#).await == 0 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(COUNT_TIME_MAX, counted).await.expect("one shape goes");
    let old = server.get(&format!("table=t&columns=id&handle={}&offset=0_inf", oldest.handle())).await;
    assert_eq!((old.status, old.json()), (409, must_refetch()));
    server.sql().await.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    assert_eq!((all.changes(1).await.len(), newest.changes(1).await.len()), (1, 1), "the others go on");
}

#[tokio::test]
async fn item_224_who_waits_fills_the_house() {
    let server = shared(&["--max-concurrent-requests", r#"{"initial":5,"existing":1}"#]).await;
    let shape = server.follow("table=t").await;
    let (client, target) = (server.client(), shape.target(true));
    let waiting = tokio::spawn(async move { client.get(&target).await });
    server.wait_parked(1).await;
    assert_refused(&server.client().get(&shape.target(false)).await, "existing");
    assert_eq!(server.get("table=t&offset=-1").await.status, 200, "new clients have a limit of their own");
    assert_eq!(server.client().get("/v1/health").await.status, 200);
    server.sql().await.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    assert_eq!(waiting.await.expect("is answered").status, 200);
    let after = server.client().get(&shape.target(false)).await;
    assert_eq!(after.status, 200, "there is room again: {}", after.text());
}

#[tokio::test]
async fn item_224_a_refused_request_makes_no_shape() {
    let limit = ["--max-concurrent-requests", r#"{"initial":1,"existing":5}"#];
    let HeldSnapshot { server, sql, holder, mut published, reading, _cluster } =
        HeldSnapshot::begin(&limit).await;
    table(&sql, "u").await;
    assert_refused(&server.get("table=u&offset=-1").await, "initial");
    published.sync().await;
    let tables = "SELECT count(*)::text FROM pg_publication_rel WHERE prrelid = 'u'::regclass";
    assert_eq!(sql.value(tables).await, "0");
    holder.execute("COMMIT").await;
    assert_eq!(reading.await.expect("is read in the end").rows().len(), 3);
    let two = async || (server.metric("limn_shapes").await == 2).then_some(());
    eventually("there are two shapes", two).await;
    assert_eq!(server.follow("table=u").await.rows().len(), 3);
}

#[tokio::test]
async fn item_224_a_first_request_waits_for_a_place() {
    let limit = ["--max-concurrent-requests", r#"{"initial":1,"existing":5}"#];
    let HeldSnapshot { server, sql, holder, reading, _cluster, .. } = HeldSnapshot::begin(&limit).await;
    table(&sql, "u").await;
    let client = server.client();
    let waiting = tokio::spawn(async move { client.get("/v1/shape?table=u&offset=-1").await });
    for _ in 0..20 {
        // By then the other request has come.
        assert_eq!(server.client().get("/v1/health").await.status, 200);
    }
    assert!(!waiting.is_finished(), "the only place is taken");
    holder.execute("COMMIT").await;
    assert_eq!(reading.await.expect("is read").rows().len(), 3);
    let admitted = waiting.await.expect("is answered");
    assert_eq!(admitted.status, 200, "{}", admitted.text());
}

#[tokio::test]
async fn a_subquery_of_more_rows_than_are_kept_is_refused() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    sql.execute("CREATE TABLE many AS SELECT generate_series(1, 2000001) AS id").await;
    let query = "table=t&where=id%20IN%20(SELECT%20id%20FROM%20many)&offset=-1";
    let refused = server.get(query).await;
    let text = "a subquery returns more than 2000000 different rows";
    assert_eq!((refused.status, refused.json()), (400, invalid("where", text)));
}
