//! Generated columns that Postgres does not send: VIRTUAL ones, and STORED ones before version 18 or where the publication
//! leaves them out. No shape shows one as null, and none loses a row by a clause on one.

use limn_tests::{Cluster, Database, Follower, Limn, Sql, encode, eventually};

/// A database with the table `t`, whose column `s` is STORED, and on 18 the table `v`, whose column `g` is VIRTUAL.
async fn database() -> (Database, Sql, bool) {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    let is_18 = sql.value("SELECT current_setting('server_version_num')::int >= 180000").await == "t";
    sql.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n int, s int GENERATED ALWAYS AS (n * 2) STORED);
         ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 10);
         CREATE TABLE ids (id int PRIMARY KEY, n int, s int GENERATED ALWAYS AS (n) STORED)",
    )
    .await;
    if is_18 {
        sql.execute(
            "CREATE TABLE v (id int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n * 2) VIRTUAL);
             ALTER TABLE v REPLICA IDENTITY FULL; INSERT INTO v VALUES (1, 10);
             CREATE TABLE vp (id int, n int, g int GENERATED ALWAYS AS (n * 2) VIRTUAL, PRIMARY KEY (id)) PARTITION BY LIST (id);
             CREATE TABLE vp1 PARTITION OF vp DEFAULT; ALTER TABLE vp1 REPLICA IDENTITY FULL",
        )
        .await;
    }
    (database, sql, is_18)
}

/// Every way to ask for a column of a table is refused under the parameter that does, for a reason with these words.
async fn assert_refused(server: &Limn, table: &str, column: &str, words: &str) {
    for (query, parameter) in [
        (format!("table={table}"), "columns"),
        (format!("table={table}&columns=id,{column}"), "columns"),
        (format!("table={table}&columns=id,n&where={column}%20%3D%2020"), "where"),
        (
            format!("table={table}&columns=id,n&where={}", encode(&format!("md5({column}::text) > ''"))),
            "where",
        ),
        (
            format!(
                "table=ids&columns=id,n&where={}",
                encode(&format!("id IN (SELECT {column} FROM {table})"))
            ),
            "where",
        ),
        (
            format!(
                "table=ids&columns=id,n&where={}",
                encode(&format!("id IN (SELECT id FROM {table} WHERE {column} > 1)"))
            ),
            "where",
        ),
        (format!("table={table}&subset__limit=1&subset__order_by=id"), "columns"),
    ] {
        let response = server.get(&format!("{query}&offset=-1")).await;
        assert_eq!(response.status, 400, "{query}: {}", response.text());
        let text = response.json()["errors"][parameter][0].as_str().unwrap_or_default().to_owned();
        assert!(text.contains("are generated") && text.contains(words), "{query}: {}", response.text());
    }
}

/// What the stream has is followed as ever.
async fn assert_follows(server: &Limn, sql: &Sql, table: &str) -> Follower {
    let mut shape = server.follow(&format!("table={table}&columns=id,n&where=n%20%3E%205")).await;
    sql.execute(&format!("INSERT INTO {table} VALUES (700, 700), (701, 1)")).await;
    let lsn = server.barrier(sql).await;
    shape.sync_to(lsn).await;
    let mut expected = sql.rows(&format!("SELECT id, n FROM {table} WHERE n > 5")).await;
    expected.sort();
    assert_eq!(shape.rows(), expected);
    assert_eq!(shape.rotations(), 0);
    shape
}

