//! The metrics port.

use crate::observe::Metrics;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves `GET /metrics` for as long as the server runs.
pub async fn serve_metrics(listener: TcpListener, metrics: Arc<Metrics>) {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let render = move || {
        let text = metrics.render();
        async move { ([(CONTENT_TYPE, FORMAT)], text) }
    };
    let app = Router::new().route("/metrics", get(render));
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(%error, "cannot serve the metrics any more");
    }
}
