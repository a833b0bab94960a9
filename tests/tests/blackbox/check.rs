//! `limn check`: each thing that can be wrong is told with what mends it, and what it tells does mend it.

use super::{shared, table};
use limn_tests::{Cluster, Database, Sql, command, eventually, new_folder};
use serde_json::Value;
use std::path::Path;
use std::process::Output;
use tokio::task::spawn_blocking;

/// What `limn check` is asked, again and again.
struct Check {
    arguments: Vec<String>,
}

/// One finding.
#[derive(Debug)]
struct Finding {
    level: String,
    text: String,
    run: Option<String>,
}

impl Check {
    fn new(url: &str, stream_id: &str) -> Self {
        Self::on(&new_folder("check").join("storage"), url, stream_id)
    }

    fn on(storage: &Path, url: &str, stream_id: &str) -> Self {
        let storage = storage.display().to_string();
        let stream = ["--replication-stream-id", stream_id, "--insecure"];
        let arguments = ["--database-url", url, "--storage-dir", &storage].into_iter().chain(stream);
        Self { arguments: arguments.map(str::to_owned).collect() }
    }

    fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    async fn output(&self, format: &[&str]) -> Output {
        let mut command = command();
        command.arg("check").args(&self.arguments).args(format);
        spawn_blocking(move || command.output().expect("limn can be started")).await.expect("it ends")
    }

    /// Everything that is found, and whether all is well.
    async fn json(&self) -> Value {
        let output = self.output(&["--json"]).await;
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            unreachable!("{error}: {output:?}");
        });
        assert_eq!(report["ok"], output.status.success(), "{report}");
        report
    }

    /// What is found of one thing, the worst of it.
    async fn finding(&self, check: &str) -> Finding {
        let report = self.json().await;
        let findings = report["findings"].as_array().expect("a list").iter();
        let rank = |finding: &&Value| {
            ["ok", "warning", "error"].iter().position(|level| finding["level"] == **level)
        };
        let worst = findings.filter(|finding| finding["check"] == check).max_by_key(rank);
        let worst = worst.unwrap_or_else(|| unreachable!("nothing about `{check}`: {report}"));
        let text = |name: &str| worst[name].as_str().map(str::to_owned);
        Finding {
            level: text("level").expect("a level"),
            text: text("text").expect("a text"),
            run: text("run"),
        }
    }

    /// What is wrong with one thing; runs what mends it.
    async fn mend(&self, sql: &Sql, check: &str, level: &str) -> String {
        let finding = self.finding(check).await;
        assert_eq!(finding.level, level, "{check}: {finding:?}");
        let run = finding.run.clone().unwrap_or_else(|| unreachable!("nothing to run: {finding:?}"));
        for statement in run.split_inclusive(';') {
            // One by one, as psql does: ALTER SYSTEM may stand in no transaction.
            sql.execute(statement).await;
        }
        run
    }

    async fn assert_ok(&self, check: &str) {
        let finding = self.finding(check).await;
        assert_eq!(finding.level, "ok", "{check}: {finding:?}");
    }

    /// What is wrong, what mends it, and that it does.
    async fn assert_mended_by(&self, sql: &Sql, check: &str, level: &str, run: &str) {
        assert_eq!(self.mend(sql, check, level).await, run);
        self.assert_ok(check).await;
    }
}

/// What `limn check` finds with these arguments, as text.
pub(super) async fn report(arguments: Vec<String>) -> String {
    Check { arguments }.json().await.to_string()
}

async fn own(settings: &[&str]) -> (Cluster, Database, Sql) {
    let cluster = Cluster::start(settings).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    (cluster, database, sql)
}

#[tokio::test]
async fn a_fresh_database_has_nothing_to_mend_and_a_limit_to_think_of() {
    let (_cluster, database, sql) = own(&[]).await;
    let check = Check::new(&database.url(), "fresh");
    assert_eq!(check.json().await["ok"], true);
    let expected = "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();";
    assert_eq!(check.mend(&sql, "max_slot_wal_keep_size", "warning").await, expected);
    eventually("the limit is read", async || {
        (check.finding("max_slot_wal_keep_size").await.level == "ok").then_some(())
    })
    .await;
    let text = String::from_utf8(check.output(&[]).await.stdout).expect("text");
    assert!(
        text.contains("ok       wal_level: `logical`\n") && text.contains("0 errors, 1 warnings"),
        "{text}"
    );
}

