//! Limn's files on disk: one commit log that makes everything durable, a folder for each shape that has changed, and
//! packs of small snapshots.
//!
//! ```text
//! commit/<n>.log       records (limn_core::journal::record)
//! shapes/<handle>/     snapshot; log, index (limn_core::log::segment), or log.<n>, index.<n> once compacted
//! shapes/pack-<n>      small snapshots of many shapes
//! ```
//!
//! All of it goes through a port, [`Files`], so that the server runs it on the operating system's files ([`Native`]) and the
//! simulation on files that lose what was not synced: which bytes are written, synced and removed in which order is written
//! once, here. Nothing here has threads, clocks or queues.

mod commit_log;
pub mod compaction;
mod files;
mod followed;
mod layout;
mod native;
mod packs;
mod records;
mod recovery;
#[cfg(test)]
mod scratch;
pub mod segment;
mod snapshot;
mod stored;
mod tail;
mod work;

pub use commit_log::CommitWriter;
pub use files::Files;
pub use followed::FollowedFolder;
pub use layout::Layout;
pub use native::Native;
pub use packs::Packs;
pub use recovery::{Recovered, RecoveryError, recover};
pub use snapshot::{SnapshotOut, SnapshotSizes};
pub use stored::{read_log, stored_part};
pub use tail::{Reached, Tail};
pub use work::{WorkFailure, Worked, sync_segments, work_on_segment, write_tail};
