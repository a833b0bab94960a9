//! The steps by which snapshots are taken for new shapes.

use super::snapshot_queue::{Batch, SnapshotLimits, SnapshotQueue};
use crate::pg::SnapshotFilter;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The number of a run: of one snapshot, from when it is due until all that it served is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId(u64);

/// The next step of a run. Its outcome is to be told before the one after it is asked for. Where a step fails,
/// [`Snapshots::handle_failed`] is its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotStep<S> {
    /// Have the writer keep the changes of these shapes; then [`Snapshots::handle_registered`].
    Register(Vec<S>),
    /// Begin a snapshot of the tables that this shape reads, and note its position behind that; then
    /// [`Snapshots::handle_begun`].
    Begin(S),
    /// Ask inside the snapshot what the shape's subqueries return, and tell the writer that the snapshot was taken; then
    /// [`Snapshots::handle_taken`], [`Snapshots::handle_incomplete`] or [`Snapshots::handle_refused`].
    Take {
        /// The shape.
        shape: S,
        /// The transactions that the snapshot holds.
        filter: SnapshotFilter,
    },
    /// Copy the shape's rows to the disk. [`Snapshots::handle_written`] while more are to come, and
    /// [`Snapshots::handle_slow`] where they take long; then [`Snapshots::handle_copied`].
    Copy {
        /// The shape.
        shape: S,
        /// The transactions that the snapshot holds.
        filter: SnapshotFilter,
    },
    /// End the snapshot's transaction; then [`Snapshots::handle_closed`].
    Close,
    /// Sync the file of the shape's snapshot; then [`Snapshots::handle_synced`].
    Sync(S),
    /// Tell the writer that the shape's snapshot is written; then [`Snapshots::handle_done`].
    Finish {
        /// The shape.
        shape: S,
        /// The transactions that the snapshot holds.
        filter: SnapshotFilter,
        /// The bytes of a snapshot that the commit log makes durable; `None` where its file was synced.
        content: Option<Vec<u8>>,
    },
    /// Let some milliseconds go by, in which commits may become visible; then [`Snapshots::handle_paused`].
    Pause,
    /// Nothing: the run is over. To be [ended](Snapshots::end).
    Over,
}

/// Takes snapshots for the shapes that wait: which of them share one, and what is done with it.
/// `T` says which tables a shape reads, `S` is the shape.
///
/// Order of calls: [`push`](Self::push); after each call [`poll_run`](Self::poll_run) until it gives nothing; for each
/// run [`next`](Self::next) and what its step names, until the run is over; at last, and also where it is given up,
/// [`end`](Self::end). Runs do not wait for each other.
#[derive(Debug)]
pub struct Snapshots<T, S> {
    limits: SnapshotLimits,
    queue: SnapshotQueue<T, Waiting<S>>,
    runs: BTreeMap<RunId, Run<T, S>>,
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
struct Run<T, S> {
    batch: Batch<T, Waiting<S>>,
    stage: Stage,
    /// The transactions that the snapshot holds, once it was begun.
    filter: Option<SnapshotFilter>,
    /// The shape at hand.
    current: Option<Waiting<S>>,
    /// Shapes that need another snapshot.
    later: Vec<Waiting<S>>,
    /// Shapes whose files are to be synced once the snapshot's session is not needed any more.
    unsynced: VecDeque<Waiting<S>>,
}

#[derive(Debug)]
enum Stage {
    Register,
    Begin,
    Take,
    Copy,
    Close,
    Sync,
    Finish(Option<Vec<u8>>),
    Pause,
    Over,
}

impl<T: Clone + Ord, S: Clone> Snapshots<T, S> {
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
    pub fn next(&self, run: RunId) -> SnapshotStep<S> {
        self.runs.get(&run).and_then(Run::next).unwrap_or(SnapshotStep::Over)
    }

    /// The tables that a run's snapshot is of.
    #[must_use]
    pub fn tables(&self, run: RunId) -> Option<&T> {
        self.runs.get(&run).map(|run| run.batch.tables())
    }

