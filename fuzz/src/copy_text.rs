//! COPY's text format: rows do not depend on where the stream was cut into chunks.

use limn_core::pg::copy::{CopyDecoder, CopyError};

/// A row's cells, `None` being NULL.
type Row = Vec<Option<Vec<u8>>>;

/// The first byte of `data` is the size of the chunks, the rest the stream.
pub fn check(data: &[u8]) {
    let Some((&chunk_bytes, stream)) = data.split_first() else { return };
    let whole = decode([stream].into_iter());
    let pieces = decode(stream.chunks(usize::from(chunk_bytes).max(1)));
    assert_eq!(whole, pieces);
}

/// The rows, and how the stream ended.
fn decode<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Row>, Result<(), CopyError>) {
    let (mut decoder, mut rows) = (CopyDecoder::new(), Vec::new());
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next_row() {
                Ok(Some(row)) => rows.push(row.cells().map(|cell| cell.map(<[u8]>::to_vec)).collect()),
                Ok(None) => break,
                Err(error) => return (rows, Err(error)),
            }
        }
    }
    (rows, decoder.finish())
}
