//! The judgement on what the stream is made of: publication, slot and tables.

use super::diagnosis::{PublicationFacts, ServerFacts, SlotFacts, TableFacts};
use super::report::Report;
use crate::postgres::conflict::{self, Conflict};
use crate::postgres::obstacle::WithoutWal;
use crate::postgres::slot_wait::Writer;
use limn_core::pg::relation::{quote_identifier, quote_literal};

/// WAL that an unread slot may keep before it is worth a word.
const UNREAD_BYTES_MAX: i64 = 1 << 30;

/// Who is to serve what.
pub struct Source<'a> {
    /// The publication's name.
    pub publication: &'a str,
    /// The slot's name.
    pub slot: &'a str,
    /// The role.
    pub role: &'a str,
    /// Whether publication and tables are somebody else's business.
    pub manual: bool,
    /// Tables that have shapes: oid and name.
    pub shapes: &'a [(u32, String)],
}

/// Judges the publication.
pub fn judge_publication(
    report: &mut Report,
    source: &Source<'_>,
    server: &ServerFacts,
    facts: Option<&PublicationFacts>,
) {
    let (shown, name) = (source.publication, quote_identifier(source.publication));
    let Some(facts) = facts else {
        match source.manual {
            true => report.error(
                "publication",
                format!("`{shown}` does not exist"),
                Some(server.create_publication(shown)),
            ),
            false => {
                report.ok("publication", format!("`{shown}` does not exist yet: `limn serve` creates it"));
            }
        }
        return;
    };
    let before = report.findings.len();
    if facts.via_root {
        let run = format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = false);");
        report.error(
            "publication",
            format!("`{shown}` publishes partitions under their root's name"),
            Some(run),
        );
    }
    if !facts.all_operations {
        let run = format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');");
        report.error("publication", format!("`{shown}` leaves operations out"), Some(run));
    }
    if !facts.is_ours && !facts.all_tables && !source.manual {
        let run = format!("ALTER PUBLICATION {name} OWNER TO {};", quote_identifier(source.role));
        let text = format!("`{shown}` belongs to another role, so that no table can be added to it");
        report.error("publication", text, Some(run));
    }
    if server.publishes_generated_columns() && !facts.generated_columns {
        let run = format!("ALTER PUBLICATION {name} SET (publish_generated_columns = stored);");
        let text = format!("`{shown}` leaves generated columns out: shapes that show one are refused");
        report.warning("publication", text, Some(run));
    }
    if report.findings.len() == before {
        report
            .ok("publication", format!("`{shown}` publishes every operation, and partitions as themselves"));
    }
}

/// Judges the slot, and who reads it.
pub fn judge_slot(report: &mut Report, source: &Source<'_>, facts: Option<&SlotFacts>, holder: Option<i32>) {
    let name = source.slot;
    let drop = || Some(format!("SELECT pg_drop_replication_slot({});", quote_literal(name)));
    match facts {
        None if source.shapes.is_empty() => {
            report.ok("slot", format!("`{name}` does not exist yet: `limn serve` creates it"));
        }
        None => {
            let text =
                format!("`{name}` is gone: `limn serve` creates it, and every stored shape starts over");
            report.warning("slot", text, None);
        }
        Some(SlotFacts { foreign: Some(owner), .. }) => {
            let text =
                format!("`{name}` belongs to {owner}: drop it, or choose another `--replication-stream-id`");
            report.error("slot", text, drop());
        }
        Some(facts) if facts.invalidated.is_some() || facts.wal_status.as_deref() == Some("lost") => {
            let reason = facts.invalidated.as_deref().unwrap_or("its WAL was removed");
            let text = format!(
                "`{name}` is lost ({reason}): `limn serve` makes it anew, and every shape starts over"
            );
            report.warning("slot", text, drop().filter(|_| !facts.active));
        }
        Some(facts) => judge_living_slot(report, name, facts, drop()),
    }
    match holder {
        Some(pid) => {
            report.ok("lock", format!("held by Postgres's process {pid}: a server runs, another one waits"));
        }
        None => report.ok("lock", "free"),
    }
}

/// Judges transactions that the creation of the slot waits for, or would wait for.
pub fn judge_writers(report: &mut Report, source: &Source<'_>, writers: &[Writer]) {
    for writer in writers {
        let text = format!("creating `{}` waits for {writer}", source.slot);
        report.warning("slot_creation", text, Some(writer.remedy()));
    }
}

fn judge_living_slot(report: &mut Report, name: &str, facts: &SlotFacts, drop: Option<String>) {
    let bytes = facts.retained_bytes.unwrap_or(0);
    let kept = format!("Postgres keeps {} MiB of WAL for it", bytes >> 20);
    let status = facts.wal_status.as_deref().unwrap_or("unknown");
    if status == "unreserved" {
        let text = format!("`{name}` is about to be lost: {kept}, beyond `max_slot_wal_keep_size`");
        report.warning(
            "slot",
            text,
            Some("ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();".to_owned()),
        );
    } else if !facts.active && bytes > UNREAD_BYTES_MAX {
        let text = format!("nobody reads `{name}`, and {kept}: start `limn serve`, or drop the slot");
        report.warning("slot", text, drop);
    } else {
        let read = if facts.active { "is being read" } else { "is not being read" };
        report.ok("slot", format!("`{name}` {read}; WAL {status}; {kept}"));
    }
}

