//! What the server knows of itself: whether Postgres is followed, and how far.

use limn_core::log::RecentCommits;
use limn_core::protocol::reply::{Health, Unavailable};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Shared by everything that answers requests.
#[derive(Debug)]
pub struct Status {
    /// What follows from everything that is known.
    phase: watch::Sender<Phase>,
    known: Mutex<Known>,
    processed: AtomicU64,
    recent: Mutex<RecentCommits>,
    /// The oid of the publication that is followed; 0 before there is one.
    publication: AtomicU32,
}

/// How the server stands to Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not connected, or not caught up with what was written meanwhile.
    Starting,
    /// Another instance holds the lock.
    Waiting,
    /// Another instance writes to the storage folder: what it has made durable is served.
    Reading,
    /// Following.
    Active,
    /// Nothing true can be said until somebody mends what the code names.
    Unsound(&'static str),
}

impl Phase {
    /// Whether the end of a log may be called up to date: it grows with Postgres, or with the folder.
    #[must_use]
    pub const fn is_current(self) -> bool {
        matches!(self, Self::Active | Self::Reading)
    }
}

/// Who finds out that what is followed cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// The engine, of its stream.
    Stream,
    /// The reconciler, of the catalog.
    Catalog,
}

/// What is known of the way from Postgres to here.
#[derive(Debug)]
struct Known {
    followed: Phase,
    stream: Option<&'static str>,
    catalog: Option<&'static str>,
}

impl Known {
    /// Faults count only while Postgres is followed: before and after, nothing is called up to date anyway.
    fn phase(&self) -> Phase {
        match (self.followed, self.stream.or(self.catalog)) {
            (Phase::Active | Phase::Reading, Some(code)) => Phase::Unsound(code),
            (followed, _) => followed,
        }
    }
}

/// What a client waits at least while Postgres is not followed, or cannot be believed.
const RETRY_AFTER_S: u64 = 5;

impl Default for Status {
    fn default() -> Self {
        let (phase, processed) = (watch::Sender::new(Phase::Starting), AtomicU64::new(0));
        let known = Mutex::new(Known { followed: Phase::Starting, stream: None, catalog: None });
        Self { phase, known, processed, recent: Mutex::default(), publication: AtomicU32::new(0) }
    }
}

impl Status {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// How Postgres is followed, whatever is wrong with it.
    #[must_use]
    pub fn followed(&self) -> Phase {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).followed
    }

    /// Enters a phase.
    pub fn set_phase(&self, phase: Phase) {
        self.update(|known| known.followed = phase);
    }

    /// Notes why what is followed cannot be believed, or that it can.
    pub fn set_fault(&self, watched: Watched, code: Option<&'static str>) {
        self.update(|known| match watched {
            Watched::Stream => known.stream = code,
            Watched::Catalog => known.catalog = code,
        });
    }

    fn update(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let phase = known.phase();
        self.phase.send_if_modified(|current| {
            let changed = *current != phase;
            if changed {
                tracing::info!(?phase, "state changed");
            }
            *current = phase;
            changed
        });
    }

    /// Why a client cannot be told that it is up to date.
    #[must_use]
    pub fn unavailable(&self) -> Unavailable {
        match self.phase() {
            Phase::Unsound(code) => {
                let text = format!(
                    "What is read from Postgres cannot be believed at the moment ({code}), please retry"
                );
                Unavailable { code: Some(code), ..Unavailable::new(text, RETRY_AFTER_S) }
            }
            _ => Unavailable::new("Postgres is not followed at the moment, please retry", RETRY_AFTER_S),
        }
    }

    /// Waits for [`Phase::Active`]; false where it does not come in time.
    pub async fn wait_active(&self, limit: Duration) -> bool {
        self.wait_for(limit, |phase| phase == Phase::Active).await
    }

    /// Whether the end of a log may be called up to date.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.phase().is_current()
    }

    /// Waits until the end of a log may be called up to date; false where that does not come in time.
    pub async fn wait_current(&self, limit: Duration) -> bool {
        self.wait_for(limit, Phase::is_current).await
    }

    async fn wait_for(&self, limit: Duration, is_wanted: impl Fn(Phase) -> bool) -> bool {
        let mut phase = self.phase.subscribe();
        let wanted = phase.wait_for(|phase| is_wanted(*phase));
        matches!(tokio::time::timeout(limit, wanted).await, Ok(Ok(_)))
    }

    /// What `/v1/health` says.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.phase() {
            Phase::Starting => Health::Starting,
            Phase::Waiting | Phase::Reading => Health::Waiting,
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

    /// The oid of the publication that the stream carries; `None` before there is a stream.
    #[must_use]
    pub fn publication(&self) -> Option<u32> {
        Some(self.publication.load(Ordering::Acquire)).filter(|oid| *oid != 0)
    }

    /// A stream has started.
    pub fn set_publication(&self, oid: Option<u32>) {
        self.publication.store(oid.unwrap_or(0), Ordering::Release);
    }

    /// Every shape shows the transaction that committed at `lsn`.
    pub fn handle_processed(&self, lsn: u64) {
        self.processed.fetch_max(lsn, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_count_while_postgres_is_followed() {
        let status = Status::default();
        status.set_fault(Watched::Catalog, Some("publication"));
        assert_eq!(status.phase(), Phase::Starting);
        status.set_phase(Phase::Active);
        assert_eq!(status.phase(), Phase::Unsound("publication"));
        status.set_fault(Watched::Stream, Some("stalled"));
        status.set_fault(Watched::Catalog, None);
        assert_eq!(status.phase(), Phase::Unsound("stalled"));
        assert_eq!(status.unavailable().code, Some("stalled"));
        status.set_fault(Watched::Stream, None);
        assert_eq!(status.phase(), Phase::Active);
    }
}
