//! The tables of the shapes, as the commit log describes them.

use super::effect::{Effect, SharedShape};
use super::{Limits, Logs, Piece};
use crate::journal::record::{CreatedShape, Record, read_frame};
use crate::journal::replay::{Event, Policy, Replay};
use crate::journal::{Tables, Ticket};
use crate::log::ShapeLog;
use crate::pg::{Column, QualifiedName, Relation, oid};
use crate::shape::DropCause;
use crate::{Lsn, ShapeId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[derive(Debug, Clone)]
struct Shape {
    id: u32,
    relation: Arc<Relation>,
    log: Rc<RefCell<ShapeLog>>,
}

impl SharedShape for Shape {
    fn with_log<T>(&self, change: impl FnOnce(&mut ShapeLog) -> T) -> T {
        change(&mut self.log.borrow_mut())
    }

    fn created(&self) -> CreatedShape {
        let sample = CreatedShape::sample(ShapeId(self.id));
        CreatedShape { relation: self.relation.clone(), inner: vec![self.relation.clone()], ..sample }
    }
}

/// A description of its own of a table, as the catalog gives one to each that asks.
fn relation(oid: u32, columns: usize) -> Arc<Relation> {
    let column = |index| Column::new(format!("c{index}"), oid::TEXT, "text");
    let columns = (0..columns).map(column).collect();
    Arc::new(Relation::new(oid, QualifiedName::new("public", "t"), columns))
}

/// Logs, and the commit log's files that they have written.
struct Store {
    logs: Logs<Shape>,
    files: Vec<Vec<u8>>,
}

impl Store {
    fn new() -> Self {
        let limits = Limits { commit_file_bytes_max: 0, ..Limits::default() };
        Self { logs: Logs::new(limits, 1, Tables::default(), Lsn::ZERO), files: vec![Vec::new()] }
    }

    fn register(&mut self, id: u32, relation: Arc<Relation>) {
        let shape = Shape { id, relation, log: Rc::new(RefCell::new(ShapeLog::new(1_000))) };
        self.logs.register(ShapeId(id), shape, false);
        self.end_turn();
    }

    fn remove(&mut self, id: u32) {
        self.logs.remove(ShapeId(id), DropCause::Deleted);
        self.end_turn();
        self.logs.handle_synced(Ticket::new(u64::MAX));
        self.end_turn();
    }

    fn begin_file(&mut self) {
        self.logs.begin_checkpoint();
        self.logs.continue_checkpoint(0, |_| None);
        self.end_turn();
        self.logs.handle_segments_synced(self.files.len() as u64);
        self.end_turn();
    }

    fn end_turn(&mut self) {
        self.logs.end_turn();
        while let Some(effect) = self.logs.poll_prompt_effect().or_else(|| self.logs.poll_tail()) {
            match effect {
                Effect::CommitLog(Piece::Append { bytes, .. }) => {
                    self.files.last_mut().unwrap().append(&mut bytes.into_vec());
                }
                Effect::CommitLog(Piece::StartFile { checkpoint, .. }) => {
                    self.files.push(checkpoint.into_vec());
                }
                _ => {}
            }
        }
    }

    /// The records from file `first` on.
    fn records(&self, first: usize) -> Vec<Record> {
        let bytes = self.files[first..].concat();
        let (mut rest, mut records) = (&bytes[..], Vec::new());
        while let Some((payload, length)) = read_frame(rest) {
            records.push(Record::decode(payload).unwrap());
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
        records
    }

    /// The shapes that a reader of these files finds, each with its table.
    fn found(&self, first: usize) -> BTreeMap<u32, Arc<Relation>> {
        let mut replay = Replay::new(Policy::AsItComes, 1_000);
        let mut found = BTreeMap::new();
        for record in self.records(first) {
            let Ok::<(), ()>(()) = replay.handle_record(record, |event| {
                match event {
                    Event::Added(shape) => {
                        assert_eq!(shape.created.inner(), std::slice::from_ref(&shape.created.relation));
                        found.insert(shape.created.id.0, shape.created.relation);
                    }
                    Event::Removed(id) => drop(found.remove(&id.0)),
                    _ => {}
                }
                Ok(())
            }) else {
                unreachable!("no event fails")
            };
        }
        found
    }
}

/// How many tables the records describe.
fn descriptions(records: &[Record]) -> usize {
    let described = |record: &Record| match record {
        Record::Table(_) => 1,
        Record::Packed(checkpoint) => checkpoint.table_count(),
        _ => 0,
    };
    records.iter().map(described).sum()
}

#[test]
fn the_shapes_of_a_table_share_its_description() {
    let mut store = Store::new();
    (0..5).for_each(|id| store.register(id, relation(1, 2)));
    assert_eq!(descriptions(&store.records(0)), 1);
    let found = store.found(0);
    assert_eq!(found.len(), 5);
    assert!(found.values().all(|table| Arc::ptr_eq(table, &found[&0]) && *table == relation(1, 2)));
}

#[test]
fn every_file_describes_the_tables_of_its_shapes() {
    let mut store = Store::new();
    store.register(0, relation(1, 2));
    // The description that was numbered goes with its shape; others have equal ones.
    store.register(1, relation(1, 2));
    store.register(2, relation(1, 3));
    store.remove(0);
    for file in 1..4 {
        store.begin_file();
        assert_eq!(descriptions(&store.records(file)), 2, "file {file}");
        store.register(9 + file as u32, relation(1, 2));
        assert_eq!(descriptions(&store.records(file)), 2, "what the checkpoint describes has its number");
        let found = store.found(file);
        assert_eq!(found, store.found(0), "with the older files or without");
        assert_eq!((&found[&1], &found[&2]), (&relation(1, 2), &relation(1, 3)));
    }
}

#[test]
fn a_table_without_shapes_is_not_described_in_the_next_file() {
    let mut store = Store::new();
    store.register(0, relation(1, 1));
    store.register(1, relation(2, 1));
    store.remove(0);
    store.begin_file();
    assert_eq!(descriptions(&store.records(1)), 1);
    store.register(2, relation(1, 1));
    assert_eq!(store.found(1), BTreeMap::from([(1, relation(2, 1)), (2, relation(1, 1))]));
}
