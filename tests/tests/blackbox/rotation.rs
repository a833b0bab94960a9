//! Items 138–141, 148–153, 156: must-refetch, offsets ahead of the log, `now`.

use super::{followed, impatient, invalid, must_refetch, open, shared, table};
use limn_tests::{Request, Response, eventually};
use serde_json::json;

const NO_LOG_HEADERS: [&str; 5] =
    ["electric-offset", "electric-schema", "electric-cursor", "electric-has-data", "electric-up-to-date"];

/// Checks a 409 that names the handle to go on with.
fn assert_must_refetch<'a>(response: &'a Response, what: &str) -> &'a str {
    assert_eq!((response.status, response.json()), (409, must_refetch()), "{what}");
    let handle = response.header("electric-handle").expect("the handle to go on with");
    assert_eq!(response.header("cache-control"), Some("public, max-age=60, must-revalidate"), "{what}");
    assert_eq!(response.header("etag"), Some(&*format!("\"{handle}::\"")), "{what}");
    handle
}

#[tokio::test]
async fn item_138_an_unknown_handle() {
    let server = open().await;
    table(&server.sql().await, "t138").await;
    let refused = server.get("table=t138&handle=123-456&offset=0_0").await;
    let handle = assert_must_refetch(&refused, "the shape is made").to_owned();
    for query in ["handle=123-456&offset=0_inf&live=true", "handle=zzz&offset=5_5", "handle=1&offset=5_5"] {
        let refused = server.get(&format!("table=t138&{query}")).await;
        assert_eq!(assert_must_refetch(&refused, query), handle);
    }
}

#[tokio::test]
async fn item_139_the_handle_of_another_shape() {
    let server = open().await;
    table(&server.sql().await, "t139").await;
    let all = server.follow("table=t139").await;
    let some = server.follow("table=t139&where=n%3D10").await;
    let refused = server.get(&format!("table=t139&handle={}&offset=0_0", some.handle())).await;
    assert_eq!(assert_must_refetch(&refused, "the right handle is told"), all.handle());
}

#[tokio::test]
async fn item_140_the_told_handle_can_be_followed() {
    let server = open().await;
    table(&server.sql().await, "t140").await;
    let refused = server.get("table=t140&handle=123-456&offset=0_0").await;
    let handle = assert_must_refetch(&refused, "").to_owned();
    let response = server.get(&format!("table=t140&handle={handle}&offset=-1")).await;
    assert_eq!((response.status, response.header("electric-handle")), (200, Some(&*handle)));
    let response = server.get(&format!("table=t140&handle={handle}&offset=0_0")).await;
    assert_eq!((response.status, response.header("electric-offset")), (200, Some("0_inf")));
}

#[tokio::test]
async fn item_141_truncate_ends_the_shape_for_who_waits() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    let mut shape = server.follow("table=t").await;
    let old = shape.handle().to_owned();
    let (client, target) = (server.client(), shape.target(true));
    let waiting = tokio::spawn(async move { client.get(&target).await });
    server.wait_parked(1).await;
    sql.execute("TRUNCATE t").await;
    let refused = waiting.await.expect("is answered");
    assert_eq!((refused.status, refused.json()), (409, must_refetch()));
    assert_ne!(refused.header("electric-handle"), Some(&*old));
    let refused = server.get(&format!("table=t&handle={old}&offset=0_inf")).await;
    let new = assert_must_refetch(&refused, "the successor is told").to_owned();
    assert_ne!(new, old);
    shape.step(false).await;
    shape.sync().await;
    assert_eq!((shape.handle(), shape.rows().len(), shape.rotations()), (&*new, 0, 1));
}

#[tokio::test]
async fn item_141_what_follows_a_truncate_is_not_lost() {
    let (server, sql, mut shape) = followed("t141").await;
    sql.execute("BEGIN; INSERT INTO t141 VALUES (4, 'a', 1); TRUNCATE t141; INSERT INTO t141 VALUES (5, 'b', 2); COMMIT").await;
    let lsn = server.barrier(&sql).await;
    shape.sync_to(lsn).await;
    assert_eq!((shape.keys(), shape.rotations()), (vec!["\"public\".\"t141\"/\"5\""], 1));
}

#[tokio::test]
async fn item_141_only_the_truncated_table_rotates() {
    let (server, sql, mut shape) = followed("t141b").await;
    table(&sql, "u141b").await;
    let mut other = server.follow("table=u141b").await;
    sql.execute("TRUNCATE t141b").await;
    let lsn = server.barrier(&sql).await;
    other.sync_to(lsn).await;
    shape.sync_to(lsn).await;
    assert_eq!((other.rotations(), shape.rotations()), (0, 1));
}

