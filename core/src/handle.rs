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

    /// When the handle was made, in microseconds since 1970.
    #[must_use]
    pub const fn created_us(self) -> u64 {
        self.created_us
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
    fn foreign_text_is_refused() {
        for text in ["", "x", "1", "-", "1-", "+1001-1", "01007-1", "1007-1 ", "a-next"] {
            assert!(text.parse::<Handle>().is_err(), "{text}");
        }
    }
}
