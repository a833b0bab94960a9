//! Items 215, 216: the publication and the replica identity.

use super::{shared, table};
use limn_tests::{Cluster, Limn, Sql, eventually};
use serde_json::json;

async fn identity(sql: &Sql) -> String {
    sql.value("SELECT relreplident::text FROM pg_class WHERE oid = 't'::regclass").await
}

async fn published(sql: &Sql) -> String {
    sql.value("SELECT count(*)::text FROM pg_publication_tables WHERE tablename = 't'").await
}

#[tokio::test]
async fn item_215_a_table_is_published_with_its_first_shape() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    assert_eq!((identity(&sql).await.as_str(), published(&sql).await.as_str()), ("d", "0"));
    server.follow("table=t").await;
    assert_eq!((identity(&sql).await.as_str(), published(&sql).await.as_str()), ("f", "1"));
}

#[tokio::test]
async fn item_216_by_hand_it_is_published_by_hand() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let publication = format!("electric_publication_{}", database.name);
    let server = Limn::start(&database, &["--manual-table-publishing"]).await;
    let names = "SELECT count(*)::text FROM pg_publication WHERE pubname LIKE 'electric%'";
    assert_eq!(sql.value(names).await, "1", "the publication is made, without tables");
    let missing = format!(
        "Database table \"public.t\" is missing from the publication \"{publication}\" and the \
         ELECTRIC_MANUAL_TABLE_PUBLISHING setting prevents Electric from adding it"
    );
    assert_not_published(&server, &missing).await;
    assert_eq!((identity(&sql).await.as_str(), published(&sql).await.as_str()), ("d", "0"));

    sql.execute(&format!("ALTER PUBLICATION {publication} ADD TABLE t")).await;
    let partial = "Database table \"public.t\" does not have its replica identity set to FULL";
    assert_not_published(&server, partial).await;
    assert_eq!(identity(&sql).await, "d", "nothing was altered");

    sql.execute("ALTER TABLE t REPLICA IDENTITY FULL").await;
    let mut shape = server.follow("table=t").await;
    sql.execute("UPDATE t SET n = 11 WHERE id = 1").await;
    assert_eq!(shape.changes(1).await[0]["value"]["n"], "11");
}

async fn assert_not_published(server: &Limn, message: &str) {
    let refused = server.get("table=t&offset=-1").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json(), json!({ "message": message }));
    assert_eq!(refused.header("retry-after"), Some("10"));
    assert_eq!(refused.header("electric-internal-known-error"), Some("true"));
}

#[tokio::test]
async fn item_216_what_is_missing_is_logged_once() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    let publication = format!("electric_publication_{}", database.name);
    let server = Limn::start(&database, &["--manual-table-publishing"]).await;
    for name in ["t", "u", "v"] {
        table(&sql, name).await;
        sql.execute(&format!(
            "ALTER PUBLICATION {publication} ADD TABLE {name}; ALTER TABLE {name} REPLICA IDENTITY FULL"
        ))
        .await;
        server.follow(&format!("table={name}")).await;
    }
    let told = |name: &str| {
        let table = format!("public.{name}");
        let says = |line: &&str| line.contains(&table) && line.contains("replica identity");
        server.output().lines().filter(says).count()
    };
    // Each is noticed by a later look than the one before it, at which nothing more is said of that one.
    for name in ["t", "u", "v"] {
        sql.execute(&format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT")).await;
        eventually("it is noticed", async || (told(name) > 0).then_some(())).await;
    }
    assert_eq!(["t", "u", "v"].map(told), [1, 1, 1]);
    assert_eq!(identity(&sql).await, "d", "nothing was altered");
}

#[tokio::test]
async fn item_216_a_publication_of_all_tables_or_of_a_schema_holds_the_table() {
    let version: u32 = Cluster::shared()
        .await
        .database()
        .await
        .connect()
        .await
        .value("SELECT current_setting('server_version_num')")
        .await
        .parse()
        .expect("a number");
    for everything in ["FOR ALL TABLES", "FOR TABLES IN SCHEMA public"] {
        if version < 150_000 && everything.contains("SCHEMA") {
            continue;
        }
        let database = Cluster::shared().await.database().await;
        let sql = database.connect().await;
        table(&sql, "t").await;
        sql.execute(&format!(
            "CREATE PUBLICATION electric_publication_{} {everything}; ALTER TABLE t REPLICA IDENTITY FULL",
            database.name
        ))
        .await;
        let server = Limn::start(&database, &["--manual-table-publishing"]).await;
        let mut shape = server.follow("table=t").await;
        sql.execute("UPDATE t SET n = 11 WHERE id = 1").await;
        assert_eq!(shape.changes(1).await[0]["value"]["n"], "11", "{everything}");
    }
}

