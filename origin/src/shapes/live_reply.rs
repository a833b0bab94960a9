//! The reply that those get who wait for the same change: made once for all of them.

use bytes::Bytes;
use limn_core::log::shape_log::LogRange;
use limn_core::{Lsn, Offset};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All that a live reply with rows depends on beside its shape and the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveReplyKey {
    /// The offset that was asked for.
    pub after: Offset,
    /// The rows' place in the change log.
    pub range: LogRange,
    /// The client's offset after them.
    pub offset: Offset,
    /// The LSN that is named.
    pub up_to_date: Option<Lsn>,
}

/// A reply as it goes on the wire, from the first line on that all of them share.
#[derive(Debug, Clone)]
pub struct LiveReply {
    /// The bytes.
    pub bytes: Bytes,
    /// The length of the body among them.
    pub body_bytes: u64,
}

/// The clients that wait for a shape, and what the first one got that does not wait any more.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    count: usize,
    /// In memory of its own: most shapes have none.
    last: Option<Box<(LiveReplyKey, LiveReply)>>,
}

/// A client that waits.
#[derive(Debug)]
pub struct Waits<'a>(&'a Waiting);

impl Waiting {
    /// Counts a client in.
    pub fn begin(&self) -> Waits<'_> {
        self.state().count += 1;
        Waits(self)
    }

    /// The reply of that key. It is kept for as long as others wait, who will get the same.
    pub fn reply(&self, key: &LiveReplyKey, make: impl FnOnce() -> Option<LiveReply>) -> Option<LiveReply> {
        let mut state = self.state();
        if let Some(last) = state.last.as_ref().filter(|last| last.0 == *key) {
            return Some(last.1.clone());
        }
        let reply = make()?;
        state.last = (state.count > 0).then(|| Box::new((key.clone(), reply.clone())));
        Some(reply)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.count -= 1;
        if state.count == 0 {
            state.last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limn_core::log::compaction::SegmentStart;

    fn key(end: u64) -> LiveReplyKey {
        let offset = Offset::new(end, 0);
        LiveReplyKey {
            after: Offset::SNAPSHOT_END,
            range: LogRange { start: SegmentStart::default(), bytes: 0..end },
            offset,
            up_to_date: None,
        }
    }

    fn reply(waiting: &Waiting, end: u64) -> Bytes {
        let make = || Some(LiveReply { bytes: vec![b'x'; 4].into(), body_bytes: end });
        let reply = waiting.reply(&key(end), make).unwrap();
        assert_eq!(reply.body_bytes, end);
        reply.bytes
    }

    #[test]
    fn a_reply_is_made_once_while_others_wait_for_it() {
        let waiting = Waiting::default();
        let (first, second) = (waiting.begin(), waiting.begin());
        drop(first);
        let shared = reply(&waiting, 7);
        assert_eq!(reply(&waiting, 7).as_ptr(), shared.as_ptr());
        assert_ne!(reply(&waiting, 8).as_ptr(), shared.as_ptr(), "another one");
        drop(second);
        assert!(waiting.state().last.is_none(), "nobody is left who would get it");
        reply(&waiting, 7);
        assert!(waiting.state().last.is_none());
    }
}
