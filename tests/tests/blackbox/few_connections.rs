//! With few connections shapes and subsets wait for one another, and all are served.

use super::table;
use limn_tests::{Cluster, Database, Limn, Sql, encode, eventually};

/// Shapes, subsets, a move and a clause that Postgres judges, all at one time.
async fn serve(server: &Limn, sql: &Sql) {
    let shapes =
        ["id", "id,a", "id,n", "id,a,n"].map(|columns| format!("table=t&offset=-1&columns={columns}"));
    let subsets = ["id", "a", "n"]
        .map(|column| format!("table=t&offset=-1&columns=id,a,n&subset__order_by={column}&subset__limit=9"));
    let asked: Vec<_> = shapes
        .into_iter()
        .chain(subsets)
        .map(|query| {
            let client = server.client();
            tokio::spawn(async move { client.get(&format!("/v1/shape?{query}")).await })
        })
        .collect();
    for answer in asked {
        let answer = answer.await.expect("it is answered");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let judged = format!("table=t&where={}", encode("upper(a) <> 'X'"));
    let moving = format!("table=t&where={}", encode("id IN (SELECT id FROM u WHERE n > 10)"));
    let (mut judged, mut moving) = (server.follow(&judged).await, server.follow(&moving).await);
    assert_eq!((judged.rows().len(), moving.rows().len()), (2, 1));
    sql.execute("UPDATE u SET n = 50 WHERE id = 3").await;
    assert_eq!(moving.changes(1).await[0]["value"]["id"], "3");
    sql.execute("INSERT INTO t VALUES (9, 'nine', 9)").await;
    assert_eq!(judged.changes(1).await[0]["value"]["id"], "9");
    assert_eq!(server.follow("table=t&columns=id&where=id%3E5").await.rows().len(), 1);
}

async fn start(database: &Database, sql: &Sql, limit: &str) -> Limn {
    let role = format!("few_{}", database.name);
    table(sql, "t").await;
    table(sql, "u").await;
    let name = &database.name;
    sql.execute(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION; GRANT CREATE ON DATABASE {name} TO {role};
         ALTER TABLE t OWNER TO {role}; ALTER TABLE u OWNER TO {role}; {}",
        limit.replace("$role", &role)
    ))
    .await;
    let mut server = Limn::stopped(database, &[]);
    server.log_in_as(&role);
    server.resume().await;
    server
}

#[tokio::test]
async fn a_role_with_three_connections_is_enough() {
    let cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    let mut server = start(&database, &sql, "ALTER ROLE $role CONNECTION LIMIT 3").await;
    serve(&server, &sql).await;
    server.kill().await;
    server.resume().await;
    assert_eq!(server.follow("table=t&columns=a,id").await.rows().len(), 4);
}

#[tokio::test]
async fn who_takes_all_connections_is_waited_for() {
    let cluster = Cluster::start(&["max_connections=12", "superuser_reserved_connections=3"]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    let server = start(&database, &sql, "CREATE ROLE crowd LOGIN").await;
    server.follow("table=t&columns=id").await;
    // The server keeps sessions for its next questions: those are gone.
    sql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE application_name = 'limn' AND backend_type = 'client backend'",
    )
    .await;
    let mut crowd = Vec::new();
    while let Ok((client, connection)) =
        tokio_postgres::connect(&database.url_as("crowd"), tokio_postgres::NoTls).await
    {
        crowd.push((client, tokio::spawn(connection)));
    }
    let client = server.client();
    let asked = tokio::spawn(async move { client.get("/v1/shape?table=t&offset=-1").await });
    // The first refusal was the crowd's.
    eventually("a connection is refused to the server", async || {
        let log = cluster.log();
        let is_refusal = |line: &&str| line.contains("FATAL") && line.contains("reserved");
        (log.lines().filter(is_refusal).count() > 1).then_some(())
    })
    .await;
    drop(crowd);
    assert_eq!(asked.await.expect("it is answered").status, 200);
}