#[tokio::test]
async fn item_148_a_409_carries_nothing_of_a_log() {
    let server = open().await;
    table(&server.sql().await, "t148").await;
    let refused = server.get("table=t148&handle=1-1&offset=0_0").await;
    assert_must_refetch(&refused, "");
    for name in NO_LOG_HEADERS {
        assert_eq!(refused.header(name), None, "{name}");
    }
    assert!(refused.header("electric-server").is_some());
}

#[tokio::test]
async fn item_149_an_offset_ahead_is_refused_in_the_end() {
    let server = impatient().await;
    table(&server.sql().await, "t149").await;
    let shape = server.follow("table=t149").await;
    for live in ["", "&live=true"] {
        let response =
            server.get(&format!("table=t149&handle={}&offset=999999999999_0{live}", shape.handle())).await;
        assert_eq!(
            (response.status, response.json()),
            (400, invalid("offset", "out of bounds for this shape"))
        );
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn item_150_an_offset_ahead_may_become_valid() {
    let (server, sql, mut shape) = followed("t150").await;
    // One page further than any commit that this test makes is likely to be, and less than the WAL of its waiting.
    let ahead = sql.lsn().await + 8192;
    let (client, target) =
        (server.client(), format!("/v1/shape?table=t150&handle={}&offset={ahead}_0", shape.handle()));
    let waiting = tokio::spawn(async move { client.get(&target).await });
    let mut id = 100;
    eventually("the log is beyond the offset", async || {
        sql.execute(&format!("INSERT INTO t150 VALUES ({id}, repeat('x', 500), 1)")).await;
        id += 1;
        waiting.is_finished().then_some(())
    })
    .await;
    let response = waiting.await.expect("is answered");
    assert_eq!(response.status, 200, "{}", response.text());
    shape.sync().await;
}

#[tokio::test]
async fn item_151_now_is_the_end_of_the_log() {
    let (server, sql, mut shape) = followed("t151").await;
    sql.execute("INSERT INTO t151 VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    for further in ["", "&handle=1-1"] {
        let response = server.get(&format!("table=t151&offset=now{further}")).await;
        assert_eq!((response.status, response.header("electric-offset")), (200, Some(shape.offset())));
        let body = response.json();
        assert_eq!(
            (body.as_array().map(Vec::len), &body[0]["headers"]["control"]),
            (Some(1), &json!("up-to-date"))
        );
        assert_eq!(response.header("electric-handle"), Some(shape.handle()));
        assert_eq!(
            (response.header("electric-has-data"), response.header("electric-up-to-date")),
            (Some("false"), Some(""))
        );
        assert!(response.header("electric-schema").is_some());
        let etag = response.header("etag").expect("is sent").to_owned();
        assert!(etag.starts_with(&format!("\"{}:now:{}:", shape.handle(), shape.offset())), "{etag}");
    }
}

#[tokio::test]
async fn item_152_now_makes_the_shape() {
    let server = open().await;
    table(&server.sql().await, "t152").await;
    let response = server.get("table=t152&offset=now").await;
    assert_eq!((response.status, response.header("electric-offset")), (200, Some("0_inf")));
    assert_eq!(response.header("electric-handle"), Some(server.follow("table=t152").await.handle()));
}

#[tokio::test]
async fn item_153_from_now_on_come_the_later_changes() {
    let (server, sql, mut shape) = followed("t153").await;
    sql.execute("INSERT INTO t153 VALUES (4, 'before', 1)").await;
    shape.changes(1).await;
    let now = server.get("table=t153&offset=now").await;
    sql.execute("INSERT INTO t153 VALUES (5, 'after', 1)").await;
    let (handle, offset) =
        (now.header("electric-handle").expect("sent"), now.header("electric-offset").expect("sent"));
    let response = server.get(&format!("table=t153&handle={handle}&offset={offset}&live=true")).await;
    assert_eq!(response.json()[0]["value"]["id"], "5");
}

#[tokio::test]
async fn item_156_a_handle_never_returns() {
    let server = open().await;
    table(&server.sql().await, "t156").await;
    let mut handles = Vec::new();
    for _ in 0..5 {
        handles.push(server.follow("table=t156").await.handle().to_owned());
        let delete = Request { method: "DELETE", target: "/v1/shape?table=t156", ..Request::default() };
        assert_eq!(server.client().send(&delete).await.status, 202);
    }
    let count = handles.len();
    handles.sort();
    handles.dedup();
    assert_eq!(handles.len(), count, "{handles:?}");
}
