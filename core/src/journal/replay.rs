//! The commit log read back: what a restart believes of it.
//!
//! The log is gone through twice. The [`Survey`] learns what later records say about earlier ones; the
//! [`Replay`] then rebuilds every shape from the oldest checkpoint and all records behind it.
//!
//! Order of calls: [`Survey::handle_record`] for every record; [`Replay::new`];
//! [`Replay::handle_record`] for every record again; [`Replay::finish`].

use super::record::{CreatedShape, Record, SnapshotDone, StoreCheckpoint, stored_bound};
use crate::log::fragment::Fragment;
use crate::log::shape_log::ShapeLog;
use crate::pg::SnapshotFilter;
use crate::shape::dependent::DependentState;
use crate::{Handle, Lsn, ShapeId};
use std::collections::{BTreeMap, BTreeSet};

/// Where a record stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPosition {
    /// Its file, counted from the oldest: 0.
    pub file: usize,
    /// The byte of the file at which its frame begins.
    pub byte: u64,
}

/// What must be known before the replay.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Items behind it belong to a transaction that was cut off.
    last_commit: RecordPosition,
    /// Shapes that go later on: their files may be gone already.
    removed: BTreeSet<ShapeId>,
}

impl Survey {
    /// Takes the next record.
    pub fn handle_record(&mut self, at: RecordPosition, record: &Record) {
        match record {
            Record::Commit(_) => self.last_commit = at,
            Record::Removed(id) => {
                self.removed.insert(*id);
            }
            _ => {}
        }
    }
}

/// Rebuilds the shapes.
#[derive(Debug)]
pub struct Replay {
    survey: Survey,
    chunk_bytes_max: u64,
    tail_bytes_max: usize,
    /// True from the first checkpoint on. The oldest file may have none: a start that failed left it behind, with
    /// nothing in it that was ever durable.
    started: bool,
    shapes: BTreeMap<ShapeId, Replayed>,
    /// Shapes that the open transaction has reached.
    open: BTreeSet<ShapeId>,
    processed: u64,
    next_id: u32,
    last_handle_us: u64,
}

#[derive(Debug)]
struct Replayed {
    created: CreatedShape,
    handle: Handle,
    filter: Option<SnapshotFilter>,
    log: ShapeLog,
    dependent: DependentState,
}

/// A shape that survived.
#[derive(Debug)]
pub struct ReplayedShape {
    /// What it is.
    pub created: CreatedShape,
    /// Its handle.
    pub handle: Handle,
    /// Which transactions its snapshot holds.
    pub filter: SnapshotFilter,
    /// Its log, whose tail is still to be flushed.
    pub log: ShapeLog,
    /// What its subqueries return, where it has some.
    pub dependent: DependentState,
}

/// Everything that the commit log held.
#[derive(Debug)]
pub struct ReplayedStore {
    /// Shapes whose snapshot was durable.
    pub shapes: Vec<ReplayedShape>,
    /// The commit LSN of the last transaction.
    pub processed: u64,
    /// A number above those of all shapes that the log speaks of.
    pub next_id: u32,
    /// The newest time that a handle carries which the log speaks of.
    pub last_handle_us: u64,
}

impl Replay {
    /// A replay after its survey. Tails that grow beyond `tail_bytes_max` are handed out to be flushed.
    #[must_use]
    pub const fn new(survey: Survey, chunk_bytes_max: u64, tail_bytes_max: usize) -> Self {
        Self {
            survey,
            chunk_bytes_max,
            tail_bytes_max,
            started: false,
            shapes: BTreeMap::new(),
            open: BTreeSet::new(),
            processed: 0,
            next_id: 0,
            last_handle_us: 0,
        }
    }

