//! The SQLSTATEs that Limn tells apart, by their names in the Postgres documentation, appendix *PostgreSQL Error Codes*.
//!
//! Five characters, of which the first two are the class. What a state means here is said where it is handled.

/// A start-up parameter or message that the server does not take: PgBouncer's refusal of `replication`.
pub const PROTOCOL_VIOLATION: &str = "08P01";
/// In a `conflict::Guard`: what it compares has changed.
pub const DIVISION_BY_ZERO: &str = "22012";
/// The role does not exist or may not log in, or `pg_hba.conf` has no entry for the connection.
pub const INVALID_AUTHORIZATION_SPECIFICATION: &str = "28000";
/// The password is wrong.
pub const INVALID_PASSWORD: &str = "28P01";
/// The database does not exist.
pub const INVALID_CATALOG_NAME: &str = "3D000";
/// The schema does not exist.
pub const INVALID_SCHEMA_NAME: &str = "3F000";
/// The transaction failed because of concurrent ones, and may succeed when it is tried again.
pub const SERIALIZATION_FAILURE: &str = "40001";
/// A right is missing, or a policy would hide rows (sessions have `row_security = off`).
pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// The parser refuses the statement.
pub const SYNTAX_ERROR: &str = "42601";
/// The column does not exist.
pub const UNDEFINED_COLUMN: &str = "42703";
/// An object of another kind does not exist: a type, a replication slot, a publication.
pub const UNDEFINED_OBJECT: &str = "42704";
/// An object of that name exists already: a table is in the publication.
pub const DUPLICATE_OBJECT: &str = "42710";
/// There is no cast between two types.
pub const CANNOT_COERCE: &str = "42846";
/// No function or operator takes these types; a type has no order.
pub const UNDEFINED_FUNCTION: &str = "42883";
/// The table does not exist.
pub const UNDEFINED_TABLE: &str = "42P01";
/// The type of a parameter cannot be inferred.
pub const INDETERMINATE_DATATYPE: &str = "42P18";
/// A statement or a question needs more memory than there is.
pub const OUT_OF_MEMORY: &str = "53200";
/// A limit on connections is reached: the server's, the database's or the role's.
pub const TOO_MANY_CONNECTIONS: &str = "53300";
/// The slot cannot be read: it was invalidated.
pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
/// Another connection reads the slot.
pub const OBJECT_IN_USE: &str = "55006";
/// A lock was not free within `lock_timeout`.
pub const LOCK_NOT_AVAILABLE: &str = "55P03";
/// The statement was cancelled, by `statement_timeout` too.
pub const QUERY_CANCELED: &str = "57014";
/// The server is being shut down, or an administrator ended the session.
pub const ADMIN_SHUTDOWN: &str = "57P01";
/// The server is starting up, shutting down or recovering.
pub const CANNOT_CONNECT_NOW: &str = "57P03";
/// The session ended by `idle_session_timeout`: a short one of the role may end it between its login and our settings.
pub const IDLE_SESSION_TIMEOUT: &str = "57P05";
/// A file is missing: WAL that the slot needs.
pub const UNDEFINED_FILE: &str = "58P01";

/// Classes: what the codes of several errors begin with.
pub mod class {
    /// The connection failed.
    pub const CONNECTION_EXCEPTION: &str = "08";
    /// Something that this server does not implement.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A";
    /// A subquery that was to return one row returned more.
    pub const CARDINALITY_VIOLATION: &str = "21";
    /// A value that a function, an operator or a cast does not take.
    pub const DATA_EXCEPTION: &str = "22";
    /// A constraint refuses a row.
    pub const INTEGRITY_CONSTRAINT_VIOLATION: &str = "23";
    /// The transaction may not do that now: it is read-only.
    pub const INVALID_TRANSACTION_STATE: &str = "25";
    /// The login was refused.
    pub const INVALID_AUTHORIZATION: &str = "28";
    /// A function in another language failed.
    pub const EXTERNAL_ROUTINE_EXCEPTION: &str = "38";
    /// A function in another language was called wrongly.
    pub const EXTERNAL_ROUTINE_INVOCATION_EXCEPTION: &str = "39";
    /// A schema that does not exist.
    pub const INVALID_SCHEMA_NAME: &str = "3F";
    /// The transaction was rolled back: a deadlock, a conflict, a recovery.
    pub const TRANSACTION_ROLLBACK: &str = "40";
    /// The parser refuses the statement, or a right or an object is missing.
    pub const SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION: &str = "42";
    /// The server lacks connections, memory or disk.
    pub const INSUFFICIENT_RESOURCES: &str = "53";
    /// An expression or a statement is too complex.
    pub const PROGRAM_LIMIT_EXCEEDED: &str = "54";
    /// An object is not in the state that the statement needs, or is in use.
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55";
    /// The part of *operator intervention* (57) that is Postgres's own: it stops, starts, or ends the session.
    pub const SERVER_INTERVENTION: &str = "57P";
    /// A function in PL/pgSQL raised an error.
    pub const PLPGSQL_ERROR: &str = "P0";
}
