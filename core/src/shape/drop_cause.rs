//! Why shapes are dropped, by the names that operators see.

use super::RotationCause;
use crate::named_enum::named_enum;

named_enum! {
    /// Why a shape was dropped. Its clients get a 409 and start over under a new handle. The names are those of the log
    /// line `shape removed` and of the label `cause` of `limn_rotations_total`.
    pub enum DropCause {
        /// A table that it reads was truncated.
        Truncated = "truncate",
        /// A table that it reads is no longer what its definition saw.
        SchemaChanged = "schema_changed",
        /// A table that it reads is gone.
        TableDropped = "table_dropped",
        /// A table that it reads left the publication, or was in it only with gaps.
        Unpublished = "unpublished",
        /// Changes of a table that it reads are in no WAL.
        WithoutWal = "without_wal",
        /// Rows came or went with a partition that was attached, detached or dropped.
        PartitionsChanged = "partitions_changed",
        /// A change came without its old row: the replica identity is no longer FULL.
        IdentityLost = "replica_identity",
        /// Its `where` failed on a row.
        UnjudgeableRow = "unjudgeable_row",
        /// A NULL entered or left the result of a `NOT IN`.
        NullMember = "null_in_subquery",
        /// A subquery's result, or what one change of it brings, is larger than is kept.
        MoveOverrun = "move_overrun",
        /// Postgres refused a question about its clause or a subquery.
        RefusedByPostgres = "refused_by_postgres",
        /// More changes had to be held back than are kept, for its snapshot or for a move.
        HeldOverrun = "held_overrun",
        /// One transaction changed more rows of a table with double keys than are kept.
        TransactionOverrun = "transaction_overrun",
        /// The replication slot is a new one, and misses what came before it.
        SlotLost = "slot_lost",
        /// The storage folder belongs to another Postgres, timeline or slot.
        OtherPostgres = "other_postgres",
        /// Another storage folder has followed the slot meanwhile.
        OtherStorage = "other_storage",
        /// The publication's options were changed, and left changes out for a while.
        PublicationAltered = "publication_altered",
        /// There are more shapes than the limit, and it was the one not read for longest.
        Expired = "expired",
        /// It could not be created.
        CreationFailed = "creation_failed",
        /// A client or operator deleted it.
        Deleted = "deleted",
    }
}

impl DropCause {
    /// True where the catalog has changed since the shape was made: answers from before are outdated.
    #[must_use]
    pub const fn is_of_catalog(self) -> bool {
        match self {
            Self::SchemaChanged
            | Self::TableDropped
            | Self::Unpublished
            | Self::WithoutWal
            | Self::PartitionsChanged
            | Self::IdentityLost
            | Self::SlotLost
            | Self::OtherPostgres
            | Self::OtherStorage
            | Self::PublicationAltered => true,
            Self::Truncated
            | Self::UnjudgeableRow
            | Self::NullMember
            | Self::MoveOverrun
            | Self::RefusedByPostgres
            | Self::HeldOverrun
            | Self::TransactionOverrun
            | Self::Expired
            | Self::CreationFailed
            | Self::Deleted => false,
        }
    }
}

impl From<&RotationCause> for DropCause {
    fn from(cause: &RotationCause) -> Self {
        match cause {
            RotationCause::Truncated => Self::Truncated,
            RotationCause::SchemaChanged => Self::SchemaChanged,
            RotationCause::IdentityLost => Self::IdentityLost,
            RotationCause::Unjudgeable(_) => Self::UnjudgeableRow,
            RotationCause::HeldOverrun => Self::HeldOverrun,
            RotationCause::TransactionOverrun => Self::TransactionOverrun,
            RotationCause::MoveOverrun => Self::MoveOverrun,
            RotationCause::NullMember => Self::NullMember,
            RotationCause::Refused(_) => Self::RefusedByPostgres,
        }
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
    fn operate_md_explains_every_cause_and_no_other() {
        let names: BTreeSet<&str> = DropCause::ALL.iter().map(|cause| cause.as_str()).collect();
        assert_eq!(names.len(), DropCause::ALL.len(), "two causes have one name");
        assert_eq!(documented("What a 409 means"), names);
    }
}
