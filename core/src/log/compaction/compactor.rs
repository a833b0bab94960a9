//! The items of a segment, passed through once.

use super::item::{Change, NotAChange, Operation, split_suffix};
use super::{Draft, Plan};
use crate::log::item::{ITEM_SUFFIX, LAST_SUFFIX};
use crate::log::segment::encode_entry;
use crate::log::shape_log::{ChunkEnd, Chunks, Mark};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Bytes of a window beyond which it ends, however long chunks may be: so much is in memory.
pub const WINDOW_BYTES_MAX: u64 = 8 << 20;
/// What an item takes in memory besides its bytes.
const KEPT_BYTES: u64 = 96;

/// Writes a segment anew.
///
/// Order of calls: [`push`](Self::push) for every item in order, each time followed by
/// [`take_written`](Self::take_written); then [`finish`](Self::finish).
#[derive(Debug)]
pub struct Compactor {
    plan: Plan,
    window_bytes_max: u64,
    window: Window,
    /// The ends of chunks that are still to come.
    stops: VecDeque<ChunkEnd>,
    /// The transaction at hand, where a reply has ended, or will end, in the midst of it.
    divided: Option<u64>,
    chunks: Chunks,
    items: u64,
    written: Written,
}

/// Bytes to be written behind what was written before.
#[derive(Debug, Default)]
pub struct Written {
    /// To the file of items.
    pub items: Vec<u8>,
    /// To the index.
    pub entries: Vec<u8>,
    /// Where `items` ends in its file.
    end: u64,
}

/// The items at hand.
#[derive(Debug, Default)]
struct Window {
    /// What is left, by its order.
    kept: BTreeMap<u64, Kept>,
    next: u64,
    /// The last update of a row, which the next one takes in.
    updates: HashMap<Box<str>, u64>,
    bytes: u64,
}

#[derive(Debug)]
struct Kept {
    tx: u64,
    op: u64,
    /// The item but for its end.
    body: Vec<u8>,
    is_last: bool,
}

impl Compactor {
    /// Nothing is passed yet. `stops` are the ends of the old segment's closed chunks.
    #[must_use]
    pub fn new(plan: Plan, stops: Vec<ChunkEnd>) -> Self {
        Self {
            plan,
            window_bytes_max: plan.chunk_bytes_max.min(WINDOW_BYTES_MAX),
            window: Window::default(),
            stops: stops.into(),
            divided: None,
            chunks: Chunks::new(plan.chunk_bytes_max),
            items: 0,
            written: Written::default(),
        }
    }

    /// Takes the next item, which begins behind its comma.
    ///
    /// # Errors
    /// Where it is not a change of a row.
    pub fn push(&mut self, (tx, op): (u64, u64), item: &[u8]) -> Result<(), NotAChange> {
        self.end_full_window(tx);
        let change = Change::read(item)?;
        let operation = change.operation()?;
        let key = change.key.get();
        let (body, is_last) = split_suffix(item);
        let mut kept = Kept { tx, op, body: body.to_vec(), is_last };
        let earlier = self.window.updates.remove(key);
        // An update before a delete stays: with `replica=full` a delete tells the row as it was.
        let earlier = earlier.filter(|_| operation == Operation::Update);
        if let Some(earlier) = earlier.and_then(|number| self.window.take(number)) {
            let whole = [&earlier.body, ITEM_SUFFIX].concat();
            kept.body = change.merged(&Change::read(&whole)?)?;
        }
        // The end of a transaction that is divided is not to be lost: a client may have its beginning.
        let is_pinned = is_last && self.divided == Some(tx);
        while let Some(stop) = self.stops.pop_front_if(|stop| (stop.tx, stop.op) <= (tx, op)) {
            if !is_last && (stop.tx, stop.op) == (tx, op) {
                self.divided = Some(tx);
            }
        }
        let number = self.window.push(kept);
        if operation == Operation::Update && !is_pinned {
            self.window.updates.insert(key.into(), number);
        }
        Ok(())
    }

    /// The bytes that are to be written now.
    pub fn take_written(&mut self) -> Written {
        let end = self.written.end;
        std::mem::replace(&mut self.written, Written { end, ..Written::default() })
    }

    /// The new segment. What is left of the last window is the beginning of a chunk that goes on.
    pub fn finish(mut self) -> (Written, Draft) {
        self.write_window();
        let (bytes, items) = (self.written.end, self.items);
        (self.written, Draft { plan: self.plan, bytes, items, chunks: self.chunks })
    }

    /// Ends the window where it is full: at the end of a transaction, or within one that alone is too large.
    fn end_full_window(&mut self, next_tx: u64) {
        let Some((_, last)) = self.window.kept.last_key_value() else { return };
        let (bytes, is_divided) = (self.window.bytes, last.tx == next_tx);
        if bytes < self.window_bytes_max || is_divided && bytes < 2 * self.window_bytes_max {
            return;
        }
        if is_divided {
            self.divided = Some(next_tx);
        }
        if let Some(end) = self.write_window() {
            self.chunks.close(end);
        }
    }

