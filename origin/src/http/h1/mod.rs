//! HTTP/1.1 connections whose requests are plain, as nearly all are: what such a connection costs while its client waits
//! is a socket, a task, and what the answer still needs.
//!
//! A request is plain where it is a `GET` of a path without a body, whose head came in one piece with nothing behind it
//! ([`request`]). With the first request that is not, the connection goes to hyper, which answers all others: it decides
//! alone about everything that two programs could read differently.

mod request;
mod response;

pub(super) use response::{line, render, send_at_once};

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use request::Plain;
use socket2::SockRef;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

/// The longest head of a plain request.
const PLAIN_HEAD_BYTES: usize = 8 << 10;

thread_local! {
    /// Heads are read into it: a connection needs it for a moment only.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PLAIN_HEAD_BYTES].into());
}

/// The extension of a plain request behind which the connection goes on: who else answers it may write to the socket,
/// and leaves [`Served`](crate::shapes::Served) as its answer then.
#[derive(Debug, Clone)]
pub(super) struct Direct(pub(super) Weak<TcpStream>);

/// The next bytes of a connection.
enum Came {
    Request(Plain),
    /// The bytes that were read of something else.
    Other(Bytes),
    /// The client has closed its side, or the connection is broken.
    Nothing,
}

/// Answers the plain requests of a connection until it ends. Otherwise gives back the socket, with what was read of the
/// first request that is not plain.
///
/// `came` is called with each request. A change of `closing` ends a connection that waits for a request.
pub(super) async fn serve<A, F>(
    socket: TcpStream,
    read_timeout: Duration,
    closing: &mut watch::Receiver<()>,
    mut answer: A,
) -> Option<(TcpStream, Bytes)>
where
    A: FnMut(Box<Request<Body>>) -> F,
    F: Future<Output = Response<Body>>,
{
    let socket = Arc::new(socket);
    loop {
        let came = poll_fn(|context| poll_request(&socket, context));
        let came = tokio::select! {
            biased;
            came = timeout(read_timeout, came) => came.unwrap_or(Came::Nothing),
            _ = closing.changed() => return None,
        };
        let Plain { mut request, closes } = match came {
            Came::Request(plain) => plain,
            // Others hold it for moments only, while a request is answered.
            Came::Other(read) => return Some((Arc::into_inner(socket)?, read)),
            Came::Nothing => return None,
        };
        if !closes {
            request.extensions_mut().insert(Direct(Arc::downgrade(&socket)));
        }
        // In memory for as long as the request, not the connection, lasts.
        let answering = Box::pin(answer(request));
        let response = tokio::select! {
            biased;
            response = answering => response,
            () = gone(&socket) => return None,
        };
        let closes = closes || response::closes(&response);
        response::send(&socket, response, closes).await.ok()?;
        if closes {
            let _ = SockRef::from(&*socket).shutdown(Shutdown::Write);
            return None;
        }
    }
}

fn poll_request(socket: &TcpStream, context: &mut Context<'_>) -> Poll<Came> {
    loop {
        if ready!(socket.poll_read_ready(context)).is_err() {
            return Poll::Ready(Came::Nothing);
        }
        let came = BUFFER.with_borrow_mut(|buffer| {
            let length = socket.try_read(buffer)?;
            let read = buffer.get(..length).unwrap_or_default();
            Ok(match request::parse(read) {
                _ if read.is_empty() => Came::Nothing,
                Some(plain) => Came::Request(plain),
                None => Came::Other(Bytes::copy_from_slice(read)),
            })
        });
        match came {
            Err(error) if is_would_block(&error) => {}
            came => return Poll::Ready(came.unwrap_or(Came::Nothing)),
        }
    }
}

/// Resolves once the client has closed its side. Where it sends something instead, the kernel keeps that, and nobody
/// notices its end before.
async fn gone(socket: &TcpStream) {
    let mut first = [0];
    if let Ok(1..) = socket.peek(&mut first).await {
        std::future::pending::<()>().await;
    }
}

fn is_would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
