//! The commit log's records.
//!
//! ```text
//! file    = frame*
//! frame   = length:u32 checksum:u64 payload        little endian; checksum = XXH3-64 of the payload
//! payload = kind:u8 body
//! items   = tx:u64 count:u32 { op:u64 shapes:u32 shape:u32* length:u32 bytes }*
//! commit  = tx:u64
//! packed  = see `packed`
//! move    = head_length:u32 head:JSON items
//! snapshot = head_length:u32 head:JSON bytes
//! others  = JSON
//! ```
//!
//! A file begins with a checkpoint: everything that is true at that point, given the segments. What
//! follows is replayed over it. Reading stops at the first frame that is cut off or damaged: it was never
//! reported as durable. Items count only up to the last commit (a transaction is whole or absent).

use super::checkpoint::StoreCheckpoint;
pub use super::created_shape::CreatedShape;
use super::kept_shape::KeptCheckpoint;
use super::packed::{Head, PackedCheckpoint, Packer};
use super::tables::{StoredTable, TableRef, Tables};
use crate::log::Rope;
use crate::log::compaction::Compacted;
use crate::log::fragment::Fragment;
use crate::log::shape_log::SnapshotProgress;
use crate::pg::SnapshotFilter;
use crate::shape::dependent::{Move, View, ViewChange};
use crate::{Lsn, ShapeId};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The largest payload that is written or believed: far above any fragment's size.
pub const RECORD_BYTES_MAX: usize = 2 << 30;

/// Bytes before a payload.
pub const FRAME_HEAD_BYTES: usize = 12;

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// The state at the beginning of the file, as older versions wrote it.
    Checkpoint(Box<StoreCheckpoint>),
    /// The state at the beginning of the file.
    Packed(PackedCheckpoint),
    /// A table that later records name by its number.
    Table(Box<StoredTable>),
    /// A shape was created; its snapshot is not there yet.
    Created(Box<CreatedShape<TableRef>>),
    /// A shape's snapshot is durable, at the latest with this record.
    SnapshotDone(SnapshotDone),
    /// The WAL was read up to a shape's snapshot.
    Joined(ShapeJoined),
    /// The tables whose rows a shape includes are others now.
    Partitions(ShapePartitions),
    /// A shape is gone.
    Removed(ShapeId),
    /// Items of a transaction.
    Items(Fragment),
    /// The transaction with this commit LSN is complete.
    Commit(u64),
    /// A whole transaction that one shape had to wait for (its snapshot was being taken).
    Backfill(Fragment),
    /// The results of a shape's subqueries in its snapshot.
    Views(ShapeViews),
    /// A move of a shape with subqueries: its items, the views that they lead to, and how far its log is visible once it has
    /// what follows.
    Move(Move),
    /// The commit LSN up to which a log is visible: later items wait for a move.
    Bound(ShapeBound),
    /// A shape's segment was written anew; its files are durable.
    Compacted(ShapeCompacted),
}

/// A shape's segment was written anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeCompacted {
    /// The shape.
    pub id: ShapeId,
    /// The new segment.
    pub segment: Compacted,
}

/// The tables below one that a shape reads, whose rows it includes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapePartitions {
    /// The shape.
    pub id: ShapeId,
    /// The table of a subquery; the shape's own where it is not told.
    #[serde(default)]
    pub table: Option<u32>,
    /// `pg_class.oid` of each, at any depth.
    pub partitions: Vec<u32>,
}

/// The results of a shape's subqueries in its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeViews {
    /// The shape.
    pub id: ShapeId,
    /// One view for each subquery.
    pub views: Vec<View>,
}

/// From here on a shape's log is as far as those of all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeJoined {
    /// The shape.
    pub id: ShapeId,
    /// The commit LSN of the last transaction that every shape shows.
    pub processed: u64,
}

/// The commit LSN up to which a shape's log is visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeBound {
    /// The shape.
    pub id: ShapeId,
    /// A commit LSN; `None` where the log is visible to its end.
    #[serde(with = "crate::lsn::stored_bound")]
    pub up_to: Option<Lsn>,
}

/// A move without its items.
#[derive(Serialize, Deserialize)]
struct MoveHead {
    id: ShapeId,
    consumed: u64,
    changes: Vec<ViewChange>,
    // The name that folders of older versions have. Before it there was none, and the log was visible to its end.
    #[serde(rename = "whole_up_to", with = "crate::lsn::stored_bound", default)]
    visible_up_to: Option<Lsn>,
}

