//! The Limn origin: executes what `limn-core` decides, beside Postgres.
//!
//! In the order data flows: the `engine` reads the replication stream through `postgres`, carries out what core's
//! write path decides, and makes everything durable in the `store`; `shapes` makes the shapes and knows which there
//! are; `http` answers from their logs. `health` judges whether all this can be believed, `observe` shows it to
//! operators. Most files here start and end the program: `command` reads what it is told, `serve` puts a server together, a `standby` waits for its
//! turn, the `supervisor` and `stopping` end it in order.

pub mod command;
pub mod config;
pub mod dev;
mod engine;
pub mod health;
mod http;
pub mod observe;
pub mod postgres;
mod random;
pub mod serve;
mod shapes;
mod standby;
pub mod stopping;
mod store;
mod supervisor;
pub mod token;
pub mod typescript;
