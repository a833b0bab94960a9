//! `GET`, `HEAD` and `POST /v1/shape`: the log, or the wait for it.

use super::admission::Admitted;
use super::body::{Stored, growing_snapshot};
use super::events::Events;
use super::lookup::{find_or_create_followed, wait_readable};
use super::{Server, fixed, subset, text, with_head};
use crate::metrics::Counted;
use crate::shape::Shape;
use crate::status::Phase;
use crate::store::segment;
use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, Request, Response};
use limn_core::log::{Clock, Read};
use limn_core::protocol::body::{BODY_BYTES_MAX, BodyError};
use limn_core::protocol::cache::{lists_etag, next_cursor};
use limn_core::protocol::query::Query;
use limn_core::protocol::reply::{LogReply, Reply, Unavailable};
use limn_core::protocol::request::{RequestOffset, ShapeRequest, read_shape_request};
use limn_core::protocol::route::Method;
use limn_core::protocol::{RequestError, SubsetRequest, header, message};
use limn_core::{Lsn, Offset};
use std::error::Error;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, timeout_at};

/// How long a read waits for the next chunk of a snapshot that is being written.
const CHUNK_WAIT: Duration = Duration::from_secs(30);
/// How long a read waits for Postgres to be followed.
const CURRENT_WAIT: Duration = Duration::from_secs(5);
/// How long a client that must start over waits to learn the new handle.
const SUCCESSOR_WAIT: Duration = Duration::from_secs(2);
/// How often a request whose offset lies ahead looks whether the WAL has been read that far.
const AHEAD_POLL: Duration = Duration::from_millis(100);

/// Answers a request for a part of a log.
pub(super) async fn read(
    server: &Arc<Server>,
    method: Method,
    query: &str,
    request: Request<Body>,
) -> Response<Body> {
    let headers = request.headers().clone();
    match try_read(server, method, query, &headers, request).await {
        Ok(response) => response,
        Err(reply) => fixed(method, *reply),
    }
}

pub(super) type Refusal = Box<Reply>;

async fn try_read(
    server: &Arc<Server>,
    method: Method,
    query: &str,
    headers: &HeaderMap,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let cache = &server.settings.cache;
    let refuse = |error: &RequestError| Box::new(Reply::bad_request(cache, method, error));
    let mut parameters = Query::parse(query).map_err(|error| refuse(&error.into()))?;
    let admit = server.admission.admit(!names_known_handle(server, &parameters));
    let mut admitted = admit.map_err(|refused| Box::new(refused.into_reply(server, method)))?;
    if method == Method::Post {
        merge_body(server, &mut parameters, request).await?;
    }
    let request = read_shape_request(method, &parameters).map_err(|error| refuse(&error))?;
    if let Some(subset) = SubsetRequest::read(&parameters).transpose() {
        return subset::answer(server, request, subset).await;
    }
    let shape = find_or_create_followed(server, &request).await?;
    if request.handle.as_ref().is_some_and(|handle| *handle != shape.handle.to_string()) {
        return Err(Box::new(Reply::must_refetch(cache, method, Some(shape.handle))));
    }
    wait_readable(server, method, &shape).await?;
    server.admission.settle(&mut admitted);
    shape.handle_read(server.next_unique());
    let if_none_match = text(headers, header::IF_NONE_MATCH).map(str::to_owned);
    let schema = shape.schema();
    Reader { server, shape, schema, request, if_none_match, admitted }.answer().await
}

fn names_known_handle(server: &Server, parameters: &Query) -> bool {
    let handle = parameters.text("handle").ok().flatten().and_then(|handle| handle.parse().ok());
    handle.is_some_and(|handle| server.registry.by_handle(handle).is_some())
}

async fn merge_body(server: &Server, query: &mut Query, request: Request<Body>) -> Result<(), Refusal> {
    let cache = &server.settings.cache;
    let reading = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX);
    let read = tokio::time::timeout(server.settings.read_timeout, reading).await;
    let body = match read {
        Ok(body) => body.map_err(|error| body_error(&error)),
        Err(_) => Err(BodyError::TooSlow),
    };
    let merged = body.and_then(|body| query.merge_body(&body));
    merged.map_err(|error| Box::new(Reply::bad_body(cache, &error)))
}