/// The end of a shape's snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDone {
    /// The shape.
    pub id: ShapeId,
    /// Which transactions the snapshot holds.
    pub filter: SnapshotFilter,
    /// The snapshot's size and chunks.
    pub progress: SnapshotProgress,
    /// The bytes of a small snapshot, whose file was written and not synced; `None` where the file is durable.
    #[serde(skip)]
    pub content: Option<Vec<u8>>,
}

/// A frame that is whole, by its checksum, and still says nothing sensible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("damaged commit log record of kind {kind}: {reason}")]
pub struct RecordError {
    kind: u8,
    reason: String,
}

impl RecordError {
    fn cut_off(kind: u8) -> Self {
        Self { kind, reason: "body is cut off".to_owned() }
    }
}

const CHECKPOINT: u8 = 1;
const CREATED: u8 = 2;
const SNAPSHOT_DONE: u8 = 3;
const REMOVED: u8 = 4;
const ITEMS: u8 = 5;
const COMMIT: u8 = 6;
const BACKFILL: u8 = 7;
const PARTITIONS: u8 = 8;
const VIEWS: u8 = 9;
const MOVE: u8 = 10;
const BOUND: u8 = 11;
const JOINED: u8 = 12;
const SNAPSHOT: u8 = 13;
const TABLE: u8 = 14;
const COMPACTED: u8 = 15;
const PACKED: u8 = 16;

impl Record {
    /// Appends the record as a frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut rope = Rope::from(std::mem::take(out));
        self.encode_shared(&mut rope);
        *out = rope.into_vec();
    }

    /// The same; the bytes of long items are shared with the record.
    pub fn encode_shared(&self, out: &mut Rope) {
        match self {
            Self::Checkpoint(checkpoint) => encode_json(out, CHECKPOINT, checkpoint),
            Self::Packed(packed) => frame(out, PACKED, |out| packed.encode(out)),
            Self::Table(table) => encode_json(out, TABLE, table),
            Self::Created(created) => encode_json(out, CREATED, created),
            Self::SnapshotDone(done) => match &done.content {
                Some(content) => encode_snapshot(out, done, content),
                None => encode_json(out, SNAPSHOT_DONE, done),
            },
            Self::Partitions(partitions) => encode_json(out, PARTITIONS, partitions),
            Self::Removed(id) => encode_json(out, REMOVED, id),
            Self::Items(fragment) => encode_items(out, fragment),
            Self::Backfill(fragment) => encode_fragment(out, BACKFILL, fragment),
            Self::Commit(tx) => encode_commit(out, *tx),
            Self::Views(views) => encode_json(out, VIEWS, views),
            Self::Move(made) => encode_move(out, made),
            Self::Bound(bound) => encode_json(out, BOUND, bound),
            Self::Joined(joined) => encode_json(out, JOINED, joined),
            Self::Compacted(compacted) => encode_json(out, COMPACTED, compacted),
        }
    }

    /// Reads the payload of a record that says something of earlier ones; `None` for any other.
    pub(super) fn decode_if_surveyed(payload: &[u8]) -> Option<Self> {
        matches!(payload.first(), Some(&(COMMIT | REMOVED | COMPACTED)))
            .then(|| Self::decode(payload).ok())
            .flatten()
    }

    /// Reads the payload of a frame whose checksum held.
    ///
    /// # Errors
    /// Where the payload is not what its kind says.
    pub fn decode(payload: &[u8]) -> Result<Self, RecordError> {
        let (&kind, body) = payload
            .split_first()
            .ok_or_else(|| RecordError { kind: 0, reason: "empty payload".to_owned() })?;
        let cut_off = || RecordError::cut_off(kind);
        match kind {
            CHECKPOINT => decode_json(kind, body).map(Self::Checkpoint),
            PACKED => PackedCheckpoint::decode(body).map(Self::Packed).ok_or_else(cut_off),
            TABLE => decode_json(kind, body).map(Self::Table),
            CREATED => decode_json(kind, body).map(Self::Created),
            SNAPSHOT_DONE => decode_json(kind, body).map(Self::SnapshotDone),
            SNAPSHOT => decode_snapshot(kind, body).map(Self::SnapshotDone),
            REMOVED => decode_json(kind, body).map(Self::Removed),
            PARTITIONS => decode_json(kind, body).map(Self::Partitions),
            ITEMS => decode_fragment(body).map(Self::Items).ok_or_else(cut_off),
            BACKFILL => decode_fragment(body).map(Self::Backfill).ok_or_else(cut_off),
            VIEWS => decode_json(kind, body).map(Self::Views),
            MOVE => decode_move(kind, body).map(Self::Move),
            BOUND => decode_json(kind, body).map(Self::Bound),
            JOINED => decode_json(kind, body).map(Self::Joined),
            COMPACTED => decode_json(kind, body).map(Self::Compacted),
            COMMIT => Reader(body).u64().map(Self::Commit).ok_or_else(cut_off),
            _ => Err(RecordError { kind, reason: "unknown kind: written by a newer version?".to_owned() }),
        }
    }
}

