//! Items 1–25: paths, the secret, CORS.

use super::{SECRET, open, secured};
use limn_tests::{Request, Response};
use serde_json::json;

const METHODS_OF_SHAPES: &str = "GET, POST, HEAD, DELETE, OPTIONS";

async fn send(method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    secured().await.client().send(&Request { method, target, headers, ..Request::default() }).await
}

async fn assert_unauthorized(method: &str, target: &str) {
    let response = send(method, target, &[]).await;
    assert_eq!(response.status, 401, "{method} {target}");
    if method != "HEAD" {
        assert_eq!(response.json(), json!({ "message": "Unauthorized - Invalid API secret" }), "{target}");
    }
    assert_eq!(response.header("access-control-allow-origin"), Some("*"), "{target}");
    assert_eq!(response.header("content-type"), Some("application/json; charset=utf-8"), "{target}");
}

#[tokio::test]
async fn item_001_the_root_is_empty_and_needs_no_secret() {
    let response = send("GET", "/", &[]).await;
    assert_eq!((response.status, response.text().as_str()), (200, ""));
    assert_eq!(send("HEAD", "/", &[]).await.status, 200);
}

#[tokio::test]
async fn item_002_other_paths_are_not_found() {
    for target in ["/nope", "/v1", "/v1/shapes", "/v1/shape/x"] {
        assert_eq!(send("GET", target, &[]).await.status, 404, "{target}");
    }
}

#[tokio::test]
async fn item_003_other_methods_are_not_found() {
    assert_eq!(send("PUT", "/v1/shape", &[]).await.status, 404);
    assert_eq!(send("PATCH", "/v1/shape?table=t", &[]).await.status, 404);
    assert_eq!(send("POST", "/v1/health", &[]).await.status, 404);
}

#[tokio::test]
async fn item_004_no_secret_is_401() {
    assert_unauthorized("GET", "/v1/shape?table=t&offset=-1").await;
    assert_unauthorized("GET", "/v1/shape").await;
}

#[tokio::test]
async fn item_005_a_wrong_secret_is_401() {
    assert_unauthorized("GET", "/v1/shape?table=t&offset=-1&secret=wrong").await;
    assert_unauthorized("GET", "/v1/shape?table=t&offset=-1&secret=").await;
    assert_unauthorized("GET", "/v1/shape?table=t&offset=-1&api_secret=wrong").await;
    assert_unauthorized("GET", &format!("/v1/shape?table=t&offset=-1&SECRET={SECRET}")).await;
}

#[tokio::test]
async fn item_006_the_right_secret_passes() {
    let target = format!("/v1/shape?table=t&offset=-1&secret={SECRET}");
    assert_eq!(send("GET", &target, &[]).await.status, 200);
}

#[tokio::test]
async fn item_007_the_right_api_secret_passes() {
    let target = format!("/v1/shape?table=t&offset=-1&api_secret={SECRET}");
    assert_eq!(send("GET", &target, &[]).await.status, 200);
}

#[tokio::test]
async fn item_008_secret_wins_over_api_secret() {
    assert_unauthorized("GET", &format!("/v1/shape?table=t&offset=-1&secret=wrong&api_secret={SECRET}"))
        .await;
    assert_unauthorized("GET", &format!("/v1/shape?table=t&offset=-1&secret=&api_secret={SECRET}")).await;
    let target = format!("/v1/shape?table=t&offset=-1&secret={SECRET}&api_secret=wrong");
    assert_eq!(send("GET", &target, &[]).await.status, 200);
}

#[tokio::test]
async fn item_009_a_secret_in_the_body_does_not_count() {
    let request = Request {
        method: "POST",
        target: "/v1/shape?table=t&offset=-1",
        headers: &[("content-type", "application/json")],
        body: r#"{"secret":"s3cret"}"#,
    };
    assert_eq!(secured().await.client().send(&request).await.status, 401);
}

#[tokio::test]
async fn item_010_delete_needs_the_secret() {
    assert_unauthorized("DELETE", "/v1/shape?table=t").await;
}

#[tokio::test]
async fn item_011_head_needs_the_secret() {
    assert_unauthorized("HEAD", "/v1/shape?table=t&offset=-1").await;
}

