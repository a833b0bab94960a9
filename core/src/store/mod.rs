//! The write path: from messages of the replication stream to shape logs, the commit log and readers.
//!
//! [`Writer`] takes messages, snapshots, answers and ticks. It has its `Router` route them, and [`Logs`] decides what
//! becomes durable, visible and confirmed. Its owner carries out the [`Effect`]s, and asks Postgres its [`Question`]s.
//! [`Snapshots`] says which new shapes share a snapshot, and what is done with it. A [`Follower`] keeps the shapes of a folder that another
//! process writes to.

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
