//! What is traced: spans around the work that takes time, for an OTLP collector.
//!
//! They carry names, statuses, handles and offsets, never values of rows, clauses or secrets. Where nobody
//! exports them they cost a comparison.

use axum::http::{HeaderMap, Response};
use limn_core::protocol::header as wire;
use std::future::Future;
use tracing::field::Empty;
use tracing::instrument::{Instrument, Instrumented};
use tracing::{Span, trace_span};

/// What an exporter takes; events and the spans of other crates are no business of a collector.
pub const TARGET: &str = "limn_spans";

/// A request, from its head to the head of its answer.
pub fn request<F: Future>(route: &'static str, answer: F) -> Instrumented<F> {
    let span = trace_span!(
        target: TARGET, "http.request", route, status = Empty, handle = Empty, offset = Empty
    );
    answer.instrument(span)
}

/// The answer's head, inside [`request`].
pub fn answered<B>(response: &Response<B>) {
    let span = Span::current();
    span.record("status", response.status().as_u16());
    let text = |headers: &HeaderMap, name| {
        headers.get(name).and_then(|value| value.to_str().ok().map(str::to_owned))
    };
    if let Some(handle) = text(response.headers(), wire::HANDLE) {
        span.record("handle", handle);
    }
    if let Some(offset) = text(response.headers(), wire::OFFSET) {
        span.record("offset", offset);
    }
}

/// A shape's creation, its snapshot included.
pub fn snapshot<F: Future>(handle: limn_core::Handle, create: F) -> Instrumented<F> {
    create.instrument(trace_span!(target: TARGET, "snapshot", handle = %handle))
}

/// A snapshot in which moves are made, or questions inside it.
pub fn move_round<F: Future>(questions: usize, ask: F) -> Instrumented<F> {
    ask.instrument(trace_span!(target: TARGET, "move_round", questions))
}

/// An attempt to connect to Postgres for replication.
pub fn connect<F: Future>(slot: &str, attempt: F) -> Instrumented<F> {
    attempt.instrument(trace_span!(target: TARGET, "replication.connect", slot))
}

/// One write and sync of the commit log.
pub fn commit_sync<T>(bytes: usize, sync: impl FnOnce() -> T) -> T {
    trace_span!(target: TARGET, "commit_log.sync", bytes).in_scope(sync)
}
