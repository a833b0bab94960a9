//! What pages of other origins may do and read (protocol §1.3). The differences from Electric are in `tests/README.md`.

use super::header;
use super::reply::ReplyHead;
use super::route::Route;

const SHAPE_METHODS: &str = "GET, POST, HEAD, DELETE, OPTIONS";
const OTHER_METHODS: &str = "GET, HEAD";
/// Headers that a page may send, beyond those that need no leave.
const GRANTED: [&str; 4] = ["content-type", "authorization", "if-none-match", "traceparent"];
const PREFLIGHT_MAX_AGE_S: &str = "86400";

/// The headers about the caller that every reply carries.
///
/// `origin` is the request's `Origin`, the first where there are several. `authorized_by_header` says that the
/// request had an `Authorization` header: a log reply is public, so without `vary` a shared cache would hand
/// what one caller may read to any other.
#[must_use]
pub fn caller_headers(
    route: Route,
    origin: Option<&str>,
    authorized_by_header: bool,
) -> Vec<(&'static str, String)> {
    let mut vary = "accept-encoding".to_owned();
    if origin.is_some() {
        vary.push_str(", origin");
    }
    if authorized_by_header {
        vary.push_str(", authorization");
    }
    let methods = if route == Route::Shape { SHAPE_METHODS } else { OTHER_METHODS };
    vec![
        (header::VARY, vary),
        (header::ALLOW_ORIGIN, origin.unwrap_or("*").to_owned()),
        (header::EXPOSE_HEADERS, header::EXPOSED.to_owned()),
        (header::ALLOW_METHODS, methods.to_owned()),
    ]
}

/// The reply to `OPTIONS` on the shape route, without [`caller_headers`]. It grants what it knows of the
/// headers asked for in `access-control-request-headers`, spelled as asked.
#[must_use]
pub fn preflight(requested: Option<&str>) -> ReplyHead {
    let granted: Vec<&str> = requested
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| GRANTED.iter().any(|granted| name.eq_ignore_ascii_case(granted)))
        .collect();
    let mut headers = vec![
        (header::MAX_AGE, PREFLIGHT_MAX_AGE_S.to_owned()),
        (header::CONNECTION, "keep-alive".to_owned()),
    ];
    if !granted.is_empty() {
        headers.push((header::ALLOW_HEADERS, granted.join(", ")));
    }
    ReplyHead { status: 204, headers }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn value(headers: &[(&'static str, String)], name: &str) -> Option<String> {
        headers.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value.clone())
    }

    fn granted(requested: &str) -> Option<String> {
        value(&preflight(Some(requested)).headers, header::ALLOW_HEADERS)
    }

    #[test]
    fn an_echoed_origin_varies_the_reply() {
        let headers = caller_headers(Route::Shape, Some("http://a.example"), false);
        assert_eq!(value(&headers, header::ALLOW_ORIGIN).as_deref(), Some("http://a.example"));
        assert_eq!(value(&headers, header::VARY).as_deref(), Some("accept-encoding, origin"));
        let headers = caller_headers(Route::Shape, None, false);
        assert_eq!(value(&headers, header::ALLOW_ORIGIN).as_deref(), Some("*"));
        assert_eq!(value(&headers, header::VARY).as_deref(), Some("accept-encoding"));
    }

    #[test]
    fn a_credential_in_a_header_varies_the_reply() {
        let headers = caller_headers(Route::Shape, None, true);
        assert_eq!(value(&headers, header::VARY).as_deref(), Some("accept-encoding, authorization"));
    }

    #[test]
    fn methods_are_those_of_the_route() {
        let methods = |route| value(&caller_headers(route, None, false), header::ALLOW_METHODS);
        assert_eq!(methods(Route::Shape).as_deref(), Some("GET, POST, HEAD, DELETE, OPTIONS"));
        for route in [Route::Root, Route::Health, Route::NotFound] {
            assert_eq!(methods(route).as_deref(), Some("GET, HEAD"));
        }
    }

    #[test]
    fn the_eight_names_and_ours_are_exposed() {
        let names: Vec<&str> = header::EXPOSED.split(',').collect();
        for name in [
            header::CURSOR,
            header::HANDLE,
            header::HAS_DATA,
            header::OFFSET,
            header::SCHEMA,
            header::UP_TO_DATE,
            header::KNOWN_ERROR,
            header::RETRY_AFTER,
            header::SNAPSHOT,
            header::ETAG,
        ] {
            assert!(names.contains(&name), "{name}");
        }
    }

    #[test]
    fn preflights_grant_what_they_know_as_spelled() {
        assert_eq!(granted("If-None-Match").as_deref(), Some("If-None-Match"));
        assert_eq!(granted("content-type,Authorization").as_deref(), Some("content-type, Authorization"));
        assert_eq!(granted("x-other, traceparent").as_deref(), Some("traceparent"));
        assert_eq!(granted("x-other"), None);
        let head = preflight(None);
        assert_eq!(head.status, 204);
        assert_eq!(value(&head.headers, header::MAX_AGE).as_deref(), Some("86400"));
        assert_eq!(value(&head.headers, header::CACHE_CONTROL), None);
    }
}
