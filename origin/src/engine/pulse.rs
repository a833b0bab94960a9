//! Whether the other end of the stream still lives.
//!
//! A walsender that has nothing to send says nothing, so that silence alone means nothing: it is asked for a
//! sign of life now and then, and must answer in time.

use std::time::Duration;
use tokio::time::Instant;

/// How long an answer may take. A walsender that decodes a long transaction answers meanwhile.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The questions that were asked, and whether an answer came.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    asked_at: Option<Instant>,
    is_silent: bool,
}

impl Pulse {
    /// A sign of life was asked for; what is asked before the answer came is the same question.
    pub(super) fn handle_asked(&mut self, now: Instant) {
        self.asked_at.get_or_insert(now);
    }

    /// Something came. True where the other end had been taken for stalled.
    pub(super) fn handle_heard(&mut self) -> bool {
        self.asked_at = None;
        std::mem::take(&mut self.is_silent)
    }

    /// No answer came until the deadline.
    pub(super) const fn handle_silence(&mut self) {
        self.is_silent = true;
    }

    /// When an answer is overdue, where that is yet to be told.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let asked_at = self.asked_at.filter(|_| !self.is_silent)?;
        Some(asked_at + SILENCE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unanswered_question_counts() {
        let (mut pulse, start) = (Pulse::default(), Instant::now());
        assert_eq!(pulse.deadline(), None);
        pulse.handle_asked(start);
        pulse.handle_asked(start + SILENCE_MAX / 2);
        assert_eq!(pulse.deadline(), Some(start + SILENCE_MAX));
    }

    #[test]
    fn silence_is_told_once_and_ends_with_a_word() {
        let (mut pulse, start) = (Pulse::default(), Instant::now());
        pulse.handle_asked(start);
        pulse.handle_silence();
        assert_eq!(pulse.deadline(), None);
        assert!(pulse.handle_heard() && !pulse.handle_heard());
        pulse.handle_asked(start);
        assert!(pulse.deadline().is_some());
    }
}
