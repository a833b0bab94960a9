//! A shape's segment: one file of item bytes, and beside it an index with one entry per item.
//!
//! ```text
//! log   = { ',' item }*                      the bytes that go on the wire
//! index = { tx:u64 op:u64 end:u64 }*         little endian; `end` is the position behind the item in `log`
//! ```
//!
//! A log that was [compacted](super::compaction) has another segment, which begins further on in the change log; its files
//! have their generation in their names.
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
    /// The segment's generation.
    pub generation: u64,
    /// Position of `items` in the file of items.
    pub items_at: u64,
    /// Items, each behind its comma.
    pub items: Rope,
    /// Position of `entries` in the index.
    pub entries_at: u64,
    /// The items' index entries.
    pub entries: Vec<u8>,
    /// Byte position of the items' end in the change log.
    end: u64,
}

impl SegmentAppend {
    /// The finished items of a log's tail; `None` where there are none. Once they are written,
    /// [`ShapeLog::handle_flushed_to`] takes [`end`](Self::end).
    #[must_use]
    pub fn of(log: &ShapeLog) -> Option<Self> {
        let marks = log.flushable();
        let end = marks.last()?.end;
        let start = log.start();
        let mut entries = Vec::with_capacity(marks.len() * ENTRY_BYTES);
        marks.iter().for_each(|mark| encode_entry(&mut entries, start.in_segment(*mark)));
        let (items_at, items) = (log.flushed_bytes(), log.flushed_items());
        Some(Self {
            generation: start.generation,
            items_at: items_at - start.byte,
            items: log.tail_part(items_at..end),
            entries_at: (items - start.item) * ENTRY_BYTES as u64,
            entries,
            end,
        })
    }

    /// Byte position of the segment's end in the change log, once they are written.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }
}

/// Appends the entry of an item that ends at this byte of the file.
pub fn encode_entry(out: &mut Vec<u8>, mark: Mark) {
    out.extend_from_slice(&mark.tx.to_le_bytes());
    out.extend_from_slice(&mark.op.to_le_bytes());
    out.extend_from_slice(&mark.end.to_le_bytes());
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

/// The byte of the file behind the last of `entries` items at or before `after`; 0 where there is none.
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
        marks.iter().for_each(|mark| encode_entry(&mut bytes, *mark));
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
