//! The look at the tables that have shapes: what has changed rotates shapes, what is wrong is a fault of the table.

use super::Reconciler;
use super::survey::{self, Surveyed};
use crate::health::{Degraded, Phase};
use crate::postgres::{PostgresError, Session};
use crate::shapes::Shape;
use limn_core::ShapeId;
use limn_core::journal::record::ShapePartitions;
use limn_core::protocol::FaultCode;
use limn_core::shape::DropCause;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

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
        self.iter().cloned().collect()
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Shape>> {
        self.own.iter().chain(&self.inner)
    }
}

/// The tables as the catalog has them now.
#[derive(Default)]
struct Look {
    tables: HashMap<u32, Surveyed>,
    /// Those that could not be looked at.
    failed: Vec<Degraded>,
}

impl Reconciler {
    /// Compares every table that has shapes with what it was, and says which have faults. `looked`: not for the first time
    /// since Postgres is followed.
    pub(super) async fn look_at_tables(
        &mut self,
        session: &Session,
        looked: bool,
    ) -> Result<(), PostgresError> {
        let users = self.users();
        self.known.retain(|oid, _| users.contains_key(oid));
        self.compared.retain(|oid, _| users.contains_key(oid));
        let oids: Vec<u32> = users.keys().copied().collect();
        let Look { mut tables, mut failed } = self.survey(session, &oids, &users).await?;
        let conflicts = self.conflicts(session, &tables).await?;
        self.status.set_degraded(FaultCode::PublicationConflict, conflicts);
        let mends = self.looked_as == Phase::Active;
        if mends && !self.creator.publication().is_manual() {
            // A partition that was made since, or somebody who altered the table.
            let lacking: Vec<u32> =
                tables.values().filter(|now| lacks_identity(now)).map(|now| now.oid).collect();
            self.mending.mend(&self.creator.publisher, &lacking).await;
        }
        let incomplete = tables.values().filter_map(|now| self.identity_fault(now, looked)).collect();
        for (oid, users) in users.iter().filter(|_| mends) {
            let compared = match tables.remove(oid) {
                Some(now) => self.compare(now, users).await,
                None if failed.iter().any(|failed| failed.oid == *oid) => continue,
                None => {
                    self.remove(&users.all(), DropCause::TableDropped).await;
                    continue;
                }
            };
            if let Err(error) = compared {
                // Looked at again next time, as if for the first time.
                self.known.remove(oid);
                failed.push(cannot_look(*oid, users, error)?);
            }
        }
        // A reader compares nothing, and only keeps what it saw.
        self.known.extend(tables);
        self.tell_degraded(&users, incomplete, failed);
        Ok(())
    }

    fn users(&self) -> BTreeMap<u32, Users> {
        let mut tables: BTreeMap<u32, Users> = BTreeMap::new();
        // Shapes that are being created are published by their creation: a look may come too early for them.
        for shape in self.registry.readable() {
            for inner in shape.definition.inner_relations() {
                tables.entry(inner.oid).or_default().inner.push(shape.clone());
            }
            tables.entry(shape.definition.relation.oid).or_default().own.push(shape);
        }
        tables
    }

    /// One query over all tables; where that fails, one for each, so that a table that cannot be looked at does not
    /// keep the others from it.
    async fn survey(
        &self,
        session: &Session,
        oids: &[u32],
        users: &BTreeMap<u32, Users>,
    ) -> Result<Look, PostgresError> {
        let publication = self.creator.publication().name();
        let mut look = Look::default();
        if oids.is_empty() {
            return Ok(look);
        }
        match survey::survey(session, oids, publication).await {
            Ok(surveyed) => look.tables.extend(surveyed.into_iter().map(|table| (table.oid, table))),
            Err(error) if error.is_of_connection() => return Err(error),
            Err(_) => {
                for (oid, users) in users {
                    match survey::survey(session, &[*oid], publication).await {
                        Ok(surveyed) => {
                            look.tables.extend(surveyed.into_iter().map(|table| (table.oid, table)));
                        }
                        Err(error) => look.failed.push(cannot_look(*oid, users, error)?),
                    }
                }
            }
        }
        Ok(look)
    }

    /// Old rows that are incomplete, and could not be helped since the last look. The first look after Postgres was away
    /// takes no risk; a table that is seen for the first time later was published a moment ago.
    fn identity_fault(&self, now: &Surveyed, looked: bool) -> Option<Degraded> {
        let lacked_before = self.known.get(&now.oid).map_or(!looked, lacks_identity);
        let lasts = lacked_before && !self.mending.is_done(now.oid);
        if !lacks_identity(now) || !lasts {
            return None;
        }
        let set = |table: &String| format!("`ALTER TABLE ONLY {table} REPLICA IDENTITY FULL;`");
        let statements: Vec<String> = now.not_full.iter().take(STATEMENTS_MAX).map(set).collect();
        let more = now.not_full.len().saturating_sub(STATEMENTS_MAX);
        let mut message = format!(
            "the replica identity of {} is not FULL, so changes come without the old row: run {}",
            now.not_full.first().map_or("", String::as_str),
            statements.join(" ")
        );
        if more > 0 {
            message.push_str(&format!(", and the same for {more} more partitions"));
        }
        if let Some(error) = self.mending.error(now.oid) {
            message.push_str(&format!(" (the server could not: {error})"));
        }
        let table = now.name.clone();
        Some(Degraded { oid: now.oid, table, code: FaultCode::ReplicaIdentity, message, is_fault: true })
    }

