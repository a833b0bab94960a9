//! A shape as the server holds it: what it is, its log, and who waits for it.

use super::schemas::Schemas;
use super::seats::{Guest, Seat, Seated, Seats};
use anyhow::Result;
use limn_core::journal::record::{CreatedShape, ShapePartitions};
use limn_core::log::reading::Part;
use limn_core::log::rope::SharedBytes;
use limn_core::log::{Clock, Read, ShapeLog};
use limn_core::pg::Relation;
use limn_core::protocol::RequestError;
use limn_core::protocol::reply::Unavailable;
use limn_core::protocol::request::DefinitionRequest;
use limn_core::shape::{Definition, GeneratedColumns, schema_header};
use limn_core::{Handle, Offset, ShapeId};
use limn_disk::{Layout, Native, segment, stored_part};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// One incarnation of a shape.
#[derive(Debug)]
pub struct Shape {
    /// Its number in the commit log.
    pub id: ShapeId,
    /// Its name on the wire.
    pub handle: Handle,
    /// The request that first asked for it, as text: that takes less memory than its parts.
    pub spelling: Box<str>,
    /// The definition that all its requests share.
    pub definition: Definition,
    layout: Layout,
    facts: Mutex<Facts>,
    log: Mutex<ShapeLog>,
    /// Whether a table is described otherwise than when the shape was made, in ways that the shape outlives.
    is_outdated: AtomicBool,
    /// Rises with every read of any shape.
    last_read: AtomicU64,
    changed: Notify,
    seats: Seats,
    generation: u64,
}

/// The state that changes beside its log.
#[derive(Debug)]
struct Facts {
    schema: Arc<str>,
    /// The tables below each that it reads, itself or in a subquery; those without any are left out.
    partitions: BTreeMap<u32, Vec<u32>>,
    life: Life,
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
        created: CreatedShape,
        handle: Handle,
        definition: Definition,
        (layout, schemas): (Layout, &Schemas),
        log: ShapeLog,
        life: Life,
    ) -> Self {
        let schema = schemas.header(&definition);
        let mut partitions = created.inner_partitions;
        partitions.insert(definition.relation.oid, created.partitions);
        partitions.retain(|_, below| !below.is_empty());
        Self {
            id: created.id,
            handle,
            spelling: created.request.request_key().into(),
            definition,
            layout,
            facts: Mutex::new(Facts { schema, partitions, life }),
            log: Mutex::new(log),
            is_outdated: AtomicBool::new(false),
            last_read: AtomicU64::new(0),
            changed: Notify::new(),
            seats: Seats::default(),
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The definition of a shape that the commit log knows.
    ///
    /// # Errors
    /// Where it does not fit the table that is stored with it.
    pub fn stored_definition(created: &CreatedShape) -> Result<Definition> {
        let CreatedShape { handle, request, relation, inner, .. } = created;
        Definition::resolve(request, relation, &GeneratedColumns::Checked, inner)
            .map_err(|error| anyhow::anyhow!("stored shape {handle} cannot be read: {error:?}"))
    }

    /// The request that first asked for it.
    ///
    /// # Panics
    /// Never: its spelling was made of a request.
    #[must_use]
    pub fn request(&self) -> DefinitionRequest {
        DefinitionRequest::from_request_key(&self.spelling).expect("a request's key")
    }

    /// The shape's identity, as the commit log keeps it.
    #[must_use]
    pub fn created(&self) -> CreatedShape {
        let own = self.definition.relation.oid;
        let mut inner_partitions = self.facts().partitions.clone();
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
        self.facts().partitions.get(&table).cloned().unwrap_or_default()
    }

    /// Partitions were made since: empty ones, so that nothing is missing.
    pub fn set_partitions(&self, now: &ShapePartitions) {
        let table = now.table.unwrap_or(self.definition.relation.oid);
        self.facts().partitions.insert(table, now.partitions.clone());
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
    pub async fn read(&self, after: Offset, clock: Clock) -> io::Result<Read> {
        loop {
            let (read, search) = {
                let log = self.log();
                (log.read(after, clock), log.index_search())
            };
            if read != Read::Search {
                return Ok(read);
            }
            let dir = self.dir();
            let find = move || segment::find(&Native, &dir, search, after);
            let found = match tokio::task::spawn_blocking(find).await.map_err(io::Error::other)? {
                // The log was compacted meanwhile, and the index is gone.
                Err(_) if self.log().start() != search.start => continue,
                found => found?,
            };
            let read = self.log().read_at(after, found, clock);
            if read != Read::Search {
                return Ok(read);
            }
        }
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
        self.facts().life.clone()
    }

    /// Goes on in its life and wakes everyone. Nothing follows `Removed`, nor `Failed`: who wakes late must still
    /// learn why.
    pub fn set_life(&self, life: Life) {
        {
            let current = &mut self.facts().life;
            if !matches!(*current, Life::Removed | Life::Failed(_)) {
                *current = life;
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
        self.facts().life == Life::Readable
    }

    /// True while it may be found under its definition.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.facts().life, Life::Creating | Life::Readable)
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves at the next [`wake`](Self::wake) after the call (once polled or enabled).
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Lets a live request wait for news on a seat.
    pub fn seat(&self, guest: Guest) -> Seated<'_> {
        self.seats.take(guest)
    }

    /// The seats that are taken: whoever asks for them serves or calls everybody.
    #[must_use]
    pub fn rise(&self) -> Vec<Arc<Seat>> {
        self.seats.rise()
    }

    /// Tells everyone who waits that there is something new.
    pub fn wake(&self) {
        self.changed.notify_waiters();
        self.rise().iter().for_each(|seat| seat.call());
    }

    /// Tells those who do not sit on seats that its log has grown; true where others do, and nobody else is about to
    /// serve them.
    #[must_use]
    pub fn grow(&self) -> bool {
        self.changed.notify_waiters();
        self.seats.fall_due()
    }
}
