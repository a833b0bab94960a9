//! The disk: one commit log that makes everything durable, and one folder of segments per shape.
//!
//! ```text
//! limn.json            what the folder is, and of which Postgres
//! commit/<n>.log       records (limn_core::log::record)
//! shapes/<handle>/     snapshot, log, index (limn_core::log::segment)
//! ```

mod commit_log;
mod folder;
mod recovery;
pub mod segment;

pub use commit_log::{CommitLog, Durable};
pub(crate) use folder::sync_dir;
pub use folder::{Folder, Origin};
pub use recovery::{Recovered, TAIL_BYTES_MAX, recover, remove_strangers};
