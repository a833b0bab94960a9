//! The live hub as a Durable Object: one for each shape that is followed, and more where many follow it. What it tells
//! whom and when is decided by [`limn_core::edge::hub`]; here its effects are carried out.
//!
//! The gateway ([`ask`]) sends it the request that it would send to the origin, so the object needs no settings.

use crate::origin::remaining_ms;
use crate::plan::Forward;
use crate::replies::{header_map, headers_of, said};
use crate::timing::now_ms;
use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use limn_core::Offset;
use limn_core::edge::hub::{self, Answer, Ask, Effect, Events, Part, Reply, Spread, Wait, WaiterId};
use limn_core::protocol::cache::next_cursor;
use limn_core::protocol::cache_key::{EdgeRequest, Secrets};
use limn_core::protocol::cached_reply::HeaderList;
use limn_core::protocol::events::EventFramer;
use limn_core::protocol::message::KEEP_ALIVE;
use limn_core::protocol::{Method, header};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use worker::wasm_bindgen_futures::spawn_local;
use worker::web_sys::{self, AbortSignal, RequestRedirect};
use worker::{
    Delay, DurableObject, Env, Error, Fetch, Request, Response, ResponseBody, ResponseBuilder, Result, State,
    durable_object, js_sys,
};

/// The binding of the objects' class, in `wrangler.toml`.
pub const BINDING: &str = "HUB";
/// Names the shape that is followed: the object's name, without its number.
pub const KEY: &str = "limn-hub-key";
/// Over how many objects the shape's readers are spread, as far as the sender knows.
pub const SHARDS: &str = "limn-hub-shards";
/// `first` to the object that asks the origin, `behind` to one that asks that one, and `hub` from it.
const LEVEL: &str = "limn-hub-level";
/// The reply is not the hub's to give: the origin is to be asked after so many milliseconds.
pub const PASS_ON: &str = "limn-hub-pass-on";

/// The origin holds a long poll for so long, and counts cursors in that.
const WINDOW_S: u64 = 20;
/// A reply that is not there by now is none.
const REPLY_MS: u32 = 45_000;
/// Events that wait for a slow client; past them, its stream ends and it comes again.
const EVENTS_WAITING_MAX: usize = 64;
/// While an object is away, its clients come to the origin within this time.
const AWAY_MS: u64 = 1_000;

/// The object.
#[durable_object(fetch)]
pub struct Hub {
    shared: Rc<Shared>,
}

/// The state on which requests, timers and the origin's reply work. Nothing of it is borrowed across an `await`.
struct Shared {
    env: Env,
    machine: RefCell<hub::Hub>,
    polls: RefCell<HashMap<WaiterId, oneshot::Sender<Answer>>>,
    streams: RefCell<HashMap<WaiterId, mpsc::Sender<Vec<u8>>>>,
    source: RefCell<Option<Source>>,
    /// The cursor of upstream's newest reply: with it the next request has an address that no cache has seen.
    cursor: RefCell<Option<String>>,
    /// The earliest time that a timer is set to; 0 for none.
    wakes_ms: Cell<u64>,
}

/// The object's own request upstream: one of its clients' requests, which is moved along the log.
struct Source {
    request: EdgeRequest,
    /// The origin's address, up to the query.
    address: String,
    authorization: Option<String>,
    key: String,
    /// True for the object that asks the origin itself.
    is_first: bool,
}

impl DurableObject for Hub {
    fn new(_state: State, env: Env) -> Self {
        let shared = Shared {
            env,
            machine: RefCell::default(),
            polls: RefCell::default(),
            streams: RefCell::default(),
            source: RefCell::default(),
            cursor: RefCell::default(),
            wakes_ms: Cell::new(0),
        };
        Self { shared: Rc::new(shared) }
    }

