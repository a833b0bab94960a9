//! Subsets: rows of a shape read from Postgres for one request, streamed as they come.

use super::lookup::{find_or_create, wait_readable};
use super::read::Refusal;
use super::{Server, refusal, with_head};
use crate::health::Phase;
use crate::postgres::snapshot::Snapshot;
use crate::postgres::{PostgresError, sqlstate};
use crate::shapes::Shape;
use crate::shapes::creation::{LookupError, ViewError, views};
use axum::body::{Body, Bytes};
use axum::http::Response;
use axum::http::header::CONTENT_LENGTH;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use limn_core::Offset;
use limn_core::filter::EvalError;
use limn_core::log::{ItemFormat, Read};
use limn_core::pg::SnapshotBounds;
use limn_core::pg::copy::{CopyDecoder, CopyError, ProjectedRow};
use limn_core::protocol::reply::{LogReply, Reply, Unavailable};
use limn_core::protocol::request::{RequestOffset, ShapeRequest};
use limn_core::protocol::route::Method;
use limn_core::protocol::{RequestError, SnapshotMark, SubsetRequest};
use limn_core::shape::dependent::View;
use limn_core::shape::{Definition, SubsetQuery, SubsetWriter};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// Further ones that wait for their turn.
const WAITING_MAX: usize = 1_000;
/// How long they wait.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// How long a query may take, and its reader with it: both hold back Postgres's cleaning up.
const QUERY_TIME_MAX: Duration = Duration::from_secs(60);
/// How long Postgres may work on a query.
const STATEMENT_MS_MAX: u32 = 30_000;
/// How long a request waits for Postgres to be followed.
const ACTIVE_WAIT: Duration = Duration::from_secs(5);
/// Bytes that are gathered before they are sent. A subset that fits is answered whole, with its length; and
/// what fails until then is answered with a status.
const PIECE_BYTES: usize = 64 << 10;

/// The subset queries that are under way.
pub struct Subsets {
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// The right to run a query, for as long as it is kept.
struct Turn {
    _place: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

impl Subsets {
    /// Lets `running_max` queries run at one time, each on a session of its own.
    #[must_use]
    pub fn new(running_max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(running_max + WAITING_MAX)),
            turns: Arc::new(Semaphore::new(running_max)),
        }
    }

    /// Waits for a turn; `None` where too many wait already, or it does not come in time.
    async fn turn(&self) -> Option<Turn> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let turn = timeout(TURN_WAIT, self.turns.clone().acquire_owned()).await.ok()?.ok()?;
        Some(Turn { _place: place, _turn: turn })
    }
}

/// Answers a request for a subset. The definition is judged before the subset, and nothing is created for a
/// request that is refused.
pub(super) async fn answer(
    server: &Arc<Server>,
    request: ShapeRequest,
    subset: Result<SubsetRequest, RequestError>,
) -> Result<Response<Body>, Refusal> {
    let cache = &server.settings.cache;
    let method = request.method;
    let refuse = |error: &RequestError| Box::new(Reply::bad_request(cache, method, error));
    let definition = match server.registry.by_spelling(&request.definition) {
        Some(shape) if !shape.is_outdated() => shape.definition.clone(),
        _ => {
            let resolved = server.creator.catalog.resolve(&request.definition).await;
            resolved.map_err(|error| refusal::of_lookup(error, cache, method))?.definition.clone()
        }
    };
    let subset = subset.map_err(|error| refuse(&error))?;
    let queryable = request.definition.queryable_columns.as_deref();
    let query = SubsetQuery::resolve(&subset, &definition, queryable).map_err(|error| refuse(&error))?;
    confirm(server, &definition, &query).await.map_err(|error| refusal::of_lookup(error, cache, method))?;
    let shape = find_or_create(server, method, &request.definition).await?;
    if request.handle.as_ref().is_some_and(|handle| *handle != shape.handle.to_string()) {
        return Err(Box::new(Reply::must_refetch(cache, method, Some(shape.handle))));
    }
    if definition.identity() != shape.identity() {
        // The table was altered, and the shape is about to go.
        return Err(Box::new(Reply::must_refetch(cache, method, None)));
    }
    // The log must be kept before the query is run: what the query does not see comes there.
    wait_readable(server, method, &shape).await?;
    shape.handle_read(server.next_unique());
    Asker { server, shape, definition, request, query }.answer().await
}

