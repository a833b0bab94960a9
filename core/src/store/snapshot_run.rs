//! The steps by which snapshots are taken for new shapes.

use super::new_shapes::{NewShapes, NewShapesAnswer};
use super::snapshot_queue::{Batch, SnapshotLimits, SnapshotQueue};
use crate::pg::SnapshotFilter;
use crate::shape::dependent::View;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The number of a run: of one snapshot, from when it is due until all that it served is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId(u64);

/// The next step of a run. Its outcome is to be told before the one after it is asked for. Where a step fails,
/// [`Snapshots::handle_failed`] is its outcome. `F` is an open file.
#[derive(Debug, PartialEq, Eq)]
pub enum SnapshotStep<S, F> {
    /// Tell the writer ([`Writer::handle_new_shapes`](super::Writer::handle_new_shapes)); then
    /// [`Snapshots::handle_answer`].
    Tell(NewShapes<S>),
    /// Begin a snapshot of the tables that this shape reads, and note its position behind that; then
    /// [`Snapshots::handle_begun`].
    Begin(S),
    /// Ask inside the snapshot what the shape's subqueries return; then [`Snapshots::handle_views`], or
    /// [`Snapshots::handle_refused`].
    Ask(S),
    /// Copy the shape's rows to the disk. [`Snapshots::handle_written`] while more are to come, and
    /// [`Snapshots::handle_slow`] where they take long; then [`Snapshots::handle_copied`].
    Copy {
        /// The shape.
        shape: S,
        /// The transactions that the snapshot holds.
        filter: SnapshotFilter,
        /// What the shape's subqueries return in it.
        views: Vec<View>,
    },
    /// End the snapshot's transaction; then [`Snapshots::handle_closed`].
    Close,
    /// Sync the file of the shape's snapshot; then [`Snapshots::handle_synced`].
    Sync {
        /// The shape.
        shape: S,
        /// The file.
        file: F,
    },
    /// Let some milliseconds go by, in which commits may become visible; then [`Snapshots::handle_paused`].
    Pause,
    /// Nothing: the run is over. To be [ended](Snapshots::end).
    Over,
}

/// A snapshot that is written, and not durable yet.
#[derive(Debug)]
pub enum WrittenSnapshot<F> {
    /// Its bytes, which are also in a pack.
    Small(Vec<u8>),
    /// The file, which is to be synced.
    Large(F),
}

/// Takes snapshots for the shapes that wait: which of them share one, and what is done with it.
/// `T` says which tables a shape reads, `S` is the shape, `F` an open file.
///
/// Order of calls: [`push`](Self::push); after each call [`poll_run`](Self::poll_run) until it gives nothing; for each
/// run [`next`](Self::next) and what its step names, until the run is over; at last, and also where it is given up,
/// [`end`](Self::end). Runs do not wait for each other.
#[derive(Debug)]
pub struct Snapshots<T, S, F> {
    limits: SnapshotLimits,
    queue: SnapshotQueue<T, Waiting<S>>,
    runs: BTreeMap<RunId, Run<T, S, F>>,
    next_run: u64,
}

/// A shape that waits for its rows.
#[derive(Debug)]
struct Waiting<S> {
    shape: S,
    is_registered: bool,
    /// Since when there have been snapshots that lacked a transaction that it needs.
    incomplete_since: Option<Duration>,
}

#[derive(Debug)]
struct Run<T, S, F> {
    batch: Batch<T, Waiting<S>>,
    stage: Stage<F>,
    /// The transactions that the snapshot holds, once it was begun.
    filter: Option<SnapshotFilter>,
    /// The shape at hand.
    current: Option<Waiting<S>>,
    /// Shapes that need another snapshot.
    later: Vec<Waiting<S>>,
    /// Shapes whose files are to be synced once the snapshot's session is not needed any more.
    unsynced: VecDeque<(Waiting<S>, F)>,
}

/// What a stage holds goes with its step.
#[derive(Debug)]
enum Stage<F> {
    Register,
    Begin,
    Ask,
    Taken(Vec<View>),
    Copy(Vec<View>),
    Close,
    Sync(Option<F>),
    Written { content: Option<Vec<u8>>, is_small: bool },
    Pause,
    Over,
}

impl<T: Clone + Ord, S: Clone, F> Snapshots<T, S, F> {
    /// No shape waits.
    #[must_use]
    pub fn new(limits: SnapshotLimits) -> Self {
        Self { limits, queue: SnapshotQueue::new(limits), runs: BTreeMap::new(), next_run: 0 }
    }

