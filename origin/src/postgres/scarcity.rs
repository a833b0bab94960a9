//! Whether Postgres has run out of connections for us: then none is kept that could wait for its next use.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long after a refusal connections count as scarce.
const SCARCE_TIME: Duration = Duration::from_secs(60);

/// Shared by all connections to one address.
#[derive(Debug, Clone)]
pub struct Scarcity {
    refused_at: Arc<watch::Sender<Option<Instant>>>,
}

impl Scarcity {
    pub(super) fn new() -> Self {
        Self { refused_at: Arc::new(watch::Sender::new(None)) }
    }

    /// Postgres has refused a connection because all are in use.
    pub(super) fn handle_refused(&self) {
        self.refused_at.send_replace(Some(Instant::now()));
    }

    /// Whether a session that is not in use should be given up.
    #[must_use]
    pub fn is_scarce(&self) -> bool {
        self.refused_at.borrow().is_some_and(|refused_at| refused_at.elapsed() < SCARCE_TIME)
    }

    /// Waits until a connection is refused.
    pub async fn refused(&self) {
        // The sender is our own.
        let _ = self.refused_at.subscribe().changed().await;
    }
}
