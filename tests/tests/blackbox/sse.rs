//! Items 130–137: the log as a stream of events.

use super::{followed, invalid, open, shared, small_chunks, table};
use limn_tests::{Client, Follower, Limn, Request, Response, Sql};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const SSE: &str = "&live_sse=true";
/// Longer than any stream lasts.
const STREAM_TIME_MAX: Duration = Duration::from_secs(75);
const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// What was read of a stream, and whether the server ended it.
type Reading = JoinHandle<(Response, bool)>;

/// Opens the stream behind `shape`, and returns when its head has come. It is read until the server ends it
/// or `enough` is content with its messages.
async fn listen(
    shape: &Follower,
    client: Client,
    enough: impl Fn(&[Value]) -> bool + Send + Sync + 'static,
) -> Reading {
    let target = shape.target(true) + SSE;
    let begun = Arc::new(Notify::new());
    let head_came = begun.clone();
    let reading = tokio::spawn(async move {
        read(&client, &target, |messages| {
            begun.notify_one();
            enough(messages)
        })
        .await
    });
    head_came.notified().await;
    reading
}

async fn read(client: &Client, target: &str, enough: impl Fn(&[Value]) -> bool) -> (Response, bool) {
    let request = Request { method: "GET", target, ..Request::default() };
    let read = client.read_while_open(&request, STREAM_TIME_MAX, |body| enough(&begun_messages(body))).await;
    let (response, ended) = read.expect("a stream begins");
    assert_eq!(response.status, 200, "{}", response.text());
    (response, ended)
}

/// The messages of a body whose last frame may not be whole yet.
fn begun_messages(body: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(body);
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end + 2]);
    frames(whole)
}

/// Checks that there is nothing but frames, and returns their messages.
fn frames(text: &str) -> Vec<Value> {
    let frame = |frame: &str| {
        let frame = frame.strip_suffix("\n\n").expect("frames end with an empty line");
        let data = frame.strip_prefix("data: ").unwrap_or_else(|| unreachable!("no frame: {frame:?}"));
        serde_json::from_str(data).expect("a frame holds one message")
    };
    text.split_inclusive("\n\n").filter(|frame| *frame != KEEP_ALIVE).map(frame).collect()
}

fn messages(response: &Response) -> Vec<Value> {
    frames(&response.text())
}

fn ids(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["value"]["id"].as_str()).collect()
}

fn is_up_to_date(message: &Value) -> bool {
    message["headers"]["control"] == "up-to-date"
}

fn caught_up(messages: &[Value]) -> bool {
    messages.last().is_some_and(is_up_to_date)
}

fn seen_lsn(message: &Value) -> &str {
    message["headers"]["global_last_seen_lsn"].as_str().expect("a decimal string")
}

async fn insert(sql: &Sql, table: &str, id: u32) {
    sql.execute(&format!("INSERT INTO {table} VALUES ({id}, 'x', 1)")).await;
}

#[tokio::test]
async fn item_130_the_head_of_a_stream() {
    let (server, sql, shape) = followed("t130").await;
    let stream = listen(&shape, server.client(), caught_up).await;
    insert(&sql, "t130", 4).await;
    let (response, _) = stream.await.expect("is read");
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "public, max-age=59"),
        ("electric-handle", shape.handle()),
        ("electric-offset", "0_inf"),
        ("electric-up-to-date", ""),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    let cursor = response.header("electric-cursor").and_then(|cursor| cursor.parse::<u64>().ok());
    assert!(cursor.is_some_and(|cursor| cursor > 0), "{cursor:?}");
    assert_eq!(response.header("electric-schema"), None);
}

