//! The write path's second half: from routed fragments to shape logs, the commit log and readers.

use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::shape::{Life, Shape};
use crate::status::Status;
use crate::store::{CommitLog, Folder, TAIL_BYTES_MAX, segment};
use limn_core::journal::FlushTracker;
use limn_core::journal::record::{
    Record, ShapeCheckpoint, ShapeJoined, ShapeWhole, SnapshotDone, StoreCheckpoint, encode_commit,
    encode_items, stored_bound,
};
use limn_core::log::{Fragment, ShapeLog};
use limn_core::pg::SnapshotFilter;
use limn_core::shape::DropCause;
use limn_core::shape::dependent::{Move, Rounds};
use limn_core::{Lsn, ShapeId};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes that are gathered for the commit log before they are queued, even within a batch.
const PENDING_BYTES_MAX: usize = 1 << 20;
/// Bytes of all tails together beyond which they are flushed.
const TAILS_BYTES_MAX: usize = 64 << 20;
/// Length of a commit log file beyond which a new one is started.
const COMMIT_FILE_BYTES_MAX: u64 = 64 << 20;

/// Every shape's log, with what makes it durable.
pub(super) struct Logs {
    pub(super) folder: Arc<Folder>,
    pub(super) commit_log: CommitLog,
    pub(super) flush: FlushTracker,
    pub(super) shapes: HashMap<ShapeId, Tracked>,
    pub(super) status: Arc<Status>,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<Metrics>,
    durable_ticket: u64,
    /// Records that are not queued yet.
    pending: Vec<u8>,
    /// Shapes that the open transaction has reached.
    touched: BTreeSet<ShapeId>,
    /// Shapes whose tail holds something.
    dirty: BTreeSet<ShapeId>,
    /// Shapes whose segment has grown since the last checkpoint, or is about to.
    unsynced: BTreeSet<ShapeId>,
    /// Folders of removed shapes, which go once the ticket that says so is durable: until then a crash brings
    /// the shapes back.
    leaving: Vec<(u64, PathBuf)>,
    /// Shapes that a crash leaves whole once a ticket is durable.
    settling: Vec<(u64, Arc<Shape>)>,
    /// Upper bound of the bytes in all tails.
    tails_bytes: usize,
    /// Shapes whose log is not whole up to its end.
    partial: BTreeSet<ShapeId>,
    /// Shapes with subqueries of which it is not known what they return, and what was confirmable when they were
    /// registered: what comes behind may start a move.
    viewless: BTreeMap<ShapeId, Lsn>,
    /// Shapes whose snapshot the stream has not come up to, with where it ends.
    joining: Vec<(ShapeId, Lsn)>,
    /// Scratch space for grouping.
    pairs: Vec<(ShapeId, u32)>,
}

/// A shape and what only the engine knows of it.
pub(super) struct Tracked {
    pub(super) shape: Arc<Shape>,
    /// Set once its snapshot is durable.
    pub(super) filter: Option<SnapshotFilter>,
    /// The newest transaction that had been read when the shape was registered: its snapshot must see it.
    registered_at: u64,
    /// How far its log is whole, where that is not its end.
    pub(super) whole: Option<Whole>,
}

/// How far a log with moves is whole. A move that is not durable yet leaves the bound where it was: what it brings
/// is not a function of the WAL, so a crash could take it back.
#[derive(Debug)]
pub(super) struct Whole {
    /// The commit LSN up to which readers may see it.
    up_to: u64,
    /// The bounds that hold once a ticket is durable, oldest first.
    later: VecDeque<(u64, u64)>,
}

impl Whole {
    const fn new(up_to: u64) -> Self {
        Self { up_to, later: VecDeque::new() }
    }
}

impl Default for Whole {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Tracked {
    const fn new(shape: Arc<Shape>, registered_at: u64) -> Self {
        Self { shape, filter: None, registered_at, whole: None }
    }