/// Has Postgres confirm a clause that only it can evaluate.
async fn confirm(server: &Server, definition: &Definition, query: &SubsetQuery) -> Result<(), LookupError> {
    let Some(filter) = query.postgres() else { return Ok(()) };
    server.creator.catalog.check_rights(definition).await?;
    server.creator.catalog.confirm(&definition.relation, filter, "subset.where").await
}

/// One request on its way to an answer.
struct Asker<'a> {
    server: &'a Arc<Server>,
    shape: Arc<Shape>,
    definition: Definition,
    request: ShapeRequest,
    query: SubsetQuery,
}

impl Asker<'_> {
    async fn answer(self) -> Result<Response<Body>, Refusal> {
        let status = &self.server.status;
        if status.phase() != Phase::Active && !status.wait_active(ACTIVE_WAIT).await {
            return Err(self.unavailable(&status.unavailable()));
        }
        // Its rows are only of use together with the changes behind them.
        if let Some(fault) = status.table_fault(&self.shape.definition) {
            return Err(self.unavailable(&fault));
        }
        let Some(turn) = self.server.subsets.turn().await else {
            self.server.metrics.refused("subset");
            let text = "Too many subset queries are under way, please retry";
            return Err(self.unavailable(&Unavailable { known: true, ..Unavailable::new(text, 5) }));
        };
        // Before the query: what comes behind it in the log is what the query may not see.
        let end = self.shape.log().last_offset();
        let salt = self.shape.handle.to_string();
        let begun =
            Rows::begin(self.server.clone(), &self.definition, &salt, &self.query, turn).boxed().await;
        let mut rows = match begun {
            Ok(rows) => rows,
            Err(error) => return Err(self.denial_or_refusal(&error).await),
        };
        let offset = self.kept_offset().unwrap_or_else(|| status.recent().seen_up_to(end, &rows.bounds));
        let first = match rows.next_piece().await {
            Ok(first) => first.unwrap_or_default(),
            Err(error) => return Err(self.denial_or_refusal(&error).await),
        };
        let schema = self.shape.schema();
        let reply = LogReply {
            request: self.request.read(),
            handle: self.shape.handle,
            offset,
            segment_start: 0,
            up_to_date: false,
            closed: false,
            schema: &schema,
            cursor: 0,
            coding: None,
        };
        let head = reply.subset(&self.server.settings.cache);
        if self.request.method == Method::Head {
            return Ok(with_head(head, Body::empty()));
        }
        if rows.copy.is_some() {
            return Ok(with_head(head, rows.into_body(first)));
        }
        let length = first.len();
        let mut response = with_head(head, Body::from(first));
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        Ok(response)
    }

    /// The client's own place in the log, where it has one.
    ///
    /// Clients move to the offset of the reply. Wherever theirs is in the log it stays: the changes behind it may
    /// belong to rows that this subset does not hold.
    fn kept_offset(&self) -> Option<Offset> {
        match self.request.offset {
            RequestOffset::Now => None,
            RequestOffset::At(Offset::Start) => Some(Offset::snapshot_chunk(0)),
            RequestOffset::At(after) => {
                let clock = self.server.clock(self.server.standing(&self.shape));
                (self.shape.log().read(after, clock) != Read::Ahead).then_some(after)
            }
        }
    }

    /// The same as [`refusal`](Self::refusal), with what to grant where the role lacks a right.
    async fn denial_or_refusal(&self, error: &RowsError) -> Refusal {
        if error.code() == Some(sqlstate::INSUFFICIENT_PRIVILEGE)
            && let Ok(Some(denial)) = self.server.creator.catalog.subset_denial(&self.definition).await
        {
            let text = format!("Unable to query the subset: {denial}");
            return self.unavailable(&Unavailable { known: true, ..Unavailable::new(text, 10) });
        }
        self.refusal(error)
    }

    /// What a query that failed is answered with.
    fn refusal(&self, error: &RowsError) -> Refusal {
        let (cache, method) = (&self.server.settings.cache, self.request.method);
        let known = |text: &str| Unavailable { known: true, ..Unavailable::new(text, 10) };
        let bad_request = |parameter: &'static str| {
            Box::new(Reply::bad_request(cache, method, &RequestError::new(parameter, error.message())))
        };
        match error.code() {
            // Data that an expression cannot take: a literal that only Postgres judges, a division by zero.
            Some(code) if code.starts_with(sqlstate::class::DATA_EXCEPTION) => bad_request("subset.where"),
            // A type that has no order.
            Some(sqlstate::UNDEFINED_FUNCTION) => bad_request("subset.order_by"),
            // The table, its schema or a column has gone; the shape will follow.
            Some(sqlstate::UNDEFINED_TABLE | sqlstate::UNDEFINED_COLUMN | sqlstate::INVALID_SCHEMA_NAME) => {
                let successor = self.server.successor(&self.shape);
                Box::new(Reply::must_refetch(cache, method, successor))
            }
            Some(sqlstate::QUERY_CANCELED) => self.unavailable(&known("The subset query took too long")),
            Some(sqlstate::LOCK_NOT_AVAILABLE) => {
                self.unavailable(&known("The subset query timed out waiting for a table lock"))
            }
            Some(sqlstate::INSUFFICIENT_PRIVILEGE) => {
                self.unavailable(&known(&format!("Unable to query the subset: {error}")))
            }
            _ => {
                tracing::warn!(handle = %self.shape.handle, %error, "a subset query failed");
                match error {
                    RowsError::Postgres(error) if !error.is_transient() => {
                        let message = format!("Unable to query the subset: {error}");
                        Box::new(Reply::failed(cache, method, &message))
                    }
                    RowsError::Copy(_) | RowsError::Row(_) => {
                        Box::new(Reply::failed(cache, method, "Unable to read the subset's rows"))
                    }
                    _ => self.unavailable(&Unavailable::new("Cannot query Postgres, please retry", 5)),
                }
            }
        }
    }

    fn unavailable(&self, state: &Unavailable) -> Refusal {
        Box::new(Reply::unavailable(&self.server.settings.cache, self.request.method, state))
    }
}

