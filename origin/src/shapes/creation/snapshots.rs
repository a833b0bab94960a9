//! Takes snapshots for the shapes that wait: one for all of the same tables.

use super::copy::copy;
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
use limn_core::pg::{QualifiedName, SnapshotBounds, SnapshotFilter};
use limn_core::shape::dependent::View;
use limn_core::store::{NewShapes, NewShapesAnswer, RunId, SnapshotLimits, SnapshotStep, WrittenSnapshot};
use limn_disk::{Native, segment};
use std::fs::File;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};

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
    /// The time at which the server began to take snapshots.
    began: Instant,
    machine: Mutex<Machine>,
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

/// Says which step comes next.
type Machine = limn_core::store::Snapshots<Tables, Arc<Waiting>, File>;

type Step = SnapshotStep<Arc<Waiting>, File>;

/// A shape that waits for its snapshot.
struct Waiting {
    shape: Arc<Shape>,
    /// The partitions of its own table when its definition was resolved.
    partitions: Vec<u32>,
    done: Mutex<Option<oneshot::Sender<Result<(), CreateError>>>>,
}

impl Snapshots {
    pub(super) fn new(parts: SnapshotsParts) -> Self {
        let snapshots_max = parts.snapshots_max;
        let limits = SnapshotLimits {
            snapshots_max,
            batch_max: BATCH_MAX,
            large_bytes: LARGE_BYTES,
            visible_wait: VISIBLE_WAIT,
        };
        let machine = Mutex::new(Machine::new(limits));
        Self(Arc::new(Shared { parts, began: Instant::now(), machine, last_shown: Mutex::default() }))
    }

    /// Takes a shape's snapshot, whose table is described by `own`. Returns once the snapshot is written; the engine
    /// makes it durable then.
    pub(super) async fn take(&self, shape: &Arc<Shape>, own: &Description) -> Result<(), CreateError> {
        let (done, taken) = oneshot::channel();
        let relations = shape.definition.relations();
        let tables = relations.iter().map(|relation| (relation.oid, relation.name.clone())).collect();
        let (partitions, done) = (own.partitions.clone(), Mutex::new(Some(done)));
        self.tell(|machine| {
            machine.push(tables, Arc::new(Waiting { shape: shape.clone(), partitions, done }));
        });
        taken.await.unwrap_or(Err(CreateError::CutOff))
    }

    /// Tells the machine something, and starts the runs that are due by it.
    fn tell<T>(&self, told: impl FnOnce(&mut Machine) -> T) -> T {
        let outcome = told(&mut self.machine());
        while let Some(id) = self.poll_run() {
            let open = Open { snapshots: self.clone(), id };
            tokio::spawn(self.clone().run(open));
        }
        outcome
    }

    fn poll_run(&self) -> Option<RunId> {
        self.machine().poll_run()
    }

    fn next(&self, run: RunId) -> Step {
        self.machine().next(run)
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self, open: Open) {
        let Shared { parts, .. } = &*self.0;
        let _permit = parts.sessions.acquire().await.expect("the semaphore is never closed");
        let _counted = Counted::new(&parts.metrics.snapshots);
        let mut run = Run { snapshots: &self, id: open.id, begun: None, slow_at: Instant::now() };
        loop {
            match self.next(open.id) {
                SnapshotStep::Over => return,
                step => run.carry_out(step).await,
            }
        }
    }

    /// Begins a snapshot for shapes that read the same tables as the first of them, and describes the tables as it shows
    /// them.
    async fn begin(&self, first: &Waiting, run: RunId) -> Result<Begun, CreateError> {
        let snapshot = self.0.parts.pool.begin(&first.shape.definition.relations()).await?;
        let tables = self.machine().tables(run).cloned().unwrap_or_default();
        let described = self.describe(&snapshot, &tables).await?;
        Ok(Begun { snapshot, described })
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
}

/// A snapshot, with the tables as it shows them.
struct Begun {
    snapshot: Snapshot,
    described: Arc<Vec<Description>>,
}

/// One run's task, which carries its steps out.
struct Run<'a> {
    snapshots: &'a Snapshots,
    id: RunId,
    begun: Option<Begun>,
    /// The time from which on others do not wait for the shape at hand.
    slow_at: Instant,
}

