//! Shapes: what they are, and which changes belong to them.

pub mod definition;
pub mod dependent;
mod encode;
pub mod id;
pub mod router;
pub mod schema_header;
pub mod subset;
mod table;
#[cfg(test)]
mod tests;
pub mod typescript;
mod waiting;

pub use definition::{Definition, Projection};
pub use id::ShapeId;
pub use router::{RotationCause, RouteError, Router, Step};
pub use schema_header::schema_header;
pub use subset::SubsetQuery;
