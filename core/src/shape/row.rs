//! One row of a change, as the filters and the encoder read it.

use crate::pg;

/// A row by position in the relation's description; a value that is missing reads as NULL.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) cells: Vec<Option<&'a [u8]>>,
}

impl pg::Row for Row<'_> {
    fn text(&self, column: usize) -> Option<&[u8]> {
        self.cells.get(column).copied().flatten()
    }
}
