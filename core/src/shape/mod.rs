//! Shapes: what they are, and which changes belong to them.

pub mod asked;
#[cfg(test)]
mod asked_tests;
pub mod definition;
pub mod dependent;
mod drop_cause;
mod encode;
mod generated;
mod held_row;
pub mod id;
mod net;
#[cfg(test)]
mod net_tests;
pub mod router;
mod routing;
pub mod schema_header;
pub mod subset;
mod table;
#[cfg(test)]
mod tests;
pub mod typescript;
mod waiting;

pub use definition::{Definition, Projection};
pub use drop_cause::DropCause;
pub use generated::GeneratedColumns;
pub use id::ShapeId;
pub use router::{Described, RotationCause, RouteError, Router, Step};
pub use schema_header::schema_header;
pub use subset::SubsetQuery;
