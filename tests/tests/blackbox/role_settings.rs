//! What an administrator has set for the server's role, for reasons of their own, changes nothing of what is served.

use super::table;
use limn_tests::{Cluster, Database, Limn, Sql, encode, eventually};
use serde_json::{Value, json};

/// `ALTER ROLE … SET` of whatever could change a value's text, a clause's meaning, or end a session.
const HOSTILE: [(&str, &str); 43] = [
    ("client_encoding", "LATIN1"),
    ("client_min_messages", "debug5"),
    ("log_statement", "all"),
    ("lc_messages", "C"),
    ("lc_monetary", "C"),
    ("datestyle", "SQL, DMY"),
    ("timezone", "Asia/Kolkata"),
    ("intervalstyle", "sql_standard"),
    ("extra_float_digits", "-15"),
    ("bytea_output", "escape"),
    ("xmlbinary", "hex"),
    ("xmloption", "document"),
    ("standard_conforming_strings", "off"),
    ("escape_string_warning", "on"),
    ("backslash_quote", "off"),
    ("quote_all_identifiers", "on"),
    ("transform_null_equals", "on"),
    ("array_nulls", "off"),
    ("row_security", "on"),
    ("gin_fuzzy_search_limit", "1"),
    ("search_path", ""),
    ("session_replication_role", "replica"),
    ("statement_timeout", "300"),
    ("lock_timeout", "200"),
    ("idle_in_transaction_session_timeout", "200"),
    ("idle_session_timeout", "200"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("synchronous_commit", "off"),
    ("exit_on_error", "on"),
    ("work_mem", "64kB"),
    ("temp_buffers", "800kB"),
    ("maintenance_work_mem", "1MB"),
    ("jit", "on"),
    ("jit_above_cost", "0"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_indexscan", "off"),
    ("synchronize_seqscans", "on"),
    ("default_table_access_method", "heap"),
    ("logical_decoding_work_mem", "64kB"),
    ("default_toast_compression", "pglz"),
];

/// A database with a role whose every setting is hostile, which owns the table `h`.
struct Hostile {
    database: Database,
    sql: Sql,
    role: String,
}

impl Hostile {
    async fn new(cluster: &Cluster) -> Self {
        let database = cluster.database().await;
        let sql = database.connect().await;
        let (name, role) = (&database.name, format!("hostile_{}", database.name));
        sql.execute(&format!(
            "CREATE ROLE {role} LOGIN REPLICATION; GRANT CREATE ON DATABASE {name} TO {role};
             CREATE TABLE h (id int PRIMARY KEY, f float8, b bytea, i interval, m money, z timestamptz, t text, l text[]);
             INSERT INTO h VALUES {}; ALTER TABLE h OWNER TO {role}",
            row(1)
        ))
        .await;
        for (setting, value) in HOSTILE {
            sql.execute(&format!("ALTER ROLE {role} SET {setting} = '{value}'")).await;
        }
        if sql.value("SELECT current_setting('server_version_num')::int >= 170000").await == "t" {
            sql.execute(&format!("ALTER ROLE {role} SET transaction_timeout = 300")).await;
        }
        Self { database, sql, role }
    }

    async fn server(&self) -> Limn {
        let mut server = Limn::stopped(&self.database, &[]);
        server.log_in_as(&self.role);
        server.resume().await;
        server
    }
}

fn row(id: u32) -> String {
    format!(
        r"({id}, 0.1::float8 + 0.2::float8, '\x5c00ff', '1 year 2 mons -3 days 04:05:06.7', 1234.5::numeric::money,
           '2026-11-29 12:00:00+00', 'Ωmega \ ''q''', ARRAY['NULL', NULL, 'ü'])"
    )
}

fn expected(id: u32) -> Value {
    json!({
        "id": id.to_string(), "f": "0.30000000000000004", "b": "\\x5c00ff", "i": "P1Y2M-3DT4H5M6.7S", "m": "$1,234.50",
        "z": "2026-11-29 12:00:00+00", "t": "Ωmega \\ 'q'", "l": "{\"NULL\",NULL,ü}",
    })
}

#[tokio::test]
async fn a_shape_a_subset_and_a_change_are_as_ever() {
    let cluster = Cluster::start(&["min_wal_size=32MB"]).await;
    let hostile = Hostile::new(&cluster).await;
    let (server, sql) = (hostile.server().await, &hostile.sql);
    let mut shape = server.follow("table=h").await;
    assert_eq!(json!(shape.rows()), json!([expected(1)]));
    sql.execute(&format!("INSERT INTO h VALUES {}", row(2))).await;
    let change = shape.changes(1).await.remove(0);
    assert_eq!(change["value"], expected(2));
    let subset = server.get("table=h&offset=-1&subset__order_by=id&subset__limit=5").await;
    assert_eq!(subset.status, 200, "{}", subset.text());
    let rows = subset.json();
    let rows: Vec<_> = rows["data"].as_array().expect("rows").iter().map(|row| &row["value"]).collect();
    assert_eq!(rows, [&expected(1), &expected(2)]);
    // Clauses that core evaluates, and those that only Postgres does; and the key is the one of the snapshot.
    for clause in [
        r"t = 'Ωmega \ ''q'''",
        r#"l = '{"NULL",NULL,ü}'"#,
        "z = '2026-11-29 12:00:00+00'",
        "m = '$1,234.50'",
        "f > 0.3",
        "i > '1 year'",
        r"t ~ 'mega \\'",
        "upper(t) LIKE '%MEGA%'",
        "array_position(l, NULL) = 2",
    ] {
        let mut follower = server.follow(&format!("table=h&where={}", encode(clause))).await;
        assert_eq!(follower.rows().len(), 2, "{clause}");
        sql.execute(&format!("INSERT INTO h VALUES {}", row(3))).await;
        assert_eq!(follower.changes(1).await[0]["value"], expected(3), "{clause}");
        sql.execute("DELETE FROM h WHERE id = 3").await;
        assert_eq!(follower.changes(1).await[0]["key"], "\"public\".\"h\"/\"3\"", "{clause}");
    }
}

/// Waits until a session has waited for a lock on the table for longer than every timeout of the role.
async fn outwait(sql: &Sql, table: &str) {
    eventually("longer than any timeout is waited", async || {
        let waiting = format!(
            "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND relation = '{table}'::regclass
                AND clock_timestamp() - waitstart > '500ms'"
        );
        (sql.value(&waiting).await != "0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn timeouts_of_the_role_do_not_end_what_takes_long() {
    let cluster = Cluster::start(&[]).await;
    let hostile = Hostile::new(&cluster).await;
    let (server, sql) = (hostile.server().await, &hostile.sql);
    server.follow("table=h").await;
    // A snapshot, then a subset, that take longer than the role's timeouts.
    for query in ["table=h&offset=-1&columns=id,t", "table=h&offset=-1&subset__order_by=id&subset__limit=1"] {
        let holder = hostile.database.connect().await;
        holder.execute("BEGIN; LOCK TABLE h IN ACCESS EXCLUSIVE MODE").await;
        let client = server.client();
        let asked = tokio::spawn(async move { client.get(&format!("/v1/shape?{query}")).await });
        outwait(sql, "h").await;
        holder.execute("COMMIT").await;
        let answer = asked.await.expect("it is answered");
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    }
    let log = server.output();
    let failed = log.lines().find(|line| line.contains(" WARN ") || line.contains(" ERROR "));
    assert_eq!(failed, None, "{log}");
}

#[tokio::test]
async fn timeouts_of_the_role_do_not_end_the_decoding_of_a_long_transaction() {
    let cluster = Cluster::start(&[]).await;
    let hostile = Hostile::new(&cluster).await;
    let (server, sql) = (hostile.server().await, &hostile.sql);
    let mut shape = server.follow("table=h&columns=id").await;
    // The walsender decodes it in one transaction of its own, for more than a second.
    sql.execute("INSERT INTO h SELECT n, 1, 'x', '1s', 1, now(), repeat('x', 500), NULL FROM generate_series(10, 60000) n")
        .await;
    assert_eq!(shape.changes(59_991).await.len(), 59_991);
    let lost = server.output().lines().filter(|line| line.contains("the replication stream ended")).count();
    assert_eq!(lost, 0, "{}", server.output());
}

#[tokio::test]
async fn a_slot_is_created_although_the_role_may_not_wait_for_locks() {
    let cluster = Cluster::start(&[]).await;
    let hostile = Hostile::new(&cluster).await;
    table(&hostile.sql, "u").await;
    let writer = hostile.database.connect().await;
    writer.execute("BEGIN; INSERT INTO u VALUES (9, 'x', 1)").await;
    let mut server = Limn::stopped(&hostile.database, &[]);
    server.log_in_as(&hostile.role);
    server.spawn();
    eventually("the new slot waits for the writer longer than the role's timeouts", async || {
        let waiting = "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'
                          AND clock_timestamp() - waitstart > '500ms'";
        (hostile.sql.value(waiting).await != "0").then_some(())
    })
    .await;
    writer.execute("COMMIT").await;
    server.wait_active().await;
}
