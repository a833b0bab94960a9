//! What the server's role may read: where a snapshot would lack rows or columns that the stream tells, nothing is
//! served, and the reply says what to grant.

use super::table;
use limn_tests::{Cluster, Database, Limn, Response, Sql, eventually};

/// A server whose role owns nothing, on tables that are published by hand: `t`, `u`, and the partitioned `p`.
struct Guest {
    server: Limn,
    database: Database,
    sql: Sql,
    role: String,
}

const TABLES: [&str; 4] = ["t", "u", "p", "p1"];

impl Guest {
    async fn new() -> Self {
        Self::with("").await
    }

    /// A server that is started once `statements` are run; `$role` stands for the role.
    async fn with(statements: &str) -> Self {
        let database = Cluster::shared().await.database().await;
        let sql = database.connect().await;
        let role = format!("guest_{}", database.name);
        table(&sql, "t").await;
        table(&sql, "u").await;
        let publication = format!("electric_publication_{}", database.name);
        sql.execute(&format!(
            "CREATE TABLE p (id int PRIMARY KEY, a text) PARTITION BY RANGE (id);
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100); INSERT INTO p VALUES (1, 'one');
             CREATE PUBLICATION {publication} FOR TABLE t, u, p; CREATE ROLE {role} LOGIN REPLICATION"
        ))
        .await;
        for table in TABLES {
            sql.execute(&format!("ALTER TABLE {table} REPLICA IDENTITY FULL")).await;
        }
        sql.execute(&statements.replace("$role", &role)).await;
        let mut server = Limn::stopped(&database, &["--manual-table-publishing"]);
        server.log_in_as(&role);
        server.resume().await;
        Self { server, database, sql, role }
    }

    /// One that may read every table.
    async fn reader() -> Self {
        Self::with("GRANT SELECT ON t, u, p TO $role").await
    }

    async fn run(&self, statements: &str) {
        self.sql.execute(&statements.replace("$role", &self.role)).await;
    }

    /// Asks until a 503 says what to run, and runs it; it is then answered.
    async fn mend(&self, query: &str, run: &str) -> Response {
        let run = run.replace("$role", &format!("\"{}\"", self.role));
        let refused = self.server.get(query).await;
        assert_eq!(refused.status, 503, "{query}: {}", refused.text());
        let message = refused.json()["message"].as_str().expect("a text").to_owned();
        assert!(message.contains(&format!("`{run}`")), "`{run}` is missing in: {message}");
        assert_eq!(refused.header("retry-after"), Some("10"));
        assert_eq!(refused.header("electric-internal-known-error"), Some("true"));
        self.sql.execute(&run).await;
        let answer = self.server.get(query).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer
    }
}

const POLICY: &str = "CREATE POLICY even ON t USING (id % 2 = 0); ALTER TABLE t ENABLE ROW LEVEL SECURITY;";
const BYPASS: &str = "ALTER ROLE $role BYPASSRLS;";

/// Rows in a reply.
fn rows(response: &Response) -> usize {
    let body = response.json();
    let messages = body.as_array().or_else(|| body["data"].as_array()).expect("messages");
    messages.iter().filter(|message| message.get("value").is_some()).count()
}

#[tokio::test]
async fn a_policy_refuses_what_would_lack_rows() {
    for query in [
        "table=t&offset=-1",
        "table=t&offset=-1&columns=id,a&where=n%3E5",
        "table=t&offset=-1&log=changes_only",
        "table=t&offset=-1&where=upper(a)%3D%27ONE%27",
        "table=t&offset=-1&subset__order_by=id&subset__limit=9",
        "table=u&offset=-1&where=id%20IN%20(SELECT%20id%20FROM%20t)",
    ] {
        let guest = Guest::reader().await;
        guest.run(POLICY).await;
        let answer = guest.mend(query, BYPASS).await;
        let expected = match query {
            query if query.contains("changes_only") => 0,
            query if query.contains("upper") => 1,
            query if query.contains("n%3E5") => 2,
            _ => 3,
        };
        assert_eq!(rows(&answer), expected, "{query}");
    }
}

