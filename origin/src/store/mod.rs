//! The storage folder: whose it is, and the thread that writes its commit log. What it holds is `limn_disk`'s.
//!
//! ```text
//! limn.json            what the folder is, and of which Postgres
//! lock                 held by the process that writes here; others may read along (`limn_disk::FollowedFolder`)
//! commit/, shapes/     the commit log and the shapes (`limn_disk`)
//! ```

mod commit_log;
mod folder;
pub mod inspect;
mod scratch;
pub mod size;

pub use commit_log::{CommitLog, Durable};
pub use folder::{Folder, FolderLock, SourceIdentity};
pub use scratch::Scratch;
