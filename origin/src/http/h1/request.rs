//! The head of a plain request.

use axum::body::Body;
use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::{Request, Uri};
use std::mem::MaybeUninit;

/// Headers that a plain request has at most.
const PLAIN_HEADERS: usize = 64;

/// A `GET` that has no body, asks for nothing special of the connection, and is all that came.
#[derive(Debug)]
pub(super) struct Plain {
    /// In memory of its own: it is gone before a request waits.
    pub(super) request: Box<Request<Body>>,
    /// The client wants the connection closed behind the answer.
    pub(super) closes: bool,
}

/// Parses what was read; `None` where that is anything but one plain request.
pub(super) fn parse(read: &[u8]) -> Option<Plain> {
    let mut headers = [const { MaybeUninit::uninit() }; PLAIN_HEADERS];
    let mut head = httparse::Request::new(&mut []);
    let parsed = head.parse_with_uninit_headers(read, &mut headers).ok()?;
    let is_all = parsed == httparse::Status::Complete(read.len());
    let path = head.path.filter(|path| path.starts_with('/'))?;
    if !is_all || head.method != Some("GET") || head.version != Some(1) {
        return None;
    }
    let mut plain = Plain { request: Box::new(Request::new(Body::empty())), closes: false };
    *plain.request.uri_mut() = Uri::try_from(path).ok()?;
    let map = plain.request.headers_mut();
    map.reserve(head.headers.len());
    for header in head.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        if name == CONTENT_LENGTH || name == TRANSFER_ENCODING || name == EXPECT || name == UPGRADE {
            return None;
        }
        if name == CONNECTION {
            plain.closes |= header.value.eq_ignore_ascii_case(b"close");
            let is_known = plain.closes || header.value.eq_ignore_ascii_case(b"keep-alive");
            if !is_known || map.contains_key(CONNECTION) {
                return None;
            }
        }
        map.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_plain(text: &str) -> bool {
        parse(text.as_bytes()).is_some()
    }

    #[test]
    fn a_plain_request_is_read_whole() {
        let text = "GET /v1/shape?table=t&offset=-1 HTTP/1.1\r\nHost: a\r\nif-none-match: \"x\"\r\nx: 1\r\nX: 2\r\n\r\n";
        let Plain { request, closes } = parse(text.as_bytes()).unwrap();
        assert_eq!((request.uri().path(), request.uri().query()), ("/v1/shape", Some("table=t&offset=-1")));
        assert_eq!(request.headers()["host"], "a");
        assert_eq!(request.headers()["if-none-match"], "\"x\"");
        assert_eq!(request.headers().get_all("x").iter().count(), 2);
        assert!(!closes);
    }

    #[test]
    fn the_end_of_the_connection_is_the_clients_choice() {
        let closes = |value: &str| {
            let text = format!("GET / HTTP/1.1\r\nconnection: {value}\r\n\r\n");
            parse(text.as_bytes()).map(|plain| plain.closes)
        };
        assert_eq!((closes("Close"), closes("Keep-Alive")), (Some(true), Some(false)));
        for other in
            ["upgrade", "close, x", "", "keep-alive\r\nconnection: close", "close\r\nconnection: close"]
        {
            assert_eq!(closes(other), None, "{other}");
        }
    }

    #[test]
    fn everything_else_is_left_to_hyper() {
        assert!(is_plain("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
        for text in [
            "",
            "GET / HTTP/1.1\r\nhost: a\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\r\nG",
            "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.2\r\nhost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nhost: a\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nexpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nupgrade: h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            "GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n",
            "\x16\x03\x01\r\n\r\n",
        ] {
            assert!(!is_plain(text), "{text:?}");
        }
        let header = |number: usize| format!("x-{number}: y\r\n");
        let many = |count: usize| (0..count).map(header).collect::<String>();
        assert!(is_plain(&format!("GET / HTTP/1.1\r\n{}\r\n", many(PLAIN_HEADERS))));
        assert!(!is_plain(&format!("GET / HTTP/1.1\r\n{}\r\n", many(PLAIN_HEADERS + 1))));
    }
}