    async fn fetch(&self, request: Request) -> Result<Response> {
        let Some((source, ask)) = Source::read(&request) else { return passed_on(0) };
        let (handle, cursor) =
            (source.request.handle().map(str::to_owned), source.request.cursor().map(str::to_owned));
        self.shared.source.replace(Some(source));
        let cursor = next_cursor(now_ms() / 1_000, WINDOW_S, cursor.as_deref(), ask.random);
        let (answer, mut answered) = oneshot::channel();
        let id = self.shared.machine.borrow_mut().join(now_ms(), ask);
        self.shared.polls.borrow_mut().insert(id, answer);
        if ask.wait == Wait::Events {
            let (events, stream) = mpsc::channel(EVENTS_WAITING_MAX);
            self.shared.streams.borrow_mut().insert(id, events);
            Shared::carry_out(&self.shared);
            self.shared.polls.borrow_mut().remove(&id);
            return match answered.try_recv() {
                Ok(Some(answer)) => self.shared.respond(answer, cursor),
                _ => {
                    let headers = events_head(handle.as_deref().unwrap_or_default(), ask.offset, cursor);
                    let stream = stream.map(Ok::<_, Error>);
                    ResponseBuilder::new().with_headers(header_map(&headers)?).from_stream(stream)
                }
            };
        }
        Shared::carry_out(&self.shared);
        let answer = answered.await.unwrap_or(Answer::Unavailable);
        self.shared.respond(answer, cursor)
    }
}

impl Shared {
    /// Does all that the machine wants done, and sets a timer for what it will want.
    fn carry_out(this: &Rc<Self>) {
        let mut events = Rendered::default();
        loop {
            let effects = this.machine.borrow_mut().take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                match effect {
                    Effect::AskUpstream { offset, live } => {
                        spawn_local(Self::ask_upstream(Rc::clone(this), offset, live));
                    }
                    Effect::Answer(id, answer) => {
                        this.streams.borrow_mut().remove(&id);
                        // Whoever is gone does not mind.
                        this.polls.borrow_mut().remove(&id).map(|poll| poll.send(answer));
                    }
                    Effect::Write(id, what) => this.write(id, events.of(what)),
                    Effect::End(id) => drop(this.streams.borrow_mut().remove(&id)),
                }
            }
        }
        Self::set_timer(this);
    }

    /// A client that is gone, or too slow, is dropped: it comes again from where it was.
    fn write(&self, id: WaiterId, events: Vec<u8>) {
        let sent = match self.streams.borrow_mut().get_mut(&id) {
            Some(stream) => stream.try_send(events).is_ok(),
            None => false,
        };
        if !sent {
            self.streams.borrow_mut().remove(&id);
            self.machine.borrow_mut().leave(id);
        }
    }

    fn set_timer(this: &Rc<Self>) {
        let Some(due_ms) = this.machine.borrow().next_due_ms() else { return };
        let wakes_ms = this.wakes_ms.get();
        if wakes_ms != 0 && wakes_ms <= due_ms {
            return;
        }
        this.wakes_ms.set(due_ms);
        let this = Rc::clone(this);
        spawn_local(async move {
            Delay::from(Duration::from_millis(due_ms.saturating_sub(now_ms()))).await;
            if this.wakes_ms.get() == due_ms {
                this.wakes_ms.set(0);
            }
            // A timer may be early by less than the clock's step.
            this.machine.borrow_mut().tick(now_ms().max(due_ms));
            Self::carry_out(&this);
        });
    }

    async fn ask_upstream(this: Rc<Self>, offset: Offset, live: bool) {
        let outcome = this.upstream_reply(offset, live).await;
        match outcome {
            Ok(reply) => this.machine.borrow_mut().handle_reply(now_ms(), reply),
            Err(error) => {
                worker::console_warn!("the hub was not answered: {error}");
                this.machine.borrow_mut().handle_failure(now_ms(), None);
            }
        }
        Self::carry_out(&this);
    }

    async fn upstream_reply(&self, offset: Offset, live: bool) -> Result<Reply> {
        let (request, stub) = self.upstream_request(offset, live)?;
        let mut reply = match stub {
            None => Fetch::Request(request).send().await?,
            Some(stub) => stub.fetch_with_request(request).await?,
        };
        let body = reply.bytes().await?;
        let headers = headers_of(&reply);
        self.cursor.replace(said(reply.headers(), header::CURSOR));
        if headers.iter().any(|(name, _)| name == PASS_ON) || body.len() > hub::window::WINDOW_BYTES_MAX {
            // Whoever needs it asks the origin, which streams it.
            return Ok(Reply { status: 413, headers, body: Vec::new() });
        }
        Ok(Reply { status: reply.status_code(), headers, body })
    }

    /// The request, and the object that it goes to, where it does not go to the origin.
    fn upstream_request(&self, offset: Offset, live: bool) -> Result<(Request, Option<worker::Stub>)> {
        let source = self.source.borrow();
        let source = source.as_ref().ok_or_else(|| Error::RustError("nobody has asked yet".to_owned()))?;
        let cursor = self.cursor.borrow();
        let query = source.request.moved_to(offset, live, cursor.as_deref()).origin_query(Secrets::Strip);
        let mut headers: HeaderList = Vec::new();
        headers.extend(source.authorization.clone().map(|value| (header::AUTHORIZATION.to_owned(), value)));
        let first = match source.is_first {
            true => None,
            false => {
                headers.push((KEY.to_owned(), source.key.clone()));
                headers.push((SHARDS.to_owned(), self.machine.borrow().shards().to_string()));
                headers.push((LEVEL.to_owned(), "hub".to_owned()));
                Some(self.env.durable_object(BINDING)?.get_by_name(&source.key)?)
            }
        };
        Ok((get(&format!("{}?{query}", source.address), &headers, REPLY_MS)?, first))
    }

    fn respond(&self, answer: Answer, cursor: u64) -> Result<Response> {
        let (status, mut headers, body) = match answer {
            Answer::Part(part) => {
                let mut headers = part.last.headers.clone();
                headers.push((header::OFFSET.to_owned(), part.last.to.to_string()));
                headers.push((header::CURSOR.to_owned(), cursor.to_string()));
                (200, headers, part.body())
            }
            Answer::Reply(reply) => (reply.status, reply.headers.clone(), reply.body.clone()),
            Answer::PassOn(after_ms) => return passed_on(after_ms),
            // The gateway says the rest, as for an origin that it does not reach itself.
            Answer::Unavailable => (504, Vec::new(), Vec::new()),
        };
        headers.push((SHARDS.to_owned(), self.machine.borrow().shards().to_string()));
        let builder = ResponseBuilder::new().with_status(status).with_headers(header_map(&headers)?);
        Ok(builder.body(ResponseBody::Body(body)))
    }
}

