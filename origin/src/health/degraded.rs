//! Tables with something wrong, while other tables are served.

use limn_core::protocol::FaultCode;
use limn_core::protocol::reply::DegradedTable;
use std::collections::BTreeMap;

/// The fault of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded {
    /// `pg_class.oid`
    pub oid: u32,
    /// Its name, as SQL.
    pub table: String,
    /// For programs.
    pub code: FaultCode,
    /// A sentence for the operator: the fault, and the SQL that mends it.
    pub message: String,
    /// True where the shapes that read the table cannot say up-to-date; false where they are served, and the entry is a
    /// warning.
    pub is_fault: bool,
}

/// Everything that is wrong with single tables.
#[derive(Debug, Default)]
pub struct DegradedTables {
    /// In the order of codes: of two faults of a table, requests are told the first.
    by_code: BTreeMap<FaultCode, Vec<Degraded>>,
}

impl DegradedTables {
    /// Replaces all entries with a code, and logs what came and what went.
    pub fn set(&mut self, code: FaultCode, entries: Vec<Degraded>) {
        debug_assert!(entries.iter().all(|entry| entry.code == code), "entries of one code");
        let before = self.by_code.remove(&code).unwrap_or_default();
        for entry in entries.iter().filter(|entry| !before.contains(entry)) {
            tracing::warn!(
                table = entry.table,
                code = code.as_str(),
                reason = entry.message,
                "a table is degraded"
            );
        }
        let is_listed = |gone: &Degraded| entries.iter().any(|entry| entry.oid == gone.oid);
        for gone in before.iter().filter(|gone| !is_listed(gone)) {
            tracing::info!(table = gone.table, code = code.as_str(), "a table is no longer degraded");
        }
        if !entries.is_empty() {
            self.by_code.insert(code, entries);
        }
    }

    /// A fault of any of these tables.
    #[must_use]
    pub fn fault(&self, oids: &[u32]) -> Option<&Degraded> {
        self.entries().find(|entry| entry.is_fault && oids.contains(&entry.oid))
    }

    /// True where any table has a fault.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        self.entries().any(|entry| entry.is_fault)
    }

    /// What `/v1/health` lists, by table.
    #[must_use]
    pub fn list(&self) -> Vec<DegradedTable> {
        let entry = |entry: &Degraded| DegradedTable {
            table: entry.table.clone(),
            code: entry.code,
            message: entry.message.clone(),
        };
        let mut list: Vec<_> = self.entries().map(entry).collect();
        list.sort_by(|a, b| (&a.table, a.code).cmp(&(&b.table, b.code)));
        list
    }

    fn entries(&self) -> impl Iterator<Item = &Degraded> {
        self.by_code.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(oid: u32, code: FaultCode, is_fault: bool) -> Degraded {
        Degraded { oid, table: format!("public.t{oid}"), code, message: "run it".to_owned(), is_fault }
    }

    #[test]
    fn a_code_replaces_its_own_entries_only() {
        let mut tables = DegradedTables::default();
        tables.set(FaultCode::ReplicaIdentity, vec![entry(1, FaultCode::ReplicaIdentity, true)]);
        tables.set(FaultCode::PublicationConflict, vec![entry(2, FaultCode::PublicationConflict, false)]);
        tables.set(FaultCode::ReplicaIdentity, vec![entry(3, FaultCode::ReplicaIdentity, true)]);
        let listed: Vec<_> = tables.list().into_iter().map(|entry| entry.table).collect();
        assert_eq!(listed, ["public.t2", "public.t3"]);
        tables.set(FaultCode::ReplicaIdentity, Vec::new());
        assert_eq!(tables.list().len(), 1);
    }

    #[test]
    fn a_warning_is_no_fault() {
        let mut tables = DegradedTables::default();
        tables.set(FaultCode::PublicationConflict, vec![entry(2, FaultCode::PublicationConflict, false)]);
        assert!(!tables.has_faults());
        tables.set(FaultCode::ReplicaIdentity, vec![entry(1, FaultCode::ReplicaIdentity, true)]);
        assert_eq!(tables.fault(&[2, 1]).map(|entry| entry.oid), Some(1));
        assert_eq!(tables.fault(&[2]), None);
    }
}
