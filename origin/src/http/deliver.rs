//! Replies to live requests that wait: one is made for all who asked alike, and written to each socket in one go
//! before any of their tasks runs.
//!
//! The tasks of the runtime's threads that do so share the work in slices. Whoever cannot be served so is called, and
//! looks by itself: where the rows are many or in a file, or the request must not be answered with them.

use super::body::Stored;
use super::{Server, h1, request_id};
use crate::shapes::{LiveRequest, Served, Shape, Waiter};
use axum::body::Bytes;
use limn_core::Offset;
use limn_core::log::reading::{Answer, Mode, Next, Part, Reading};
use limn_core::protocol::header;
use limn_core::protocol::reply::LogReply;
use limn_core::protocol::request::{ReadRequest, RequestOffset};
use limn_core::protocol::route::Method;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::task::yield_now;

/// Rows of more bytes are sent by each request's own task: no socket takes that much at once for sure.
const SHARED_BYTES: u64 = 16 << 10;
/// Sockets that are written to, and tasks that are woken, before others get the thread.
const SLICE_MAX: usize = 128;
/// Tasks of requests that were served and do not know yet, at most: beyond it they are woken before others are served.
const SERVED_MAX: usize = 16 << 10;

/// One for each thread of the runtime, as they run for as long as the server.
pub fn deliverers(server: &Arc<Server>) -> impl Iterator<Item = impl Future<Output = ()> + use<>> {
    let slices = Arc::new(Mutex::new(VecDeque::new()));
    let deliverer = Deliverer { server: server.clone(), slices, served: Vec::new(), written: 0 };
    let count = Handle::current().metrics().num_workers();
    std::iter::repeat_n(deliverer, count).map(Deliverer::run)
}

#[derive(Clone)]
struct Deliverer {
    server: Arc<Server>,
    /// What another of them may take up.
    slices: Arc<Mutex<VecDeque<Slice>>>,
    /// Those who were served.
    served: Vec<Arc<Waiter>>,
    /// Sockets that were written to since others had the thread.
    written: usize,
}

/// Requests that get the same.
struct Slice {
    reply: Shared,
    waiters: Vec<Arc<Waiter>>,
}

/// The part of a reply that is the same for all who asked alike.
#[derive(Clone)]
struct Shared {
    /// From the first line that does not depend on who has asked.
    bytes: Bytes,
    body_bytes: u64,
}

impl Deliverer {
    async fn run(mut self) {
        let server = self.server.clone();
        loop {
            let came = server.registry.grown.came();
            tokio::pin!(came);
            // From here on nothing is missed.
            came.as_mut().enable();
            self.serve_all().await;
            self.wake_served().await;
            came.await;
        }
    }

    /// Serves everybody who is due, also by those who come meanwhile.
    async fn serve_all(&mut self) {
        loop {
            let slice = self.slices().pop_front();
            if let Some(slice) = slice {
                self.serve(slice);
            } else if let Some(shape) = self.server.registry.grown.pop() {
                self.take_up(&shape);
            } else {
                return;
            }
            if self.written >= SLICE_MAX {
                self.written = 0;
                yield_now().await;
            }
            if self.served.len() >= SERVED_MAX {
                self.wake_served().await;
            }
        }
    }

    /// Serves those who wait for a shape, or has others share that work.
    fn take_up(&mut self, shape: &Shape) {
        let mut waiters = shape.take_waiters();
        // Nearly always all of them have read up to the same offset.
        let first = waiters.first().and_then(|waiter| waiter.after());
        let mut others: BTreeMap<Offset, Vec<Arc<Waiter>>> = BTreeMap::new();
        for waiter in waiters.extract_if(.., |waiter| waiter.after() != first) {
            if let Some(after) = waiter.after() {
                others.entry(after).or_default().push(waiter);
            }
        }
        let alike = first.map(|after| (after, waiters)).into_iter().chain(others);
        for (after, waiters) in alike {
            match self.reply(shape, after) {
                Some(reply) => self.share(&reply, waiters),
                None => waiters.iter().for_each(|waiter| waiter.wake()),
            }
        }
    }

    fn share(&mut self, reply: &Shared, mut waiters: Vec<Arc<Waiter>>) {
        if waiters.len() <= SLICE_MAX {
            return self.serve(Slice { reply: reply.clone(), waiters });
        }
        let mut slices = VecDeque::new();
        while !waiters.is_empty() {
            let rest = waiters.split_off(SLICE_MAX.min(waiters.len()));
            slices.push_back(Slice { reply: reply.clone(), waiters: mem::replace(&mut waiters, rest) });
        }
        self.slices().append(&mut slices);
        self.server.registry.grown.share();
    }

    fn serve(&mut self, Slice { reply, waiters }: Slice) {
        self.written += waiters.len();
        let server = &self.server;
        self.served
            .extend(waiters.into_iter().filter(|waiter| waiter.serve(|live| reply.send(server, live))));
    }

    /// The tasks go on to the next requests.
    async fn wake_served(&mut self) {
        for waiters in mem::take(&mut self.served).chunks(SLICE_MAX) {
            waiters.iter().for_each(|waiter| waiter.wake());
            yield_now().await;
        }
    }

    /// The reply to live requests that have read up to there.
    fn reply(&self, shape: &Shape, after: Offset) -> Option<Shared> {
        let server = &self.server;
        let look = server.look_in_memory(shape, after).filter(|look| !look.is_stopping)?;
        let mut reading = Reading::new(Mode::LongPoll, server.settings.long_poll_timeout, shape.has_moves());
        let Next::Send(Answer::Part { part: Part::Changes(range), offset, up_to_date, .. }) =
            reading.next(&look, false)
        else {
            return None;
        };
        if range.bytes.end - range.bytes.start > SHARED_BYTES {
            return None;
        }
        let reply = LogReply {
            request: ReadRequest {
                method: Method::Get,
                offset: RequestOffset::At(after),
                live: true,
                live_sse: false,
            },
            handle: shape.handle,
            offset,
            segment_start: range.start.byte,
            up_to_date: up_to_date.is_some(),
            closed: false,
            schema: "",
            cursor: 0,
            coding: None,
        };
        let body = Stored::of(shape, Part::Changes(range), up_to_date).into_memory()?;
        let head = reply.chunk(&server.settings.cache);
        let shared = head.headers.iter().filter(|(name, _)| *name != header::CURSOR);
        let bytes = h1::render(shared.map(|(name, value)| (*name, value.as_bytes())), &body);
        Some(Shared { bytes, body_bytes: body.len() as u64 })
    }

    fn slices(&self) -> MutexGuard<'_, VecDeque<Slice>> {
        self.slices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Writes it to a client's socket.
    fn send(&self, server: &Server, live: LiveRequest) -> Served {
        let LiveRequest { socket, cursor, lines, request_id: id, place, parked, .. } = live;
        // It counts no more once its client can know.
        drop((place, parked));
        let cursor = server.cursor(cursor.as_deref()).to_string();
        let id = request_id(id.as_deref(), server.next_unique());
        let own = [(header::CURSOR, cursor.as_str()), (header::REQUEST_ID, &id)];
        let rest = socket.upgrade().map(|socket| h1::send_at_once(&socket, (&lines, &own), &self.bytes));
        Served { rest: rest.unwrap_or_default(), body_bytes: self.body_bytes }
    }
}
