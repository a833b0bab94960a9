//! A small HTTP/1.1 client that sends targets exactly as written and hides nothing of the answer.

use crate::eventually::PATIENCE;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// Longer than any wait of a server at its defaults.
const ANSWER_TIME_MAX: Duration = PATIENCE;

/// Talks to one server; every request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    port: u16,
}

/// A request. The target goes out byte for byte.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// Such as `/v1/shape?table=t&offset=-1`.
    pub target: &'a str,
    /// Names and values, sent in this order.
    pub headers: &'a [(&'a str, &'a str)],
    /// Sent where it is not empty.
    pub body: &'a str,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// Names in lower case, in the order of the answer.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
}

impl Client {
    /// A client of the server at that port of the loopback interface.
    #[must_use]
    pub const fn new(port: u16) -> Self {
        Self { port }
    }

    /// Where the server is, for programs that have a client of their own.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// `GET`.
    ///
    /// # Panics
    /// Where no whole answer comes.
    pub async fn get(&self, target: &str) -> Response {
        self.send(&Request { method: "GET", target, ..Request::default() }).await
    }

    /// Any request.
    ///
    /// # Panics
    /// Where no whole answer comes.
    pub async fn send(&self, request: &Request<'_>) -> Response {
        let answer = self.try_send(request).await;
        answer.unwrap_or_else(|error| unreachable!("no answer to {request:?}: {error}"))
    }

    /// Any request, to a server that may be gone.
    ///
    /// # Errors
    /// Where no whole answer comes.
    pub async fn try_send(&self, request: &Request<'_>) -> io::Result<Response> {
        let exchange = async {
            let mut stream = self.open(request).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            parse(&answer, request.method == "HEAD")
        };
        timeout(ANSWER_TIME_MAX, exchange).await.map_err(|_| io::Error::from(ErrorKind::TimedOut))?
    }

    /// Reads an answer while it comes: until the server ends it, `enough` is content with the body so far,
    /// or the time is up. Says also whether the server ended it.
    ///
    /// # Errors
    /// Where no answer begins, or what comes is no HTTP.
    pub async fn read_while_open(
        &self,
        request: &Request<'_>,
        time_max: Duration,
        enough: impl Fn(&[u8]) -> bool,
    ) -> io::Result<(Response, bool)> {
        let deadline = Instant::now() + time_max;
        let mut stream = self.open(request).await?;
        let mut answer = Vec::new();
        loop {
            let ended = match timeout_at(deadline, stream.read_buf(&mut answer)).await {
                Ok(read) => read? == 0,
                Err(_) => return Ok((parse_begun(&answer)?, false)),
            };
            if ended {
                return Ok((parse(&answer, false)?, true));
            }
            if let Ok(begun) = parse_begun(&answer)
                && enough(&begun.body)
            {
                return Ok((begun, false));
            }
        }
    }

    /// Sends a `GET` and leaves its answer to whoever reads it, if anybody does.
    ///
    /// # Errors
    /// Where the server takes no connection.
    pub async fn ask(&self, target: &str) -> io::Result<TcpStream> {
        self.open(&Request { method: "GET", target, ..Request::default() }).await
    }

    /// Sends bytes as they are, and returns all that comes until the server closes the connection, or has been
    /// silent for `silence`.
    ///
    /// # Panics
    /// Where no connection can be made.
    pub async fn raw(&self, bytes: &[u8], silence: Duration) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("the server listens");
        // A server that refuses early may close before everything is sent.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        while let Ok(Ok(1..)) = timeout(silence, stream.read_buf(&mut answer)).await {}
        answer
    }

    pub(crate) async fn open(&self, request: &Request<'_>) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(self.encoded(request).as_bytes()).await?;
        Ok(stream)
    }

    fn encoded(&self, request: &Request<'_>) -> String {
        let Request { method, target, headers, body } = request;
        let mut text =
            format!("{method} {target} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\n", self.port);
        for (name, value) in *headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if !body.is_empty() {
            let _ = write!(text, "content-length: {}\r\n", body.len());
        }
        text + "\r\n" + body
    }
}

