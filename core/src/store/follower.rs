//! The shapes of a folder that another process writes to, as its commit log tells of them.

use super::effect::SharedShape;
use crate::journal::record::{Record, ShapePartitions};
use crate::journal::replay::{AddedShape, Event, LogChange, Policy, Replay};
use crate::log::shape_log::PackPlace;
use crate::{Lsn, ShapeId};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a [`Follower`] has its owner do. An owner without readers that wait need not be told of what concerns
/// these alone.
pub trait Followed {
    /// A shape as the owner holds it.
    type Shape: SharedShape;
    /// The reason why a shape's files cannot be read.
    type Error;

    /// Makes a shape, which is not to be found yet; `None` where it is left out.
    fn add(&mut self, shape: AddedShape) -> Option<Self::Shape>;

    /// Forgets the items of a log's tail that the shape's segment holds.
    ///
    /// # Errors
    /// Whatever the files report; the tail is then kept.
    fn release_tail(&mut self, shape: &Self::Shape) -> Result<(), Self::Error>;

    /// Whether a shape's snapshot is where the commit log says. Of a small one the commit log alone is durable: a power
    /// failure may take the file's bytes, which are back once the other process has started.
    ///
    /// # Errors
    /// Whatever the files report; the snapshot then counts as missing.
    fn has_snapshot(
        &mut self,
        shape: &Self::Shape,
        pack: Option<PackPlace>,
        content: &[u8],
    ) -> Result<bool, Self::Error>;

    /// Lets clients find a shape: its snapshot is durable.
    fn show(&mut self, shape: &Self::Shape);

    /// Raises the LSN that replies may name.
    fn publish(&mut self, processed: Lsn);

    /// A tail stays in memory for now, since its segment's index cannot be read: what that does not tell now it may tell
    /// later.
    fn handle_unreleased(&mut self, _shape: &Self::Shape, _error: Self::Error) {}

    /// Wakes a shape's readers.
    fn wake(&mut self, _shape: &Self::Shape) {}

    /// Notes the tables whose rows a shape includes.
    fn set_partitions(&mut self, _shape: &Self::Shape, _now: &ShapePartitions) {}

    /// Lets nobody find a shape any more, and tells its readers.
    fn retire(&mut self, _shape: Self::Shape) {}
}

/// Keeps the logs of the shapes up to date with a commit log that grows.
///
/// Order of calls: [`begin_turn`](Self::begin_turn); [`handle_record`](Self::handle_record) for each record that has
/// come, and [`handle_gap`](Self::handle_gap) where the log must be read again from its beginning;
/// [`end_turn`](Self::end_turn).
#[derive(Debug)]
pub struct Follower<S> {
    chunk_bytes_max: u64,
    tail_bytes_max: usize,
    replay: Replay,
    shapes: BTreeMap<ShapeId, S>,
    /// Shapes that hold items in memory.
    dirty: BTreeSet<ShapeId>,
    /// Snapshots that are missing: nobody finds their shapes.
    missing: BTreeMap<ShapeId, (Option<PackPlace>, Vec<u8>)>,
    /// Shapes from before a gap: found until those that take their place are.
    outdated: Vec<S>,
}

impl<S: SharedShape> Follower<S> {
    /// A follower that has read nothing. Chunks close at `chunk_bytes_max` item bytes; a tail is released where it passes
    /// `tail_bytes_max`.
    #[must_use]
    pub fn new(chunk_bytes_max: u64, tail_bytes_max: usize) -> Self {
        Self {
            chunk_bytes_max,
            tail_bytes_max,
            replay: Replay::new(Policy::AsItComes, chunk_bytes_max),
            shapes: BTreeMap::new(),
            dirty: BTreeSet::new(),
            missing: BTreeMap::new(),
            outdated: Vec::new(),
        }
    }

    /// The shapes that there are.
    pub fn shapes(&self) -> impl Iterator<Item = &S> {
        self.shapes.values()
    }

    /// The same, of which the owner takes care from now on.
    pub fn into_shapes(self) -> impl Iterator<Item = S> {
        self.shapes.into_values().chain(self.outdated)
    }

