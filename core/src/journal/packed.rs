//! A checkpoint as it is written: its shapes one behind the other, without what they have in common.
//!
//! ```text
//! body   = head_length:u32 head:JSON entry*
//! entry  = 1 length:u32 table:JSON                      described before it is named
//!        | 2 table:u32 length:u32 family:JSON           a request without its constants; numbered from 0 on
//!        | 3 length:u32 filter:JSON                     which transactions a snapshot holds; numbered likewise
//!        | 4 length:u32 shape                           of one table
//!        | 5 length:u32 shape:JSON                      any other
//! shape  = id:u32 handle_hash:u32 handle_us:u64 family:u32 filter:u32 is_joined:u8 length:u32 constants:text log:JSON
//! ```
//!
//! The log is left out where it has no changes, and its snapshot is a small one in a pack: `bytes:u32 pack:u32 at:u32`
//! stand there instead, behind a byte that says which of them it is. A filter is `u32::MAX` where the snapshot is not
//! durable.

use super::checkpoint::ShapeCheckpoint;
use super::kept_shape::{KeptCheckpoint, KeptLog, KeptShape};
use super::record::{Reader, push_count};
use super::tables::{StoredTable, TableRef, Tables};
use crate::log::Rope;
use crate::log::shape_log::{Checkpoint, SmallSnapshot};
use crate::pg::{Relation, SnapshotFilter};
use crate::protocol::kept_request::{Family, KeptRequest};
use crate::shape::dependent::DependentState;
use crate::{Handle, ShapeId};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// A checkpoint as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedCheckpoint {
    /// The positions.
    pub head: Head,
    entries: Vec<u8>,
}

/// The positions at a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The commit LSN of the last transaction before.
    pub processed: u64,
    /// The newest time that a handle carries, also of shapes that are gone: clients and caches still know them.
    pub last_handle_us: u64,
}

const TABLE: u8 = 1;
const FAMILY: u8 = 2;
const FILTER: u8 = 3;
const SHAPE: u8 = 4;
const OTHER: u8 = 5;

/// In place of a filter's number.
const NO_FILTER: u32 = u32::MAX;
const LOG_IN_PACK: u8 = 0;
const LOG_AS_JSON: u8 = 1;

enum Entry<'a> {
    Table(StoredTable),
    Family { table: u32, family: Family },
    Filter(SnapshotFilter),
    Shape(ShapeEntry<'a>),
    Other(Box<ShapeCheckpoint>),
}

struct ShapeEntry<'a> {
    id: ShapeId,
    handle: Handle,
    family: u32,
    filter: u32,
    is_joined: bool,
    constants: &'a str,
    log: LogEntry<'a>,
}

enum LogEntry<'a> {
    InPack(SmallSnapshot),
    /// A [`Checkpoint`], which is read where it is asked for.
    Json(&'a [u8]),
}

/// Writes a checkpoint, shape by shape.
pub(super) struct Packer<'a> {
    out: &'a mut Rope,
    tables: &'a mut Tables,
    /// By the place of the family in memory, which is kept for that, and the number of the table.
    families: HashMap<(*const Family, u32), (u32, Arc<Family>)>,
    filters: HashMap<Arc<SnapshotFilter>, u32>,
}

impl<'a> Packer<'a> {
    /// Begins with all `tables`, so that none gets a number that the logs do not know.
    pub(super) fn begin(out: &'a mut Rope, head: Head, tables: &'a mut Tables) -> Self {
        push_json(out, &head);
        for table in tables.stored() {
            push_entry(out, TABLE, &table);
        }
        Self { out, tables, families: HashMap::new(), filters: HashMap::new() }
    }

