//! How often the catalog is looked at.

use std::time::Duration;

/// The pause between two looks.
const PERIOD: Duration = Duration::from_secs(2);
/// The pause behind slow looks, as a multiple of the time that a look took.
const PAUSE_LOOKS: u32 = 5;
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Looks that take long one after the other become rarer: with very many tables, or a Postgres that has no time, they
/// would be all it does. A single one says nothing of that, since a look also waits for locks and for the disk; and
/// until the next one nobody knows what has changed.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Duration,
}

impl Pace {
    /// The pause behind a look that took so long.
    pub(super) fn pause(&mut self, took: Duration) -> Duration {
        let usual = took.min(std::mem::replace(&mut self.last, took));
        (usual * PAUSE_LOOKS).clamp(PERIOD, PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(50);
    const SLOW: Duration = Duration::from_millis(1_600);

    #[test]
    fn a_look_that_had_to_wait_does_not_delay_the_next() {
        let mut pace = Pace::default();
        assert_eq!(pace.pause(SLOW), PERIOD, "the first");
        assert_eq!(pace.pause(QUICK), PERIOD);
        assert_eq!(pace.pause(SLOW), PERIOD, "one between others");
    }

    #[test]
    fn looks_that_always_take_long_become_rarer() {
        let mut pace = Pace::default();
        pace.pause(SLOW);
        assert_eq!(pace.pause(SLOW), SLOW * PAUSE_LOOKS);
        assert_eq!(pace.pause(QUICK), PERIOD);
        pace.pause(PAUSE_MAX);
        assert_eq!(pace.pause(PAUSE_MAX), PAUSE_MAX);
    }
}
