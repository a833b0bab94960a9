//! What the stream does not tell: tables that were dropped, altered, attached, or left the publication.
//!
//! Every few seconds one query looks at all tables that have shapes. What has changed rotates exactly the
//! shapes it touches; a table that lost its place in the publication may have lost changes, so its shapes
//! start over (which publishes it again). What is wrong with one table and cannot be mended is a fault of that table.

mod conflicts;
mod mending;
mod pace;
mod survey;
mod tables;

use super::soundness::{Soundness, Verdict};
use super::{Epoch, FaultSource, Phase, Status, vitals};
use crate::observe::Metrics;
use crate::postgres::{PostgresError, Session};
use crate::shapes::Registry;
use crate::shapes::creation::Creator;
use limn_core::ShapeId;
use limn_core::protocol::FaultCode;
use limn_core::shape::DropCause;
use mending::Mending;
use pace::Pace;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use survey::Surveyed;
use tokio::time::{Instant, timeout};

/// How long a look may take.
const LOOK_TIME_MAX: Duration = Duration::from_secs(30);

/// Looks at the catalog, and keeps shapes and status true to it.
pub struct Reconciler {
    creator: Creator,
    slot: String,
    registry: Arc<Registry>,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    soundness: Soundness,
    /// Tables as they were seen last.
    known: HashMap<u32, Surveyed>,
    /// By table, the shapes whose definition was compared with what is known.
    compared: HashMap<u32, HashSet<ShapeId>>,
    mending: Mending,
    session: Option<Arc<Session>>,
    /// How Postgres was followed at the last look.
    looked_as: Phase,
    /// The epoch of the last whole look.
    looked_in: Option<Epoch>,
}

impl Reconciler {
    /// A reconciler that has seen nothing yet.
    pub fn new(
        creator: Creator,
        slot: String,
        registry: Arc<Registry>,
        status: Arc<Status>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            creator,
            slot,
            registry,
            status,
            metrics,
            soundness: Soundness::default(),
            known: HashMap::new(),
            compared: HashMap::new(),
            mending: Mending::default(),
            session: None,
            looked_as: Phase::Starting,
            looked_in: None,
        }
    }

    /// Looks for as long as the server runs.
    pub async fn run(mut self) {
        let mut pace = Pace::default();
        loop {
            let started = Instant::now();
            match timeout(LOOK_TIME_MAX, self.look()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "cannot look at the catalog"),
                Err(_) => tracing::warn!("a look at the catalog did not end: is a table locked?"),
            }
            if self.creator.scarcity().is_scarce() {
                self.session = None;
            }
            tokio::select! {
                () = tokio::time::sleep(pace.pause(started.elapsed())) => {}
                () = self.status.look_due() => {}
            }
        }
    }

    async fn look(&mut self) -> Result<(), PostgresError> {
        let (phase, epoch) = self.status.followed();
        if !phase.is_current() {
            if phase == Phase::Starting {
                // The first look keeps clients waiting: its session is there when it is due.
                self.session().await?;
            }
            return Ok(());
        }
        if self.looked_as != phase {
            // What another process saw change it has dealt with itself; what this one sees it must deal with.
            self.known.clear();
            self.looked_as = phase;
        }
        let is_sound = match phase {
            Phase::Reading => self.judge_as_reader().await?,
            _ => self.judge_and_mend().await?,
        };
        if is_sound {
            let session = self.session().await?;
            self.look_at_tables(&session, self.looked_in == Some(epoch)).await?;
            self.status.handle_looked(epoch);
            self.looked_in = Some(epoch);
        }
        Ok(())
    }

    /// Judges slot and publication, and does what follows. True where the tables are to be looked at.
    async fn judge_and_mend(&mut self) -> Result<bool, PostgresError> {
        match self.judge().await? {
            Verdict::Sound => {
                self.tell(None);
                Ok(true)
            }
            Verdict::Unsound(code) => {
                self.tell(Some(code));
                Ok(false)
            }
            Verdict::Mended => {
                tracing::warn!("the publication was altered: every shape starts over");
                self.remove(&self.registry.all(), DropCause::PublicationAltered).await;
                self.tell(None);
                Ok(true)
            }
            Verdict::StartOver(code) => {
                tracing::warn!("the publication has gone: connecting again, and every shape starts over");
                self.leave(code, true).await;
                Ok(false)
            }
            Verdict::Reconnect(code) => {
                tracing::warn!(slot = self.slot, "the replication slot has gone: connecting again");
                self.leave(code, false).await;
                Ok(false)
            }
        }
    }

    /// Where another process writes to the folder, that one mends what can be mended.
    async fn judge_as_reader(&mut self) -> Result<bool, PostgresError> {
        let fault = match self.judge().await? {
            Verdict::Sound | Verdict::Mended => None,
            Verdict::Unsound(code) | Verdict::StartOver(code) | Verdict::Reconnect(code) => Some(code),
        };
        self.tell(fault);
        Ok(fault.is_none())
    }

    /// A session of the looks' own: they must not keep new shapes waiting.
    async fn session(&mut self) -> Result<Arc<Session>, PostgresError> {
        if let Some(session) = self.session.as_ref().filter(|session| !session.is_closed()) {
            return Ok(session.clone());
        }
        let session = Arc::new(self.creator.connect().await?);
        self.session = Some(session.clone());
        Ok(session)
    }

    async fn judge(&mut self) -> Result<Verdict, PostgresError> {
        let session = self.session().await?;
        let vitals = vitals::read(&session, self.creator.publication().name(), &self.slot).await?;
        self.metrics.surveyed(vitals.wal_end.as_u64(), vitals.retained_bytes);
        Ok(self.soundness.judge(&vitals, self.status.publication()))
    }

    /// Ends a connection that cannot be believed; from then on the engine says how things stand.
    async fn leave(&mut self, code: FaultCode, starts_over: bool) {
        self.tell(Some(code));
        // The engine ends only with the server.
        let _ = match starts_over {
            true => self.creator.engine.start_over().await,
            false => self.creator.engine.reconnect().await,
        };
        self.tell(None);
    }

    fn tell(&self, fault: Option<FaultCode>) {
        self.status.set_fault(FaultSource::Catalog, fault);
        if fault.is_some() {
            // Who waits for a change is told that none can be believed.
            self.registry.all().iter().for_each(|shape| shape.wake());
        }
    }
}
