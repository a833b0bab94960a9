//! Bodies whose bytes are counted as they go.

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A body of this length is counted at once: it is handed over whole.
const WHOLE_BYTES: u64 = 32 << 10;

/// The same body, its bytes counted.
pub(super) fn counted(body: Body, bytes: &Counter) -> Body {
    match body.size_hint().exact() {
        Some(length) if length <= WHOLE_BYTES => {
            bytes.inc_by(length);
            body
        }
        _ => Body::new(Counted { body, bytes: bytes.clone() }),
    }
}

struct Counted {
    body: Body,
    bytes: Counter,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            self.bytes.inc_by(data.map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
