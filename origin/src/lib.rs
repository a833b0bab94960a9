//! The Limn origin: executes what `limn-core` decides, beside Postgres.
//!
//! In the order data flows: the engine reads the replication stream through `postgres`, routes and
//! appends by core's machines, and makes everything durable in the `store`; `creation` makes shapes;
//! `http` answers from their logs.

mod clause;
pub mod config;
mod creation;
mod degraded;
pub mod dev;
pub mod doctor;
mod engine;
mod expiry;
pub mod health_client;
mod http;
mod metrics;
pub mod postgres;
mod reconcile;
mod refusals;
mod registry;
mod scratch;
pub mod serve;
mod shape;
mod soundness;
mod spans;
mod standby;
mod status;
pub mod stopping;
mod store;
mod supervisor;
#[cfg_attr(not(feature = "otlp"), path = "no_telemetry.rs")]
pub mod telemetry;
pub mod typescript;