/// One spelling of the path: guarded as every other, and it leads to the shape.
async fn assert_guarded(path: &str) {
    let target = format!("{path}?table=t&offset=-1");
    assert_unauthorized("GET", &target).await;
    assert_unauthorized("DELETE", &target).await;
    let response = send("GET", &format!("{target}&secret={SECRET}"), &[]).await;
    assert_eq!((response.status, response.header("electric-offset")), (200, Some("0_0")), "{path}");
}

#[tokio::test]
async fn item_012_a_trailing_slash_is_guarded() {
    assert_guarded("/v1/shape/").await;
    assert_guarded("/v1/shape//").await;
}

#[tokio::test]
async fn item_013_a_double_slash_is_guarded() {
    assert_guarded("/v1//shape").await;
}

#[tokio::test]
async fn item_014_a_leading_double_slash_is_guarded() {
    assert_guarded("//v1/shape").await;
}

#[tokio::test]
async fn item_015_an_encoded_letter_is_guarded() {
    assert_guarded("/v1/%73hape").await;
}

#[tokio::test]
async fn item_016_all_spellings_give_data_without_a_secret() {
    let client = open().await.client();
    for path in ["/v1/shape/", "/v1/shape//", "/v1//shape", "//v1/shape", "/v1/%73hape"] {
        let response = client.get(&format!("{path}?table=t&offset=-1")).await;
        assert_eq!(
            (response.status, response.json()[0]["value"]["a"].as_str()),
            (200, Some("one")),
            "{path}"
        );
    }
    for path in ["/./v1/shape", "/v1/../v1/shape", "/V1/shape", "/v1/shape%2F"] {
        assert_eq!(client.get(&format!("{path}?table=t&offset=-1")).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn item_017_options_needs_no_secret() {
    let response = send("OPTIONS", "/v1/shape", &[]).await;
    assert_eq!((response.status, response.text().as_str()), (204, ""));
}

#[tokio::test]
async fn item_018_a_preflight_is_kept_by_the_browser_alone() {
    let headers = [("origin", "http://a.example"), ("access-control-request-method", "POST")];
    let response = send("OPTIONS", "/v1/shape", &headers).await;
    assert_eq!(response.header("access-control-max-age"), Some("86400"));
    assert_eq!(response.header("cache-control"), None);
    assert_eq!(response.header("access-control-allow-origin"), Some("http://a.example"));
}

#[tokio::test]
async fn item_018_a_preflight_grants_the_headers_that_clients_send() {
    for requested in ["if-none-match", "If-None-Match", "traceparent", "content-type, authorization"] {
        let headers = [("access-control-request-headers", requested)];
        let response = send("OPTIONS", "/v1/shape", &headers).await;
        let granted =
            response.header("access-control-allow-headers").unwrap_or_default().to_ascii_lowercase();
        let granted: Vec<&str> = granted.split(',').map(str::trim).collect();
        for name in requested.to_ascii_lowercase().split(',') {
            assert!(granted.contains(&name.trim()), "{requested}: {granted:?}");
        }
    }
}

#[tokio::test]
async fn item_019_options_lists_the_methods() {
    let response = send("OPTIONS", "/v1/shape", &[]).await;
    assert_eq!(response.header("access-control-allow-methods"), Some(METHODS_OF_SHAPES));
}

#[tokio::test]
async fn item_020_options_lists_them_for_every_spelling() {
    for target in ["/v1/%73hape", "/v1/shape/", "//v1/shape"] {
        let response = send("OPTIONS", target, &[]).await;
        assert_eq!(
            (response.status, response.header("access-control-allow-methods")),
            (204, Some(METHODS_OF_SHAPES))
        );
    }
}

#[tokio::test]
async fn item_021_elsewhere_the_methods_are_get_and_head() {
    for (method, target) in [("GET", "/nope"), ("GET", "/"), ("OPTIONS", "/nope")] {
        let response = send(method, target, &[]).await;
        assert_eq!(response.header("access-control-allow-methods"), Some("GET, HEAD"), "{method} {target}");
    }
}

#[tokio::test]
async fn item_022_the_origin_is_echoed() {
    let client = open().await.client();
    let target = "/v1/shape?table=t&offset=-1";
    let headers = [("origin", "http://a.example")];
    let response = client.send(&Request { method: "GET", target, headers: &headers, body: "" }).await;
    assert_eq!(response.header("access-control-allow-origin"), Some("http://a.example"));
    let vary = response
        .headers
        .iter()
        .filter(|(name, _)| name == "vary")
        .map(|(_, value)| value.to_ascii_lowercase());
    assert!(vary.clone().any(|value| value.contains("origin")), "{response:?}");
    assert!(vary.clone().any(|value| value.contains("accept-encoding")), "{response:?}");
    assert_eq!(client.get(target).await.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn item_022_two_origins_are_no_failure() {
    let headers = [("origin", "http://a.example"), ("origin", "http://b.example")];
    let target = "/v1/shape?table=t&offset=-1";
    let response =
        open().await.client().send(&Request { method: "GET", target, headers: &headers, body: "" }).await;
    assert!(response.status < 500, "{}", response.status);
}

#[tokio::test]
async fn item_023_everything_clients_read_is_exposed() {
    let expected = [
        "electric-cursor",
        "electric-handle",
        "electric-has-data",
        "electric-offset",
        "electric-schema",
        "electric-up-to-date",
        "electric-internal-known-error",
        "retry-after",
        "electric-snapshot",
        "etag",
    ];
    for target in ["/v1/shape?table=t&offset=-1", "/nope"] {
        let response = open().await.client().get(target).await;
        let exposed = response.header("access-control-expose-headers").expect("is sent");
        let exposed: Vec<&str> = exposed.split(',').collect();
        for name in expected {
            assert!(exposed.contains(&name), "{target}: `{name}` is not in {exposed:?}");
        }
    }
}

#[tokio::test]
async fn item_024_every_answer_names_the_server() {
    let shape = format!("/v1/shape?table=t&offset=-1&secret={SECRET}");
    let refused = format!("/v1/shape?secret={SECRET}");
    let targets = [
        ("GET", "/"),
        ("GET", "/nope"),
        ("GET", "/v1/shape"),
        ("GET", "/v1/health"),
        ("OPTIONS", "/v1/shape"),
    ];
    for (method, target) in
        targets.into_iter().chain([("GET", &*shape), ("GET", &*refused), ("DELETE", &*refused)])
    {
        let response = send(method, target, &[]).await;
        let server = response.header("electric-server").unwrap_or_default();
        assert!(server.starts_with("Limn/"), "{method} {target}: {server}");
    }
}

#[tokio::test]
async fn item_024_a_request_id_is_echoed_or_made() {
    let (short, long) = ("r".repeat(19), "r".repeat(200));
    for target in ["/", "/nope", "/v1/shape", "/v1/health"] {
        let echoed = send("GET", target, &[("x-request-id", &long)]).await;
        assert_eq!(echoed.header("x-request-id"), Some(&*long), "{target}");
        let made = send("GET", target, &[("x-request-id", &short)]).await;
        let made = made.header("x-request-id").unwrap_or_default().to_owned();
        assert!(made.len() >= 20 && made != short, "{target}: {made}");
    }
}

#[tokio::test]
async fn item_025_health_needs_no_secret() {
    let response = send("GET", "/v1/health", &[]).await;
    assert_eq!((response.status, response.json()), (200, json!({ "status": "active" })));
    assert_eq!(response.header("cache-control"), Some("no-cache, no-store, must-revalidate"));
    assert_eq!(send("HEAD", "/v1/health", &[]).await.status, 200);
}

#[tokio::test]
async fn the_secret_may_come_as_a_bearer() {
    let target = "/v1/shape?table=t&offset=-1";
    let bearer = format!("Bearer {SECRET}");
    assert_eq!(send("GET", target, &[("authorization", &bearer)]).await.status, 200);
    assert_eq!(send("GET", target, &[("authorization", "Bearer wrong")]).await.status, 401);
    assert_eq!(send("GET", target, &[("authorization", SECRET)]).await.status, 401);
}