    /// Writes what is left of the window, and gives its end.
    fn write_window(&mut self) -> Option<Mark> {
        let mut kept = std::mem::take(&mut self.window).kept.into_values().peekable();
        let mut end = None;
        // No reply may end inside of a window.
        while let Some(Kept { tx, op, body, is_last }) = kept.next() {
            let is_last = kept.peek().map_or(is_last, |next| next.tx != tx);
            let suffix = if is_last { LAST_SUFFIX } else { ITEM_SUFFIX };
            let written = &mut self.written;
            let length = (body.len() + suffix.len()) as u64;
            written.items.push(b',');
            written.items.extend_from_slice(&body);
            written.items.extend_from_slice(suffix);
            written.end += 1 + length;
            let mark = Mark { tx, op, end: written.end };
            encode_entry(&mut written.entries, mark);
            self.items += 1;
            self.chunks.grow(length);
            end = Some(mark);
        }
        end
    }
}

impl Window {
    fn push(&mut self, kept: Kept) -> u64 {
        let number = self.next;
        self.next += 1;
        self.bytes += kept.bytes();
        self.kept.insert(number, kept);
        number
    }

    fn take(&mut self, number: u64) -> Option<Kept> {
        let kept = self.kept.remove(&number)?;
        self.bytes -= kept.bytes();
        Some(kept)
    }
}

impl Kept {
    const fn bytes(&self) -> u64 {
        self.body.len() as u64 + KEPT_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Offset;
    use crate::log::compaction::{Cut, SegmentStart};
    use crate::log::segment::{ENTRY_BYTES, decode_entry};
    use serde_json::{Value, json};
    use std::collections::BTreeMap as Map;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// The changes of a log, each with its place.
    type Changes = Vec<((u64, u64), Value)>;

    fn change((tx, op): (u64, u64), row: u64, value: &Value, operation: &str, is_last: bool) -> Value {
        let mut headers = json!({ "operation": operation, "lsn": tx.to_string(), "op_position": op });
        if is_last {
            headers["last"] = json!(true);
        }
        json!({ "key": row.to_string(), "value": value, "headers": headers })
    }

    /// Random transactions on few rows.
    fn history(seed: u64) -> Changes {
        let mut state = seed;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut rows, mut changes) = (Map::new(), Vec::new());
        for tx in 1..60 {
            let count = 1 + random(5);
            for op in 0..count {
                let (row, column) = (random(4), ["a", "b", "c"][random(3) as usize]);
                let is_there = rows.get(&row).copied().unwrap_or_default();
                let (operation, value) = match (is_there, random(6)) {
                    (false, _) => ("insert", json!({ "id": row, "a": tx, "b": op, "c": 0 })),
                    (true, 0) => ("delete", json!({ "id": row })),
                    (true, _) => ("update", json!({ "id": row, column: format!("{tx}.{op}") })),
                };
                rows.insert(row, operation != "delete");
                changes.push(((tx, op), change((tx, op), row, &value, operation, op + 1 == count)));
            }
        }
        changes
    }

    /// Compacts a log, and gives what is left with the offsets at which replies end.
    fn compacted(changes: &Changes, chunk_bytes_max: u64) -> (Changes, Vec<(u64, u64)>) {
        compacted_with(changes, chunk_bytes_max, &[])
    }

