//! Takes snapshots for the shapes that wait: one for all of the same tables.

use super::copy::{Written, copy};
use super::error::CreateError;
use super::facts::RECENT;
use super::views;
use crate::engine::EngineHandle;
use crate::observe::{Counted, Metrics};
use crate::postgres::catalog::{Description, describe_oid_prepared};
use crate::postgres::snapshot::Snapshot;
use crate::postgres::{SessionPool, obstacle};
use crate::shapes::{Life, Shape};
use crate::store::Folder;
use limn_core::journal::record::SnapshotDone;
use limn_core::pg::{QualifiedName, SnapshotBounds, SnapshotFilter};
use limn_core::store::{Batch, SnapshotLimits, SnapshotQueue};
use limn_disk::{Native, segment};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

/// Shapes that one snapshot serves.
const BATCH_MAX: usize = 500;
/// Bytes of one shape's rows beyond which the others of its batch wait for another snapshot.
const LARGE_BYTES: u64 = 1 << 20;
/// How long others wait for the rows of a shape before they get another snapshot.
const SLOW_TIME: Duration = Duration::from_millis(100);
/// How long it is waited until the commits that were read are visible, and how often that is looked at.
const VISIBLE_WAIT: Duration = Duration::from_secs(20);
const VISIBLE_POLL: Duration = Duration::from_millis(5);

/// Takes snapshots.
#[derive(Clone)]
pub(super) struct Snapshots(Arc<Shared>);

struct Shared {
    parts: SnapshotsParts,
    queue: Mutex<SnapshotQueue<Tables, Waiting>>,
    /// What the last snapshot showed of its tables: another one soon after that sees the same transactions shows the
    /// same.
    last_shown: Mutex<Option<Shown>>,
}

/// Tables, as a snapshot shows them.
#[derive(Clone)]
struct Shown {
    at: Instant,
    tables: Tables,
    bounds: SnapshotBounds,
    described: Arc<Vec<Description>>,
}

/// What [`Snapshots`] work with.
pub(super) struct SnapshotsParts {
    pub engine: EngineHandle,
    pub pool: SessionPool,
    pub metrics: Arc<Metrics>,
    pub folder: Arc<Folder>,
    pub chunk_bytes_max: u64,
    /// Sessions that may be used at one time, also by others.
    pub sessions: Arc<Semaphore>,
    pub snapshots_max: usize,
}

/// Tables by oid and name, a shape's own first.
type Tables = Vec<(u32, QualifiedName)>;

/// A shape that waits for its snapshot.
struct Waiting {
    shape: Arc<Shape>,
    /// The partitions of its own table when its definition was resolved.
    partitions: Vec<u32>,
    /// True once the engine keeps its changes.
    is_registered: bool,
    /// Since when there have been snapshots that lacked a transaction that it needs.
    incomplete_since: Option<Instant>,
    done: oneshot::Sender<Result<(), CreateError>>,
}

impl Snapshots {
    pub(super) fn new(parts: SnapshotsParts) -> Self {
        let snapshots_max = parts.snapshots_max;
        let limits = SnapshotLimits { snapshots_max, batch_max: BATCH_MAX, large_bytes: LARGE_BYTES };
        let queue = Mutex::new(SnapshotQueue::new(limits));
        Self(Arc::new(Shared { parts, queue, last_shown: Mutex::default() }))
    }

    /// Takes a shape's snapshot, whose table is described by `own`. Returns once the snapshot is written; the engine
    /// makes it durable then.
    pub(super) async fn take(&self, shape: &Arc<Shape>, own: &Description) -> Result<(), CreateError> {
        let (done, taken) = oneshot::channel();
        let relations = shape.definition.relations();
        let tables = relations.iter().map(|relation| (relation.oid, relation.name.clone())).collect();
        let partitions = own.partitions.clone();
        let shape = shape.clone();
        let waiting = Waiting { shape, partitions, is_registered: false, incomplete_since: None, done };
        self.queue().push(tables, waiting);
        self.start();
        taken.await.unwrap_or(Err(CreateError::CutOff))
    }

    /// Starts the snapshots that are due.
    fn start(&self) {
        while let Some(batch) = self.poll() {
            let open = Open { snapshots: self.clone(), tables: batch.tables().clone(), is_begun: false };
            tokio::spawn(self.clone().run(batch, open));
        }
    }

    fn poll(&self) -> Option<Batch<Tables, Waiting>> {
        self.queue().poll()
    }

