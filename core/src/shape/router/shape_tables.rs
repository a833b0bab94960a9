//! The tables of each shape.

use crate::ShapeId;
use std::collections::HashMap;

/// The tables of each shape, by oid.
#[derive(Debug, Default)]
pub(super) struct ShapeTables {
    own: HashMap<ShapeId, u32>,
    /// The shape's own and those of its subqueries. Few shapes have any.
    all: HashMap<ShapeId, Box<[u32]>>,
}

impl ShapeTables {
    /// Makes room for so many further shapes.
    pub(super) fn reserve(&mut self, shapes: usize) {
        self.own.reserve(shapes);
    }

    /// Adds a shape of table `own`; `all` are its tables where it has subqueries.
    pub(super) fn insert(&mut self, id: ShapeId, own: u32, all: Box<[u32]>) {
        self.own.insert(id, own);
        if !all.is_empty() {
            self.all.insert(id, all);
        }
    }

    /// The shape's own table.
    pub(super) fn own(&self, id: ShapeId) -> Option<u32> {
        self.own.get(&id).copied()
    }

    /// Removes a shape, and names its tables.
    pub(super) fn remove(&mut self, id: ShapeId) -> Vec<u32> {
        let own = self.own.remove(&id);
        self.all.remove(&id).map_or_else(|| own.into_iter().collect(), Vec::from)
    }
}