/// Appends a [`Record::Packed`] as a frame, with all `tables`, among which those of the shapes will be.
pub fn encode_checkpoint<'a>(
    out: &mut Rope,
    (processed, last_handle_us): (u64, u64),
    shapes: impl Iterator<Item = KeptCheckpoint<'a>>,
    tables: &mut Tables,
) {
    frame(out, PACKED, |out| {
        let mut packer = Packer::begin(out, Head { processed, last_handle_us }, tables);
        shapes.for_each(|shape| packer.push(shape));
    });
}

/// Appends the items of a transaction as a frame, without taking them.
pub fn encode_items(out: &mut Rope, fragment: &Fragment) {
    encode_fragment(out, ITEMS, fragment);
}

/// Appends the end of a transaction as a frame.
pub fn encode_commit(out: &mut Rope, tx: u64) {
    frame(out, COMMIT, |out| out.extend_from_slice(&tx.to_le_bytes()));
}

/// The payload of the frame at the start of `bytes` and the frame's length; `None` where the frame is cut
/// off or its checksum does not hold.
#[must_use]
pub fn read_frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let mut reader = Reader(bytes);
    let length = reader.u32()? as usize;
    let checksum = reader.u64()?;
    let payload = reader.take(length)?;
    (xxh3_64(payload) == checksum).then_some((payload, FRAME_HEAD_BYTES + length))
}

/// The payload length that a frame's first four bytes announce.
#[must_use]
pub const fn payload_bytes(head: [u8; 4]) -> usize {
    u32::from_le_bytes(head) as usize
}

fn frame(out: &mut Rope, kind: u8, body: impl FnOnce(&mut Rope)) {
    let start = out.end();
    out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
    out.push(kind);
    body(out);
    let length = out.len_since(start) - FRAME_HEAD_BYTES;
    let length = u32::try_from(length).expect("fragments and checkpoints stay below 4 GiB");
    let checksum = out.checksum_since(start, FRAME_HEAD_BYTES);
    let head = out.own_since(start).get_mut(..FRAME_HEAD_BYTES).expect("the head was just written");
    let (length_bytes, checksum_bytes) = head.split_at_mut(4);
    length_bytes.copy_from_slice(&length.to_le_bytes());
    checksum_bytes.copy_from_slice(&checksum.to_le_bytes());
}

fn encode_json(out: &mut Rope, kind: u8, value: &impl Serialize) {
    frame(out, kind, |out| {
        serde_json::to_writer(out.end_mut(), value).expect("plain data always serialises");
    });
}

fn decode_json<T: for<'de> Deserialize<'de>>(kind: u8, body: &[u8]) -> Result<T, RecordError> {
    serde_json::from_slice(body).map_err(|error| RecordError { kind, reason: error.to_string() })
}

fn encode_fragment(out: &mut Rope, kind: u8, fragment: &Fragment) {
    frame(out, kind, |out| push_fragment(out, fragment));
}

fn push_fragment(out: &mut Rope, fragment: &Fragment) {
    out.extend_from_slice(&fragment.tx.to_le_bytes());
    push_count(out, fragment.items().len());
    for item in fragment.items() {
        out.extend_from_slice(&item.op.to_le_bytes());
        push_count(out, item.targets.len());
        for target in item.targets {
            out.extend_from_slice(&target.0.to_le_bytes());
        }
        push_count(out, item.bytes.len());
        match item.shared {
            Some(bytes) => out.push_shared(bytes.clone()),
            None => out.extend_from_slice(item.bytes),
        }
    }
}

fn encode_move(out: &mut Rope, made: &Move) {
    let Move { id, consumed, changes, visible_up_to, .. } = made;
    let head =
        MoveHead { id: *id, consumed: *consumed, changes: changes.clone(), visible_up_to: *visible_up_to };
    frame(out, MOVE, |out| {
        push_head(out, &head);
        push_fragment(out, &made.items);
    });
}

fn decode_move(kind: u8, body: &[u8]) -> Result<Move, RecordError> {
    let (head, items) = decode_head(kind, body)?;
    let items = decode_fragment(items).ok_or_else(|| RecordError::cut_off(kind))?;
    let MoveHead { id, consumed, changes, visible_up_to } = head;
    Ok(Move { id, consumed, changes, items, visible_up_to })
}

