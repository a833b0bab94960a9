//! The shapes of a folder that another process writes to, as its commit log tells of them.

use super::effect::SharedShape;
use crate::journal::KeptShape;
use crate::journal::record::{Record, ShapePartitions};
use crate::journal::replay::{AddedShape, Event, LogChange, Policy, Replay};
use crate::log::shape_log::{PackPlace, ShapeLog};
use crate::{Lsn, ShapeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// The files of the shapes, which another process writes.
pub trait FollowedFiles<S> {
    /// The reason why a shape's files cannot be read.
    type Error: Display;

    /// Forgets the items of a log's tail that the shape's segment holds.
    ///
    /// # Errors
    /// Whatever the files report; the tail is then kept.
    fn release_tail(&self, shape: &S) -> Result<(), Self::Error>;

    /// Whether a shape's snapshot is where the commit log says. Of a small one the commit log alone is durable: a power
    /// failure may take the file's bytes, which are back once the other process has started.
    ///
    /// # Errors
    /// Whatever the files report; the snapshot then counts as missing.
    fn has_snapshot(&self, shape: &S, pack: Option<PackPlace>, content: &[u8]) -> Result<bool, Self::Error>;
}

/// Everything that a [`Follower`] has its owner do. An owner without readers that wait need not be told of what concerns
/// these alone.
pub trait Followed {
    /// A shape as the owner holds it.
    type Shape: SharedShape;

    /// Makes a shape, which is not to be found yet; `None` where it is left out.
    fn add(&mut self, created: KeptShape, log: ShapeLog) -> Option<Self::Shape>;

    /// Lets clients find a shape: its snapshot is durable.
    fn show(&mut self, shape: &Self::Shape);

    /// Raises the LSN that replies may name.
    fn publish(&mut self, processed: Lsn);

    /// A tail stays in memory for now, since its segment's index cannot be read: what that does not tell now it may tell
    /// later.
    fn handle_unreleased(&mut self, _shape: &Self::Shape, _error: &dyn Display) {}

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
    pub fn begin_turn(&mut self, files: &impl FollowedFiles<S>, owner: &mut impl Followed<Shape = S>) {
        let shapes = &self.shapes;
        self.dirty.retain(|id| {
            let Some(shape) = shapes.get(id) else { return false };
            let released = files.release_tail(shape);
            released.unwrap_or_else(|error| owner.handle_unreleased(shape, &error));
            shape.with_log(|log| log.tail_bytes() > 0)
        });
        self.missing.retain(|id, (pack, content)| {
            let Some(shape) = shapes.get(id) else { return false };
            let is_missing = !files.has_snapshot(shape, *pack, content).unwrap_or(false);
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
    pub fn handle_record<F: FollowedFiles<S>>(
        &mut self,
        record: Record,
        files: &F,
        owner: &mut impl Followed<Shape = S>,
    ) -> Result<(), F::Error> {
        let Self { tail_bytes_max, replay, shapes, dirty, missing, .. } = self;
        replay.handle_record(record, |event| {
            match event {
                Event::Added(shape) => {
                    let AddedShape { created, log, .. } = *shape;
                    let id = created.id;
                    shapes.extend(owner.add(created, log).map(|shape| (id, shape)));
                }
                Event::Log(id, change) => {
                    if let Some(shape) = shapes.get(&id) {
                        if change_log(shape, change, *tail_bytes_max, files)? {
                            owner.wake(shape);
                        }
                        if shape.with_log(|log| log.tail_bytes() > 0) {
                            dirty.insert(id);
                        }
                    }
                }
                Event::Snapshot { id, pack, content } => {
                    if let Some(shape) = shapes.get(&id)
                        && !files.has_snapshot(shape, pack, content).unwrap_or(false)
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

/// True where readers may be told more.
fn change_log<S: SharedShape, F: FollowedFiles<S>>(
    shape: &S,
    change: LogChange<'_>,
    tail_bytes_max: usize,
    files: &F,
) -> Result<bool, F::Error> {
    let (can_tell_more, tail_bytes) = shape.with_log(|log| (change.apply(log), log.tail_bytes()));
    if tail_bytes > tail_bytes_max {
        files.release_tail(shape)?;
    }
    Ok(can_tell_more)
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

    /// What was asked of the owner and of the files, in order.
    type Done = Rc<RefCell<Vec<String>>>;

    fn note(done: &Done, what: &str, shape: &TestShape) {
        done.borrow_mut().push(format!("{what} {}", shape.id.0));
    }

    /// Write down what they are to do.
    #[derive(Default)]
    struct Owner(Done);

    #[derive(Default)]
    struct Files {
        done: Done,
        has_index: bool,
        has_snapshot: bool,
    }

    impl FollowedFiles<TestShape> for Files {
        type Error = &'static str;

        fn release_tail(&self, shape: &TestShape) -> Result<(), &'static str> {
            note(&self.done, "release", shape);
            if !self.has_index {
                return Err("no index");
            }
            shape.log.borrow_mut().handle_flushed();
            Ok(())
        }

        fn has_snapshot(
            &self,
            shape: &TestShape,
            pack: Option<PackPlace>,
            content: &[u8],
        ) -> Result<bool, &'static str> {
            assert_eq!((shape.id, pack, content), (ShapeId(7), None, &b",1"[..]));
            self.has_snapshot.then_some(true).ok_or("no file")
        }
    }

    impl Owner {
        fn note(&self, what: &str, shape: &TestShape) {
            note(&self.0, what, shape);
        }
    }

    impl Files {
        fn take(&self) -> String {
            self.done.take().join(", ")
        }
    }

    fn parts(tail_bytes_max: usize) -> (Follower<TestShape>, Files, Owner) {
        let files = Files::default();
        let owner = Owner(files.done.clone());
        (Follower::new(1_000, tail_bytes_max), files, owner)
    }

    impl Followed for Owner {
        type Shape = TestShape;

        fn add(&mut self, created: KeptShape, log: ShapeLog) -> Option<TestShape> {
            Some(TestShape { id: created.id, log: Rc::new(RefCell::new(log)) })
        }

        fn handle_unreleased(&mut self, shape: &TestShape, error: &dyn Display) {
            self.note(&error.to_string(), shape);
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
            self.0.borrow_mut().push(format!("publish {}", processed.as_u64()));
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
        (files, owner): (&Files, &mut Owner),
        records: impl IntoIterator<Item = Record>,
    ) {
        for record in records {
            follower.handle_record(record, files, owner).unwrap();
        }
    }

    #[test]
    fn readers_are_woken_by_commits_and_tails_are_released_at_the_next_turn() {
        let (mut follower, mut files, mut owner) = parts(1_000);
        take(&mut follower, (&files, &mut owner), created(7).into_iter().chain(transaction(10, 7)));
        assert_eq!(files.take(), "wake 7, publish 10");
        follower.begin_turn(&files, &mut owner);
        assert_eq!(files.take(), "release 7, no index 7");
        files.has_index = true;
        follower.begin_turn(&files, &mut owner);
        follower.begin_turn(&files, &mut owner);
        assert_eq!(files.take(), "release 7", "it has no tail any more");
    }

    fn small_snapshot(id: u32) -> Record {
        let bounds = SnapshotBounds { xmin: 1, xmax: 1, xip: Vec::new() };
        let progress = SnapshotProgress { bytes: 2, chunk_ends: vec![2], complete: true, pack: None };
        let (filter, content) = (SnapshotFilter { bounds, ends_at: 9 }, Some(b",1".to_vec()));
        Record::SnapshotDone(SnapshotDone { id: ShapeId(id), filter, progress, content })
    }

    #[test]
    fn a_shape_is_shown_once_its_snapshot_is_there() {
        let (mut follower, mut files, mut owner) = parts(1_000);
        let records = || created(7).into_iter().chain([small_snapshot(7)]);
        take(&mut follower, (&files, &mut owner), records());
        follower.begin_turn(&files, &mut owner);
        assert_eq!(files.take(), "", "a power failure took it");
        files.has_snapshot = true;
        follower.begin_turn(&files, &mut owner);
        follower.begin_turn(&files, &mut owner);
        assert_eq!(files.take(), "show 7");
        follower.handle_gap();
        take(&mut follower, (&files, &mut owner), records());
        assert_eq!(files.take(), "show 7", "as it should be");
    }

    #[test]
    fn a_tail_that_is_too_long_is_released_at_once() {
        let (mut follower, files, mut owner) = parts(1);
        take(&mut follower, (&files, &mut owner), created(7));
        let [items, _] = transaction(10, 7);
        assert_eq!(follower.handle_record(items, &files, &mut owner), Err("no index"));
    }

    #[test]
    fn shapes_from_before_a_gap_go_once_those_in_their_place_are_there() {
        let (mut follower, files, mut owner) = parts(1_000);
        take(&mut follower, (&files, &mut owner), created(7).into_iter().chain(created(8)));
        take(&mut follower, (&files, &mut owner), [Record::Removed(ShapeId(8))]);
        assert_eq!(files.take(), "retire 8");
        follower.handle_gap();
        take(&mut follower, (&files, &mut owner), created(7));
        assert_eq!((follower.shapes().count(), files.take()), (1, String::new()));
        follower.end_turn(&mut owner);
        assert_eq!(files.take(), "retire 7");
        assert_eq!(follower.into_shapes().count(), 1);
    }
}
