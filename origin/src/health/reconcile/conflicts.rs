//! Warnings of publications that were made or altered since, and with which the application's writes fail.

use super::Reconciler;
use super::survey::Surveyed;
use crate::health::Degraded;
use crate::postgres::conflict::{Assumed, Conflict, conflicts, describe};
use crate::postgres::{PostgresError, Session};
use limn_core::protocol::FaultCode;
use std::collections::{BTreeMap, HashMap};

impl Reconciler {
    /// The tables whose UPDATEs and DELETEs fail now, since their replica identity is FULL and a publication does not bear
    /// that. What the stream tells of them is true all the same, so their shapes are served.
    pub(super) async fn conflicts(
        &self,
        session: &Session,
        tables: &HashMap<u32, Surveyed>,
    ) -> Result<Vec<Degraded>, PostgresError> {
        let oids: Vec<u32> = tables.keys().copied().collect();
        let publication = self.creator.publication().name();
        let found = match conflicts(session, &oids, publication, Assumed::Nothing).await {
            Ok(found) => found,
            Err(error) if error.is_of_connection() => return Err(error),
            Err(error) => {
                // A table that was dropped a moment ago: the next look does not ask about it.
                tracing::debug!(%error, "cannot look for publications with which writes fail");
                return Ok(Vec::new());
            }
        };
        let mut by_table: BTreeMap<u32, Vec<Conflict>> = BTreeMap::new();
        for conflict in found {
            by_table.entry(conflict.top).or_default().push(conflict);
        }
        let entry = |(oid, conflicts): (u32, Vec<Conflict>)| {
            let table = tables.get(&oid)?.name.clone();
            let (reasons, run) = describe(&conflicts);
            let message = format!(
                "UPDATE and DELETE of {table} fail in the application, since its replica identity is FULL, as shapes \
                 need it, and {reasons}. Run `{run}`"
            );
            Some(Degraded { oid, table, code: FaultCode::PublicationConflict, message, is_fault: false })
        };
        Ok(by_table.into_iter().filter_map(entry).collect())
    }
}