#[tokio::test]
async fn a_policy_that_is_forced_on_the_owner_refuses_too() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let role = format!("owner_{}", database.name);
    sql.execute(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION; GRANT CREATE ON DATABASE {} TO {role}; ALTER TABLE t OWNER TO {role};
         {POLICY} ALTER TABLE t FORCE ROW LEVEL SECURITY",
        database.name
    ))
    .await;
    let mut server = Limn::stopped(&database, &[]);
    server.log_in_as(&role);
    server.resume().await;
    let guest = Guest { server, database, sql, role };
    guest.mend("table=t&offset=-1", "ALTER TABLE public.t NO FORCE ROW LEVEL SECURITY;").await;
    let mut shape = guest.server.follow("table=t").await;
    assert_eq!(shape.rows().len(), 3, "policies do not concern an owner who is not forced");
    guest.run("INSERT INTO t VALUES (5, 'five', 5)").await;
    assert_eq!(shape.changes(1).await[0]["value"]["id"], "5");
}

#[tokio::test]
async fn policies_of_partitions_do_not_concern_a_query_of_the_table_above() {
    let guest = Guest::reader().await;
    guest.run("CREATE POLICY none ON p1 USING (false); ALTER TABLE p1 ENABLE ROW LEVEL SECURITY; GRANT SELECT ON p1 TO $role").await;
    assert_eq!(guest.server.follow("table=p").await.rows().len(), 1);
    guest.mend("table=p1&offset=-1", BYPASS).await;
}

#[tokio::test]
async fn a_superuser_and_who_bypasses_are_served() {
    let guest = Guest::reader().await;
    guest.run(POLICY).await;
    guest.run("ALTER TABLE t FORCE ROW LEVEL SECURITY; ALTER ROLE $role BYPASSRLS").await;
    assert_eq!(guest.server.follow("table=t").await.rows().len(), 3);
    let own = Limn::start(&Cluster::shared().await.database().await, &[]).await;
    let sql = own.sql().await;
    table(&sql, "t").await;
    sql.execute(&format!("{POLICY} ALTER TABLE t FORCE ROW LEVEL SECURITY")).await;
    assert_eq!(own.follow("table=t").await.rows().len(), 3);
}

#[tokio::test]
async fn a_policy_that_comes_later_concerns_what_is_asked_later() {
    let guest = Guest::reader().await;
    let mut shape = guest.server.follow("table=t").await;
    let mut judged = guest.server.follow("table=t&where=upper(a)%3C%3E%27X%27").await;
    let mut other = guest.server.follow("table=u").await;
    let query = "table=u&where=id%20IN%20(SELECT%20id%20FROM%20t%20WHERE%20n%3E5)";
    let mut moving = guest.server.follow(query).await;
    assert_eq!(moving.rows().len(), 2);
    let handle = moving.handle().to_owned();
    guest.run(POLICY).await;
    // What is there goes on: its rows come from the WAL, and a clause is judged without reading the table.
    guest.run("INSERT INTO t VALUES (5, 'five', 1); INSERT INTO u VALUES (5, 'five', 1)").await;
    assert_eq!(shape.changes(1).await[0]["value"]["id"], "5");
    assert_eq!(judged.changes(1).await[0]["value"]["id"], "5");
    assert_eq!(other.changes(1).await[0]["value"]["id"], "5");
    // A move reads the table: the shape starts over, and is refused until the role may.
    guest.run("UPDATE t SET n = 50 WHERE id = 3").await;
    eventually("the move was refused", async || {
        let answer = guest.server.get(&format!("{query}&handle={handle}&offset=-1")).await;
        (answer.status == 503).then_some(())
    })
    .await;
    guest.run("INSERT INTO u VALUES (6, 'six', 1)").await;
    assert_eq!(other.changes(1).await[0]["value"]["id"], "6", "the stream goes on for the others");
    guest.mend(&format!("{query}&offset=-1"), BYPASS).await;
    moving.sync().await;
    assert_eq!(moving.rows().len(), 3);
    assert!(guest.server.output().contains("row-level security"), "{}", guest.server.output());
}