#[tokio::test]
async fn item_131_each_message_is_a_frame_and_up_to_date_ends_a_commit() {
    let (server, sql, shape) = followed("t131").await;
    let first_came = Arc::new(Notify::new());
    let tell = first_came.clone();
    let stream = listen(&shape, server.client(), move |messages| {
        let up_to_date = messages.iter().filter(|message| is_up_to_date(message)).count();
        if up_to_date == 1 {
            tell.notify_one();
        }
        up_to_date == 2
    })
    .await;
    sql.execute(
        "BEGIN; INSERT INTO t131 VALUES (4, E'two\\n\\nlines', 1); DELETE FROM t131 WHERE id = 1; COMMIT",
    )
    .await;
    first_came.notified().await;
    insert(&sql, "t131", 5).await;
    let (response, ended) = stream.await.expect("is read");
    let messages = messages(&response);
    assert!(!ended, "a stream without anything pending goes on");
    assert_eq!(ids(&messages), ["4", "1", "5"], "no message but these: {messages:?}");
    assert_eq!(messages[0]["value"]["a"], "two\n\nlines");
    let controls: Vec<bool> = messages.iter().map(is_up_to_date).collect();
    assert_eq!(controls, [false, false, true, false, true]);
    assert_eq!(messages[1]["headers"]["last"], true);
    for (change, control) in [(1, 2), (3, 4)] {
        assert_eq!(messages[change]["headers"]["lsn"], seen_lsn(&messages[control]), "the shape's own LSN");
    }
}

#[tokio::test]
async fn item_132_133_silence_is_broken_every_21_s_and_ends_after_60_s() {
    let (server, _, shape) = followed("t132").await;
    let (client, target) = (server.client(), shape.target(true) + SSE);
    let started = Instant::now();
    let request = Request { method: "GET", target: &target, ..Request::default() };
    let first_frame = async {
        let read = client.read_while_open(&request, STREAM_TIME_MAX, |body| !body.is_empty()).await;
        (read.expect("a stream begins").0, started.elapsed())
    };
    let ((response, ended), (first, silence)) = tokio::join!(read(&client, &target, |_| false), first_frame);
    assert_eq!(first.text(), KEEP_ALIVE);
    assert!((20..30).contains(&silence.as_secs()), "{silence:?}");
    let lasted = started.elapsed();
    assert!(ended && (58..70).contains(&lasted.as_secs()), "{lasted:?}");
    assert_eq!(response.text(), KEEP_ALIVE.repeat(2));
}

#[tokio::test]
async fn item_134_the_experimental_name_works_alone() {
    let (server, sql, shape) = followed("t134").await;
    insert(&sql, "t134", 4).await;
    server.follow("table=t134").await;
    let target = shape.target(true) + "&experimental_live_sse=true";
    let (response, _) = read(&server.client(), &target, caught_up).await;
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    assert_eq!(ids(&messages(&response)), ["4"]);
    let target = shape.target(true) + "&live_sse=false&experimental_live_sse=true";
    let plain = server.client().get(&target).await;
    assert_eq!(
        plain.header("content-type"),
        Some("application/json; charset=utf-8"),
        "the true name decides"
    );
}

#[tokio::test]
async fn item_135_what_is_pending_is_sent_and_the_stream_ends() {
    let (server, sql, mut shape) = followed("t135").await;
    let target = shape.target(true) + SSE;
    sql.execute("INSERT INTO t135 VALUES (4, 'x', 1), (5, 'x', 1); INSERT INTO t135 VALUES (6, 'x', 1)")
        .await;
    shape.changes(3).await;
    let (response, ended) = read(&server.client(), &target, |_| false).await;
    assert!(ended);
    let messages = messages(&response);
    assert_eq!((ids(&messages), messages.len()), (vec!["4", "5", "6"], 4));
    assert!(caught_up(&messages));
}

#[tokio::test]
async fn item_135_pending_chunks_are_all_sent() {
    let server = small_chunks().await;
    let sql = server.sql().await;
    table(&sql, "t135b").await;
    let mut shape = server.follow("table=t135b").await;
    let target = shape.target(true) + SSE;
    sql.execute("INSERT INTO t135b SELECT i, repeat('x', 1000), 1 FROM generate_series(10, 49) i").await;
    let lsn = server.barrier(&sql).await;
    shape.sync_to(lsn).await;
    let (response, ended) = read(&server.client(), &target, |_| false).await;
    let messages = messages(&response);
    let expected: Vec<String> = (10..50).map(|id| id.to_string()).collect();
    assert_eq!((ids(&messages), ended), (expected.iter().map(String::as_str).collect(), true));
    assert!(caught_up(&messages));
}