    pub(super) fn push(&mut self, checkpoint: KeptCheckpoint<'_>) {
        if !checkpoint.shape.is_of_one_table() || !checkpoint.dependent.is_default() {
            return self.push_other(checkpoint);
        }
        let KeptCheckpoint { shape, filter, log, is_joined, .. } = checkpoint;
        let table = self.table(&shape.relation);
        let family = self.family(shape.request.family(), table);
        let filter = filter.map_or(NO_FILTER, |filter| self.filter(filter));
        self.out.push(SHAPE);
        push_sized(self.out, |out| {
            let (hash, created_us) = shape.handle.to_parts();
            for number in [shape.id.0, hash] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&created_us.to_le_bytes());
            for number in [family, filter] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.push(u8::from(is_joined));
            push_text(out, shape.request.constants());
            push_log(out, &log);
        });
    }

    fn push_other(&mut self, checkpoint: KeptCheckpoint<'_>) {
        let KeptCheckpoint { shape, filter, log, is_joined, dependent } = checkpoint;
        let created = shape.created().map_tables(|relation| Some(TableRef::Number(self.table(&relation))));
        let filter = filter.as_deref().cloned();
        if let Some(created) = created {
            let (log, dependent) = (log.checkpoint(), dependent.into_owned());
            push_entry(self.out, OTHER, &ShapeCheckpoint { created, filter, log, is_joined, dependent });
        }
    }

    fn table(&mut self, relation: &Arc<Relation>) -> u32 {
        let (number, described) = self.tables.refer(relation);
        if let Some(table) = described {
            push_entry(self.out, TABLE, &table);
        }
        number
    }

    fn family(&mut self, family: &Arc<Family>, table: u32) -> u32 {
        let key = (Arc::as_ptr(family), table);
        if let Some((number, _)) = self.families.get(&key) {
            return *number;
        }
        let number = count(self.families.len());
        self.out.push(FAMILY);
        self.out.extend_from_slice(&table.to_le_bytes());
        push_text(self.out, &family.stored());
        self.families.insert(key, (number, Arc::clone(family)));
        number
    }

    fn filter(&mut self, filter: Arc<SnapshotFilter>) -> u32 {
        if let Some(number) = self.filters.get(&filter) {
            return *number;
        }
        let number = count(self.filters.len());
        push_entry(self.out, FILTER, filter.as_ref());
        self.filters.insert(filter, number);
        number
    }
}

impl PackedCheckpoint {
    /// Reads the body of a record; `None` where it makes no sense.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let head = json(&mut reader)?;
        let entries = reader.0.to_vec();
        let (mut families, mut filters) = (0, 0);
        while !reader.0.is_empty() {
            match entry(&mut reader)? {
                Entry::Family { .. } => families += 1,
                Entry::Filter(_) => filters += 1,
                Entry::Shape(shape) => {
                    let is_known =
                        shape.family < families && (shape.filter < filters || shape.filter == NO_FILTER);
                    (is_known && shape.log.is_readable()).then_some(())?;
                }
                Entry::Table(_) | Entry::Other(_) => {}
            }
        }
        Some(Self { head, entries })
    }

    /// Appends the body of the record.
    pub(super) fn encode(&self, out: &mut Rope) {
        push_json(out, &self.head);
        out.extend_from_slice(&self.entries);
    }

    /// The shapes in their order, each read as it is asked for. The tables that it describes are added to `tables`; a shape
    /// of one that nobody has described is left out. `keep` is how shapes are kept that are stored as they were created.
    pub(super) fn shapes<'a>(
        &'a self,
        tables: &'a mut Tables,
        mut keep: impl FnMut(ShapeCheckpoint, &mut Tables) -> Option<KeptCheckpoint<'a>> + 'a,
    ) -> impl Iterator<Item = KeptCheckpoint<'a>> + 'a {
        let mut reader = Reader(&self.entries);
        let mut families: Vec<(Arc<Family>, Option<Arc<Relation>>)> = Vec::new();
        let mut filters: Vec<Arc<SnapshotFilter>> = Vec::new();
        std::iter::from_fn(move || entry(&mut reader)).filter_map(move |entry| {
            match entry {
                Entry::Table(table) => tables.handle_stored(table),
                Entry::Family { table, family } => {
                    families.push((Arc::new(family), tables.resolve(TableRef::Number(table))));
                }
                Entry::Filter(filter) => filters.push(Arc::new(filter)),
                Entry::Shape(shape) => {
                    let (family, relation) = families.get(shape.family as usize)?;
                    let request = KeptRequest::new(Arc::clone(family), shape.constants)?;
                    let kept =
                        KeptShape::new(shape.id, shape.handle, request, Arc::clone(relation.as_ref()?));
                    return Some(KeptCheckpoint {
                        shape: Cow::Owned(kept),
                        filter: filters.get(shape.filter as usize).cloned(),
                        log: shape.log.read()?,
                        is_joined: shape.is_joined,
                        dependent: Cow::Owned(DependentState::default()),
                    });
                }
                Entry::Other(checkpoint) => return keep(*checkpoint, tables),
            }
            None
        })
    }

    /// The numbers of all shapes.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ShapeId> {
        let mut reader = Reader(&self.entries);
        std::iter::from_fn(move || entry(&mut reader)).filter_map(|entry| match entry {
            Entry::Shape(shape) => Some(shape.id),
            Entry::Other(shape) => Some(shape.created.id),
            Entry::Table(_) | Entry::Family { .. } | Entry::Filter(_) => None,
        })
    }
}

