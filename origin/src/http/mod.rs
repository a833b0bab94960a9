//! HTTP: requests are parsed and decided by core, answered from the logs.

mod accept;
mod admission;
mod body;
mod chunks;
mod closing;
mod compress;
mod counted;
mod delete;
mod deliver;
mod events;
mod h1;
mod look;
mod lookup;
mod metrics;
mod read;
mod refusal;
mod schema;
mod subset;
mod unreadable;

pub use accept::serve;
pub use admission::{Admission, AdmissionLimits};
pub use chunks::Chunks;
pub use deliver::deliverers;
pub use metrics::metrics_page;
pub use subset::Subsets;

use crate::health::Status;
use crate::observe::{Metrics, spans};
use crate::shapes::creation::Creator;
use crate::shapes::{Registry, Served};
use crate::stopping::Stopping;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use limn_core::protocol::cache::{CachePolicy, next_cursor};
use limn_core::protocol::cors::{caller_headers, preflight};
use limn_core::protocol::reply::{Health, Reply, ReplyHead, Unavailable};
use limn_core::protocol::route::{Method, Route, route};
use limn_core::protocol::{auth, header as wire};
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Everything a request is answered from.
pub struct Server {
    /// How it was set up.
    pub settings: Settings,
    /// Which shapes there are.
    pub registry: Arc<Registry>,
    /// How the server is.
    pub status: Arc<Status>,
    /// Whether it is to end.
    pub stopping: Stopping,
    /// The metrics of the server.
    pub metrics: Arc<Metrics>,
    /// How many requests may be under way.
    pub admission: Admission,
    /// Makes shapes that are not there yet.
    pub creator: Creator,
    /// The subset queries that are under way.
    pub subsets: Subsets,
    /// The chunks that are in memory.
    pub chunks: Chunks,
    /// Numbers that are used once.
    pub unique: AtomicU64,
}

/// What operators can choose of the answers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The secret that requests must carry; none is needed where absent.
    pub secret: Option<String>,
    /// Whether shapes can be deleted by request.
    pub allow_shape_deletion: bool,
    /// How long a live request waits.
    pub long_poll_timeout: Duration,
    /// How long a client may leave sent bytes unacknowledged.
    pub send_timeout: Duration,
    /// How long a connection may wait for its next request, and its head may take.
    pub read_timeout: Duration,
    /// How long new connections are answered once the server is to end.
    pub shutdown_grace: Duration,
    /// How long caches may keep things.
    pub cache: CachePolicy,
}

/// What a client waits at least before it asks again, where the server ends: another one is there, or will be soon.
const STOPPING_RETRY_AFTER_S: u64 = 1;
/// Lengths of a caller's request id that is worth keeping.
const REQUEST_ID_LENGTH: std::ops::RangeInclusive<usize> = 20..=200;

impl Server {
    /// A number that no answer of this process carried before, rising.
    pub(crate) fn next_unique(&self) -> u64 {
        self.unique.fetch_add(1, Ordering::Relaxed)
    }

    /// The cursor of a live reply, behind that which was asked with.
    fn cursor(&self, asked: Option<&str>) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let interval_s = self.settings.long_poll_timeout.as_secs();
        // Spread enough that two clients that collide once do not collide again.
        let random = self.next_unique().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(now.subsec_nanos());
        next_cursor(now.as_secs(), interval_s, asked, random)
    }

    fn health(&self) -> Health {
        if self.stopping.has_begun() { Health::Stopping } else { self.status.health() }
    }

    /// What a request is told that would have to wait while the server ends.
    fn stopping_reply(&self, method: Method) -> Reply {
        let text = "The server is stopping, please retry";
        let state = Unavailable {
            code: Some("stopping"),
            known: true,
            ..Unavailable::new(text, STOPPING_RETRY_AFTER_S)
        };
        Reply::unavailable(&self.settings.cache, method, &state)
    }
}

/// Answers any request.
pub async fn answer(server: Arc<Server>, request: Box<Request<Body>>) -> Response<Body> {
    let method = Method::from_name(request.method().as_str());
    let matched = route(request.uri().path()).for_method(method);
    spans::request(route_name(matched), answer_route(server, method, matched, request)).await
}

async fn answer_route(
    server: Arc<Server>,
    method: Method,
    matched: Route,
    request: Box<Request<Body>>,
) -> Response<Body> {
    let caller = Caller::of(request.headers());
    let mut response = match matched {
        Route::Root => fixed(method, Reply::root(&server.settings.cache)),
        Route::Health => fixed(method, Reply::health(server.health(), &server.status.degraded())),
        Route::NotFound => fixed(method, Reply::not_found(&server.settings.cache, method)),
        Route::Shape if method == Method::Options => {
            let requested = text(request.headers(), wire::REQUEST_HEADERS);
            with_head(preflight(requested), Body::empty())
        }
        Route::Shape | Route::Schema if !is_authorized(&server, &request) => {
            fixed(method, Reply::unauthorized(&server.settings.cache, method))
        }
        Route::Shape | Route::Schema => {
            tokio::select! {
                biased;
                response = answer_authorized(&server, method, matched, request) => response,
                () = server.stopping.is_overdue() => fixed(method, server.stopping_reply(method)),
            }
        }
    };
    server.metrics.answered(route_name(matched), response.status().as_u16());
    if let Some(served) = response.extensions().get::<Served>() {
        server.metrics.response_bytes.inc_by(served.body_bytes);
        return response;
    }
    finish(&mut response, matched, &caller, server.next_unique());
    spans::answered(&response);
    response.map(|body| counted::counted(body, &server.metrics.response_bytes))
}

