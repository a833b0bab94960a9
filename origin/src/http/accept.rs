//! The accept loop: connections are counted, slow ones are cut, and the end is orderly.

use super::closing::{HANDSHAKE_WAIT, ignore_new};
use super::unreadable::Answering;
use super::{Server, answer, h1, unreadable_head};
use crate::shapes::Served;
use axum::body::{Body, Bytes};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Connections at one time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 20_000;
/// The longest request head: a parked client's buffer, so kept small (protocol §2.4).
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Once the listener is closed: how long a connection may take to bring its first request.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);
/// How long bodies that are under way may take to end once the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Answers connections until `stop` resolves. Then health says `stopping`, new connections are answered for a
/// while, and what is under way ends.
///
/// `handler` answers what is not the protocol's, such as the pages of `limn dev`; it gives the request
/// back where it does not want it.
pub async fn serve<H, F>(
    listener: TcpListener,
    server: Arc<Server>,
    handler: H,
    stop: impl Future<Output = ()>,
) where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<axum::response::Response, Request<Body>>> + Send,
{
    let connections = Connections::new(server.clone(), handler);
    let closes = async {
        stop.await;
        tracing::info!("stopping: requests are answered, and nothing is waited for any more");
        server.stopping.begin();
        tokio::time::sleep(server.settings.shutdown_grace).await;
        if ignore_new(&listener).is_ok() {
            tokio::time::sleep(HANDSHAKE_WAIT).await;
        }
    };
    {
        tokio::pin!(closes);
        loop {
            tokio::select! {
                accepted = connections.accept(&listener) => connections.take(accepted).await,
                () = &mut closes => break,
            }
        }
    }
    connections.take_queued(listener);
    let closing = connections.into_used().await;
    closing.send_replace(());
    if tokio::time::timeout(DRAIN_TIMEOUT, closing.closed()).await.is_err() {
        tracing::warn!("ending although answers are under way: they are cut off");
    }
}

/// The connections that are open.
struct Connections<H> {
    answers: Arc<Answers<H>>,
    places: Arc<Semaphore>,
    /// Changes once connections that wait for a request are to end; each connection holds a receiver.
    closing: watch::Sender<()>,
    /// Held by each connection that has not brought a request yet.
    unused: mpsc::Sender<Infallible>,
    all_used: mpsc::Receiver<Infallible>,
}

/// The state from which all connections answer requests.
struct Answers<H> {
    server: Arc<Server>,
    handler: H,
    builder: auto::Builder<TokioExecutor>,
}

type Accepted = (TcpStream, OwnedSemaphorePermit);

impl<H, F> Connections<H>
where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<axum::response::Response, Request<Body>>> + Send,
{
    fn new(server: Arc<Server>, handler: H) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        let read_timeout = server.settings.read_timeout;
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(read_timeout)
            .max_buf_size(HEAD_BYTES_MAX);
        let answers = Arc::new(Answers { server, handler, builder });
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (unused, all_used) = mpsc::channel(1);
        Self { answers, places, closing: watch::Sender::new(()), unused, all_used }
    }

    /// Waits until every connection has brought a request. One that has not would be closed as idle, although its
    /// request may be on the way.
    async fn into_used(self) -> watch::Sender<()> {
        let Self { closing, unused, mut all_used, .. } = self;
        drop(unused);
        let _ = tokio::time::timeout(FIRST_REQUEST_WAIT, all_used.recv()).await;
        closing
    }

    /// The next connection, once there is room for it; `None` where the system refuses one.
    async fn accept(&self, listener: &TcpListener) -> Option<Accepted> {
        let place = self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (socket, _) = listener.accept().await.ok()?;
        Some((socket, place))
    }

    /// Closes the listener. The connections that the kernel has made already would be reset: they are taken first.
    fn take_queued(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok(place) = self.places.clone().try_acquire_owned()
            && let Ok((socket, _)) = listener.accept()
        {
            let socket = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket));
            if let Ok(socket) = socket {
                self.serve(socket, place);
            }
        }
    }

    async fn take(&self, accepted: Option<Accepted>) {
        match accepted {
            Some((socket, place)) => self.serve(socket, place),
            // Out of descriptors: the connections that end will free some.
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }

    /// Answers the requests of a connection.
    fn serve(&self, socket: TcpStream, place: OwnedSemaphorePermit) {
        let _ = socket.set_nodelay(true);
        #[cfg(target_os = "linux")]
        {
            let send_timeout = Some(self.answers.server.settings.send_timeout);
            let _ = socket2::SockRef::from(&socket).set_tcp_user_timeout(send_timeout);
        }
        let (answers, mut closing) = (self.answers.clone(), self.closing.subscribe());
        let mut unused = Some(self.unused.clone());
        tokio::spawn(async move {
            let read_timeout = answers.server.settings.read_timeout;
            let answer = |request| {
                unused = None;
                answers.clone().respond(request)
            };
            let left = h1::serve(socket, read_timeout, &mut closing, answer).await;
            if let Some((socket, read)) = left {
                Box::pin(answers.serve_by_hyper(socket, read, unused, &mut closing)).await;
            }
            drop(place);
        });
    }
}

impl<H, F> Answers<H>
where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<axum::response::Response, Request<Body>>> + Send,
{
    /// Answers the requests of a connection from its first one on that is not plain, of which some was `read` already.
    async fn serve_by_hyper(
        self: Arc<Self>,
        socket: TcpStream,
        read: Bytes,
        unused: Option<mpsc::Sender<Infallible>>,
        closing: &mut watch::Receiver<()>,
    ) {
        let (answers, unused) = (self.clone(), Mutex::new(unused));
        let service = service_fn(move |request: Request<Incoming>| {
            drop(unused.lock().unwrap_or_else(PoisonError::into_inner).take());
            let answers = answers.clone();
            async move { Ok::<_, Infallible>(answers.respond(Box::new(request.map(Body::new))).await) }
        });
        let answers = self.clone();
        let bare = move |status| unreadable_head(&answers.server, status, HEAD_BYTES_MAX);
        let socket = Answering::new(socket, read, bare);
        let connection = self.builder.serve_connection(TokioIo::new(socket), service);
        tokio::pin!(connection);
        // What goes wrong on a connection is the client's: it went away or sent no HTTP.
        tokio::select! {
            _ = connection.as_mut() => {}
            _ = closing.changed() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    /// The request has memory of its own, which every future on the way to its answer would have room for otherwise.
    async fn respond(self: Arc<Self>, request: Box<Request<Body>>) -> axum::response::Response {
        let is_http1 = request.version() < Version::HTTP_2;
        let handled = Box::pin((self.handler)(*request)).await.map(Box::new).map_err(Box::new);
        let mut response = match handled {
            Ok(response) => *response,
            Err(request) => answer(self.server.clone(), request).await,
        };
        // The client's next request goes to another server, instead of a connection that is about to close.
        let is_head_open = response.extensions().get::<Served>().is_none();
        if is_http1 && is_head_open && self.server.stopping.has_begun() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