    /// A shape waits.
    pub fn push(&mut self, tables: T, shape: S) {
        self.queue.push(tables, Waiting { shape, is_registered: false, incomplete_since: None });
    }

    /// A snapshot that is to be begun now.
    pub fn poll_run(&mut self) -> Option<RunId> {
        let batch = self.queue.poll()?;
        let id = RunId(self.next_run);
        self.next_run += 1;
        let (stage, later, unsynced) = (Stage::Register, Vec::new(), VecDeque::new());
        self.runs.insert(id, Run { batch, stage, filter: None, current: None, later, unsynced });
        Some(id)
    }

    /// The next step of a run.
    #[must_use]
    pub fn next(&mut self, run: RunId) -> SnapshotStep<S, F> {
        self.runs.get_mut(&run).and_then(Run::next).unwrap_or(SnapshotStep::Over)
    }

    /// The tables that a run's snapshot is of.
    #[must_use]
    pub fn tables(&self, run: RunId) -> Option<&T> {
        self.runs.get(&run).map(|run| run.batch.tables())
    }

    /// The writer's answer to the step at hand. Returns the shape at hand where its making has failed by it: it was
    /// dropped, or has got no snapshot that holds all that it needs for too long. `now` is any clock's time.
    #[must_use]
    pub fn handle_answer(&mut self, run: RunId, answer: NewShapesAnswer, now: Duration) -> Option<S> {
        let run = self.runs.get_mut(&run)?;
        match (&mut run.stage, answer) {
            (_, NewShapesAnswer::Incomplete) => return run.handle_incomplete(now, self.limits.visible_wait),
            (_, NewShapesAnswer::Gone) => {
                let gone = run.current.take();
                run.take_next();
                return gone.map(|waiting| waiting.shape);
            }
            (Stage::Register, NewShapesAnswer::Noted) => {
                run.batch.iter_mut().for_each(|waiting| waiting.is_registered = true);
                run.stage = Stage::Begin;
            }
            // It holds all that the shape needs.
            (Stage::Taken(views), NewShapesAnswer::Noted) => run.stage = Stage::Copy(std::mem::take(views)),
            (Stage::Written { is_small, .. }, NewShapesAnswer::Noted) => {
                let is_open = *is_small;
                run.current = None;
                run.go_on(is_open);
            }
            (_, NewShapesAnswer::Noted) => {}
        }
        None
    }

    /// The snapshot is open, and holds these transactions: the next one of its tables may be begun.
    pub fn handle_begun(&mut self, run: RunId, filter: SnapshotFilter) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.filter = Some(filter);
            self.queue.handle_begun(run.batch.tables());
            run.take_next();
        }
    }

    /// The shape's subqueries return this in the snapshot.
    pub fn handle_views(&mut self, run: RunId, views: Vec<View>) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.stage = Stage::Taken(views);
        }
    }

    /// The shape at hand was removed, or its tables are not what it was made for: it gets no snapshot, the others do.
    pub fn handle_refused(&mut self, run: RunId) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.current = None;
            run.take_next();
        }
    }

    /// The snapshot of the shape at hand has this many bytes by now, and more to come: others do not wait for the end of
    /// a large one.
    pub fn handle_written(&mut self, run: RunId, bytes: u64) {
        if let Some(run) = self.runs.get_mut(&run) {
            let others = run.batch.handle_written(bytes);
            self.queue.give_back(run.batch.tables().clone(), others);
        }
    }

    /// The shape at hand takes long: others do not wait for it.
    pub fn handle_slow(&mut self, run: RunId) {
        if let Some(run) = self.runs.get_mut(&run) {
            let others = run.batch.take();
            self.queue.give_back(run.batch.tables().clone(), others);
        }
    }

    /// All rows of the shape at hand are written: a small snapshot the commit log makes durable, the file of another one is
    /// to be synced.
    pub fn handle_copied(&mut self, run: RunId, written: WrittenSnapshot<F>) {
        let Some(run) = self.runs.get_mut(&run) else { return };
        match written {
            WrittenSnapshot::Small(content) => {
                run.stage = Stage::Written { content: Some(content), is_small: true };
            }
            WrittenSnapshot::Large(file) => {
                run.unsynced.extend(run.current.take().map(|waiting| (waiting, file)));
                run.take_next();
            }
        }
    }

    /// The snapshot's transaction is over.
    pub fn handle_closed(&mut self, run: RunId) {
        self.runs.get_mut(&run).into_iter().for_each(Run::sync_next);
    }

    /// The file of the shape at hand is durable.
    pub fn handle_synced(&mut self, run: RunId) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.stage = Stage::Written { content: None, is_small: false };
        }
    }

    /// The step at hand failed. Returns the shapes whose making fails with it: the one at hand, or all of them where there
    /// is no snapshot. After a failure inside the snapshot its transaction is of no use: the others get another one.
    pub fn handle_failed(&mut self, run: RunId) -> Vec<S> {
        let Some(run) = self.runs.get_mut(&run) else { return Vec::new() };
        let is_open = match &run.stage {
            Stage::Register | Stage::Begin => {
                run.stage = Stage::Over;
                return run.batch.take().into_iter().map(|waiting| waiting.shape).collect();
            }
            Stage::Ask | Stage::Taken(_) | Stage::Copy(_) => {
                run.later.extend(run.batch.take());
                false
            }
            Stage::Written { is_small, .. } => *is_small,
            Stage::Close | Stage::Sync(_) | Stage::Pause | Stage::Over => false,
        };
        let failed = run.current.take();
        run.go_on(is_open);
        failed.map(|waiting| waiting.shape).into_iter().collect()
    }

    /// Some milliseconds went by.
    pub fn handle_paused(&mut self, run: RunId) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.stage = Stage::Over;
            self.queue.give_back(run.batch.tables().clone(), std::mem::take(&mut run.later));
        }
    }

    /// A run is over, or given up with all of its shapes: the next one may be begun.
    pub fn end(&mut self, run: RunId) {
        if let Some(run) = self.runs.remove(&run) {
            self.queue.handle_end(run.batch.tables(), run.filter.is_some());
        }
    }

    /// True where no shape waits, and no run goes on.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_idle()
    }

    /// The shapes that wait for a snapshot, or for their rows.
    pub fn iter(&self) -> impl Iterator<Item = &S> {
        let under_way = self.runs.values().flat_map(Run::iter);
        self.queue.iter().chain(under_way).map(|waiting| &waiting.shape)
    }
}

