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

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_last_reply_within_the_window_is_one_too_many() {
        let mut standstill = Standstill::default();
        assert!((1..REPLIES_MAX).all(|_| !standstill.is_reached(WINDOW_MS)));
        assert!(standstill.is_reached(2 * WINDOW_MS));

        let mut slow = Standstill::default();
        assert!((1..REPLIES_MAX).all(|_| !slow.is_reached(WINDOW_MS)));
        assert!(!slow.is_reached(2 * WINDOW_MS + 1), "the window is over: it is the first of the next");
    }

    #[test]
    fn after_so_many_there_is_no_point_in_going_on() {
        let mut standstill = Standstill::default();
        for detection in 1..=DETECTIONS_MAX {
            assert!(!standstill.is_hopeless(), "{detection}");
            assert_eq!((0..REPLIES_MAX).filter(|_| standstill.is_reached(0)).count(), 1);
        }
        assert!(standstill.is_hopeless());
        standstill.arrived();
        assert!(!standstill.is_hopeless());
    }
}
