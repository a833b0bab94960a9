//! A log read as a stream of events, message by message.

use crate::http::{Client, Request, Response, next_chunk, parse_head};
use bytes::{Buf, BytesMut};
use serde_json::Value;
use std::io::{self, ErrorKind};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A stream that is being read. Giving it up is closing the connection.
#[derive(Debug)]
pub struct Events {
    stream: TcpStream,
    /// Its status and headers.
    pub head: Response,
    /// Bytes that have come and are not decoded yet.
    raw: BytesMut,
    /// What is decoded and belongs to no message yet.
    text: BytesMut,
}

/// The outcome of the request.
#[derive(Debug)]
pub enum Opened {
    /// A stream of events.
    Events(Events),
    /// Another answer, such as a 409.
    Other(Response),
}

impl Events {
    /// Asks for a stream, and waits for the head of the answer.
    ///
    /// # Errors
    /// Where none comes.
    pub async fn open(client: &Client, target: &str) -> io::Result<Opened> {
        let mut stream = client.open(&Request { method: "GET", target, ..Request::default() }).await?;
        let mut raw = BytesMut::new();
        loop {
            let ended = stream.read_buf(&mut raw).await? == 0;
            if ended {
                return crate::http::parse(&raw, false).map(Opened::Other);
            }
            let Ok((head, rest)) = parse_head(&raw) else { continue };
            if head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
                let read = raw.len() - rest.len();
                raw.advance(read);
                return Ok(Opened::Events(Self { stream, head, raw, text: BytesMut::new() }));
            }
        }
    }

    /// The next message; `None` where the server ended the stream. A call that is given up loses nothing.
    ///
    /// # Errors
    /// Where the connection is cut, or what comes is no event.
    pub async fn next(&mut self) -> io::Result<Option<Value>> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            if let Some((chunk, rest)) = next_chunk(&self.raw) {
                if chunk.is_empty() {
                    return Ok(None);
                }
                let read = self.raw.len() - rest.len();
                self.text.extend_from_slice(chunk);
                self.raw.advance(read);
            } else if self.stream.read_buf(&mut self.raw).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Removes the first message from the text, and comments before it.
    fn take_message(&mut self) -> io::Result<Option<Value>> {
        loop {
            let Some(end) = self.text.windows(2).position(|window| window == b"\n\n") else {
                return Ok(None);
            };
            let frame = self.text.split_to(end + 2);
            if frame.starts_with(b":") {
                continue;
            }
            let data = frame.strip_prefix(b"data: ").ok_or(ErrorKind::InvalidData)?;
            return Ok(Some(serde_json::from_slice(data)?));
        }
    }
}
