//! COPY text format: rows out of byte chunks of any size (the Postgres documentation, *COPY, Text
//! Format*).
//!
//! A row is a line; cells are separated by tabs; `\N` is NULL; control characters and the backslash
//! are escaped, so an unescaped line feed always ends a row. The decoder undoes the escapes in place
//! in its own buffer: a row costs no allocation.

use super::Row;
use memchr::{memchr, memchr2};
use std::ops::Range;

/// Postgres's own limit on a message: no row is longer.
pub const ROW_BYTES_MAX: usize = 1 << 30;

/// What the buffer may keep once a large row is gone.
const IDLE_BUFFER_BYTES_MAX: usize = 1 << 20;

/// The bytes are not what `COPY … TO STDOUT` writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// A row has not ended within the limit.
    #[error("a row of more than {limit} bytes")]
    RowTooLong {
        /// [`ROW_BYTES_MAX`]
        limit: usize,
    },
    /// A backslash is followed by something that Postgres never writes after one.
    #[error("unknown escape `\\{}`", .0.escape_ascii())]
    UnknownEscape(u8),
    /// A cell ends in a lone backslash.
    #[error("a cell ends in the middle of an escape")]
    EscapeEndsEarly,
    /// The stream ended inside a row.
    #[error("the copy ended inside a row, {0} bytes after its start")]
    EndsInsideRow(usize),
}

/// Splits a COPY stream into rows.
///
/// Call [`push`](Self::push) with each chunk, then [`next_row`](Self::next_row) until it says
/// `None`; after the last chunk, [`finish`](Self::finish).
#[derive(Debug, Default)]
pub struct CopyDecoder {
    buffer: Vec<u8>,
    /// Where the next row starts.
    start: usize,
    /// Up to where no line feed was found.
    searched: usize,
    /// The cells of the row handed out last, as ranges of `buffer`.
    cells: Vec<Option<Range<usize>>>,
}

/// One row, its escapes undone.
#[derive(Debug, Clone, Copy)]
pub struct CopyRow<'a> {
    buffer: &'a [u8],
    cells: &'a [Option<Range<usize>>],
}

impl CopyDecoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a chunk; it may end anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > IDLE_BUFFER_BYTES_MAX {
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete row, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// Where the bytes are not COPY's text format; the stream cannot be read further.
    pub fn next_row(&mut self) -> Result<Option<CopyRow<'_>>, CopyError> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(length) = memchr(b'\n', unsearched) else {
            self.searched = self.buffer.len();
            return self.check_length(self.searched).map(|()| None);
        };
        let row = self.start..self.searched + length;
        self.check_length(row.end)?;
        self.searched = row.end + 1;
        self.start = row.end + 1;
        self.split_cells(row)?;
        Ok(Some(CopyRow { buffer: &self.buffer, cells: &self.cells }))
    }

    /// Checks that the stream ended between two rows.
    ///
    /// # Errors
    /// [`CopyError::EndsInsideRow`]
    pub fn finish(&self) -> Result<(), CopyError> {
        match self.buffer.len() - self.start {
            0 => Ok(()),
            left => Err(CopyError::EndsInsideRow(left)),
        }
    }

    fn check_length(&self, end: usize) -> Result<(), CopyError> {
        if end - self.start > ROW_BYTES_MAX {
            return Err(CopyError::RowTooLong { limit: ROW_BYTES_MAX });
        }
        Ok(())
    }

    fn split_cells(&mut self, row: Range<usize>) -> Result<(), CopyError> {
        self.cells.clear();
        let mut at = row.start;
        loop {
            let rest = self.buffer.get_mut(at..row.end).expect("the row lies in the buffer");
            let (length, text) = take_cell(rest)?;
            self.cells.push(text.map(|text_length| at..at + text_length));
            at += length + 1;
            if at > row.end {
                return Ok(());
            }
        }
    }
}