    /// Releases the tails that the writer has moved to the segments meanwhile.
    pub fn begin_turn(&mut self, owner: &mut impl Followed<Shape = S>) {
        let shapes = &self.shapes;
        self.dirty.retain(|id| {
            let Some(shape) = shapes.get(id) else { return false };
            let released = owner.release_tail(shape);
            released.unwrap_or_else(|error| owner.handle_unreleased(shape, error));
            shape.with_log(|log| log.tail_bytes() > 0)
        });
        self.missing.retain(|id, (pack, content)| {
            let Some(shape) = shapes.get(id) else { return false };
            let is_missing = !owner.has_snapshot(shape, *pack, content).unwrap_or(false);
            if !is_missing {
                owner.show(shape);
            }
            is_missing
        });
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// Where a tail that is too long cannot be released. The follower cannot go on then.
    pub fn handle_record<H: Followed<Shape = S>>(
        &mut self,
        record: Record,
        owner: &mut H,
    ) -> Result<(), H::Error> {
        let Self { tail_bytes_max, replay, shapes, dirty, missing, .. } = self;
        replay.handle_record(record, |event| {
            match event {
                Event::Added(shape) => {
                    let id = shape.created.id;
                    shapes.extend(owner.add(*shape).map(|shape| (id, shape)));
                }
                Event::Log(id, change) => {
                    if let Some(shape) = shapes.get(&id) {
                        change_log(shape, change, *tail_bytes_max, owner)?;
                        if shape.with_log(|log| log.tail_bytes() > 0) {
                            dirty.insert(id);
                        }
                    }
                }
                Event::Snapshot { id, pack, content } => {
                    if let Some(shape) = shapes.get(&id)
                        && !owner.has_snapshot(shape, pack, content).unwrap_or(false)
                    {
                        missing.insert(id, (pack, content.to_vec()));
                    }
                }
                Event::Readable(id, _) => {
                    if let Some(shape) = shapes.get(&id).filter(|_| !missing.contains_key(&id)) {
                        owner.show(shape);
                    }
                }
                Event::Bound { id, up_to, processed } => {
                    if let Some(shape) = shapes.get(&id) {
                        shape.with_log(|log| log.set_visible_up_to(up_to, processed));
                        owner.wake(shape);
                    }
                }
                Event::Partitions(now) => {
                    shapes.get(&now.id).into_iter().for_each(|shape| owner.set_partitions(shape, now));
                }
                Event::Removed(id) => shapes.remove(&id).into_iter().for_each(|shape| owner.retire(shape)),
                Event::Processed(processed) => owner.publish(processed),
                // What the next move needs to know, and none is made here.
                Event::Views(_) | Event::Moved(_) => {}
            }
            Ok(())
        })
    }

    /// Files of the commit log went before they were read: it is read anew from its oldest file.
    pub fn handle_gap(&mut self) {
        self.replay = Replay::new(Policy::AsItComes, self.chunk_bytes_max);
        self.outdated.extend(std::mem::take(&mut self.shapes).into_values());
        self.dirty.clear();
        self.missing.clear();
    }

    /// All that there is was read: whoever follows a shape from before a gap finds another one in its place.
    pub fn end_turn(&mut self, owner: &mut impl Followed<Shape = S>) {
        self.outdated.drain(..).for_each(|shape| owner.retire(shape));
    }
}

fn change_log<H: Followed>(
    shape: &H::Shape,
    change: LogChange<'_>,
    tail_bytes_max: usize,
    owner: &mut H,
) -> Result<(), H::Error> {
    let (can_tell_more, tail_bytes) = shape.with_log(|log| (change.apply(log), log.tail_bytes()));
    if tail_bytes > tail_bytes_max {
        owner.release_tail(shape)?;
    }
    if can_tell_more {
        owner.wake(shape);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::TestShape;
    use super::*;
    use crate::journal::record::{CreatedShape, SnapshotDone};
    use crate::journal::tables::{StoredTable, TableRef};
    use crate::log::Fragment;
    use crate::log::shape_log::SnapshotProgress;
    use crate::pg::{SnapshotBounds, SnapshotFilter};
    use std::cell::RefCell;
    use std::rc::Rc;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Writes down what it is to do.
    #[derive(Default)]
    struct Owner {
        done: Vec<String>,
        has_index: bool,
        has_snapshot: bool,
    }

    impl Owner {
        fn note(&mut self, what: &str, shape: &TestShape) {
            self.done.push(format!("{what} {}", shape.id.0));
        }

        fn take(&mut self) -> String {
            std::mem::take(&mut self.done).join(", ")
        }
    }

    impl Followed for Owner {
        type Shape = TestShape;
        type Error = &'static str;

        fn add(&mut self, shape: AddedShape) -> Option<TestShape> {
            Some(TestShape { id: shape.created.id, log: Rc::new(RefCell::new(shape.log)) })
        }

        fn release_tail(&mut self, shape: &TestShape) -> Result<(), &'static str> {
            self.note("release", shape);
            if !self.has_index {
                return Err("no index");
            }
            shape.log.borrow_mut().handle_flushed();
            Ok(())
        }

        fn has_snapshot(
            &mut self,
            shape: &TestShape,
            pack: Option<PackPlace>,
            content: &[u8],
        ) -> Result<bool, &'static str> {
            assert_eq!((shape.id, pack, content), (ShapeId(7), None, &b",1"[..]));
            self.has_snapshot.then_some(true).ok_or("no file")
        }

        fn handle_unreleased(&mut self, shape: &TestShape, error: &'static str) {
            self.note(error, shape);
        }

        fn show(&mut self, shape: &TestShape) {
            self.note("show", shape);
        }

        fn wake(&mut self, shape: &TestShape) {
            self.note("wake", shape);
        }

        fn set_partitions(&mut self, shape: &TestShape, _: &ShapePartitions) {
            self.note("partitions", shape);
        }

        fn publish(&mut self, processed: Lsn) {
            self.done.push(format!("publish {}", processed.as_u64()));
        }

        fn retire(&mut self, shape: TestShape) {
            self.note("retire", &shape);
        }
    }

