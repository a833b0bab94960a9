//! What operators watch, in Prometheus's text format.

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// All metrics, registered once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    http_requests: Family<HttpLabels, Counter>,
    rotations: Family<RotationLabels, Counter>,
    /// Transactions read from Postgres.
    pub transactions: Counter,
    /// Changes of subqueries' results that were brought into logs.
    pub moves: Counter,
    /// Rows of the stream that Postgres had to judge.
    pub judged_by_postgres: Counter,
    /// Shapes that can be read.
    pub shapes: Gauge,
    /// Live requests that wait for a change.
    pub parked_clients: Gauge,
    /// The LSN that was confirmed to Postgres.
    pub confirmed_lsn: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RotationLabels {
    cause: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("limn"),
            http_requests: Family::default(),
            rotations: Family::default(),
            transactions: Counter::default(),
            moves: Counter::default(),
            judged_by_postgres: Counter::default(),
            shapes: Gauge::default(),
            parked_clients: Gauge::default(),
            confirmed_lsn: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("http_requests", "Answered requests", self.http_requests.clone());
        registry.register("rotations", "Shapes that had to go, by cause", self.rotations.clone());
        registry.register("transactions", "Transactions read from Postgres", self.transactions.clone());
        registry.register("moves", "Changes of subqueries brought into logs", self.moves.clone());
        let help = "Rows of the stream that only Postgres could judge";
        registry.register("judged_by_postgres", help, self.judged_by_postgres.clone());
        registry.register("shapes", "Shapes that can be read", self.shapes.clone());
        registry.register("parked_clients", "Live requests that wait", self.parked_clients.clone());
        registry.register("confirmed_lsn", "LSN confirmed to Postgres", self.confirmed_lsn.clone());
    }

    /// Counts an answer.
    pub fn answered(&self, route: &'static str, status: u16) {
        self.http_requests.get_or_create(&HttpLabels { route, status }).inc();
    }

    /// Counts a shape that had to go.
    pub fn rotated(&self, cause: &'static str) {
        self.rotations.get_or_create(&RotationLabels { cause }).inc();
    }

    /// Everything in the text exposition format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing into a string does not fail");
        text
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
}
