//! Requests whose head cannot be read: what hyper answers by itself gets a body and CORS headers.
//!
//! hyper writes such an answer straight to the connection: a head without a body, for which no service is asked.
//! This is the connection below hyper: it knows those heads and sends whole answers in their place.

use axum::body::Bytes;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// After such an answer, how long the rest of the request is read: a connection that is closed before all came is reset,
/// and the client may never see the answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of such a request that are read at one time.
const LINGER_BYTES: usize = 8 << 10;

/// How hyper's own answers begin. Ours have other headers first, and no body holds a line break of this kind: JSON
/// escapes them.
const HEADS: [(&[u8], u16); 3] = [
    (b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n", 400),
    (b"HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-length: 0\r\n", 414),
    (b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n", 431),
];

/// A connection whose bare refusals become the answers that `answer` gives for their status.
pub(super) struct Answering<S, A> {
    socket: S,
    answer: A,
    /// The beginning of what comes, where others have read it already.
    read: Bytes,
    /// The rest of the answer, yet to be written.
    pending: Bytes,
    linger: Option<Pin<Box<Sleep>>>,
}

impl<S, A: Fn(u16) -> Vec<u8>> Answering<S, A> {
    pub(super) const fn new(socket: S, read: Bytes, answer: A) -> Self {
        Self { socket, answer, read, pending: Bytes::new(), linger: None }
    }

    /// Takes a head of hyper's, and keeps the answer in its place.
    fn replace(&mut self, written: &[u8]) -> bool {
        let Some((_, status)) = HEADS.iter().find(|(head, _)| written.starts_with(head)) else {
            return false;
        };
        self.pending = (self.answer)(*status).into();
        self.linger = Some(Box::pin(sleep(LINGER_TIMEOUT)));
        true
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, A> Answering<S, A> {
    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            drop(self.pending.split_to(written));
        }
        Poll::Ready(Ok(()))
    }

    /// Reads on until the client has closed its side, or the time is up.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(linger) = &mut self.linger else { return Poll::Ready(()) };
        let mut buffer = [0; LINGER_BYTES];
        while linger.as_mut().poll(context).is_pending() {
            let mut read = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut self.socket).poll_read(context, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {}
                _ => break,
            }
        }
        self.linger = None;
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin, A: Unpin> AsyncRead for Answering<S, A> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let length = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S, A> AsyncWrite for Answering<S, A>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(u16) -> Vec<u8> + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(context))?;
        if self.replace(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(context))?;
        if let Some(first) = slices.first()
            && self.replace(first)
        {
            return Poll::Ready(Ok(first.len()));
        }
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        ready!(Pin::new(&mut self.socket).poll_shutdown(context))?;
        self.poll_linger(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn only_heads_of_hypers_own_are_replaced() {
        let own = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n";
        let bare = [HEADS[2].0, b"date: today\r\n\r\n"].concat();
        for (written, expected) in [(own.as_slice(), own.as_slice()), (&bare, b"answer 431")] {
            let (ours, mut theirs) = duplex(1 << 10);
            let mut answering =
                Answering::new(ours, Bytes::new(), |status| format!("answer {status}").into_bytes());
            let reading = tokio::spawn(async move {
                let mut read = Vec::new();
                theirs.read_to_end(&mut read).await.map(|_| read)
            });
            answering.write_all(written).await.unwrap();
            answering.shutdown().await.unwrap();
            assert_eq!(reading.await.unwrap().unwrap(), expected);
        }
    }
}
