//! The disk: one commit log that makes everything durable, and one folder of segments per shape.
//!
//! ```text
//! limn.json            what the folder is, and of which Postgres
//! lock                 held by the process that writes here; others may read along (`tail`)
//! commit/<n>.log       records (limn_core::journal::record)
//! shapes/<handle>/     snapshot, log, index (limn_core::log::segment)
//! ```

mod commit_log;
mod folder;
pub mod inspect;
mod records;
mod recovery;
mod scratch;
pub mod segment;
pub mod size;
mod tail;

pub use commit_log::{CommitLog, Durable};
pub(crate) use folder::sync_dir;
pub use folder::{Folder, FolderLock, Origin};
pub use recovery::{Recovered, RecoveryError, recover, remove_strangers};
pub use scratch::Scratch;
pub use tail::{Reached, Tail};
