//! What the server follows goes wrong under it: health says so, and nothing is called up to date.

use super::table;
use limn_tests::{Cluster, Database, Follower, Limn, Request, Response, Signal, Sql, eventually, signal};
use serde_json::json;

async fn health(server: &Limn) -> Response {
    server.client().get("/v1/health").await
}

async fn wait_unsound(server: &Limn, code: &str) {
    eventually(&format!("health says `{code}`"), async || {
        let health = health(server).await;
        let told = json!({ "status": "unsound", "code": code });
        (health.status == 503 && health.json() == told).then_some(())
    })
    .await;
}

fn assert_unsound(response: &Response, code: &str, what: &str) {
    assert_eq!(response.status, 503, "{what}: {}", response.text());
    assert_eq!(response.json()["code"], code, "{what}");
    assert_eq!(response.header("retry-after"), Some("5"), "{what}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{what}");
}

/// Whatever would say up-to-date says the code instead.
async fn assert_nothing_is_up_to_date(server: &Limn, shape: &Follower, code: &str) {
    let client = server.client();
    assert_unsound(&client.get(&shape.target(true)).await, code, "live");
    assert_unsound(&client.get(&shape.target(false)).await, code, "catching up");
    assert_unsound(&server.get("table=t&offset=now").await, code, "now");
    let events = client.get(&format!("{}&live_sse=true", shape.target(true))).await;
    assert_unsound(&events, code, "events");
}

/// The table `t` of a server with a Postgres of its own.
async fn followed(options: &[&str]) -> (Cluster, Database, Sql, Limn, Follower) {
    let cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let server = Limn::start(&database, options).await;
    let shape = server.follow("table=t").await;
    (cluster, database, sql, server, shape)
}

fn publication(database: &Database) -> String {
    format!("electric_publication_{}", database.name)
}

async fn assert_true_again(server: &mut Limn, sql: &Sql, shape: &mut Follower) {
    server.wait_active().await;
    sql.execute("INSERT INTO t VALUES (100, 'again', 1)").await;
    let rows: usize = sql.value("SELECT count(*)::text FROM t").await.parse().expect("a number");
    eventually("the shape shows the table", async || {
        shape.step(true).await;
        (shape.rows().len() == rows).then_some(())
    })
    .await;
}

/// Writes until the only slot of a server that keeps little WAL is lost.
pub(super) async fn lose_wal(sql: &Sql) {
    sql.execute("CREATE TABLE w (a text)").await;
    eventually("the slot's WAL is gone", async || {
        sql.execute("INSERT INTO w SELECT repeat('x', 1000) FROM generate_series(1, 20000)").await;
        sql.execute("SELECT pg_switch_wal()").await;
        sql.execute("CHECKPOINT").await;
        (sql.value("SELECT wal_status FROM pg_replication_slots").await == "lost").then_some(())
    })
    .await;
}

fn shows(shape: &Follower, column: &str, value: &str) -> bool {
    shape.rows().iter().any(|row| row[column].as_deref() == Some(value))
}