impl Response {
    /// The value of a header, where the answer has exactly one of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Where the segment begins that the answer's changes are from, as its tag says; 0 where its log was not compacted.
    #[must_use]
    pub fn segment_start(&self) -> u64 {
        let tag = self.header("etag").unwrap_or_default().trim_matches('"');
        tag.split(';').nth(1).and_then(|part| part.parse().ok()).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// Where it is something else.
    #[must_use]
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.body);
        parsed.unwrap_or_else(|error| {
            unreachable!("status {}, no JSON ({error}): {}", self.status, self.text())
        })
    }
}

/// What a query parameter's value cannot hold as it is, and some more.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b',');

/// `text` as a query parameter's value.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

pub(crate) fn parse(answer: &[u8], head_only: bool) -> io::Result<Response> {
    let (mut response, rest) = parse_head(answer)?;
    if head_only || response.status == 204 || response.status == 304 {
        return Ok(response);
    }
    response.body = match is_chunked(&response) {
        true => match dechunk(rest) {
            (body, true) => body,
            (_, false) => return Err(malformed("the body was cut off")),
        },
        false => rest.to_vec(),
    };
    match response.header("content-length").map(str::parse::<usize>) {
        Some(length) if length != Ok(response.body.len()) => Err(malformed("the body has another length")),
        _ => Ok(response),
    }
}

/// Parses the part of an answer that has come: its head, which must be whole, and its body so far.
///
/// # Errors
/// Where the head is not whole, or no HTTP.
pub fn parse_begun(answer: &[u8]) -> io::Result<Response> {
    let (mut response, rest) = parse_head(answer)?;
    response.body = if is_chunked(&response) { dechunk(rest).0 } else { rest.to_vec() };
    Ok(response)
}

/// Returns also what follows the head.
pub(crate) fn parse_head(answer: &[u8]) -> io::Result<(Response, &[u8])> {
    let end = find(answer, b"\r\n\r\n").ok_or_else(|| malformed("the answer ends within its head"))?;
    let (head, rest) = (String::from_utf8_lossy(&answer[..end]).into_owned(), &answer[end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| malformed("no status"))?;
    let header = |line: &str| {
        line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: Vec<(String, String)> = lines.filter_map(header).collect();
    Ok((Response { status, headers, body: Vec::new() }, rest))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

fn is_chunked(response: &Response) -> bool {
    response.header("transfer-encoding") == Some("chunked")
}

/// The body, and whether it is whole. Of a chunk that was cut off, what has come is a part of the body.
fn dechunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some((chunk, after)) = next_chunk(rest) {
        if chunk.is_empty() {
            return (body, true);
        }
        body.extend_from_slice(chunk);
        rest = after;
    }
    if let Some((length, begun)) = chunk_length(rest) {
        body.extend_from_slice(&begun[..length.min(begun.len())]);
    }
    (body, false)
}

/// The first chunk, where it is whole, and what follows it.
pub(crate) fn next_chunk(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = chunk_length(rest)?;
    Some((rest.get(..length)?, rest.get(length + 2..)?))
}

/// The length of the first chunk, and what follows the line that tells it.
fn chunk_length(rest: &[u8]) -> Option<(usize, &[u8])> {
    let line = find(rest, b"\r\n")?;
    let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
    Some((length, &rest[line + 2..]))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_both_codings_are_read_and_cut_ones_refused() {
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked, false).unwrap().text(), "abcde");
        assert!(parse(&chunked[..chunked.len() - 8], false).is_err());
        for (cut, begun) in [(7, "abcde"), (8, "abcd"), (9, "abc"), (19, "")] {
            assert_eq!(parse_begun(&chunked[..chunked.len() - cut]).unwrap().text(), begun, "{cut}");
        }
        let fixed = b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\nA: x\r\nA: y\r\n\r\nabc";
        let response = parse(fixed, false).unwrap();
        assert_eq!((response.status, response.text().as_str(), response.header("a")), (404, "abc", None));
        assert!(parse(&fixed[..fixed.len() - 1], false).is_err());
        assert!(parse(&fixed[..20], false).is_err());
    }

    #[test]
    fn values_are_encoded() {
        assert_eq!(encode("a = 'é'"), "a%20%3D%20%27%C3%A9%27");
    }
}
