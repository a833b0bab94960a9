//! A shape's segment: one file of item bytes, and beside it an index with one entry per item.
//!
//! ```text
//! log   = { ',' item }*                      the bytes that go on the wire
//! index = { tx:u64 op:u64 end:u64 }*         little endian; `end` is the position behind the item in `log`
//! ```
//!
//! Entries have one size and rising offsets, so that an offset is found by bisection without reading the
//! index into memory. Both files are believed only up to the lengths that a checkpoint in the commit log
//! names; what lies beyond is overwritten at start-up, from the commit log.

use super::rope::Rope;
use super::shape_log::{Mark, ShapeLog};
use crate::Offset;

/// Size of an index entry.
pub const ENTRY_BYTES: usize = 24;

/// Bytes of a log's tail that are to be written behind a segment's end: the log itself is not needed, nor locked,
/// while it is written.
#[derive(Debug, Clone)]
pub struct SegmentAppend {
    /// Position of `items` in the file of items.
    pub items_at: u64,
    /// Items, each behind its comma.
    pub items: Rope,
    /// Position of `entries` in the index.
    pub entries_at: u64,
    /// The items' index entries.
    pub entries: Vec<u8>,
}

impl SegmentAppend {
    /// The finished items of a log's tail; `None` where there are none. Once they are written,
    /// [`ShapeLog::handle_flushed_to`] takes [`end`](Self::end).
    #[must_use]
    pub fn of(log: &ShapeLog) -> Option<Self> {
        let marks = log.flushable();
        let end = marks.last()?.end;
        let mut entries = Vec::with_capacity(marks.len() * ENTRY_BYTES);
        encode_entries(&mut entries, marks);
        let entries_at = log.flushed_items() * ENTRY_BYTES as u64;
        let items_at = log.flushed_bytes();
        Some(Self { items_at, items: log.tail_part(items_at..end), entries_at, entries })
    }

    /// Length of the file of items once they are written.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.items_at + self.items.len() as u64
    }
}

/// Appends the entries of `marks`.
pub fn encode_entries(out: &mut Vec<u8>, marks: &[Mark]) {
    for mark in marks {
        out.extend_from_slice(&mark.tx.to_le_bytes());
        out.extend_from_slice(&mark.op.to_le_bytes());
        out.extend_from_slice(&mark.end.to_le_bytes());
    }
}

/// Reads one entry.
#[must_use]
pub fn decode_entry(entry: &[u8; ENTRY_BYTES]) -> Mark {
    let number = |at: usize| {
        let bytes = entry.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(bytes.expect("an entry holds three numbers"))
    };
    Mark { tx: number(0), op: number(8), end: number(16) }
}

/// The byte position behind the last of `entries` items at or before `after`; 0 where there is none.
///
/// # Errors
/// Whatever `entry`, which reads entry number `n`, reports.
pub fn search<E>(
    entries: u64,
    after: Offset,
    mut entry: impl FnMut(u64) -> Result<Mark, E>,
) -> Result<u64, E> {
    let (mut low, mut high, mut position) = (0, entries, 0);
    while low < high {
        let middle = low + (high - low) / 2;
        let mark = entry(middle)?;
        if Offset::new(mark.tx, mark.op) <= after {
            position = mark.end;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn bisection_finds_what_a_scan_finds() {
        let marks: Vec<Mark> =
            (0..50_u64).map(|n| Mark { tx: 10 + n / 3 * 2, op: n % 3 * 2, end: (n + 1) * 100 }).collect();
        let mut bytes = Vec::new();
        encode_entries(&mut bytes, &marks);
        let entry = |n: u64| -> Result<Mark, Infallible> {
            let start = n as usize * ENTRY_BYTES;
            Ok(decode_entry(bytes[start..start + ENTRY_BYTES].try_into().unwrap()))
        };
        for tx in 8..50 {
            for op in 0..6 {
                let after = Offset::new(tx, op);
                let scanned = marks.iter().rfind(|mark| Offset::new(mark.tx, mark.op) <= after);
                let found = search(marks.len() as u64, after, entry).unwrap();
                assert_eq!(found, scanned.map_or(0, |mark| mark.end), "{after}");
            }
        }
    }
}