    fn queue(&self) -> MutexGuard<'_, SnapshotQueue<Tables, Waiting>> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self, mut batch: Batch<Tables, Waiting>, mut open: Open) {
        let Shared { parts, .. } = &*self.0;
        let _permit = parts.sessions.acquire().await.expect("the semaphore is never closed");
        let _counted = Counted::new(&parts.metrics.snapshots);
        let (snapshot, described) = match self.begin(&mut batch).await {
            Ok(begun) => begun,
            Err(error) => return fail_all(&mut batch, error),
        };
        open.handle_begun();
        let run = Run { snapshots: &self, snapshot, described, batch: Mutex::new(batch) };
        let Served { later, large } = run.serve().await;
        for (waiting, filter, file) in large {
            let ended = self.end_large(&waiting.shape, filter, file).await;
            waiting.tell(ended);
        }
        if !later.is_empty() {
            sleep(VISIBLE_POLL).await;
            self.queue().give_back(open.tables.clone(), later);
        }
    }

    /// Has the engine keep the shapes' changes, then begins a snapshot, and describes the tables as it shows them.
    async fn begin(
        &self,
        batch: &mut Batch<Tables, Waiting>,
    ) -> Result<(Snapshot, Arc<Vec<Description>>), CreateError> {
        let Shared { parts, .. } = &*self.0;
        let new = batch.iter().filter(|waiting| !waiting.is_registered);
        let shapes: Vec<Arc<Shape>> = new.map(|waiting| waiting.shape.clone()).collect();
        parts.engine.register(shapes).await?;
        batch.iter_mut().for_each(|waiting| waiting.is_registered = true);
        let first = batch.iter().next().ok_or(CreateError::CutOff)?;
        let snapshot = parts.pool.begin(&first.shape.definition.relations()).await?;
        let described = self.describe(&snapshot, batch.tables()).await?;
        Ok((snapshot, described))
    }

    async fn describe(
        &self,
        snapshot: &Snapshot,
        tables: &Tables,
    ) -> Result<Arc<Vec<Description>>, CreateError> {
        let last = self.last_shown().clone();
        let is_same = |last: &Shown| {
            last.at.elapsed() < RECENT && last.bounds == *snapshot.bounds() && last.tables == *tables
        };
        if let Some(last) = last.filter(is_same) {
            return Ok(last.described);
        }
        let mut described = Vec::new();
        for (oid, name) in tables {
            described.extend(describe_oid_prepared(snapshot.session(), *oid).await?);
            if obstacle::find_prepared(snapshot.session(), name).await?.is_some() {
                return Err(CreateError::Changed);
            }
        }
        let described = Arc::new(described);
        let (tables, bounds) = (tables.clone(), snapshot.bounds().clone());
        *self.last_shown() = Some(Shown { at: Instant::now(), tables, bounds, described: described.clone() });
        Ok(described)
    }

    fn last_shown(&self) -> MutexGuard<'_, Option<Shown>> {
        self.0.last_shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs the file of a snapshot.
    async fn end_large(&self, shape: &Shape, filter: SnapshotFilter, file: File) -> Result<(), CreateError> {
        let dir = shape.dir();
        let sync = move || segment::sync_snapshot(&Native, &dir, &file);
        spawn_blocking(sync).await.map_err(io::Error::other)??;
        self.end(shape, filter, None).await
    }

    async fn end(
        &self,
        shape: &Shape,
        filter: SnapshotFilter,
        content: Option<Vec<u8>>,
    ) -> Result<(), CreateError> {
        let progress = shape.log().snapshot().clone();
        let done = SnapshotDone { id: shape.id, filter, progress, content };
        Ok(self.0.parts.engine.snapshot_done(done).await?)
    }
}

/// A snapshot that is open, with the tables as it shows them.
struct Run<'a> {
    snapshots: &'a Snapshots,
    snapshot: Snapshot,
    described: Arc<Vec<Description>>,
    batch: Mutex<Batch<Tables, Waiting>>,
}

/// What is left to do once a snapshot's session is not needed any more.
#[derive(Default)]
struct Served {
    /// Shapes that need another snapshot.
    later: Vec<Waiting>,
    /// Snapshots whose files are to be synced.
    large: Vec<(Waiting, SnapshotFilter, File)>,
}

/// How far one shape came.
enum Outcome {
    Written(Written),
    /// The snapshot lacks a transaction that the shape will not get otherwise.
    Incomplete,
}

