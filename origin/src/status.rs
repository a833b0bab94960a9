//! What the server knows of itself: whether Postgres is followed, and how far.

use limn_core::log::RecentCommits;
use limn_core::protocol::reply::Health;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Shared by everything that answers requests.
#[derive(Debug)]
pub struct Status {
    phase: watch::Sender<Phase>,
    processed: AtomicU64,
    recent: Mutex<RecentCommits>,
}

/// How the server stands to Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not connected, or not caught up with what was written meanwhile.
    Starting,
    /// Another instance holds the lock.
    Waiting,
    /// Following.
    Active,
    /// Nothing true can be said until somebody mends what the code names.
    Unsound(&'static str),
}

impl Default for Status {
    fn default() -> Self {
        let (phase, processed) = (watch::Sender::new(Phase::Starting), AtomicU64::new(0));
        Self { phase, processed, recent: Mutex::default() }
    }
}

impl Status {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Enters a phase.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let changed = *current != phase;
            if changed {
                tracing::info!(?phase, "state changed");
            }
            *current = phase;
            changed
        });
    }

    /// Waits for [`Phase::Active`]; false where it does not come in time.
    pub async fn wait_active(&self, limit: Duration) -> bool {
        let mut phase = self.phase.subscribe();
        let active = phase.wait_for(|phase| *phase == Phase::Active);
        matches!(tokio::time::timeout(limit, active).await, Ok(Ok(_)))
    }

    /// What `/v1/health` says.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.phase() {
            Phase::Starting => Health::Starting,
            Phase::Waiting => Health::Waiting,
            Phase::Active => Health::Active,
            Phase::Unsound(code) => Health::Unsound(code),
        }
    }

    /// The commit LSN of the last transaction that every shape shows. Read it *before* a log: it then
    /// never runs ahead of what is visible there.
    #[must_use]
    pub fn processed(&self) -> u64 {
        self.processed.load(Ordering::Acquire)
    }

    /// A transaction committed at `lsn`: shapes are about to show it.
    pub fn handle_commit(&self, lsn: u64, xid: u32) {
        self.recent().handle_commit(lsn, xid);
    }

    /// The transactions that committed last.
    pub fn recent(&self) -> MutexGuard<'_, RecentCommits> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is followed now is another history, whose positions mean something else.
    pub fn handle_other_history(&self) {
        *self.recent() = RecentCommits::default();
        self.processed.store(0, Ordering::Release);
    }

    /// Every shape shows the transaction that committed at `lsn`.
    pub fn handle_processed(&self, lsn: u64) {
        self.processed.fetch_max(lsn, Ordering::Release);
    }
}