fn entry<'a>(reader: &mut Reader<'a>) -> Option<Entry<'a>> {
    match reader.u8()? {
        TABLE => json(reader).map(Entry::Table),
        FAMILY => {
            let table = reader.u32()?;
            let family = Family::from_stored(sized(reader)?).ok()?;
            Some(Entry::Family { table, family })
        }
        FILTER => json(reader).map(Entry::Filter),
        SHAPE => shape_entry(Reader(sized(reader)?)).map(Entry::Shape),
        OTHER => json(reader).map(|shape| Entry::Other(Box::new(shape))),
        _ => None,
    }
}

fn shape_entry(mut reader: Reader<'_>) -> Option<ShapeEntry<'_>> {
    let id = ShapeId(reader.u32()?);
    let hash = reader.u32()?;
    let handle = Handle::from_parts(hash, reader.u64()?);
    let (family, filter) = (reader.u32()?, reader.u32()?);
    let is_joined = reader.u8()? != 0;
    let constants = std::str::from_utf8(sized(&mut reader)?).ok()?;
    let log = log(&mut reader)?;
    Some(ShapeEntry { id, handle, family, filter, is_joined, constants, log })
}

impl LogEntry<'_> {
    fn is_readable(&self) -> bool {
        matches!(self, Self::InPack(_)) || self.read().is_some()
    }

    fn read(&self) -> Option<KeptLog> {
        match self {
            Self::InPack(small) => Some(KeptLog::Unchanged(*small)),
            Self::Json(text) => serde_json::from_slice::<Checkpoint>(text).ok().map(KeptLog::from),
        }
    }
}

fn push_log(out: &mut Rope, log: &KeptLog) {
    match log {
        KeptLog::Unchanged(SmallSnapshot { bytes, pack, at }) => {
            out.push(LOG_IN_PACK);
            [bytes, pack, at].into_iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        }
        KeptLog::Other(checkpoint) => {
            out.push(LOG_AS_JSON);
            push_json(out, checkpoint);
        }
    }
}

fn log<'a>(reader: &mut Reader<'a>) -> Option<LogEntry<'a>> {
    match reader.u8()? {
        LOG_IN_PACK => {
            let (bytes, pack, at) = (reader.u32()?, reader.u32()?, reader.u32()?);
            Some(LogEntry::InPack(SmallSnapshot { bytes, pack, at }))
        }
        LOG_AS_JSON => sized(reader).map(LogEntry::Json),
        _ => None,
    }
}

fn push_entry(out: &mut Rope, kind: u8, value: &impl Serialize) {
    out.push(kind);
    push_json(out, value);
}

fn push_json(out: &mut Rope, value: &impl Serialize) {
    push_sized(out, |out| {
        serde_json::to_writer(out.end_mut(), value).expect("plain data always serialises");
    });
}

fn push_text(out: &mut Rope, text: &str) {
    push_sized(out, |out| out.extend_from_slice(text.as_bytes()));
}

/// Appends what `push` appends behind its length.
fn push_sized(out: &mut Rope, push: impl FnOnce(&mut Rope)) {
    let start = out.end();
    push_count(out, 0);
    push(out);
    let length = count(out.len_since(start) - 4);
    if let Some(head) = out.own_since(start).first_chunk_mut() {
        *head = length.to_le_bytes();
    }
}

fn sized<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.u32()?;
    reader.take(length as usize)
}

fn json<T: for<'de> Deserialize<'de>>(reader: &mut Reader<'_>) -> Option<T> {
    serde_json::from_slice(sized(reader)?).ok()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a checkpoint stays below 4 GiB")
}

