//! A row as the filter, the encoder and the snapshot read it, whatever holds its cells.

/// A row in Postgres's text output.
pub trait Row {
    /// The text of the column at a position in table order; `None` for SQL NULL.
    fn text(&self, column: usize) -> Option<&[u8]>;
}