#[tokio::test]
async fn settings_that_need_a_restart_are_told() {
    let (mut cluster, database, sql) = own(&["wal_level=replica", "max_replication_slots=1"]).await;
    sql.execute("SELECT pg_create_physical_replication_slot('another')").await;
    let check = Check::new(&database.url(), "restart");
    assert_eq!(check.mend(&sql, "wal_level", "error").await, "ALTER SYSTEM SET wal_level = 'logical';");
    let slots = check.mend(&sql, "max_replication_slots", "error").await;
    assert_eq!(slots, "ALTER SYSTEM SET max_replication_slots = 6;");
    cluster.leave("wal_level");
    cluster.leave("max_replication_slots");
    cluster.stop().await;
    cluster.resume().await;
    check.assert_ok("wal_level").await;
    check.assert_ok("max_replication_slots").await;
}

#[tokio::test]
async fn a_role_without_rights_is_told_which() {
    let (_cluster, database, sql) = own(&[]).await;
    sql.execute("CREATE ROLE weak LOGIN").await;
    let check = Check::new(&database.url_as("weak"), "weak");
    check.assert_mended_by(&sql, "replication", "error", r#"ALTER ROLE "weak" WITH REPLICATION;"#).await;
    let grant = format!(r#"GRANT CREATE ON DATABASE "{}" TO "weak";"#, database.name);
    check.assert_mended_by(&sql, "create", "error", &grant).await;
    assert_eq!(check.json().await["ok"], true);
}

#[tokio::test]
async fn a_database_that_is_not_there_or_cannot_be_reached_is_told() {
    let (_cluster, database, sql) = own(&[]).await;
    let check = Check::new(&database.sibling("missing").url(), "missing");
    check.assert_mended_by(&sql, "connection", "error", r#"CREATE DATABASE "missing";"#).await;
    let unreachable = Check::new("postgres://u@127.0.0.1:1/d", "missing");
    let finding = unreachable.finding("connection").await;
    assert!(finding.level == "error" && finding.text.contains("DATABASE_URL"), "{finding:?}");
    assert!(unreachable.json().await.to_string().contains("storage"), "the rest is looked at all the same");
}

#[tokio::test]
async fn a_publication_that_is_not_whole_is_told() {
    let (_cluster, database, sql) = own(&[]).await;
    sql.execute("CREATE ROLE owner LOGIN REPLICATION").await;
    let check = Check::new(&database.url_as("owner"), "p");
    let name = r#""electric_publication_p""#;
    let by_hand = Check::new(&database.url(), "p").with(&["--manual-table-publishing"]);
    let generated = sql.value("SELECT current_setting('server_version_num')::int >= 180000").await == "t";
    let options = if generated { " WITH (publish_generated_columns = stored)" } else { "" };
    let create = format!("CREATE PUBLICATION {name}{options};");
    by_hand.assert_mended_by(&sql, "publication", "error", &create).await;
    let owner = format!(r#"ALTER PUBLICATION {name} OWNER TO "owner";"#);
    check.assert_mended_by(&sql, "publication", "error", &owner).await;
    sql.execute(&format!("ALTER PUBLICATION {name} SET (publish = 'insert')")).await;
    let whole = format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');");
    check.assert_mended_by(&sql, "publication", "error", &whole).await;
    sql.execute(&format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true)")).await;
    let leaves = format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = false);");
    check.assert_mended_by(&sql, "publication", "error", &leaves).await;
}

#[tokio::test]
async fn a_slot_of_somebody_else_and_a_lost_one_are_told() {
    let (_cluster, database, sql) =
        own(&["max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=32MB"]).await;
    let check = Check::new(&database.url(), "s");
    let drop = "SELECT pg_drop_replication_slot('electric_slot_s');";
    sql.execute("SELECT pg_create_physical_replication_slot('electric_slot_s')").await;
    check.assert_mended_by(&sql, "slot", "error", drop).await;
    sql.execute("SELECT pg_create_logical_replication_slot('electric_slot_s', 'pgoutput')").await;
    check.assert_ok("slot").await;
    super::unsound::lose_wal(&sql).await;
    check.assert_mended_by(&sql, "slot", "warning", drop).await;
}

#[tokio::test]
async fn tables_that_are_not_published_whole_are_told() {
    let (_cluster, database, sql) = own(&[]).await;
    table(&sql, "t").await;
    sql.execute(
        "CREATE ROLE reader LOGIN REPLICATION; CREATE PUBLICATION electric_publication_t FOR TABLE t",
    )
    .await;
    let check = Check::new(&database.url_as("reader"), "t").with(&["--manual-table-publishing"]);
    let grant = r#"GRANT SELECT ON public.t TO "reader";"#;
    let full = "ALTER TABLE ONLY public.t REPLICA IDENTITY FULL;";
    let mut runs = [check.mend(&sql, "tables", "error").await, check.mend(&sql, "tables", "error").await];
    runs.sort();
    assert_eq!(runs, [full, grant]);
    check.assert_ok("tables").await;
    if sql.value("SELECT current_setting('server_version_num')::int >= 150000").await == "t" {
        sql.execute("ALTER PUBLICATION electric_publication_t SET TABLE t (id)").await;
        let again = r#"ALTER PUBLICATION "electric_publication_t" DROP TABLE public.t; ALTER PUBLICATION "electric_publication_t" ADD TABLE public.t;"#;
        check.assert_mended_by(&sql, "tables", "error", again).await;
    }
}

#[tokio::test]
async fn publications_with_which_writes_fail_or_would_fail_are_told() {
    let (_cluster, database, sql) = own(&[]).await;
    if sql.value("SELECT current_setting('server_version_num')::int < 150000").await == "t" {
        // No publication has a list of columns there.
        return;
    }
    table(&sql, "t").await;
    sql.execute(
        "CREATE PUBLICATION electric_publication_c FOR TABLE t; CREATE PUBLICATION w FOR TABLE t (id)",
    )
    .await;
    let check = Check::new(&database.url(), "c");
    // The advice to set the identity would lead into the harm: the other one is given first.
    let danger = check.finding("tables").await;
    assert!(danger.level == "error" && danger.text.contains("would fail"), "{danger:?}");
    let report = check.json().await.to_string();
    assert!(!report.contains("REPLICA IDENTITY FULL;"), "{report}");
    sql.execute("ALTER TABLE t REPLICA IDENTITY FULL").await;
    assert!(sql.try_execute("UPDATE t SET n = 1").await.is_err(), "that is the harm");
    let harm = check.finding("tables").await;
    assert!(harm.text.starts_with("UPDATE and DELETE of public.t fail"), "{harm:?}");
    check.mend(&sql, "tables", "error").await;
    check.assert_ok("tables").await;
    sql.execute("UPDATE t SET n = 1").await;
}

#[tokio::test]
async fn policies_and_rights_on_columns_are_told() {
    let (_cluster, database, sql) = own(&[]).await;
    table(&sql, "t").await;
    sql.execute(
        "CREATE ROLE reader LOGIN REPLICATION; CREATE PUBLICATION electric_publication_t FOR TABLE t;
         ALTER TABLE t REPLICA IDENTITY FULL; GRANT SELECT (id, a) ON t TO reader",
    )
    .await;
    let check = Check::new(&database.url_as("reader"), "t").with(&["--manual-table-publishing"]);
    let grant = r#"GRANT SELECT ("n") ON public.t TO "reader";"#;
    check.assert_mended_by(&sql, "tables", "warning", grant).await;
    sql.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY").await;
    check.assert_mended_by(&sql, "tables", "warning", r#"ALTER ROLE "reader" BYPASSRLS;"#).await;
}

#[tokio::test]
async fn a_policy_on_a_table_with_shapes_is_an_error() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    let role = format!("owner_{}", database.name);
    table(&sql, "t").await;
    let name = &database.name;
    sql.execute(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION; GRANT CREATE ON DATABASE {name} TO {role}; ALTER TABLE t OWNER TO {role}"
    ))
    .await;
    let mut server = limn_tests::Limn::stopped(&database, &[]);
    server.log_in_as(&role);
    server.resume().await;
    server.follow("table=t").await;
    sql.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY").await;
    let check = Check { arguments: server.check_arguments() };
    let bypass = format!(r#"ALTER ROLE "{role}" BYPASSRLS;"#);
    check.assert_mended_by(&sql, "tables", "error", &bypass).await;
}

#[tokio::test]
async fn a_running_server_is_seen_and_left_alone() {
    let mut server = shared(&[]).await;
    let sql = server.sql().await;
    let mut shape = server.follow("table=t").await;
    let check = Check { arguments: server.check_arguments() };
    assert!(check.finding("lock").await.text.contains("a server runs"));
    let storage = check.finding("storage").await;
    assert!(
        storage.level == "ok" && storage.text.contains("1 shapes of 1 tables, and a server uses it"),
        "{storage:?}"
    );
    assert!(check.finding("slot").await.text.contains("is being read"));
    check.assert_ok("tables").await;
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    assert_eq!(shape.changes(1).await.len(), 1);
    // A running server drops the shape itself, within a second.
    server.stop().await;
    sql.execute("DROP TABLE t").await;
    let tables = check.finding("tables").await;
    assert!(tables.text.contains("is gone"), "{tables:?}");
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_told_and_left_untouched() {
    let database = Cluster::shared().await.database().await;
    let folder = new_folder("foreign");
    std::fs::write(folder.join("thesis.txt"), "dear").expect("a new file");
    let check = Check::on(&folder, &database.url(), "f");
    let finding = check.finding("storage").await;
    assert!(finding.level == "error" && finding.text.contains("was not made by Limn"), "{finding:?}");
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 1);
}
