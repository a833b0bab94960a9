//! Items 67, 68, 115, 123, 127, 154, 155: what caches are told, and what they ask.

use super::{followed, impatient, table};
use limn_tests::{Client, Request, Response};

const BEGINNING: &str = "public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746";
const LATER: &str = "public, max-age=60, stale-while-revalidate=300";
const LIVE: &str = "public, max-age=5, stale-while-revalidate=5";

async fn ask(client: &Client, method: &str, target: &str, tags: &str) -> Response {
    client.send(&Request { method, target, headers: &[("if-none-match", tags)], body: "" }).await
}

#[tokio::test]
async fn item_067_the_beginning_may_be_kept_for_long() {
    let (server, ..) = followed("t67").await;
    let response = server.get("table=t67&offset=-1").await;
    assert_eq!(response.header("cache-control"), Some(BEGINNING));
    assert!(response.header("cloudflare-cdn-cache-control").is_some());
}

#[tokio::test]
async fn item_068_the_beginnings_tag() {
    let (server, _, shape) = followed("t68").await;
    let response = server.get("table=t68&offset=-1").await;
    assert_eq!(response.header("etag"), Some(&*format!("\"{}:-1:0_0\"", shape.handle())));
    assert_eq!(shape.response().header("etag"), Some(&*format!("\"{}:0_0:0_inf\"", shape.handle())));
}

#[tokio::test]
async fn item_115_a_later_part_may_be_kept_for_a_minute() {
    let (server, _, shape) = followed("t115").await;
    assert_eq!(shape.response().header("cache-control"), Some(LATER));
    assert_eq!(server.get("table=t115&offset=now").await.header("cache-control"), Some(LATER));
}

#[tokio::test]
async fn item_123_a_live_reply_may_be_kept_for_seconds() {
    let (_, sql, mut shape) = followed("t123").await;
    sql.execute("INSERT INTO t123 VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    assert_eq!(shape.response().header("cache-control"), Some(LIVE));
}

#[tokio::test]
async fn item_127_the_tag_of_a_wait_for_nothing_is_used_once() {
    let server = impatient().await;
    table(&server.sql().await, "t127").await;
    let shape = server.follow("table=t127").await;
    let target = shape.target(true);
    let client = server.client();
    let (one, two) = tokio::join!(client.get(&target), client.get(&target));
    assert_eq!(one.header("cache-control"), Some(LIVE));
    let prefix = format!("\"{}:0_inf:0_inf:", shape.handle());
    let (one, two) = (one.header("etag").expect("is sent"), two.header("etag").expect("is sent"));
    assert!(one.starts_with(&prefix) && two.starts_with(&prefix) && one != two, "{one} {two}");
}

#[tokio::test]
async fn item_154_a_known_tag_is_304() {
    let (server, _, shape) = followed("t154").await;
    let client = server.client();
    let beginning = "/v1/shape?table=t154&offset=-1";
    let etag = format!("\"{}:-1:0_0\"", shape.handle());
    for method in ["GET", "HEAD", "POST"] {
        let response = ask(&client, method, beginning, &etag).await;
        assert_eq!((response.status, response.body.len()), (304, 0), "{method}");
        assert_eq!(response.header("electric-handle"), Some(shape.handle()), "{method}");
        assert_eq!(response.header("electric-offset"), Some("0_0"), "{method}");
        assert_eq!(response.header("etag"), Some(&*etag), "{method}");
        let kept = if method == "POST" { "no-cache" } else { BEGINNING };
        assert_eq!(response.header("cache-control"), Some(kept), "{method}");
    }
    assert_eq!(ask(&client, "GET", beginning, etag.trim_matches('"')).await.status, 304, "without quotes");
    for tags in ["*", &*format!("W/{etag}"), "\"other\""] {
        assert_eq!(ask(&client, "GET", beginning, tags).await.status, 200, "{tags}");
    }
}

#[tokio::test]
async fn item_154_a_tag_holds_until_something_changes() {
    let (server, sql, mut shape) = followed("t154b").await;
    let client = server.client();
    sql.execute("INSERT INTO t154b VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    let target = format!("/v1/shape?table=t154b&handle={}&offset=0_inf", shape.handle());
    let etag = client.get(&target).await.header("etag").expect("is sent").to_owned();
    let response = ask(&client, "GET", &target, &etag).await;
    assert_eq!((response.status, response.header("electric-up-to-date")), (304, Some("")));
    assert_eq!(response.header("cache-control"), Some(LATER));
    let live = ask(&client, "GET", &format!("{target}&live=true"), &etag).await;
    assert_eq!((live.status, live.header("cache-control")), (304, Some(LIVE)));
    assert!(live.header("electric-cursor").is_some());
    sql.execute("INSERT INTO t154b VALUES (5, 'x', 1)").await;
    shape.changes(1).await;
    assert_eq!(ask(&client, "GET", &target, &etag).await.status, 200);
}

#[tokio::test]
async fn item_154_now_is_never_304() {
    let (server, ..) = followed("t154c").await;
    let client = server.client();
    let target = "/v1/shape?table=t154c&offset=now";
    let etag = client.get(target).await.header("etag").expect("is sent").to_owned();
    assert_eq!(ask(&client, "GET", target, &etag).await.status, 200);
}

#[tokio::test]
async fn item_155_one_of_several_tags_suffices() {
    let (server, _, shape) = followed("t155").await;
    let target = "/v1/shape?table=t155&offset=-1";
    let tags = format!("\"foo\", \"{}:-1:0_0\" ,\"bar\"", shape.handle());
    assert_eq!(ask(&server.client(), "GET", target, &tags).await.status, 304);
    assert_eq!(ask(&server.client(), "GET", target, "\"foo\",\"bar\"").await.status, 200);
}
