//! The shapes of this server: which there are, how one is made, and when one has to go.

mod catalog_changes;
pub mod creation;
pub mod expiry;
mod registry;
mod schemas;
mod shape;
mod waiters;

pub use catalog_changes::CatalogChanges;
pub use registry::Registry;
pub use schemas::Schemas;
pub use shape::{Failure, Life, Shape};
pub use waiters::{LiveRequest, Served, Waited, Waiter};
