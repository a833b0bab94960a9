//! Rows inside pgoutput messages: a count of columns, then for each one a kind and, for text, a
//! length and the bytes.

use super::DecodeError;
use super::decode::{COLUMNS_MAX, Reader};

/// A row's cells, checked when the message was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    columns: usize,
    cells: &'a [u8],
}

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// SQL's NULL.
    Null,
    /// A large value that the UPDATE did not touch: take it from the old tuple.
    UnchangedToast,
    /// The type's output text, in UTF-8.
    Text(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// How many cells there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.columns
    }

    /// True for a row without columns, which Postgres allows.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// The cells, in the order of the relation's columns.
    #[must_use]
    pub const fn iter(&self) -> Cells<'a> {
        Cells { left: self.columns, reader: Reader::new(self.cells) }
    }

    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let columns = usize::from(reader.u16()?);
        if columns > COLUMNS_MAX {
            return Err(DecodeError::TooManyColumns { count: columns, limit: COLUMNS_MAX });
        }
        let start = reader.rest();
        for _ in 0..columns {
            cell(reader)?;
        }
        let length = start.len() - reader.rest().len();
        let cells = start.get(..length).expect("the reader only moves forward");
        Ok(Self { columns, cells })
    }
}

impl<'a> IntoIterator for Tuple<'a> {
    type Item = Cell<'a>;
    type IntoIter = Cells<'a>;

    fn into_iter(self) -> Cells<'a> {
        self.iter()
    }
}

/// The cells of a [`Tuple`], in order.
#[derive(Debug, Clone)]
pub struct Cells<'a> {
    left: usize,
    reader: Reader<'a>,
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        self.left = self.left.checked_sub(1)?;
        cell(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Cells<'_> {}

fn cell<'a>(reader: &mut Reader<'a>) -> Result<Cell<'a>, DecodeError> {
    match reader.u8()? {
        b'n' => Ok(Cell::Null),
        b'u' => Ok(Cell::UnchangedToast),
        b't' => {
            let length = reader.length()?;
            Ok(Cell::Text(reader.bytes(length)?))
        }
        kind => Err(DecodeError::UnknownCell(kind)),
    }
}
