//! Facts about Postgres that the rest of core relies on: relations, type oids, text formats.

pub mod copy;
pub mod oid;
pub mod relation;

pub use relation::{Column, QualifiedName, Relation};