#[tokio::test]
async fn item_215_a_locked_table_holds_no_other_one_up() {
    let cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    let (sql, holder) = (database.connect().await, database.connect().await);
    table(&sql, "t").await;
    table(&sql, "u").await;
    let server = Limn::start(&database, &[]).await;
    server.follow("table=t").await;
    let mut all = server.follow("table=u").await;
    holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
    assert_eq!(server.follow("table=u&columns=id").await.rows().len(), 3, "a shape is made");
    sql.execute("ALTER TABLE u DROP COLUMN a").await;
    eventually("a change of the catalog is noticed", async || {
        all.step(false).await;
        (all.rotations() == 1).then_some(())
    })
    .await;
    holder.execute("COMMIT").await;
}

/// A server of a role that owns neither the table `t` nor the publication.
async fn as_guest(database: &limn_tests::Database, sql: &Sql, publication: &str) -> Limn {
    let role = format!("guest_{}", database.name);
    sql.execute(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION; GRANT SELECT ON t TO {role};
         CREATE PUBLICATION electric_publication_{} {publication}",
        database.name
    ))
    .await;
    let mut server = Limn::stopped(database, &[]);
    server.log_in_as(&role);
    server.resume().await;
    server
}

/// Runs the statements of a 503 as the superuser.
async fn run_what_it_says(server: &Limn, sql: &Sql) -> String {
    let refused = server.get("table=t&offset=-1").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    let message = refused.json()["message"].as_str().expect("a message").to_owned();
    let run = message.split('`').find(|part| part.starts_with("ALTER")).expect("SQL in backticks");
    sql.execute(run).await;
    message
}

#[tokio::test]
async fn a_publication_of_all_tables_by_somebody_else_serves_what_is_prepared() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let mut server = as_guest(&database, &sql, "FOR ALL TABLES").await;
    sql.execute(&format!(
        "COMMENT ON PUBLICATION electric_publication_{} IS 'of the warehouse'",
        database.name
    ))
    .await;
    let message = run_what_it_says(&server, &sql).await;
    assert!(message.contains("`ALTER TABLE ONLY public.t REPLICA IDENTITY FULL;`"), "{message}");
    let mut shape = server.follow("table=t").await;
    server.wait_durable(&shape).await;
    sql.execute("UPDATE t SET n = 11 WHERE id = 1").await;
    assert_eq!(shape.changes(1).await[0]["value"]["n"], "11");
    server.stop().await;
    sql.execute("UPDATE t SET n = 12 WHERE id = 1").await;
    server.resume().await;
    assert_eq!(shape.changes(1).await[0]["value"]["n"], "12");
    assert_eq!(shape.rotations(), 0, "somebody else's comment is no reason to start over");
    let check = super::check::report(server.check_arguments()).await;
    assert!(check.contains("\"ok\":true"), "{check}");
}

#[tokio::test]
async fn a_publication_of_somebody_else_is_told_what_to_add() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let server = as_guest(&database, &sql, "").await;
    let message = run_what_it_says(&server, &sql).await;
    assert!(message.contains("ADD TABLE ONLY public.t;"), "{message}");
    assert_eq!((identity(&sql).await.as_str(), published(&sql).await.as_str()), ("f", "1"));
    let mut shape = server.follow("table=t").await;
    sql.execute("UPDATE t SET n = 11 WHERE id = 1").await;
    assert_eq!(shape.changes(1).await[0]["value"]["n"], "11");
}

#[tokio::test]
async fn nothing_is_altered_where_only_the_publication_is_somebody_elses() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let server = as_guest(&database, &sql, "").await;
    sql.execute(&format!("ALTER TABLE t OWNER TO guest_{}", database.name)).await;
    let refused = server.get("table=t&offset=-1").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!((identity(&sql).await.as_str(), published(&sql).await.as_str()), ("d", "0"));
    run_what_it_says(&server, &sql).await;
    server.follow("table=t").await;
    assert_eq!((identity(&sql).await.as_str(), published(&sql).await.as_str()), ("f", "1"));
}
