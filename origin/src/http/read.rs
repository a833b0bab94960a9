//! `GET`, `HEAD` and `POST /v1/shape`: the log, or the wait for it.
//!
//! The last station of a change, unless `deliver` answers a live request that waits: [`ShapeLog::read`](limn_core::log::ShapeLog::read) says
//! which bytes follow the client's offset, [`Reading`] what to answer or what to wait for.

use super::body::{Stored, growing_snapshot};
use super::events::Events;
use super::h1::Direct;
use super::lookup::find_readable;
use super::{Caller, Server, fixed, subset, text, with_head};
use crate::observe::Counted;
use crate::shapes::{LiveRequest, Shape, Waited};
use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, Request, Response};
use limn_core::log::reading::{Answer, Awaited, EventStream, Look, Mode, Next, Part, Reading, Refuse, Wait};
use limn_core::protocol::body::{BODY_BYTES_MAX, BodyError};
use limn_core::protocol::cache::lists_etag;
use limn_core::protocol::query::Query;
use limn_core::protocol::reply::{LogReply, Reply, Unavailable};
use limn_core::protocol::request::{RequestOffset, ShapeRequest, read_shape_request};
use limn_core::protocol::route::Method;
use limn_core::protocol::{Coding, Parameter, RequestError, SubsetRequest, header, message};
use limn_core::{Lsn, Offset};
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::Span;

/// How long a client that must start over waits to learn the new handle.
const SUCCESSOR_WAIT: Duration = Duration::from_secs(2);

/// Answers a request for a part of a log.
pub(super) async fn read(
    server: &Arc<Server>,
    method: Method,
    request: Box<Request<Body>>,
) -> Response<Body> {
    // The memory that finding the shape takes is given back before the request waits for news of it.
    let begun = Box::pin(begin(server, method, request)).await;
    let answered = match begun {
        Ok(Begun::Reader(reader)) => reader.answer().await,
        Ok(Begun::Answered(response)) => return *response,
        Err(reply) => Err(reply),
    };
    answered.unwrap_or_else(|reply| fixed(method, *reply))
}

pub(super) type Refusal = Box<Reply>;

/// A request whose shape can be read.
enum Begun<'a> {
    Reader(Box<Reader<'a>>),
    /// It was none for a log.
    Answered(Box<Response<Body>>),
}

async fn begin(
    server: &Arc<Server>,
    method: Method,
    request: Box<Request<Body>>,
) -> Result<Begun<'_>, Refusal> {
    let cache = &server.settings.cache;
    let refuse = |error: &RequestError| Box::new(Reply::bad_request(cache, method, error));
    let query = request.uri().query().unwrap_or_default();
    let mut parameters = Query::parse(query).map_err(|error| refuse(&error.into()))?;
    let admit = server.admission.admit(!names_known_handle(server, &parameters));
    let mut admitted = admit.await.map_err(|refused| Box::new(refused.into_reply(server, method)))?;
    let if_none_match = text(request.headers(), header::IF_NONE_MATCH).map(Box::from);
    let coding = accepted_coding(request.headers());
    let direct = Connection::of(&request);
    if method == Method::Post {
        merge_body(server, &mut parameters, *request).await?;
    }
    let request = read_shape_request(method, &parameters).map_err(|error| refuse(&error))?;
    if let Some(subset) = SubsetRequest::read(&parameters).transpose() {
        return subset::answer(server, request, subset).await.map(Box::new).map(Begun::Answered);
    }
    let shape = find_readable(server, &request).await?;
    server.admission.settle(&mut admitted);
    shape.handle_read(server.next_unique());
    let schema = shape.schema();
    let place = Some(admitted.into_place());
    let reader = Reader { server, shape, schema, request, if_none_match, coding, direct, place };
    Ok(Begun::Reader(Box::new(reader)))
}

