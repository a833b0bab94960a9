//! Checkpoints: everything that is true at the beginning of a commit log file.

use super::record::CreatedShape;
use super::tables::{StoredTable, TableRef, Tables};
use crate::log::shape_log::Checkpoint;
use crate::pg::{Relation, SnapshotFilter};
use crate::shape::dependent::DependentState;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use std::cell::RefCell;
use std::sync::Arc;

/// Everything that is true at the beginning of a commit log file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoreCheckpoint {
    /// The commit LSN of the last transaction before.
    pub processed: u64,
    /// The newest time that a handle carries, also of shapes that are gone: clients and caches still know them.
    #[serde(default)]
    pub last_handle_us: u64,
    /// Every shape; one without a filter is lost unless the end of its snapshot follows.
    pub shapes: Vec<ShapeCheckpoint>,
    /// The tables that they name by numbers.
    #[serde(default)]
    pub tables: Vec<StoredTable>,
}

/// One shape at the beginning of a commit log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeCheckpoint<T = TableRef> {
    /// The record with which the shape began.
    pub created: CreatedShape<T>,
    /// The transactions that its snapshot holds; absent while the snapshot is not durable.
    pub filter: Option<SnapshotFilter>,
    /// Its log.
    pub log: Checkpoint,
    /// Whether the stream has come up to its snapshot; where not, [`Record::Joined`](super::Record::Joined) follows once
    /// it has.
    #[serde(default)]
    pub is_joined: bool,
    /// The results of its subqueries, where it has some.
    #[serde(default, skip_serializing_if = "DependentState::is_default")]
    pub dependent: DependentState,
}

impl<T> ShapeCheckpoint<T> {
    /// The same with its tables told in another way; `None` where one cannot be.
    pub fn map_tables<U>(self, told: impl FnMut(T) -> Option<U>) -> Option<ShapeCheckpoint<U>> {
        let Self { created, filter, log, is_joined, dependent } = self;
        Some(ShapeCheckpoint { created: created.map_tables(told)?, filter, log, is_joined, dependent })
    }
}

/// A [`StoreCheckpoint`] that is made while it is written: all shapes at once would take memory for a copy of each.
pub(super) struct Streamed<'a, S> {
    processed: u64,
    last_handle_us: u64,
    shapes: RefCell<Numbered<'a, S>>,
}

impl<'a, S> Streamed<'a, S> {
    pub(super) const fn new(processed: u64, last_handle_us: u64, shapes: S, tables: &'a mut Tables) -> Self {
        Self { processed, last_handle_us, shapes: RefCell::new(Numbered { shapes, tables }) }
    }
}

impl<S: Iterator<Item = ShapeCheckpoint<Arc<Relation>>>> Serialize for Streamed<'_, S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let mut out = serializer.serialize_struct("StoreCheckpoint", 4)?;
        out.serialize_field("processed", &self.processed)?;
        out.serialize_field("last_handle_us", &self.last_handle_us)?;
        out.serialize_field("shapes", &Each(&self.shapes))?;
        // Behind the shapes, which may be the first to name a table.
        out.serialize_field("tables", &self.shapes.borrow().tables.stored().collect::<Vec<_>>())?;
        out.end()
    }
}

/// Shapes whose tables are named by numbers.
struct Numbered<'a, S> {
    shapes: S,
    tables: &'a mut Tables,
}

impl<S: Iterator<Item = ShapeCheckpoint<Arc<Relation>>>> Iterator for Numbered<'_, S> {
    type Item = ShapeCheckpoint;

    fn next(&mut self) -> Option<ShapeCheckpoint> {
        let Self { shapes, tables } = self;
        shapes.next()?.map_tables(|relation| Some(TableRef::Number(tables.refer(&relation).0)))
    }
}

struct Each<'a, I>(&'a RefCell<I>);

impl<I: Iterator<Item: Serialize>> Serialize for Each<'_, I> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        serializer.collect_seq(&mut *self.0.borrow_mut())
    }
}
