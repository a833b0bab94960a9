//! Whoever reads along shows at each commit what a restart at that point would find.

use super::*;
use crate::Offset;
use crate::journal::KeptShape;
use crate::journal::checkpoint::ShapeCheckpoint;
use crate::journal::recovery::{RecoveredShape, RecoveredStore};
use crate::journal::samples::{self, filter};
use crate::log::shape_log::Checkpoint;
use std::collections::BTreeMap;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Small, so that chunks close.
const CHUNK_BYTES_MAX: u64 = 40;

/// What there is of a shape, and what a reader of all of it gets.
#[derive(Debug, PartialEq)]
struct Seen {
    created: KeptShape,
    stored: Option<Checkpoint>,
    text: String,
    bound: Option<Lsn>,
    last: Offset,
}

impl Seen {
    fn of(created: &KeptShape, log: &ShapeLog, bound: Option<Lsn>) -> Self {
        let text = String::from_utf8(log.tail_part(0..u64::MAX).to_vec()).unwrap();
        let mut flushed = log.clone();
        flushed.handle_flushed();
        let stored = flushed.checkpoint();
        // A restart shows all that it finds, and says up to where it is visible.
        let last = if bound.is_none() { log.last_offset() } else { Offset::Start };
        Self { created: created.clone(), stored, text, bound, last }
    }
}

/// Reads along.
#[derive(Debug)]
struct Along {
    replay: Replay,
    shapes: BTreeMap<ShapeId, Followed>,
    processed: Lsn,
}

#[derive(Debug)]
struct Followed {
    added: AddedShape,
    bound: Option<Lsn>,
    is_readable: bool,
}

impl Along {
    fn new() -> Self {
        let replay = Replay::new(Policy::AsItComes, CHUNK_BYTES_MAX);
        Self { replay, shapes: BTreeMap::new(), processed: Lsn::ZERO }
    }

    fn handle_record(&mut self, record: Record) {
        let Self { replay, shapes, processed } = self;
        let each = |event: Event<'_>| {
            match event {
                Event::Added(added) => {
                    let followed = Followed { added: *added, bound: None, is_readable: false };
                    assert!(shapes.insert(followed.added.created.id, followed).is_none());
                }
                Event::Readable(id, _) => shapes.get_mut(&id).unwrap().is_readable = true,
                Event::Log(id, change) => {
                    change.apply(&mut shapes.get_mut(&id).unwrap().added.log);
                }
                Event::Bound { id, up_to, processed } => {
                    let shape = shapes.get_mut(&id).unwrap();
                    shape.bound = up_to;
                    shape.added.log.set_visible_up_to(up_to, processed);
                }
                Event::Partitions(now) => {
                    shapes.get_mut(&now.id).unwrap().added.created.set_partitions(now.table, &now.partitions);
                }
                Event::Removed(id) => assert!(shapes.remove(&id).is_some()),
                Event::Processed(now) => *processed = now,
                Event::Views(_) | Event::Moved(_) | Event::Snapshot { .. } => {}
            }
            Ok::<_, Infallible>(())
        };
        replay.handle_record(record, each).unwrap();
    }

    fn seen(&self) -> Vec<Seen> {
        let readable = self.shapes.values().filter(|shape| shape.is_readable);
        readable.map(|shape| Seen::of(&shape.added.created, &shape.added.log, shape.bound)).collect()
    }

    /// What a writer would put at the beginning of its next file: between transactions everything, after a restart
    /// what is durable.
    fn checkpoint(&self, is_restart: bool, recovered: &RecoveredStore) -> StoreCheckpoint {
        let survivors = recovered.shapes.iter().map(|shape| {
            let (created, dependent) = (shape.created.created().described(), shape.dependent.clone());
            let mut log = shape.log.clone();
            log.handle_flushed();
            let (log, is_joined) = (log.checkpoint().unwrap(), shape.is_joined);
            ShapeCheckpoint { created, filter: Some(filter()), log, is_joined, dependent }
        });
        let unfinished =
            self.shapes.values().filter(|shape| !is_restart && !shape.is_readable).map(|shape| {
                let (created, dependent) =
                    (shape.added.created.created().described(), DependentState::default());
                let mut log = shape.added.log.clone();
                log.handle_flushed();
                let log = log.checkpoint().unwrap();
                ShapeCheckpoint { created, filter: None, log, is_joined: false, dependent }
            });
        let shapes = survivors.chain(unfinished).collect();
        StoreCheckpoint { processed: self.processed.as_u64(), last_handle_us: 0, shapes, tables: Vec::new() }
    }
}

fn recover(records: &[Record]) -> RecoveredStore {
    samples::recover(records.to_vec(), CHUNK_BYTES_MAX, usize::MAX).0
}

fn recovered(store: &RecoveredStore) -> Vec<Seen> {
    let seen = |shape: &RecoveredShape| Seen::of(&shape.created, &shape.log, shape.dependent.visible_up_to);
    store.shapes.iter().map(seen).collect()
}

/// A writer that does what comes to its mind, as far as a writer may.
struct Writer {
    random: u64,
    records: Vec<Record>,
    /// The file that recovery begins with, should the older ones be gone.
    newest_file: usize,
    along: Along,
    next_id: u32,
    tx: u64,
    compared: usize,
}

impl Writer {
    fn new(seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let along = Along::new();
        let mut writer =
            Self { random, records: Vec::new(), newest_file: 0, along, next_id: 1, tx: 10, compared: 0 };
        writer.write(Record::Checkpoint(Box::default()));
        writer
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % bound
    }

    fn write(&mut self, record: Record) {
        self.records.push(record.clone());
        self.along.handle_record(record);
    }

