//! `limn` from outside: HTTP over loopback, SQL, files, processes. A test whose name begins with
//! `item_` and a number proves that item of the protocol's conformance list.

mod beyond;
mod broken_streams;
mod bystanders;
mod caching;
mod check;
mod compaction;
mod compressed;
mod configuration;
mod connections;
mod database_rules;
mod deferrable_keys;
mod delete;
mod dev;
mod disk;
mod elixir;
mod few_connections;
mod first_connection;
mod generated_columns;
mod health;
mod inherits;
mod initial_sync;
mod joining;
mod large_transaction;
mod limits;
mod live;
mod log;
mod lookups;
mod many_shapes;
mod metrics;
mod other_publications;
mod outage;
mod overload;
mod partitions;
mod publishing;
mod refused_clauses;
mod relation_kinds;
mod restart;
mod rights;
mod role_settings;
mod rotation;
mod routing_auth;
mod schema_changes;
mod security;
mod smuggling;
mod spans;
mod sse;
mod standby;
mod startup;
mod stopping;
mod subqueries;
mod subquery_clauses;
mod subset;
mod table_faults;
mod types_change;
mod unreadable;
mod unsound;
mod validation;
mod where_clause;
mod without_wal;
mod workload;

use limn_tests::{Cluster, Follower, Limn, Sql, eventually};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

/// The secret of [`secured`].
const SECRET: &str = "s3cret";

/// The server that most tests share: no secret, shapes can be deleted, everything else at its default.
async fn open() -> &'static Limn {
    static SERVER: OnceCell<Limn> = OnceCell::const_new();
    SERVER.get_or_init(|| shared(&["--allow-shape-deletion"])).await
}

/// Asks for [`SECRET`].
async fn secured() -> &'static Limn {
    static SERVER: OnceCell<Limn> = OnceCell::const_new();
    SERVER.get_or_init(|| shared(&["--secret", SECRET])).await
}

/// Closes a chunk after 10,000 bytes.
async fn small_chunks() -> &'static Limn {
    static SERVER: OnceCell<Limn> = OnceCell::const_new();
    SERVER.get_or_init(|| shared(&["--chunk-bytes-max", "10000"])).await
}

/// Lets a live request wait for 2 seconds only.
async fn impatient() -> &'static Limn {
    static SERVER: OnceCell<Limn> = OnceCell::const_new();
    SERVER.get_or_init(|| shared(&["--long-poll-timeout-ms", "2000"])).await
}

/// A server with a database of its own, in which the table `t` has three rows.
async fn shared(options: &[&str]) -> Limn {
    let database = Cluster::shared().await.database().await;
    table(&database.connect().await, "t").await;
    Limn::start(&database, options).await
}

/// A new table with the columns and rows that most tests use.
async fn table(sql: &Sql, name: &str) {
    sql.execute(&format!(
        "CREATE TABLE {name} (id int PRIMARY KEY, a text, n int);
         INSERT INTO {name} VALUES (1, 'one', 10), (2, 'two', 20), (3, NULL, NULL)"
    ))
    .await;
}

/// A server with a Postgres of its own, at which the first snapshot of all of table `t` waits for a lock.
struct HeldSnapshot {
    server: Limn,
    sql: Sql,
    /// Its transaction holds the lock.
    holder: Sql,
    /// Another shape of the table, which is complete.
    published: Follower,
    /// Ends once it has read the shape.
    reading: JoinHandle<Follower>,
    _cluster: Cluster,
}

impl HeldSnapshot {
    async fn begin(options: &[&str]) -> Self {
        let cluster = Cluster::start(&[]).await;
        let database = cluster.database().await;
        let (sql, holder) = (database.connect().await, database.connect().await);
        table(&sql, "t").await;
        let server = Limn::start(&database, options).await;
        let published = server.follow("table=t&columns=id").await;
        server.wait_durable(&published).await;
        holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
        let client = server.client();
        let reading = tokio::spawn(async move {
            let mut shape = Follower::new(client, "table=t");
            shape.sync().await;
            shape
        });
        eventually("the snapshot waits for the table", async || {
            let waiting =
                "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND relation = 't'::regclass";
            (sql.value(waiting).await != "0").then_some(())
        })
        .await;
        Self { server, sql, holder, published, reading, _cluster: cluster }
    }
}

/// A new table on the shared server, followed and up to date.
async fn followed(name: &str) -> (&'static Limn, Sql, Follower) {
    followed_as(name, "").await
}

/// The same, with further parameters of the shape.
async fn followed_as(name: &str, parameters: &str) -> (&'static Limn, Sql, Follower) {
    let server = open().await;
    let sql = server.sql().await;
    table(&sql, name).await;
    let follower = server.follow(&format!("table={name}{parameters}")).await;
    (server, sql, follower)
}

/// A row of the tables that [`table`] makes, as the wire shows it.
fn full_row(id: u32, a: Option<&str>, n: Option<u32>) -> Value {
    json!({ "id": id.to_string(), "a": a, "n": n.map(|n| n.to_string()) })
}

/// The body of a 400.
fn invalid(parameter: &str, text: &str) -> Value {
    json!({ "message": "Invalid request", "errors": { parameter: [text] } })
}

/// The body of a 409.
fn must_refetch() -> Value {
    json!([{ "headers": { "control": "must-refetch" } }])
}