impl Source {
    /// Reads a request of the gateway's, or of another object's.
    fn read(request: &Request) -> Option<(Self, Ask)> {
        let header = |name: &str| said(request.headers(), name);
        let url = request.inner().url();
        let (address, query) = url.split_once('?')?;
        let parsed = EdgeRequest::parse(Method::Get, "/v1/shape", query).ok()?;
        let level = header(LEVEL)?;
        let wait = match (level.as_str(), parsed.wants_events()?) {
            ("hub", _) => Wait::Hub,
            (_, true) => Wait::Events,
            (_, false) => Wait::Poll,
        };
        let shards = header(SHARDS)?.parse().ok()?;
        let ask = Ask { offset: parsed.offset()?, wait, shards, random: random() };
        let source = Self {
            request: parsed,
            address: address.to_owned(),
            authorization: header(header::AUTHORIZATION),
            key: header(KEY)?,
            is_first: level != "behind",
        };
        Some((source, ask))
    }
}

/// The events that were written last: many streams are sent the same.
#[derive(Default)]
struct Rendered(Option<(Arc<Part>, Vec<u8>)>);

impl Rendered {
    fn of(&mut self, events: Events) -> Vec<u8> {
        let part = match events {
            Events::Part(part) => part,
            Events::KeepAlive => return KEEP_ALIVE.to_vec(),
            Events::Reply(reply) => {
                let mut events = Vec::new();
                EventFramer::default().push(&reply.body, &mut events);
                return events;
            }
        };
        match &self.0 {
            Some((last, events)) if Arc::ptr_eq(last, &part) => events.clone(),
            _ => self.0.insert((Arc::clone(&part), part.events())).1.clone(),
        }
    }
}

