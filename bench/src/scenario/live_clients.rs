//! Many clients that wait for one row.

use super::{Scenario, milliseconds};
use crate::client::Log;
use crate::figures::Unit;
use crate::subject::Subject;
use crate::waiter::Waiter;
use limn_tests::Sql;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Long polls on one shape, all answered by one insert: from the commit's acknowledgement to the last reply.
pub struct LiveClients {
    /// Their number.
    pub clients: u32,
}

/// The memory that the server keeps for each of them while they wait.
pub struct ParkedMemory {
    /// Their number.
    pub clients: u32,
}

/// One insert that hits many shapes, with one long poll each: from the commit's acknowledgement to the last reply.
pub struct WideWrite;

const WIDE_SHAPES: u32 = 1_500;
const QUERY: &str = "table=items";
/// Until what the requests needed while they came is given back.
const SETTLE: Duration = Duration::from_millis(500);

impl Scenario for LiveClients {
    const TITLE: &str = "Many clients wait for a row: the last one has it";
    const UNIT: Unit = Unit::Milliseconds;

    async fn fill(&self, sql: &Sql) {
        fill(sql).await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        subject.connect().await.read_to_end(&mut Log::new(QUERY)).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        let clients = park(subject, self.clients).await;
        insert(subject, clients).await
    }
}

impl Scenario for ParkedMemory {
    const TITLE: &str = "Many clients wait for a row: the server's memory for each";
    const UNIT: Unit = Unit::Bytes;

    async fn fill(&self, sql: &Sql) {
        fill(sql).await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        subject.connect().await.read_to_end(&mut Log::new(QUERY)).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        subject.connect().await.read_to_end(&mut Log::new(QUERY)).await;
        let idle = subject.memory_bytes();
        let clients = park(subject, self.clients).await;
        sleep(SETTLE).await;
        let parked = subject.memory_bytes();
        insert(subject, clients).await;
        parked.saturating_sub(idle) as f64 / f64::from(self.clients)
    }
}

impl Scenario for WideWrite {
    const TITLE: &str = "One write hits 1,500 shapes, with a client each: the last one has it";
    const UNIT: Unit = Unit::Milliseconds;

    async fn fill(&self, sql: &Sql) {
        fill(sql).await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        let mut connection = subject.connect().await;
        for shape in 0..WIDE_SHAPES {
            connection.read_to_end(&mut Log::new(&wide(shape))).await;
        }
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        let mut connection = subject.connect().await;
        let mut clients = JoinSet::new();
        for shape in 0..WIDE_SHAPES {
            let mut log = Log::new(&wide(shape));
            connection.read_to_end(&mut log).await;
            let waiter = subject.waiter().await;
            clients.spawn(async move { waiter.wait(&log.target(true)).await });
        }
        subject.limn().wait_parked(u64::from(WIDE_SHAPES)).await;
        insert(subject, clients).await
    }
}

/// Shapes that every row belongs to, each of its own.
fn wide(shape: u32) -> String {
    format!("{QUERY}&where=id%3E-{}", shape + 1)
}

pub(crate) async fn fill(sql: &Sql) {
    sql.execute("CREATE TABLE items (id serial PRIMARY KEY, note text)").await;
}

/// So many clients of one shape, that wait.
pub(crate) async fn park(subject: &Subject, count: u32) -> JoinSet<Waiter> {
    let mut log = Log::new(QUERY);
    subject.connect().await.read_to_end(&mut log).await;
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let (waiter, target) = (subject.waiter().await, log.target(true));
        clients.spawn(async move { waiter.wait(&target).await });
    }
    subject.limn().wait_parked(u64::from(count)).await;
    clients
}

/// Writes the row that they wait for: the milliseconds from the commit's answer until the last one has it.
pub(crate) async fn insert(subject: &Subject, mut clients: JoinSet<Waiter>) -> f64 {
    let sql = subject.limn().sql().await;
    sql.execute("INSERT INTO items (note) VALUES ('seen')").await;
    let committed = Instant::now();
    let mut answered = Vec::new();
    while let Some(client) = clients.join_next().await {
        answered.push(client.expect("a client ends"));
    }
    let took = milliseconds(committed.elapsed());
    drop(answered);
    took
}