fn encode_snapshot(out: &mut Rope, done: &SnapshotDone, content: &[u8]) {
    frame(out, SNAPSHOT, |out| {
        push_head(out, done);
        out.extend_from_slice(content);
    });
}

fn decode_snapshot(kind: u8, body: &[u8]) -> Result<SnapshotDone, RecordError> {
    let (done, content): (SnapshotDone, _) = decode_head(kind, body)?;
    if content.len() as u64 != done.progress.bytes {
        return Err(RecordError::cut_off(kind));
    }
    Ok(SnapshotDone { content: Some(content.to_vec()), ..done })
}

fn push_head(out: &mut Rope, head: &impl Serialize) {
    let head = serde_json::to_vec(head).expect("plain data always serialises");
    push_count(out, head.len());
    out.extend_from_slice(&head);
}

/// The head of a body, and what follows it.
fn decode_head<T: for<'de> Deserialize<'de>>(kind: u8, body: &[u8]) -> Result<(T, &[u8]), RecordError> {
    let mut reader = Reader(body);
    let head = reader.u32().and_then(|length| reader.take(length as usize));
    let head = head.ok_or_else(|| RecordError::cut_off(kind))?;
    Ok((decode_json(kind, head)?, reader.0))
}

pub(super) fn push_count(out: &mut Rope, count: usize) {
    let count = u32::try_from(count).expect("a fragment is bounded");
    out.extend_from_slice(&count.to_le_bytes());
}