    /// Takes the next record; `flush` moves a long tail to the segment.
    ///
    /// # Errors
    /// Whatever `flush` reports.
    pub fn handle_record<E>(
        &mut self,
        at: RecordPosition,
        record: Record,
        flush: impl FnMut(Handle, &mut ShapeLog) -> Result<(), E>,
    ) -> Result<(), E> {
        match record {
            Record::Checkpoint(checkpoint) if !self.started => self.start(*checkpoint),
            // A later file's checkpoint says what the records before it say already.
            Record::Checkpoint(_) => {}
            Record::Created(created) => self.create(*created),
            Record::SnapshotDone(done) => self.finish_snapshot(done),
            // A restart reads on from Postgres before it says anything.
            Record::Joined(_) => {}
            Record::Partitions(now) => {
                if let Some(shape) = self.shapes.get_mut(&now.id) {
                    let created = &mut shape.created;
                    match now.table {
                        Some(table) if table != created.relation.oid => {
                            created.inner_partitions.insert(table, now.partitions);
                        }
                        _ => created.partitions = now.partitions,
                    }
                }
            }
            // Known from the survey.
            Record::Removed(_) => {}
            Record::Items(fragment) if at <= self.survey.last_commit => {
                let reached = self.append(&fragment, flush)?;
                self.open.extend(reached);
            }
            // The transaction was cut off: Postgres will send it again, whole.
            Record::Items(_) => {}
            // May come while a transaction is open in other shapes, which it does not end.
            Record::Backfill(fragment) => {
                let reached = self.append(&fragment, flush)?;
                self.end(&reached, |log| {
                    log.commit();
                });
            }
            Record::Views(views) => {
                if let Some(shape) = self.shapes.get_mut(&views.id) {
                    shape.dependent = DependentState { views: views.views, ..DependentState::default() };
                }
            }
            Record::Move(made) => {
                let reached = self.append(&made.items, flush)?;
                self.end(&reached, |log| {
                    log.end_move();
                    log.set_visible_up_to(None, Lsn::new(made.consumed));
                });
                if let Some(shape) = self.shapes.get_mut(&made.id) {
                    shape.dependent.apply(&made);
                }
            }
            Record::Whole(whole) => {
                if let Some(shape) = self.shapes.get_mut(&whole.id) {
                    shape.dependent.whole_up_to = whole.up_to;
                }
            }
            Record::Commit(tx) => {
                let reached = std::mem::take(&mut self.open);
                self.end(&reached, |log| {
                    log.commit();
                });
                self.processed = self.processed.max(tx);
            }
        }
        Ok(())
    }

    /// The shapes whose snapshot is durable. The others are lost: their clients start over.
    #[must_use]
    pub fn finish(self) -> ReplayedStore {
        let survivor = |shape: Replayed| {
            let Replayed { created, handle, filter, mut log, dependent } = shape;
            log.handle_joined();
            log.set_visible_up_to(stored_bound(dependent.whole_up_to), Lsn::new(self.processed));
            filter.map(|filter| ReplayedShape { created, handle, filter, log, dependent })
        };
        let shapes = self.shapes.into_values().filter_map(survivor).collect();
        let Self { processed, next_id, last_handle_us, .. } = self;
        ReplayedStore { shapes, processed, next_id, last_handle_us }
    }

    fn start(&mut self, checkpoint: StoreCheckpoint) {
        self.started = true;
        (self.processed, self.last_handle_us) = (checkpoint.processed, checkpoint.last_handle_us);
        for shape in checkpoint.shapes {
            let log = ShapeLog::restore(self.chunk_bytes_max, shape.log);
            self.insert(shape.created, shape.filter, log, shape.dependent);
        }
    }

    fn create(&mut self, created: CreatedShape) {
        let log = ShapeLog::new(self.chunk_bytes_max);
        self.insert(created, None, log, DependentState::default());
    }

    fn insert(
        &mut self,
        created: CreatedShape,
        filter: Option<SnapshotFilter>,
        log: ShapeLog,
        dependent: DependentState,
    ) {
        self.next_id = self.next_id.max(created.id.0 + 1);
        // A handle that cannot be read was never given to anybody.
        let Ok(handle) = created.handle.parse::<Handle>() else { return };
        self.last_handle_us = self.last_handle_us.max(handle.created_us());
        if !self.survey.removed.contains(&created.id) {
            self.shapes.insert(created.id, Replayed { created, handle, filter, log, dependent });
        }
    }

    fn finish_snapshot(&mut self, done: SnapshotDone) {
        if let Some(shape) = self.shapes.get_mut(&done.id) {
            shape.filter = Some(done.filter);
            shape.log.handle_snapshot_progress(done.progress);
        }
    }

    /// Appends the items and names the shapes they went to.
    fn append<E>(
        &mut self,
        fragment: &Fragment,
        mut flush: impl FnMut(Handle, &mut ShapeLog) -> Result<(), E>,
    ) -> Result<BTreeSet<ShapeId>, E> {
        let mut reached = BTreeSet::new();
        let mut pairs = Vec::new();
        for item in fragment.by_shape(&mut pairs) {
            let Some(shape) = self.shapes.get_mut(&item.shape) else { continue };
            shape.log.append(fragment.tx, item.op, item.bytes);
            reached.insert(item.shape);
            if shape.log.tail_bytes() > self.tail_bytes_max {
                flush(shape.handle, &mut shape.log)?;
            }
        }
        Ok(reached)
    }

