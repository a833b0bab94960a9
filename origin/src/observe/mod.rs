//! What operators see: metrics for Prometheus, and spans for an OTLP collector.

mod metrics;
pub(crate) mod spans;
#[cfg_attr(not(feature = "otlp"), path = "no_telemetry.rs")]
pub mod telemetry;

pub(crate) use metrics::{CommitMetrics, Counted, Metrics};