#[cfg(test)]
impl PackedCheckpoint {
    /// How many tables it describes.
    pub(crate) fn table_count(&self) -> usize {
        let mut reader = Reader(&self.entries);
        let entries = std::iter::from_fn(|| entry(&mut reader));
        entries.filter(|entry| matches!(entry, Entry::Table(_))).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{CreatedShape, Record, encode_checkpoint, read_frame};
    use super::*;
    use crate::log::compaction::SegmentStart;
    use crate::log::shape_log::{ChunkEnd, PackPlace, SnapshotProgress};
    use crate::pg::{QualifiedName, SnapshotBounds};
    use crate::protocol::kept_request::Families;
    use std::collections::BTreeMap;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn place(bytes: u64, pack: u64, at: u64) -> Checkpoint {
        let pack = Some(PackPlace { pack, at });
        let snapshot = SnapshotProgress { bytes, chunk_ends: vec![bytes], complete: true, pack };
        Checkpoint { snapshot, ..Checkpoint::default() }
    }

    fn changed() -> Checkpoint {
        Checkpoint {
            closed: vec![ChunkEnd { tx: 77, op: 2, end: 400 }],
            open_chunk_bytes: 5,
            start: SegmentStart { generation: 2, byte: 100, item: 5 },
            flushed_bytes: 405,
            flushed_items: 9,
            last: Some((78, 4)),
            ..place(450, 3, 900)
        }
    }

    fn shapes() -> Vec<KeptCheckpoint<'static>> {
        let mut families = Families::default();
        let other = Arc::new(Relation::new(2, QualifiedName::new("public", "other"), Vec::new()));
        let filter = |xmin| {
            let bounds = SnapshotBounds { xmin, xmax: 9, xip: vec![8] };
            Some(Arc::new(SnapshotFilter { bounds, ends_at: 70 }))
        };
        let beyond = u64::from(u32::MAX) + 1;
        let logs =
            [place(450, 7, 900), changed(), Checkpoint::default(), place(beyond, 0, 0), place(1, beyond, 0)];
        let mut shapes = Vec::new();
        for (id, log) in (0..).zip(logs) {
            let mut created = CreatedShape::sample(ShapeId(id));
            created.request.where_clause = Some(format!("a = {id}"));
            if id == 1 {
                created.request.params = BTreeMap::from([("1".to_owned(), "ü".to_owned())]);
            }
            if id == 2 {
                created.relation = Arc::clone(&other);
            }
            if id == 3 {
                created.inner.push(Arc::clone(&other));
                created.partitions.push(5);
            }
            let handle = created.handle.parse().unwrap();
            let shape = Cow::Owned(KeptShape::of(created, handle, &mut families));
            let filter = [filter(1), filter(2), None, filter(1), filter(1)][id as usize].clone();
            let dependent = DependentState { consumed: u64::from(id == 4), ..DependentState::default() };
            let (log, dependent) = (log.into(), Cow::Owned(dependent));
            shapes.push(KeptCheckpoint { shape, filter, log, is_joined: id % 2 == 0, dependent });
        }
        shapes
    }

    fn frame(shapes: Vec<KeptCheckpoint<'_>>) -> Vec<u8> {
        let mut out = Rope::new();
        encode_checkpoint(&mut out, (70, 80), shapes.into_iter(), &mut Tables::default());
        out.into_vec()
    }

    fn decode(payload: &[u8]) -> Option<PackedCheckpoint> {
        match Record::decode(payload) {
            Ok(Record::Packed(packed)) => Some(packed),
            _ => None,
        }
    }

    #[test]
    fn shapes_come_back_as_they_were_written() {
        let frame = frame(shapes());
        let packed = decode(read_frame(&frame).unwrap().0).unwrap();
        assert_eq!(packed.head, Head { processed: 70, last_handle_us: 80 });
        let (mut tables, mut families) = (Tables::default(), Families::default());
        let read: Vec<_> =
            packed.shapes(&mut tables, |shape, tables| shape.keep(tables, &mut families)).collect();
        assert_eq!(read, shapes());
        assert_eq!(packed.ids().collect::<Vec<_>>(), (0..5).map(ShapeId).collect::<Vec<_>>());
        assert_eq!((packed.table_count(), tables.stored().count()), (2, 2));
        let mut again = Vec::new();
        Record::Packed(packed).encode(&mut again);
        assert_eq!(again, frame);
    }

    #[test]
    fn a_shape_of_a_known_family_takes_little() {
        let of = |count: u32| {
            let mut families = Families::default();
            let shape = |id: u32| {
                let mut created = CreatedShape::sample(ShapeId(id));
                created.request.where_clause = Some(format!("a = {}", 1000 + id));
                let handle = created.handle.parse().unwrap();
                let shape = Cow::Owned(KeptShape::of(created, handle, &mut families));
                let (log, dependent) = (place(450, 7, 900).into(), Cow::Owned(DependentState::default()));
                KeptCheckpoint { shape, filter: None, log, is_joined: true, dependent }
            };
            frame((0..count).map(shape).collect()).len()
        };
        assert!(of(101) - of(1) < 100 * 60);
    }

    #[test]
    fn nonsense_is_an_error() {
        let frame = frame(shapes());
        let payload = read_frame(&frame).unwrap().0;
        let whole = decode(payload).unwrap();
        for end in 0..payload.len() {
            // Between two entries it makes sense, with fewer of them.
            assert!(decode(&payload[..end]).is_none_or(|cut| cut.entries.len() < whole.entries.len()));
        }
        for kind in [0, 6, u8::MAX] {
            assert_eq!(decode(&[payload, &[kind]].concat()), None);
        }
        let mut strange = whole;
        strange.entries.retain(|byte| *byte != FILTER);
        let mut rope = Rope::new();
        strange.encode(&mut rope);
        assert_eq!(PackedCheckpoint::decode(&rope.into_vec()), None);
    }
}
