//! A row that is kept until it can be judged.

use super::dependent::member::{Cells, push_cell};
use super::row::Row;
use crate::pg;

/// A row's cells, encoded like a member's.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct HeldRow(Box<[u8]>);

impl HeldRow {
    pub(super) fn new(width: usize, row: &impl pg::Row) -> Self {
        let mut bytes = Vec::new();
        (0..width).for_each(|column| push_cell(&mut bytes, row.text(column)));
        Self(bytes.into())
    }

    /// The row with all its cells.
    pub(super) fn of(row: &Row<'_>) -> Self {
        Self::new(row.cells.len(), row)
    }

    /// Bytes that it takes.
    pub(super) fn len_bytes(&self) -> usize {
        self.0.len()
    }

    /// The row, to be judged or encoded.
    pub(super) fn row(&self) -> Row<'_> {
        Row { cells: Cells(&self.0).collect() }
    }
}
