//! The settings of every session of ours, whatever the server, the database or the role prefers. An administrator
//! may set any of them by `ALTER ROLE … SET`, for reasons that are not about us.

use limn_core::pg::relation::quote_literal;

/// Fixed settings, with the reason for each group. All exist since Postgres 14, and any role may set them.
const FIXED: [(&str, &str); 26] = [
    // Values must have the same text in snapshots, subsets and the replication stream.
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, DMY"),
    ("TimeZone", "UTC"),
    ("IntervalStyle", "iso_8601"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    // Clauses must mean the same wherever they are evaluated, and our SQL is written for these.
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    ("array_nulls", "on"),
    ("xmlbinary", "base64"),
    ("xmloption", "content"),
    ("quote_all_identifiers", "off"),
    // Queries must return all rows. A policy then raises an error (42501) where it would hide some, and an index
    // scan of a GIN index is never cut short.
    ("row_security", "off"),
    ("gin_fuzzy_search_limit", "0"),
    // Large snapshots take long, idle sessions wait for their next question, and creating a slot waits for others.
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    // We publish tables, note at the publication and create slots. A serializable read-only transaction that is
    // deferrable would wait for others.
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    // What we commit is flushed when we go on, and does not wait for a standby that may be away.
    ("synchronous_commit", "local"),
    // Questions to the catalog look costly to the planner, and would be compiled for seconds while others wait.
    ("jit", "off"),
    // Notices are not read by anybody.
    ("client_min_messages", "warning"),
    // A statement that fails must not end the session.
    ("exit_on_error", "off"),
];

/// Settings that only newer versions have: naming an unknown one would be an error. `transaction_timeout` (17 and
/// newer) would end a long snapshot, and the decoding of a long transaction.
const FIXED_IN_NEWER: &str = "SELECT pg_catalog.set_config('transaction_timeout', '0', $local) \
    WHERE pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL";

/// How long the settings last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Until the session ends.
    Session,
    /// Until the transaction ends.
    Transaction,
}

/// The settings that every version knows, as statements for one simple query.
pub(super) fn statements(scope: Scope) -> String {
    let verb = match scope {
        Scope::Session => "SET",
        Scope::Transaction => "SET LOCAL",
    };
    FIXED.map(|(name, value)| format!("{verb} {name} = {}", quote_literal(value))).join("; ")
}

/// The settings that only newer versions know, as a statement. It is a query, and so takes the snapshot of a
/// repeatable-read transaction.
pub(super) fn newer_statement(scope: Scope) -> String {
    FIXED_IN_NEWER.replace("$local", if scope == Scope::Transaction { "true" } else { "false" })
}

/// The settings that every version knows, as command line options of a start-up message; spaces in values are escaped.
pub(super) fn start_up_options() -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace(' ', "\\ ");
    FIXED.map(|(name, value)| format!("-c {name}={}", escape(value))).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_escape_spaces() {
        let options = start_up_options();
        assert!(options.contains("-c DateStyle=ISO,\\ DMY -c TimeZone=UTC"), "{options}");
    }

    #[test]
    fn statements_last_as_long_as_they_say() {
        assert!(statements(Scope::Session).contains("; SET row_security = 'off'"));
        assert!(statements(Scope::Transaction).contains("; SET LOCAL row_security = 'off'"));
        assert!(newer_statement(Scope::Session).contains("'0', false"));
        assert!(newer_statement(Scope::Transaction).contains("'0', true"));
    }
}