async fn answer_authorized(
    server: &Arc<Server>,
    method: Method,
    matched: Route,
    request: Box<Request<Body>>,
) -> Response<Body> {
    if matched == Route::Shape && method != Method::Delete {
        return read::read(server, method, request).await;
    }
    // Nobody waits here for long, and many do so in the other branch: its future shall be small.
    Box::pin(async move {
        let query = request.uri().query().unwrap_or_default();
        match matched {
            Route::Schema => {
                schema::schema(server, query).await.unwrap_or_else(|reply| fixed(method, *reply))
            }
            _ => fixed(method, delete::delete(server, query).await),
        }
    })
    .await
}

/// The part of a request that the headers of its answer depend on.
#[derive(Debug, Default)]
struct Caller {
    origin: Option<Box<str>>,
    is_authorized_by_header: bool,
    request_id: Option<Box<str>>,
}

impl Caller {
    fn of(headers: &HeaderMap) -> Self {
        let id = text(headers, wire::REQUEST_ID).filter(|id| REQUEST_ID_LENGTH.contains(&id.len()));
        Self {
            origin: text(headers, wire::ORIGIN).map(Box::from),
            is_authorized_by_header: headers.contains_key(header::AUTHORIZATION),
            request_id: id.map(Box::from),
        }
    }

    /// The lines that every answer of the shape route carries for this caller.
    fn lines(&self) -> Arc<[u8]> {
        static OF_MOST: OnceLock<Arc<[u8]>> = OnceLock::new();
        let render = || {
            let mut lines = Vec::new();
            let headers = self.headers(Route::Shape);
            headers.iter().for_each(|(name, value)| h1::line(&mut lines, name, value.as_bytes()));
            lines.into()
        };
        match self {
            Self { origin: None, is_authorized_by_header: false, .. } => OF_MOST.get_or_init(render).clone(),
            _ => render(),
        }
    }

    fn headers(&self, route: Route) -> Vec<(&'static str, String)> {
        let mut headers = caller_headers(route, self.origin.as_deref(), self.is_authorized_by_header);
        headers.push((wire::SERVER, concat!("Limn/", env!("CARGO_PKG_VERSION")).to_owned()));
        headers
    }
}

fn is_authorized(server: &Server, request: &Request<Body>) -> bool {
    let Some(secret) = &server.settings.secret else { return true };
    let query = request.uri().query().unwrap_or_default();
    auth::authorize(secret, query, text(request.headers(), wire::AUTHORIZATION))
}

/// The whole answer to a request whose head cannot be read.
fn unreadable_head(server: &Server, status: u16, bytes_max: usize) -> Vec<u8> {
    let reply = Reply::unreadable_head(&server.settings.cache, status, bytes_max);
    let body = reply.body.clone();
    let mut response = fixed(Method::Get, reply);
    // It may have been any route; the shape route's headers let a page read it.
    finish(&mut response, Route::Shape, &Caller::default(), server.next_unique());
    let mut answer = format!("HTTP/1.1 {}\r\nconnection: close\r\n", response.status()).into_bytes();
    let headers = response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    answer.extend_from_slice(&h1::render(headers, body.as_bytes()));
    answer
}

/// Adds what every answer carries (protocol §1.1, §1.3).
fn finish(response: &mut Response<Body>, route: Route, caller: &Caller, unique: u64) {
    for (name, value) in caller.headers(route) {
        push(response.headers_mut(), name, &value);
    }
    let id = request_id(caller.request_id.as_deref(), unique);
    push(response.headers_mut(), wire::REQUEST_ID, &id);
}

/// A request's id: the caller's own, or else one that no other has.
fn request_id(own: Option<&str>, unique: u64) -> Cow<'_, str> {
    own.map_or_else(|| format!("limn-{unique:020}").into(), Cow::from)
}

/// A reply whose body is known.
fn fixed(method: Method, reply: Reply) -> Response<Body> {
    let body = if method == Method::Head { Body::empty() } else { Body::from(reply.body) };
    with_head(reply.head, body)
}

fn with_head(head: ReplyHead, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(head.status).expect("core names real statuses");
    for (name, value) in head.headers {
        push(response.headers_mut(), name, &value);
    }
    response
}

fn push(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Hop-by-hop headers are the transport's business.
    if name == header::CONNECTION.as_str() {
        return;
    }
    match HeaderValue::from_str(value) {
        Ok(value) => {
            headers.append(HeaderName::from_static(name), value);
        }
        Err(_) => tracing::error!(name, "a header's value cannot be sent"),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

const fn route_name(route: Route) -> &'static str {
    match route {
        Route::Root => "root",
        Route::Health => "health",
        Route::Shape => "shape",
        Route::Schema => "schema",
        Route::NotFound => "not_found",
    }
}