    /// A shape that outlived a restart.
    pub(super) fn restored(shape: Arc<Shape>, filter: SnapshotFilter, whole_up_to: u64) -> Self {
        let whole = (whole_up_to != u64::MAX).then(|| Whole::new(whole_up_to));
        Self { shape, filter: Some(filter), registered_at: 0, whole }
    }
}

/// What a new [`Logs`] needs.
pub(super) struct LogsParts {
    pub(super) folder: Arc<Folder>,
    pub(super) commit_log: CommitLog,
    pub(super) status: Arc<Status>,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shapes: HashMap<ShapeId, Tracked>,
}

impl Logs {
    pub(super) fn new(parts: LogsParts) -> Self {
        let LogsParts { folder, commit_log, status, registry, metrics, shapes } = parts;
        let partial =
            shapes.iter().filter(|(_, tracked)| tracked.whole.is_some()).map(|(id, _)| *id).collect();
        Self {
            folder,
            commit_log,
            flush: FlushTracker::default(),
            shapes,
            status,
            registry,
            metrics,
            durable_ticket: 0,
            pending: Vec::new(),
            touched: BTreeSet::new(),
            dirty: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            leaving: Vec::new(),
            settling: Vec::new(),
            tails_bytes: 0,
            partial,
            viewless: BTreeMap::new(),
            joining: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// Appends a fragment of the open transaction.
    pub(super) fn append(&mut self, fragment: &Fragment) -> io::Result<()> {
        if fragment.is_empty() {
            return Ok(());
        }
        encode_items(&mut self.pending, fragment);
        let mut pairs = std::mem::take(&mut self.pairs);
        let mut items = fragment.by_shape(&mut pairs).peekable();
        while let Some(first) = items.next() {
            let id = first.shape;
            let Some(tracked) = self.shapes.get(&id) else { continue };
            let mut log = tracked.shape.log();
            let mut invisible = log.append(fragment.tx, first.op, first.bytes);
            self.tails_bytes += first.bytes.len();
            while let Some(item) = items.next_if(|item| item.shape == id) {
                invisible |= log.append(fragment.tx, item.op, item.bytes);
                self.tails_bytes += item.bytes.len();
            }
            flush_long_tail(&tracked.shape, &mut log)?;
            // What a new connection repeats may be visible already, before a transaction that is cut off.
            if invisible {
                self.touched.insert(id);
            }
        }
        drop(items);
        self.pairs = pairs;
        Ok(())
    }

    /// Ends the open transaction: its items become visible, all of them at once per shape, and its end
    /// becomes confirmable once they are durable.
    pub(super) fn commit(&mut self, commit: Lsn, end: Lsn) {
        let touched = std::mem::take(&mut self.touched);
        if !touched.is_empty() {
            encode_commit(&mut self.pending, commit.as_u64());
        }
        // A transaction that is sent again adds nothing, but what it added before may still be unsynced.
        let last = self.commit_log.last_ticket() + u64::from(!self.pending.is_empty());
        self.flush.handle_commit(end, (last > self.durable_ticket).then_some(last));
        let tracked = touched.iter().filter_map(|id| self.shapes.get(id));
        let grown: Vec<_> = tracked.filter(|tracked| tracked.shape.log().commit()).collect();
        // Told to readers only when every shape shows the transaction.
        self.status.handle_processed(commit.as_u64());
        grown.into_iter().for_each(|tracked| tracked.shape.wake());
        self.dirty.extend(&touched);
        self.unsynced.extend(&touched);
        self.metrics.transactions.inc();
    }

    /// Everything up to and including `ticket` is durable.
    pub(super) fn handle_synced(&mut self, ticket: u64) {
        self.durable_ticket = ticket;
        self.flush.handle_synced(ticket);
        for (_, dir) in self.leaving.extract_if(.., |(leaves_at, _)| *leaves_at <= ticket) {
            tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir));
        }
        for (_, shape) in self.settling.extract_if(.., |(settles_at, _)| *settles_at <= ticket) {
            tracing::info!(handle = %shape.handle, table = %shape.definition.relation.name, "snapshot is durable");
        }
        for id in self.partial.clone() {
            self.widen(id);
        }
    }

    /// The LSN that may be confirmed to Postgres: no transaction is confirmed that some shape still has to
    /// resolve.
    pub(super) fn confirmable(&self) -> Lsn {
        let partial = self.partial.iter().filter_map(|id| self.shapes.get(id)?.whole.as_ref());
        let resolved = partial.map(|whole| Lsn::new(whole.up_to));
        resolved.chain(self.viewless.values().copied()).fold(self.flush.confirmable(), Lsn::min)
    }

    /// What a shape's subqueries return is known: it says itself what it still has to resolve.
    pub(super) fn handle_views(&mut self, id: ShapeId) {
        self.viewless.remove(&id);
    }

    /// A shape's log is whole up to this commit LSN; `u64::MAX` where it is up to its end. What becomes visible by
    /// it does so once that is durable: another process may read along.
    pub(super) fn set_whole(&mut self, id: ShapeId, up_to: u64) {
        let ticket = self.commit_log.last_ticket() + 1;
        let Some(tracked) = self.shapes.get_mut(&id) else { return };
        if tracked.whole.is_none() && up_to == u64::MAX {
            return;
        }
        let whole = tracked.whole.get_or_insert_default();
        match whole.later.back_mut() {
            Some(later) => *later = (ticket, up_to),
            None if up_to < whole.up_to => whole.up_to = up_to,
            None => whole.later.push_back((ticket, up_to)),
        }
        self.record(&Record::Whole(ShapeWhole { id, up_to }));
        self.partial.insert(id);
        self.widen(id);
    }

