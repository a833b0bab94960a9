//! The commit log: its records, what a replay of them gives, and what is durable enough to be confirmed to Postgres.

pub mod flush;
pub mod pending;
pub mod recent_commits;
pub mod record;
pub mod replay;

pub use flush::FlushTracker;
pub use pending::{Pending, Ticket};
pub use recent_commits::RecentCommits;
pub use record::Record;
