//! Many shapes with filters of several families.

use super::Scenario;
use super::creation::{self, CONNECTIONS};
use super::latency::Latency;
use super::transactions::work_off;
use crate::client::Log;
use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::{Database, Sql};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A write that one client waits for, while other shapes of the table ask for pieces of texts, beginnings, ranges and
/// lists, in equal parts; the floor is the same write to a table of one shape, in the same run. Then rows through them,
/// each for one of the shapes. The figure is the middle of the latencies; the others are printed as they come.
pub struct Filters {
    shapes: u32,
    alone: Alone,
}

/// The same where each of the shapes asks for one value.
pub struct Equality {
    shapes: u32,
    alone: Alone,
}

/// The latency where there are no others, as the last run had it.
#[derive(Default)]
struct Alone(Mutex<Option<f64>>);

impl Alone {
    fn set(&self, latency: f64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(latency);
    }

    fn get(&self) -> Option<f64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filters {
    /// With so many other shapes.
    pub fn new(shapes: u32) -> Self {
        Self { shapes, alone: Alone::default() }
    }
}

impl Equality {
    /// With so many other shapes.
    pub fn new(shapes: u32) -> Self {
        Self { shapes, alone: Alone::default() }
    }
}

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
        let clause = |n: usize| match n % 4 {
            0 => format!("title%20ILIKE%20%27%25Word{n}x%25%27"),
            1 => format!("code%20LIKE%20%27p{n}.%25%27"),
            2 => format!("amount%20%3E%3D%20{}%20AND%20amount%20%3C%20{}", n * 10, n * 10 + 10),
            _ => format!("tenant%20IN%20({n},{},{})", n + 1_000_000, n + 2_000_000),
        };
        set_up(subject, self.shapes, clause).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        let latency = run(subject, &self.alone).await;
        let rate = rows_per_second(subject, self.shapes).await;
        println!("  {}: {ROWS} rows through {} shapes: {rate:.0} per second", subject.name(), self.shapes);
        latency
    }

    async fn floor(&self, _database: &Database) -> Option<f64> {
        self.alone.get()
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
        run(subject, &self.alone).await
    }

    async fn floor(&self, _database: &Database) -> Option<f64> {
        self.alone.get()
    }
}

async fn fill(sql: &Sql) {
    for table in ["items", "alone"] {
        let columns = "id serial PRIMARY KEY, tenant int, amount int, code text, title text COLLATE \"C\"";
        sql.execute(&format!("CREATE TABLE {table} ({columns})")).await;
    }
    sql.execute("CREATE INDEX ON items (tenant)").await;
}

async fn set_up(subject: &Subject, shapes: u32, clause: impl Fn(usize) -> String + Send + Sync + 'static) {
    for table in ["items", "alone"] {
        subject.connect().await.read_to_end(&mut Log::new(&format!("table={table}&{LIVE}"))).await;
    }
    println!("  {}: few shapes: {}", subject.name(), latency(subject, "alone").await.text());
    let connections = creation::connect(subject, CONNECTIONS).await;
    let begun = Instant::now();
    creation::ask(connections, shapes as usize, move |n| format!("table=items&where={}", clause(n))).await;
    println!("  {}: {shapes} shapes made in {:.1} s", subject.name(), begun.elapsed().as_secs_f64());
}

async fn latency(subject: &Subject, table: &str) -> Latency {
    Latency::measure(subject, &format!("table={table}&{LIVE}"), &format!("INSERT INTO {table} {LIVE_ROW}"))
        .await
}

async fn run(subject: &Subject, floor: &Alone) -> f64 {
    let (alone, among) = (latency(subject, "alone").await, latency(subject, "items").await);
    println!("  {}: one shape: {}; among all: {}", subject.name(), alone.text(), among.text());
    floor.set(alone.percentile(50));
    among.percentile(50)
}

/// Rows that wait in the WAL while the server stands still, until the client has the last one.
async fn rows_per_second(subject: &mut Subject, shapes: u32) -> f64 {
    let of_family = |family: u32, value: &str, other: &str| {
        format!("CASE WHEN n % 4 = {family} THEN {value} ELSE {other} END")
    };
    let rows = format!(
        "INSERT INTO items (tenant, amount, code, title) SELECT {}, {}, {}, {} \
         FROM (SELECT i % {shapes} AS n FROM generate_series(1, {ROWS}) i) rows",
        of_family(3, "n", "-3"),
        of_family(2, "n * 10", "-1"),
        of_family(1, "'p' || n || '.code'", "'none'"),
        of_family(0, "'A title with word' || n || 'X in it'", "'a title of some length, as they are'"),
    );
    let write = async |sql: &Sql| {
        sql.execute(&rows).await;
        sql.execute(&format!("INSERT INTO items {LIVE_ROW}")).await;
    };
    let times = work_off(subject, &format!("table=items&{LIVE}"), write).await;
    f64::from(ROWS) / times.passed.as_secs_f64()
}