    /// Lets readers see what has become whole and durable.
    fn widen(&mut self, id: ShapeId) {
        let Some(tracked) = self.shapes.get_mut(&id) else { return };
        let Some(whole) = &mut tracked.whole else { return };
        while let Some((_, up_to)) = whole.later.pop_front_if(|(ticket, _)| *ticket <= self.durable_ticket) {
            whole.up_to = up_to;
        }
        let up_to = whole.up_to;
        if up_to == u64::MAX && whole.later.is_empty() {
            tracked.whole = None;
            self.partial.remove(&id);
        }
        let processed = Lsn::new(self.status.processed());
        tracked.shape.log().set_visible_up_to(stored_bound(up_to), processed);
        tracked.shape.wake();
    }

    /// Appends a move: visible once it is durable, together with the views that it leads to.
    pub(super) fn append_move(&mut self, made: Move) -> io::Result<()> {
        let id = made.id;
        let Some(tracked) = self.shapes.get_mut(&id) else { return Ok(()) };
        let mut log = tracked.shape.log();
        append_all(&mut log, &made.items, &mut self.tails_bytes);
        log.end_move();
        flush_long_tail(&tracked.shape, &mut log)?;
        drop(log);
        let whole = tracked.whole.get_or_insert_default();
        let up_to = whole.later.back().map_or(whole.up_to, |(_, up_to)| *up_to);
        whole.later.push_back((self.commit_log.last_ticket() + 1, up_to));
        self.partial.insert(id);
        self.dirty.insert(id);
        self.unsynced.insert(id);
        self.record(&Record::Move(made));
        self.metrics.moves.inc();
        Ok(())
    }

    /// The open transaction will be sent again from its beginning.
    pub(super) fn handle_disconnect(&mut self) {
        self.touched.clear();
    }

    /// True where the snapshot sees every transaction that was read before the shape was registered: the shape
    /// gets none of them from the stream. Postgres tells the stream of a commit a moment before it shows it to a
    /// snapshot, with synchronous replication a long one.
    pub(super) fn is_complete(&self, id: ShapeId, filter: &SnapshotFilter) -> bool {
        let registered_at = self.shapes.get(&id).map_or(0, |tracked| tracked.registered_at);
        self.status.recent().are_in(registered_at, &filter.bounds)
    }

    /// Appends a whole transaction that one shape had held back.
    pub(super) fn backfill(&mut self, fragment: Fragment) -> io::Result<()> {
        let Some(id) = fragment.items().find_map(|item| item.targets.first().copied()) else { return Ok(()) };
        let Some(tracked) = self.shapes.get(&id) else { return Ok(()) };
        let mut log = tracked.shape.log();
        append_all(&mut log, &fragment, &mut self.tails_bytes);
        log.commit();
        flush_long_tail(&tracked.shape, &mut log)?;
        drop(log);
        tracked.shape.wake();
        self.dirty.insert(id);
        self.unsynced.insert(id);
        self.record(&Record::Backfill(fragment));
        Ok(())
    }

    /// Adds a new shape.
    pub(super) fn insert(&mut self, shape: Arc<Shape>) {
        self.record(&Record::Created(Box::new(shape.created())));
        let registered_at = self.status.recent().newest();
        if !shape.definition.subqueries().is_empty() {
            self.viewless.insert(shape.id, self.flush.confirmable().max(Lsn::new(self.status.processed())));
        }
        self.shapes.insert(shape.id, Tracked::new(shape, registered_at));
    }

    /// Removes a shape: nobody finds it from now on, and its files go.
    pub(super) fn remove(&mut self, id: ShapeId, cause: DropCause) {
        let Some(tracked) = self.shapes.remove(&id) else { return };
        let shape = tracked.shape;
        let (table, cause_name) = (&shape.definition.relation.name, cause.as_str());
        tracing::info!(handle = %shape.handle, %table, cause = cause_name, "shape removed");
        self.record(&Record::Removed(id));
        self.touched.remove(&id);
        self.dirty.remove(&id);
        self.unsynced.remove(&id);
        self.partial.remove(&id);
        self.viewless.remove(&id);
        self.registry.remove(&shape);
        shape.set_life(Life::Removed);
        self.metrics.rotated(cause);
        self.leaving.push((self.commit_log.last_ticket() + 1, shape.dir.clone()));
    }