#[tokio::test]
async fn a_column_that_the_version_or_the_kind_keeps_from_the_stream_is_refused() {
    let (database, sql, is_18) = database().await;
    let mut server = Limn::start(&database, &[]).await;
    if !is_18 {
        assert_refused(&server, "t", "s", "").await;
        assert_follows(&server, &sql, "t").await;
        return;
    }
    let mut stored = server.follow("table=t").await;
    let mut clause = server.follow("table=t&where=s%20%3E%2030").await;
    sql.execute("INSERT INTO t VALUES (2, 20); UPDATE t SET n = 30 WHERE id = 1").await;
    for _ in 0..2 {
        let lsn = server.barrier(&sql).await;
        stored.sync_to(lsn).await;
        clause.sync_to(lsn).await;
        assert_eq!(stored.rows(), sql.rows("SELECT * FROM t ORDER BY id").await);
        assert_eq!(clause.rows(), sql.rows("SELECT * FROM t WHERE s > 30 ORDER BY id").await);
        assert_refused(&server, "v", "g", "VIRTUAL").await;
        assert_refused(&server, "vp", "g", "VIRTUAL").await;
        assert!(server.stop().await.success());
        server.resume().await;
        sql.execute("INSERT INTO t SELECT max(id) + 1, 50 FROM t").await;
    }
    assert_eq!((stored.rotations(), clause.rotations()), (0, 0));
}

#[tokio::test]
async fn a_publication_that_leaves_stored_columns_out_is_named() {
    let (database, sql, is_18) = database().await;
    if !is_18 {
        return eprintln!("skipped: publications have the option from version 18 on");
    }
    let name = format!("electric_publication_{}", database.name);
    sql.execute(&format!("CREATE PUBLICATION {name}; ALTER PUBLICATION {name} ADD TABLE t, ids")).await;
    sql.execute("ALTER TABLE ids REPLICA IDENTITY FULL").await;
    let mut server = Limn::start(&database, &[]).await;
    let run = format!("ALTER PUBLICATION \"{name}\" SET (publish_generated_columns = stored)");
    assert_refused(&server, "t", "s", &run).await;

    sql.execute(&run).await;
    sql.execute("UPDATE t SET n = n + 1").await;
    let is_shown = async || (server.get("table=t&offset=-1").await.status == 200).then_some(());
    eventually("its columns can be shown", is_shown).await;
    let mut shape = server.follow("table=t&where=s%20%3E%205").await;
    sql.execute("INSERT INTO t VALUES (800, 40)").await;
    let lsn = server.barrier(&sql).await;
    shape.sync_to(lsn).await;
    assert_eq!(shape.rows(), sql.rows("SELECT * FROM t WHERE s > 5 ORDER BY id").await);

    // In the other direction no reply may go on with what the stream lacks from here on.
    let leave_out = format!("ALTER PUBLICATION {name} SET (publish_generated_columns = none)");
    sql.execute(&format!("{leave_out}; INSERT INTO t VALUES (801, 41)")).await;
    let target = shape.target(false);
    eventually("the shape is gone", async || {
        let response = server.client().get(&target).await;
        assert!(!response.text().contains("\"s\":null"), "{}", response.text());
        (response.status != 200).then_some(())
    })
    .await;
    assert_refused(&server, "t", "s", &run).await;
    assert!(server.stop().await.success());
    server.resume().await;
    assert_refused(&server, "t", "s", &run).await;
}

#[tokio::test]
async fn a_generated_column_that_is_added_later_is_refused_from_then_on() {
    let (database, sql, is_18) = database().await;
    let server = Limn::start(&database, &[]).await;
    sql.execute("CREATE TABLE later (id int PRIMARY KEY, n int); INSERT INTO later VALUES (1, 1)").await;
    let shape = server.follow("table=later").await;
    let kind = if is_18 { "VIRTUAL" } else { "STORED" };
    sql.execute(&format!("ALTER TABLE later ADD COLUMN g int GENERATED ALWAYS AS (n * 2) {kind}; INSERT INTO later VALUES (2, 2)")).await;
    let target = shape.target(false);
    eventually("the shape is gone", async || {
        let response = server.client().get(&target).await;
        assert!(!response.text().contains("\"g\":null"), "{}", response.text());
        (response.status != 200).then_some(())
    })
    .await;
    assert_refused(&server, "later", "g", "").await;
}
