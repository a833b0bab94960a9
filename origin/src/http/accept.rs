//! The accept loop: connections are counted, slow ones are cut, and the end is orderly.

use super::{Server, answer};
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at one time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 20_000;
/// The longest request head: a parked client's buffer, so kept small (protocol §2.4).
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long answers may take to end once the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers connections until `stop` resolves, then lets what is under way end.
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
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let (read_timeout, send_timeout) = (server.settings.read_timeout, server.settings.send_timeout);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(read_timeout).max_buf_size(HEAD_BYTES_MAX);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((socket, _)) = accepted else {
            // Out of descriptors: the connections that end will free some.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = socket.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&socket).set_tcp_user_timeout(Some(send_timeout));
        let (server, handler) = (server.clone(), handler.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (server, handler) = (server.clone(), handler.clone());
            async move {
                let response = match handler(request.map(Body::new)).await {
                    Ok(response) => response,
                    Err(request) => answer(server, request).await,
                };
                Ok::<_, Infallible>(response)
            }
        });
        let connection = builder.serve_connection(TokioIo::new(socket), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // What goes wrong on a connection is the client's: it went away or sent no HTTP.
            let _ = connection.await;
            drop(permit);
        });
    }
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await;
}