#[tokio::test]
async fn item_136_what_is_wrong_with_a_request_is_json() {
    let (server, _, shape) = followed("t136").await;
    let target = format!("table=t136&handle={}&offset=0_inf{SSE}", shape.handle());
    let refused = server.get(&target).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json(), invalid("live_sse", "can't be true unless live is also true"));
    assert_eq!(refused.header("content-type"), Some("application/json; charset=utf-8"));
    for further in ["&where=nonsense", "&columns=nonsense"] {
        let refused = server.get(&format!("{target}&live=true{further}")).await;
        assert_eq!((refused.status, refused.json()["message"].as_str()), (400, Some("Invalid request")));
    }
    let refused = server.get(&format!("table=t136&handle=1-1&offset=0_inf&live=true{SSE}")).await;
    assert_eq!((refused.status, refused.header("electric-handle")), (409, Some(shape.handle())));
    assert_eq!(refused.header("content-type"), Some("application/json; charset=utf-8"));
}

#[tokio::test]
async fn item_137_a_client_comes_back_at_the_lsn_that_it_was_told() {
    let (server, sql, shape) = followed("t137").await;
    let stream = listen(&shape, server.client(), caught_up).await;
    sql.execute("BEGIN; INSERT INTO t137 VALUES (4, 'x', 1); INSERT INTO t137 VALUES (5, 'x', 1); COMMIT")
        .await;
    let (response, _) = stream.await.expect("is read");
    let mut other = server.follow("table=t137").await;
    let mut seen = messages(&response);
    for id in 6..9 {
        let lsn = seen_lsn(seen.last().expect("up to date")).to_owned();
        insert(&sql, "t137", id).await;
        // A stream that has something to send already does not wait for more.
        other.changes(1).await;
        let target = format!("/v1/shape?table=t137&handle={}&offset={lsn}_0&live=true{SSE}", shape.handle());
        let id = id.to_string();
        let came = |messages: &[Value]| ids(messages).contains(&&*id) && caught_up(messages);
        let (response, _) = read(&server.client(), &target, came).await;
        seen = messages(&response);
        assert_eq!(ids(&seen).last(), Some(&&*id), "what follows the LSN comes");
        assert!(!ids(&seen).contains(&"4"), "what is at the LSN itself does not: {seen:?}");
    }
}

#[tokio::test]
async fn item_131_a_stream_goes_on_across_chunks() {
    let server = small_chunks().await;
    let sql = server.sql().await;
    table(&sql, "t131b").await;
    let shape = server.follow("table=t131b").await;
    let enough = |messages: &[Value]| ids(messages).contains(&"59") && caught_up(messages);
    let stream = listen(&shape, server.client(), enough).await;
    for first in (10..60).step_by(5) {
        sql.execute(&format!(
            "INSERT INTO t131b SELECT i, repeat('x', 1000), 1 FROM generate_series({first}, {first} + 4) i"
        ))
        .await;
    }
    let (response, ended) = stream.await.expect("is read");
    let expected: Vec<String> = (10..60).map(|id| id.to_string()).collect();
    let messages = messages(&response);
    assert_eq!((ids(&messages), ended), (expected.iter().map(String::as_str).collect(), false));
}

#[tokio::test]
async fn item_131_other_tables_and_rows_send_nothing() {
    let server = open().await;
    let sql = server.sql().await;
    table(&sql, "t131c").await;
    let shape = server.follow("table=t131c&where=n%20%3E%2010").await;
    let mut all = server.follow("table=t131c").await;
    let stream = listen(&shape, server.client(), caught_up).await;
    insert(&sql, "t131c", 4).await;
    all.changes(1).await;
    sql.execute("INSERT INTO t131c VALUES (5, 'x', 50)").await;
    let (response, _) = stream.await.expect("is read");
    assert_eq!(ids(&messages(&response)), ["5"]);
    assert_eq!(messages(&response).len(), 2);
}

#[tokio::test]
async fn item_141_a_rotation_ends_the_stream() {
    let server: Limn = shared(&[]).await;
    let shape = server.follow("table=t").await;
    let stream = listen(&shape, server.client(), |_| false).await;
    server.sql().await.execute("TRUNCATE t").await;
    let (response, ended) = stream.await.expect("is read");
    assert_eq!((response.text().as_str(), ended), ("", true), "no frame says so");
    assert_eq!(server.client().get(&(shape.target(true) + SSE)).await.status, 409, "the next request does");
}
