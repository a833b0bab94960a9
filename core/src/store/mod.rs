//! The write path: from routed fragments to shape logs, the commit log and readers.
//!
//! [`Logs`] decides what becomes durable, visible and confirmed; its owner carries out the [`Effect`]s.

mod checkpoint;
mod effect;
pub mod limits;
mod logs;
mod tails;
#[cfg(test)]
mod tests;
mod tracked;
mod visibility;
mod writer;
#[cfg(test)]
mod writer_tests;

pub use effect::{Effect, SharedShape};
pub use limits::Limits;
pub use logs::Logs;
pub use writer::{Progress, Question, Writer};
