//! The figures at one point, each on a server and a database of its own.

use crate::client::Log;
use crate::figures::{Figures, Memory};
use crate::scenario::latency::Latency;
use crate::scenario::restart::first_answer;
use crate::scenario::{cold_sync, creation, live_clients, milliseconds};
use crate::subject::Subject;
use limn_tests::{Cluster, Sql};
use std::path::Path;

/// What [`beside_shapes`] measures.
pub const OF_SHAPES: [&str; 4] = [
    "latency of one client, p50, µs",
    "latency of one client, p99, µs",
    "memory for each shape after a start, bytes",
    "start until the first answer, ms",
];
/// What [`for_clients`] measures.
pub const OF_CLIENTS: [&str; 2] = ["the last one has the row, ms", "memory for each client, bytes"];
/// What [`of_rows`] measures.
pub const OF_ROWS: [&str; 3] = ["time, ms", "rows per second", "memory at most, MB"];

/// Where one run takes little time, the middle one of several counts.
const RUNS: usize = 3;
const ROWS_PER_SHAPE: u32 = 3;
/// The shape that a client follows.
const LIVE: &str = "table=items&where=n%20IN%20(-1,-2)";

/// A client that waits for rows of its shape, beside so many others that ask for one value each; then the server is
/// started again.
pub async fn beside_shapes(cluster: &Cluster, program: &Path, count: u32) -> [f64; OF_SHAPES.len()] {
    let fill = async |sql: &Sql| {
        sql.execute("CREATE TABLE items (id serial PRIMARY KEY, n int, note text)").await;
        let rows = count * ROWS_PER_SHAPE - 1;
        let of_value =
            format!("SELECT i % {count}, 'a note of some length' FROM generate_series(0, {rows}) i");
        sql.execute(&format!("INSERT INTO items (n, note) {of_value}")).await;
        sql.execute("CREATE INDEX ON items (n)").await;
        sql.execute("VACUUM ANALYZE items").await;
    };
    let mut subject = start(cluster, program, fill).await;
    subject.stop().await;
    subject.start().await;
    let empty = subject.memory_bytes();
    let connections = creation::connect(&subject, creation::CONNECTIONS).await;
    creation::ask(connections, count as usize, |n| format!("table=items&where=n%3D{n}")).await;
    let write = "INSERT INTO items (n, note) VALUES (-1, 'a note of some length')";
    let latency = Latency::measure(&subject, LIVE, write).await;
    let mut log = Log::new("table=items&where=n%3D0");
    subject.connect().await.read_to_end(&mut log).await;
    subject.stop().await;
    let start = milliseconds(first_answer(&mut subject, &log).await);
    let memory = subject.memory_bytes().saturating_sub(empty) as f64 / f64::from(count);
    end(cluster, subject).await;
    [latency.percentile(50), latency.percentile(99), memory, start]
}

/// So many clients of one shape, and a row for all of them.
pub async fn for_clients(cluster: &Cluster, program: &Path, count: u32) -> [f64; OF_CLIENTS.len()] {
    let subject = start(cluster, program, async |sql: &Sql| live_clients::fill(sql).await).await;
    let mut times = Figures::default();
    let mut memory = None;
    for _ in 0..RUNS {
        let idle = subject.memory_bytes();
        let clients = live_clients::park(&subject, live_clients::QUERY, count).await;
        let parked = subject.memory_bytes().saturating_sub(idle) as f64 / f64::from(count);
        // The server keeps what it once got from the system: only its first clients show what they need.
        memory.get_or_insert(parked);
        times.add(live_clients::insert(&subject, clients).await, Memory::default());
    }
    end(cluster, subject).await;
    [times.median(), memory.unwrap_or_default()]
}

/// A new shape of so many rows, read to its end.
pub async fn of_rows(cluster: &Cluster, program: &Path, count: u32) -> [f64; OF_ROWS.len()] {
    let subject = start(cluster, program, async |sql: &Sql| cold_sync::fill(sql, count).await).await;
    let mut times = Figures::default();
    for run in 0..RUNS {
        let took = cold_sync::sync(&subject, run, count).await;
        times.add(milliseconds(took), subject.memory_kb());
    }
    end(cluster, subject).await;
    let median = times.median();
    [median, f64::from(count) * 1000.0 / median, times.peak_mb().unwrap_or_default()]
}

async fn start(cluster: &Cluster, program: &Path, fill: impl AsyncFnOnce(&Sql)) -> Subject {
    let database = cluster.database().await;
    fill(&database.connect().await).await;
    let mut subject = Subject::new(program, database);
    subject.start().await;
    subject
}

async fn end(cluster: &Cluster, mut subject: Subject) {
    subject.stop().await;
    cluster.discard(subject.database()).await;
}
