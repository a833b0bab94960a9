//! Shape logs: what one shape's clients read, kept as the very bytes that go on the wire.

pub mod fragment;
pub mod item;
pub mod recent_commits;
pub mod record;
pub mod replay;
pub mod segment;
pub mod shape_log;
pub mod snapshot;
pub mod snapshot_writer;
pub mod subset_writer;

pub use fragment::Fragment;
pub use item::ItemFormat;
pub use recent_commits::RecentCommits;
pub use record::Record;
pub use shape_log::{Read, ShapeLog};
pub use snapshot::{SnapshotBounds, SnapshotFilter};
pub use snapshot_writer::SnapshotWriter;
pub use subset_writer::SubsetWriter;
