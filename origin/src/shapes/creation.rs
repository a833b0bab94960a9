//! Making shapes: the catalog is asked, the table published, the snapshot taken.

mod catalog;
mod clause;
mod copy;
mod error;
mod facts;
mod flights;
mod publishing;
mod refusals;
mod rights;
mod snapshots;

use super::{Failure, Life, Registry, Shape};
use crate::engine::EngineHandle;
use crate::health::{Phase, Status};
use crate::observe::{Metrics, spans};
use crate::postgres::lock_holders::{Held, Holder, lock_holders};
use crate::postgres::publication::{Publication, PublicationError};
use crate::postgres::snapshot::Snapshot;
use crate::postgres::{PostgresConfig, PostgresError, Scarcity, Session, SessionPool, sqlstate};
use crate::store::Folder;
pub use catalog::{Catalog, LookupError};
pub use publishing::Publisher;

use catalog::{Resolved, Tables};
use error::CreateError;
use futures::{FutureExt, StreamExt};
use limn_core::journal::record::CreatedShape;
use limn_core::log::ShapeLog;
use limn_core::pg::copy::CopyError;
use limn_core::protocol::request::DefinitionRequest;
use limn_core::shape::dependent::{MEMBERS_MAX, MemberReader, View};
use limn_core::shape::{Definition, DropCause};
use limn_core::{Handle, ShapeId};
use refusals::Refusals;
use snapshots::{Snapshots, SnapshotsParts};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long the server's end waits for snapshots.
const SETTLE_WAIT: Duration = Duration::from_secs(5);
/// How long a request waits for Postgres to be followed.
const ACTIVE_WAIT: Duration = Duration::from_secs(5);
/// How often such a request looks whether another process has made its shape.
const FOUND_POLL: Duration = Duration::from_millis(200);

/// Makes shapes.
#[derive(Clone)]
pub struct Creator {
    /// Who keeps their changes.
    pub engine: EngineHandle,
    /// Resolves definitions by questions to Postgres.
    pub catalog: Catalog,
    /// Puts tables into the publication.
    pub publisher: Publisher,
    /// Sessions for snapshots.
    pub pool: SessionPool,
    shared: Arc<Shared>,
}

/// The parts of the server that a [`Creator`] uses.
#[derive(Debug)]
pub struct CreatorParts {
    /// Where Postgres is, for queries.
    pub config: PostgresConfig,
    /// Where tables are published.
    pub publication: Publication,
    /// Where shapes are kept.
    pub folder: Arc<Folder>,
    /// Which shapes there are.
    pub registry: Arc<Registry>,
    /// How the server is.
    pub status: Arc<Status>,
    /// The metrics of the server.
    pub metrics: Arc<Metrics>,
    /// Item bytes at which a chunk closes.
    pub chunk_bytes_max: u64,
    /// Snapshots that are taken at one time; further shapes wait.
    pub snapshots_max: usize,
}

struct Shared {
    parts: CreatorParts,
    next_id: AtomicU32,
    snapshots: Snapshots,
    /// Sessions that snapshots, and what is done for publishing, may use at one time.
    sessions: Arc<Semaphore>,
    refusals: Refusals,
}

impl Creator {
    /// A creator of shapes for `engine`.
    #[must_use]
    pub fn new(parts: CreatorParts, engine: EngineHandle) -> Self {
        let sessions = Arc::new(Semaphore::new(parts.snapshots_max));
        let catalog = Catalog::new(parts.config.clone(), parts.publication.clone(), parts.registry.clone());
        let publisher = Publisher::new(&parts, engine.clone(), catalog.clone(), sessions.clone());
        let pool = SessionPool::new(parts.config.clone());
        let snapshots = Snapshots::new(SnapshotsParts {
            engine: engine.clone(),
            pool: pool.clone(),
            metrics: parts.metrics.clone(),
            folder: parts.folder.clone(),
            chunk_bytes_max: parts.chunk_bytes_max,
            sessions: sessions.clone(),
            snapshots_max: parts.snapshots_max,
        });
        let (next_id, refusals) = (AtomicU32::new(0), Refusals::default());
        let shared = Arc::new(Shared { parts, next_id, snapshots, sessions, refusals });
        Self { engine, catalog, publisher, pool, shared }
    }

    /// Numbers below `next_id` belong to shapes that the folder has had.
    pub fn reserve_ids(&self, next_id: u32) {
        self.shared.next_id.fetch_max(next_id, Ordering::Relaxed);
    }

    /// Waits until every snapshot that is being taken was handed to the engine, for a while.
    pub async fn settle(&self) {
        let all = u32::try_from(self.shared.parts.snapshots_max).unwrap_or(u32::MAX);
        let settled = tokio::time::timeout(SETTLE_WAIT, self.shared.sessions.acquire_many(all)).await;
        if settled.is_err() {
            tracing::warn!("ending although snapshots are being taken: their shapes will start over");
        }
    }