#[tokio::test]
async fn a_slot_that_is_dropped_is_told_until_its_shapes_start_over() {
    let (_cluster, database, sql, mut server, mut shape) = followed(&[]).await;
    let writer = database.connect().await;
    // A new slot waits for it.
    writer.execute("BEGIN; INSERT INTO t VALUES (50, 'open', 1)").await;
    let slot = format!("electric_slot_{}", database.name);
    let end = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
    eventually("the slot is dropped", async || {
        sql.execute(&end).await;
        sql.try_execute(&drop).await.ok()
    })
    .await;
    wait_unsound(&server, "slot_lost").await;
    assert_nothing_is_up_to_date(&server, &shape, "slot_lost").await;
    let stored = server.get("table=t&offset=-1").await;
    assert_eq!(
        (stored.status, stored.header("electric-up-to-date")),
        (200, None),
        "what is stored is served"
    );
    writer.execute("COMMIT").await;
    assert_true_again(&mut server, &sql, &mut shape).await;
    assert_eq!(shape.rotations(), 1);
    assert_eq!(server.metric(r#"limn_rotations_total{cause="slot_lost"}"#).await, 1);
}

#[tokio::test]
async fn a_slot_whose_wal_is_gone_is_made_anew() {
    let cluster =
        Cluster::start(&["max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=32MB"]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let mut server = Limn::start(&database, &[]).await;
    let mut shape = server.follow("table=t").await;
    server.signal(Signal::SIGSTOP);
    lose_wal(&sql).await;
    server.signal(Signal::SIGCONT);
    eventually("the shape starts over", async || {
        shape.step(true).await;
        (shape.rotations() == 1).then_some(())
    })
    .await;
    assert_true_again(&mut server, &sql, &mut shape).await;
}

#[tokio::test]
async fn a_publication_that_is_dropped_is_told_until_its_shapes_start_over() {
    let (_cluster, database, sql, mut server, mut shape) = followed(&[]).await;
    let writer = database.connect().await;
    writer.execute("BEGIN; INSERT INTO t VALUES (50, 'open', 1)").await;
    sql.execute(&format!("DROP PUBLICATION {}", publication(&database))).await;
    wait_unsound(&server, "publication").await;
    assert_nothing_is_up_to_date(&server, &shape, "publication").await;
    writer.execute("COMMIT").await;
    assert_true_again(&mut server, &sql, &mut shape).await;
    assert_eq!(shape.rotations(), 1);
}

#[tokio::test]
async fn a_publication_that_was_replaced_between_two_looks_is_another_one() {
    let (_cluster, database, sql, mut server, mut shape) = followed(&[]).await;
    let name = publication(&database);
    sql.execute(&format!(
        "BEGIN; DROP PUBLICATION {name}; UPDATE t SET n = 7; CREATE PUBLICATION {name} FOR TABLE t; COMMIT"
    ))
    .await;
    eventually("the shape starts over", async || {
        shape.step(true).await;
        (shape.rotations() > 0).then_some(())
    })
    .await;
    assert_true_again(&mut server, &sql, &mut shape).await;
    assert!(!shows(&shape, "n", "10"), "{:?}", shape.rows());
}

#[tokio::test]
async fn a_publication_of_somebody_else_that_was_replaced_is_another_one() {
    let cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let name = publication(&database);
    sql.execute(&format!("CREATE PUBLICATION {name} FOR TABLE t; ALTER TABLE t REPLICA IDENTITY FULL")).await;
    sql.execute("CREATE ROLE reader LOGIN REPLICATION; GRANT SELECT ON t TO reader").await;
    let mut server = Limn::stopped(&database, &["--manual-table-publishing"]);
    server.log_in_as("reader");
    server.resume().await;
    let mut shape = server.follow("table=t").await;
    // Nobody may note anything at it, and what is written meanwhile is in no publication.
    for statement in ["DROP PUBLICATION %", "UPDATE t SET n = 7", "CREATE PUBLICATION % FOR TABLE t"] {
        sql.execute(&statement.replace('%', &name)).await;
    }
    eventually("the shape starts over", async || {
        shape.step(true).await;
        (shape.rotations() > 0).then_some(())
    })
    .await;
    assert_true_again(&mut server, &sql, &mut shape).await;
    assert!(!shows(&shape, "n", "10"), "{:?}", shape.rows());
}

#[tokio::test]
async fn a_publication_that_leaves_changes_out_is_told_until_it_is_mended() {
    let (_cluster, database, sql, mut server, mut shape) = followed(&[]).await;
    let (client, live) = (server.client(), shape.target(true));
    let waiting = tokio::spawn(async move { client.get(&live).await });
    server.wait_parked(1).await;
    let alter = format!("ALTER PUBLICATION {} SET", publication(&database));
    sql.execute(&format!("{alter} (publish = 'insert'); UPDATE t SET n = 99 WHERE id = 1")).await;
    wait_unsound(&server, "publication").await;
    assert_unsound(&waiting.await.expect("is answered"), "publication", "who waited");
    assert_nothing_is_up_to_date(&server, &shape, "publication").await;
    sql.execute(&format!("{alter} (publish = 'insert, update, delete, truncate')")).await;
    assert_true_again(&mut server, &sql, &mut shape).await;
    assert_eq!(shape.rotations(), 1);
    assert_eq!(server.metric(r#"limn_rotations_total{cause="publication_altered"}"#).await, 1);
    assert!(shows(&shape, "n", "99"), "the update was not published: {:?}", shape.rows());
}

/// Returns once the server has seen it, and so the table.
async fn lose_identity_for_a_while(sql: &Sql) {
    sql.execute("ALTER TABLE t REPLICA IDENTITY DEFAULT").await;
    eventually("it is FULL again", async || {
        let identity = "SELECT relreplident::text FROM pg_class WHERE oid = 't'::regclass";
        (sql.value(identity).await == "f").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_table_that_was_taken_out_and_put_back_between_two_looks_starts_over() {
    let (_cluster, database, sql, mut server, mut shape) = followed(&[]).await;
    let other = server.follow("table=t&columns=id").await;
    let alter = format!("ALTER PUBLICATION {}", publication(&database));
    lose_identity_for_a_while(&sql).await;
    sql.execute(&format!("BEGIN; {alter} DROP TABLE t; UPDATE t SET n = 7; {alter} ADD TABLE t; COMMIT"))
        .await;
    eventually("the shape starts over", async || {
        shape.step(true).await;
        (shape.rotations() > 0).then_some(())
    })
    .await;
    let gone = server.get(&format!("table=t&columns=id&handle={}&offset=0_inf", other.handle())).await;
    assert_eq!(gone.status, 409);
    assert_true_again(&mut server, &sql, &mut shape).await;
}

#[tokio::test]
async fn a_second_server_that_reads_along_says_so_too() {
    let (_cluster, database, sql, mut server, mut shape) = followed(&[]).await;
    let mut second = server.twin();
    second.spawn();
    let client = second.client();
    eventually("the second server reads along", async || {
        let request = Request { method: "GET", target: "/v1/shape?table=t&offset=-1", ..Request::default() };
        client.try_send(&request).await.ok().filter(|response| response.status == 200)
    })
    .await;
    let alter = format!("ALTER PUBLICATION {} SET", publication(&database));
    sql.execute(&format!("{alter} (publish = 'insert')")).await;
    wait_unsound(&second, "publication").await;
    assert_unsound(&client.get(&shape.target(true)).await, "publication", "live");
    sql.execute(&format!("{alter} (publish = 'insert, update, delete, truncate')")).await;
    assert_true_again(&mut server, &sql, &mut shape).await;
    let mut along = Follower::new(client, "table=t");
    eventually("the second server shows the table", async || {
        along.step(false).await;
        (along.rows().len() == shape.rows().len()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_publication_with_a_row_filter_is_refused_with_what_mends_it() {
    let (_cluster, database, sql, mut server, mut shape) = followed(&[]).await;
    let version: u32 = sql.value("SHOW server_version_num").await.parse().expect("a number");
    if version < 150_000 {
        return;
    }
    let name = publication(&database);
    sql.execute(&format!("ALTER PUBLICATION {name} SET TABLE t WHERE (n > 10)")).await;
    let refused = eventually("the shape is refused", async || {
        let response = server.get("table=t&offset=-1").await;
        (response.status == 503).then_some(response)
    })
    .await;
    let message = refused.json()["message"].as_str().expect("a message").to_owned();
    let mend =
        message.split('`').find(|part| part.starts_with("ALTER")).expect("SQL in backticks").to_owned();
    sql.execute(&mend).await;
    assert_true_again(&mut server, &sql, &mut shape).await;
    assert!(shape.rotations() > 0);
}

#[tokio::test]
async fn a_lost_identity_is_set_again_by_the_owner() {
    let (_cluster, _database, sql, mut server, mut shape) = followed(&[]).await;
    lose_identity_for_a_while(&sql).await;
    assert_true_again(&mut server, &sql, &mut shape).await;
    assert_eq!(shape.rotations(), 0);
}

/// Stops a process of the test's own Postgres, and lets it go on in the end.
pub(super) struct Stopped(u32);

impl Stopped {
    pub(super) fn new(process: u32) -> Self {
        signal(process, Signal::SIGSTOP);
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, Signal::SIGCONT);
    }
}

#[tokio::test]
async fn a_stream_that_stands_still_is_told_until_it_goes_on() {
    let (_cluster, _database, sql, mut server, mut shape) = followed(&[]).await;
    let walsender = sql.value("SELECT active_pid::text FROM pg_replication_slots").await;
    let stopped = Stopped::new(walsender.parse().expect("a process id"));
    sql.execute("INSERT INTO t VALUES (60, 'unseen', 1)").await;
    wait_unsound(&server, "stalled").await;
    assert_nothing_is_up_to_date(&server, &shape, "stalled").await;
    let stored = server.get("table=t&offset=-1").await;
    assert_eq!(
        (stored.status, stored.header("electric-up-to-date")),
        (200, None),
        "what is stored is served"
    );
    drop(stopped);
    assert_true_again(&mut server, &sql, &mut shape).await;
    assert_eq!(shape.rotations(), 0);
}
