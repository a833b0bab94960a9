//! What the server knows of itself: whether Postgres is followed, and how far.

use super::degraded::{Degraded, DegradedTables};
use limn_core::journal::RecentCommits;
use limn_core::protocol::FaultCode;
use limn_core::protocol::reply::{DegradedTable, Health, Unavailable};
use limn_core::shape::Definition;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Shared by everything that answers requests.
#[derive(Debug)]
pub struct Status {
    /// What follows from everything that is known.
    phase: watch::Sender<Phase>,
    known: Mutex<PhaseInputs>,
    /// Wakes who looks at the catalog: a connection was made, and its tables are to be judged.
    look_due: Notify,
    degraded: Mutex<DegradedTables>,
    /// Whether any table has a fault: spares requests the lock.
    has_table_faults: AtomicBool,
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
    Unsound(FaultCode),
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
pub enum FaultSource {
    /// The engine, of its stream.
    Stream,
    /// The reconciler, of the catalog.
    Catalog,
}

/// What is known of the way from Postgres to here.
#[derive(Debug)]
struct PhaseInputs {
    followed: Phase,
    stream: Option<FaultCode>,
    catalog: Option<FaultCode>,
    /// Whether the catalog was looked at since Postgres is followed.
    looked: bool,
    /// Rises each time that Postgres is followed anew.
    epoch: Epoch,
}

/// One stretch of time in which Postgres is followed without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epoch(u64);

impl PhaseInputs {
    /// Faults count only while Postgres is followed: before and after, nothing is called up to date anyway. Nor is
    /// anything before the first look at the catalog, which finds what happened to the tables meanwhile.
    fn phase(&self) -> Phase {
        match (self.followed, self.stream.or(self.catalog)) {
            (Phase::Active | Phase::Reading, Some(code)) => Phase::Unsound(code),
            (Phase::Active | Phase::Reading, None) if !self.looked => Phase::Starting,
            (followed, _) => followed,
        }
    }

    fn follow(&mut self, phase: Phase) {
        if self.followed != phase {
            (self.looked, self.epoch) = (false, Epoch(self.epoch.0 + 1));
        }
        self.followed = phase;
    }
}

/// What a client waits at least while Postgres is not followed, or cannot be believed.
const RETRY_AFTER_S: u64 = 5;

impl Default for Status {
    fn default() -> Self {
        let known = PhaseInputs {
            followed: Phase::Starting,
            stream: None,
            catalog: None,
            looked: false,
            epoch: Epoch::default(),
        };
        Self {
            phase: watch::Sender::new(Phase::Starting),
            known: Mutex::new(known),
            look_due: Notify::new(),
            degraded: Mutex::default(),
            has_table_faults: AtomicBool::new(false),
            processed: AtomicU64::new(0),
            recent: Mutex::default(),
            publication: AtomicU32::new(0),
        }
    }
}

impl Status {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// How Postgres is followed, whatever is wrong with it, and since when.
    #[must_use]
    pub fn followed(&self) -> (Phase, Epoch) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (known.followed, known.epoch)
    }

    /// Enters a phase.
    pub fn set_phase(&self, phase: Phase) {
        self.update(|known| known.follow(phase));
        if phase.is_current() && self.phase() != phase {
            self.look_due.notify_one();
        }
    }

    /// The catalog was looked at, beginning in this epoch: every table's faults are known.
    pub fn handle_looked(&self, epoch: Epoch) {
        self.update(|known| known.looked |= known.epoch == epoch);
    }

    /// Resolves when the catalog is to be looked at without delay. Cancel-safe.
    pub async fn look_due(&self) {
        self.look_due.notified().await;
    }

    /// Replaces what is known to be wrong with single tables under one code.
    pub fn set_degraded(&self, code: FaultCode, entries: Vec<Degraded>) {
        let mut degraded = self.degraded.lock().unwrap_or_else(PoisonError::into_inner);
        degraded.set(code, entries);
        self.has_table_faults.store(degraded.has_faults(), Ordering::Release);
    }

    /// The tables with something wrong, by name.
    #[must_use]
    pub fn degraded(&self) -> Vec<DegradedTable> {
        self.degraded.lock().unwrap_or_else(PoisonError::into_inner).list()
    }

    /// Why nothing can be called up to date that is read from the tables of a definition, where that is so.
    #[must_use]
    pub fn table_fault(&self, definition: &Definition) -> Option<Unavailable> {
        if !self.has_table_faults.load(Ordering::Acquire) {
            return None;
        }
        let oids: Vec<u32> = definition.relations().iter().map(|relation| relation.oid).collect();
        let degraded = self.degraded.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = degraded.fault(&oids)?;
        let state = Unavailable::new(fault.message.clone(), RETRY_AFTER_S);
        Some(Unavailable { code: Some(fault.code.as_str()), ..state })
    }

    /// Notes why what is followed cannot be believed, or that it can.
    pub fn set_fault(&self, watched: FaultSource, code: Option<FaultCode>) {
        self.update(|known| match watched {
            FaultSource::Stream => known.stream = code,
            FaultSource::Catalog => known.catalog = code,
        });
    }

    fn update(&self, change: impl FnOnce(&mut PhaseInputs)) {
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
                Unavailable { code: Some(code.as_str()), ..Unavailable::new(text, RETRY_AFTER_S) }
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

    fn follow(status: &Status) {
        status.set_phase(Phase::Active);
        status.handle_looked(status.followed().1);
    }

    #[test]
    fn nothing_is_up_to_date_before_the_first_look() {
        let status = Status::default();
        status.set_phase(Phase::Active);
        assert_eq!((status.phase(), status.health()), (Phase::Starting, Health::Starting));
        let before = status.followed().1;
        status.set_phase(Phase::Starting);
        status.set_phase(Phase::Active);
        status.handle_looked(before);
        assert_eq!(status.phase(), Phase::Starting, "that look began before the connection was made again");
        status.handle_looked(status.followed().1);
        status.set_phase(Phase::Active);
        assert_eq!(status.phase(), Phase::Active);
    }

    #[test]
    fn faults_count_while_postgres_is_followed() {
        let status = Status::default();
        status.set_fault(FaultSource::Catalog, Some(FaultCode::Publication));
        assert_eq!(status.phase(), Phase::Starting);
        follow(&status);
        assert_eq!(status.phase(), Phase::Unsound(FaultCode::Publication));
        status.set_fault(FaultSource::Stream, Some(FaultCode::Stalled));
        status.set_fault(FaultSource::Catalog, None);
        assert_eq!(status.phase(), Phase::Unsound(FaultCode::Stalled));
        assert_eq!(status.unavailable().code, Some("stalled"));
        status.set_fault(FaultSource::Stream, None);
        assert_eq!(status.phase(), Phase::Active);
    }
}
