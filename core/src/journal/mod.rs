//! The commit log: its records, what each of them changes, and what is durable enough to be confirmed to Postgres.

pub mod checkpoint;
mod created_shape;
pub mod flush;
pub mod kept_shape;
pub mod packed;
pub mod pending;
pub mod recent_commits;
pub mod record;
pub mod recovery;
pub mod replay;
#[cfg(test)]
mod samples;
pub mod tables;

pub use flush::FlushTracker;
pub use kept_shape::{KeptCheckpoint, KeptLog, KeptShape};
pub use pending::{Pending, Ticket};
pub use recent_commits::RecentCommits;
pub use record::Record;
pub use tables::Tables;
