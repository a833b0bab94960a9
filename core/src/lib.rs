//! Every decision that Limn takes, without IO, clock or async.
//!
//! Modules are listed in their order: each imports only modules that stand before it (`client` none but the
//! positions). [`pgoutput`] decodes Postgres's replication stream, [`shape`] routes its changes to shapes and encodes
//! them for the shape logs of [`log`], [`journal`] is the commit log that makes them durable; [`protocol`] parses
//! requests and builds replies, [`client`] follows a shape. Inputs are `handle_*` calls with bytes and times, outputs
//! are values.

pub mod handle;
pub mod lsn;
mod named_enum;
pub mod offset;
mod shape_id;

pub mod pg;
pub mod pgoutput;

pub mod filter;
pub mod protocol;

pub mod log;
pub mod shape;

pub mod journal;

pub mod client;

pub use handle::Handle;
pub use lsn::Lsn;
pub use offset::{Offset, Op};
pub use shape_id::ShapeId;
