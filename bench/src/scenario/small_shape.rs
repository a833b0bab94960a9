//! Many reads of a small shape.

use super::{Scenario, milliseconds};
use crate::client::{Connection, Log};
use crate::figures::Unit;
use crate::nginx::Nginx;
use crate::subject::Subject;
use limn_tests::{Database, Sql};
use std::time::{Duration, Instant};

/// Connections that ask for the initial reply of one shape in a closed loop.
pub struct SmallShape;

/// Many more connections that do the same: the time that 99 of 100 replies stay below.
pub struct ManyReaders;

const CONNECTIONS: usize = 64;
const MANY_CONNECTIONS: usize = 2_000;
const ROWS: u32 = 500;
const QUERY: &str = "table=items";
/// About the length of the reply.
const REPLY_BYTES: usize = 119_000;
const TIME: Duration = Duration::from_secs(3);
const MANY_TIME: Duration = Duration::from_secs(10);

impl Scenario for SmallShape {
    const TITLE: &str = "64 connections read a shape of 500 rows: replies";
    const UNIT: Unit = Unit::PerSecond;

    async fn fill(&self, sql: &Sql) {
        fill(sql).await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        subject.connect().await.read_to_end(&mut Log::new(QUERY)).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        replies_per_second(subject.port(), &target()).await
    }

    async fn floor(&self, _database: &Database) -> Option<f64> {
        let nginx = Nginx::start(REPLY_BYTES).await?;
        Some(replies_per_second(nginx.port(), "/file").await)
    }
}

impl Scenario for ManyReaders {
    const TITLE: &str = "2,000 connections read a shape of 500 rows: 99 of 100 replies take less";
    const UNIT: Unit = Unit::Milliseconds;

    async fn fill(&self, sql: &Sql) {
        fill(sql).await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        subject.connect().await.read_to_end(&mut Log::new(QUERY)).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        let mut times = read(subject.port(), &target(), MANY_CONNECTIONS, MANY_TIME).await;
        times.sort_unstable();
        let at = |hundredth: usize| milliseconds(times[(times.len() - 1) * hundredth / 100]);
        println!("  {}: {} replies, half of them within {:.1} ms", subject.name(), times.len(), at(50));
        at(99)
    }
}

async fn fill(sql: &Sql) {
    sql.execute("CREATE TABLE items (id int PRIMARY KEY, note text)").await;
    let rows = format!("SELECT i, repeat('x', 100) FROM generate_series(1, {ROWS}) i");
    sql.execute(&format!("INSERT INTO items {rows}")).await;
}

fn target() -> String {
    format!("/v1/shape?{QUERY}&offset=-1")
}

async fn replies_per_second(port: u16, target: &str) -> f64 {
    let begun = Instant::now();
    let times = read(port, target, CONNECTIONS, TIME).await;
    times.len() as f64 / begun.elapsed().as_secs_f64()
}

/// Reads a target through that many connections, each again and again, for this time: how long each reply took.
async fn read(port: u16, target: &str, connections: usize, time: Duration) -> Vec<Duration> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Connection::open(port).await);
    }
    let begun = Instant::now();
    let mut readers = Vec::new();
    for mut connection in opened {
        let target = target.to_owned();
        readers.push(tokio::spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed() < time {
                let asked = Instant::now();
                connection.get(&target).await;
                times.push(asked.elapsed());
            }
            times
        }));
    }
    let mut times = Vec::new();
    for reader in readers {
        times.extend(reader.await.expect("a reader ends"));
    }
    times
}
