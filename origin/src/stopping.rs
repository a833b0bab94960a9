//! The end of the process: that it was asked for, and by whom it is noticed.

use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Once the server stops: how long a request may still take until its answer begins. A longer one is a 503.
const LAST_ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Whether the server was asked to end. Requests are answered from then on, but nothing is waited for any more.
#[derive(Debug, Default)]
pub struct Stopping(watch::Sender<bool>);

impl Stopping {
    /// The server is to end.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether the server is to end.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once the server is to end.
    pub async fn begun(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }

    /// Resolves when whatever still waits for something must be answered without it.
    pub async fn is_overdue(&self) {
        self.begun().await;
        tokio::time::sleep(LAST_ANSWER_WAIT).await;
    }
}

/// The signals that ask the process to end: Ctrl-C, and the one that supervisors send.
#[derive(Debug)]
pub struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// Counts signals from now on; none of them ends the process by itself any more.
    ///
    /// # Errors
    /// Where the system does not let signals be handled.
    pub fn listen() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (count, counted) = watch::channel(0);
        tokio::spawn(count_signals(terminate, interrupt, count));
        Ok(Self(counted))
    }

    /// Resolves once that many signals have come.
    pub async fn reach(&self, count: u32) {
        if self.0.clone().wait_for(|counted| *counted >= count).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn count_signals(mut terminate: Signal, mut interrupt: Signal, count: watch::Sender<u32>) {
    while !count.is_closed() {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        count.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_learns_of_the_end() {
        let stopping = Stopping::default();
        let early = tokio::time::timeout(Duration::from_millis(1), stopping.begun()).await;
        assert!(early.is_err() && !stopping.has_begun());
        let (begun, ()) = tokio::join!(stopping.begun(), async { stopping.begin() });
        assert_eq!((begun, stopping.has_begun()), ((), true));
    }
}