#[tokio::test]
async fn a_right_that_is_taken_back_ends_the_shapes_that_need_it_alone() {
    let guest = Guest::reader().await;
    let mut other = guest.server.follow("table=u").await;
    let query = "table=u&where=id%20IN%20(SELECT%20id%20FROM%20t%20WHERE%20n%3E5)";
    let mut moving = guest.server.follow(query).await;
    guest.run("REVOKE SELECT ON t FROM $role").await;
    guest.run("UPDATE t SET n = 50 WHERE id = 3; INSERT INTO u VALUES (6, 'six', 1)").await;
    assert_eq!(other.changes(1).await[0]["value"]["id"], "6");
    eventually("the move was refused", async || {
        let handle = moving.handle();
        let answer = guest.server.get(&format!("{query}&handle={handle}&offset=-1")).await;
        (answer.status == 503).then_some(())
    })
    .await;
    guest.mend(&format!("{query}&offset=-1"), "GRANT SELECT ON public.t TO $role;").await;
    moving.sync().await;
    assert_eq!(moving.rows().len(), 3);
}

#[tokio::test]
async fn columns_that_may_be_read_can_be_shown() {
    let guest = Guest::with("GRANT SELECT (id, a) ON t TO $role; GRANT SELECT (id) ON p, u TO $role").await;
    let mut shape = guest.server.follow("table=t&columns=id,a").await;
    assert_eq!(shape.rows().len(), 3);
    guest.run("INSERT INTO t VALUES (5, 'five', 5)").await;
    assert_eq!(shape.changes(1).await[0]["value"]["a"], "five");
    assert_eq!(guest.server.follow("table=t&columns=id&where=a%3D%27one%27").await.rows().len(), 1);
    assert_eq!(guest.server.follow("table=t&columns=id&where=upper(a)%3D%27ONE%27").await.rows().len(), 1);
    assert_eq!(guest.server.follow("table=p&columns=id").await.rows().len(), 1);
    let dependent = "table=u&columns=id&where=id%20IN%20(SELECT%20id%20FROM%20t%20WHERE%20a%3D%27one%27)";
    let mut dependent = guest.server.follow(dependent).await;
    guest.run("UPDATE t SET a = 'one' WHERE id = 2").await;
    assert_eq!(dependent.changes(1).await[0]["value"]["id"], "2");
    let subset = "table=t&columns=id,a&offset=-1&subset__order_by=a&subset__limit=9";
    assert_eq!(rows(&guest.server.get(subset).await), 4);
    // What needs another column is refused, and says which.
    let grant = r#"GRANT SELECT ("n") ON public.t TO $role;"#;
    let by_n = "table=t&columns=id&offset=-1&subset__order_by=n&subset__limit=9";
    let revoke = "REVOKE SELECT (n) ON t FROM $role";
    for query in [by_n, "table=t&columns=id&where=n%3E1&offset=-1", "table=t&offset=-1"] {
        guest.mend(query, grant).await;
        guest.run(revoke).await;
    }
}

#[tokio::test]
async fn a_table_that_is_truncated_while_columns_are_read_shows_what_is_behind_it() {
    let guest = Guest::with("GRANT SELECT (id, a) ON t TO $role").await;
    guest.server.follow("table=t&columns=id").await;
    let writer = guest.database.connect().await;
    writer.execute("BEGIN; TRUNCATE t; INSERT INTO t VALUES (7, 'seven', 7)").await;
    let client = guest.server.client();
    let reading = tokio::spawn(async move {
        let mut shape = limn_tests::Follower::new(client, "table=t&columns=id,a");
        shape.sync().await;
        shape
    });
    eventually("the snapshot waits for the table", async || {
        let waiting = "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND relation = 't'::regclass";
        (guest.sql.value(waiting).await != "0").then_some(())
    })
    .await;
    writer.execute("COMMIT").await;
    let shape = reading.await.expect("it is read");
    assert_eq!(shape.keys(), ["\"public\".\"t\"/\"7\""]);
}

#[tokio::test]
async fn a_table_and_a_schema_that_may_not_be_read_are_told() {
    let guest = Guest::new().await;
    guest.mend("table=t&offset=-1", "GRANT SELECT ON public.t TO $role;").await;
    let publication = format!("electric_publication_{}", guest.database.name);
    guest
        .run(&format!(
            "CREATE SCHEMA s; CREATE TABLE s.v (id int PRIMARY KEY); ALTER TABLE s.v REPLICA IDENTITY FULL;
         ALTER PUBLICATION {publication} ADD TABLE s.v; GRANT SELECT ON s.v TO $role"
        ))
        .await;
    guest.mend("table=s.v&offset=-1", "GRANT USAGE ON SCHEMA s TO $role;").await;
}
