//! Following a shape from outside: requests to send, replies understood, rows kept.
//!
//! [`ShapeStream`] says which request to send next and turns replies into [`Event`]s; [`Rows`] folds
//! events into the shape's rows. Both are driven by their owner: bytes, the time and random numbers go
//! in, values come out.

mod exchange;
mod membership;
mod message;
mod options;
mod retry;
mod rows;
mod standstill;
mod stream;

pub use exchange::{Moment, Request, Response};
pub use membership::{MemberMove, Tags};
pub use message::{Change, DecodeError, Message, Operation, Row};
pub use options::{LogMode, OptionsError, Start, StreamOptions};
pub use rows::{ChangeSet, Rows, RowsError};
pub use stream::{Event, Poll, ShapeStream, Status, StreamError};
