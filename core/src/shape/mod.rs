//! Shapes: what they are, and which changes belong to them.

pub mod definition;
pub mod dependent;
mod drop_cause;
mod encode;
mod filters;
mod generated;
mod held_row;
mod index;
mod net;
#[cfg(test)]
mod net_tests;
pub mod postgres_judged;
#[cfg(test)]
mod postgres_judged_tests;
pub mod rotation;
pub mod router;
mod routing;
mod row;
pub mod schema_header;
pub mod snapshot_writer;
pub mod subset;
pub mod subset_writer;
mod table;
#[cfg(test)]
pub(crate) mod tests;
pub mod typescript;
mod waiting;

pub use definition::{Definition, Projection, StoredResolver};
pub use drop_cause::DropCause;
pub use generated::GeneratedColumns;
pub use rotation::RotationCause;
pub use router::{Described, RouteError, Router, Step};
pub use schema_header::schema_header;
pub use snapshot_writer::SnapshotWriter;
pub use subset::SubsetQuery;
pub use subset_writer::SubsetWriter;
