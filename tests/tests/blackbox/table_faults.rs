//! What is wrong with one table concerns the shapes that read it: they say so, and everything else goes on.

use super::table;
use limn_tests::{Cluster, Database, Follower, Limn, Request, Response, Sql, command, eventually};
use serde_json::{Value, json};

/// A server that alters nothing, with two published tables: `t`, and `m` with the partition `m_1`.
struct World {
    _cluster: Cluster,
    database: Database,
    sql: Sql,
    server: Limn,
}

/// A partition as a partition manager makes it: nobody sets its replica identity.
const NEW_PARTITION: &str = "CREATE TABLE m_2 PARTITION OF m FOR VALUES FROM (100) TO (200)";

/// A shape of another table whose subquery reads `m`.
const BY_SUBQUERY: &str = "table=t&where=id%20IN%20(SELECT%20id%20FROM%20m)";

impl World {
    async fn new() -> Self {
        let cluster = Cluster::start(&[]).await;
        let database = cluster.database().await;
        let sql = database.connect().await;
        table(&sql, "t").await;
        sql.execute(&format!(
            "CREATE TABLE m (id int PRIMARY KEY, a text) PARTITION BY RANGE (id);
             CREATE TABLE m_1 PARTITION OF m FOR VALUES FROM (0) TO (100);
             INSERT INTO m VALUES (1, 'one');
             ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE m REPLICA IDENTITY FULL;
             ALTER TABLE m_1 REPLICA IDENTITY FULL;
             CREATE PUBLICATION electric_publication_{} FOR TABLE t, m",
            database.name
        ))
        .await;
        let server = Limn::start(&database, &["--manual-table-publishing"]).await;
        Self { _cluster: cluster, database, sql, server }
    }

    /// Writes to `t`, and waits until its shape shows it.
    async fn assert_goes_on(&self, shape: &mut Follower, id: u32) {
        self.sql.execute(&format!("INSERT INTO t VALUES ({id}, 'more', 1)")).await;
        let changes = shape.changes(1).await;
        assert_eq!(changes[0]["value"]["id"], id.to_string());
    }
}

async fn health(server: &Limn) -> Response {
    server.client().get("/v1/health").await
}

/// Waits until health lists the table with that code, and returns the entry.
async fn wait_degraded(server: &Limn, status: u16, table: &str, code: &str) -> Value {
    eventually(&format!("health lists {table}"), async || {
        let health = health(server).await;
        let listed = health.json()["degraded"].as_array()?.clone();
        assert_eq!(health.status, status, "{}", health.text());
        listed.into_iter().find(|entry| entry["table"] == table && entry["code"] == code)
    })
    .await
}

async fn wait_mended(server: &Limn) {
    eventually("health lists no table", async || {
        (health(server).await.json() == json!({ "status": "active" })).then_some(())
    })
    .await;
}

fn assert_fault(response: &Response, what: &str) {
    assert_eq!(response.status, 503, "{what}: {}", response.text());
    assert_eq!(response.json()["code"], "replica_identity", "{what}");
    assert_eq!(response.header("retry-after"), Some("5"), "{what}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{what}");
}

