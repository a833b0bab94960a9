//! An answer on its way to the client: its head, and its body framed by its length or in chunks (RFC 9112).

use super::{gone, is_would_block};
use crate::shapes::Served;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{CONNECTION, CONTENT_LENGTH};
use axum::http::{Response, StatusCode, response};
use bytes::Buf;
use hyper::body::Frame;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::task::consume_budget;

/// Bytes that are gathered for one write: beyond it, what is ready is written before more is asked for.
const BATCH_BYTES: usize = 256 << 10;
/// Pieces that one write takes.
const PIECES: usize = 16;
/// Room for a head, so that it grows once at most.
const HEAD_BYTES: usize = 1024;
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const LINE_END: &[u8] = b"\r\n";

/// The last lines of a head, its end, and its body, as they go on the wire: what answers share that differ in the lines
/// before only.
pub(in super::super) fn render<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body: &[u8],
) -> Bytes {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    for (name, value) in headers {
        line(&mut bytes, name, value);
    }
    line(&mut bytes, "content-length", body.len().to_string().as_bytes());
    bytes.extend_from_slice(LINE_END);
    bytes.extend_from_slice(body);
    bytes.into()
}

/// Writes a successful answer whose last part is shared, as far as the socket takes it at once, and gives the rest.
/// `lines` are lines of its head, `own` further ones.
pub(in super::super) fn send_at_once(
    socket: &TcpStream,
    (lines, own): (&[u8], &[(&str, &str)]),
    shared: &Bytes,
) -> Bytes {
    HEAD.with_borrow_mut(|head| {
        head.clear();
        head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        head.extend_from_slice(lines);
        for (name, value) in own {
            line(head, name, value.as_bytes());
        }
        date(head);
        let written = socket.try_write_vectored(&[IoSlice::new(head), IoSlice::new(shared)]);
        // A broken connection is found to be so once more when the rest is written.
        let written = written.unwrap_or_default();
        match head.get(written..) {
            Some(head_left) => [head_left, shared].concat().into(),
            None => shared.slice((written - head.len()).min(shared.len())..),
        }
    })
}

/// The way in which the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// By the status: there is none.
    Bodiless,
    Length(u64),
    Chunked,
}

