//! Sessions that are kept for the next snapshot: logging in takes longer than a small one.

use super::snapshot::Snapshot;
use super::{PostgresConfig, PostgresError, Session};
use limn_core::pg::Relation;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Sessions that are kept; further ones end with their use.
const IDLE_MAX: usize = 4;
/// How long a session is kept, give or take [`IDLE_POLL`].
const IDLE_TIME: Duration = Duration::from_secs(60);
const IDLE_POLL: Duration = Duration::from_secs(10);

/// Sessions that wait for their next use.
#[derive(Clone)]
pub struct SessionPool(Arc<Shared>);

struct Shared {
    config: PostgresConfig,
    /// With the time since which each is idle; the one that was used last comes last.
    idle: Mutex<Vec<(Session, Instant)>>,
}

impl SessionPool {
    /// An empty pool.
    #[must_use]
    pub fn new(config: PostgresConfig) -> Self {
        Self(Arc::new(Shared { config, idle: Mutex::default() }))
    }

    /// Opens a snapshot in a session that is kept, or in a new one.
    ///
    /// # Errors
    /// As [`Session::connect`] and [`Snapshot::begin`].
    pub async fn begin(&self, tables: &[Arc<Relation>]) -> Result<Snapshot, PostgresError> {
        let config = &self.0.config;
        if let Some(session) = self.take() {
            match Snapshot::begin(session, tables, config).await {
                // It may have been cut off unnoticed.
                Err(error) if error.is_transient() => {}
                begun => return begun,
            }
        }
        Snapshot::begin(Session::connect(config).await?, tables, config).await
    }

    /// Keeps a session that is ready for its next use, unless connections are scarce.
    pub fn keep(&self, session: Session) {
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX && !self.0.config.scarcity.is_scarce() {
            idle.push((session, Instant::now()));
        }
    }

    /// Ends sessions that were not used for a while, and all of them whenever Postgres has run out of connections.
    pub async fn watch(&self) {
        loop {
            tokio::select! {
                () = self.0.config.scarcity.refused() => self.idle().clear(),
                () = sleep(IDLE_POLL) => self.idle().retain(|(_, since)| since.elapsed() < IDLE_TIME),
            }
        }
    }

    fn take(&self) -> Option<Session> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.pop()).map(|(session, _)| session).find(|session| !session.is_closed())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Session, Instant)>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
