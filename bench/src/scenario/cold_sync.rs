//! The initial sync of a large table.

use super::{Scenario, milliseconds, times_of};
use crate::client::Log;
use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::{Database, Sql};
use std::time::{Duration, Instant};

/// A shape of a million rows that nobody has asked for before, read to its end by one connection.
pub struct ColdSync;

const ROWS: u32 = 1_000_000;

impl Scenario for ColdSync {
    const TITLE: &str = "Cold sync of 1,000,000 rows of 5 columns";
    const UNIT: Unit = Unit::Milliseconds;

    async fn fill(&self, sql: &Sql) {
        fill(sql, ROWS).await;
    }

    async fn run(&self, subject: &mut Subject, run: usize) -> f64 {
        milliseconds(sync(subject, run, ROWS).await)
    }

    async fn floor(&self, database: &Database) -> Option<f64> {
        let arguments = ["--no-psqlrc", "--command=COPY items TO STDOUT", &database.url()];
        times_of("psql", &arguments).await.map(|times| milliseconds(times.passed))
    }
}

/// A table of so many rows.
pub(crate) async fn fill(sql: &Sql, rows: u32) {
    let columns = "id int PRIMARY KEY, owner int, title text, done boolean, changed timestamptz";
    sql.execute(&format!("CREATE TABLE items ({columns})")).await;
    let row = "i, i % 1000, 'item number ' || i || ' of a table', i % 3 = 0, '2026-01-01'::timestamptz + i * '1 s'::interval";
    sql.execute(&format!("INSERT INTO items SELECT {row} FROM generate_series(1, {rows}) i")).await;
    sql.execute("VACUUM ANALYZE items").await;
}

/// Reads a new shape of all rows to its end.
pub(crate) async fn sync(subject: &Subject, run: usize, rows: u32) -> Duration {
    let mut connection = subject.connect().await;
    // A clause that no run before has used makes a shape of its own.
    let mut log = Log::new(&format!("table=items&where=id%3E-{}", run + 1));
    let begun = Instant::now();
    let bytes = connection.read_to_end(&mut log).await;
    let took = begun.elapsed();
    assert!(bytes > 100 * rows as usize, "only {bytes} bytes");
    took
}