    /// A shape's snapshot is on the disk, and is whole.
    pub(super) fn handle_snapshot_done(&mut self, done: SnapshotDone) {
        let Some(tracked) = self.shapes.get_mut(&done.id) else { return };
        tracked.filter = Some(done.filter.clone());
        self.settling.push((self.commit_log.last_ticket() + 1, tracked.shape.clone()));
        self.record(&Record::SnapshotDone(done));
    }

    /// A shape's snapshot was taken: from `ends_at` on, its log is as far as the stream is.
    pub(super) fn handle_snapshot(&mut self, id: ShapeId, ends_at: Lsn) {
        self.joining.push((id, ends_at));
    }

    /// Every transaction before `position` is in the logs.
    pub(super) fn handle_position(&mut self, position: Lsn) {
        let joined: Vec<_> = self.joining.extract_if(.., |(_, ends_at)| *ends_at <= position).collect();
        for (id, _) in joined {
            if let Some(tracked) = self.shapes.get(&id) {
                tracked.shape.handle_joined();
                self.record(&Record::Joined(ShapeJoined { id, processed: self.status.processed() }));
            }
        }
    }

    /// Queues a record.
    pub(super) fn record(&mut self, record: &Record) {
        record.encode(&mut self.pending);
    }

    /// Lets everybody who waits for a change look again.
    pub(super) fn wake_all(&self) {
        self.shapes.values().for_each(|tracked| tracked.shape.wake());
    }

    /// True where enough is pending that it should be queued within a batch.
    pub(super) fn should_queue(&self) -> bool {
        self.pending.len() > PENDING_BYTES_MAX
    }

    /// Queues what is pending for the commit log.
    pub(super) async fn queue(&mut self) {
        if !self.pending.is_empty() {
            let bytes = std::mem::take(&mut self.pending);
            self.commit_log.append(bytes).await;
        }
    }

    /// Flushes every tail where together they hold too much, or have been idle.
    pub(super) fn flush_tails(&mut self, even_if_few: bool) -> io::Result<()> {
        if !even_if_few && self.tails_bytes < TAILS_BYTES_MAX {
            return Ok(());
        }
        for id in std::mem::take(&mut self.dirty) {
            let Some(tracked) = self.shapes.get(&id) else { continue };
            segment::flush_tail(&tracked.shape.dir, &mut tracked.shape.log())?;
        }
        self.tails_bytes = 0;
        Ok(())
    }

    /// True where the commit log's file is long enough to be left behind.
    pub(super) const fn wants_checkpoint(&self) -> bool {
        self.commit_log.file_bytes() > COMMIT_FILE_BYTES_MAX
    }

    /// Starts a new commit log file with a checkpoint; between transactions only. Gives the file's number,
    /// and the folders to be synced before the files before it may go.
    pub(super) async fn checkpoint(&mut self, rounds: &Rounds) -> io::Result<(u64, Vec<PathBuf>)> {
        self.queue().await;
        self.flush_tails(true)?;
        let mut bytes = Vec::new();
        Record::Checkpoint(Box::new(self.state(rounds))).encode(&mut bytes);
        let unsynced = std::mem::take(&mut self.unsynced);
        let tracked = unsynced.iter().filter_map(|id| self.shapes.get(id));
        let dirs = tracked.map(|tracked| tracked.shape.dir.clone()).collect();
        let folder = self.folder.clone();
        Ok((self.commit_log.rotate(&folder, bytes).await, dirs))
    }

    fn state(&self, rounds: &Rounds) -> StoreCheckpoint {
        let shape = |tracked: &Tracked| {
            let log = tracked.shape.log().checkpoint()?;
            let dependent = rounds.state(tracked.shape.id).unwrap_or_default();
            let (created, filter) = (tracked.shape.created(), tracked.filter.clone());
            Some(ShapeCheckpoint { created, filter, log, dependent })
        };
        StoreCheckpoint {
            processed: self.status.processed(),
            last_handle_us: self.registry.last_handle_us(),
            shapes: self.shapes.values().filter_map(shape).collect(),
        }
    }
}

fn append_all(log: &mut ShapeLog, fragment: &Fragment, tails_bytes: &mut usize) {
    for item in fragment.items() {
        log.append(fragment.tx, item.op, item.bytes);
        *tails_bytes += item.bytes.len();
    }
}

fn flush_long_tail(shape: &Shape, log: &mut ShapeLog) -> io::Result<()> {
    if log.tail_bytes() > TAIL_BYTES_MAX { segment::flush_tail(&shape.dir, log) } else { Ok(()) }
}
