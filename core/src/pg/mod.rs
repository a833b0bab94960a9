//! Facts about Postgres that the rest of core relies on: relations, type oids, text formats.

pub mod copy;
pub mod oid;
pub mod relation;
pub mod typing;

pub use relation::{Column, QualifiedName, Relation};
pub use typing::{Collation, DomainBase, TypeKind, TypeParts, Typing};
