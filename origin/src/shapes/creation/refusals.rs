//! Definitions that failed on the rows of their tables, kept for a while: a reader who has seen the first part of such
//! a snapshot is sent back to the beginning, and must find the reason there, not the next attempt.

use limn_core::protocol::RequestError;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a reason is kept; rows may be mended meanwhile.
const KEPT: Duration = Duration::from_secs(10);
/// Reasons kept at one time.
const REASONS_MAX: usize = 1_000;

/// Reasons by the identity of the definition.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, (Instant, RequestError)>>);

impl Refusals {
    /// Keeps a reason.
    pub fn remember(&self, identity: &str, reason: &RequestError) {
        let mut reasons = self.reasons();
        reasons.retain(|_, (since, _)| since.elapsed() < KEPT);
        if reasons.len() < REASONS_MAX {
            reasons.insert(identity.to_owned(), (Instant::now(), reason.clone()));
        }
    }

    /// Why the definition was refused lately, if it was.
    pub fn find(&self, identity: &str) -> Option<RequestError> {
        let reasons = self.reasons();
        reasons.get(identity).filter(|(since, _)| since.elapsed() < KEPT).map(|(_, reason)| reason.clone())
    }

    fn reasons(&self) -> MutexGuard<'_, HashMap<String, (Instant, RequestError)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_no_further_reason_is_kept() {
        let refusals = Refusals::default();
        let reason = RequestError::new("where", "division by zero");
        (0..REASONS_MAX).for_each(|n| refusals.remember(&n.to_string(), &reason));
        refusals.remember("one more", &reason);
        assert_eq!(refusals.find(&(REASONS_MAX - 1).to_string()), Some(reason));
        assert_eq!(refusals.find("one more"), None);
    }
}
