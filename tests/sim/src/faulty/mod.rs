//! The ports of the origin, and core's writer, each with what a planted bug changes on the way. Where none is planted, all
//! of it goes through unchanged.

mod session;
mod shape;
mod start;
mod stream;
mod writer;

pub use session::{MoveSession, Session};
pub use shape::Shape;
pub use start::{recover, start_commit_log};
pub use stream::keepalive;
pub use writer::Writer;