/// The rows of a query on their way to the client, as pieces of the body.
struct Rows {
    server: Arc<Server>,
    /// Absent once all rows have come.
    copy: Option<Copy>,
    decoder: CopyDecoder,
    places: Vec<Option<usize>>,
    writer: SubsetWriter,
    bounds: SnapshotBounds,
    deadline: Instant,
    _turn: Turn,
}

struct Copy {
    // Before the snapshot, so that it goes first.
    chunks: BoxStream<'static, Result<Bytes, PostgresError>>,
    snapshot: Snapshot,
}

impl Rows {
    async fn begin(
        server: Arc<Server>,
        definition: &Definition,
        salt: &str,
        query: &SubsetQuery,
        turn: Turn,
    ) -> Result<Self, RowsError> {
        let deadline = Instant::now() + QUERY_TIME_MAX;
        let begun = timeout_at(deadline, begin(&server, definition, query)).await;
        let (copy, views) = begun.map_err(|_| RowsError::TooSlow)??;
        let tagger = definition.tagger(salt, views);
        let format =
            ItemFormat::new(&definition.relation, &definition.projection.columns, definition.replica);
        let bounds = copy.snapshot.bounds().clone();
        let writer = SubsetWriter::new(format, tagger, &bounds, copy.snapshot.ends_at(), mark(&server));
        let places = definition.places();
        let decoder = CopyDecoder::new();
        Ok(Self { server, copy: Some(copy), decoder, places, writer, bounds, deadline, _turn: turn })
    }

    /// The next piece; `None` after the last one.
    async fn next_piece(&mut self) -> Result<Option<Bytes>, RowsError> {
        while self.writer.len() < PIECE_BYTES {
            let Some(copy) = &mut self.copy else { break };
            let next = timeout_at(self.deadline, copy.chunks.next()).await;
            match next.map_err(|_| RowsError::TooSlow)? {
                Some(chunk) => self.push(&chunk?)?,
                None => self.finish().await?,
            }
        }
        let piece = self.writer.take();
        Ok((!piece.is_empty()).then(|| piece.into()))
    }

