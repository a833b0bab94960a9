//! The write path: from messages of the replication stream to shape logs, the commit log and readers.
//!
//! [`Writer`] takes messages, snapshots, answers and ticks; its owner carries out the [`Effect`]s, and asks Postgres its
//! [`Question`]s. The whole way of a change:
//!
//! 1. [`Writer::handle_message`] takes a message that [`pgoutput`](crate::pgoutput) has decoded, from origin's `engine`.
//! 2. [`Router::handle_message`](crate::shape::Router::handle_message) finds the shapes that it concerns, and has it
//!    encoded into a [`Fragment`](crate::log::Fragment).
//! 3. [`Logs::append`] makes that a record of the commit log, and appends it to the shapes' logs, invisibly.
//! 4. [`Logs::commit`] makes it visible: [`Effect::Publish`] wakes the requests, which read by
//!    [`ShapeLog::read`](crate::log::ShapeLog::read).
//! 5. [`Effect::CommitLog`] has the record written and synced, by `limn_disk::CommitWriter`; [`Logs::handle_synced`] learns
//!    of it.
//! 6. [`Logs::confirmable`] says what Postgres may forget; [`Writer::due_confirmation`] when it is told.
//!
//! [`Snapshots`] says which new shapes share a snapshot, and what is done with it. A [`Follower`] keeps the shapes of a
//! folder that another process writes to.

mod checkpoint;
#[cfg(test)]
mod checkpoint_tests;
pub mod compaction;
#[cfg(test)]
mod compaction_tests;
mod effect;
mod file_work;
mod follower;
pub mod limits;
mod logs;
mod new_shapes;
mod snapshot_queue;
mod snapshot_run;
mod tails;
#[cfg(test)]
mod tests;
mod tracked;
mod visibility;
mod writer;
#[cfg(test)]
mod writer_tests;

pub use effect::{Effect, NamedShape, ShapeIdentity, SharedShape};
pub use file_work::{Piece, Report, SegmentSync, SegmentWork, TailWrite};
pub use follower::{Followed, FollowedFiles, Follower};
pub use limits::Limits;
pub use logs::Logs;
pub use new_shapes::{NewShapes, NewShapesAnswer};
pub use snapshot_queue::SnapshotLimits;
pub use snapshot_run::{RunId, SnapshotStep, Snapshots, WrittenSnapshot};
pub use writer::{Progress, Question, Writer};
