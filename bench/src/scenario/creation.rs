//! New shapes.

use super::{Scenario, milliseconds};
use crate::client::{Connection, Log};
use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::Sql;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::task::JoinSet;

/// First requests for shapes of a few rows, each for one value of an indexed column, through some connections.
pub struct Creation {
    /// How many shapes each run makes.
    pub shapes: usize,
}

/// The same where each comes through a connection of its own, all at once.
pub struct Crowd;

pub(crate) const CONNECTIONS: usize = 16;
const CROWD: usize = 5_000;
const ROWS_PER_SHAPE: usize = 3;
/// Values that the table has; runs take those that follow.
const VALUES: usize = 200_000;

impl Scenario for Creation {
    const TITLE: &str = "16 connections ask for new shapes of three rows: first replies";
    const UNIT: Unit = Unit::PerSecond;

    async fn fill(&self, sql: &Sql) {
        fill(sql).await;
    }

    async fn run(&self, subject: &mut Subject, run: usize) -> f64 {
        let connections = connect(subject, CONNECTIONS).await;
        let begun = Instant::now();
        let first = run * self.shapes;
        ask(connections, self.shapes, move |n| of_value(first + n)).await;
        self.shapes as f64 / begun.elapsed().as_secs_f64()
    }
}

impl Scenario for Crowd {
    const TITLE: &str = "5,000 first requests for new shapes at once: the last one is answered";
    const UNIT: Unit = Unit::Milliseconds;

    async fn fill(&self, sql: &Sql) {
        fill(sql).await;
    }

    async fn run(&self, subject: &mut Subject, run: usize) -> f64 {
        let connections = connect(subject, CROWD).await;
        let begun = Instant::now();
        ask(connections, CROWD, move |n| of_value(run * CROWD + n)).await;
        milliseconds(begun.elapsed())
    }
}

pub(super) async fn fill(sql: &Sql) {
    fill_values(sql, VALUES, ROWS_PER_SHAPE).await;
}

/// The table, with so many rows of each of so many values of `n`.
pub(crate) async fn fill_values(sql: &Sql, values: usize, rows: usize) {
    sql.execute("CREATE TABLE items (id serial PRIMARY KEY, n int, note text)").await;
    let rows = format!(
        "SELECT i % {values}, 'a note of some length' FROM generate_series(0, {}) i",
        values * rows - 1
    );
    sql.execute(&format!("INSERT INTO items (n, note) {rows}")).await;
    sql.execute("CREATE INDEX ON items (n)").await;
    sql.execute("ANALYZE items").await;
}

pub(crate) async fn connect(subject: &Subject, count: usize) -> Vec<Connection> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(subject.connect().await);
    }
    connections
}

/// Makes so many shapes of three rows.
pub(super) async fn make_shapes(subject: &Subject, count: usize) {
    ask(connect(subject, CONNECTIONS).await, count, of_value).await;
}

/// Asks for the beginning of each shape that `query` describes by its number, through these connections.
pub(crate) async fn ask(
    connections: Vec<Connection>,
    count: usize,
    query: impl Fn(usize) -> String + Send + Sync + 'static,
) {
    let shared = Arc::new((AtomicUsize::new(0), query));
    let mut makers = JoinSet::new();
    for mut connection in connections {
        let shared = shared.clone();
        makers.spawn(async move {
            let (next, query) = &*shared;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return;
                }
                connection.get(&Log::new(&query(n)).target(false)).await;
            }
        });
    }
    while let Some(maker) = makers.join_next().await {
        maker.expect("every request is answered");
    }
}

fn of_value(n: usize) -> String {
    format!("table=items&where=n%3D{}", n % VALUES)
}
