//! A client that costs next to nothing while it waits, and little when it is answered: what is measured is the server.

use std::io::ErrorKind;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Room for a reply at once: its head, and one or few rows.
const REPLY_BYTES: usize = 4096;

/// A connection for one reply after the other.
#[derive(Debug)]
pub struct Waiter {
    stream: TcpStream,
}

impl Waiter {
    /// Opens it.
    pub async fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        Self { stream }
    }

    /// Waits for the next row: asks again where a reply holds none. Gives itself back, so that closing the connection
    /// is no part of what is measured.
    pub async fn wait(mut self, target: &str) -> Self {
        loop {
            self.ask(target).await;
            if self.reply_holds_row().await {
                return self;
            }
        }
    }

    async fn ask(&mut self, target: &str) {
        let head = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.stream.write_all(head.as_bytes()).await.expect("the connection is open");
    }

    /// Reads a reply to its end.
    async fn reply_holds_row(&mut self) -> bool {
        let mut reply = Vec::new();
        loop {
            self.stream.readable().await.expect("the connection is open");
            reply.reserve(REPLY_BYTES);
            match self.stream.try_read_buf(&mut reply) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                read => assert_ne!(read.expect("the connection is open"), 0, "the server closed it"),
            }
            let text = std::str::from_utf8(&reply).expect("a reply");
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && body.len() >= content_length(head)
            {
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                return body.contains("\"value\"");
            }
        }
    }
}

fn content_length(head: &str) -> usize {
    let value = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    value.and_then(|value| value.parse().ok()).expect("a length")
}
