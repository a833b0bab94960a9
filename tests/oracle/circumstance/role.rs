//! A role for the server that has what it needs and nothing else, and settings that somebody gave it.

use super::Circumstance;
use crate::run::Run;
use limn_tests::Random;
use std::fmt::Write as _;

/// Settings that must change nothing of what is served. The last ones are of newer versions.
const SETTINGS: &[(u32, &str)] = &[
    (0, "statement_timeout = '200ms'"),
    (0, "lock_timeout = '1ms'"),
    (0, "idle_in_transaction_session_timeout = '50ms'"),
    (0, "idle_session_timeout = '300ms'"),
    (0, "default_transaction_read_only = on"),
    (0, "default_transaction_isolation = 'serializable'"),
    (0, "default_transaction_deferrable = on"),
    (0, "DateStyle = 'German'"),
    (0, "IntervalStyle = 'sql_standard'"),
    (0, "bytea_output = 'escape'"),
    (0, "TimeZone = 'Pacific/Marquesas'"),
    (0, "search_path = 'nowhere'"),
    (0, "extra_float_digits = -15"),
    (0, "standard_conforming_strings = off"),
    (0, "client_min_messages = 'debug1'"),
    (0, "row_security = off"),
    (0, "xmloption = 'document'"),
    (0, "synchronous_commit = off"),
    (17, "transaction_timeout = '100ms'"),
];

/// As whom the server connects.
pub fn login(run: &Run) -> Option<String> {
    let has_role = run.world.has(Circumstance::Role) || run.world.has(Circumstance::RowSecurity);
    has_role.then(|| format!("server_{}", run.database.name))
}

/// Makes the role, the owner of all tables.
pub fn ddl(run: &Run, random: &mut Random) -> String {
    let role = login(run).expect("it was drawn");
    let mut ddl = format!(
        "CREATE ROLE {role} LOGIN REPLICATION; GRANT CREATE ON DATABASE {} TO {role}; GRANT USAGE ON SCHEMA other TO {role};
         CREATE TABLE limn_barrier (id serial PRIMARY KEY); ALTER TABLE limn_barrier OWNER TO {role};",
        run.database.name
    );
    for table in run.schema.tables.iter().flat_map(|table| table.tree()) {
        let _ = write!(ddl, "ALTER TABLE {table} OWNER TO {role};");
    }
    if run.world.has(Circumstance::Role) {
        let known = SETTINGS.iter().filter(|(since, _)| *since <= run.world.version);
        for (_, setting) in known.filter(|_| random.below(2) == 0) {
            let _ = write!(ddl, "ALTER ROLE {role} SET {setting};");
        }
    }
    ddl
}

/// What gives a table that comes later to the server's role, where it has one.
pub fn own(run: &Run, table: &str) -> String {
    login(run).map(|role| format!("ALTER TABLE {table} OWNER TO {role}")).unwrap_or_default()
}