impl<T: Clone, S: Clone, F> Run<T, S, F> {
    fn next(&mut self) -> Option<SnapshotStep<S, F>> {
        let current = || self.current.as_ref().map(|waiting| waiting.shape.clone());
        let inside = || Some((current()?, self.filter.clone()?));
        match &mut self.stage {
            Stage::Register => {
                let new = self.batch.iter().filter(|waiting| !waiting.is_registered);
                let new = new.map(|waiting| waiting.shape.clone()).collect();
                Some(SnapshotStep::Tell(NewShapes::Register(new)))
            }
            Stage::Begin => self.batch.iter().next().map(|first| SnapshotStep::Begin(first.shape.clone())),
            Stage::Ask => current().map(SnapshotStep::Ask),
            Stage::Taken(views) => {
                let (shape, filter) = inside()?;
                Some(SnapshotStep::Tell(NewShapes::Taken { shape, filter, views: views.clone() }))
            }
            Stage::Copy(views) => {
                let ((shape, filter), views) = (inside()?, std::mem::take(views));
                Some(SnapshotStep::Copy { shape, filter, views })
            }
            Stage::Close => Some(SnapshotStep::Close),
            Stage::Sync(file) => Some(SnapshotStep::Sync { shape: current()?, file: file.take()? }),
            Stage::Written { content, .. } => {
                let ((shape, filter), content) = (inside()?, content.take());
                Some(SnapshotStep::Tell(NewShapes::Written { shape, filter, content }))
            }
            Stage::Pause => Some(SnapshotStep::Pause),
            Stage::Over => None,
        }
    }

    /// The snapshot lacks a transaction that the shape at hand will not get otherwise: another one may have it.
    fn handle_incomplete(&mut self, now: Duration, visible_wait: Duration) -> Option<S> {
        let mut waiting = self.current.take()?;
        self.take_next();
        let since = *waiting.incomplete_since.get_or_insert(now);
        if now.saturating_sub(since) > visible_wait {
            return Some(waiting.shape);
        }
        self.later.push(waiting);
        None
    }

    fn iter(&self) -> impl Iterator<Item = &Waiting<S>> {
        let unsynced = self.unsynced.iter().map(|(waiting, _)| waiting);
        self.batch.iter().chain(&self.current).chain(&self.later).chain(unsynced)
    }

    fn go_on(&mut self, is_open: bool) {
        if is_open { self.take_next() } else { self.sync_next() }
    }

    /// Goes on with the next shape inside the snapshot.
    fn take_next(&mut self) {
        self.current = self.batch.poll();
        self.stage = if self.current.is_some() { Stage::Ask } else { Stage::Close };
    }