    fn push(&mut self, chunk: &[u8]) -> Result<(), RowsError> {
        self.decoder.push(chunk);
        while let Some(row) = self.decoder.next_row()? {
            self.writer.push_row(&ProjectedRow { row, places: &self.places })?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), RowsError> {
        self.decoder.finish()?;
        self.writer.finish();
        if let Some(Copy { snapshot, chunks }) = self.copy.take() {
            drop(chunks);
            // All rows are there: how the read-only transaction ends changes nothing.
            if let Ok(Ok(session)) = timeout_at(self.deadline, snapshot.finish()).await {
                self.server.creator.pool.keep(session);
            }
        }
        Ok(())
    }

    /// The body from the first piece on.
    fn into_body(self, first: Bytes) -> Body {
        let rest = stream::unfold(Some(self), |rows| async {
            let mut rows = rows?;
            match rows.next_piece().await {
                Ok(piece) => piece.map(|piece| (Ok(piece), Some(rows))),
                Err(error) => {
                    tracing::warn!(%error, "a subset query failed after its first rows");
                    // Cut the body off: a part of a subset must not look like a whole one.
                    Some((Err(io::Error::other(error)), None))
                }
            }
        });
        Body::from_stream(stream::once(async { Ok(first) }).chain(rest))
    }
}

/// Takes the snapshot and starts the query.
async fn begin(
    server: &Server,
    definition: &Definition,
    query: &SubsetQuery,
) -> Result<(Copy, Vec<View>), RowsError> {
    let tables = definition.relations();
    let snapshot = server.creator.pool.begin(&tables).await?;
    let limit = format!("SET LOCAL statement_timeout = {STATEMENT_MS_MAX}");
    snapshot.session().batch_execute(&limit).await.map_err(PostgresError::from)?;
    let views = views(definition, &snapshot).await?;
    let chunks = snapshot.copy(query.sql()).await?.boxed();
    Ok((Copy { chunks, snapshot }, views))
}

/// A mark that hardly two subsets of a client have in common.
fn mark(server: &Server) -> SnapshotMark {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = u128::from(server.next_unique()) << 64 | now.as_nanos();
    SnapshotMark::from_random(xxhash_rust::xxh3::xxh3_64(&seed.to_le_bytes()))
}

#[derive(Debug, thiserror::Error)]
enum RowsError {
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error("cannot read the rows: {0}")]
    Copy(#[from] CopyError),
    #[error("cannot judge a row: {0}")]
    Row(#[from] EvalError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("not finished within {} s", QUERY_TIME_MAX.as_secs())]
    TooSlow,
}

impl RowsError {
    fn code(&self) -> Option<&str> {
        match self {
            Self::Postgres(error) => error.code(),
            Self::View(ViewError::Postgres(error)) => error.code(),
            Self::Copy(_) | Self::Row(_) | Self::View(_) | Self::TooSlow => None,
        }
    }

    /// Postgres's own words, where there are any.
    fn message(&self) -> String {
        match self {
            Self::Postgres(PostgresError::Server(error)) => error.message.clone(),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_are_bounded_and_come_back() {
        const RUNNING_MAX: usize = 3;
        let subsets = Subsets::new(RUNNING_MAX);
        let mut running = Vec::new();
        for _ in 0..RUNNING_MAX {
            running.push(subsets.turn().await.expect("nobody else runs"));
        }
        let waiting = tokio::spawn({
            let (places, turns) = (subsets.places.clone(), subsets.turns.clone());
            async move { Subsets { places, turns }.turn().await.is_some() }
        });
        tokio::task::yield_now().await;
        let others = u32::try_from(WAITING_MAX - 1).expect("a small number");
        let crowd = subsets.places.clone().try_acquire_many_owned(others).expect("one waits");
        assert!(subsets.turn().await.is_none(), "no place to wait");
        drop(crowd);
        running.pop();
        assert!(waiting.await.expect("it ends"), "the turn that was given back");
    }
}
