//! Waiting for what nobody announces.

use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long a test waits for what must come. Generous: a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Asks `probe` until it answers, and returns its answer.
///
/// # Panics
/// Where there is none within [`PATIENCE`]; `what` says what was missing.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Deadline::new(what);
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        deadline.pause().await;
    }
}

/// The end of a wait that began with the value.
#[derive(Debug)]
pub struct Deadline<'a> {
    what: &'a str,
    started: Instant,
}

impl<'a> Deadline<'a> {
    /// Begins a wait of [`PATIENCE`] for what `what` says.
    #[must_use]
    pub fn new(what: &'a str) -> Self {
        Self { what, started: Instant::now() }
    }

    /// Waits a moment before the next look.
    ///
    /// # Panics
    /// Where the time is up.
    pub async fn pause(&self) {
        self.check();
        sleep(LOOK_EVERY).await;
    }

    /// Checks that there is time left.
    ///
    /// # Panics
    /// Where the time is up.
    pub fn check(&self) {
        assert!(self.started.elapsed() < PATIENCE, "not within {} s: {}", PATIENCE.as_secs(), self.what);
    }
}