fn names_known_handle(server: &Server, parameters: &Query) -> bool {
    let handle = parameters.text(Parameter::Handle).ok().flatten().and_then(|handle| handle.parse().ok());
    handle.is_some_and(|handle| server.registry.by_handle(handle).is_some())
}

fn accepted_coding(headers: &HeaderMap) -> Option<Coding> {
    let lists = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
    // A list that comes in several lines is one (RFC 9110 §5.3).
    Coding::preferred(&lists.collect::<Vec<_>>().join(","))
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
    if_none_match: Option<Box<str>>,
    /// The coding that the client prefers.
    coding: Option<Coding>,
    /// The connection, where others may write the reply to it.
    direct: Option<Box<Connection>>,
    /// Among the requests under way, held until the answer is there; a stream of events takes it along.
    place: Option<OwnedSemaphorePermit>,
}

/// A connection to which others may write a reply, and the lines of its head that depend on the caller.
struct Connection {
    socket: Weak<TcpStream>,
    lines: Arc<[u8]>,
    request_id: Option<Box<str>>,
}

impl Connection {
    fn of(request: &Request<Body>) -> Option<Box<Self>> {
        let Direct(socket) = request.extensions().get()?;
        // The span of an answer tells what is in its headers.
        if !Span::current().is_disabled() {
            return None;
        }
        let caller = Caller::of(request.headers());
        Some(Box::new(Self { socket: socket.clone(), lines: caller.lines(), request_id: caller.request_id }))
    }
}

