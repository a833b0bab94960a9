//! The metrics port.

use crate::observe::Metrics;
use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};

/// Answers a request to the metrics port, which has `GET /metrics` and nothing else.
pub fn metrics_page(metrics: &Metrics, request: &Request<Body>) -> Response {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => {
            ([(CONTENT_TYPE, FORMAT)], metrics.render()).into_response()
        }
        ("/metrics", _) => (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET,HEAD")]).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_has_metrics_to_read_and_nothing_else() {
        let metrics = Metrics::default();
        let answer = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
            metrics_page(&metrics, &request)
        };
        let read = answer(Method::GET, "/metrics");
        assert_eq!(read.status(), StatusCode::OK);
        assert!(
            read.headers()[CONTENT_TYPE].to_str().expect("text").starts_with("application/openmetrics-text")
        );
        assert_eq!(answer(Method::HEAD, "/metrics").status(), StatusCode::OK);
        let refused = answer(Method::POST, "/metrics");
        assert_eq!(
            (refused.status(), &refused.headers()[ALLOW]),
            (StatusCode::METHOD_NOT_ALLOWED, &"GET,HEAD".parse().expect("a value"))
        );
        assert_eq!(answer(Method::GET, "/v1/shape").status(), StatusCode::NOT_FOUND);
    }
}