    /// The same, where replies have ended at some of the changes before.
    fn compacted_with(
        changes: &Changes,
        chunk_bytes_max: u64,
        stops: &[(u64, u64)],
    ) -> (Changes, Vec<(u64, u64)>) {
        let stops = stops.iter().map(|(tx, op)| ChunkEnd { tx: *tx, op: *op, end: 0 }).collect();
        let encode = |value: &Value| {
            let [key, row] = [&value["key"], &value["value"]];
            let headers = value["headers"].to_string();
            // Headers come last, and the mark of the last item last of all.
            let headers = headers.replace("\"last\":true,", "");
            let end = if value["headers"]["last"] == true { ",\"last\":true}}" } else { "}}" };
            format!("{{\"key\":{key},\"value\":{row},\"headers\":{}{end}", &headers[..headers.len() - 1])
        };
        let items: Vec<String> = changes.iter().map(|(_, value)| encode(value)).collect();
        let byte = items.iter().map(|item| item.len() as u64 + 1).sum();
        let cut = Cut { byte, item: items.len() as u64 };
        let mut compactor =
            Compactor::new(Plan { start: SegmentStart::default(), cut, chunk_bytes_max }, stops);
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        let mut take = |written: Written| {
            bytes.extend(written.items);
            entries.extend(written.entries);
        };
        for ((place, _), item) in changes.iter().zip(&items) {
            compactor.push(*place, item.as_bytes()).unwrap();
            take(compactor.take_written());
        }
        let (written, draft) = compactor.finish();
        take(written);
        assert_eq!((bytes.len() as u64, entries.len() as u64 / 24), (draft.bytes, draft.items));
        let mut left = Vec::new();
        let mut begin = 0;
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let mark = decode_entry(entry.try_into().unwrap());
            let end = usize::try_from(mark.end).unwrap();
            left.push(((mark.tx, mark.op), serde_json::from_slice(&bytes[begin + 1..end]).unwrap()));
            begin = end;
        }
        let last = changes.last().map(|(place, _)| *place);
        (left, draft.chunks.closed().iter().map(|end| (end.tx, end.op)).chain(last).collect())
    }

    /// The rows of a client that goes on behind `after`; it takes no change that does not fit what it has.
    fn follow(rows: &mut Map<String, Value>, changes: &Changes, after: Offset, up_to: (u64, u64)) {
        let behind = |(tx, op): (u64, u64)| Offset::new(tx, op) > after && (tx, op) <= up_to;
        for (place, change) in changes.iter().filter(|(place, _)| behind(*place)) {
            let key = change["key"].to_string();
            match change["headers"]["operation"].as_str().unwrap() {
                "insert" => assert_eq!(rows.insert(key, change["value"].clone()), None, "{place:?}"),
                "delete" => assert!(rows.remove(&key).is_some(), "{place:?}"),
                _ => {
                    let row = rows.get_mut(&key).expect("an update of a row that is there");
                    let changed = change["value"].as_object().unwrap().clone();
                    row.as_object_mut().unwrap().extend(changed);
                }
            }
        }
    }

    #[test]
    fn replies_of_both_logs_can_follow_each_other() {
        for seed in 0..12 {
            let whole = history(seed);
            let last = whole.last().unwrap().0;
            for chunk_bytes_max in [1, 400, 2_000, 1_000_000] {
                let (left, stops) = compacted(&whole, chunk_bytes_max);
                let is_shorter = left.len() < whole.len();
                assert!(is_shorter || chunk_bytes_max < 2_000, "{seed} {chunk_bytes_max}");
                let mut expected = Map::new();
                follow(&mut expected, &whole, Offset::SNAPSHOT_END, last);
                // A client reads the one log up to any place where replies end, and goes on in the other.
                let ends = whole.iter().map(|(place, _)| (*place, &whole, &left));
                let turns = ends.chain(stops.iter().map(|stop| (*stop, &left, &whole)));
                for (stop, first, second) in turns {
                    let mut rows = Map::new();
                    follow(&mut rows, first, Offset::SNAPSHOT_END, stop);
                    follow(&mut rows, second, Offset::new(stop.0, stop.1), last);
                    assert_eq!(rows, expected, "{seed} {chunk_bytes_max} {stop:?}");
                }
            }
        }
    }

    #[test]
    fn each_transaction_ends_with_its_last_item() {
        for seed in 0..60 {
            for chunk_bytes_max in [1, 400, 2_000, 1_000_000] {
                let (left, _) = compacted(&history(seed), chunk_bytes_max);
                for (index, ((tx, _), change)) in left.iter().enumerate() {
                    let is_last = left.get(index + 1).is_none_or(|((next, _), _)| next != tx);
                    assert_eq!(change["headers"]["last"] == true, is_last, "{seed} {chunk_bytes_max} {tx}");
                }
            }
        }
    }

    #[test]
    fn a_transaction_in_which_a_reply_has_ended_keeps_its_end() {
        for seed in 0..60 {
            let whole = history(seed);
            let divides = |place: &&((u64, u64), Value)| place.1["headers"]["last"] != true;
            let stops: Vec<(u64, u64)> =
                whole.iter().filter(divides).step_by(7).map(|(place, _)| *place).collect();
            let (left, _) = compacted_with(&whole, 1_000_000, &stops);
            for (tx, _) in stops {
                let last = left.iter().rfind(|((other, _), _)| *other == tx).expect("its end is left");
                assert_eq!(last.1["headers"]["last"], true, "{seed} {tx}");
                let whole_last = whole.iter().rfind(|((other, _), _)| *other == tx).unwrap();
                assert_eq!(last.0, whole_last.0);
            }
        }
    }

    #[test]
    fn one_update_of_a_row_is_left() {
        let update = |tx| ((tx, 0), change((tx, 0), 1, &json!({ "id": 1, "n": tx }), "update", true));
        let (left, stops) = compacted(&(1..=2_000).map(update).collect(), 10 << 20);
        assert_eq!((left, stops), (vec![update(2_000)], vec![(2_000, 0)]));
    }

    #[test]
    fn memory_is_bounded_by_the_window() {
        let long = "x".repeat(10_000);
        let insert = |tx: u64| change((tx, 0), tx, &json!({ "id": long }), "insert", true).to_string();
        let plan = Plan {
            start: SegmentStart::default(),
            cut: Cut { byte: u64::MAX, item: u64::MAX },
            chunk_bytes_max: 10 << 30,
        };
        let mut compactor = Compactor::new(plan, Vec::new());
        let mut most = 0;
        for tx in 0..2_000 {
            compactor.push((tx, 0), insert(tx).as_bytes()).unwrap();
            most = most.max(compactor.window.bytes);
            compactor.take_written();
        }
        assert!((WINDOW_BYTES_MAX..WINDOW_BYTES_MAX + 11_000).contains(&most), "{most}");
    }
}