/// hyper's error says that the body is broken; the other one that it is too long.
fn body_error(error: &axum::Error) -> BodyError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<hyper::Error>() {
            return BodyError::Unreadable;
        }
        cause = error.source();
    }
    BodyError::TooLarge
}

/// One request on its way to an answer.
struct Reader<'a> {
    server: &'a Arc<Server>,
    shape: Arc<Shape>,
    schema: Arc<str>,
    request: ShapeRequest,
    if_none_match: Option<String>,
    /// Held until the answer is there; a stream of events takes it along.
    admitted: Admitted,
}

/// What a wait waits for.
enum Wait {
    /// Nothing follows the offset: a live request waits for a change.
    Live,
    /// The snapshot's next chunk is being written.
    Chunk,
    /// The offset lies beyond everything we know.
    Ahead,
}

/// Where the log stood when an event stream began.
#[derive(Debug, Clone, Copy)]
struct StreamBegin {
    /// The end of the first chunk.
    offset: Offset,
    /// Whether that is the end of the log.
    up_to_date: bool,
    /// Whether there is anything to send at once.
    has_pending: bool,
}

impl Reader<'_> {
    async fn answer(mut self) -> Result<Response<Body>, Refusal> {
        let after = match self.request.offset {
            RequestOffset::Now => return self.now().await,
            RequestOffset::At(after) => after,
        };
        let started = Instant::now();
        let mut first = true;
        let mut waited_long = false;
        loop {
            let shape = self.shape.clone();
            let changed = shape.changed();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if !shape.is_readable() {
                self.shape = self.held_anew().await?;
                continue;
            }
            let clock = self.server.clock(&self.shape);
            let read = self.locate(after, clock).await?;
            if let Some(response) = self.not_modified(&read, first) {
                return Ok(response);
            }
            if let Some(begin) = self.stream_begin(&read) {
                if !clock.is_current {
                    self.wait_current().await?;
                    continue;
                }
                if !begin.has_pending && self.server.stopping.has_begun() {
                    return Err(self.stopping());
                }
                return Ok(self.events(after, begin));
            }
            let wait = match read {
                Read::End { offset, up_to_date: Some(lsn) } if !self.request.live => {
                    return self.caught_up(offset, lsn).await;
                }
                Read::End { up_to_date: None, .. } if !self.request.live => {
                    self.wait_current().await?;
                    continue;
                }
                // The log was read again when the wait was over: a commit may have come at that very moment.
                Read::End { offset, up_to_date: Some(lsn) } if waited_long => {
                    return Ok(self.nothing_new(offset, lsn));
                }
                Read::End { .. } => Wait::Live,
                Read::Pending => Wait::Chunk,
                Read::Ahead => Wait::Ahead,
                found => return self.found(found).await,
            };
            if self.server.stopping.has_begun() {
                return Err(self.stopping());
            }
            first = false;
            if matches!(wait, Wait::Live) {
                self.wait_current().await?;
            }
            let deadline = started + self.limit(&wait);
            let _parked = self.park(&wait);
            let look_again = match wait {
                Wait::Ahead => deadline.min(Instant::now() + AHEAD_POLL),
                Wait::Live | Wait::Chunk => deadline,
            };
            let waited = tokio::select! {
                waited = timeout_at(look_again, changed) => waited.is_ok() || look_again < deadline,
                // Whoever waits for changes is told that there are none; the others come again.
                () = self.server.stopping.begun() => !matches!(wait, Wait::Live),
            };
            match wait {
                Wait::Live => waited_long = !waited,
                _ if waited => {}
                _ if self.is_away() => return Err(self.away()),
                Wait::Chunk => return Err(self.chunk_missing()),
                // What the client has seen may be on its way to us.
                Wait::Ahead if self.server.status.phase() != Phase::Active => return Err(self.away()),
                Wait::Ahead => return Err(self.out_of_bounds()),
            }
        }
    }

    /// How an event stream would begin, where one was asked for and something can be said.
    fn stream_begin(&self, read: &Read) -> Option<StreamBegin> {
        let (offset, up_to_date, has_pending) = match (self.request.live_sse, read) {
            (true, Read::End { offset, up_to_date }) => (*offset, up_to_date.is_some(), false),
            (true, Read::Changes { offset, up_to_date, .. }) => (*offset, up_to_date.is_some(), true),
            (true, Read::Snapshot { offset, .. }) => (*offset, false, true),
            _ => return None,
        };
        Some(StreamBegin { offset, up_to_date, has_pending })
    }

    /// A stream of events from `after` on.
    fn events(self, after: Offset, begin: StreamBegin) -> Response<Body> {
        let StreamBegin { offset, up_to_date, has_pending } = begin;
        let head = self.reply(offset, up_to_date, false).chunk(&self.server.settings.cache);
        if self.request.method == Method::Head {
            return with_head(head, Body::empty());
        }
        let events = Events::new(self.server.clone(), self.shape, after, has_pending, self.admitted);
        with_head(head, events.into_body())
    }

    /// Where in the log the answer is; looks into the segment's index where memory does not know.
    async fn locate(&self, after: Offset, clock: Clock) -> Result<Read, Refusal> {
        match self.shape.read(after, clock).await {
            Ok(read) => Ok(read),
            Err(error) => Err(self.unreadable(&error).await),
        }
    }

    /// 304, where the client has the very answer already. A live request revalidates only when it comes. An event
    /// stream never does: whoever has its tag may have received a part of it only.
    fn not_modified(&self, read: &Read, first: bool) -> Option<Response<Body>> {
        let may_revalidate = first && !self.request.live_sse;
        let if_none_match = self.if_none_match.as_deref().filter(|_| may_revalidate)?;
        let (offset, up_to_date) = match read {
            Read::Snapshot { offset, .. } => (*offset, false),
            Read::Changes { offset, up_to_date, .. } | Read::End { offset, up_to_date } => {
                (*offset, up_to_date.is_some())
            }
            Read::Pending | Read::Ahead | Read::Search => return None,
        };
        let reply = self.reply(offset, up_to_date, false);
        let known = lists_etag(if_none_match, &reply.etag());
        known.then(|| with_head(reply.not_modified(&self.server.settings.cache), Body::empty()))
    }

    /// Items of the log.
    async fn found(&self, read: Read) -> Result<Response<Body>, Refusal> {
        let (head, stored) = match read {
            Read::Snapshot { start, end, offset } => {
                let head = self.reply(offset, false, end.is_some());
                let Some(end) = end else {
                    return match growing_snapshot(self.shape.clone()).await {
                        Ok(body) => Ok(self.respond(&head, body)),
                        Err(error) => Err(self.unreadable(&error).await),
                    };
                };
                let file = Some((segment::snapshot_path(&self.shape.dir), start..end));
                (head, Stored { file, tail: Vec::new(), control: None })
            }
            Read::Changes { bytes, offset, closed, up_to_date } => {
                let named = up_to_date.map(|lsn| match self.request.live {
                    true => self.shape.lsn_behind_live_rows(offset, lsn),
                    false => lsn,
                });
                let control = named.map(message::up_to_date);
                (self.reply(offset, named.is_some(), closed), self.changes(bytes, control))
            }
            Read::End { .. } | Read::Pending | Read::Ahead | Read::Search => {
                unreachable!("only items are found")
            }
        };
        self.respond_stored(&head, stored).await
    }

    /// A body whose length is told: a proxy can see that it came whole.
    async fn respond_stored(&self, head: &LogReply<'_>, stored: Stored) -> Result<Response<Body>, Refusal> {
        let length = stored.len();
        let body = match stored.into_body().await {
            Ok(body) => body,
            Err(error) => return Err(self.unreadable(&error).await),
        };
        let mut response = self.respond(head, body);
        if self.request.method != Method::Head {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        Ok(response)
    }

    fn changes(&self, bytes: Range<u64>, control: Option<Vec<u8>>) -> Stored {
        let (file, tail) = self.shape.parts(bytes);
        Stored { file, tail, control }
    }

    /// Nothing follows, and the client did not ask to wait.
    async fn caught_up(&self, offset: Offset, lsn: Lsn) -> Result<Response<Body>, Refusal> {
        let head = self.reply(offset, true, false);
        let stored = Stored { file: None, tail: Vec::new(), control: Some(message::up_to_date(lsn)) };
        self.respond_stored(&head, stored).await
    }

    async fn now(&self) -> Result<Response<Body>, Refusal> {
        self.wait_current().await?;
        let clock = self.server.clock(&self.shape);
        let (offset, up_to_date) = {
            let log = self.shape.log();
            (log.last_offset(), log.lsn_at_end(clock))
        };
        Ok(self.nothing_new(offset, up_to_date.ok_or_else(|| self.away())?))
    }

    fn chunk_missing(&self) -> Refusal {
        self.unavailable(&Unavailable::new("Timeout waiting for the snapshot to be written", 5))
    }

    fn out_of_bounds(&self) -> Refusal {
        let error = RequestError::offset_out_of_bounds();
        Box::new(Reply::bad_request(&self.server.settings.cache, self.request.method, &error))
    }

    fn nothing_new(&self, offset: Offset, lsn: Lsn) -> Response<Body> {
        let reply = self.reply(offset, true, false);
        let head = reply.nothing_new(&self.server.settings.cache, self.server.next_unique());
        let mut body = vec![b'['];
        body.extend_from_slice(&message::up_to_date(lsn));
        body.push(b']');
        with_head(head, self.unless_head(Body::from(body)))
    }

    fn limit(&self, wait: &Wait) -> Duration {
        match wait {
            Wait::Live => self.server.settings.long_poll_timeout,
            Wait::Chunk => CHUNK_WAIT,
            Wait::Ahead => self.server.settings.long_poll_timeout / 2,
        }
    }

    fn park(&self, wait: &Wait) -> Option<Counted> {
        matches!(wait, Wait::Live).then(|| Counted::new(&self.server.metrics.parked_clients))
    }

    fn reply(&self, offset: Offset, up_to_date: bool, closed: bool) -> LogReply<'_> {
        LogReply {
            request: &self.request,
            handle: self.shape.handle,
            offset,
            up_to_date,
            closed,
            schema: &self.schema,
            cursor: self.cursor(),
        }
    }

    fn respond(&self, reply: &LogReply<'_>, body: Body) -> Response<Body> {
        with_head(reply.chunk(&self.server.settings.cache), self.unless_head(body))
    }

    fn unless_head(&self, body: Body) -> Body {
        if self.request.method == Method::Head { Body::empty() } else { body }
    }

    fn cursor(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let interval_s = self.server.settings.long_poll_timeout.as_secs();
        // Spread enough that two clients that collide once do not collide again.
        let random =
            self.server.next_unique().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(now.subsec_nanos());
        next_cursor(now.as_secs(), interval_s, self.request.cursor.as_deref(), random)
    }

    fn is_away(&self) -> bool {
        self.server.is_away(&self.shape)
    }

    async fn wait_current(&self) -> Result<(), Refusal> {
        let status = &self.server.status;
        if !status.is_current() {
            status.wait_current(CURRENT_WAIT).await;
        }
        if self.is_away() { Err(self.away()) } else { Ok(()) }
    }

    fn away(&self) -> Refusal {
        let status = &self.server.status;
        let fault = status.table_fault(&self.shape.definition).filter(|_| status.is_current());
        self.unavailable(&fault.unwrap_or_else(|| status.unavailable()))
    }

    fn stopping(&self) -> Refusal {
        Box::new(self.server.stopping_reply(self.request.method))
    }

    fn unavailable(&self, state: &Unavailable) -> Refusal {
        Box::new(Reply::unavailable(&self.server.settings.cache, self.request.method, state))
    }

    /// The same shape, where a server that takes over holds it anew; otherwise it has gone.
    async fn held_anew(&self) -> Result<Arc<Shape>, Refusal> {
        let anew = self.server.registry.by_handle(self.shape.handle);
        match anew.filter(|anew| anew.is_readable()) {
            Some(anew) => Ok(anew),
            None => Err(self.must_refetch().await),
        }
    }

    /// The shape has gone: names its successor, which is made where there is none yet, so that the client
    /// needs no second round trip to learn of it.
    async fn must_refetch(&self) -> Refusal {
        let find = self.server.creator.find_or_create(&self.request.definition);
        let found = tokio::time::timeout(SUCCESSOR_WAIT, find).await;
        let successor = found.ok().and_then(Result::ok).map(|shape| shape.handle);
        Box::new(Reply::must_refetch(&self.server.settings.cache, self.request.method, successor))
    }

    /// The files could not be read: the shape went while we looked, or the disk fails.
    async fn unreadable(&self, error: &io::Error) -> Refusal {
        if self.shape.is_alive() {
            tracing::error!(handle = %self.shape.handle, %error, "a shape's files cannot be read");
            let text = "The shape's log cannot be read at the moment, please retry";
            return self.unavailable(&Unavailable::new(text, 5));
        }
        self.must_refetch().await
    }
}