impl Run<'_> {
    /// Copies the rows of one shape after the other.
    async fn serve(self) -> Served {
        let filter = SnapshotFilter {
            bounds: self.snapshot.bounds().clone(),
            ends_at: self.snapshot.ends_at().as_u64(),
        };
        let mut served = Served::default();
        while let Some(waiting) = self.next() {
            match self.serve_in_time(&waiting, &filter).await {
                Ok(Outcome::Written(Written::Small(content))) => {
                    let ended = self.snapshots.end(&waiting.shape, filter.clone(), Some(content)).await;
                    waiting.tell(ended);
                }
                Ok(Outcome::Written(Written::Large(file))) => {
                    served.large.push((waiting, filter.clone(), file));
                }
                Ok(Outcome::Incomplete) => served.later.extend(waiting.unless_too_long()),
                Err(error @ CreateError::Changed) => waiting.tell(Err(error)),
                Err(error) => {
                    waiting.tell(Err(error));
                    // The transaction has failed, or has rows to come that nobody wants.
                    served.later.extend(self.batch().take());
                    return served;
                }
            }
        }
        // The rows have all come: how the read-only transaction ends changes nothing.
        match self.snapshot.finish().await {
            Ok(session) => self.snapshots.0.parts.pool.keep(session),
            Err(error) => tracing::debug!(%error, "the snapshot's transaction did not end in order"),
        }
        served
    }

    /// Copies the rows of a shape, behind which others do not wait for long.
    async fn serve_in_time(
        &self,
        waiting: &Waiting,
        filter: &SnapshotFilter,
    ) -> Result<Outcome, CreateError> {
        let mut serving = pin!(self.serve_one(waiting, filter));
        if let Ok(outcome) = timeout(SLOW_TIME, serving.as_mut()).await {
            return outcome;
        }
        let others = self.batch().take();
        self.give_back(others);
        serving.await
    }

    async fn serve_one(&self, waiting: &Waiting, filter: &SnapshotFilter) -> Result<Outcome, CreateError> {
        let Shared { parts, .. } = &*self.snapshots.0;
        let (shape, snapshot) = (&waiting.shape, &self.snapshot);
        if shape.life() != Life::Creating || !self.shows_tables_of(waiting) {
            return Err(CreateError::Changed);
        }
        let views = views(&shape.definition, snapshot).await?;
        if !parts.engine.snapshot_taken(shape.id, filter.clone(), views.clone()).await? {
            return Ok(Outcome::Incomplete);
        }
        let give_back = |bytes| {
            let others = self.batch().handle_written(bytes);
            self.give_back(others);
        };
        let place = (&*parts.folder, parts.chunk_bytes_max);
        copy(shape, snapshot, views, place, give_back).await.map(Outcome::Written)
    }

    /// Lets shapes that wait share another snapshot.
    fn give_back(&self, others: VecDeque<Waiting>) {
        if !others.is_empty() {
            let tables = self.batch().tables().clone();
            self.snapshots.queue().give_back(tables, others);
            self.snapshots.start();
        }
    }

    fn next(&self) -> Option<Waiting> {
        self.batch().poll()
    }

    fn batch(&self) -> MutexGuard<'_, Batch<Tables, Waiting>> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the tables are in the snapshot what the definition took them for. What changes after that shows in the
    /// stream; what changed before may have gone by in it already.
    fn shows_tables_of(&self, waiting: &Waiting) -> bool {
        let relations = waiting.shape.definition.relations();
        let mut described = self.described.iter();
        let are_same =
            relations.iter().all(|relation| described.next().is_some_and(|now| now.relation == *relation));
        are_same && self.described.first().is_some_and(|own| own.partitions == waiting.partitions)
    }
}

impl Waiting {
    /// The snapshot lacks a transaction that the shape needs: another one may have it, for some time.
    fn unless_too_long(self) -> Option<Self> {
        let since = self.incomplete_since.unwrap_or_else(Instant::now);
        if since.elapsed() > VISIBLE_WAIT {
            self.tell(Err(CreateError::CommitsInvisible));
            return None;
        }
        Some(Self { incomplete_since: Some(since), ..self })
    }

    fn tell(self, outcome: Result<(), CreateError>) {
        // Whoever waited may have gone.
        let _ = self.done.send(outcome);
    }
}

/// Tells all shapes of a batch why there is no snapshot.
fn fail_all(batch: &mut Batch<Tables, Waiting>, error: CreateError) {
    let error = Arc::new(error);
    for waiting in batch.take() {
        waiting.tell(Err(CreateError::Snapshot(error.clone())));
    }
}

/// A snapshot's place among those that may be open. Dropping it makes room for the next one.
struct Open {
    snapshots: Snapshots,
    tables: Tables,
    is_begun: bool,
}

impl Open {
    fn handle_begun(&mut self) {
        self.is_begun = true;
        self.snapshots.queue().handle_begun(&self.tables);
        self.snapshots.start();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.snapshots.queue().handle_end(&self.tables, self.is_begun);
        self.snapshots.start();
    }
}