    /// The writer keeps the changes of the run's shapes.
    pub fn handle_registered(&mut self, run: RunId) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.batch.iter_mut().for_each(|waiting| waiting.is_registered = true);
            run.stage = Stage::Begin;
        }
    }

    /// The snapshot is open, and holds these transactions: the next one of its tables may be begun.
    pub fn handle_begun(&mut self, run: RunId, filter: SnapshotFilter) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.filter = Some(filter);
            self.queue.handle_begun(run.batch.tables());
            run.take_next();
        }
    }

    /// The snapshot holds all that the shape at hand needs: its rows are copied next.
    pub fn handle_taken(&mut self, run: RunId) {
        self.runs.get_mut(&run).into_iter().for_each(|run| run.stage = Stage::Copy);
    }

    /// The snapshot lacks a transaction that the shape at hand will not get otherwise: another one may have it. Returns
    /// the shape where that has gone on for too long; its making has failed then. `now` is any clock's time.
    #[must_use]
    pub fn handle_incomplete(&mut self, run: RunId, now: Duration) -> Option<S> {
        let run = self.runs.get_mut(&run)?;
        let mut waiting = run.current.take()?;
        run.take_next();
        let since = *waiting.incomplete_since.get_or_insert(now);
        if now.saturating_sub(since) > self.limits.visible_wait {
            return Some(waiting.shape);
        }
        run.later.push(waiting);
        None
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

    /// All rows of the shape at hand are written: `content` are those of a small snapshot, which the commit log makes
    /// durable; `None` where a file of its own is to be synced.
    pub fn handle_copied(&mut self, run: RunId, content: Option<Vec<u8>>) {
        let Some(run) = self.runs.get_mut(&run) else { return };
        match content {
            Some(_) => run.stage = Stage::Finish(content),
            None => {
                run.unsynced.extend(run.current.take());
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
        self.runs.get_mut(&run).into_iter().for_each(|run| run.stage = Stage::Finish(None));
    }

    /// The writer makes the snapshot of the shape at hand durable.
    pub fn handle_done(&mut self, run: RunId) {
        if let Some(run) = self.runs.get_mut(&run)
            && let Stage::Finish(content) = &run.stage
        {
            let is_open = content.is_some();
            run.current = None;
            run.go_on(is_open);
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
            Stage::Take | Stage::Copy => {
                run.later.extend(run.batch.take());
                false
            }
            Stage::Finish(content) => content.is_some(),
            Stage::Close | Stage::Sync | Stage::Pause | Stage::Over => false,
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

impl<T: Clone, S: Clone> Run<T, S> {
    fn next(&self) -> Option<SnapshotStep<S>> {
        let current = || self.current.as_ref().map(|waiting| waiting.shape.clone());
        let inside = || Some((current()?, self.filter.clone()?));
        match &self.stage {
            Stage::Register => {
                let new = self.batch.iter().filter(|waiting| !waiting.is_registered);
                Some(SnapshotStep::Register(new.map(|waiting| waiting.shape.clone()).collect()))
            }
            Stage::Begin => self.batch.iter().next().map(|first| SnapshotStep::Begin(first.shape.clone())),
            Stage::Take => inside().map(|(shape, filter)| SnapshotStep::Take { shape, filter }),
            Stage::Copy => inside().map(|(shape, filter)| SnapshotStep::Copy { shape, filter }),
            Stage::Close => Some(SnapshotStep::Close),
            Stage::Sync => current().map(SnapshotStep::Sync),
            Stage::Finish(content) => {
                let content = content.clone();
                inside().map(|(shape, filter)| SnapshotStep::Finish { shape, filter, content })
            }
            Stage::Pause => Some(SnapshotStep::Pause),
            Stage::Over => None,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Waiting<S>> {
        self.batch.iter().chain(&self.current).chain(&self.later).chain(&self.unsynced)
    }

    fn go_on(&mut self, is_open: bool) {
        if is_open { self.take_next() } else { self.sync_next() }
    }

    /// Goes on with the next shape inside the snapshot.
    fn take_next(&mut self) {
        self.current = self.batch.poll();
        self.stage = if self.current.is_some() { Stage::Take } else { Stage::Close };
    }

    /// Goes on behind the snapshot.
    fn sync_next(&mut self) {
        self.current = self.unsynced.pop_front();
        self.stage = match (&self.current, self.later.is_empty()) {
            (Some(_), _) => Stage::Sync,
            (None, false) => Stage::Pause,
            (None, true) => Stage::Over,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::SnapshotStep::{Begin, Close, Copy, Finish, Over, Pause, Register, Sync, Take};
    use super::*;
    use crate::pg::SnapshotBounds;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn filter() -> SnapshotFilter {
        SnapshotFilter { bounds: SnapshotBounds { xmin: 800, xmax: 806, xip: vec![800] }, ends_at: 1_000 }
    }

    const NOW: Duration = Duration::from_secs(100);

    fn snapshots(shapes: &[u32]) -> Snapshots<&'static str, u32> {
        let visible_wait = Duration::from_secs(20);
        let limits = SnapshotLimits { snapshots_max: 2, batch_max: 3, large_bytes: 100, visible_wait };
        let mut snapshots = Snapshots::new(limits);
        shapes.iter().for_each(|shape| snapshots.push("a", *shape));
        snapshots
    }

    /// A run whose snapshot is open.
    fn open(snapshots: &mut Snapshots<&'static str, u32>) -> RunId {
        let run = snapshots.poll_run().unwrap();
        snapshots.handle_registered(run);
        snapshots.handle_begun(run, filter());
        run
    }

    fn waiting(snapshots: &Snapshots<&'static str, u32>) -> Vec<u32> {
        snapshots.iter().copied().collect()
    }

    #[test]
    fn small_snapshots_are_finished_one_by_one_and_large_ones_behind_the_transaction() {
        let mut snapshots = snapshots(&[1, 2]);
        let run = snapshots.poll_run().unwrap();
        assert_eq!(snapshots.tables(run), Some(&"a"));
        assert_eq!(snapshots.next(run), Register(vec![1, 2]));
        snapshots.handle_registered(run);
        assert_eq!(snapshots.next(run), Begin(1));
        snapshots.handle_begun(run, filter());
        assert_eq!(snapshots.next(run), Take { shape: 1, filter: filter() });
        snapshots.handle_taken(run);
        assert_eq!(snapshots.next(run), Copy { shape: 1, filter: filter() });
        snapshots.handle_copied(run, None);
        assert_eq!(snapshots.next(run), Take { shape: 2, filter: filter() });
        snapshots.handle_taken(run);
        snapshots.handle_copied(run, Some(b",1".to_vec()));
        assert_eq!(snapshots.next(run), Finish { shape: 2, filter: filter(), content: Some(b",1".to_vec()) });
        snapshots.handle_done(run);
        assert_eq!(snapshots.next(run), Close);
        snapshots.handle_closed(run);
        assert_eq!(snapshots.next(run), Sync(1));
        snapshots.handle_synced(run);
        assert_eq!(snapshots.next(run), Finish { shape: 1, filter: filter(), content: None });
        assert_eq!(waiting(&snapshots), [1]);
        snapshots.handle_done(run);
        assert_eq!(snapshots.next(run), Over);
        snapshots.end(run);
        assert!(snapshots.is_idle());
        assert_eq!(snapshots.next(run), Over);
    }

    #[test]
    fn an_incomplete_snapshot_is_followed_by_another_one_for_a_while() {
        let mut snapshots = snapshots(&[1, 2]);
        let run = open(&mut snapshots);
        assert_eq!(snapshots.handle_incomplete(run, NOW), None);
        assert_eq!(snapshots.next(run), Take { shape: 2, filter: filter() }, "the other one may be served");
        snapshots.handle_refused(run);
        snapshots.handle_closed(run);
        assert_eq!(snapshots.next(run), Pause);
        snapshots.handle_paused(run);
        assert_eq!(snapshots.next(run), Over);
        snapshots.end(run);
        let run = snapshots.poll_run().unwrap();
        assert_eq!(snapshots.next(run), Register(vec![]), "the writer knows it");
        snapshots.handle_registered(run);
        snapshots.handle_begun(run, filter());
        assert_eq!(snapshots.handle_incomplete(run, NOW + Duration::from_secs(20)), None);
        snapshots.handle_closed(run);
        snapshots.handle_paused(run);
        snapshots.end(run);
        let run = open(&mut snapshots);
        assert_eq!(snapshots.handle_incomplete(run, NOW + Duration::from_secs(21)), Some(1));
        snapshots.handle_closed(run);
        assert_eq!(snapshots.next(run), Over);
    }

    #[test]
    fn without_a_snapshot_all_shapes_fail() {
        let mut snapshots = snapshots(&[1, 2]);
        let run = snapshots.poll_run().unwrap();
        snapshots.handle_registered(run);
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
        snapshots.handle_taken(run);
        snapshots.handle_copied(run, None);
        snapshots.handle_taken(run);
        assert_eq!(snapshots.handle_failed(run), [2]);
        assert_eq!(snapshots.next(run), Sync(1), "what is written is kept");
        assert_eq!(snapshots.handle_failed(run), [1]);
        assert_eq!(snapshots.next(run), Pause);
        snapshots.handle_paused(run);
        let run = open(&mut snapshots);
        assert_eq!(snapshots.next(run), Take { shape: 3, filter: filter() });
    }

    #[test]
    fn a_shape_that_cannot_be_finished_fails_alone() {
        let mut snapshots = snapshots(&[1, 2]);
        let run = open(&mut snapshots);
        snapshots.handle_taken(run);
        snapshots.handle_copied(run, Some(Vec::new()));
        assert_eq!(snapshots.handle_failed(run), [1]);
        assert_eq!(snapshots.next(run), Take { shape: 2, filter: filter() });
    }

    #[test]
    fn others_do_not_wait_for_a_shape_that_is_large_or_slow() {
        let mut snapshots = snapshots(&[1, 2]);
        let first = open(&mut snapshots);
        snapshots.handle_taken(first);
        snapshots.handle_written(first, 100);
        assert_eq!(snapshots.poll_run(), None);
        snapshots.handle_written(first, 101);
        let second = open(&mut snapshots);
        assert_eq!(snapshots.next(second), Take { shape: 2, filter: filter() });
        snapshots.push("a", 3);
        snapshots.end(first);
        let third = open(&mut snapshots);
        snapshots.handle_taken(third);
        snapshots.push("b", 4);
        snapshots.handle_slow(third);
        assert_eq!(snapshots.next(third), Copy { shape: 3, filter: filter() });
        assert_eq!(waiting(&snapshots), [4, 2, 3]);
    }

    #[test]
    fn a_run_that_is_given_up_takes_its_shapes_along() {
        let mut snapshots = snapshots(&[1]);
        let run = open(&mut snapshots);
        snapshots.end(run);
        assert!(snapshots.is_idle() && waiting(&snapshots).is_empty());
        // What a task that comes late still tells is of no use to anybody.
        snapshots.handle_taken(run);
        assert!(snapshots.handle_failed(run).is_empty());
    }
}
