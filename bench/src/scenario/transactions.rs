//! Small transactions through many shapes.

use super::{Scenario, Times, times_of};
use crate::client::Log;
use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::{Database, Sql, eventually, processor_time};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::task::JoinSet;

/// Transactions of one row that wait in the WAL while the server stands still, and then are worked off: until a client
/// has the last one. How long that takes depends on how far Postgres has decoded them by then, and how fast it goes on;
/// so the time counts in which a processor worked for the server.
pub struct Transactions {
    /// How many shapes there are, each for one value of a column.
    pub shapes: u32,
}

const COUNT: u32 = 50_000;
const CONNECTIONS: usize = 16;
/// The value whose shape a client follows.
pub(super) const LAST: &str = "table=items&where=n%3D-1";
/// Slot and publication of the floor.
pub(super) const FLOOR: &str = "bench_floor";

impl Transactions {
    async fn write(&self, sql: &Sql) {
        sql.execute("SET synchronous_commit = off").await;
        sql.execute(&format!("CALL write_items({COUNT}, {})", self.shapes)).await;
        // The last one has Postgres flush those before.
        sql.execute("SET synchronous_commit = on").await;
        sql.execute("INSERT INTO items (n) VALUES (-1)").await;
    }
}

/// Makes the shape that a client follows, and one for each value.
pub(super) async fn make_shapes(subject: &Subject, shapes: u32) {
    subject.connect().await.read_to_end(&mut Log::new(LAST)).await;
    let next = Arc::new(AtomicU32::new(0));
    let mut makers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (mut connection, next) = (subject.connect().await, next.clone());
        makers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= shapes {
                    return;
                }
                connection.read_to_end(&mut Log::new(&format!("table=items&where=n%3D{n}"))).await;
            }
        });
    }
    while let Some(maker) = makers.join_next().await {
        maker.expect("shapes are made");
    }
}

/// Waits until Postgres has sent what others wrote to the WAL while the server did not run.
pub(super) async fn wait_sent(sql: &Sql) {
    let end = sql.value("SELECT pg_current_wal_flush_lsn()").await;
    let sent = format!(
        "SELECT coalesce(bool_and(r.sent_lsn >= '{end}'), false)::text
           FROM pg_stat_replication r JOIN pg_stat_activity a USING (pid) WHERE a.datname = current_database()"
    );
    eventually("the WAL is sent", async || (sql.value(&sent).await == "true").then_some(())).await;
}

impl Scenario for Transactions {
    const TITLE: &str = "50,000 transactions of one row through many shapes: transactions";
    const UNIT: Unit = Unit::PerProcessorSecond;

    async fn fill(&self, sql: &Sql) {
        sql.execute("CREATE TABLE items (id serial PRIMARY KEY, n int, note text)").await;
        let body = "BEGIN FOR i IN 1..total LOOP \
            INSERT INTO items (n, note) VALUES (i % kinds, 'a note of some length'); COMMIT; END LOOP; END";
        sql.execute(&format!(
            "CREATE PROCEDURE write_items(total int, kinds int) LANGUAGE plpgsql AS $$ {body} $$"
        ))
        .await;
        sql.execute(&format!("CREATE PUBLICATION {FLOOR} FOR TABLE items")).await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        make_shapes(subject, self.shapes).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        let mut log = Log::new(LAST);
        let mut connection = subject.connect().await;
        connection.read_to_end(&mut log).await;
        let client = tokio::spawn(async move { connection.wait(&mut log).await });
        subject.limn().wait_parked(1).await;
        let sql = subject.limn().sql().await;
        wait_sent(&sql).await;
        subject.pause();
        self.write(&sql).await;
        let process = subject.limn().process();
        let worked = || processor_time(process).expect("the system tells it").as_secs_f64();
        let before = worked();
        subject.go_on();
        client.await.expect("the client has the last row");
        f64::from(COUNT + 1) / (worked() - before)
    }

    async fn floor(&self, database: &Database) -> Option<f64> {
        let sql = database.connect().await;
        let times = receive(database, &sql, self.write(&sql)).await?;
        Some(f64::from(COUNT + 1) / times.worked.as_secs_f64())
    }
}

/// What `pg_recvlogical` takes for what `write` leaves in the WAL.
pub(super) async fn receive(
    database: &Database,
    sql: &Sql,
    write: impl Future<Output = ()>,
) -> Option<Times> {
    sql.execute(&format!("SELECT pg_create_logical_replication_slot('{FLOOR}', 'pgoutput')")).await;
    write.await;
    let end = sql.value("SELECT pg_current_wal_insert_lsn()").await;
    let url = database.url();
    let (slot, endpos) = (format!("--slot={FLOOR}"), format!("--endpos={end}"));
    let publication = format!("--option=publication_names={FLOOR}");
    let options = ["--start", "--file=/dev/null", "--option=proto_version=1", "--no-loop"];
    let arguments = [&options[..], &["-d", &url, &slot, &endpos, &publication]].concat();
    let times = times_of("pg_recvlogical", &arguments).await;
    sql.execute(&format!("SELECT pg_drop_replication_slot('{FLOOR}')")).await;
    times
}