/// Why the hub has no reply.
pub enum Missed {
    /// The origin is to be asked.
    PassedOn,
    /// The token ended while the request waited.
    TokenEnded(Error),
}

/// The gateway's half: the reply of the shape's object.
pub async fn ask(env: &Env, key: &str, forward: &Forward) -> std::result::Result<Response, Missed> {
    let namespace = env.durable_object(BINDING).map_err(|_| Missed::PassedOn)?;
    let (shards, behind) = SPREAD.with_borrow(|spread| (spread.shards(key), spread.choose(key, random())));
    let name = behind.map_or_else(|| key.to_owned(), |number| format!("{key}/{number}"));
    let mut headers = forward.headers.clone();
    headers.retain(|(name, _)| name == header::AUTHORIZATION);
    let level = if behind.is_some() { "behind" } else { "first" };
    headers.extend([(KEY, key), (SHARDS, &shards.to_string()), (LEVEL, level)].map(owned));
    let token_ms = forward.ends_s.map_or(u32::MAX, remaining_ms);
    let ends_ms = match forward.request.wants_events() {
        Some(true) => token_ms,
        _ => token_ms.min(REPLY_MS),
    };
    let sent = async {
        namespace.get_by_name(&name)?.fetch_with_request(get(&forward.url, &headers, ends_ms)?).await
    };
    let reply = match sent.await {
        Ok(reply) => reply,
        Err(error) if forward.ends_s.is_some_and(|ends_s| remaining_ms(ends_s) == 0) => {
            return Err(Missed::TokenEnded(error));
        }
        Err(error) => {
            worker::console_error!("the hub was not reached: {error}");
            // Others find the same, and would all come to the origin at once.
            wait_ms(random() % AWAY_MS).await;
            return Err(Missed::PassedOn);
        }
    };
    let header = |name: &str| said(reply.headers(), name);
    if let Some(shards) = header(SHARDS).and_then(|shards| shards.parse().ok()) {
        SPREAD.with_borrow_mut(|spread| spread.learn(key, shards));
    }
    let Some(after_ms) = header(PASS_ON) else { return Ok(reply) };
    wait_ms(after_ms.parse().unwrap_or(0)).await;
    Err(Missed::PassedOn)
}

thread_local! {
    /// The hubs have told this isolate.
    static SPREAD: RefCell<Spread> = RefCell::default();
}

/// The head of a stream of events; the origin's says the same (protocol §6.3). No cache may keep it.
fn events_head(handle: &str, offset: Offset, cursor: u64) -> HeaderList {
    let (offset, cursor) = (offset.to_string(), cursor.to_string());
    let headers = [
        (header::CONTENT_TYPE, header::EVENT_STREAM),
        (header::CACHE_CONTROL, "no-store"),
        (header::HANDLE, handle),
        (header::OFFSET, &offset),
        (header::CURSOR, &cursor),
    ];
    headers.map(owned).into()
}

/// Says that the origin is to be asked.
fn passed_on(after_ms: u64) -> Result<Response> {
    let headers = header_map(&[owned((PASS_ON, &after_ms.to_string()))])?;
    Ok(ResponseBuilder::new().with_status(204).with_headers(headers).empty())
}

fn get(url: &str, headers: &HeaderList, ends_ms: u32) -> Result<Request> {
    let init = web_sys::RequestInit::new();
    init.set_headers(header_map(headers)?.as_ref());
    init.set_redirect(RequestRedirect::Manual);
    if ends_ms < u32::MAX {
        init.set_signal(Some(&AbortSignal::timeout_with_u32(ends_ms)));
    }
    Ok(Request::from(web_sys::Request::new_with_str_and_init(url, &init)?))
}

async fn wait_ms(ms: u64) {
    if ms > 0 {
        Delay::from(Duration::from_millis(ms)).await;
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A number that is another one each time.
fn random() -> u64 {
    // The last bits of the fraction are not the best.
    js_sys::Math::random().to_bits() >> 8
}
