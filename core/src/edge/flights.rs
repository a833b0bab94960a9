//! Requests to the origin that are under way, so that others who want the same wait for the copy instead of asking too.

/// The most that are known at a time; whoever comes beyond it asks for itself.
pub const FLIGHTS_MAX: usize = 1_000;

/// After so long a request is taken to have gone down with its client: the next one asks again.
const FORGOTTEN_MS: u64 = 30_000;

/// The requests under way, by what they ask for.
#[derive(Debug, Default)]
pub struct Flights {
    /// Each with its beginning. A list: it is short, and a worker is small.
    under_way: Vec<(String, u64)>,
}

impl Flights {
    /// Notes that `key` is being asked for; false where somebody else does already, or too many do.
    pub fn begin(&mut self, key: &str, now_ms: u64) -> bool {
        if self.is_under_way(key, now_ms) {
            return false;
        }
        self.under_way.retain(|(known, began_ms)| known != key && !is_over(*began_ms, now_ms));
        let has_room = self.under_way.len() < FLIGHTS_MAX;
        if has_room {
            self.under_way.push((key.to_owned(), now_ms));
        }
        has_room
    }

    /// Notes that the copy is there, or will not be.
    pub fn end(&mut self, key: &str) {
        self.under_way.retain(|(known, _)| known != key);
    }

    /// True while somebody asks for `key`.
    #[must_use]
    pub fn is_under_way(&self, key: &str, now_ms: u64) -> bool {
        self.under_way.iter().any(|(known, began_ms)| known == key && !is_over(*began_ms, now_ms))
    }
}

const fn is_over(began_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(began_ms) >= FORGOTTEN_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn one_asks_and_others_wait() {
        let mut flights = Flights::default();
        assert!(flights.begin("a", 0) && flights.begin("b", 0));
        assert!(!flights.begin("a", 1) && flights.is_under_way("a", 1));
        flights.end("a");
        assert!(!flights.is_under_way("a", 1) && flights.begin("a", 1));
    }

    #[test]
    fn who_never_comes_back_is_forgotten() {
        let mut flights = Flights::default();
        assert!(flights.begin("a", 0));
        assert!(!flights.begin("a", FORGOTTEN_MS - 1));
        assert!(flights.begin("a", FORGOTTEN_MS));
    }

    #[test]
    fn beyond_the_limit_nobody_leads_until_some_are_over() {
        let mut flights = Flights::default();
        assert!((0..FLIGHTS_MAX).all(|n| flights.begin(&n.to_string(), 0)));
        assert!(!flights.begin("more", 1) && !flights.is_under_way("more", 1));
        assert!(flights.begin("more", FORGOTTEN_MS));
        assert!(!flights.is_under_way("0", FORGOTTEN_MS));
    }
}