    /// Ends what the shapes were given.
    fn end(&mut self, reached: &BTreeSet<ShapeId>, end: impl Fn(&mut ShapeLog)) {
        for id in reached {
            if let Some(shape) = self.shapes.get_mut(id) {
                end(&mut shape.log);
                self.open.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Offset;
    use crate::journal::record::{ShapeCheckpoint, ShapePartitions, ShapeViews, ShapeWhole};
    use crate::log::shape_log::SnapshotProgress;
    use crate::log::{Clock, Read};
    use crate::pg::SnapshotBounds;
    use crate::shape::dependent::{Member, Move, View, ViewChange};
    use std::convert::Infallible;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const ITEM: &[u8] = b"{\"headers\":{}}";
    const LAST: &str = ",{\"headers\":{,\"last\":true}}";
    const NOT_LAST: &str = ",{\"headers\":{}}";

    fn created(id: u32) -> Record {
        Record::Created(Box::new(CreatedShape::sample(ShapeId(id))))
    }

    fn done(id: u32) -> Record {
        let bounds = SnapshotBounds { xmin: 1, xmax: 1, xip: Vec::new() };
        let progress = SnapshotProgress { bytes: 2, chunk_ends: vec![2], complete: true };
        let filter = SnapshotFilter { bounds, ends_at: 9 };
        Record::SnapshotDone(SnapshotDone { id: ShapeId(id), filter, progress })
    }

    fn items(tx: u64, op: u64, shapes: &[u32]) -> Fragment {
        let mut fragment = Fragment::new(tx);
        let shapes: Vec<ShapeId> = shapes.iter().copied().map(ShapeId).collect();
        fragment.push(op, ITEM, &shapes);
        fragment
    }

    /// Replays files of records.
    fn replay(files: Vec<Vec<Record>>) -> ReplayedStore {
        let mut survey = Survey::default();
        let place = |file, index: usize| RecordPosition { file, byte: index as u64 * 100 };
        for (file, records) in files.iter().enumerate() {
            records.iter().enumerate().for_each(|(i, record)| survey.handle_record(place(file, i), record));
        }
        let mut replay = Replay::new(survey, 1_000, usize::MAX);
        for (file, records) in files.into_iter().enumerate() {
            for (index, record) in records.into_iter().enumerate() {
                let no_flush = |_, _: &mut ShapeLog| Ok::<_, Infallible>(());
                replay.handle_record(place(file, index), record, no_flush).unwrap();
            }
        }
        replay.finish()
    }

    fn text(shape: &ReplayedShape) -> String {
        match shape.log.read(Offset::SNAPSHOT_END, Clock { processed: Lsn::ZERO, is_current: true }) {
            Read::Changes { bytes, .. } => String::from_utf8(shape.log.tail_part(bytes).to_vec()).unwrap(),
            _ => String::new(),
        }
    }

    #[test]
    fn items_count_up_to_the_last_commit() {
        let records = vec![
            created(3),
            done(3),
            Record::Items(items(20, 0, &[3])),
            Record::Items(items(20, 2, &[3])),
            Record::Commit(20),
            Record::Items(items(30, 0, &[3])),
        ];
        let store = replay(vec![records]);
        assert_eq!((store.processed, store.next_id), (20, 4));
        assert_eq!(text(&store.shapes[0]), [NOT_LAST, LAST].concat());
        assert_eq!(store.shapes[0].log.tail_bytes(), NOT_LAST.len() + LAST.len(), "and nothing is open");
        assert_eq!((store.shapes[0].handle.created_us(), store.last_handle_us), (3, 3));
    }

    #[test]
    fn a_backfill_ends_no_transaction_of_other_shapes() {
        let records = vec![
            created(1),
            done(1),
            created(2),
            Record::Items(items(30, 0, &[1])),
            Record::Backfill(items(20, 0, &[2])),
            Record::Items(items(30, 2, &[1, 2])),
            Record::Commit(30),
            done(2),
        ];
        let store = replay(vec![records]);
        assert_eq!(text(&store.shapes[0]), [NOT_LAST, LAST].concat());
        assert_eq!(text(&store.shapes[1]), [LAST, LAST].concat());
    }

    #[test]
    fn what_is_removed_or_unfinished_does_not_come_back() {
        let items = Record::Items(items(20, 0, &[1, 2, 3]));
        let records = vec![created(1), done(1), created(2), created(3), done(3), items, Record::Commit(20)];
        let store = replay(vec![records, vec![Record::Removed(ShapeId(1)), created(7)]]);
        let ids: Vec<u32> = store.shapes.iter().map(|shape| shape.created.id.0).collect();
        assert_eq!((ids, store.next_id), (vec![3], 8));
    }

    #[test]
    fn a_file_without_its_checkpoint_hides_no_later_one() {
        let shape = |record| match record {
            Record::Created(created) => *created,
            _ => unreachable!("it was just made"),
        };
        let log = ShapeLog::new(1_000).checkpoint().unwrap();
        let bounds = SnapshotBounds { xmin: 1, xmax: 1, xip: Vec::new() };
        let filter = Some(SnapshotFilter { bounds, ends_at: 9 });
        let dependent = DependentState::default();
        let shapes = vec![ShapeCheckpoint { created: shape(created(1)), filter, log, dependent }];
        let checkpoint = StoreCheckpoint { processed: 90, last_handle_us: 70, shapes };
        let checkpoint = Record::Checkpoint(Box::new(checkpoint));
        let store = replay(vec![Vec::new(), vec![checkpoint]]);
        assert_eq!((store.processed, store.shapes.len(), store.next_id), (90, 1, 2));
        assert_eq!(store.last_handle_us, 70, "of a shape that was gone before");
    }

    #[test]
    fn what_subqueries_return_and_how_far_a_log_is_whole_is_remembered() {
        let member = |text: &str| Member::new([Some(text.as_bytes())]);
        let views = vec![View::from_iter([member("1")])];
        let whole = |up_to| Record::Whole(ShapeWhole { id: ShapeId(1), up_to });
        let mut records = vec![created(1), Record::Views(ShapeViews { id: ShapeId(1), views }), done(1)];
        records.push(whole(20));
        let dependent = |records: Vec<Record>| replay(vec![records]).shapes.remove(0).dependent;
        let before = dependent(records.clone());
        assert!(before.views[0].has(&member("1")));
        assert_eq!((before.consumed, before.whole_up_to), (0, 20));

        let change = ViewChange { enter: vec![member("2")], leave: vec![member("1")] };
        let made = Move { id: ShapeId(1), consumed: 30, changes: vec![change], items: items(30, 4, &[1]) };
        records.push(Record::Move(made));
        let after = dependent(records);
        assert!(after.views[0].has(&member("2")) && !after.views[0].has(&member("1")));
        assert_eq!((after.consumed, after.whole_up_to), (30, u64::MAX));
    }

    #[test]
    fn only_the_oldest_checkpoint_counts() {
        let checkpoint = |processed| {
            Record::Checkpoint(Box::new(StoreCheckpoint { processed, ..StoreCheckpoint::default() }))
        };
        let partitions =
            |table, oid| Record::Partitions(ShapePartitions { id: ShapeId(1), table, partitions: vec![oid] });
        let files = vec![
            vec![checkpoint(50), created(1), done(1)],
            vec![checkpoint(90), partitions(None, 8), partitions(Some(1), 9), partitions(Some(7), 10)],
        ];
        let store = replay(files);
        assert_eq!(store.processed, 50);
        let created = &store.shapes[0].created;
        assert_eq!(created.partitions, [9]);
        assert_eq!(created.inner_partitions.iter().collect::<Vec<_>>(), [(&7, &vec![10])]);
    }

    #[test]
    fn long_tails_are_handed_out() {
        let mut survey = Survey::default();
        survey.handle_record(RecordPosition { file: 0, byte: 900 }, &Record::Commit(20));
        let mut replay = Replay::new(survey, 1_000, ITEM.len() + 1);
        let mut flushed = Vec::new();
        for record in [created(1), Record::Items(items(20, 0, &[1])), Record::Items(items(20, 2, &[1]))] {
            let flush = |handle: Handle, log: &mut ShapeLog| {
                flushed.push((handle.created_us(), log.tail_bytes()));
                log.handle_flushed();
                Ok::<_, Infallible>(())
            };
            replay.handle_record(RecordPosition { file: 0, byte: 100 }, record, flush).unwrap();
        }
        assert_eq!(flushed, [(1, 2 * (ITEM.len() + 1))]);
    }
}
