//! The shapes of this server: which there are, how one is made, and when one has to go.

mod catalog_changes;
pub mod creation;
pub mod expiry;
mod live_reply;
mod registry;
mod schemas;
mod shape;

pub use catalog_changes::CatalogChanges;
pub use live_reply::{LiveReply, LiveReplyKey, Waits};
pub use registry::Registry;
pub use schemas::Schemas;
pub use shape::{Failure, Life, Shape};
