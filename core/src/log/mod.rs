//! Shape logs: what one shape's clients read, kept as the very bytes that go on the wire.

pub mod compaction;
pub mod fragment;
pub mod item;
pub mod reading;
pub mod rope;
pub mod segment;
pub mod shape_log;

pub use fragment::Fragment;
pub use item::ItemFormat;
pub use reading::{EventStream, Reading};
pub use rope::Rope;
pub use shape_log::{Clock, Read, ShapeLog};
