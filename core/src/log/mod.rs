//! Shape logs: what one shape's clients read, kept as the very bytes that go on the wire.

pub mod item;
pub mod record;
pub mod shape_log;
pub mod snapshot;

pub use item::ItemFormat;
pub use shape_log::{Read, ShapeLog};
pub use snapshot::{SnapshotBounds, SnapshotFilter};
