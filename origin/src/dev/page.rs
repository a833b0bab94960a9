//! The page at `/`, its files, and its one button.

use super::DevOptions;
use super::table;
use crate::postgres::Session;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Files that are part of the binary.
const ASSETS: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("../../assets/demo/index.html")),
    ("/demo/demo.js", "text/javascript; charset=utf-8", include_str!("../../assets/demo/demo.js")),
    (
        "/demo/plain_shape.js",
        "text/javascript; charset=utf-8",
        include_str!("../../assets/demo/plain_shape.js"),
    ),
    ("/demo/demo.css", "text/css; charset=utf-8", include_str!("../../assets/demo/demo.css")),
];

#[derive(Clone)]
pub(super) struct Page {
    shape_url: String,
    client_dir: PathBuf,
    session: Arc<Session>,
}

impl Page {
    pub(super) fn new(options: &DevOptions, session: Arc<Session>) -> Self {
        let base = options.edge_url.as_deref().unwrap_or_default().trim_end_matches('/');
        Self { shape_url: format!("{base}/v1/shape"), client_dir: options.client_dir.clone(), session }
    }

    /// Answers what belongs to the page; gives every other request back.
    pub(super) async fn answer(&self, request: Request<Body>) -> Result<Response, Request<Body>> {
        let path = request.uri().path().to_owned();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if reads && let Some((_, kind, text)) = ASSETS.iter().find(|(asset, ..)| *asset == path) {
            return Ok(file(kind, (*text).into()));
        }
        if reads && path == "/demo/config.json" {
            let config = json!({ "shapeUrl": self.shape_url, "table": table::NAME, "secret": null });
            return Ok(file("application/json", config.to_string().into()));
        }
        if reads && let Some(name) = path.strip_prefix("/client/") {
            return Ok(self.client_file(name).await);
        }
        if *request.method() == Method::POST && path == "/demo/insert" {
            return Ok(self.insert().await);
        }
        Err(request)
    }

    async fn insert(&self) -> Response {
        match table::insert(&self.session).await {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
        }
    }

    async fn client_file(&self, name: &str) -> Response {
        let path = Path::new(name);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let kind = match path.extension().and_then(|extension| extension.to_str()) {
            Some("js") => "text/javascript; charset=utf-8",
            Some("wasm") => "application/wasm",
            _ => "application/octet-stream",
        };
        match tokio::fs::read(self.client_dir.join(path)).await {
            Ok(bytes) if plain => file(kind, bytes.into()),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

fn file(kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