    fn tell_degraded(&self, users: &BTreeMap<u32, Users>, incomplete: Vec<Degraded>, failed: Vec<Degraded>) {
        let at_fault: Vec<u32> = incomplete.iter().chain(&failed).map(|entry| entry.oid).collect();
        self.status.set_degraded(FaultCode::ReplicaIdentity, incomplete);
        self.status.set_degraded(FaultCode::Catalog, failed);
        // Who waits for a change of such a table is told that none can be believed.
        for shape in at_fault.iter().filter_map(|oid| users.get(oid)).flat_map(Users::all) {
            shape.wake();
        }
    }

    async fn compare(&mut self, now: Surveyed, users: &Users) -> Result<(), PostgresError> {
        if now.lacks_wal {
            self.remove(&users.all(), DropCause::WithoutWal).await;
            self.known.remove(&now.oid);
            return Ok(());
        }
        let before = self.known.get(&now.oid);
        let lost = |before: &Surveyed| before.memberships.iter().any(|oid| !now.memberships.contains(oid));
        if !now.is_published || before.is_some_and(lost) {
            self.remove(&users.all(), DropCause::Unpublished).await;
            self.known.remove(&now.oid);
            return Ok(());
        }
        for shape in users.iter() {
            self.compare_partitions(&now, shape).await;
        }
        let is_same = self.known.get(&now.oid).is_some_and(|before| before.version == now.version);
        let shapes: HashSet<ShapeId> = users.iter().map(|shape| shape.id).collect();
        // A shape whose snapshot was being read during an earlier look may be older than what is known.
        let all_compared = self.compared.get(&now.oid).is_some_and(|compared| shapes.is_subset(compared));
        if !is_same || !all_compared {
            self.describe(now.oid, users).await?;
        }
        self.compared.insert(now.oid, shapes);
        self.known.insert(now.oid, now);
        Ok(())
    }

    async fn compare_partitions(&self, now: &Surveyed, shape: &Arc<Shape>) {
        let before = shape.partitions(now.oid);
        if has_other_rows(&before, &now.partitions) {
            self.remove(std::slice::from_ref(shape), DropCause::PartitionsChanged).await;
        } else if before.len() != now.partitions.len() {
            let partitions = now.partitions.iter().map(|(oid, _)| *oid).collect();
            // The engine ends only with the server.
            let now = ShapePartitions { id: shape.id, table: Some(now.oid), partitions };
            let _ = self.creator.engine.set_partitions(now).await;
        }
    }

    async fn describe(&self, oid: u32, users: &Users) -> Result<(), PostgresError> {
        let Some(relation) = self.creator.catalog.describe(oid).await? else {
            self.remove(&users.all(), DropCause::TableDropped).await;
            return Ok(());
        };
        for shape in &users.own {
            if *shape.definition.relation == *relation {
                // Nearly all are so after a start, and have the header of this description from there.
                if shape.is_outdated() {
                    shape.set_schema(self.registry.schemas.header(&shape.definition));
                }
            } else if shape.definition.still_holds(&relation) {
                shape.handle_described(&relation);
                shape.note_description(&relation);
            } else {
                self.remove(std::slice::from_ref(shape), DropCause::SchemaChanged).await;
            }
        }
        users.inner.iter().for_each(|shape| shape.note_description(&relation));
        let mut changed = users.inner.clone();
        changed.retain(|shape| !shape.definition.inner_still_holds(&relation));
        self.remove(&changed, DropCause::SchemaChanged).await;
        Ok(())
    }

    pub(super) async fn remove(&self, shapes: &[Arc<Shape>], cause: DropCause) {
        for shape in shapes {
            // The engine ends only with the server.
            let _ = self.creator.engine.remove(shape.id, cause).await;
        }
    }
}

/// Statements that one message lists.
const STATEMENTS_MAX: usize = 5;

fn lacks_identity(table: &Surveyed) -> bool {
    table.is_published && !table.lacks_wal && !table.not_full.is_empty()
}

/// The fault of a table that Postgres refuses to describe; an error where the connection is to blame.
fn cannot_look(oid: u32, users: &Users, error: PostgresError) -> Result<Degraded, PostgresError> {
    if error.is_of_connection() {
        return Err(error);
    }
    let shapes = users.all();
    let relations = shapes.iter().flat_map(|shape| shape.definition.relations());
    let name =
        relations.into_iter().find(|relation| relation.oid == oid).map(|relation| relation.name.to_string());
    let message = format!("the catalog cannot be asked about it: {error}");
    Ok(Degraded { oid, table: name.unwrap_or_default(), code: FaultCode::Catalog, message, is_fault: true })
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
