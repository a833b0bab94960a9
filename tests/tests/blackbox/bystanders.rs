//! The application beside us: nobody waits long behind our locks, and whose transactions concern nobody else are not
//! waited for. Sessions stay open here, so every test has a Postgres of its own.

use super::table;
use limn_tests::{Cluster, Database, Follower, Limn, Response, Sql, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tokio::task::JoinHandle;

/// Any table that is waited for longer than this is told in Postgres's log: far more than we wait, far less than we
/// would have to wait for what holds the lock.
const DEADLOCK: &str = "deadlock_timeout=300ms";

async fn own(settings: &[&str]) -> (Cluster, Database, Sql, Limn) {
    let cluster = Cluster::start(settings).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let server = Limn::start(&database, &[]).await;
    (cluster, database, sql, server)
}

/// An application that reads in a loop and gives up after a second.
struct Application {
    ended: Arc<AtomicBool>,
    reads: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Application {
    async fn read(database: &Database, query: &'static str) -> Self {
        let (ended, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (until, count, sql) = (ended.clone(), reads.clone(), database.connect().await);
        sql.execute("SET lock_timeout = '1s'").await;
        let task = tokio::spawn(async move {
            while !until.load(Ordering::Relaxed) {
                sql.execute(query).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { ended, reads, task }
    }

    /// Every read until now came in time.
    async fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.task.await.expect("no read waits for a second");
        assert!(self.reads.load(Ordering::Relaxed) > 0);
    }
}

/// What a session waits for that asks for a lock of ours is not in the log.
fn assert_nobody_waited(cluster: &Cluster) {
    let log = cluster.log();
    let waits: Vec<&str> = log.lines().filter(|line| line.contains("still waiting for")).collect();
    assert!(waits.is_empty(), "{waits:?}");
}

/// Asks for the shapes of several clients, each another one, in the background.
fn follow(server: &Limn, queries: &[String]) -> Vec<JoinHandle<Follower>> {
    let follower = |query: &String| {
        let mut shape = Follower::new(server.client(), query);
        tokio::spawn(async move {
            shape.sync().await;
            shape
        })
    };
    queries.iter().map(follower).collect()
}

/// Waits until the server has tried to alter an identity: its session shows its last statement.
async fn tried(sql: &Sql) {
    let altering = "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE '%ALTER TABLE % REPLICA IDENTITY FULL%' AND pid <> pg_backend_pid()";
    eventually("the server tries to publish the table", async || {
        (sql.value(altering).await != "0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn reads_do_not_wait_behind_us_while_a_dump_holds_the_table() {
    let (cluster, database, sql, server) = own(&[DEADLOCK, "log_lock_waits=on"]).await;
    let dump = database.connect().await;
    dump.execute("BEGIN; LOCK TABLE t IN ACCESS SHARE MODE").await;
    let application = Application::read(&database, "SELECT * FROM t").await;
    let queries: Vec<String> =
        (0..8).map(|n| format!("table=t&where=id%20%3E%20{n}")).chain(["table=t".to_owned()]).collect();
    let clients = follow(&server, &queries);
    tried(&sql).await;
    let reads = application.reads.load(Ordering::Relaxed);
    eventually("the application has gone on reading", async || {
        (application.reads.load(Ordering::Relaxed) > reads + 200).then_some(())
    })
    .await;
    dump.execute("COMMIT").await;
    for client in clients {
        client.await.expect("is served");
    }
    application.end().await;
    assert_nobody_waited(&cluster);
}

#[tokio::test]
async fn many_partitions_are_published_without_a_wait_that_adds_up() {
    let (cluster, database, sql, server) = own(&[DEADLOCK, "log_lock_waits=on"]).await;
    let partitions: String = (0..60)
        .map(|n| format!("CREATE TABLE r{n} PARTITION OF r FOR VALUES FROM ({n}) TO ({n} + 1);"))
        .collect();
    sql.execute(&format!(
        "CREATE TABLE r (id int PRIMARY KEY, a text) PARTITION BY RANGE (id); {partitions}"
    ))
    .await;
    sql.execute("INSERT INTO r SELECT i, 'x' FROM generate_series(0, 59) i").await;
    let dump = database.connect().await;
    dump.execute("BEGIN; SELECT count(*) FROM r").await;
    // All of its waits together must be short.
    let application =
        Application::read(&database, "SET statement_timeout = '5s'; SELECT count(*) FROM r").await;
    let clients = follow(&server, &["table=r".to_owned(), "table=r&columns=id".to_owned()]);
    tried(&sql).await;
    let reads = application.reads.load(Ordering::Relaxed);
    eventually("the application has gone on reading", async || {
        (application.reads.load(Ordering::Relaxed) > reads + 50).then_some(())
    })
    .await;
    dump.execute("COMMIT").await;
    for client in clients {
        assert_eq!(client.await.expect("is served").rows().len(), 60);
    }
    application.end().await;
    assert_nobody_waited(&cluster);
}

#[tokio::test]
async fn a_new_partition_that_is_locked_holds_neither_looks_nor_other_tables_up() {
    let (cluster, database, sql, server) = own(&[DEADLOCK, "log_lock_waits=on"]).await;
    sql.execute(
        "CREATE TABLE r (id int PRIMARY KEY, a text) PARTITION BY RANGE (id);
         CREATE TABLE r0 PARTITION OF r FOR VALUES FROM (0) TO (10)",
    )
    .await;
    let _shape = server.follow("table=r").await;
    let _other = server.follow("table=t").await;
    let holder = database.connect().await;
    holder.execute("BEGIN; CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (10) TO (20)").await;
    holder.execute("COMMIT; BEGIN; LOCK TABLE r1 IN ACCESS SHARE MODE").await;
    let application = Application::read(&database, "SELECT * FROM r1").await;
    tried(&sql).await;
    sql.execute("ALTER TABLE t DROP COLUMN a").await;
    eventually("a change of another table is noticed", async || {
        let rotations = server.metric(r#"limn_rotations_total{cause="schema_changed"}"#).await;
        (rotations == 1).then_some(())
    })
    .await;
    holder.execute("COMMIT").await;
    eventually("the partition is FULL", async || {
        let full = "SELECT relreplident = 'f' FROM pg_class WHERE relname = 'r1'";
        (sql.value(full).await == "t").then_some(())
    })
    .await;
    application.end().await;
    assert_nobody_waited(&cluster);
}

#[tokio::test]
async fn who_holds_the_lock_is_named() {
    let (_cluster, database, _sql, server) = own(&[]).await;
    let dump = database.connect().await;
    dump.execute("SET application_name = 'nightly dump'; BEGIN; LOCK TABLE t IN ACCESS SHARE MODE").await;
    let pid = dump.value("SELECT pg_backend_pid()::text").await;
    let refused = refused(&server, "table=t").await;
    assert!(
        refused.contains(&format!("process {pid} (application `nightly dump`, role `postgres`")),
        "{refused}"
    );
    dump.execute("COMMIT").await;
    server.follow("table=t").await;
}

#[tokio::test]
async fn autovacuum_gives_way() {
    let (_cluster, _database, sql, server) = own(&[
        "autovacuum=on",
        "autovacuum_naptime=1",
        "autovacuum_vacuum_cost_delay=100ms",
        "autovacuum_vacuum_cost_limit=1",
        "deadlock_timeout=1s",
    ])
    .await;
    sql.execute("CREATE TABLE big (id int PRIMARY KEY, a text)").await;
    sql.execute("INSERT INTO big SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i; DELETE FROM big WHERE id % 2 = 0").await;
    let worker = eventually("autovacuum works on the table", async || {
        let workers = "SELECT pid::text FROM pg_stat_progress_vacuum WHERE relid = 'big'::regclass";
        sql.rows(workers).await.pop()?.into_values().next()?
    })
    .await;
    server.follow("table=big&where=id%20%3C%2010").await;
    // Autovacuum may have begun anew since, by another process.
    let same = format!("SELECT count(*)::text FROM pg_stat_progress_vacuum WHERE pid = {worker}");
    assert_eq!(sql.value(&same).await, "0", "it was interrupted");
}

/// The message of the 503 that a new shape gets in the end.
async fn refused(server: &Limn, query: &str) -> String {
    let refused: Response = server.get(&format!("{query}&offset=-1")).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    refused.json()["message"].as_str().expect("a message").to_owned()
}

#[tokio::test]
async fn transactions_that_do_not_touch_the_table_are_not_waited_for() {
    let (cluster, database, sql, server) = own(&["max_prepared_transactions=10"]).await;
    table(&sql, "other").await;
    let elsewhere = cluster.database().await.connect().await;
    table(&elsewhere, "t").await;
    elsewhere.execute("BEGIN; INSERT INTO t VALUES (10, 'elsewhere', 1)").await;
    let writer = database.connect().await;
    writer.execute("BEGIN; INSERT INTO other VALUES (10, 'open', 1)").await;
    sql.execute("BEGIN; INSERT INTO other VALUES (11, 'prepared', 1); PREPARE TRANSACTION 'forgotten'").await;
    let reader = database.connect().await;
    reader.execute("BEGIN; SELECT pg_current_xact_id(); SELECT count(*) FROM other").await;
    // A single request: had it to wait, it would be told to come again.
    let first = server.get("table=t&offset=-1").await;
    assert_eq!(first.status, 200, "{}", first.text());
    let mut shape = server.follow("table=t").await;
    // They may write it now, and nothing is lost.
    writer.execute("INSERT INTO t VALUES (12, 'later', 1); COMMIT").await;
    assert_eq!(shape.changes(1).await[0]["value"]["id"], "12");
    sql.execute("ROLLBACK PREPARED 'forgotten'").await;
}

#[tokio::test]
async fn a_prepared_transaction_that_wrote_the_table_is_waited_for_and_named() {
    let (_cluster, _database, sql, server) = own(&["max_prepared_transactions=10"]).await;
    sql.execute("ALTER TABLE t REPLICA IDENTITY FULL").await;
    sql.execute("BEGIN; INSERT INTO t VALUES (10, 'prepared', 1); PREPARE TRANSACTION 'it''s mine'").await;
    let message = refused(&server, "table=t").await;
    assert!(message.contains("prepared transaction `it's mine` since 2"), "{message}");
    assert!(message.contains("ROLLBACK PREPARED 'it''s mine';"), "{message}");
    let clients = follow(&server, &["table=t".to_owned()]);
    sql.execute("COMMIT PREPARED 'it''s mine'").await;
    for client in clients {
        let mut shape = client.await.expect("is served");
        assert!(shape.rows().iter().any(|row| row["id"].as_deref() == Some("10")), "{:?}", shape.rows());
        sql.execute("DELETE FROM t WHERE id = 10").await;
        assert_eq!(shape.changes(1).await[0]["headers"]["operation"], "delete");
    }
    sql.execute("BEGIN; INSERT INTO t VALUES (11, 'again', 1); PREPARE TRANSACTION 'late'").await;
    server.follow("table=t&columns=id").await;
    sql.execute("ROLLBACK PREPARED 'late'").await;
}

#[tokio::test]
async fn a_writer_of_one_partition_is_waited_for_and_named() {
    let (_cluster, database, sql, server) = own(&[]).await;
    sql.execute(
        "CREATE TABLE r (id int PRIMARY KEY, a text) PARTITION BY RANGE (id);
         CREATE TABLE r0 PARTITION OF r FOR VALUES FROM (0) TO (10);
         CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (10) TO (20);
         ALTER TABLE r REPLICA IDENTITY FULL; ALTER TABLE r0 REPLICA IDENTITY FULL; ALTER TABLE r1 REPLICA IDENTITY FULL",
    )
    .await;
    for through in ["r1", "r"] {
        let writer = database.connect().await;
        let pid = writer.value("SELECT pg_backend_pid()::text").await;
        sql.execute("DELETE FROM r").await;
        writer.execute(&format!("BEGIN; SAVEPOINT a; INSERT INTO {through} VALUES (11, 'open')")).await;
        // One partition does not concern the other.
        server.follow("table=r0").await;
        let message = refused(&server, "table=r").await;
        assert!(
            message.contains(&format!("process {pid} (")) && message.contains("idle in transaction"),
            "{message}"
        );
        let clients = follow(&server, &["table=r".to_owned()]);
        writer.execute("INSERT INTO r VALUES (1, 'more'); COMMIT").await;
        for client in clients {
            let lsn = server.barrier(&sql).await;
            let mut shape = client.await.expect("is served");
            shape.sync_to(lsn).await;
            assert_eq!(shape.rows().len(), 2, "{:?}", shape.rows());
        }
        let name = format!("electric_publication_{}", database.name);
        sql.execute(&format!("ALTER PUBLICATION {name} DROP TABLE r")).await;
        eventually("the shape is gone", async || {
            let rotations = server.metric(r#"limn_rotations_total{cause="unpublished"}"#).await;
            (rotations > 0).then_some(())
        })
        .await;
    }
}