    /// The living shape of a definition, if there is one.
    ///
    /// # Errors
    /// [`LookupError`]
    pub async fn find(&self, request: &DefinitionRequest) -> Result<Option<Arc<Shape>>, LookupError> {
        let resolved = self.catalog.resolve(request).await?;
        Ok(self.shared.parts.registry.by_identity(&resolved.definition.identity()))
    }

    /// The shape of a definition; where it has to be made, that has begun.
    ///
    /// # Errors
    /// [`LookupError`]
    pub async fn find_or_create(&self, request: &DefinitionRequest) -> Result<Arc<Shape>, LookupError> {
        let parts = &self.shared.parts;
        if let Some(shape) = parts.registry.by_spelling(request) {
            return Ok(shape);
        }
        let resolved = self.catalog.resolve(request).await?;
        let identity = resolved.definition.identity();
        if let Some(shape) = parts.registry.by_identity(&identity) {
            parts.registry.remember(request, &shape);
            return Ok(shape);
        }
        if let Some(error) = self.shared.refusals.find(&identity) {
            return Err(LookupError::Request(error));
        }
        if let Some(shape) = self.wait_until_allowed(&identity).await? {
            return Ok(shape);
        }
        let make = || Arc::new(self.new_shape(request, &resolved, &identity));
        let (shape, is_new) = parts.registry.find_or_insert(&identity, make);
        parts.registry.remember(request, &shape);
        if is_new {
            tokio::spawn(spans::snapshot(shape.handle, self.clone().create(shape.clone(), resolved)));
        }
        Ok(shape)
    }

    /// Waits until a shape may be made, or until the process that writes to the folder has made it.
    async fn wait_until_allowed(&self, identity: &str) -> Result<Option<Arc<Shape>>, LookupError> {
        let Shared { parts: CreatorParts { registry, status, .. }, .. } = &*self.shared;
        let deadline = Instant::now() + ACTIVE_WAIT;
        while status.phase() != Phase::Active {
            if let Some(shape) = registry.by_identity(identity) {
                return Ok(Some(shape));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LookupError::Unavailable(status.unavailable()));
            }
            status.wait_active(left.min(FOUND_POLL)).await;
        }
        Ok(None)
    }

    /// Whether Postgres has run out of connections for queries.
    #[must_use]
    pub fn scarcity(&self) -> &Scarcity {
        &self.shared.parts.config.scarcity
    }

    /// A session of its own for a query.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub async fn connect(&self) -> Result<Session, PostgresError> {
        Session::connect(&self.shared.parts.config).await
    }

    fn new_shape(&self, request: &DefinitionRequest, resolved: &Resolved, identity: &str) -> Shape {
        let Resolved { definition, tables } = resolved;
        let parts = &self.shared.parts;
        let id = ShapeId(self.shared.next_id.fetch_add(1, Ordering::Relaxed));
        let hash = xxhash_rust::xxh3::xxh3_64(identity.as_bytes());
        let handle = Handle::new(hash, parts.registry.next_handle_us());
        let inner_partitions =
            tables.inner.iter().map(|table| (table.relation.oid, table.partitions.clone())).collect();
        let created = CreatedShape {
            partitions: tables.own.partitions.clone(),
            inner_partitions,
            ..CreatedShape::new(id, handle, request, definition)
        };
        let log = ShapeLog::new(parts.chunk_bytes_max);
        let place = (parts.folder.layout(), &parts.registry.schemas);
        let created = parts.registry.schemas.keep(created, handle);
        Shape::new(created, definition.clone(), place, log, Life::Creating)
    }

    /// Takes the shape through its creation, whatever comes of it.
    async fn create(self, shape: Arc<Shape>, resolved: Arc<Resolved>) {
        self.finish(&shape, self.create_or_fail(&shape, &resolved.tables)).await;
    }

    /// Sees a creation to its end. One that panics fails its shape: no task would make it any more.
    async fn finish(&self, shape: &Shape, creation: impl Future<Output = ()>) {
        if AssertUnwindSafe(creation).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(handle = %shape.handle, "the creation of a shape panicked");
        self.give_up(shape, Failure::Refused("the server made a mistake, please retry".to_owned())).await;
    }

    /// Tells those who wait for a shape why they do not get it, and forgets it: the next request tries again.
    async fn give_up(&self, shape: &Shape, failure: Failure) {
        shape.set_life(Life::Failed(failure));
        self.shared.parts.registry.remove(shape);
        // Where the engine does not know it yet, this changes nothing.
        let _ = self.engine.remove(shape.id, DropCause::CreationFailed).await;
    }

    /// Creates the shape; a failure is kept in the shape for those who wait.
    async fn create_or_fail(&self, shape: &Arc<Shape>, tables: &Tables) {
        let created = self.try_create(shape, tables).await;
        if shape.life() == Life::Removed {
            // Deleted, or its table has changed: whoever waited has been told. The engine may have learned of the
            // shape after that.
            let _ = self.engine.remove(shape.id, DropCause::Deleted).await;
            tracing::debug!(handle = %shape.handle, ?created, "a shape was removed while it was created");
            return;
        }
        let Err(error) = created else { return };
        let error = self.explain(error, &shape.definition).await;
        tracing::warn!(handle = %shape.handle, table = %tables.own.relation.name, %error, "cannot create a shape");
        let mut failure = error.failure(&shape.definition);
        // What the clause or a row is blamed for may come of a table or a type that has changed since the request was
        // checked: asked again, the same definition may be served.
        let blames_request = matches!(failure, Failure::Rows(_) | Failure::Refused(_));
        if blames_request && self.has_changed(shape).await {
            failure = Failure::Gone;
        }
        if failure == Failure::Gone {
            self.shared.parts.registry.catalog_changes.note(&shape.definition);
        }
        if let Failure::Rows(error) = &failure {
            self.shared.refusals.remember(&shape.identity(), error);
        }
        self.give_up(shape, failure).await;
    }

    /// Adds what only the catalog can tell of a refused snapshot: which right is missing, or who holds the lock.
    async fn explain(&self, error: CreateError, definition: &Definition) -> CreateError {
        match error.snapshot_code() {
            Some(sqlstate::INSUFFICIENT_PRIVILEGE) => match self.catalog.denial(definition).await {
                Ok(Some(denial)) => CreateError::Denied(denial),
                _ => error,
            },
            Some(sqlstate::LOCK_NOT_AVAILABLE) => match self.lock_holders(definition).await {
                Ok(holders) => PublicationError::LockTimeout { holders }.into(),
                Err(_) => error,
            },
            _ => error,
        }
    }

    /// Who holds locks on the tables that a definition reads.
    async fn lock_holders(&self, definition: &Definition) -> Result<Vec<Holder>, PostgresError> {
        let session = self.catalog.session().await?;
        let mut holders = Vec::new();
        for relation in definition.relations() {
            holders.extend(lock_holders(&session, relation.oid, Held::Any).await?);
        }
        Ok(holders)
    }

    /// True where a table is not what the definition took it for, or that cannot be told.
    async fn has_changed(&self, shape: &Shape) -> bool {
        for relation in shape.definition.relations() {
            if self.catalog.describe(relation.oid).await.ok().flatten().as_ref() != Some(&relation) {
                return true;
            }
        }
        false
    }

    async fn try_create(&self, shape: &Arc<Shape>, tables: &Tables) -> Result<(), CreateError> {
        // A table that is locked or written to for long holds no other table's snapshot up.
        for table in std::iter::once(&tables.own).chain(&tables.inner) {
            self.publisher.publish(table).await?;
        }
        self.shared.snapshots.take(shape, &tables.own).await
    }

    /// Where tables are published.
    #[must_use]
    pub fn publication(&self) -> &Publication {
        &self.shared.parts.publication
    }
}

