//! What operators watch, in Prometheus's text format.

use limn_core::shape::DropCause;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds of the sync times that are told apart: 0.5 ms, doubled up to 8 s.
const SYNC_SECONDS_FIRST: f64 = 0.0005;
const SYNC_BUCKETS: u16 = 15;

/// All metrics, registered once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    http_requests: Family<HttpLabels, Counter>,
    requests_refused: Family<KindLabels, Counter>,
    rotations: Family<RotationLabels, Counter>,
    storage_bytes: Family<PartLabels, Gauge>,
    lag_bytes: Gauge,
    silence_seconds: Gauge<f64, AtomicU64>,
    /// When the stream was heard of last, in milliseconds after `started`.
    heard_ms: AtomicU64,
    started: Instant,
    /// Bytes of bodies that were handed to connections.
    pub response_bytes: Counter,
    /// Transactions read from Postgres.
    pub transactions: Counter,
    /// Changes of subqueries' results that were brought into logs.
    pub moves: Counter,
    /// Rows of the stream that Postgres had to judge.
    pub judged_by_postgres: Counter,
    /// Shapes that can be read.
    pub shapes: Gauge,
    /// Snapshots that are being taken.
    pub snapshots: Gauge,
    /// Live requests that wait for a change.
    pub parked_clients: Gauge,
    /// The LSN that was confirmed to Postgres.
    pub confirmed_lsn: Gauge,
    /// The LSN up to which the stream was read.
    pub received_lsn: Gauge,
    /// The commit log's own metrics.
    pub commit: CommitMetrics,
    /// WAL that Postgres keeps because of the slot.
    pub retained_bytes: Gauge,
}

/// The commit log's own metrics.
#[derive(Debug, Clone)]
pub struct CommitMetrics {
    /// How long each sync took.
    pub sync_seconds: Histogram,
    /// Pieces that wait for the writer.
    pub queued: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RotationLabels {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    part: &'static str,
}

impl Default for CommitMetrics {
    fn default() -> Self {
        let sync_seconds = Histogram::new(exponential_buckets(SYNC_SECONDS_FIRST, 2.0, SYNC_BUCKETS));
        Self { sync_seconds, queued: Gauge::default() }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("limn");
        let r = &mut registry;
        let commit = CommitMetrics::default();
        let sync_seconds = commit.sync_seconds.clone();
        register(r, "commit_sync_seconds", "Time that syncs of the commit log took", sync_seconds);
        register(r, "commit_queue_pieces", "Pieces that wait for the commit log", commit.queued.clone());
        Self {
            http_requests: new(r, "http_requests", "Answered requests"),
            requests_refused: new(r, "requests_refused", "Requests beyond a limit"),
            rotations: new(r, "rotations", "Shapes that had to go, by cause"),
            storage_bytes: new(r, "storage_bytes", "Bytes in the storage folder"),
            lag_bytes: new(r, "replication_lag_bytes", "WAL that was not read yet"),
            silence_seconds: new(r, "replication_silence_seconds", "Time since the stream was heard of"),
            heard_ms: AtomicU64::new(0),
            started: Instant::now(),
            response_bytes: new(r, "response_bytes", "Bytes of bodies"),
            transactions: new(r, "transactions", "Transactions read from Postgres"),
            moves: new(r, "moves", "Changes of subqueries brought into logs"),
            judged_by_postgres: new(
                r,
                "judged_by_postgres",
                "Rows of the stream that only Postgres could judge",
            ),
            shapes: new(r, "shapes", "Shapes that can be read"),
            snapshots: new(r, "snapshots", "Snapshots that are being taken"),
            parked_clients: new(r, "parked_clients", "Live requests that wait"),
            confirmed_lsn: new(r, "confirmed_lsn", "LSN confirmed to Postgres"),
            received_lsn: new(r, "received_lsn", "LSN up to which the stream was read"),
            retained_bytes: new(r, "slot_retained_bytes", "WAL that Postgres keeps for the slot"),
            commit,
            registry,
        }
    }
}

fn new<M: Metric + Default + Clone>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    register(registry, name, help, metric.clone());
    metric
}

fn register(registry: &mut Registry, name: &str, help: &str, metric: impl Metric) {
    registry.register(name, help, metric);
}

impl Metrics {
    /// Counts an answer.
    pub fn answered(&self, route: &'static str, status: u16) {
        self.http_requests.get_or_create(&HttpLabels { route, status }).inc();
    }

    /// Counts a request beyond a limit.
    pub fn refused(&self, kind: &'static str) {
        self.requests_refused.get_or_create(&KindLabels { kind }).inc();
    }

    /// Counts a dropped shape.
    pub fn rotated(&self, cause: DropCause) {
        self.rotations.get_or_create(&RotationLabels { cause: cause.as_str() }).inc();
    }

    /// Notes how much a part of the storage folder holds.
    pub fn stores(&self, part: &'static str, bytes: u64) {
        self.storage_bytes.get_or_create(&PartLabels { part }).set(bytes.cast_signed());
    }

    /// Notes that something came on the stream.
    pub fn heard(&self) {
        self.heard_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// Notes where Postgres's WAL ends, and what it keeps of it for the slot.
    pub fn surveyed(&self, wal_end: u64, retained_bytes: Option<u64>) {
        let lag = wal_end.saturating_sub(self.received_lsn.get().cast_unsigned());
        self.lag_bytes.set(lag.cast_signed());
        self.retained_bytes.set(retained_bytes.unwrap_or(0).cast_signed());
    }

    /// Everything in the text exposition format.
    #[must_use]
    pub fn render(&self) -> String {
        let silence_ms = self.elapsed_ms().saturating_sub(self.heard_ms.load(Ordering::Relaxed));
        self.silence_seconds.set(Duration::from_millis(silence_ms).as_secs_f64());
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing into a string does not fail");
        text
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Counts something for as long as the value lives.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// Counts one more.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let metrics = Metrics::default();
        metrics.answered("shape", 200);
        metrics.answered("shape", 200);
        assert!(metrics.render().contains("limn_http_requests_total{route=\"shape\",status=\"200\"} 2"));
    }

    #[test]
    fn lag_is_what_the_stream_has_not_told() {
        let metrics = Metrics::default();
        metrics.received_lsn.set(70);
        metrics.surveyed(100, Some(500));
        let text = metrics.render();
        assert!(text.contains("limn_replication_lag_bytes 30"), "{text}");
        assert!(text.contains("limn_slot_retained_bytes 500"), "{text}");
        metrics.surveyed(60, None);
        assert!(metrics.render().contains("limn_replication_lag_bytes 0"));
    }
}
