//! Random numbers, for names that nobody else picks and pauses that others do not make at the same time.

use std::hash::{BuildHasher, RandomState};

/// A number that the operating system chose: hashers are keyed with such. It is no secret.
pub fn random() -> u64 {
    RandomState::new().hash_one(())
}
