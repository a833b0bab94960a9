//! Tables whose rows never reach the WAL: unlogged and foreign ones, themselves or below a table. A snapshot would show
//! their rows, and no change of them would ever be told.

use super::{must_refetch, table};
use limn_tests::{Cluster, Database, Follower, Limn, Response, Sql, command, encode, eventually};
use serde_json::Value;
use tokio::task::spawn_blocking;

const NOWHERE: &str =
    "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere";

struct World {
    _cluster: Cluster,
    database: Database,
    sql: Sql,
    server: Limn,
}

impl World {
    /// `p` is partitioned and has two levels, `i` has children.
    async fn new() -> Self {
        let cluster = Cluster::start(&[]).await;
        let database = cluster.database().await;
        let sql = database.connect().await;
        table(&sql, "t").await;
        sql.execute(&format!(
            "{NOWHERE};
             CREATE TABLE p (id int NOT NULL, a text) PARTITION BY RANGE (id);
             CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (100);
             CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
             CREATE TABLE i (id int, a text); CREATE TABLE i_1 () INHERITS (i);
             INSERT INTO p VALUES (1, 'one'); INSERT INTO i VALUES (1, 'one')"
        ))
        .await;
        let server = Limn::start(&database, &[]).await;
        Self { _cluster: cluster, database, sql, server }
    }
}

/// What brings rows without WAL below a table; the table; what names it in the refusal; what it says to run.
const INTRUDERS: [(&str, &str, &str, &str); 5] = [
    (
        "CREATE UNLOGGED TABLE p_3 PARTITION OF p FOR VALUES FROM (200) TO (300)",
        "p",
        "its partition public.p_3 is unlogged",
        "ALTER TABLE public.p_3 SET LOGGED;",
    ),
    (
        "CREATE FOREIGN TABLE p_3 PARTITION OF p FOR VALUES FROM (200) TO (300) SERVER nowhere",
        "p",
        "its partition public.p_3 is a foreign table",
        "ALTER TABLE public.p DETACH PARTITION public.p_3;",
    ),
    (
        "CREATE UNLOGGED TABLE p_21 PARTITION OF p_2 FOR VALUES FROM (100) TO (110)",
        "p",
        "its partition public.p_21 is unlogged",
        "ALTER TABLE public.p_21 SET LOGGED;",
    ),
    (
        "CREATE UNLOGGED TABLE i_2 () INHERITS (i_1)",
        "i",
        "its child table public.i_2 is unlogged",
        "ALTER TABLE public.i_2 SET LOGGED;",
    ),
    (
        "CREATE FOREIGN TABLE i_2 () INHERITS (i) SERVER nowhere",
        "i",
        "its child table public.i_2 is a foreign table",
        "ALTER TABLE public.i_2 NO INHERIT public.i;",
    ),
];

fn by_subquery(table: &str) -> String {
    format!("table=t&where={}", encode(&format!("id IN (SELECT id FROM {table})")))
}

/// Holds a refusal against what it must say, and returns the statement that it names first.
fn assert_refused(response: &Response, named: &str, run: &str) -> String {
    assert_eq!(response.status, 400, "{}", response.text());
    let body = response.json();
    let text = body["errors"]["table"][0].as_str().unwrap_or_else(|| unreachable!("{body}"));
    assert!(text.contains(named), "`{named}` is not in {text}");
    let statement = text.split('`').nth(1).unwrap_or_else(|| unreachable!("no statement in {text}"));
    assert_eq!(statement, run);
    statement.to_owned()
}

/// The statements that `limn check` names for tables that must be mended.
async fn check(server: &Limn) -> Vec<String> {
    let mut check = command();
    check.arg("check").args(server.check_arguments()).arg("--json");
    let output = spawn_blocking(move || check.output().expect("it runs")).await.expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("a list").iter();
    let errors = findings.filter(|finding| finding["check"] == "tables" && finding["level"] == "error");
    errors.map(|finding| finding["run"].as_str().expect("what to run").to_owned()).collect()
}

/// Waits until the shape is told to start over.
async fn wait_rotated(server: &Limn, shape: &Follower) {
    let refused = eventually("the shape starts over", async || {
        let response = server.client().get(&shape.target(false)).await;
        (response.status != 200).then_some(response)
    })
    .await;
    assert_eq!((refused.status, refused.json()), (409, must_refetch()), "{}", refused.text());
}