fn decode_fragment(body: &[u8]) -> Option<Fragment> {
    let mut reader = Reader(body);
    let mut fragment = Fragment::new(reader.u64()?);
    let mut targets = Vec::new();
    for _ in 0..reader.u32()? {
        let op = reader.u64()?;
        targets.clear();
        for _ in 0..reader.u32()? {
            targets.push(ShapeId(reader.u32()?));
        }
        let length = reader.u32()? as usize;
        fragment.push(op, reader.take(length)?, &targets);
    }
    reader.0.is_empty().then_some(fragment)
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::compaction::SegmentStart;
    use crate::log::rope::SHARED_BYTES_MIN;
    use crate::log::shape_log::{ChunkEnd, PackPlace};
    use crate::pg::{Relation, SnapshotBounds};
    use crate::shape::dependent::{DependentState, Member};
    use std::collections::BTreeMap;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn compacted() -> Compacted {
        let end = ChunkEnd { tx: 77, op: 2, end: 400 };
        let start = SegmentStart { generation: 2, byte: 100, item: 5 };
        Compacted { start, closed: vec![end], open_chunk_bytes: 0, end, items: 9 }
    }

    fn fragment() -> Fragment {
        let mut fragment = Fragment::new(77);
        fragment.push(0, b"{\"a\":1}", &[ShapeId(1), ShapeId(9)]);
        fragment.push(2, b"", &[]);
        fragment
    }

    fn member(text: Option<&str>) -> Member {
        Member::new([text.map(str::as_bytes)])
    }

    fn relation() -> Relation {
        CreatedShape::sample(ShapeId(7)).relation.as_ref().clone()
    }

    fn records() -> Vec<Record> {
        vec![
            Record::Checkpoint(Box::default()),
            Record::Items(fragment()),
            Record::Commit(77),
            Record::Backfill(fragment()),
            Record::Partitions(ShapePartitions { id: ShapeId(1), table: None, partitions: vec![16_400] }),
            Record::Views(ShapeViews { id: ShapeId(1), views: vec![View::from_iter([member(None)])] }),
            Record::Move(Move {
                id: ShapeId(1),
                consumed: 77,
                changes: vec![ViewChange { enter: vec![member(Some("ü"))], leave: vec![member(None)] }],
                items: fragment(),
                visible_up_to: Some(Lsn::new(90)),
            }),
            Record::Bound(ShapeBound { id: ShapeId(1), up_to: None }),
            Record::Joined(ShapeJoined { id: ShapeId(1), processed: 77 }),
            Record::Compacted(ShapeCompacted { id: ShapeId(1), segment: compacted() }),
            Record::Removed(ShapeId(4)),
            Record::Table(Box::new(StoredTable { number: 5, relation: relation() })),
            Record::Created(Box::new(CreatedShape {
                partitions: vec![3],
                inner_partitions: BTreeMap::from([(2, vec![4])]),
                ..CreatedShape::sample(ShapeId(7)).described()
            })),
            Record::Created(Box::new(CreatedShape {
                relation: TableRef::Number(5),
                inner: vec![TableRef::Number(6)],
                ..CreatedShape::sample(ShapeId(7)).described()
            })),
            Record::SnapshotDone(snapshot_done(None)),
            Record::SnapshotDone(snapshot_done(Some(b",{\"\xFF".to_vec()))),
        ]
    }

    fn snapshot_done(content: Option<Vec<u8>>) -> SnapshotDone {
        let pack = content.as_ref().map(|_| PackPlace { pack: 3, at: 70 });
        SnapshotDone {
            id: ShapeId(7),
            filter: SnapshotFilter { bounds: SnapshotBounds { xmin: 1, xmax: 3, xip: vec![2] }, ends_at: 9 },
            progress: SnapshotProgress { bytes: 4, chunk_ends: vec![4], complete: true, pack },
            content,
        }
    }

    #[test]
    fn records_round_trip_in_a_row() {
        let mut file = Vec::new();
        records().iter().for_each(|record| record.encode(&mut file));
        let mut rest = &file[..];
        let mut read = Vec::new();
        while let Some((payload, length)) = read_frame(rest) {
            assert_eq!(payload_bytes(*rest.first_chunk().unwrap()), payload.len());
            read.push(Record::decode(payload).unwrap());
            rest = &rest[length..];
        }
        assert_eq!(read, records());
        assert!(rest.is_empty());
    }

    #[test]
    fn a_record_shares_long_items_and_is_the_same_frame() {
        let mut items = fragment();
        items.push(4, &[b'x'; 2 * SHARED_BYTES_MIN], &[ShapeId(1)]);
        items.push(6, b"{}", &[ShapeId(2)]);
        let (mut frame, mut rope) = (b"before".to_vec(), Rope::from(b"before".to_vec()));
        for record in [Record::Items(items.clone()), Record::Commit(77), Record::Backfill(items.clone())] {
            record.encode(&mut frame);
            record.encode_shared(&mut rope);
        }
        assert_eq!(rope.to_vec(), frame);
        let place = items.items().find_map(|item| item.shared).unwrap().as_ptr();
        assert_eq!(rope.slices().filter(|slice| slice.as_ptr() == place).count(), 2);
        let (payload, _) = read_frame(&frame[6..]).unwrap();
        assert_eq!(Record::decode(payload), Ok(Record::Items(items)));
    }

    #[test]
    fn the_bound_of_a_log_has_the_name_that_folders_of_older_versions_have() {
        let stored = r#"{"consumed":0,"views":[],"whole_up_to":90}"#;
        let state: DependentState = serde_json::from_str(stored).unwrap();
        assert_eq!(
            (state.visible_up_to, serde_json::to_string(&state).unwrap()),
            (Some(Lsn::new(90)), stored.to_owned())
        );
        let mut frame = Vec::new();
        let [made] = &records()[6..7] else { panic!("one record") };
        made.encode(&mut frame);
        assert!(String::from_utf8_lossy(&frame).contains(r#""whole_up_to":90"#));
    }

    #[test]
    fn why_a_shape_was_removed_is_not_stored_so_causes_may_be_renamed() {
        let mut frame = Vec::new();
        Record::Removed(ShapeId(4)).encode(&mut frame);
        assert_eq!(&frame[FRAME_HEAD_BYTES..], b"\x044");
    }

    #[test]
    fn a_cut_or_changed_frame_is_not_believed() {
        let mut file = Vec::new();
        Record::Items(fragment()).encode(&mut file);
        for length in 0..file.len() {
            assert_eq!(read_frame(&file[..length]), None);
        }
        for position in 0..file.len() {
            let mut damaged = file.clone();
            damaged[position] ^= 0x40;
            assert_eq!(read_frame(&damaged), None, "byte {position}");
        }
    }

    #[test]
    fn nonsense_with_a_good_checksum_is_an_error_not_a_panic() {
        for payload in [&b""[..], b"\x05", b"\x05abc", b"\x02{}", b"\xFFx", b"\x06\x01"] {
            assert!(Record::decode(payload).is_err());
        }
        let mut lying = vec![ITEMS];
        lying.extend_from_slice(&7_u64.to_le_bytes());
        lying.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(Record::decode(&lying).is_err());
        let mut frame = Vec::new();
        Record::SnapshotDone(snapshot_done(Some(b"1234".to_vec()))).encode(&mut frame);
        let payload = &frame[FRAME_HEAD_BYTES..];
        assert!(Record::decode(payload).is_ok());
        (0..payload.len()).for_each(|end| assert!(Record::decode(&payload[..end]).is_err(), "{end} bytes"));
    }
}