impl<'a> CopyRow<'a> {
    /// A cell by its position: `None` for NULL, and for a position beyond the row.
    #[must_use]
    pub fn cell(&self, index: usize) -> Option<&'a [u8]> {
        self.text(self.cells.get(index)?.as_ref())
    }

    /// The cells in order: `None` for NULL.
    pub fn cells(self) -> impl ExactSizeIterator<Item = Option<&'a [u8]>> {
        self.cells.iter().map(move |range| self.text(range.as_ref()))
    }

    /// How many cells there are; a row of no columns counts as one empty cell.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.cells.len()
    }

    /// Never true: see [`len`](Self::len).
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    fn text(&self, range: Option<&Range<usize>>) -> Option<&'a [u8]> {
        self.buffer.get(range?.clone())
    }
}

/// The cell at the front of `rest`: how many bytes it takes up to its tab or the row's end, and how
/// many of them are its text once the escapes are undone (`None` for NULL).
/// A row of a query that selects some of a relation's columns, read by their positions in the relation.
#[derive(Debug, Clone, Copy)]
pub struct ProjectedRow<'a> {
    /// The row as it came.
    pub row: CopyRow<'a>,
    /// What [`places`](Self::places) gave for the query.
    pub places: &'a [Option<usize>],
}

impl ProjectedRow<'_> {
    /// For each of the relation's `width` columns, its place among the selected ones.
    #[must_use]
    pub fn places(selected: &[usize], width: usize) -> Vec<Option<usize>> {
        (0..width).map(|column| selected.iter().position(|selected| *selected == column)).collect()
    }
}

impl Row for ProjectedRow<'_> {
    fn text(&self, column: usize) -> Option<&[u8]> {
        self.row.cell((*self.places.get(column)?)?)
    }
}

fn take_cell(rest: &mut [u8]) -> Result<(usize, Option<usize>), CopyError> {
    let Some(plain) = memchr2(b'\t', b'\\', rest) else {
        return Ok((rest.len(), Some(rest.len())));
    };
    if rest.get(plain) == Some(&b'\t') {
        return Ok((plain, Some(plain)));
    }
    let length = memchr(b'\t', rest).unwrap_or(rest.len());
    let cell = rest.get_mut(..length).expect("the tab was found inside the row");
    if cell == b"\\N" {
        return Ok((length, None));
    }
    unescape(cell, plain).map(|text_length| (length, Some(text_length)))
}

/// Undoes the escapes of a cell whose first backslash is at `first`; returns the length left.
fn unescape(cell: &mut [u8], first: usize) -> Result<usize, CopyError> {
    let (mut from, mut to) = (first, first);
    while from < cell.len() {
        // `from` is at a backslash here, `to` never ahead of it.
        let &escaped = cell.get(from + 1).ok_or(CopyError::EscapeEndsEarly)?;
        if let Some(place) = cell.get_mut(to) {
            *place = unescaped(escaped)?;
        }
        from += 2;
        to += 1;
        let rest = cell.get(from..).unwrap_or_default();
        let plain = memchr(b'\\', rest).unwrap_or(rest.len());
        cell.copy_within(from..from + plain, to);
        from += plain;
        to += plain;
    }
    Ok(to)
}