impl Run<'_> {
    async fn carry_out(&mut self, step: Step) {
        match step {
            SnapshotStep::Tell(new) => self.tell_engine(new).await,
            SnapshotStep::Begin(first) => match self.snapshots.begin(&first, self.id).await {
                Ok(begun) => {
                    let filter = begun.filter();
                    self.begun = Some(begun);
                    self.tell(|machine, run| machine.handle_begun(run, filter));
                }
                Err(error) => self.fail_all(error),
            },
            SnapshotStep::Ask(waiting) => self.ask(&waiting).await,
            SnapshotStep::Copy { shape: waiting, views, .. } => self.copy(&waiting, views).await,
            SnapshotStep::Close => self.close().await,
            SnapshotStep::Sync { shape: waiting, file } => match sync(&waiting.shape, file).await {
                Ok(()) => self.tell(Machine::handle_synced),
                Err(error) => self.fail(error),
            },
            SnapshotStep::Pause => {
                sleep(VISIBLE_POLL).await;
                self.tell(Machine::handle_paused);
            }
            SnapshotStep::Over => {}
        }
    }

    fn tell<T>(&self, told: impl FnOnce(&mut Machine, RunId) -> T) -> T {
        self.snapshots.tell(|machine| told(machine, self.id))
    }

    /// The step at hand failed, for the shape at hand.
    fn fail(&self, error: CreateError) {
        if let Some(waiting) = self.tell(Machine::handle_failed).first() {
            waiting.tell(Err(error));
        }
    }

    /// There is no snapshot.
    fn fail_all(&self, error: CreateError) {
        let error = Arc::new(error);
        for waiting in self.tell(Machine::handle_failed) {
            waiting.tell(Err(CreateError::Snapshot(error.clone())));
        }
    }

    /// Tells the engine of new shapes, and those who wait for a shape what comes of it by that.
    async fn tell_engine(&mut self, new: NewShapes<Arc<Waiting>>) {
        let written = if let NewShapes::Written { shape, .. } = &new { Some(shape.clone()) } else { None };
        let told = self.snapshots.0.parts.engine.tell_of_new(new.map(|waiting| waiting.shape.clone())).await;
        let answer = match told {
            Ok(answer) => answer,
            Err(error) => {
                self.begun = None;
                return self.fail_all(error.into());
            }
        };
        written.into_iter().for_each(|waiting| waiting.tell(Ok(())));
        let now = self.snapshots.0.began.elapsed();
        if let Some(failed) = self.tell(|machine, run| machine.handle_answer(run, answer, now)) {
            failed.tell(Err(match answer {
                NewShapesAnswer::Gone => CreateError::Changed,
                _ => CreateError::CommitsInvisible,
            }));
        }
    }

    async fn ask(&mut self, waiting: &Waiting) {
        self.slow_at = Instant::now() + SLOW_TIME;
        match self.in_time(self.try_ask(waiting)).await {
            Ok(views) => self.tell(|machine, run| machine.handle_views(run, views)),
            Err(error @ CreateError::Changed) => {
                waiting.tell(Err(error));
                self.tell(Machine::handle_refused);
            }
            Err(error) => self.fail_inside(error),
        }
    }

    /// The results of a shape's subqueries.
    async fn try_ask(&self, waiting: &Waiting) -> Result<Vec<View>, CreateError> {
        let (shape, open) = (&waiting.shape, self.open()?);
        if shape.life() != Life::Creating || !open.shows_tables_of(waiting) {
            return Err(CreateError::Changed);
        }
        Ok(views(&shape.definition, &open.snapshot).await?)
    }

    async fn copy(&mut self, waiting: &Waiting, views: Vec<View>) {
        match self.in_time(self.try_copy(&waiting.shape, views)).await {
            Ok(written) => self.tell(|machine, run| machine.handle_copied(run, written)),
            Err(error) => self.fail_inside(error),
        }
    }

    async fn try_copy(
        &self,
        shape: &Arc<Shape>,
        views: Vec<View>,
    ) -> Result<WrittenSnapshot<File>, CreateError> {
        let Shared { parts, .. } = &*self.snapshots.0;
        let on_written = |bytes| self.tell(|machine, run| machine.handle_written(run, bytes));
        let place = (&*parts.folder, parts.chunk_bytes_max);
        copy(shape, &self.open()?.snapshot, views, place, on_written).await
    }

    /// The transaction has failed, or has rows to come that nobody wants.
    fn fail_inside(&mut self, error: CreateError) {
        self.begun = None;
        self.fail(error);
    }

    fn open(&self) -> Result<&Begun, CreateError> {
        self.begun.as_ref().ok_or(CreateError::CutOff)
    }

    /// Does something for the shape at hand, for which others do not wait for long.
    async fn in_time<T>(&self, serving: impl Future<Output = T>) -> T {
        let mut serving = pin!(serving);
        if let Ok(outcome) = timeout_at(self.slow_at, serving.as_mut()).await {
            return outcome;
        }
        self.tell(Machine::handle_slow);
        serving.await
    }

    /// The rows have all come: how the read-only transaction ends changes nothing.
    async fn close(&mut self) {
        if let Some(open) = self.begun.take() {
            match open.snapshot.finish().await {
                Ok(session) => self.snapshots.0.parts.pool.keep(session),
                Err(error) => tracing::debug!(%error, "the snapshot's transaction did not end in order"),
            }
        }
        self.tell(Machine::handle_closed);
    }
}

async fn sync(shape: &Shape, file: File) -> Result<(), CreateError> {
    let dir = shape.dir();
    let sync = move || segment::sync_snapshot(&Native, &dir, &file);
    Ok(spawn_blocking(sync).await.map_err(io::Error::other)??)
}

impl Begun {
    fn filter(&self) -> SnapshotFilter {
        let ends_at = self.snapshot.ends_at().as_u64();
        SnapshotFilter { bounds: self.snapshot.bounds().clone(), ends_at }
    }

    /// True where the tables are in the snapshot what the definition took them for. What changes after that shows in the
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
    fn tell(&self, outcome: Result<(), CreateError>) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(done) = done {
            // Whoever waited may have gone.
            let _ = done.send(outcome);
        }
    }
}

/// A run's place among those that may be open. Dropping it makes room for the next one.
struct Open {
    snapshots: Snapshots,
    id: RunId,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.snapshots.tell(|machine| machine.end(self.id));
    }
}
