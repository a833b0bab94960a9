//! The faults between Postgres and the server, by the codes that programs see.

use crate::named_enum::named_enum;

named_enum! {
    /// Why nothing that is read from Postgres, or from one table, can be called up to date. The names are those of
    /// `code` in the body of `/v1/health` and of the 503 of requests.
    pub enum FaultCode {
        /// The publication is gone, was made anew, or leaves changes out.
        Publication = "publication",
        /// The replication slot is gone, or the WAL that it needs is.
        SlotLost = "slot_lost",
        /// The walsender does not answer.
        Stalled = "stalled",
        /// Connecting failed at the slot, or at the stream that reads it.
        Slot = "slot",
        /// Connecting failed because of how Postgres is set up.
        Postgres = "postgres",
        /// Connecting failed at the storage folder.
        Storage = "storage",
        /// The catalog does not describe a table.
        Catalog = "catalog",
        /// The application cannot update a table, because of its replica identity and a publication. A warning.
        PublicationConflict = "publication_conflict",
        /// Changes of a table may come without the old row: its replica identity is not FULL.
        ReplicaIdentity = "replica_identity",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::named_enum::documented;
    use std::collections::BTreeSet;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn operate_md_explains_every_code_and_no_other() {
        let names: BTreeSet<&str> = FaultCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), FaultCode::ALL.len(), "two codes have one name");
        assert_eq!(documented("Health"), names);
    }
}
