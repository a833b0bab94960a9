//! `live_sse`: the log as a stream of events (protocol §6.3).
//!
//! Unlike Electric's, a stream goes on across chunk boundaries and delivers all that is pending, and its head
//! names the offset that was asked for: a client whose stream breaks goes on behind what it received.

use super::Server;
use super::admission::Admitted;
use super::body::FileRange;
use crate::shape::{Life, Shape};
use crate::store::segment;
use axum::body::{Body, Bytes};
use futures::stream;
use limn_core::Offset;
use limn_core::log::Read;
use limn_core::protocol::events::EventFramer;
use limn_core::protocol::message;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a stream lasts, whatever happens on it.
const STREAM_TIMEOUT: Duration = Duration::from_secs(60);
/// The silence after which a comment keeps proxies awake.
const KEEP_ALIVE: Duration = Duration::from_secs(21);

/// One client's stream.
pub(super) struct Events {
    server: Arc<Server>,
    shape: Arc<Shape>,
    after: Offset,
    framer: EventFramer,
    /// Items on their way: the segment's part, then the part from memory.
    file: Option<FileRange>,
    tail: Vec<u8>,
    /// The up-to-date message behind them.
    control: Option<Vec<u8>>,
    /// A stream that began with pending items ends with them: the client comes again from there.
    ends_when_caught_up: bool,
    /// Items were sent that no up-to-date message has followed: the client does not move on by them yet.
    is_open: bool,
    /// Counts among the requests under way for as long as the stream lasts.
    _admitted: Admitted,
    ends_at: Instant,
    keep_alive_at: Instant,
}

impl Events {
    pub(super) fn new(
        server: Arc<Server>,
        shape: Arc<Shape>,
        after: Offset,
        has_pending: bool,
        admitted: Admitted,
    ) -> Self {
        let now = Instant::now();
        Self {
            server,
            shape,
            after,
            framer: EventFramer::default(),
            file: None,
            tail: Vec::new(),
            control: None,
            ends_when_caught_up: has_pending,
            is_open: false,
            _admitted: admitted,
            ends_at: now + STREAM_TIMEOUT,
            keep_alive_at: now + KEEP_ALIVE,
        }
    }

    pub(super) fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, Self::step))
    }

    /// The next bytes; `None` ends the stream.
    async fn step(mut self) -> Option<(io::Result<Bytes>, Self)> {
        loop {
            match self.ready().await {
                Ok(Some(bytes)) => {
                    self.keep_alive_at = Instant::now() + KEEP_ALIVE;
                    return Some((Ok(bytes), self));
                }
                Ok(None) => {}
                // The shape's files went away under us; the next request says why.
                Err(_) => return None,
            }
            if !self.look_or_wait().await? {
                self.keep_alive_at = Instant::now() + KEEP_ALIVE;
                return Some((Ok(Bytes::from_static(message::KEEP_ALIVE)), self));
            }
        }
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
        self.framer.push(&std::mem::take(&mut self.tail), &mut out);
        if let Some(control) = self.control.take() {
            message::push_event(&mut out, &control);
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// Takes up what follows in the log, or waits for it: true where there may be something to send,
    /// false where the silence was long, `None` where the stream is over.
    async fn look_or_wait(&mut self) -> Option<bool> {
        let shape = self.shape.clone();
        let changed = shape.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if shape.life() != Life::Readable {
            return None;
        }
        let clock = self.server.clock(&shape);
        if !clock.is_current {
            return None;
        }
        match shape.read(self.after, clock).await.ok()? {
            Read::Changes { bytes, offset, up_to_date, .. } => {
                let (file, tail) = shape.parts(bytes);
                self.file = match file {
                    Some((path, range)) => Some(FileRange::open(path, range).await.ok()?),
                    None => None,
                };
                self.tail = tail;
                self.control =
                    up_to_date.map(|lsn| message::up_to_date(shape.lsn_behind_live_rows(offset, lsn)));
                self.is_open = up_to_date.is_none();
                self.after = offset;
                Some(true)
            }
            Read::Snapshot { start, end: Some(end), offset } => {
                let file = FileRange::open(segment::snapshot_path(&shape.dir), start..end).await.ok()?;
                (self.file, self.is_open, self.after) = (Some(file), true, offset);
                Some(true)
            }
            // Nothing but an up-to-date message moves the client on: one follows the rows of a snapshot too.
            Read::End { up_to_date: Some(lsn), .. } if self.is_open => {
                self.control = Some(message::up_to_date(lsn));
                self.is_open = false;
                Some(true)
            }
            Read::End { .. } if self.ends_when_caught_up => None,
            Read::End { .. } | Read::Pending => {
                let until = self.ends_at.min(self.keep_alive_at);
                let something = tokio::select! {
                    waited = timeout_at(until, changed) => waited.is_ok(),
                    () = self.server.stopping.begun() => return None,
                };
                if !something && self.ends_at <= until { None } else { Some(something) }
            }
            Read::Snapshot { end: None, .. } | Read::Ahead | Read::Search => None,
        }
    }
}