/// Judges each table that is published or has shapes, and what lies below such tables without being in the WAL.
pub fn judge_tables(
    report: &mut Report,
    source: &Source<'_>,
    tables: &[TableFacts],
    without_wal: &[(String, WithoutWal)],
) {
    let before = report.findings.len();
    for (table, below) in without_wal {
        let text = format!("shapes of {table} are refused: {}", below.fact());
        report.error("tables", text, below.statements().into_iter().next());
    }
    for (oid, name) in source.shapes {
        if !tables.iter().any(|table| table.oid == *oid) {
            report.warning("tables", format!("{name} has shapes and is gone: they start over"), None);
        }
    }
    for table in tables {
        judge_table(report, source, table);
    }
    if report.findings.len() == before {
        report.ok("tables", format!("{} tables are published with their whole old rows", tables.len()));
    }
}

fn judge_table(report: &mut Report, source: &Source<'_>, table: &TableFacts) {
    let TableFacts { oid, name, .. } = table;
    let (publication, role) = (quote_identifier(source.publication), quote_identifier(source.role));
    let has_shapes = source.shapes.iter().any(|(known, _)| known == oid);
    if table.is_filtered {
        let run = format!(
            "ALTER PUBLICATION {publication} DROP TABLE {name}; ALTER PUBLICATION {publication} ADD TABLE {name};"
        );
        report.error("tables", format!("some rows or columns of {name} are not published"), Some(run));
    } else if !table.is_published {
        let run = format!("ALTER PUBLICATION {publication} ADD TABLE ONLY {name};");
        report.warning(
            "tables",
            format!("{name} has shapes and is not published: they start over"),
            Some(run),
        );
    }
    // A list of columns in this server's own publication has been told above.
    let is_told = |conflict: &&Conflict| table.is_filtered && conflict.publication == source.publication;
    let conflicts: Vec<Conflict> =
        table.conflicts.iter().filter(|conflict| !is_told(conflict)).cloned().collect();
    if !conflicts.is_empty() {
        // Advice to set the identity would lead into what is told here.
        judge_conflicts(report, table, &conflicts);
    } else if !table.is_full {
        let run = format!("ALTER TABLE ONLY {name} REPLICA IDENTITY FULL;");
        let text = format!("the replica identity of {name} is not FULL: old rows are incomplete");
        match source.manual || (has_shapes && !table.is_ours) {
            true => report.error("tables", text, Some(run)),
            false => report.warning(
                "tables",
                format!("{text}; `limn serve` sets it with the first shape"),
                Some(run),
            ),
        }
    }
    let is_prepared = table.is_published && table.is_full;
    if !table.is_ours && !source.manual && has_shapes && !is_prepared {
        let text = format!("the role `{}` does not own {name}, and cannot publish it", source.role);
        report.error("tables", text, Some(format!("ALTER TABLE {name} OWNER TO {role};")));
    }
    if let Some(denial) = &table.denial {
        let (text, run) = (denial.to_string(), Some(denial.remedy()));
        match denial.is_partial() || (denial.is_of_policies() && !has_shapes) {
            true => report.warning("tables", format!("{text}; until then such shapes are refused"), run),
            false => report.error("tables", text, run),
        }
    }
}

/// Judges publications, of anybody, that do not bear REPLICA IDENTITY FULL.
fn judge_conflicts(report: &mut Report, table: &TableFacts, conflicts: &[Conflict]) {
    let (reasons, run) = conflict::describe(conflicts);
    let name = &table.name;
    let text = match table.writes_fail {
        true => format!("UPDATE and DELETE of {name} fail, since its replica identity is FULL and {reasons}"),
        false => format!(
            "{name} must not get REPLICA IDENTITY FULL, or be published: UPDATE and DELETE would fail, since {reasons}"
        ),
    };
    report.error("tables", text, Some(run));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::doctor::report::Level;

    #[test]
    fn an_unread_slot_is_worth_a_word_once_it_keeps_too_much() {
        let level = |retained_bytes: i64, active: bool| {
            let facts = SlotFacts {
                foreign: None,
                active,
                reader: None,
                wal_status: Some("extended".to_owned()),
                invalidated: None,
                retained_bytes: Some(retained_bytes),
            };
            let mut report = Report::default();
            judge_living_slot(&mut report, "limn", &facts, None);
            report.findings.pop().expect("it says how the slot stands").level
        };
        assert_eq!(level(UNREAD_BYTES_MAX, false), Level::Ok);
        assert_eq!(level(UNREAD_BYTES_MAX + 1, false), Level::Warning);
        assert_eq!(level(UNREAD_BYTES_MAX + 1, true), Level::Ok);
    }
}
