//! A connection that reads replies and keeps little of them.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An open connection, on which one request follows the other.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
}

/// What a client has read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Received {
    /// Rows of the snapshot and changes.
    pub rows: usize,
    /// Replies until the one that said up-to-date.
    pub replies: usize,
    /// Bytes of their bodies.
    pub bytes: usize,
}

/// In every row of a snapshot and every change.
const OPERATION: &str = "\"operation\":";

/// A shape's log as a client reads it.
#[derive(Debug, Clone)]
pub struct Log {
    query: String,
    offset: String,
    handle: String,
}

impl Connection {
    /// Opens it.
    pub async fn open(port: u16) -> Self {
        Self::try_open(port).await.expect("the server listens")
    }

    /// The same on a server that may not have started.
    pub async fn try_open(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.set_nodelay(true).expect("a socket");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP/1.1");
        tokio::spawn(connection);
        Some(Self { sender })
    }

    /// The status of the reply to a `GET`.
    pub async fn status(&mut self, target: &str) -> StatusCode {
        self.send(target).await.status()
    }

    /// Sends `GET` and reads the reply to its end: its headers, and how long its body was.
    pub async fn get(&mut self, target: &str) -> (HeaderMap, usize) {
        let reply = self.send(target).await;
        assert_eq!(reply.status(), 200, "{target}");
        let (head, mut body) = reply.into_parts();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame.expect("a whole reply").data_ref().map_or(0, Bytes::len);
        }
        (head.headers, length)
    }

    async fn send(&mut self, target: &str) -> Response<Incoming> {
        let request = Request::get(target).header(HOST, "localhost").body(Empty::new()).expect("a request");
        self.sender.ready().await.expect("the connection is open");
        self.sender.send_request(request).await.expect("a reply")
    }

    /// Reads a log up to its end, and returns how many bytes that were.
    pub async fn read_to_end(&mut self, log: &mut Log) -> usize {
        let mut bytes = 0;
        loop {
            let (headers, length) = self.get(&log.target(false)).await;
            bytes += length;
            log.take(&headers);
            if headers.contains_key("electric-up-to-date") {
                return bytes;
            }
        }
    }

    /// The same, and counts what comes.
    pub async fn count_to_end(&mut self, log: &mut Log) -> Received {
        let mut received = Received::default();
        loop {
            let reply = self.send(&log.target(false)).await;
            assert_eq!(reply.status(), 200);
            let (head, body) = reply.into_parts();
            let body = body.collect().await.expect("a whole reply").to_bytes();
            let text = std::str::from_utf8(&body).expect("JSON");
            received.rows += text.matches(OPERATION).count();
            received.replies += 1;
            received.bytes += body.len();
            log.take(&head.headers);
            if head.headers.contains_key("electric-up-to-date") {
                return received;
            }
        }
    }

    /// Reads the first reply of a log, from which its handle is known.
    pub async fn get_head(&mut self, log: &mut Log) {
        let (headers, _) = self.get(&log.target(false)).await;
        log.take(&headers);
    }

    /// Waits until the log grows.
    pub async fn wait(&mut self, log: &mut Log) {
        let before = log.offset.clone();
        while log.offset == before {
            let (headers, _) = self.get(&log.target(true)).await;
            log.take(&headers);
        }
    }
}

impl Log {
    /// The log of the shape that this query describes, from its beginning.
    pub fn new(query: &str) -> Self {
        Self { query: query.to_owned(), offset: "-1".to_owned(), handle: String::new() }
    }

    /// The request for what follows in the log.
    pub fn target(&self, is_live: bool) -> String {
        let Self { query, offset, handle } = self;
        let handle = if handle.is_empty() { String::new() } else { format!("&handle={handle}") };
        let live = if is_live { "&live=true" } else { "" };
        format!("/v1/shape?{query}&offset={offset}{handle}{live}")
    }

    /// The shape's handle, once a reply has named it.
    pub fn handle(&self) -> &str {
        &self.handle
    }

    fn take(&mut self, headers: &HeaderMap) {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).expect("a shape's header");
        text("electric-offset").clone_into(&mut self.offset);
        text("electric-handle").clone_into(&mut self.handle);
    }
}
