//! A shape as the server holds it: what it is, its log, and who waits for it.

use super::schemas::Schemas;
use super::waiters::{LiveRequest, Waiter, Waiters, Waiting};
use anyhow::Result;
use limn_core::journal::KeptShape;
use limn_core::journal::record::{CreatedShape, ShapePartitions};
use limn_core::log::reading::Part;
use limn_core::log::rope::SharedBytes;
use limn_core::log::{Clock, Read, ShapeLog};
use limn_core::pg::Relation;
use limn_core::protocol::RequestError;
use limn_core::protocol::kept_request::KeptRequest;
use limn_core::protocol::reply::Unavailable;
use limn_core::protocol::request::DefinitionRequest;
use limn_core::shape::{Definition, StoredResolver, schema_header};
use limn_core::{Handle, Offset, ShapeId};
use limn_disk::{Layout, Native, read_log, stored_part};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// One incarnation of a shape.
#[derive(Debug)]
pub struct Shape {
    /// Its number in the commit log.
    pub id: ShapeId,
    /// Its name on the wire.
    pub handle: Handle,
    /// The request that first asked for it.
    asked: KeptRequest,
    /// The definition that all its requests share, at rest.
    pub definition: Definition,
    layout: Layout,
    facts: Mutex<Facts>,
    log: Mutex<ShapeLog>,
    /// Whether a table is described otherwise than when the shape was made, in ways that the shape outlives.
    is_outdated: AtomicBool,
    /// Rises with every read of any shape.
    last_read: AtomicU64,
    /// Those who wait for it. Most shapes have never had any.
    readers: OnceLock<Box<Readers>>,
    generation: u64,
}

#[derive(Debug, Default)]
struct Readers {
    changed: Notify,
    waiters: Waiters,
}

/// The state that changes beside its log.
#[derive(Debug)]
struct Facts {
    schema: Arc<str>,
    /// The tables below each that it reads, itself or in a subquery; `None` where there are none.
    #[allow(clippy::box_collection, reason = "there are many shapes, and few of them have partitions")]
    partitions: Option<Box<BTreeMap<u32, Vec<u32>>>>,
    stage: Stage,
}

/// A [`Life`] that takes little memory.
#[derive(Debug)]
enum Stage {
    Creating,
    Readable,
    Failed(Box<Failure>),
    Removed,
}
/// The number of shapes that this process has held.
static GENERATIONS: AtomicU64 = AtomicU64::new(0);

/// Where a shape is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// Its snapshot has not begun.
    Creating,
    /// It can be read.
    Readable,
    /// It could not be created; the next request tries again.
    Failed(Failure),
    /// It is no more.
    Removed,
}

/// Why a shape could not be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A state that passes.
    Unavailable(Unavailable),
    /// The snapshot fails on the table's rows: the parameter that asks for them, and why.
    Rows(RequestError),
    /// Postgres refused the query.
    Refused(String),
    /// What the definition names has gone meanwhile.
    Gone,
}

impl Shape {
    /// A shape with its log.
    #[must_use]
    pub fn new(
        created: KeptShape,
        definition: Definition,
        (layout, schemas): (Layout, &Schemas),
        log: ShapeLog,
        life: Life,
    ) -> Self {
        let mut definition = definition.at_rest();
        let schema = schemas.share(&mut definition);
        let partitions = created.partitions();
        let partitions = (!partitions.is_empty()).then(|| Box::new(partitions));
        Self {
            id: created.id,
            handle: created.handle,
            asked: created.request,
            definition,
            layout,
            facts: Mutex::new(Facts { schema, partitions, stage: life.into() }),
            log: Mutex::new(log),
            is_outdated: AtomicBool::new(false),
            last_read: AtomicU64::new(0),
            readers: OnceLock::new(),
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The definition of a shape that the commit log knows.
    ///
    /// # Errors
    /// Where it does not fit the table that is stored with it.
    pub fn stored_definition(created: &KeptShape, resolver: &mut StoredResolver) -> Result<Definition> {
        let KeptShape { handle, request, relation, .. } = created;
        resolver
            .resolve(request, relation, created.inner())
            .map_err(|error| anyhow::anyhow!("stored shape {handle} cannot be read: {error:?}"))
    }

    /// The request that first asked for it.
    #[must_use]
    pub fn request(&self) -> DefinitionRequest {
        self.asked.request()
    }

    /// True where that request has the same [key](DefinitionRequest::request_key) as another one.
    #[must_use]
    pub fn is_asked_by(&self, request: &DefinitionRequest) -> bool {
        self.asked.is(request)
    }

    /// The shape's identity, as the commit log keeps it.
    #[must_use]
    pub fn created(&self) -> CreatedShape {
        let own = self.definition.relation.oid;
        let mut inner_partitions = self.facts().partitions.as_deref().cloned().unwrap_or_default();
        CreatedShape {
            id: self.id,
            handle: self.handle.to_string(),
            request: self.request(),
            relation: self.definition.relation.clone(),
            partitions: inner_partitions.remove(&own).unwrap_or_default(),
            inner_partitions,
            inner: self.definition.inner_relations(),
        }
    }

    /// A number that no other shape of this process has, nor the same one after it was read anew: the bytes at a place
    /// of its log are the same for as long as the number is.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The `electric-schema` header.
    #[must_use]
    pub fn schema(&self) -> Arc<str> {
        self.facts().schema.clone()
    }

    /// [`Definition::identity`]
    #[must_use]
    pub fn identity(&self) -> String {
        self.definition.identity()
    }

    /// The folder of its files.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.layout.shape_dir(self.handle)
    }

    /// The tables below one that it reads, whose rows it includes, in order of their oids.
    #[must_use]
    pub fn partitions(&self, table: u32) -> Vec<u32> {
        let facts = self.facts();
        facts.partitions.as_ref().and_then(|below| below.get(&table)).cloned().unwrap_or_default()
    }

    /// Partitions were made since: empty ones, so that nothing is missing.
    pub fn set_partitions(&self, now: &ShapePartitions) {
        let table = now.table.unwrap_or(self.definition.relation.oid);
        self.facts().partitions.get_or_insert_default().insert(table, now.partitions.clone());
    }

    /// The table has changed in ways that the shape outlives, such as nullability: the header follows.
    pub fn handle_described(&self, now: &Relation) {
        let columns = self.definition.columns();
        let columns = columns.filter_map(|column| now.columns.get(now.column_index(&column.name)?));
        self.set_schema(schema_header(columns).into());
    }

    /// Replaces the `electric-schema` header.
    pub fn set_schema(&self, schema: Arc<str>) {
        self.facts().schema = schema;
    }

    /// Any of its tables was described: the definition may be of an older description.
    pub fn note_description(&self, now: &Relation) {
        let is_older = |then: &Arc<Relation>| then.oid == now.oid && **then != *now;
        if self.definition.relations().iter().any(is_older) {
            self.is_outdated.store(true, Ordering::Release);
        }
    }

    /// Whether clauses must be checked against a newer description than that of its definition: columns and labels may
    /// have come.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.is_outdated.load(Ordering::Acquire)
    }

