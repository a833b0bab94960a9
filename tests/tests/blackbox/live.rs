//! Items 120–129: the long poll.

use super::{followed, impatient, shared, table};
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

/// 2024-10-09T00:00:00Z, from which cursors count.
const EPOCH_S: u64 = 1_728_432_000;

/// The interval of a server at its defaults.
const INTERVAL_S: u64 = 20;

fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    since - EPOCH_S
}

#[tokio::test]
async fn item_120_a_wait_for_nothing_ends_with_up_to_date() {
    let server = impatient().await;
    table(&server.sql().await, "t120").await;
    let shape = server.follow("table=t120").await;
    let response = server.client().get(&shape.target(true)).await;
    assert_eq!(response.status, 200);
    let body = response.json();
    assert_eq!(
        (body.as_array().map(Vec::len), &body[0]["headers"]["control"]),
        (Some(1), &json!("up-to-date"))
    );
    assert!(body[0]["headers"]["global_last_seen_lsn"].is_string());
    for (name, value) in
        [("electric-has-data", "false"), ("electric-up-to-date", ""), ("electric-offset", "0_inf")]
    {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    assert_eq!(response.header("content-type"), Some("application/json; charset=utf-8"));
}

#[tokio::test]
async fn item_121_an_insert_ends_the_wait() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    let shape = server.follow("table=t").await;
    let (client, target) = (server.client(), shape.target(true));
    let waiting = tokio::spawn(async move { client.get(&target).await });
    server.wait_parked(1).await;
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    let response = waiting.await.expect("is answered");
    assert_eq!(response.header("electric-has-data"), Some("true"));
    assert_eq!(response.json()[0]["value"]["id"], "4");
    server.wait_parked(0).await;
}

#[tokio::test]
async fn item_122_a_live_reply_has_a_cursor_and_no_schema() {
    let (_, sql, mut shape) = followed("t122").await;
    assert!(
        shape.response().header("electric-schema").is_some()
            && shape.response().header("electric-cursor").is_none()
    );
    sql.execute("INSERT INTO t122 VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    assert!(
        shape.response().header("electric-schema").is_none()
            && shape.response().header("electric-cursor").is_some()
    );
}

#[tokio::test]
async fn item_124_a_cursor_is_the_end_of_the_interval() {
    let (_, sql, mut shape) = followed("t124").await;
    sql.execute("INSERT INTO t124 VALUES (4, 'x', 1)").await;
    let before = now_s();
    shape.changes(1).await;
    let after = now_s();
    let cursor: u64 =
        shape.response().header("electric-cursor").and_then(|cursor| cursor.parse().ok()).expect("a number");
    assert_eq!(cursor % INTERVAL_S, 0, "{cursor}");
    assert!((before..=after + INTERVAL_S).contains(&cursor), "{before}..={after} + {INTERVAL_S}: {cursor}");
}

#[tokio::test]
async fn item_125_a_cursor_always_advances() {
    let (server, sql, mut shape) = followed("t125").await;
    let target = format!("/v1/shape?table=t125&handle={}&offset=0_inf&live=true", shape.handle());
    sql.execute("INSERT INTO t125 VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    let mut cursor = 900_000_000;
    for _ in 0..5 {
        let response = server.client().get(&format!("{target}&cursor={cursor}")).await;
        let next: u64 =
            response.header("electric-cursor").and_then(|next| next.parse().ok()).expect("a number");
        assert!(next > cursor && next <= cursor + 3600, "{next} after {cursor}");
        cursor = next;
    }
}

#[tokio::test]
async fn item_126_any_cursor_is_taken() {
    let (server, sql, mut shape) = followed("t126").await;
    sql.execute("INSERT INTO t126 VALUES (4, 'x', 1)").await;
    let target = format!("/v1/shape?table=t126&handle={}&offset=0_inf&live=true", shape.handle());
    shape.changes(1).await;
    for cursor in ["garbage", "", "-5", "1.5", "12abc"] {
        let response = server.client().get(&format!("{target}&cursor={cursor}")).await;
        assert_eq!((response.status, &response.json()[0]["value"]["id"]), (200, &json!("4")), "{cursor}");
    }
}

#[tokio::test]
async fn item_128_what_is_there_already_is_told_at_once() {
    let (server, sql, mut shape) = followed("t128").await;
    let target = shape.target(true);
    sql.execute("INSERT INTO t128 VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    let response = server.client().get(&target).await;
    assert_eq!(response.header("electric-has-data"), Some("true"));
    let etag = format!("\"{}:0_inf:{}\"", shape.handle(), shape.offset());
    assert_eq!(response.header("etag"), Some(&*etag));
}

#[tokio::test]
async fn item_129_everybody_who_waits_is_told() {
    const CLIENTS: u64 = 20;
    let server = shared(&[]).await;
    let sql = server.sql().await;
    let shape = server.follow("table=t").await;
    let waiting: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, target) = (server.client(), shape.target(true));
            tokio::spawn(async move { client.get(&target).await })
        })
        .collect();
    server.wait_parked(CLIENTS).await;
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    let mut bodies = Vec::new();
    for response in waiting {
        bodies.push(response.await.expect("is answered").json());
    }
    assert_eq!(bodies[0][0]["value"]["id"], "4");
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}
