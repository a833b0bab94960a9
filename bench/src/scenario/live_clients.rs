//! Many clients that wait for one row.

use super::{Scenario, milliseconds};
use crate::client::Log;
use crate::figures::Unit;
use crate::responder::Responder;
use crate::subject::Subject;
use crate::waiter::Waiter;
use limn_tests::{Database, Sql};
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
/// The shape that the clients wait for.
pub(crate) const QUERY: &str = "table=items";
/// A reply as Limn gives it.
const REPLY_HEAD: &str = "HTTP/1.1 200 OK\r\nvary: accept-encoding\r\naccess-control-allow-origin: *\r\n\
    access-control-expose-headers: electric-cursor,electric-handle,electric-has-data,electric-offset,electric-schema,\
    electric-up-to-date,electric-internal-known-error,retry-after,electric-snapshot,etag,limn-chunk\r\n\
    access-control-allow-methods: GET, POST, HEAD, DELETE, OPTIONS\r\nserver: Limn/0.1.0\r\n\
    electric-cursor: 67890123\r\nx-request-id: limn-00001764540000000000\r\ndate: Mon, 30 Nov 2026 22:00:00 GMT\r\n\
    cache-control: public, max-age=5, stale-while-revalidate=5\r\netag: \"1764540000000000-7:0_inf:12345678_0\"\r\n\
    electric-handle: 1764540000000000-7\r\nelectric-offset: 12345678_0\r\nelectric-has-data: true\r\n\
    electric-up-to-date: \r\ncontent-type: application/json; charset=utf-8\r\n";
const REPLY_BODY: &str = r#"[{"key":"\"public\".\"items\"/\"1\"","value":{"id":"1","note":"seen"},"headers":
    {"operation":"insert","relation":["public","items"],"txids":[1234],"lsn":"12345678","op_position":0,"last":true}},
    {"headers":{"control":"up-to-date","global_last_seen_lsn":"12345678"}}]"#;
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
        write_first(subject, QUERY).await;
        let clients = park(subject, QUERY, self.clients).await;
        insert(subject, clients).await
    }

    async fn floor(&self, _database: &Database) -> Option<f64> {
        Some(respond(self.clients).await)
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
        let clients = park(subject, QUERY, self.clients).await;
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
        write_first(subject, &wide(0)).await;
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

    async fn floor(&self, _database: &Database) -> Option<f64> {
        Some(respond(WIDE_SHAPES).await)
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
pub(crate) async fn park(subject: &Subject, query: &str, count: u32) -> JoinSet<Waiter> {
    let mut log = Log::new(query);
    subject.connect().await.read_to_end(&mut log).await;
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let (waiter, target) = (subject.waiter().await, log.target(true));
        clients.spawn(async move { waiter.wait(&target).await });
    }
    subject.limn().wait_parked(u64::from(count)).await;
    clients
}

/// The first change of a table after a start has the server ask the catalog for the table, on a new session: that is no
/// part of what a change costs later.
async fn write_first(subject: &Subject, query: &str) {
    let clients = park(subject, query, 1).await;
    println!("  {}, the first change after its start:", subject.name());
    insert(subject, clients).await;
}

/// Writes the row that they wait for: the milliseconds from the commit's answer until the last one has it.
pub(crate) async fn insert(subject: &Subject, clients: JoinSet<Waiter>) -> f64 {
    let sql = subject.limn().sql().await;
    sql.execute("INSERT INTO items (note) VALUES ('seen')").await;
    time_until_answered(clients, Instant::now()).await
}

/// Has a server that knows the reply beforehand write it to that many clients.
async fn respond(clients: u32) -> f64 {
    let reply = format!("{REPLY_HEAD}content-length: {}\r\n\r\n{REPLY_BODY}", REPLY_BODY.len());
    let responder = Responder::start(clients as usize, &reply);
    let mut waiting = JoinSet::new();
    for _ in 0..clients {
        let waiter = Waiter::open(responder.port()).await;
        waiting.spawn(async move { waiter.wait("/").await });
    }
    let answering = tokio::task::spawn_blocking(move || {
        responder.wait_parked();
        let begun = Instant::now();
        responder.answer();
        (responder, begun)
    });
    let (responder, begun) = answering.await.expect("all clients ask");
    let took = time_until_answered(waiting, begun).await;
    responder.end();
    took
}

/// From then until the last has its reply; those of the first and of half of them are printed.
async fn time_until_answered(mut clients: JoinSet<Waiter>, begun: Instant) -> f64 {
    let (mut answered, mut times) = (Vec::new(), Vec::new());
    while let Some(client) = clients.join_next().await {
        answered.push(client.expect("a client ends"));
        times.push(milliseconds(begun.elapsed()));
    }
    let [first, half, last] = [0, times.len() / 2, times.len() - 1].map(|at| times[at]);
    println!("  the first after {first:.1}, half of them after {half:.1}, the last after {last:.1} ms");
    last
}