/// The statements in backticks.
fn statements(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

#[tokio::test]
async fn a_partition_without_identity_concerns_the_shapes_of_its_table() {
    let World { server, sql, .. } = &World::new().await;
    let (mut t, m) = (server.follow("table=t").await, server.follow("table=m").await);
    let by_subquery = server.follow(BY_SUBQUERY).await;
    let (client, live) = (server.client(), m.target(true));
    let parked = tokio::spawn(async move { client.get(&live).await });
    let (client, live) = (server.client(), format!("{}&live_sse=true", m.target(true)));
    let events = tokio::spawn(async move { client.get(&live).await });
    server.wait_parked(1).await;
    sql.execute(NEW_PARTITION).await;
    let entry = wait_degraded(server, 200, "public.m", "replica_identity").await;
    assert_fault(&parked.await.expect("is answered"), "who waited");
    assert_eq!(events.await.expect("ends").status, 200, "the stream had begun, and ends");
    for shape in [&m, &by_subquery] {
        assert_fault(&server.client().get(&shape.target(true)).await, "live");
        assert_fault(&server.client().get(&shape.target(false)).await, "catching up");
        let events = server.client().get(&format!("{}&live_sse=true", shape.target(true))).await;
        assert_fault(&events, "events");
    }
    assert_fault(&server.get("table=m&offset=now").await, "now");
    assert_fault(&server.get("table=m&offset=-1&subset__where=id%3D1").await, "subset");
    let stored = server.get("table=m&offset=-1").await;
    assert_eq!((stored.status, stored.header("electric-up-to-date")), (200, None), "{}", stored.text());
    sql.execute("INSERT INTO t VALUES (50, 'goes on', 1)").await;
    assert_eq!(t.changes(1).await[0]["value"]["id"], "50");
    assert_eq!(server.get("table=t&offset=-1&subset__where=id%3D1").await.status, 200);
    let new = server.follow("table=t&columns=id").await;
    assert_eq!(new.rows().len(), 4, "new shapes of other tables are made");

    let message = entry["message"].as_str().expect("a message");
    assert_eq!(statements(message)[0], "ALTER TABLE ONLY public.m_2 REPLICA IDENTITY FULL;", "{message}");
    sql.execute(statements(message)[0]).await;
    wait_mended(server).await;
    let mut m = m;
    sql.execute("INSERT INTO m VALUES (101, 'new')").await;
    m.changes(1).await;
    assert_eq!((m.rows().len(), m.rotations()), (2, 0), "nothing was lost");
}

#[tokio::test]
async fn the_check_finds_it_and_its_statement_mends_it() {
    let World { server, sql, database, .. } = &World::new().await;
    server.follow("table=m").await;
    sql.execute(NEW_PARTITION).await;
    wait_degraded(server, 200, "public.m", "replica_identity").await;
    let mut check = command();
    check.arg("check").args(server.check_arguments()).arg("--json");
    let output =
        tokio::task::spawn_blocking(move || check.output().expect("it runs")).await.expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let run = report["findings"].as_array().expect("a list").iter().find_map(|finding| {
        let run = finding["run"].as_str().filter(|_| finding["level"] == "error")?;
        run.contains("m_2").then(|| run.to_owned())
    });
    let run = run.unwrap_or_else(|| unreachable!("{report}"));
    database.connect().await.execute(&run).await;
    wait_mended(server).await;
}

#[tokio::test]
async fn a_restart_judges_the_tables_before_it_says_up_to_date() {
    let mut world = World::new().await;
    let m = world.server.follow("table=m").await;
    let mut t = world.server.follow("table=t").await;
    world.server.wait_durable(&m).await;
    world.server.wait_durable(&t).await;
    world.server.stop().await;
    world.sql.execute(NEW_PARTITION).await;
    world.server.spawn();
    let client = world.server.client();
    let target = m.target(false);
    let fault = eventually("the restarted server judges the table", async || {
        let request = Request { method: "GET", target: &target, ..Request::default() };
        let response = client.try_send(&request).await.ok()?;
        assert_eq!(response.status, 503, "never up-to-date: {}", response.text());
        (response.json()["code"] == "replica_identity").then_some(response)
    })
    .await;
    assert_fault(&fault, "after the restart");
    world.server.wait_active().await;
    world.assert_goes_on(&mut t, 60).await;
    assert_eq!(t.rotations(), 0);
}

#[tokio::test]
async fn a_second_server_says_the_same() {
    let world = World::new().await;
    let World { server, sql, .. } = &world;
    let (m, t) = (server.follow("table=m").await, server.follow("table=t").await);
    let mut second = server.twin();
    second.spawn();
    second.wait_health("waiting").await;
    let client = second.client();
    eventually("the second server reads along", async || {
        let request = Request { method: "GET", target: &m.target(false), ..Request::default() };
        client.try_send(&request).await.ok().filter(|response| response.status == 200)
    })
    .await;
    sql.execute(NEW_PARTITION).await;
    wait_degraded(&second, 202, "public.m", "replica_identity").await;
    assert_fault(&client.get(&m.target(true)).await, "live");
    let mut along = t;
    along.move_to(client);
    world.assert_goes_on(&mut along, 70).await;
}

#[tokio::test]
async fn incomplete_old_rows_are_told_until_somebody_mends_them() {
    let World { server, sql, .. } = &World::new().await;
    let mut t = server.follow("table=t").await;
    sql.execute("ALTER TABLE t REPLICA IDENTITY DEFAULT").await;
    wait_degraded(server, 200, "public.t", "replica_identity").await;
    assert_fault(&server.client().get(&t.target(true)).await, "live");
    sql.execute("ALTER TABLE t REPLICA IDENTITY FULL").await;
    wait_mended(server).await;
    sql.execute("INSERT INTO t VALUES (100, 'again', 1)").await;
    t.changes(1).await;
    assert_eq!((t.rows().len(), t.rotations()), (4, 0), "nothing was lost");
}

#[tokio::test]
async fn a_clause_that_takes_too_long_concerns_its_shape() {
    let World { server, sql, .. } = &World::new().await;
    // It is not as immutable as it says: only so can it take its time.
    sql.execute(
        "CREATE FUNCTION slow(n int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
         $$ BEGIN IF n = 99 THEN PERFORM pg_sleep(120); END IF; RETURN true; END $$",
    )
    .await;
    let slow = server.follow("table=m&where=slow(id)").await;
    let mut t = server.follow("table=t").await;
    sql.execute("INSERT INTO m VALUES (99, 'slow')").await;
    sql.execute("INSERT INTO t VALUES (60, 'behind it', 1)").await;
    t.changes(1).await;
    let cause = r#"limn_rotations_total{cause="refused_by_postgres"}"#;
    assert_eq!((server.metric(cause).await, slow.rotations()), (1, 0));
}
