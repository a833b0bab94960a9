//! What the stream does not tell: tables that were dropped, altered, attached, or left the publication.
//!
//! Every few seconds one query looks at all tables that have shapes. What has changed rotates exactly the
//! shapes it touches; a table that lost its place in the publication may have lost changes, so its shapes
//! start over (which publishes it again).

use crate::creation::Creator;
use crate::postgres::survey::Surveyed;
use crate::postgres::{PostgresError, survey};
use crate::registry::Registry;
use crate::shape::Shape;
use crate::status::{Phase, Status};
use limn_core::log::record::ShapePartitions;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How often the catalog is looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// Looks at the catalog for as long as the server runs.
pub async fn run(creator: Creator, registry: Arc<Registry>, status: Arc<Status>) {
    let mut reconciler = Reconciler { creator, known: HashMap::new(), told: HashMap::new() };
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if status.phase() != Phase::Active {
            continue;
        }
        if let Err(error) = reconciler.look(&registry).await {
            tracing::debug!(%error, "cannot look at the catalog");
        }
    }
}

struct Reconciler {
    creator: Creator,
    /// Tables as they were seen last.
    known: HashMap<u32, Surveyed>,
    /// What keeps a table from being published whole, as it was logged: nobody needs to read it twice.
    told: HashMap<u32, String>,
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
    async fn look(&mut self, registry: &Registry) -> Result<(), PostgresError> {
        let mut tables: BTreeMap<u32, Users> = BTreeMap::new();
        // Shapes that are being created are published by their creation: a look may come too early for them.
        for shape in registry.all().into_iter().filter(|shape| shape.is_readable()) {
            for inner in shape.definition.inner_relations() {
                tables.entry(inner.oid).or_default().inner.push(shape.clone());
            }
            tables.entry(shape.definition.relation.oid).or_default().own.push(shape);
        }
        self.known.retain(|oid, _| tables.contains_key(oid));
        self.told.retain(|oid, _| tables.contains_key(oid));
        if tables.is_empty() {
            return Ok(());
        }
        let session = self.creator.session().await?;
        if !self.creator.publication().exists(&session).await? {
            tracing::warn!("the publication has gone: connecting again, and every shape starts over");
            // The engine ends only with the server.
            let _ = self.creator.engine.reconnect().await;
            return Ok(());
        }
        let oids: Vec<u32> = tables.keys().copied().collect();
        let surveyed = survey::survey(&session, &oids, self.creator.publication().name()).await?;
        let mut surveyed: HashMap<u32, Surveyed> =
            surveyed.into_iter().map(|table| (table.oid, table)).collect();
        for (oid, users) in tables {
            match surveyed.remove(&oid) {
                Some(now) => self.compare(now, &users).await?,
                None => self.remove(&users.all(), "table_dropped").await,
            }
        }
        Ok(())
    }

    async fn compare(&mut self, now: Surveyed, users: &Users) -> Result<(), PostgresError> {
        if !now.is_published {
            self.remove(&users.all(), "unpublished").await;
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
