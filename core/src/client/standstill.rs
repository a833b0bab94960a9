//! Notices replies that come fast and lead nowhere, as from a cache that ignores the query string.

/// Counts such replies, and how often there were too many of them.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    first_ms: u64,
    replies: u32,
    detections: u32,
}

const REPLIES_MAX: u32 = 5;
const WINDOW_MS: u64 = 500;
const DETECTIONS_MAX: u32 = 5;

impl Standstill {
    /// Notes a reply without progress; true when it is one too many within the window.
    pub(super) fn is_reached(&mut self, now_ms: u64) -> bool {
        if self.replies == 0 || now_ms.saturating_sub(self.first_ms) > WINDOW_MS {
            self.first_ms = now_ms;
            self.replies = 0;
        }
        self.replies += 1;
        if self.replies < REPLIES_MAX {
            return false;
        }
        self.replies = 0;
        self.detections += 1;
        true
    }

    /// True when there is no point in trying again.
    pub(super) const fn is_hopeless(&self) -> bool {
        self.detections >= DETECTIONS_MAX
    }

    /// Notes a reply that led somewhere.
    pub(super) const fn progressed(&mut self) {
        self.replies = 0;
    }

    /// Notes that the stream has reached its end: what happened on the way is forgotten.
    pub(super) const fn arrived(&mut self) {
        self.detections = 0;
    }
}
