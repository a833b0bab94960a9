//! Facts about Postgres that the rest of core relies on: relations, rows, type oids, snapshots, text formats.

pub mod copy;
pub mod oid;
pub mod relation;
mod row;
pub mod snapshot;
pub mod typing;

pub use relation::{Column, QualifiedName, Relation};
pub use row::Row;
pub use snapshot::{SnapshotBounds, SnapshotFilter};
pub use typing::{Collation, DomainBase, TypeKind, TypeParts, Typing};
