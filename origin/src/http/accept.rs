//! The accept loop: connections are counted, slow ones are cut, and the end is orderly.

use super::closing::{HANDSHAKE_WAIT, ignore_new};
use super::unreadable::Answering;
use super::{Server, answer, unreadable_head};
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

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
    let graceful = connections.into_used().await;
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("ending although answers are under way: they are cut off");
    }
}

/// The connections that are open.
struct Connections<H> {
    server: Arc<Server>,
    handler: H,
    builder: auto::Builder<TokioExecutor>,
    places: Arc<Semaphore>,
    graceful: GracefulShutdown,
    /// Held by each connection that has not brought a request yet.
    unused: mpsc::Sender<Infallible>,
    all_used: mpsc::Receiver<Infallible>,
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
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (unused, all_used) = mpsc::channel(1);
        Self { server, handler, builder, places, graceful: GracefulShutdown::new(), unused, all_used }
    }

    /// Waits until every connection has brought a request. One that has not would be closed as idle, although its
    /// request may be on the way.
    async fn into_used(self) -> GracefulShutdown {
        let Self { graceful, unused, mut all_used, .. } = self;
        drop(unused);
        let _ = tokio::time::timeout(FIRST_REQUEST_WAIT, all_used.recv()).await;
        graceful
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
            let send_timeout = Some(self.server.settings.send_timeout);
            let _ = socket2::SockRef::from(&socket).set_tcp_user_timeout(send_timeout);
        }
        let (server, handler) = (self.server.clone(), self.handler.clone());
        let unused = Mutex::new(Some(self.unused.clone()));
        let service = service_fn(move |request: Request<Incoming>| {
            drop(unused.lock().unwrap_or_else(PoisonError::into_inner).take());
            let (server, handler) = (server.clone(), handler.clone());
            async move { Ok::<_, Infallible>(respond(server, handler, request).await) }
        });
        let server = self.server.clone();
        let socket = Answering::new(socket, move |status| unreadable_head(&server, status, HEAD_BYTES_MAX));
        let connection = self.builder.serve_connection(TokioIo::new(socket), service).into_owned();
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            // What goes wrong on a connection is the client's: it went away or sent no HTTP.
            let _ = connection.await;
            drop(place);
        });
    }
}

async fn respond<H, F>(
    server: Arc<Server>,
    handler: H,
    request: Request<Incoming>,
) -> axum::response::Response
where
    H: Fn(Request<Body>) -> F,
    F: Future<Output = Result<axum::response::Response, Request<Body>>>,
{
    let is_http1 = request.version() < Version::HTTP_2;
    let mut response = match handler(request.map(Body::new)).await {
        Ok(response) => response,
        Err(request) => answer(server.clone(), request).await,
    };
    // The client's next request goes to another server, instead of a connection that is about to close.
    if is_http1 && server.stopping.has_begun() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
