//! Shapes: what they are, and which changes belong to them.

pub mod schema_header;

pub use schema_header::schema_header;