    /// Goes on behind the snapshot.
    fn sync_next(&mut self) {
        let (current, file) = self.unsynced.pop_front().unzip();
        self.current = current;
        self.stage = match (file, self.later.is_empty()) {
            (Some(file), _) => Stage::Sync(Some(file)),
            (None, false) => Stage::Pause,
            (None, true) => Stage::Over,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::NewShapesAnswer::{Gone, Incomplete, Noted};
    use super::SnapshotStep::{Ask, Begin, Close, Copy, Over, Pause, Sync, Tell};
    use super::WrittenSnapshot::{Large, Small};
    use super::*;
    use crate::pg::SnapshotBounds;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn filter() -> SnapshotFilter {
        SnapshotFilter { bounds: SnapshotBounds { xmin: 800, xmax: 806, xip: vec![800] }, ends_at: 1_000 }
    }

    type Taken = Snapshots<&'static str, u32, &'static str>;

    const NOW: Duration = Duration::from_secs(100);

    fn snapshots(shapes: &[u32]) -> Taken {
        let visible_wait = Duration::from_secs(20);
        let limits = SnapshotLimits { snapshots_max: 2, batch_max: 3, large_bytes: 100, visible_wait };
        let mut snapshots = Snapshots::new(limits);
        shapes.iter().for_each(|shape| snapshots.push("a", *shape));
        snapshots
    }

    /// A run whose snapshot is open.
    fn open(snapshots: &mut Taken) -> RunId {
        let run = snapshots.poll_run().unwrap();
        assert_eq!(answer(snapshots, run, Noted), None);
        snapshots.handle_begun(run, filter());
        run
    }

    /// The snapshot holds all that the shape at hand needs.
    fn take(snapshots: &mut Taken, run: RunId) {
        snapshots.handle_views(run, Vec::new());
        assert_eq!(answer(snapshots, run, Noted), None);
    }

    fn answer(snapshots: &mut Taken, run: RunId, answer: NewShapesAnswer) -> Option<u32> {
        snapshots.handle_answer(run, answer, NOW)
    }

    fn waiting(snapshots: &Taken) -> Vec<u32> {
        snapshots.iter().copied().collect()
    }

    #[test]
    fn small_snapshots_are_finished_one_by_one_and_large_ones_behind_the_transaction() {
        let mut snapshots = snapshots(&[1, 2]);
        let run = snapshots.poll_run().unwrap();
        assert_eq!(snapshots.tables(run), Some(&"a"));
        assert_eq!(snapshots.next(run), Tell(NewShapes::Register(vec![1, 2])));
        assert_eq!(answer(&mut snapshots, run, Noted), None);
        assert_eq!(snapshots.next(run), Begin(1));
        snapshots.handle_begun(run, filter());
        assert_eq!(snapshots.next(run), Ask(1));
        take(&mut snapshots, run);
        assert_eq!(snapshots.next(run), Copy { shape: 1, filter: filter(), views: vec![] });
        snapshots.handle_copied(run, Large("file"));
        assert_eq!(snapshots.next(run), Ask(2));
        take(&mut snapshots, run);
        snapshots.handle_copied(run, Small(b",1".to_vec()));
        assert_eq!(
            snapshots.next(run),
            Tell(NewShapes::Written { shape: 2, filter: filter(), content: Some(b",1".to_vec()) })
        );
        assert_eq!(answer(&mut snapshots, run, Noted), None);
        assert_eq!(snapshots.next(run), Close);
        snapshots.handle_closed(run);
        assert_eq!(snapshots.next(run), Sync { shape: 1, file: "file" });
        snapshots.handle_synced(run);
        assert_eq!(
            snapshots.next(run),
            Tell(NewShapes::Written { shape: 1, filter: filter(), content: None })
        );
        assert_eq!(waiting(&snapshots), [1]);
        assert_eq!(answer(&mut snapshots, run, Noted), None);
        assert_eq!(snapshots.next(run), Over);
        snapshots.end(run);
        assert!(snapshots.is_idle());
        assert_eq!(snapshots.next(run), Over);
    }

    #[test]
    fn an_incomplete_snapshot_is_followed_by_another_one_for_a_while() {
        let mut snapshots = snapshots(&[1, 2]);
        let run = open(&mut snapshots);
        snapshots.handle_views(run, Vec::new());
        assert_eq!(answer(&mut snapshots, run, Incomplete), None);
        assert_eq!(snapshots.next(run), Ask(2), "the other one may be served");
        snapshots.handle_refused(run);
        snapshots.handle_closed(run);
        assert_eq!(snapshots.next(run), Pause);
        snapshots.handle_paused(run);
        assert_eq!(snapshots.next(run), Over);
        snapshots.end(run);
        let run = snapshots.poll_run().unwrap();
        assert_eq!(snapshots.next(run), Tell(NewShapes::Register(vec![])), "the writer knows it");
        assert_eq!(answer(&mut snapshots, run, Noted), None);
        snapshots.handle_begun(run, filter());
        snapshots.handle_views(run, Vec::new());
        assert_eq!(snapshots.handle_answer(run, Incomplete, NOW + Duration::from_secs(20)), None);
        snapshots.handle_closed(run);
        snapshots.handle_paused(run);
        snapshots.end(run);
        let run = open(&mut snapshots);
        snapshots.handle_views(run, Vec::new());
        assert_eq!(snapshots.handle_answer(run, Incomplete, NOW + Duration::from_secs(21)), Some(1));
        snapshots.handle_closed(run);
        assert_eq!(snapshots.next(run), Over);
    }

    #[test]
    fn a_shape_that_was_dropped_meanwhile_is_passed_over() {
        let mut snapshots = snapshots(&[1, 2]);
        let run = open(&mut snapshots);
        snapshots.handle_views(run, Vec::new());
        let taken = NewShapes::Taken { shape: 1, filter: filter(), views: vec![] };
        assert_eq!(snapshots.next(run), Tell(taken));
        assert_eq!(answer(&mut snapshots, run, Gone), Some(1));
        assert_eq!(snapshots.next(run), Ask(2));
    }

    #[test]
    fn without_a_snapshot_all_shapes_fail() {
        let mut snapshots = snapshots(&[1, 2]);
        let run = snapshots.poll_run().unwrap();
        assert_eq!(answer(&mut snapshots, run, Noted), None);
        assert_eq!(snapshots.handle_failed(run), [1, 2]);
        assert_eq!(snapshots.next(run), Over);
        snapshots.push("a", 3);
        assert_eq!(snapshots.poll_run(), None, "it was being begun");
        snapshots.end(run);
        assert!(snapshots.poll_run().is_some());
    }

    #[test]
    fn a_failure_inside_the_snapshot_ends_it_and_the_others_get_another_one() {
        let mut snapshots = snapshots(&[1, 2, 3]);
        let run = open(&mut snapshots);
        take(&mut snapshots, run);
        snapshots.handle_copied(run, Large("file"));
        take(&mut snapshots, run);
        assert_eq!(snapshots.handle_failed(run), [2]);
        assert_eq!(snapshots.next(run), Sync { shape: 1, file: "file" }, "what is written is kept");
        assert_eq!(snapshots.handle_failed(run), [1]);
        assert_eq!(snapshots.next(run), Pause);
        snapshots.handle_paused(run);
        let run = open(&mut snapshots);
        assert_eq!(snapshots.next(run), Ask(3));
    }

    #[test]
    fn a_shape_that_cannot_be_finished_fails_alone() {
        let mut snapshots = snapshots(&[1, 2]);
        let run = open(&mut snapshots);
        take(&mut snapshots, run);
        snapshots.handle_copied(run, Small(Vec::new()));
        assert_eq!(snapshots.handle_failed(run), [1]);
        assert_eq!(snapshots.next(run), Ask(2));
    }

    #[test]
    fn others_do_not_wait_for_a_shape_that_is_large_or_slow() {
        let mut snapshots = snapshots(&[1, 2]);
        let first = open(&mut snapshots);
        take(&mut snapshots, first);
        snapshots.handle_written(first, 100);
        assert_eq!(snapshots.poll_run(), None);
        snapshots.handle_written(first, 101);
        let second = open(&mut snapshots);
        assert_eq!(snapshots.next(second), Ask(2));
        snapshots.push("a", 3);
        snapshots.end(first);
        let third = open(&mut snapshots);
        take(&mut snapshots, third);
        snapshots.push("b", 4);
        snapshots.handle_slow(third);
        assert_eq!(snapshots.next(third), Copy { shape: 3, filter: filter(), views: vec![] });
        assert_eq!(waiting(&snapshots), [4, 2, 3]);
    }

    #[test]
    fn a_run_that_is_given_up_takes_its_shapes_along() {
        let mut snapshots = snapshots(&[1]);
        let run = open(&mut snapshots);
        snapshots.end(run);
        assert!(snapshots.is_idle() && waiting(&snapshots).is_empty());
        // What a task that comes late still tells is of no use to anybody.
        take(&mut snapshots, run);
        assert!(snapshots.handle_failed(run).is_empty());
    }
}
