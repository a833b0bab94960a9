//! Publications of somebody else on the same tables. REPLICA IDENTITY FULL must not make the application's own
//! UPDATE and DELETE fail in any of them.

use super::table;
use limn_tests::{Cluster, Database, Limn, Response, Sql, eventually};

/// Lists of columns and row filters in publications.
const LISTS: u32 = 150_000;
/// Generated columns in publications.
const GENERATED: u32 = 180_000;

/// A database with a table `t`, or `None` where this Postgres does not know what the test is about.
async fn database(since: u32) -> Option<(Database, Sql)> {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    let version: u32 = sql.value("SHOW server_version_num").await.parse().expect("a number");
    table(&sql, "t").await;
    (version >= since).then_some((database, sql))
}

fn publication(database: &Database) -> String {
    format!("electric_publication_{}", database.name)
}

async fn not_full(sql: &Sql, table: &str) -> bool {
    sql.value(&format!("SELECT relreplident <> 'f' FROM pg_class WHERE oid = '{table}'::regclass")).await
        == "t"
}

/// The application's writes succeed.
async fn assert_writable(sql: &Sql, table: &str) {
    sql.execute(&format!("UPDATE {table} SET a = a; BEGIN; DELETE FROM {table}; ROLLBACK")).await;
}

/// What a refusal says to run.
fn mend(refused: &Response) -> String {
    let message = refused.json()["message"].as_str().expect("a message").to_owned();
    message.rsplit('`').nth(1).expect("SQL in backticks at the end").to_owned()
}

/// The shape is refused and nothing was altered; returns the refusal.
async fn assert_refused(server: &Limn, database: &Database, sql: &Sql, table: &str) -> Response {
    let refused = server.get(&format!("table={table}&columns=id,a&offset=-1")).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("10"));
    assert_eq!(refused.header("electric-internal-known-error"), Some("true"));
    let published = format!(
        "SELECT count(*)::text FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
          WHERE pubname = '{}'",
        publication(database)
    );
    assert!(not_full(sql, table).await, "the identity was altered");
    assert_eq!(sql.value(&published).await, "0", "the publication was altered");
    refused
}

