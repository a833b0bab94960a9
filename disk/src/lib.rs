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
//!
//! What a kill -9 leaves, and the next start makes of it:
//!
//! 1. [`recover`] reads the commit log, and makes the shapes' files hold what it says. What each record means is core's:
//!    [`limn_core::journal::replay`], carried out by [`limn_core::journal::recovery`].
//! 2. A shape whose snapshot is not in it, as the record `SnapshotDone`, is dropped
//!    ([`Recovery::finish`](limn_core::journal::recovery::Recovery::finish)); clients that name its handle get a 409
//!    (origin's `http::lookup`).
//! 3. [`CommitWriter::start`] writes a new file with a checkpoint of the others. Only when that is durable it removes the
//!    older files, and the folders and packs of those that were dropped.
//! 4. The owner restores each shape by [`Writer::restore`](limn_core::store::Writer::restore), and Postgres sends again what
//!    was not confirmed: [`ShapeLog`](limn_core::log::ShapeLog) takes only what lies beyond its newest offset.

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