impl Reader<'_> {
    /// Looks at the log, and waits, until core says what to answer.
    async fn answer(mut self: Box<Self>) -> Result<Response<Body>, Refusal> {
        let began = Instant::now();
        let timeout = self.server.settings.long_poll_timeout;
        let mut reading = Reading::new(Mode::of(&self.request), timeout, self.shape.has_moves());
        loop {
            let shape = self.shape.clone();
            let changed = shape.changed();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(anew) = self.held_anew() {
                self.shape = anew;
                continue;
            }
            let look = match self.server.look(&shape, self.request.offset, began).await {
                Ok(look) => look,
                Err(error) => return Err(Box::pin(self.unreadable(&error)).await),
            };
            let wait = match reading.next(&look, self.is_known(&look)) {
                Next::Send(answer) => return Box::pin(self.send(answer)).await,
                Next::Wait(wait) => wait,
                Next::Refuse(refuse) => return Err(Box::pin(self.refusal(refuse)).await),
            };
            let parked =
                (wait.what == Awaited::News).then(|| Counted::new(&self.server.metrics.parked_clients));
            match parked.map(|parked| self.live(parked)) {
                Some(Ok(live)) => {
                    changed.set(shape.changed());
                    if let Some(response) = self.wait_for_news(&shape, live, &mut reading, began).await {
                        return Ok(response);
                    }
                }
                _parked => self.wait(wait, began, changed).await,
            }
        }
    }

    /// What waits, where others may answer this request.
    fn live(&mut self, parked: Counted) -> Result<LiveRequest, Counted> {
        let RequestOffset::At(after) = self.request.offset else { return Err(parked) };
        let Some(Connection { socket, lines, request_id }) = self.direct.as_deref() else {
            return Err(parked);
        };
        let Some(place) = self.place.take() else { return Err(parked) };
        Ok(LiveRequest {
            socket: socket.clone(),
            after,
            cursor: self.request.cursor.as_deref().map(Box::from),
            lines: lines.clone(),
            request_id: request_id.clone(),
            place,
            parked,
        })
    }

    /// Waits for news; gives the answer where somebody else has sent it.
    async fn wait_for_news(
        &mut self,
        shape: &Arc<Shape>,
        live: LiveRequest,
        reading: &mut Reading,
        began: Instant,
    ) -> Option<Response<Body>> {
        let waiting = shape.wait(live);
        // What has come before wakes nobody.
        let look = self.server.look(shape, self.request.offset, began).await;
        if let Ok(Next::Wait(Wait { what: Awaited::News, until })) =
            look.map(|look| reading.next(&look, false))
        {
            tokio::select! {
                biased;
                () = waiting.woken() => {}
                () = sleep_until(began + until) => {}
                () = self.server.stopping.begun() => {}
            }
        }
        match waiting.finish() {
            Waited::Served(served) => {
                let mut response = Response::default();
                response.extensions_mut().insert(served);
                Some(response)
            }
            Waited::Unserved(live) => {
                self.place = Some(live.place);
                None
            }
        }
    }

    async fn wait(&self, wait: Wait, began: Instant, changed: Pin<&mut Notified<'_>>) {
        let until = began + wait.until;
        let awaited = async {
            match wait.what {
                Awaited::News | Awaited::Chunk | Awaited::Offset => changed.await,
                Awaited::Current => {
                    let limit = until.saturating_duration_since(Instant::now());
                    Box::pin(self.server.status.wait_current(limit)).await;
                }
            }
        };
        tokio::select! {
            _ = timeout_at(until, awaited) => {}
            () = self.server.stopping.begun() => {}
        }
    }

    /// Whether the client names the reply that would send what was read.
    fn is_known(&self, look: &Look) -> bool {
        look.offset().is_some_and(|offset| self.known_coding((offset, look.segment_start())).is_some())
    }

    /// The coding of the reply up to this offset that the client names, where it names one.
    fn known_coding(&self, end: (Offset, u64)) -> Option<Option<Coding>> {
        let listed = self.if_none_match.as_deref()?;
        let names = |coding: &Option<Coding>| {
            let reply = LogReply { coding: *coding, ..self.reply(end, false, false) };
            lists_etag(listed, &reply.etag())
        };
        [None].into_iter().chain(Coding::ALL.map(Some)).find(names)
    }

    async fn send(self, answer: Answer) -> Result<Response<Body>, Refusal> {
        match answer {
            Answer::Part { part, offset, closed: true, up_to_date: None } if self.coding.is_some() => {
                self.send_closed(part, offset).await
            }
            Answer::Part { part, offset, closed, up_to_date } => {
                let head = self.reply((offset, part.segment_start()), up_to_date.is_some(), closed);
                self.respond_stored(&head, Stored::of(&self.shape, part, up_to_date)).await
            }
            Answer::GrowingSnapshot { offset } => match growing_snapshot(self.shape.clone()).await {
                Ok(body) => Ok(self.respond(&self.reply((offset, 0), false, false), body)),
                Err(error) => Err(self.unreadable(&error).await),
            },
            Answer::NothingNew { offset, lsn } => Ok(self.nothing_new(offset, lsn)),
            Answer::NotModified { offset, segment_start, up_to_date } => {
                let end = (offset, segment_start);
                let coding = self.known_coding(end).flatten();
                let reply = LogReply { coding, ..self.reply(end, up_to_date, false) };
                Ok(with_head(reply.not_modified(&self.server.settings.cache), Body::empty()))
            }
            Answer::Events { offset, up_to_date, has_pending } => {
                Ok(self.events(offset, up_to_date, has_pending))
            }
        }
    }

    async fn refusal(&self, refuse: Refuse) -> Refusal {
        match refuse {
            Refuse::MustRefetch => self.must_refetch().await,
            Refuse::Away => self.away(),
            Refuse::ChunkMissing => {
                self.unavailable(&Unavailable::new("Timeout waiting for the snapshot to be written", 5))
            }
            Refuse::OutOfBounds => {
                let error = RequestError::offset_out_of_bounds();
                Box::new(Reply::bad_request(&self.server.settings.cache, self.request.method, &error))
            }
            Refuse::Stopping => Box::new(self.server.stopping_reply(self.request.method)),
        }
    }

    /// A stream of events; its first part ends at `offset`.
    fn events(self, offset: Offset, up_to_date: bool, has_pending: bool) -> Response<Body> {
        let head = self.reply((offset, 0), up_to_date, false).chunk(&self.server.settings.cache);
        let after = match self.request.offset {
            RequestOffset::At(after) if self.request.method != Method::Head => after,
            _ => return with_head(head, Body::empty()),
        };
        let stream = EventStream::new(after, has_pending, self.shape.has_moves());
        let events = Events::new(self.server.clone(), self.shape, stream, self.place);
        with_head(head, events.into_body())
    }

    /// A chunk that never changes again: compressed, where the client takes that and the chunk gets shorter by it.
    async fn send_closed(&self, part: Part, offset: Offset) -> Result<Response<Body>, Refusal> {
        let head = self.reply((offset, part.segment_start()), false, true);
        let coding = self.coding.filter(|_| Mode::of(&self.request) == Mode::CatchUp);
        let stored = Stored::of(&self.shape, part.clone(), None);
        let coded = match coding {
            Some(coding) => {
                stored.compressed(&self.server.chunks, self.shape.generation(), part, coding).await
            }
            None => Ok(None),
        };
        match coded {
            Ok(Some(bytes)) => {
                let length = bytes.len() as u64;
                Ok(self.respond_with_length(&LogReply { coding, ..head }, Body::from(bytes), length))
            }
            Ok(None) => self.respond_stored(&head, stored).await,
            Err(error) => Err(self.unreadable(&error).await),
        }
    }

    async fn respond_stored(&self, head: &LogReply<'_>, stored: Stored) -> Result<Response<Body>, Refusal> {
        let length = stored.len();
        match stored.into_body(&self.server.chunks).await {
            Ok(body) => Ok(self.respond_with_length(head, body, length)),
            Err(error) => Err(self.unreadable(&error).await),
        }
    }

    /// A body whose length is told: a proxy can see that it came whole.
    fn respond_with_length(&self, head: &LogReply<'_>, body: Body, length: u64) -> Response<Body> {
        let mut response = self.respond(head, body);
        if self.request.method != Method::Head {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        response
    }

    fn nothing_new(&self, offset: Offset, lsn: Lsn) -> Response<Body> {
        let reply = self.reply((offset, 0), true, false);
        let head = reply.nothing_new(&self.server.settings.cache, self.server.next_unique());
        let mut body = vec![b'['];
        body.extend_from_slice(&message::up_to_date(lsn));
        body.push(b']');
        with_head(head, self.unless_head(Body::from(body)))
    }

    fn reply(&self, (offset, segment_start): (Offset, u64), up_to_date: bool, closed: bool) -> LogReply<'_> {
        LogReply {
            request: self.request.read(),
            handle: self.shape.handle,
            offset,
            segment_start,
            up_to_date,
            closed,
            schema: &self.schema,
            cursor: self.server.cursor(self.request.cursor.as_deref()),
            coding: None,
        }
    }

    fn respond(&self, reply: &LogReply<'_>, body: Body) -> Response<Body> {
        with_head(reply.chunk(&self.server.settings.cache), self.unless_head(body))
    }

    fn unless_head(&self, body: Body) -> Body {
        if self.request.method == Method::Head { Body::empty() } else { body }
    }

    fn away(&self) -> Refusal {
        let status = &self.server.status;
        let fault = status.table_fault(&self.shape.definition).filter(|_| status.is_current());
        self.unavailable(&fault.unwrap_or_else(|| status.unavailable()))
    }

    fn unavailable(&self, state: &Unavailable) -> Refusal {
        Box::new(Reply::unavailable(&self.server.settings.cache, self.request.method, state))
    }

    /// The shape under the same handle, where a server that takes over has put it in the place of this one.
    fn held_anew(&self) -> Option<Arc<Shape>> {
        if self.shape.is_readable() {
            return None;
        }
        self.server.registry.by_handle(self.shape.handle).filter(|anew| anew.is_readable())
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