const fn unescaped(escaped: u8) -> Result<u8, CopyError> {
    Ok(match escaped {
        b'\\' => b'\\',
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 0x08,
        b'f' => 0x0C,
        b'v' => 0x0B,
        unknown => return Err(CopyError::UnknownEscape(unknown)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    type Row = Vec<Option<Vec<u8>>>;

    fn rows(chunks: &[&[u8]]) -> Result<Vec<Row>, CopyError> {
        let mut decoder = CopyDecoder::new();
        let mut rows = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(row) = decoder.next_row()? {
                rows.push(row.cells().map(|cell| cell.map(<[u8]>::to_vec)).collect());
            }
        }
        decoder.finish().map(|()| rows)
    }

    fn row(cells: &[Option<&str>]) -> Row {
        cells.iter().map(|cell| cell.map(|text| text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn cells_are_null_empty_or_text() {
        assert_eq!(
            rows(&[b"1\t\\N\t\tx\n\\N\n\n"]),
            Ok(vec![row(&[Some("1"), None, Some(""), Some("x")]), row(&[None]), row(&[Some("")])])
        );
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(
            rows(&[b"a\\tb\\nc\\\\N\t\\\\\\\\\t\\b\\f\\v\\r\t\\\\N\n"]),
            Ok(vec![row(&[Some("a\tb\nc\\N"), Some("\\\\"), Some("\u{8}\u{c}\u{b}\r"), Some("\\N")])])
        );
    }

    #[test]
    fn cells_are_found_by_position() {
        let mut decoder = CopyDecoder::new();
        decoder.push(b"a\t\\N\tc\n");
        let row = decoder.next_row().expect("well-formed").expect("complete");
        assert_eq!(row.len(), 3);
        assert_eq!((row.cell(0), row.cell(1)), (Some(b"a".as_slice()), None));
        assert_eq!((row.cell(2), row.cell(3)), (Some(b"c".as_slice()), None));
    }

    #[test]
    fn a_row_may_span_chunks() {
        let whole = b"1\ta\\\\b\n2\t\\N\n";
        let expected = rows(&[whole]);
        for cut in 0..whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(rows(&[head, b"", tail]), expected, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(rows(&bytes), expected);
    }

    #[test]
    fn malformed_streams_are_errors() {
        assert_eq!(rows(&[b"a\\q\n"]), Err(CopyError::UnknownEscape(b'q')));
        assert_eq!(rows(&[b"a\\\n"]), Err(CopyError::EscapeEndsEarly));
        assert_eq!(rows(&[b"a\\\tb\n"]), Err(CopyError::EscapeEndsEarly));
        assert_eq!(rows(&[b"a\nbc"]), Err(CopyError::EndsInsideRow(2)));
    }

    #[test]
    fn room_for_a_large_row_is_given_back_once_it_was_read() {
        let capacity_after = |row_bytes: usize| {
            let mut decoder = CopyDecoder::new();
            let mut row = Vec::with_capacity(row_bytes);
            row.resize(row_bytes - 1, b'a');
            row.push(b'\n');
            decoder.buffer.reserve_exact(row_bytes);
            decoder.push(&row);
            assert!(decoder.next_row().unwrap().is_some());
            decoder.push(b"b");
            decoder.buffer.capacity()
        };
        assert_eq!(capacity_after(IDLE_BUFFER_BYTES_MAX), IDLE_BUFFER_BYTES_MAX);
        assert!(capacity_after(IDLE_BUFFER_BYTES_MAX + 1) < IDLE_BUFFER_BYTES_MAX);
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod random {
        use super::*;
        use proptest::prelude::*;

        /// What `CopyAttributeOutText` does.
        fn escape(cell: Option<&[u8]>) -> Vec<u8> {
            let Some(text) = cell else { return b"\\N".to_vec() };
            text.iter()
                .flat_map(|&byte| match byte {
                    b'\\' => b"\\\\".to_vec(),
                    b'\n' => b"\\n".to_vec(),
                    b'\t' => b"\\t".to_vec(),
                    b'\r' => b"\\r".to_vec(),
                    0x08 => b"\\b".to_vec(),
                    0x0C => b"\\f".to_vec(),
                    0x0B => b"\\v".to_vec(),
                    other => vec![other],
                })
                .collect()
        }

        fn text() -> impl Strategy<Value = Vec<u8>> {
            let byte = prop_oneof![any::<u8>(), prop::sample::select(b"\\\t\n\r\x08Nn".to_vec())];
            proptest::collection::vec(byte, 0..12)
        }

        proptest! {
            #[test]
            fn random_bytes_never_panic(
                chunks in proptest::collection::vec(text(), 0..6)
            ) {
                let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
                let _ = rows(&chunks);
            }

            #[test]
            fn rows_round_trip(
                table in proptest::collection::vec(
                    proptest::collection::vec(proptest::option::of(text()), 1..5), 0..5),
                chunk_bytes in 1..9_usize,
            ) {
                let mut stream = Vec::new();
                for row in &table {
                    let cells: Vec<_> = row.iter().map(|cell| escape(cell.as_deref())).collect();
                    stream.extend(cells.join(&b'\t'));
                    stream.push(b'\n');
                }
                let chunks: Vec<&[u8]> = stream.chunks(chunk_bytes).collect();
                prop_assert_eq!(rows(&chunks), Ok(table));
            }
        }
    }
}