#[tokio::test]
async fn rows_without_wal_below_a_table_are_refused_until_they_have_one() {
    let World { server, sql, .. } = &World::new().await;
    for (create, table, named, run) in INTRUDERS {
        // Published by its first shape.
        server.follow(&format!("table={table}")).await;
        sql.execute(create).await;
        let own = format!("table={table}");
        for query in [&own, &by_subquery(table), &format!("{own}&subset__where=true")] {
            // The shape that was served before the table had such rows may still be there.
            let refused = eventually("it is refused", async || {
                let response = server.get(&format!("{query}&offset=-1")).await;
                (response.status == 400).then_some(response)
            });
            assert_refused(&refused.await, named, run);
        }
        assert_eq!(check(server).await, [run], "{create}");
        let schema = server.client().get(&format!("/v1/schema?table={table}")).await;
        sql.execute(&assert_refused(&schema, named, run)).await;
        assert_eq!(server.follow(&own).await.rows().len(), 1, "{create}");
        assert_eq!(server.follow(&by_subquery(table)).await.rows().len(), 1, "{create}");
        let mut words = create.split(' ');
        let (kind, child) = (words.nth(1), words.nth(1));
        let foreign = if kind == Some("FOREIGN") { "FOREIGN" } else { "" };
        sql.execute(&format!("DROP {foreign} TABLE {}", child.expect("a name"))).await;
    }
}

#[tokio::test]
async fn what_is_attached_later_starts_the_shapes_over_and_then_refuses_them() {
    for (create, table, named, run) in INTRUDERS {
        let World { server, sql, .. } = &World::new().await;
        let (own, mut t) = (server.follow(&format!("table={table}")).await, server.follow("table=t").await);
        let inner = server.follow(&by_subquery(table)).await;
        sql.execute(create).await;
        for (shape, query) in [(&own, format!("table={table}")), (&inner, by_subquery(table))] {
            wait_rotated(server, shape).await;
            assert_refused(&server.get(&format!("{query}&offset=-1")).await, named, run);
        }
        sql.execute("INSERT INTO t VALUES (4, 'goes on', 1)").await;
        t.changes(1).await;
        assert_eq!(t.rotations(), 0, "{create}");
    }
}

#[tokio::test]
async fn a_table_that_is_made_unlogged_is_refused_until_it_is_logged() {
    let cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    table(&sql, "u").await;
    // Only a table that is not named in a publication can be made unlogged.
    sql.execute(&format!("CREATE PUBLICATION electric_publication_{} FOR ALL TABLES", database.name)).await;
    let server = Limn::start(&database, &[]).await;
    let (shape, mut t) = (server.follow("table=u").await, server.follow("table=t").await);
    sql.execute("ALTER TABLE u SET UNLOGGED").await;
    wait_rotated(&server, &shape).await;
    let run = "ALTER TABLE \"public\".\"u\" SET LOGGED;";
    let refused = server.get("table=u&offset=-1").await;
    sql.execute(&assert_refused(&refused, "is an unlogged table", run)).await;
    assert_eq!(server.follow("table=u").await.rows().len(), 3);
    sql.execute("INSERT INTO t VALUES (4, 'goes on', 1)").await;
    t.changes(1).await;
    assert_eq!(t.rotations(), 0);
}

#[tokio::test]
async fn what_is_attached_while_the_server_is_down_is_noticed_at_the_start() {
    let mut world = World::new().await;
    let shape = world.server.follow("table=p").await;
    world.server.wait_durable(&shape).await;
    world.server.stop().await;
    let (create, _, named, run) = INTRUDERS[0];
    world.sql.execute(create).await;
    world.server.resume().await;
    let refused = world.server.client().get(&shape.target(false)).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_refused(&world.server.get("table=p&offset=-1").await, named, run);
}

#[tokio::test]
async fn temporary_children_of_other_sessions_are_no_rows_of_the_table() {
    let World { server, sql, database, .. } = &World::new().await;
    let before = database.connect().await;
    before
        .execute("CREATE TEMPORARY TABLE i_tmp () INHERITS (i); INSERT INTO i_tmp VALUES (7, 'mine')")
        .await;
    let mut shape = server.follow("table=i").await;
    assert_eq!(shape.rows().len(), 1, "as every other session sees it");
    let later = database.connect().await;
    later
        .execute("CREATE TEMPORARY TABLE i_tmp2 () INHERITS (i); INSERT INTO i_tmp2 VALUES (8, 'mine')")
        .await;
    // Two looks at the catalog: each canary's shape starts over at one that began after the table was made.
    for canary in ["canary_1", "canary_2"] {
        table(sql, canary).await;
        let follower = server.follow(&format!("table={canary}&columns=id,a")).await;
        sql.execute(&format!("ALTER TABLE {canary} RENAME COLUMN a TO b")).await;
        eventually("the canary's column is missed", async || {
            let response = server.client().get(&follower.target(false)).await;
            (response.status != 200).then_some(())
        })
        .await;
    }
    sql.execute("INSERT INTO i VALUES (2, 'two'); UPDATE i SET a = 'uno' WHERE id = 1").await;
    shape.changes(3).await;
    assert_eq!((shape.rows().len(), shape.rotations()), (2, 0));
}