/// Runs what the refusal says; then the shape is served, and follows the application's writes.
async fn assert_mended(server: &Limn, sql: &Sql, refused: &Response, table: &str) {
    for statement in mend(refused).split_inclusive(';') {
        sql.execute(statement).await;
    }
    let mut shape = server.follow(&format!("table={table}&columns=id,a")).await;
    assert_writable(sql, table).await;
    sql.execute(&format!("UPDATE {table} SET a = 'mended' WHERE id = 1")).await;
    eventually("the update is shown", async || {
        shape.step(true).await;
        shape.rows().iter().any(|row| row["a"].as_deref() == Some("mended")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_list_of_columns_is_refused_with_what_mends_it() {
    let Some((database, sql)) = database(LISTS).await else { return };
    sql.execute("CREATE PUBLICATION warehouse FOR TABLE t (id, n) WHERE (id > 0)").await;
    let server = Limn::start(&database, &[]).await;
    let refused = assert_refused(&server, &database, &sql, "t").await;
    let message = refused.text();
    assert!(message.contains("publication `warehouse` has a list of columns for public.t"), "{message}");
    assert_writable(&sql, "t").await;
    assert_eq!(
        mend(&refused),
        "BEGIN; ALTER PUBLICATION \"warehouse\" DROP TABLE public.t; \
         ALTER PUBLICATION \"warehouse\" ADD TABLE public.t WHERE ((id > 0)); COMMIT;"
    );
    assert_mended(&server, &sql, &refused, "t").await;
}

#[tokio::test]
async fn a_list_is_no_obstacle_where_neither_updates_nor_deletes_are_published() {
    let Some((database, sql)) = database(LISTS).await else { return };
    sql.execute("CREATE PUBLICATION warehouse FOR TABLE t (id) WITH (publish = 'insert, truncate')").await;
    sql.execute("CREATE PUBLICATION filtered FOR TABLE t WHERE (id > 1)").await;
    let server = Limn::start(&database, &[]).await;
    server.follow("table=t").await;
    assert_writable(&sql, "t").await;
    assert!(!not_full(&sql, "t").await);
}

#[tokio::test]
async fn a_table_below_and_one_that_a_subquery_reads_count_too() {
    let Some((database, sql)) = database(LISTS).await else { return };
    sql.execute(
        "CREATE TABLE r (id int PRIMARY KEY, a text) PARTITION BY RANGE (id);
         CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10);
         CREATE TABLE r2 PARTITION OF r FOR VALUES FROM (10) TO (20); INSERT INTO r VALUES (1, 'x');
         CREATE TABLE p (id int PRIMARY KEY, a text); CREATE TABLE c (PRIMARY KEY (id)) INHERITS (p);
         INSERT INTO c VALUES (1, 'x');
         CREATE PUBLICATION warehouse FOR TABLE r1 (id), c (id)",
    )
    .await;
    let server = Limn::start(&database, &[]).await;
    let inner = server.get("table=t&offset=-1&where=id%20IN%20(SELECT%20id%20FROM%20r)").await;
    assert_eq!(inner.status, 503, "{}", inner.text());
    assert!(inner.text().contains("list of columns for public.r1"), "{}", inner.text());
    for (table, named) in [("r", "public.r1"), ("r1", "public.r1"), ("p", "public.c")] {
        let refused = assert_refused_but_for_t(&server, &sql, table).await;
        assert!(refused.text().contains(&format!("list of columns for {named}")), "{}", refused.text());
        assert_writable(&sql, table).await;
    }
    // What is not in that publication is served.
    server.follow("table=r2").await;
    let refused = server.get("table=r&offset=-1").await;
    assert_mended(&server, &sql, &refused, "r").await;
}

/// As [`assert_refused`], where another table is published already.
async fn assert_refused_but_for_t(server: &Limn, sql: &Sql, table: &str) -> Response {
    let refused = server.get(&format!("table={table}&offset=-1")).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(not_full(sql, table).await, "the identity was altered");
    refused
}

#[tokio::test]
async fn a_partition_that_is_published_as_its_root_has_the_roots_list() {
    let Some((database, sql)) = database(LISTS).await else { return };
    sql.execute(
        "CREATE TABLE r (id int PRIMARY KEY, a text) PARTITION BY RANGE (id);
         CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10); INSERT INTO r VALUES (1, 'x');
         CREATE PUBLICATION warehouse FOR TABLE r (id) WITH (publish_via_partition_root = true)",
    )
    .await;
    let server = Limn::start(&database, &[]).await;
    for table in ["r", "r1"] {
        let refused = assert_refused(&server, &database, &sql, table).await;
        assert!(refused.text().contains("list of columns for public.r."), "{}", refused.text());
        assert_writable(&sql, table).await;
    }
    let refused = server.get("table=r1&offset=-1").await;
    assert_mended(&server, &sql, &refused, "r1").await;
}

#[tokio::test]
async fn virtual_generated_columns_are_refused_with_what_mends_them() {
    let Some((database, sql)) = database(GENERATED).await else { return };
    sql.execute("ALTER TABLE t ADD COLUMN \"Twice\" int GENERATED ALWAYS AS (n * 2) VIRTUAL").await;
    let server = Limn::start(&database, &[]).await;
    let refused = assert_refused(&server, &database, &sql, "t").await;
    assert!(refused.text().contains("virtual generated columns of public.t"), "{}", refused.text());
    assert_writable(&sql, "t").await;
    assert_mended(&server, &sql, &refused, "t").await;
}

#[tokio::test]
async fn stored_generated_columns_must_be_in_every_publication() {
    let Some((database, sql)) = database(GENERATED).await else { return };
    sql.execute("ALTER TABLE t ADD COLUMN twice int GENERATED ALWAYS AS (n * 2) STORED").await;
    let server = Limn::start(&database, &[]).await;
    sql.execute("CREATE PUBLICATION warehouse FOR TABLES IN SCHEMA public").await;
    let refused = assert_refused(&server, &database, &sql, "t").await;
    assert_writable(&sql, "t").await;
    assert_eq!(mend(&refused), "ALTER PUBLICATION \"warehouse\" SET (publish_generated_columns = stored);");
    sql.execute("CREATE PUBLICATION everything FOR ALL TABLES").await;
    let refused = assert_refused(&server, &database, &sql, "t").await;
    let message = refused.text();
    assert!(message.contains("`everything`") && message.contains("`warehouse`"), "{message}");
    assert_mended(&server, &sql, &refused, "t").await;
}

#[tokio::test]
async fn our_own_publication_may_be_the_one_that_leaves_generated_columns_out() {
    let Some((database, sql)) = database(GENERATED).await else { return };
    sql.execute("ALTER TABLE t ADD COLUMN twice int GENERATED ALWAYS AS (n * 2) STORED").await;
    // A table that has the identity is broken by the publication alone.
    sql.execute("CREATE TABLE u (LIKE t INCLUDING ALL); ALTER TABLE u REPLICA IDENTITY FULL; INSERT INTO u VALUES (1)").await;
    let name = publication(&database);
    sql.execute(&format!("CREATE PUBLICATION {name}")).await;
    let server = Limn::start(&database, &[]).await;
    let refused = server.get("table=u&columns=id,a&offset=-1").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_writable(&sql, "u").await;
    let refused = assert_refused(&server, &database, &sql, "t").await;
    assert_writable(&sql, "t").await;
    let expected = format!("ALTER PUBLICATION \"{name}\" SET (publish_generated_columns = stored);");
    assert_eq!(mend(&refused), expected);
    assert_mended(&server, &sql, &refused, "t").await;
    server.follow("table=u").await;
    assert_writable(&sql, "u").await;
}

#[tokio::test]
async fn who_publishes_by_hand_is_warned_before_the_identity_is_asked_for() {
    let Some((database, sql)) = database(LISTS).await else { return };
    sql.execute("CREATE PUBLICATION warehouse FOR TABLE t (id)").await;
    let server = Limn::start(&database, &["--manual-table-publishing"]).await;
    let refused = assert_refused(&server, &database, &sql, "t").await;
    assert!(refused.text().contains("publication `warehouse` has a list of columns"), "{}", refused.text());
    sql.execute(&format!("ALTER PUBLICATION {} ADD TABLE t", publication(&database))).await;
    let refused = server.get("table=t&offset=-1").await;
    assert!(refused.text().contains("publication `warehouse` has a list of columns"), "{}", refused.text());
    sql.execute(&mend(&refused).replace("BEGIN; ", "").replace(" COMMIT;", "")).await;
    let refused = server.get("table=t&offset=-1").await;
    assert!(refused.text().contains("replica identity set to FULL"), "{}", refused.text());
    sql.execute("ALTER TABLE t REPLICA IDENTITY FULL").await;
    server.follow("table=t").await;
    assert_writable(&sql, "t").await;
}

/// The entry of a table that health lists, once it does.
async fn warning(server: &Limn) -> serde_json::Value {
    eventually("health warns of the publication", async || {
        let health = server.client().get("/v1/health").await;
        assert_eq!(health.status, 200, "{}", health.text());
        health.json()["degraded"]
            .as_array()?
            .iter()
            .find(|entry| entry["code"] == "publication_conflict")
            .cloned()
    })
    .await
}

#[tokio::test]
async fn a_publication_that_is_made_later_is_warned_of_by_health_and_check() {
    let Some((database, sql)) = database(LISTS).await else { return };
    sql.execute(
        "CREATE TABLE r (id int PRIMARY KEY, a text) PARTITION BY RANGE (id);
         CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10); INSERT INTO r VALUES (1, 'x')",
    )
    .await;
    let server = Limn::start(&database, &[]).await;
    let mut shape = server.follow("table=r").await;
    for listed in ["r1", "r"] {
        let options = if listed == "r" { " WITH (publish_via_partition_root = true)" } else { "" };
        sql.execute(&format!("CREATE PUBLICATION later FOR TABLE {listed} (id){options}")).await;
        assert!(sql.try_execute("UPDATE r SET a = 'y'").await.is_err(), "that is the harm");
        let warning = warning(&server).await;
        let message = warning["message"].as_str().expect("a message");
        assert_eq!(warning["table"], "public.r", "{warning}");
        assert!(
            message.contains(&format!("publication `later` has a list of columns for public.{listed}")),
            "{message}"
        );
        let (server_arguments, told) =
            (server.check_arguments(), message.rsplit('`').nth(1).expect("SQL").to_owned());
        let check = super::check::report(server_arguments).await;
        assert!(check.contains("`later`") && check.contains("UPDATE and DELETE of public.r"), "{check}");
        // Shapes are served all the same: what is told of the table is true.
        sql.execute("INSERT INTO r VALUES (2, 'z')").await;
        assert_eq!(shape.changes(1).await[0]["headers"]["operation"], "insert");
        for statement in told.split_inclusive(';') {
            sql.execute(statement).await;
        }
        sql.execute(&format!("UPDATE r SET a = '{listed}' WHERE id = 1; DELETE FROM r WHERE id = 2")).await;
        shape.changes(2).await;
        eventually("the warning goes", async || {
            let health = server.client().get("/v1/health").await;
            health.json().get("degraded").is_none().then_some(())
        })
        .await;
        sql.execute("DROP PUBLICATION later").await;
    }
    assert_eq!(shape.rotations(), 0);
}

#[tokio::test]
async fn a_generated_column_that_is_added_later_is_warned_of() {
    let Some((database, sql)) = database(GENERATED).await else { return };
    let mut server = Limn::start(&database, &[]).await;
    server.follow("table=t&columns=id,a").await;
    sql.execute("ALTER TABLE t ADD COLUMN twice int GENERATED ALWAYS AS (n * 2) VIRTUAL").await;
    assert!(warning(&server).await["message"].as_str().expect("text").contains("virtual generated columns"));
    // A start finds it as well.
    server.stop().await;
    server.resume().await;
    warning(&server).await;
}
