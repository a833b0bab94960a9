//! Requests that are refused before anybody looks at what they ask for: a page can read the answers too.

use super::{open, shared};
use limn_tests::{Response, parse_begun};
use std::time::Duration;

/// An answer comes at once; a connection that is kept open afterwards says nothing more.
const SILENCE: Duration = Duration::from_millis(1500);

async fn answer(bytes: &[u8]) -> Response {
    let answer = open().await.client().raw(bytes, SILENCE).await;
    parse_begun(&answer).unwrap_or_else(|error| unreachable!("{error}: {}", String::from_utf8_lossy(&answer)))
}

/// What a browser needs to show a page the answer, and the page to understand it.
fn assert_readable(response: &Response, what: &str) {
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("content-type", "application/json; charset=utf-8"),
        ("connection", "close"),
    ] {
        assert_eq!(response.header(name), Some(value), "{what}: {name}");
    }
    let exposed = response.header("access-control-expose-headers");
    assert!(exposed.is_some_and(|names| names.contains("electric-handle")), "{what}: {exposed:?}");
    assert!(response.header("electric-server").is_some_and(|name| name.starts_with("Limn/")), "{what}");
    assert_eq!(response.header("content-length"), Some(&*response.body.len().to_string()), "{what}");
    let message = response.json()["message"].as_str().map(str::to_owned);
    assert!(message.is_some_and(|message| !message.is_empty()), "{what}: {}", response.text());
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_in_json_with_cors() {
    let (shape, host) = ("/v1/shape?table=t&offset=-1", "host: a\r\norigin: http://page.example");
    let long = "x".repeat(20_000);
    let many: String = (0..150).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (what, request) in [
        ("a long URL", format!("GET {shape}&where={long} HTTP/1.1\r\n{host}\r\n\r\n")),
        ("a very long URL", format!("GET {shape}&where={} HTTP/1.1\r\n{host}\r\n\r\n", long.repeat(50))),
        ("a cookie", format!("GET {shape} HTTP/1.1\r\n{host}\r\ncookie: a={long}\r\n\r\n")),
        ("many headers", format!("GET {shape} HTTP/1.1\r\n{host}\r\n{many}\r\n")),
        ("a POST", format!("POST {shape} HTTP/1.1\r\n{host}\r\nx: {long}\r\ncontent-length: 2\r\n\r\n{{}}")),
    ] {
        let response = answer(request.as_bytes()).await;
        assert_eq!(response.status, 431, "{what}");
        assert_readable(&response, what);
        assert!(response.text().contains("16384 bytes"), "{what}: {}", response.text());
        assert_eq!(response.header("cache-control"), Some("no-store"), "{what}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused_in_json_with_cors() {
    for request in [
        "NONSENSE\r\n\r\n",
        "GET /v1/shape HTTP/9.9\r\nhost: a\r\n\r\n",
        "GET /v1/shape?table=a b&offset=-1 HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /v1/shape HTTP/1.1\r\nno header\r\n\r\n",
        "POST /v1/shape HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        "\u{16}\u{3}\u{1}\r\n\r\n",
    ] {
        let response = answer(request.as_bytes()).await;
        assert_eq!(response.status, 400, "{request:?}");
        assert_readable(&response, request);
    }
}

#[tokio::test]
async fn a_clause_that_is_not_percent_encoded_is_told_how_to_write_it() {
    for clause in ["id>0", "name=\"a\"", "id = 1"] {
        let request = format!("GET /v1/shape?table=t&offset=-1&where={clause} HTTP/1.1\r\nhost: a\r\n\r\n");
        let response = answer(request.as_bytes()).await;
        assert_eq!(response.status, 400, "{clause}");
        assert!(response.text().contains("`where=id%3E0`"), "{clause}: {}", response.text());
    }
}

#[tokio::test]
async fn a_body_that_is_broken_or_does_not_come_is_refused() {
    let head = "POST /v1/shape?table=t&offset=-1 HTTP/1.1\r\nhost: a\r\n";
    let broken = answer(format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n").as_bytes()).await;
    assert_eq!((broken.status, broken.text().as_str()), (400, r#"{"error":"Failed to read request body"}"#));
    let too_long = format!("{head}content-length: 9000000\r\n\r\n{}", "x".repeat(9_000_000));
    let response = answer(too_long.as_bytes()).await;
    assert_eq!((response.status, response.text().as_str()), (413, r#"{"error":"Request body too large"}"#));
    let server = shared(&["--tcp-read-timeout", "500ms"]).await;
    let slow =
        server.client().raw(format!("{head}content-length: 10\r\n\r\n{{").as_bytes(), SILENCE * 10).await;
    let slow = parse_begun(&slow).expect("an answer");
    assert_eq!((slow.status, slow.text().as_str()), (408, r#"{"error":"Request body took too long"}"#));
    for response in [broken, response, slow] {
        assert_eq!(response.header("access-control-allow-origin"), Some("*"), "{}", response.status);
    }
}
