//! `live_sse`: the log as a stream of events (protocol §6.3).
//!
//! Unlike Electric's, a stream goes on across chunk boundaries and delivers all that is pending, and its head
//! names the offset that was asked for: a client whose stream breaks goes on behind what it received.

use super::Server;
use super::body::{FileRange, PIECE_BYTES, Stored};
use crate::shapes::Shape;
use axum::body::{Body, Bytes};
use futures::stream;
use limn_core::log::EventStream;
use limn_core::log::reading::NextEvents;
use limn_core::log::rope::SharedBytes;
use limn_core::protocol::events::EventFramer;
use limn_core::protocol::message;
use limn_core::protocol::request::RequestOffset;
use std::io;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

/// One client's stream.
pub(super) struct Events {
    server: Arc<Server>,
    shape: Arc<Shape>,
    /// Decides what is sent, and when.
    stream: EventStream,
    began: Instant,
    framer: EventFramer,
    /// Items on their way: the segment's part, then the part from memory.
    file: Option<FileRange>,
    tail: SharedBytes,
    /// The up-to-date message behind them.
    control: Option<Vec<u8>>,
    /// Counts among the requests under way for as long as the stream lasts.
    _place: Option<OwnedSemaphorePermit>,
}

impl Events {
    pub(super) fn new(
        server: Arc<Server>,
        shape: Arc<Shape>,
        stream: EventStream,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            server,
            shape,
            stream,
            began: Instant::now(),
            framer: EventFramer::default(),
            file: None,
            tail: SharedBytes::new(),
            control: None,
            _place: place,
        }
    }

    pub(super) fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, Self::step))
    }

    /// The next bytes; `None` ends the stream.
    async fn step(mut self) -> Option<(io::Result<Bytes>, Self)> {
        loop {
            // An error: the shape's files went away under us; the next request says why.
            if let Some(bytes) = self.ready().await.ok()? {
                return Some(self.sent(bytes));
            }
            let shape = self.shape.clone();
            let changed = shape.changed();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let after = RequestOffset::At(self.stream.after());
            let look = self.server.look(&shape, after, self.began).await.ok()?;
            match self.stream.next(&look) {
                NextEvents::Send { part, up_to_date } => {
                    self.take_up(Stored::of(&shape, part, up_to_date)).await.ok()?;
                }
                NextEvents::KeepAlive => return Some(self.sent(Bytes::from_static(message::KEEP_ALIVE))),
                NextEvents::Wait(until) => {
                    tokio::select! {
                        _ = timeout_at(self.began + until, changed) => {}
                        () = self.server.stopping.begun() => {}
                    }
                }
                NextEvents::End => return None,
            }
        }
    }

    fn sent(mut self, bytes: Bytes) -> (io::Result<Bytes>, Self) {
        self.stream.handle_sent(self.began.elapsed());
        (Ok(bytes), self)
    }

    async fn take_up(&mut self, stored: Stored) -> io::Result<()> {
        let Stored { file, tail, control } = stored;
        if let Some(stretch) = file {
            self.file = Some(stretch.open_with_comma().await?);
        }
        (self.tail, self.control) = (tail, control);
        Ok(())
    }

    /// What can be sent without waiting for a change.
    async fn ready(&mut self) -> io::Result<Option<Bytes>> {
        let mut out = Vec::new();
        while let Some(file) = &mut self.file {
            match file.next().await? {
                Some(piece) => self.framer.push(&piece, &mut out),
                None => self.file = None,
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
        while let Some(piece) = self.tail.next_piece(PIECE_BYTES) {
            self.framer.push(&piece, &mut out);
            if !self.tail.is_empty() && !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
        if let Some(control) = self.control.take() {
            message::push_event(&mut out, &control);
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }
}
