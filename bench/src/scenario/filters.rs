//! Many shapes with filters of several families.

use super::Scenario;
use super::latency::Latency;
use crate::client::Log;
use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::Sql;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use tokio::task::JoinSet;

/// A write that one client waits for, while other shapes of the table ask for pieces of texts, beginnings, ranges and
/// lists, in equal parts; the floor is the same write to a table of one shape, in the same run. Then rows through them,
/// each for one of the shapes. The figure is the middle of the latencies; the others are printed as they come.
pub struct Filters {
    /// How many shapes there are.
    pub shapes: u32,
}

/// The same where each of the shapes asks for one value.
pub struct Equality {
    /// How many shapes there are.
    pub shapes: u32,
}

const CONNECTIONS: usize = 16;
const ROWS: u32 = 50_000;
/// The shape that a client follows, and a row of it.
const LIVE: &str = "where=tenant%20IN%20(-1,-2)";
const LIVE_ROW: &str =
    "(tenant, amount, code, title) VALUES (-1, -1, 'none', 'a title of some length, as they are')";

impl Scenario for Filters {
    const TITLE: &str = "one client waits for a row, beside shapes of four families: its latency";
    const UNIT: Unit = Unit::Microseconds;

    async fn fill(&self, sql: &Sql) {
        fill(sql).await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        let clause = |n: u32| match n % 4 {
            0 => format!("title%20ILIKE%20%27%25Word{n}x%25%27"),
            1 => format!("code%20LIKE%20%27p{n}.%25%27"),
            2 => format!("amount%20%3E%3D%20{}%20AND%20amount%20%3C%20{}", n * 10, n * 10 + 10),
            _ => format!("tenant%20IN%20({n},{},{})", n + 1_000_000, n + 2_000_000),
        };
        set_up(subject, self.shapes, clause).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        let latency = run(subject).await;
        let rate = rows_per_second(subject, self.shapes).await;
        println!("  {}: {ROWS} rows through {} shapes: {rate:.0} per second", subject.name(), self.shapes);
        latency
    }
}

impl Scenario for Equality {
    const TITLE: &str = "one client waits for a row, beside shapes of one value each: its latency";
    const UNIT: Unit = Unit::Microseconds;

    async fn fill(&self, sql: &Sql) {
        fill(sql).await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        set_up(subject, self.shapes, |n| format!("tenant%3D{n}")).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        run(subject).await
    }
}

async fn fill(sql: &Sql) {
    for table in ["items", "alone"] {
        let columns = "id serial PRIMARY KEY, tenant int, amount int, code text, title text COLLATE \"C\"";
        sql.execute(&format!("CREATE TABLE {table} ({columns})")).await;
    }
    sql.execute("CREATE INDEX ON items (tenant)").await;
}

async fn set_up(
    subject: &Subject,
    shapes: u32,
    clause: impl Fn(u32) -> String + Clone + Send + Sync + 'static,
) {
    for table in ["items", "alone"] {
        subject.connect().await.read_to_end(&mut Log::new(&format!("table={table}&{LIVE}"))).await;
    }
    println!("  {}: few shapes: {}", subject.name(), latency(subject, "alone").await.text());
    let (begun, next, mut makers) = (Instant::now(), Arc::new(AtomicU32::new(0)), JoinSet::new());
    for _ in 0..CONNECTIONS {
        let (mut connection, next, clause) = (subject.connect().await, next.clone(), clause.clone());
        makers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= shapes {
                    return;
                }
                connection.get(&format!("/v1/shape?table=items&where={}&offset=-1", clause(n))).await;
            }
        });
    }
    while let Some(maker) = makers.join_next().await {
        maker.expect("shapes are made");
    }
    println!("  {}: {shapes} shapes made in {:.1} s", subject.name(), begun.elapsed().as_secs_f64());
}

async fn latency(subject: &Subject, table: &str) -> Latency {
    Latency::measure(subject, &format!("table={table}&{LIVE}"), &format!("INSERT INTO {table} {LIVE_ROW}"))
        .await
}

async fn run(subject: &Subject) -> f64 {
    let (alone, among) = (latency(subject, "alone").await, latency(subject, "items").await);
    println!("  {}: one shape: {}; among all: {}", subject.name(), alone.text(), among.text());
    among.percentile(50)
}

/// Rows that wait in the WAL while the server stands still, until the client has the last one.
async fn rows_per_second(subject: &Subject, shapes: u32) -> f64 {
    let mut log = Log::new(&format!("table=items&{LIVE}"));
    let mut connection = subject.connect().await;
    connection.read_to_end(&mut log).await;
    let client = tokio::spawn(async move { connection.wait(&mut log).await });
    subject.limn().wait_parked(1).await;
    let sql = subject.limn().sql().await;
    subject.pause();
    let of_family = |family: u32, value: &str, other: &str| {
        format!("CASE WHEN n % 4 = {family} THEN {value} ELSE {other} END")
    };
    sql.execute(&format!(
        "INSERT INTO items (tenant, amount, code, title) SELECT {}, {}, {}, {} \
         FROM (SELECT i % {shapes} AS n FROM generate_series(1, {ROWS}) i) rows",
        of_family(3, "n", "-3"),
        of_family(2, "n * 10", "-1"),
        of_family(1, "'p' || n || '.code'", "'none'"),
        of_family(0, "'A title with word' || n || 'X in it'", "'a title of some length, as they are'"),
    ))
    .await;
    sql.execute(&format!("INSERT INTO items {LIVE_ROW}")).await;
    let begun = Instant::now();
    subject.go_on();
    client.await.expect("the client has the last row");
    f64::from(ROWS) / begun.elapsed().as_secs_f64()
}
