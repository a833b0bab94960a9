//! The judgement on the server: version, settings, the role's rights.

use super::diagnosis::ServerFacts;
use super::report::Report;
use crate::health::preflight::PreflightError;
use limn_core::pg::relation::quote_identifier;

/// The oldest major version that is supported.
const MAJOR_MIN: i32 = 14;
/// What is proposed where nothing limits the WAL that a slot keeps.
const KEEP_PROPOSED: &str = "50GB";

/// Whose rights are judged, and what they are needed for.
pub struct Role<'a> {
    /// Its name.
    pub name: &'a str,
    /// The database.
    pub database: &'a str,
    /// Whether it has to create the publication.
    pub creates_publication: bool,
    /// Whether the slot is there and being read already, so that no further slot or walsender is needed.
    pub has_slot: bool,
    /// Likewise.
    pub has_sender: bool,
}

/// Judges what a connection tells.
pub fn judge(report: &mut Report, facts: &ServerFacts, role: &Role<'_>) {
    let ServerFacts { version, version_num, .. } = facts;
    match version_num / 10_000 >= MAJOR_MIN {
        true => report.ok("version", format!("Postgres {version}")),
        false => report.error(
            "version",
            format!("Postgres {version} is too old: upgrade it to {MAJOR_MIN} or newer"),
            None,
        ),
    }
    match facts.is_standby {
        false => report.ok("primary", "this server takes writes"),
        true => {
            report.error("primary", "this Postgres is a read-only standby: use the URL of its primary", None);
        }
    }
    match facts.wal_level.as_str() {
        "logical" => report.ok("wal_level", "`logical`"),
        other => report.error(
            "wal_level",
            format!("it is `{other}`: set it, and restart Postgres"),
            Some("ALTER SYSTEM SET wal_level = 'logical';".to_owned()),
        ),
    }
    judge_room(report, "max_replication_slots", facts.slots, facts.slots_max, role.has_slot);
    judge_room(report, "max_wal_senders", facts.senders, facts.senders_max, role.has_sender);
    judge_create(report, facts, role);
    judge_retention(report, facts.keep_mb_max);
    judge_durability(report, facts);
    judge_encoding(report, &facts.encoding);
}

/// The chapter "Character Set Support": with SQL_ASCII Postgres takes any bytes for text, and converts none of them.
fn judge_encoding(report: &mut Report, encoding: &str) {
    match encoding {
        "SQL_ASCII" => report.warning(
            "encoding",
            "`SQL_ASCII`: Postgres does not check that text is UTF-8, which clients are sent. Shapes cannot show a row \
             with other bytes, and replication stops before a transaction that writes one: restore a dump of this \
             database into one that was created with ENCODING 'UTF8'",
            None,
        ),
        other => report.ok("encoding", format!("`{other}`")),
    }
}

fn judge_room(report: &mut Report, setting: &'static str, used: i64, max: i64, has_ours: bool) {
    let text = format!("{used} of {max} in use");
    match used < max || has_ours {
        true => report.ok(setting, text),
        false => report.error(
            setting,
            format!("{text}, and one more is needed: raise it, and restart Postgres"),
            Some(format!("ALTER SYSTEM SET {setting} = {};", max + 5)),
        ),
    }
}

fn judge_create(report: &mut Report, facts: &ServerFacts, role: &Role<'_>) {
    let (name, database) = (quote_identifier(role.name), quote_identifier(role.database));
    match (role.creates_publication, facts.may_create) {
        (true, false) => report.error(
            "create",
            format!("the role `{}` may not create the publication", role.name),
            Some(format!("GRANT CREATE ON DATABASE {database} TO {name};")),
        ),
        (true, true) => report.ok("create", format!("the role `{}` may create the publication", role.name)),
        (false, _) => report.ok("create", "nothing has to be created"),
    }
}

fn judge_retention(report: &mut Report, keep_mb_max: i64) {
    match keep_mb_max < 0 {
        true => report.warning(
            "max_slot_wal_keep_size",
            "unlimited: while nobody reads the slot, Postgres keeps WAL until its disk is full. With a limit the \
             slot is given up instead, and shapes start over",
            Some(format!(
                "ALTER SYSTEM SET max_slot_wal_keep_size = '{KEEP_PROPOSED}'; SELECT pg_reload_conf();"
            )),
        ),
        false => report.ok("max_slot_wal_keep_size", format!("{keep_mb_max} MB")),
    }
}