    fn created(id: u32) -> [Record; 2] {
        let created = CreatedShape::sample(ShapeId(id));
        let table = StoredTable { number: 0, relation: (*created.relation).clone() };
        let created = created.map_tables(|_| Some(TableRef::Number(0))).unwrap();
        [Record::Table(Box::new(table)), Record::Created(Box::new(created))]
    }

    fn transaction(tx: u64, id: u32) -> [Record; 2] {
        let mut fragment = Fragment::new(tx);
        fragment.push(0, b"{\"headers\":{}}", &[ShapeId(id)]);
        [Record::Items(fragment), Record::Commit(tx)]
    }

    fn take(
        follower: &mut Follower<TestShape>,
        owner: &mut Owner,
        records: impl IntoIterator<Item = Record>,
    ) {
        for record in records {
            follower.handle_record(record, owner).unwrap();
        }
    }

    #[test]
    fn readers_are_woken_by_commits_and_tails_are_released_at_the_next_turn() {
        let (mut follower, mut owner) = (Follower::new(1_000, 1_000), Owner::default());
        take(&mut follower, &mut owner, created(7).into_iter().chain(transaction(10, 7)));
        assert_eq!(owner.take(), "wake 7, publish 10");
        follower.begin_turn(&mut owner);
        assert_eq!(owner.take(), "release 7, no index 7");
        owner.has_index = true;
        follower.begin_turn(&mut owner);
        follower.begin_turn(&mut owner);
        assert_eq!(owner.take(), "release 7", "it has no tail any more");
    }

    fn small_snapshot(id: u32) -> Record {
        let bounds = SnapshotBounds { xmin: 1, xmax: 1, xip: Vec::new() };
        let progress = SnapshotProgress { bytes: 2, chunk_ends: vec![2], complete: true, pack: None };
        let (filter, content) = (SnapshotFilter { bounds, ends_at: 9 }, Some(b",1".to_vec()));
        Record::SnapshotDone(SnapshotDone { id: ShapeId(id), filter, progress, content })
    }

    #[test]
    fn a_shape_is_shown_once_its_snapshot_is_there() {
        let (mut follower, mut owner) = (Follower::new(1_000, 1_000), Owner::default());
        let records = || created(7).into_iter().chain([small_snapshot(7)]);
        take(&mut follower, &mut owner, records());
        follower.begin_turn(&mut owner);
        assert_eq!(owner.take(), "", "a power failure took it");
        owner.has_snapshot = true;
        follower.begin_turn(&mut owner);
        follower.begin_turn(&mut owner);
        assert_eq!(owner.take(), "show 7");
        follower.handle_gap();
        take(&mut follower, &mut owner, records());
        assert_eq!(owner.take(), "show 7", "as it should be");
    }

    #[test]
    fn a_tail_that_is_too_long_is_released_at_once() {
        let (mut follower, mut owner) = (Follower::new(1_000, 1), Owner::default());
        take(&mut follower, &mut owner, created(7));
        let [items, _] = transaction(10, 7);
        assert_eq!(follower.handle_record(items, &mut owner), Err("no index"));
    }

    #[test]
    fn shapes_from_before_a_gap_go_once_those_in_their_place_are_there() {
        let (mut follower, mut owner) = (Follower::new(1_000, 1_000), Owner::default());
        take(&mut follower, &mut owner, created(7).into_iter().chain(created(8)));
        take(&mut follower, &mut owner, [Record::Removed(ShapeId(8))]);
        assert_eq!(owner.take(), "retire 8");
        follower.handle_gap();
        take(&mut follower, &mut owner, created(7));
        assert_eq!((follower.shapes().count(), owner.take()), (1, String::new()));
        follower.end_turn(&mut owner);
        assert_eq!(owner.take(), "retire 7");
        assert_eq!(follower.into_shapes().count(), 1);
    }
}
