//! What the stream does not tell: tables that were dropped, altered, attached, or left the publication.
//!
//! Every few seconds one query looks at all tables that have shapes. What has changed rotates exactly the
//! shapes it touches; a table that lost its place in the publication may have lost changes, so its shapes
//! start over (which publishes it again).

use crate::creation::Creator;
use crate::metrics::Metrics;
use crate::postgres::survey::Surveyed;
use crate::postgres::{PostgresError, Session, survey, vitals};
use crate::registry::Registry;
use crate::shape::Shape;
use crate::soundness::{REPLICA_IDENTITY, Soundness, Verdict};
use crate::status::{Phase, Status, Watched};
use limn_core::log::record::ShapePartitions;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How often the catalog is looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// How many times as long as a look the pause behind it is, at least.
const PAUSE_LOOKS: u32 = 5;
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
    /// What keeps a table from being published whole, as it was logged: nobody needs to read it twice.
    told: HashMap<u32, String>,
    session: Option<Arc<Session>>,
}

/// The shapes that need a table.
#[derive(Default)]
struct Users {
    /// Whose own table it is.
    own: Vec<Arc<Shape>>,
    /// Whose subqueries read it.
    inner: Vec<Arc<Shape>>,
}

impl Users {
    fn all(&self) -> Vec<Arc<Shape>> {
        self.own.iter().chain(&self.inner).cloned().collect()
    }
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
        let (known, told) = (HashMap::new(), HashMap::new());
        let soundness = Soundness::default();
        Self { creator, slot, registry, status, metrics, soundness, known, told, session: None }
    }

    /// Looks for as long as the server runs.
    pub async fn run(mut self) {
        loop {
            let started = Instant::now();
            let look = async {
                match self.status.followed() {
                    Phase::Active => self.look().await,
                    Phase::Reading => self.look_as_reader().await,
                    _ => Ok(()),
                }
            };
            match timeout(LOOK_TIME_MAX, look).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "cannot look at the catalog"),
                Err(_) => tracing::warn!("a look at the catalog did not end: is a table locked?"),
            }
            // With very many tables, or a Postgres that has no time, looks become rarer instead of all it does.
            tokio::time::sleep(PERIOD.max(started.elapsed() * PAUSE_LOOKS)).await;
        }
    }

    async fn look(&mut self) -> Result<(), PostgresError> {
        let session = self.session().await?;
        let fault = match self.judge(&session).await? {
            Verdict::Sound => None,
            Verdict::Unsound(code) => Some(code),
            Verdict::Mended => {
                tracing::warn!("the publication was altered: every shape starts over");
                self.remove(&self.registry.all(), "publication_altered").await;
                None
            }
            Verdict::StartOver(code) => {
                tracing::warn!("the publication has gone: connecting again, and every shape starts over");
                return self.leave(code, true).await;
            }
            Verdict::Reconnect(code) => {
                tracing::warn!(slot = self.slot, "the replication slot has gone: connecting again");
                return self.leave(code, false).await;
            }
        };
        match fault {
            Some(code) => self.tell(Some(code)),
            None => {
                let lacks_identity = self.look_at_tables(&session).await?;
                self.tell(lacks_identity.then_some(REPLICA_IDENTITY));
            }
        }
        Ok(())
    }

    /// Where another process writes to the folder, that one mends what can be mended.
    async fn look_as_reader(&mut self) -> Result<(), PostgresError> {
        let session = self.session().await?;
        match self.judge(&session).await? {
            Verdict::Sound | Verdict::Mended => self.tell(None),
            Verdict::Unsound(code) | Verdict::StartOver(code) | Verdict::Reconnect(code) => {
                self.tell(Some(code));
            }
        }
        Ok(())
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

    async fn judge(&mut self, session: &Session) -> Result<Verdict, PostgresError> {
        let vitals = vitals::read(session, self.creator.publication().name(), &self.slot).await?;
        self.metrics.surveyed(vitals.wal_end.as_u64(), vitals.retained_bytes);
        Ok(self.soundness.judge(&vitals, self.status.publication()))
    }

    /// Ends a connection that cannot be believed; from then on the engine says how things stand.
    async fn leave(&mut self, code: &'static str, starts_over: bool) -> Result<(), PostgresError> {
        self.tell(Some(code));
        // The engine ends only with the server.
        let _ = match starts_over {
            true => self.creator.engine.start_over().await,
            false => self.creator.engine.reconnect().await,
        };
        self.tell(None);
        Ok(())
    }

    fn tell(&self, fault: Option<&'static str>) {
        self.status.set_fault(Watched::Catalog, fault);
        if fault.is_some() {
            // Who waits for a change is told that none can be believed.
            self.registry.all().iter().for_each(|shape| shape.wake());
        }
    }

    /// Compares every table that has shapes with what it was. True where the old rows of one are incomplete, and
    /// that could not be helped since the last look.
    async fn look_at_tables(&mut self, session: &Session) -> Result<bool, PostgresError> {
        let mut tables: BTreeMap<u32, Users> = BTreeMap::new();
        // Shapes that are being created are published by their creation: a look may come too early for them.
        for shape in self.registry.all().into_iter().filter(|shape| shape.is_readable()) {
            for inner in shape.definition.inner_relations() {
                tables.entry(inner.oid).or_default().inner.push(shape.clone());
            }
            tables.entry(shape.definition.relation.oid).or_default().own.push(shape);
        }
        self.known.retain(|oid, _| tables.contains_key(oid));
        self.told.retain(|oid, _| tables.contains_key(oid));
        if tables.is_empty() {
            return Ok(false);
        }
        let oids: Vec<u32> = tables.keys().copied().collect();
        let surveyed = survey::survey(session, &oids, self.creator.publication().name()).await?;
        let mut surveyed: HashMap<u32, Surveyed> =
            surveyed.into_iter().map(|table| (table.oid, table)).collect();
        let lacks = |table: &Surveyed| {
            let before = self.known.get(&table.oid);
            table.is_published && table.lacks_identity && before.is_some_and(|before| before.lacks_identity)
        };
        let lacks_identity = surveyed.values().any(lacks);
        for (oid, users) in tables {
            match surveyed.remove(&oid) {
                Some(now) => self.compare(now, &users).await?,
                None => self.remove(&users.all(), "table_dropped").await,
            }
        }
        Ok(lacks_identity)
    }

    async fn compare(&mut self, now: Surveyed, users: &Users) -> Result<(), PostgresError> {
        let before = self.known.get(&now.oid);
        let lost = |before: &Surveyed| before.memberships.iter().any(|oid| !now.memberships.contains(oid));
        if !now.is_published || before.is_some_and(lost) {
            self.remove(&users.all(), "unpublished").await;
            self.known.remove(&now.oid);
            return Ok(());
        }
        for shape in users.all() {
            self.compare_partitions(&now, &shape).await;
        }
        match now.lacks_identity {
            // A partition that was made since, or somebody who altered the table.
            true => self.publish_again(now.oid).await,
            false => drop(self.told.remove(&now.oid)),
        }
        let before = self.known.get(&now.oid);
        if before.is_none_or(|before| before.version != now.version) {
            self.describe(now.oid, users).await?;
        }
        self.known.insert(now.oid, now);
        Ok(())
    }

    async fn compare_partitions(&self, now: &Surveyed, shape: &Arc<Shape>) {
        let before = shape.partitions(now.oid);
        if has_other_rows(&before, &now.partitions) {
            self.remove(std::slice::from_ref(shape), "partitions_changed").await;
        } else if before.len() != now.partitions.len() {
            let partitions = now.partitions.iter().map(|(oid, _)| *oid).collect();
            // The engine ends only with the server.
            let now = ShapePartitions { id: shape.id, table: Some(now.oid), partitions };
            let _ = self.creator.engine.set_partitions(now).await;
        }
    }

    async fn publish_again(&mut self, oid: u32) {
        let Err(error) = self.creator.publish_again(oid).await else { return };
        let error = error.to_string();
        if self.told.get(&oid) != Some(&error) {
            tracing::warn!(
                oid,
                error,
                "old rows of a table with shapes are incomplete: a change may start them over"
            );
            self.told.insert(oid, error);
        }
    }

    async fn describe(&self, oid: u32, users: &Users) -> Result<(), PostgresError> {
        let Some(relation) = self.creator.describe(oid).await? else {
            self.remove(&users.all(), "table_dropped").await;
            return Ok(());
        };
        for shape in &users.own {
            if shape.definition.still_holds(&relation) {
                shape.handle_described(&relation);
            } else {
                self.remove(std::slice::from_ref(shape), "schema_changed").await;
            }
        }
        let mut changed = users.inner.clone();
        changed.retain(|shape| !shape.definition.inner_still_holds(&relation));
        self.remove(&changed, "schema_changed").await;
        Ok(())
    }

    async fn remove(&self, shapes: &[Arc<Shape>], cause: &'static str) {
        for shape in shapes {
            // The engine ends only with the server.
            let _ = self.creator.engine.remove(shape.id, cause).await;
        }
    }
}

/// True where rows came or went without the stream: a partition was detached or dropped, or a table that
/// had been on its own was attached. `now` says of each partition whether it was made as one.
fn has_other_rows(before: &[u32], now: &[(u32, bool)]) -> bool {
    let gone = before.iter().any(|oid| !now.iter().any(|(known, _)| known == oid));
    let attached = now.iter().any(|(oid, made)| !made && !before.contains(oid));
    gone || attached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_partition_is_no_reason_to_start_over() {
        assert!(!has_other_rows(&[2], &[(2, true), (3, true)]));
        assert!(!has_other_rows(&[2], &[(2, false)]));
    }

    #[test]
    fn attached_and_detached_rows_are() {
        assert!(has_other_rows(&[2], &[]));
        assert!(has_other_rows(&[2], &[(2, true), (3, false)]));
    }
}
