//! Changes that only Postgres can judge: the clause is beyond what core evaluates exactly.
//!
//! They are gathered while a transaction is read, and asked about in batches, in order, before the stream goes
//! on: slower than a filter of core's own, and never wrong.

use super::held_row::HeldRow;
use super::row::Row;
use crate::ShapeId;
use crate::filter::PostgresFilter;
use crate::log::item::ChangePosition;
use crate::pg::Row as _;
use std::collections::BTreeMap;

/// Bytes of rows that are gathered before Postgres is asked.
pub const ASKED_BYTES_MAX: usize = 1 << 20;

/// The changes that wait, in order, for each shape.
#[derive(Debug, Default)]
pub(super) struct Asked {
    shapes: BTreeMap<ShapeId, Vec<AskedChange>>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct AskedChange {
    pub(super) at: ChangePosition,
    pub(super) old: Option<HeldRow>,
    pub(super) new: Option<HeldRow>,
}

/// A question to Postgres: whether each of some rows satisfies a shape's clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsQuestion {
    /// The shape.
    pub id: ShapeId,
    /// One query, with a parameter of type `text[]` for each column; gives one boolean a row, in order.
    pub sql: String,
    /// The values of the columns that the clause reads, one list for each, as long as there are rows.
    pub columns: Vec<Vec<Option<String>>>,
}

impl RowsQuestion {
    /// How many rows it asks about.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }
}

impl Asked {
    pub(super) fn push(
        &mut self,
        id: ShapeId,
        old: Option<&Row<'_>>,
        new: Option<&Row<'_>>,
        at: ChangePosition,
    ) {
        let hold = |row: &Row<'_>| HeldRow::new(row.cells.len(), row);
        let change = AskedChange { at, old: old.map(hold), new: new.map(hold) };
        self.bytes += change.rows().map(HeldRow::len_bytes).sum::<usize>();
        self.shapes.entry(id).or_default().push(change);
    }

    pub(super) const fn len_bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    pub(super) fn ids(&self) -> Vec<ShapeId> {
        self.shapes.keys().copied().collect()
    }

    /// The question about what waits for a shape: old row before new row, change by change.
    pub(super) fn question(&self, id: ShapeId, filter: &PostgresFilter, sql: String) -> RowsQuestion {
        let mut columns = vec![Vec::new(); filter.columns().len()];
        for row in self.shapes.get(&id).into_iter().flatten().flat_map(AskedChange::rows) {
            let cells = row.row();
            for (values, column) in columns.iter_mut().zip(filter.columns()) {
                values.push(cells.text(*column).map(|text| String::from_utf8_lossy(text).into_owned()));
            }
        }
        RowsQuestion { id, sql, columns }
    }

    /// Takes out the changes that wait for a shape.
    pub(super) fn take(&mut self, id: ShapeId) -> Vec<AskedChange> {
        let changes = self.shapes.remove(&id).unwrap_or_default();
        let bytes = changes.iter().flat_map(AskedChange::rows).map(HeldRow::len_bytes).sum::<usize>();
        self.bytes = self.bytes.saturating_sub(bytes);
        changes
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl AskedChange {
    fn rows(&self) -> impl Iterator<Item = &HeldRow> {
        [&self.old, &self.new].into_iter().flatten()
    }
}