fn judge_durability(report: &mut Report, facts: &ServerFacts) {
    match facts.fsync.as_str() {
        "on" => report.ok("fsync", "`on`"),
        other => report.warning(
            "fsync",
            format!("it is `{other}`: after a power failure Postgres may not know what it has told"),
            Some("ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();".to_owned()),
        ),
    }
    let names = &facts.synchronous_standby_names;
    let waits_for_us = names
        .split(|c: char| !(c.is_alphanumeric() || c == '*' || c == '_'))
        .any(|name| name == "*" || name == "limn");
    match (names.is_empty(), waits_for_us) {
        (true, _) => report.ok("synchronous_standby_names", "none: no commit waits for another server"),
        (false, false) => report.ok(
            "synchronous_standby_names",
            format!("`{names}`: a commit is shown by Limn once it is in the WAL, maybe before its standby has it"),
        ),
        (false, true) => report.warning(
            "synchronous_standby_names",
            format!(
                "`{names}` means Limn too (its `application_name` is `limn`): commits in Postgres may wait for it. \
                 Name the standbys: `ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (standby)';`"
            ),
            None,
        ),
    }
}

/// A connection that could not be made, or may not replicate.
pub fn judge_failure(report: &mut Report, check: &'static str, error: &PreflightError) {
    let run = match error {
        PreflightError::NoReplication { role } => {
            Some(format!("ALTER ROLE {} WITH REPLICATION;", quote_identifier(role)))
        }
        PreflightError::NoDatabase { database } => {
            Some(format!("CREATE DATABASE {};", quote_identifier(database)))
        }
        _ => None,
    };
    report.error(check, error.to_string(), run);
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;

    fn facts() -> ServerFacts {
        ServerFacts {
            version_num: 150_004,
            version: "15.4".to_owned(),
            wal_level: "logical".to_owned(),
            is_standby: false,
            slots_max: 10,
            slots: 1,
            senders_max: 10,
            senders: 1,
            keep_mb_max: 1024,
            fsync: "on".to_owned(),
            synchronous_standby_names: String::new(),
            may_create: true,
            encoding: "UTF8".to_owned(),
        }
    }

    fn judged(facts: &ServerFacts, creates_publication: bool) -> Vec<(&'static str, Level)> {
        let mut report = Report::default();
        let role = Role { name: "r", database: "d", creates_publication, has_slot: false, has_sender: false };
        judge(&mut report, facts, &role);
        let not_ok = report.findings.iter().filter(|finding| finding.level != Level::Ok);
        not_ok.map(|finding| (finding.check, finding.level)).collect()
    }

    #[test]
    fn a_server_as_it_should_be_has_nothing_to_mend() {
        assert_eq!(judged(&facts(), true), []);
    }

    #[test]
    fn each_setting_is_judged_by_itself() {
        let old = ServerFacts { version_num: 130_000, ..facts() };
        assert_eq!(judged(&old, true), [("version", Level::Error)]);
        let standby = ServerFacts { is_standby: true, ..facts() };
        assert_eq!(judged(&standby, true), [("primary", Level::Error)]);
        let full = ServerFacts { slots: 10, senders: 10, ..facts() };
        let expected = [("max_replication_slots", Level::Error), ("max_wal_senders", Level::Error)];
        assert_eq!(judged(&full, true), expected);
        let powerless = ServerFacts { may_create: false, ..facts() };
        assert_eq!(judged(&powerless, true), [("create", Level::Error)]);
        assert_eq!(judged(&powerless, false), []);
        let unlimited = ServerFacts { keep_mb_max: -1, ..facts() };
        assert_eq!(judged(&unlimited, true), [("max_slot_wal_keep_size", Level::Warning)]);
    }

    #[test]
    fn commits_that_would_wait_for_limn_are_told() {
        for (names, expected) in [("*", 1), ("FIRST 1 (a, limn)", 1), ("FIRST 1 (a, limning)", 0)] {
            let facts = ServerFacts { synchronous_standby_names: names.to_owned(), ..facts() };
            assert_eq!(judged(&facts, true).len(), expected, "{names}");
        }
    }
}
