//! Every decision that Limn takes, without IO, clock or async.
//!
//! Modules are listed in the order in which data flows: Postgres's replication stream is decoded,
//! assembled into transactions, routed to shapes, encoded and appended to shape logs; requests are
//! parsed, answered from the logs, and followed by the client. Inputs are `handle_*` calls with bytes
//! and times, outputs are values.

pub mod handle;
pub mod lsn;
mod named_enum;
pub mod offset;

pub mod pg;
pub mod pgoutput;

pub mod filter;

pub mod shape;

pub mod flush;
pub mod log;

pub mod protocol;

pub mod client;

pub use handle::Handle;
pub use lsn::Lsn;
pub use offset::{Offset, Op};
