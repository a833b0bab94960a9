//! Why a table cannot be published, and what to run.

use crate::postgres::PostgresError;
use crate::postgres::conflict::{self, Conflict};
use crate::postgres::lock_holders::{self, Holder};
use crate::postgres::sqlstate::class;
use limn_core::pg::relation::quote_identifier;

/// The publication or a table in it is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// Somebody has to create it: in manual mode the role need not be allowed to.
    #[error("publication `{name}` does not exist: run `CREATE PUBLICATION {};`", quote_identifier(name))]
    Missing {
        /// The publication.
        name: String,
    },
    /// It publishes changes of partitions under the root's name.
    #[error(
        "publication `{name}` must publish partitions as themselves: run `ALTER PUBLICATION {} SET (publish_via_partition_root = false);`",
        quote_identifier(name)
    )]
    ViaPartitionRoot {
        /// The publication.
        name: String,
    },
    /// It leaves out some kinds of change.
    #[error(
        "publication `{name}` must publish every operation: run `ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');`",
        quote_identifier(name)
    )]
    LacksOperations {
        /// The publication.
        name: String,
    },
    /// In manual mode: the table is not in it.
    #[error(
        "Database table \"{table}\" is missing from the publication \"{name}\" and the ELECTRIC_MANUAL_TABLE_PUBLISHING setting prevents Electric from adding it"
    )]
    TableMissing {
        /// Schema and name, unquoted.
        table: String,
        /// The publication.
        name: String,
    },
    /// In manual mode: old rows would be incomplete.
    #[error("Database table \"{table}\" does not have its replica identity set to FULL")]
    IdentityNotFull {
        /// Schema and name, unquoted.
        table: String,
    },
    /// REPLICA IDENTITY FULL would make the application's own UPDATE and DELETE fail. Nothing was altered.
    #[error(
        "{table} cannot be published with REPLICA IDENTITY FULL, which shapes need: UPDATE and DELETE would fail from then on, since {}. Nothing was altered. Run `{}`",
        conflict::describe(conflicts).0,
        conflict::describe(conflicts).1
    )]
    Conflict {
        /// The table that a shape reads, quoted.
        table: String,
        /// Where it, or a table below it, and a publication do not go together.
        conflicts: Vec<Conflict>,
    },
    /// What has to be altered belongs to somebody else. Nothing was altered.
    #[error(
        "the role `{role}` may not publish {table}, since it does not own the table and the publication `{name}`. Nothing was altered. Let their owner run `{run}`, or make the role their owner"
    )]
    NotOwner {
        /// The table that a shape reads, quoted.
        table: String,
        /// The server's role.
        role: String,
        /// The publication.
        name: String,
        /// The statements for the owner.
        run: String,
    },
    /// Some of its rows or columns are left out.
    #[error(
        "publication `{name}` leaves out rows or columns of {table}: run `ALTER PUBLICATION {publication} DROP TABLE {table}; ALTER PUBLICATION {publication} ADD TABLE {table};`",
        publication = quote_identifier(name)
    )]
    Filtered {
        /// The table, or one above it or below it, quoted.
        table: String,
        /// The publication.
        name: String,
    },
    /// Other transactions kept the table locked.
    #[error("Snapshot timed out while waiting for a table lock{}", lock_holders::describe(holders))]
    LockTimeout {
        /// Who holds locks on it.
        holders: Vec<Holder>,
    },
    /// Transactions that were writing when the table was published have not ended in time.
    #[error(
        "timed out while waiting for transactions that were writing {table} when it was published{}",
        lock_holders::describe(writers)
    )]
    WritersStillOpen {
        /// The table, quoted.
        table: String,
        /// Those that have not ended.
        writers: Vec<Holder>,
    },
    /// The database's own rules refuse a statement, such as an event trigger that raises. Nothing was altered by it.
    #[error(
        "Postgres refused `{statement}`: {error}. Change what refuses it, such as an event trigger, or run the statement by hand"
    )]
    Refused {
        /// The statement that failed.
        statement: String,
        /// Why it was not.
        error: PostgresError,
    },
    /// A statement failed.
    #[error(transparent)]
    Postgres(PostgresError),
}

impl From<PostgresError> for PublicationError {
    fn from(error: PostgresError) -> Self {
        Self::Postgres(error)
    }
}

impl From<tokio_postgres::Error> for PublicationError {
    fn from(error: tokio_postgres::Error) -> Self {
        PostgresError::from(error).into()
    }
}

/// The classes of SQLSTATE by which a rule of the database refuses a statement.
const OF_RULES: [&str; 10] = [
    class::FEATURE_NOT_SUPPORTED,
    class::CARDINALITY_VIOLATION,
    class::DATA_EXCEPTION,
    class::INTEGRITY_CONSTRAINT_VIOLATION,
    class::INVALID_TRANSACTION_STATE,
    class::EXTERNAL_ROUTINE_EXCEPTION,
    class::EXTERNAL_ROUTINE_INVOCATION_EXCEPTION,
    class::PROGRAM_LIMIT_EXCEEDED,
    class::OBJECT_NOT_IN_PREREQUISITE_STATE,
    class::PLPGSQL_ERROR,
];

/// True where a rule of the database refuses a statement that is allowed and fits the catalog: what a trigger raises,
/// data it fails on, what the server has switched off. The same statement fails again until somebody changes the rule.
pub(super) fn is_refusal(error: &PostgresError) -> bool {
    !error.is_transient() && error.is_of(&OF_RULES)
}