    /// The log. Held for moments only, never across an await.
    pub fn log(&self) -> MutexGuard<'_, ShapeLog> {
        // A log is changed by appending: whoever panicked left it whole.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there may be moves in its log, whose offsets do not tell how far the rows are.
    #[must_use]
    pub fn has_moves(&self) -> bool {
        !self.definition.dependencies().is_empty()
    }

    /// The stream has come up to its snapshot: wakes the readers, who can be told an LSN now.
    pub fn handle_joined(&self) {
        self.log().handle_joined();
        self.wake();
    }

    /// Reads its log after `after`; may read the segment's index from disk. Never gives [`Read::Search`].
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub async fn read(self: &Arc<Self>, after: Offset, clock: Clock) -> io::Result<Read> {
        let read = self.log().read(after, clock);
        if read != Read::Search {
            return Ok(read);
        }
        let shape = self.clone();
        let reading = move || read_log(&Native, &shape.layout, &shape, after, clock);
        tokio::task::spawn_blocking(reading).await.map_err(io::Error::other)?
    }

    /// The end of its log, for a client that has none of its rows.
    #[must_use]
    pub fn read_end(&self, clock: Clock) -> Read {
        self.log().read_end(clock)
    }

    /// Finds the bytes of a part of its log ([`stored_part`]).
    pub fn stored(&self, part: &Part) -> (Option<(PathBuf, Range<u64>)>, SharedBytes) {
        stored_part(|| self.dir(), &mut self.log(), part)
    }

    /// Where it is in its life.
    #[must_use]
    pub fn life(&self) -> Life {
        match &self.facts().stage {
            Stage::Creating => Life::Creating,
            Stage::Readable => Life::Readable,
            Stage::Failed(failure) => Life::Failed(failure.as_ref().clone()),
            Stage::Removed => Life::Removed,
        }
    }

    /// Goes on in its life and wakes everyone. Nothing follows `Removed`, nor `Failed`: who wakes late must still
    /// learn why.
    pub fn set_life(&self, life: Life) {
        {
            let stage = &mut self.facts().stage;
            if !matches!(*stage, Stage::Removed | Stage::Failed(_)) {
                *stage = life.into();
            }
        }
        self.wake();
    }

    /// Somebody reads it; `order` rises from read to read.
    pub fn handle_read(&self, order: u64) {
        self.last_read.fetch_max(order, Ordering::Relaxed);
    }

    /// The order of its last read.
    #[must_use]
    pub fn last_read(&self) -> u64 {
        self.last_read.load(Ordering::Relaxed)
    }

    /// True while its log can be read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        matches!(self.facts().stage, Stage::Readable)
    }

    /// True while it may be found under its definition.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.facts().stage, Stage::Creating | Stage::Readable)
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves at the next [`wake`](Self::wake) after the call (once polled or enabled).
    pub fn changed(&self) -> Notified<'_> {
        self.readers().changed.notified()
    }

    /// Has a live request wait for news.
    pub fn wait(&self, live: LiveRequest) -> Waiting<'_> {
        self.readers().waiters.take(live)
    }

    /// The live requests that wait: whoever takes them serves or wakes all of them.
    #[must_use]
    pub fn take_waiters(&self) -> Vec<Arc<Waiter>> {
        self.readers.get().map_or_else(Vec::new, |readers| readers.waiters.take_all())
    }

    /// Tells everyone who waits that there is something new.
    pub fn wake(&self) {
        if let Some(readers) = self.readers.get() {
            readers.changed.notify_waiters();
            readers.waiters.take_all().iter().for_each(|waiter| waiter.wake());
        }
    }

    /// Tells others than waiting live requests that its log has grown; true where there are such requests, and nobody
    /// else is about to serve them.
    #[must_use]
    pub fn grow(&self) -> bool {
        let Some(readers) = self.readers.get() else { return false };
        readers.changed.notify_waiters();
        readers.waiters.mark_due()
    }

    fn readers(&self) -> &Readers {
        self.readers.get_or_init(Box::default)
    }
}

impl From<Life> for Stage {
    fn from(life: Life) -> Self {
        match life {
            Life::Creating => Self::Creating,
            Life::Readable => Self::Readable,
            Life::Failed(failure) => Self::Failed(Box::new(failure)),
            Life::Removed => Self::Removed,
        }
    }
}
