//! Small transactions through many shapes.

use super::creation::{self, CONNECTIONS};
use super::{Scenario, Times, times_of};
use crate::client::Log;
use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::{Database, Sql, eventually, processor_time};
use std::time::Instant;

/// Transactions of one row that wait in the WAL while the server stands still, and then are worked off: until a client
/// has the last one. How long that takes depends on how far Postgres has decoded them by then, and how fast it goes on;
/// so the time counts in which a processor worked for the server.
pub struct Transactions {
    /// How many shapes there are, each for one value of a column.
    pub shapes: u32,
}

const COUNT: u32 = 50_000;
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
    let connections = creation::connect(subject, CONNECTIONS).await;
    creation::ask(connections, shapes as usize, |n| format!("table=items&where=n%3D{n}")).await;
}

/// Has `write` fill the WAL while the server stands still, and the server then work it off, until a client of the shape
/// that `query` describes has its row.
pub(super) async fn work_off(subject: &mut Subject, query: &str, write: impl AsyncFnOnce(&Sql)) -> Times {
    let mut log = Log::new(query);
    let mut connection = subject.connect().await;
    connection.read_to_end(&mut log).await;
    let client = tokio::spawn(async move { connection.wait(&mut log).await });
    subject.limn().wait_parked(1).await;
    let sql = subject.limn().sql().await;
    wait_sent(&sql).await;
    subject.note_idle();
    subject.pause();
    write(&sql).await;
    let process = subject.limn().process();
    let worked = || processor_time(process).expect("the system tells it");
    let (before, begun) = (worked(), Instant::now());
    subject.go_on();
    client.await.expect("the client has the last row");
    Times { passed: begun.elapsed(), worked: worked().saturating_sub(before) }
}

/// Waits until Postgres has sent what others wrote to the WAL while the server did not run.
async fn wait_sent(sql: &Sql) {
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
        let times = work_off(subject, LAST, async |sql: &Sql| self.write(sql).await).await;
        f64::from(COUNT + 1) / times.worked.as_secs_f64()
    }

    async fn floor(&self, database: &Database) -> Option<f64> {
        let sql = database.connect().await;
        let times = receive(database, &sql, self.write(&sql)).await?;
        Some(f64::from(COUNT + 1) / times.worked.as_secs_f64())
    }
}

/// Has `pg_recvlogical` read what `write` leaves in the WAL, and times it.
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
