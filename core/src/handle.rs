//! Handles: the server's name of one incarnation of a shape.

use std::fmt;
use std::str::FromStr;

/// `<hash>-<unix microseconds>` (protocol §3.7): opaque to clients and never issued twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    hash: u32,
    created_us: u64,
}

/// The text is not a handle that this server could have issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid handle `{0}`: expected `<hash>-<microseconds>`")]
pub struct ParseHandleError(String);

/// The hash keeps 27 bits, as Electric's does; with a smallest value so that a handle's first four
/// characters are digits of the hash.
const HASH_MIN: u32 = 1000;
const HASH_MASK: u32 = (1 << 27) - 1;

impl Handle {
    /// The handle for a definition hash, made at `created_us` (microseconds since 1970).
    #[must_use]
    pub const fn new(definition_hash: u64, created_us: u64) -> Self {
        let hash = (definition_hash as u32) & HASH_MASK;
        Self { hash: if hash < HASH_MIN { hash + HASH_MIN } else { hash }, created_us }
    }

    /// Its hash and the microseconds, to be stored.
    #[must_use]
    pub const fn to_parts(self) -> (u32, u64) {
        (self.hash, self.created_us)
    }

    /// The handle of what [`to_parts`](Self::to_parts) gave.
    #[must_use]
    pub const fn from_parts(hash: u32, created_us: u64) -> Self {
        Self { hash, created_us }
    }

    /// When the handle was made, in microseconds since 1970.
    #[must_use]
    pub const fn created_us(self) -> u64 {
        self.created_us
    }
}

/// More microseconds than a process gives handles before one of them is durable.
const UNRECORDED_US: u64 = 1_000_000;

/// Gives the times in handles: each above those before it, though the clock goes back, also over a restart.
#[derive(Debug, Default)]
pub struct HandleClock {
    last_us: u64,
}

impl HandleClock {
    /// The clock of a process that follows another one, whose newest durable handle carries `last_us`. Its last handles
    /// may not have become durable: they are passed over, since the system's clock may have gone back.
    #[must_use]
    pub const fn after(last_us: u64) -> Self {
        Self { last_us: last_us.saturating_add(UNRECORDED_US) }
    }

    /// A time in microseconds that no handle carries yet; `now_us` is what the system's clock says.
    pub fn next_us(&mut self, now_us: u64) -> u64 {
        self.last_us = now_us.max(self.last_us.saturating_add(1));
        self.last_us
    }

    /// The newest time that a handle carries, or the last one that was passed over. A checkpoint keeps it: a start passes
    /// over other handles than the start before it, also where none of that one's handles became durable.
    #[must_use]
    pub const fn last_us(&self) -> u64 {
        self.last_us
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hash, self.created_us)
    }
}

impl FromStr for Handle {
    type Err = ParseHandleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (hash, created) = text.split_once('-')?;
            let handle = Self { hash: hash.parse().ok()?, created_us: created.parse().ok()? };
            // Only the exact spelling names the handle: `FromStr` and `Display` are inverses.
            (handle.to_string() == text).then_some(handle)
        };
        parse().ok_or_else(|| ParseHandleError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn text_round_trips() {
        let handle = Handle::new(u64::MAX, 1_795_393_124_257_669);
        assert_eq!(handle.to_string(), "134217727-1795393124257669");
        assert_eq!(handle.to_string().parse(), Ok(handle));
    }

    #[test]
    fn small_hashes_still_have_four_digits() {
        assert_eq!(Handle::new(7, 1).to_string(), "1007-1");
    }

    #[test]
    fn no_time_comes_twice_though_the_clock_goes_back() {
        let mut clock = HandleClock::default();
        assert_eq!([500, 500, 20].map(|now| clock.next_us(now)), [500, 501, 502]);
        assert_eq!((clock.next_us(900), clock.last_us()), (900, 900));
    }

    #[test]
    fn a_restart_passes_over_times_that_may_have_been_given() {
        let mut clock = HandleClock::after(500);
        assert_eq!(clock.last_us(), 500 + UNRECORDED_US);
        assert_eq!(clock.next_us(500), 501 + UNRECORDED_US);
        assert_eq!(HandleClock::after(u64::MAX).next_us(0), u64::MAX);
    }

    #[test]
    fn foreign_text_is_refused() {
        for text in ["", "x", "1", "-", "1-", "+1001-1", "01007-1", "1007-1 ", "a-next"] {
            assert!(text.parse::<Handle>().is_err(), "{text}");
        }
    }
}
