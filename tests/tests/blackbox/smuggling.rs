//! Requests whose end, path or authority two programs could see differently: no data goes without the secret.

use super::{SECRET, secured};
use std::time::Duration;

/// An answer comes at once; a connection that is kept open afterwards says nothing more.
const SILENCE: Duration = Duration::from_millis(1500);

/// The statuses of all answers to these bytes; none may carry rows.
async fn statuses(bytes: &[u8]) -> Vec<u16> {
    let answer = secured().await.client().raw(bytes, SILENCE).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(!text.contains("\"value\""), "rows without the secret: {text}");
    let heads = text.split("HTTP/1.1 ").skip(1);
    heads.map(|head| head[..3].parse().expect("a status")).collect()
}

async fn status_of_target(target: &str) -> u16 {
    let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    statuses(request.as_bytes()).await.first().copied().unwrap_or(0)
}

#[tokio::test]
async fn the_length_of_a_body_has_one_meaning() {
    let data = "GET /v1/shape?table=t&offset=-1 HTTP/1.1\r\nhost: a\r\n\r\n";
    for headers in [
        "content-length: 4\r\ncontent-length: 5",
        "content-length: 4, 5",
        "content-length: +4",
        "content-length: -1",
        "content-length: 4 4",
        "content-length: 0x4",
        "content-length: 99999999999999999999999",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity\r\ncontent-length: 4",
    ] {
        let request = format!(
            "POST /v1/shape?table=t&offset=-1 HTTP/1.1\r\nhost: a\r\n{headers}\r\n\r\n0\r\n\r\n{data}"
        );
        let found = statuses(request.as_bytes()).await;
        assert_eq!(found, [400], "{headers}");
    }
}

#[tokio::test]
async fn a_chunked_body_with_a_length_ends_where_its_chunks_end() {
    // Whoever goes by the length would take what follows for the body's end.
    let request = format!(
        "POST /v1/shape?table=t&offset=-1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 64\r\n\r\n\
         0\r\n\r\nGET /v1/shape?table=t&offset=-1&x={} HTTP/1.1\r\nhost: a\r\n\r\n",
        "y".repeat(64)
    );
    let found = statuses(request.as_bytes()).await;
    assert!(!found.is_empty() && found.iter().all(|status| [400, 401].contains(status)), "{found:?}");
}

#[tokio::test]
async fn heads_that_are_no_http_are_refused() {
    let head = |line: &str| format!("GET /v1/shape?table=t&offset=-1 HTTP/1.1\r\n{line}\r\n\r\n");
    for line in ["host : a", "host: a\r\n folded: x", "ho\0st: a", "host: a\r\nx: \0", "(x): y", ": y"] {
        let found = statuses(head(line).as_bytes()).await;
        assert_eq!(found, [400], "{line:?}");
    }
    for start in [
        "GET /v1/shape",
        "GET /v1/shape HTTP/9.9",
        "GET  /v1/shape HTTP/1.1",
        "GET /v1/sh\0ape HTTP/1.1",
        "\x16\x03\x01",
    ] {
        let found = statuses(format!("{start}\r\nhost: a\r\n\r\n").as_bytes()).await;
        assert!(found.iter().all(|status| *status == 400), "{start:?}: {found:?}");
    }
    let long = head(&format!("x: {}", "y".repeat(1 << 20)));
    assert_eq!(statuses(long.as_bytes()).await.first(), Some(&431));
}

#[tokio::test]
async fn no_spelling_of_the_target_goes_past_the_guard() {
    let query = "?table=t&offset=-1";
    for path in [
        "/v1/shape",
        "http://a/v1/shape",
        "http://evil.example:1/v1/shape",
        "http://user:password@a/v1/shape",
        "https://a//v1///shape/",
        "/%76%31/%73%68%61%70%65",
    ] {
        assert_eq!(status_of_target(&format!("{path}{query}")).await, 401, "{path}");
    }
    for path in [
        "/v1%2Fshape",
        "/v1%2fshape",
        "/v1/shape%00",
        "/%00v1/shape",
        "/v1/shape%2F..",
        "/v1/shape/..%2Fshape",
        "/v1/health/../shape",
        "/v1/health%2F..%2Fshape",
        "/v1;x/shape",
        "/v1/shape;x",
        "/v1\\shape",
        "/V1/SHAPE",
        "/v1/%2573hape",
    ] {
        let status = status_of_target(&format!("{path}{query}")).await;
        assert!([400, 404].contains(&status), "{path}: {status}");
    }
    for target in ["*", "a:1", "http://a"] {
        let status = status_of_target(target).await;
        assert!([200, 400, 404].contains(&status), "{target}: {status}");
    }
}

#[tokio::test]
async fn a_secret_that_is_spelled_twice_is_the_last_one() {
    let target = |query: &str| format!("/v1/shape?table=t&offset=-1&{query}");
    let client = secured().await.client();
    for (query, status) in [
        (format!("secret={SECRET}&secret=wrong"), 401),
        (format!("secret=wrong&secret={SECRET}"), 200),
        (format!("secret[]={SECRET}"), 401),
        (format!("SECRET={SECRET}"), 401),
        (format!("secret={SECRET}%00"), 401),
        (format!("secret=%20{SECRET}"), 401),
        (format!("secret={SECRET}x"), 401),
        (format!("secret={}", &SECRET[..SECRET.len() - 1]), 401),
    ] {
        assert_eq!(client.get(&target(&query)).await.status, status, "{query}");
    }
}