    /// Some shape that can be read, or that cannot yet, and is not bounded.
    fn pick(&mut self, is_readable: bool) -> Option<u32> {
        let shapes = self.along.shapes.iter();
        let fitting = shapes.filter(|(_, shape)| shape.is_readable == is_readable && shape.bound.is_none());
        let ids: Vec<u32> = fitting.map(|(id, _)| id.0).collect();
        let index = self.below(ids.len().max(1) as u64) as usize;
        ids.get(index).copied()
    }

    fn create(&mut self) {
        self.write(created(self.next_id));
        self.next_id += 1;
    }

    /// What may stand between any two records.
    fn write_something(&mut self) {
        let (unfinished, readable) = (self.pick(false), self.pick(true));
        match (self.below(7), unfinished, readable) {
            (0, ..) => self.create(),
            (1, Some(id), _) => self.write(done(id)),
            (2, Some(id), _) => {
                let op = self.records.len() as u64;
                self.write(Record::Backfill(items(self.tx - 5, op, &[id])));
            }
            (3, Some(id), _) if self.below(4) == 0 => self.write(Record::Removed(ShapeId(id))),
            (4, _, Some(id)) if self.below(4) == 0 => self.write(Record::Removed(ShapeId(id))),
            (5, _, Some(id)) => {
                let partitions = vec![self.records.len() as u32];
                self.write(Record::Partitions(ShapePartitions { id: ShapeId(id), table: None, partitions }));
            }
            (6, _, Some(id)) => {
                // The last transaction reached no shape.
                let processed = self.tx - 5;
                self.write(Record::Joined(ShapeJoined { id: ShapeId(id), processed }));
            }
            _ => {}
        }
    }

    /// A transaction, or the beginning of one: its items in pieces, between other records.
    fn write_transaction(&mut self, is_cut_off: bool) {
        let mut pieces = Vec::new();
        for op in 0..=self.below(4) {
            let shapes: Vec<u32> = [self.pick(true), self.pick(true)].into_iter().flatten().collect();
            pieces.push(Record::Items(items(self.tx, op, &shapes)));
        }
        for piece in pieces.clone() {
            self.write(piece);
            self.write_something();
        }
        if is_cut_off {
            self.begin_file(true);
            // All of it comes again.
            pieces.into_iter().for_each(|piece| self.write(piece));
        }
        self.write(Record::Commit(self.tx));
        self.tx += 10;
    }

    /// A transaction that one shape has to resolve by a move, which may be long in coming.
    fn write_bounded(&mut self) {
        let Some(id) = self.pick(true) else { return };
        self.write(Record::Items(items(self.tx, 0, &[id])));
        self.write(Record::Bound(ShapeBound { id: ShapeId(id), up_to: Some(Lsn::new(self.tx - 1)) }));
        self.write(Record::Commit(self.tx));
        self.compare();
        if self.below(2) == 0 {
            let items = items(self.tx, 1, &[id]);
            self.write(Record::Move(moved(id, self.tx, items)));
        }
        self.write(Record::Bound(ShapeBound { id: ShapeId(id), up_to: None }));
        self.tx += 10;
    }

    fn begin_file(&mut self, is_restart: bool) {
        let checkpoint = self.along.checkpoint(is_restart, &recover(&self.records));
        self.newest_file = self.records.len();
        self.write(Record::Checkpoint(Box::new(checkpoint)));
    }

    fn step(&mut self) {
        match self.below(12) {
            0 => self.begin_file(false),
            1 => self.begin_file(true),
            2 => self.write_transaction(true),
            3 => self.write_bounded(),
            4..8 => self.write_transaction(false),
            _ => self.write_something(),
        }
        self.compare();
    }

    /// Between two transactions: a restart finds what is shown here, with or without the older files.
    fn compare(&mut self) {
        let store = recover(&self.records);
        let (seen, found) = (self.along.seen(), recovered(&store));
        assert_eq!(seen, found, "{:#?}", self.records);
        assert_eq!(self.along.processed.as_u64(), store.processed);
        assert_eq!(self.next_id, store.next_id.max(1));
        let newest = recover(self.records.get(self.newest_file..).unwrap());
        let without_text = |seen: Vec<Seen>| -> Vec<_> {
            seen.into_iter().map(|seen| (seen.created, seen.stored, seen.bound, seen.last)).collect()
        };
        assert_eq!(without_text(recovered(&newest)), without_text(found), "{:#?}", self.records);
        assert_eq!(newest.processed, store.processed);
        self.compared += seen.len();
    }
}

#[test]
fn who_reads_along_shows_at_each_commit_what_a_restart_finds() {
    let mut compared = 0;
    for seed in 1..=60 {
        let mut writer = Writer::new(seed);
        (0..40).for_each(|_| writer.step());
        compared += writer.compared;
    }
    assert!(compared > 2_000, "{compared} shapes were compared");
}

#[test]
fn a_transaction_in_the_middle_is_shown_by_nobody() {
    for seed in 1..=60 {
        let mut writer = Writer::new(seed);
        (0..20).for_each(|_| writer.step());
        let visible = |writer: &Writer| -> Vec<_> {
            let shapes = writer.along.shapes.values();
            shapes.map(|shape| shape.added.log.last_offset()).collect()
        };
        let (before, found) = (visible(&writer), recovered(&recover(&writer.records)));
        let shapes: Vec<u32> = writer.along.shapes.keys().map(|id| id.0).collect();
        writer.write(Record::Items(items(writer.tx, 0, &shapes)));
        assert_eq!(visible(&writer), before);
        assert_eq!(recovered(&recover(&writer.records)), found);
    }
}