/// True where the answer itself ends the connection.
pub(super) fn closes(response: &Response<Body>) -> bool {
    let value = response.headers().get(CONNECTION);
    value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Writes an answer to a `GET`. Nothing may follow on a connection where that failed: a body that breaks off must not
/// look like a whole one.
pub(super) async fn send(socket: &TcpStream, response: Response<Body>, closes: bool) -> io::Result<()> {
    let (mut parts, mut body) = response.into_parts();
    if let Some(served) = parts.extensions.remove::<Served>() {
        return Outgoing::of([served.rest]).write(socket).await;
    }
    let framing = Framing::of(&parts, &body);
    let mut left = Left(match framing {
        Framing::Length(length) => Some(length),
        Framing::Bodiless | Framing::Chunked => None,
    });
    let mut outgoing = Outgoing::of([head(&parts, framing, closes).into()]);
    drop(parts);
    loop {
        if outgoing.bytes >= BATCH_BYTES {
            outgoing.write(socket).await?;
        }
        let ready = poll_fn(|context| Poll::Ready(poll_data(&mut body, context))).await;
        let data = match ready {
            _ if framing == Framing::Bodiless => None,
            Poll::Ready(data) => data,
            Poll::Pending if outgoing.bytes > 0 => {
                outgoing.write(socket).await?;
                continue;
            }
            Poll::Pending => tokio::select! {
                biased;
                data = poll_fn(|context| poll_data(&mut body, context)) => data,
                () = gone(socket) => return Err(io::ErrorKind::ConnectionAborted.into()),
            },
        };
        let Some(data) = data.transpose()? else { break };
        left.take(data.len())?;
        outgoing.push_data(data, framing);
    }
    left.finish()?;
    if framing == Framing::Chunked {
        outgoing.push(Bytes::from_static(LAST_CHUNK));
    }
    outgoing.write(socket).await
}

/// The bytes that a body has told and not brought yet; `None` where it has told none.
struct Left(Option<u64>);

impl Left {
    fn take(&mut self, bytes: usize) -> io::Result<()> {
        let Some(left) = &mut self.0 else { return Ok(()) };
        let rest = left.checked_sub(bytes as u64);
        *left = rest.ok_or_else(|| io::Error::other("a body is longer than was told"))?;
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        if self.0.unwrap_or_default() == 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// The next piece of a body; none where the frame is no data.
fn poll_data(body: &mut Body, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
    let frame = Pin::new(body).poll_frame(context);
    frame.map(|frame| {
        let frame = frame?;
        Some(frame.map(|frame: Frame<Bytes>| frame.into_data().unwrap_or_default()).map_err(io::Error::other))
    })
}

impl Framing {
    fn of(parts: &response::Parts, body: &Body) -> Self {
        if matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Self::Bodiless;
        }
        let told = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        told.or_else(|| body.size_hint().exact()).map_or(Self::Chunked, Self::Length)
    }
}

/// The head of an answer, its empty line included.
fn head(parts: &response::Parts, framing: Framing, closes: bool) -> Vec<u8> {
    let mut head = first_lines(parts, closes);
    match framing {
        Framing::Bodiless => {}
        Framing::Length(length) => line(&mut head, "content-length", length.to_string().as_bytes()),
        Framing::Chunked => line(&mut head, "transfer-encoding", b"chunked"),
    }
    head.extend_from_slice(LINE_END);
    head
}

/// All lines of a head but those that say how the body ends.
fn first_lines(parts: &response::Parts, closes: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(parts.status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(parts.status.canonical_reason().unwrap_or("<none>").as_bytes());
    head.extend_from_slice(LINE_END);
    for (name, value) in &parts.headers {
        if *name != CONTENT_LENGTH && *name != CONNECTION {
            line(&mut head, name.as_str(), value.as_bytes());
        }
    }
    if closes {
        line(&mut head, "connection", b"close");
    }
    date(&mut head);
    head
}

fn date(head: &mut Vec<u8>) {
    DATE.with_borrow_mut(|date| line(head, "date", date.now()));
}

thread_local! {
    static DATE: RefCell<Date> = RefCell::default();
    /// A head that is written at once.
    static HEAD: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(HEAD_BYTES));
}

/// The date as it was written last: it changes once a second.
#[derive(Debug, Default)]
struct Date {
    unix_s: u64,
    text: String,
}

impl Date {
    fn now(&mut self) -> &[u8] {
        let now = SystemTime::now();
        let unix_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.unix_s != unix_s {
            (self.unix_s, self.text) = (unix_s, httpdate::fmt_http_date(now));
        }
        self.text.as_bytes()
    }
}

/// Adds a line to a head.
pub(in super::super) fn line(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, LINE_END] {
        head.extend_from_slice(part);
    }
}

/// Bytes that are to be written.
#[derive(Debug)]
struct Outgoing {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Outgoing {
    fn of<const COUNT: usize>(pieces: [Bytes; COUNT]) -> Self {
        let bytes = pieces.iter().map(Bytes::len).sum();
        Self { pieces: pieces.into(), bytes }
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    fn push_data(&mut self, data: Bytes, framing: Framing) {
        if data.is_empty() || framing != Framing::Chunked {
            return self.push(data);
        }
        self.push(format!("{:x}\r\n", data.len()).into());
        self.push(data);
        self.push(Bytes::from_static(LINE_END));
    }

    /// Writes all of it.
    async fn write(&mut self, socket: &TcpStream) -> io::Result<()> {
        while self.bytes > 0 {
            // A client that takes everything at once must not keep others waiting.
            consume_budget().await;
            match self.try_write(socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if is_would_block(&error) => socket.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn try_write(&self, socket: &TcpStream) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let count = self.pieces.len().min(PIECES);
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        socket.try_write_vectored(slices.get(..count).unwrap_or_default())
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.pieces.front_mut() {
            let here = written.min(first.len());
            first.advance(here);
            written -= here;
            if !first.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    /// The bytes that a client gets, without the date; true where the whole answer was sent.
    async fn sent(response: Response<Body>, closes: bool) -> (String, bool) {
        let (mut client, socket) = connection().await;
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.map(|_| read)
        });
        let is_whole = send(&socket, response, closes).await.is_ok();
        drop(socket);
        let read = String::from_utf8(reading.await.unwrap().unwrap()).unwrap();
        let lines: Vec<&str> =
            read.split_inclusive('\n').filter(|line| !line.starts_with("date: ")).collect();
        (lines.concat(), is_whole)
    }

    fn pieces(pieces: Vec<io::Result<&'static str>>) -> Response<Body> {
        Response::new(Body::from_stream(stream::iter(pieces)))
    }

    #[tokio::test]
    async fn the_end_of_a_body_is_told_by_its_length_or_by_chunks() {
        let known = Response::new(Body::from("[1]"));
        let expected = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n[1]";
        assert_eq!(sent(known, false).await, (expected.to_owned(), true));
        let told = Response::builder().header(CONTENT_LENGTH, 4).header("a", "b");
        let told = told.body(pieces(vec![Ok("[1"), Ok("2]")]).into_body()).unwrap();
        let expected = "HTTP/1.1 200 OK\r\na: b\r\nconnection: close\r\ncontent-length: 4\r\n\r\n[12]";
        assert_eq!(sent(told, true).await, (expected.to_owned(), true));
        let unknown = pieces(vec![Ok("[1"), Ok(""), Ok("2]")]);
        let expected = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[1\r\n2\r\n2]\r\n0\r\n\r\n";
        assert_eq!(sent(unknown, false).await, (expected.to_owned(), true));
        let empty = Response::new(Body::empty());
        let expected = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(sent(empty, false).await, (expected.to_owned(), true));
    }

    #[tokio::test]
    async fn a_status_without_a_body_has_no_length() {
        for (status, line) in [(304, "304 Not Modified"), (204, "204 No Content")] {
            let response = Response::builder().status(status).body(Body::empty()).unwrap();
            assert_eq!(sent(response, false).await, (format!("HTTP/1.1 {line}\r\n\r\n"), true));
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_has_no_end() {
        let (read, is_whole) = sent(pieces(vec![Ok("[1"), Err(io::ErrorKind::Other.into())]), false).await;
        assert!(!is_whole && !read.ends_with("0\r\n\r\n"), "{read}");
    }

    #[tokio::test]
    async fn a_body_of_another_length_than_was_told_ends_the_connection() {
        for length in [2, 4] {
            let told = Response::builder().header(CONTENT_LENGTH, length);
            let (_, is_whole) = sent(told.body(Body::from("[1]")).unwrap(), false).await;
            assert!(!is_whole, "{length} bytes were told");
        }
    }

    /// The two ends of a connection.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    /// What a client gets of a body that was sent at once, its rest behind it; and how long the rest was.
    async fn sent_at_once(body: &str) -> (String, usize) {
        let (mut client, socket) = connection().await;
        socket.writable().await.unwrap();
        let shared = render([("shared", &b"2"[..])], body.as_bytes());
        let rest = send_at_once(&socket, (b"lines: 0\r\n", &[("own", "1")]), &shared);
        let length = rest.len();
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Served { rest, body_bytes: body.len() as u64 });
        let reading = tokio::spawn(async move {
            let mut read = String::new();
            client.read_to_string(&mut read).await.unwrap();
            read
        });
        send(&socket, response, false).await.unwrap();
        drop(socket);
        (reading.await.unwrap(), length)
    }

    #[tokio::test]
    async fn what_is_shared_follows_the_lines_of_the_answer_itself() {
        let (read, rest) = sent_at_once("[]").await;
        let (head, body) = read.split_once("\r\n\r\n").unwrap();
        let lines: Vec<&str> = head.split("\r\n").filter(|line| !line.starts_with("date: ")).collect();
        assert_eq!(lines, ["HTTP/1.1 200 OK", "lines: 0", "own: 1", "shared: 2", "content-length: 2"]);
        assert_eq!((body, rest), ("[]", 0));
    }

    #[tokio::test]
    async fn what_a_socket_does_not_take_at_once_is_the_rest() {
        let body = "x".repeat(64 << 20);
        let (read, rest) = sent_at_once(&body).await;
        assert!(rest > 0 && rest < body.len(), "{rest}");
        assert!(read.split_once("\r\n\r\n").is_some_and(|(_, sent)| sent == body));
    }

    #[tokio::test]
    async fn long_bodies_go_out_whole() {
        let piece = "x".repeat(BATCH_BYTES / 3);
        let count = 40;
        let response = Response::new(Body::from_stream(stream::iter((0..count).map({
            let piece = piece.clone();
            move |_| Ok::<_, io::Error>(piece.clone())
        }))));
        let (read, is_whole) = sent(response, false).await;
        assert!(is_whole && read.matches('x').count() == count * piece.len());
        assert_eq!(read.matches(&format!("{:x}\r\n", piece.len())).count(), count);
    }
}