/// The results of a definition's subqueries inside a snapshot; nothing where it has none.
pub(crate) async fn views(definition: &Definition, snapshot: &Snapshot) -> Result<Vec<View>, ViewError> {
    let mut views = Vec::new();
    for dependency in definition.subqueries() {
        let mut reader = MemberReader::new(dependency);
        let mut view = View::default();
        let mut chunks = snapshot.copy(&dependency.sql).await?;
        while let Some(chunk) = chunks.next().await {
            reader.push(&chunk?, |member| {
                view.insert(member);
            })?;
            if view.len() > MEMBERS_MAX {
                return Err(ViewError::TooManyMembers);
            }
        }
        reader.finish()?;
        views.push(view);
    }
    Ok(views)
}

/// The reason why a subquery's result cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error("cannot read a subquery's rows: {0}")]
    Copy(#[from] CopyError),
    #[error("a subquery returns more than {MEMBERS_MAX} different rows")]
    TooManyMembers,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::registry::tests::{relation, request, shape};
    use crate::store::Scratch;

    fn creator(folder: &Scratch) -> Creator {
        let config = PostgresConfig::parse("postgresql://limn@127.0.0.1:1/limn", None, false);
        let parts = CreatorParts {
            config: config.expect("a URL"),
            publication: Publication::new("limn", false),
            folder: Arc::new(Folder::open(folder.path()).expect("a new folder")),
            registry: Arc::default(),
            status: Arc::default(),
            metrics: Arc::default(),
            chunk_bytes_max: 1,
            snapshots_max: 1,
        };
        Creator::new(parts, EngineHandle::channel().0)
    }

    #[tokio::test]
    async fn a_creation_that_panics_fails_its_shape_and_the_next_request_tries_again() {
        let folder = Scratch::new("creation-test").expect("a folder");
        let (creator, request) = (creator(&folder), request("id=1"));
        let registry = creator.shared.parts.registry.clone();
        let make = |id| shape(&relation(), &request, id, u64::from(id));
        let (first, _) = registry.find_or_insert("x", || make(1));
        first.set_life(Life::Creating);
        creator.finish(&first, async { panic!("on purpose") }).await;
        assert!(matches!(first.life(), Life::Failed(Failure::Refused(_))), "{:?}", first.life());
        assert_eq!(registry.by_handle(first.handle).map(|shape| shape.id), None);
        let (second, is_new) = registry.find_or_insert(&first.identity(), || make(2));
        assert!(is_new && second.id != first.id);
    }
}
