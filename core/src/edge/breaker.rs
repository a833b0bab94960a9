//! A circuit breaker before one origin: where it was not reached several times in a row, nobody waits for it for a while,
//! and then one request tries.

/// So many failures within [`WINDOW_MS`] open it.
const FAILURES: usize = 5;
/// The span in which failures count together.
const WINDOW_MS: u64 = 10_000;
/// For how long it stays open before a request may try.
const OPEN_MS: u64 = 5_000;

/// The state of one origin, as one isolate of the edge knows it.
#[derive(Debug, Default)]
pub struct Breaker {
    /// When the last failures were, the oldest first.
    failed_ms: Vec<u64>,
    /// Until when nobody asks; past that, one request does.
    open_until_ms: Option<u64>,
}

impl Breaker {
    /// True where a request may go to the origin now. Of those that come when it has been open for its time the first one
    /// may, and the others once that one was answered, or after as long again.
    pub fn may_ask(&mut self, now_ms: u64) -> bool {
        match self.open_until_ms {
            None => true,
            Some(until_ms) if now_ms < until_ms => false,
            Some(_) => {
                self.open_until_ms = Some(now_ms.saturating_add(OPEN_MS));
                true
            }
        }
    }

    /// Notes that the origin answered, whatever it said.
    pub fn handle_answer(&mut self) {
        self.failed_ms.clear();
        self.open_until_ms = None;
    }

    /// Notes that it was not reached.
    pub fn handle_failure(&mut self, now_ms: u64) {
        self.failed_ms.retain(|failed_ms| now_ms.saturating_sub(*failed_ms) < WINDOW_MS);
        if self.failed_ms.len() >= FAILURES {
            self.failed_ms.remove(0);
        }
        self.failed_ms.push(now_ms);
        if self.failed_ms.len() >= FAILURES || self.open_until_ms.is_some() {
            self.open_until_ms = Some(now_ms.saturating_add(OPEN_MS));
        }
    }

    /// True while it keeps requests back.
    #[must_use]
    pub fn is_open(&self, now_ms: u64) -> bool {
        self.open_until_ms.is_some_and(|until_ms| now_ms < until_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        (0..5).for_each(|second| breaker.handle_failure(second * 1_000));
        breaker
    }

    #[test]
    fn five_failures_in_ten_seconds_open_it() {
        let mut breaker = Breaker::default();
        for failed_ms in [0, 3_000, 6_000, 9_000, 10_000] {
            breaker.handle_failure(failed_ms);
            assert!(breaker.may_ask(failed_ms), "the first has left the window before the fifth counts");
        }
        breaker.handle_failure(11_000);
        assert!(!breaker.may_ask(11_000) && breaker.is_open(15_999) && !breaker.is_open(16_000));
    }

    #[test]
    fn an_answer_in_between_begins_the_count_anew() {
        let mut breaker = Breaker::default();
        (0..4).for_each(|_| breaker.handle_failure(0));
        breaker.handle_answer();
        breaker.handle_failure(0);
        assert!(breaker.may_ask(0));
    }

    #[test]
    fn one_request_tries_and_decides_for_the_others() {
        let mut breaker = opened();
        assert!(!breaker.may_ask(8_999));
        assert!(breaker.may_ask(9_000) && !breaker.may_ask(9_000));
        breaker.handle_failure(9_500);
        assert!(!breaker.may_ask(14_499) && breaker.may_ask(14_500));
        breaker.handle_answer();
        assert!(breaker.may_ask(14_501) && breaker.may_ask(14_501));
    }

    #[test]
    fn a_try_that_never_ends_is_followed_by_another() {
        let mut breaker = opened();
        assert!(breaker.may_ask(9_000));
        assert!(!breaker.may_ask(13_999) && breaker.may_ask(14_000));
    }
}
