//! One seed: a database, a server, writers, clients, and what became of them.

use crate::outage;
use crate::reference::{Counts, Reference};
use crate::schema::Schema;
use crate::shape::Shape;
use crate::statement;
use crate::subscription::{Outcome, Subscription};
use crate::violation::{Kind, Violation};
use crate::writer;
use limn_tests::{Client, Cluster, Database, Limn, Random, Sql};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Committed transactions of a seed, at least.
const TRANSACTIONS: u64 = 200;
/// Shapes of a seed, at least.
const SHAPES_MIN: u64 = 10;
/// Clients of a seed, at least.
const CLIENTS_MIN: u64 = 5;
const WRITERS: u64 = 4;
/// The chance of a table for big transactions.
const BIG_ONE_OF: u64 = 3;
/// How long a client may take to see the last transaction.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
/// How long a client listens to one stream of events.
const LISTEN_MAX: Duration = Duration::from_millis(300);
const SERVER: [&str; 2] = ["--long-poll-timeout-ms", "400"];

/// What writers and clients share.
#[derive(Debug)]
pub struct Run {
    /// The tables.
    pub schema: Schema,
    /// Where they are.
    pub database: Database,
    /// The lock under which transactions commit.
    pub reference: Arc<Mutex<Reference>>,
    /// Transactions that committed.
    pub committed: AtomicU64,
    /// Transactions that did not.
    pub aborted: AtomicU64,
    done: AtomicBool,
}

/// What one seed held.
#[derive(Debug, Default, Clone, Copy)]
pub struct Outline {
    /// What was judged.
    pub counts: Counts,
    /// Transactions that were rolled back.
    pub aborted: u64,
    /// Shapes.
    pub shapes: u64,
    /// Clients.
    pub clients: u64,
}

impl std::ops::Add for Outline {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            counts: self.counts + other.counts,
            aborted: self.aborted + other.aborted,
            shapes: self.shapes + other.shapes,
            clients: self.clients + other.clients,
        }
    }
}

impl Run {
    /// Whether the writers are to go on.
    pub fn transactions_left(&self) -> bool {
        self.committed.load(Ordering::Relaxed) < TRANSACTIONS && !self.done.load(Ordering::Relaxed)
    }

    /// A session, as soon as Postgres is there.
    pub async fn connect(&self, settings: &str) -> Sql {
        outage::connect(&self.database, settings).await
    }
}

/// Runs one seed.
pub async fn seed(cluster: &Cluster, seed: u64) -> Result<Outline, Violation> {
    let mut random = Random::new(seed);
    let run_is_big = seed.is_multiple_of(BIG_ONE_OF);
    let schema = Schema::random(&mut random, run_is_big);
    let database = cluster.database().await;
    let sql = database.connect().await;
    sql.execute(&schema.ddl(&mut random)).await;
    fill(&sql, &schema, &mut random).await;
    let shapes: Arc<[Shape]> = shapes(&schema, &sql, &mut random).await.into();
    let reference = Arc::new(Mutex::new(Reference::new(shapes.clone(), &sql).await));
    // Thousands of rows are not read a dozen at a time.
    let sizes = if run_is_big { &[500_000, 10_000_000] } else { &[2_000, 20_000] };
    let chunk = random.choice::<u64>(sizes).to_string();
    let options = [&SERVER[..], &["--chunk-bytes-max", &chunk]].concat();
    let server = Limn::start(&database, &options).await;
    let run = Arc::new(Run {
        schema,
        database,
        reference,
        committed: AtomicU64::new(0),
        aborted: AtomicU64::new(0),
        done: AtomicBool::new(false),
    });
    let outcome = follow(&run, &server, &shapes, &mut random).await;
    run.done.store(true, Ordering::Relaxed);
    let (counts, unexplained) = {
        let reference = run.reference.lock().await;
        (reference.counts(), reference.unexplained_handles())
    };
    drop(server);
    cluster.discard(&run.database).await;
    let clients = outcome?;
    if let Some((shape, count)) = unexplained.first() {
        let text = format!("{count} handles of shape {shape} have no cause: {}", shapes[*shape].query);
        return Err(Violation { kind: Kind::Rotated, text });
    }
    let aborted = run.aborted.load(Ordering::Relaxed);
    Ok(Outline { counts, aborted, shapes: shapes.len() as u64, clients })
}

async fn fill(sql: &Sql, schema: &Schema, random: &mut Random) {
    for table in schema.tables.iter().filter(|table| !table.is_big) {
        let rows = random.below(12);
        if rows > 0 {
            sql.execute(&statement::insert(table, rows, random)).await;
        }
    }
}

/// Shapes whose SQL Postgres accepts.
async fn shapes(schema: &Schema, sql: &Sql, random: &mut Random) -> Vec<Shape> {
    let count = SHAPES_MIN + random.below(4);
    let mut shapes = Vec::new();
    while (shapes.len() as u64) < count {
        let shape = Shape::random(schema, random);
        match sql.try_rows(&shape.sql).await {
            Ok(_) => shapes.push(shape),
            Err(error) => unreachable!("{}: {error:?}", shape.sql),
        }
    }
    let big = schema.tables.iter().position(|table| table.is_big);
    shapes.extend(big.map(|table| Shape::of(schema, table, random)));
    shapes
}

/// Writers and clients until the end; how many clients there were.
async fn follow(run: &Arc<Run>, server: &Limn, shapes: &Arc<[Shape]>, random: &mut Random) -> Result<u64, Violation> {
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(writer::write(run.clone(), Random::new(random.below(u64::MAX) ^ number)));
    }
    let clients = CLIENTS_MIN + random.below(3);
    let mut following = JoinSet::new();
    for client in 0..clients {
        // Every shape has a client, some have several.
        for shape in (0..shapes.len()).filter(|shape| *shape as u64 % clients == client) {
            following.spawn(subscribe(run.clone(), server.client(), shape, shapes.clone(), Random::new(random.below(u64::MAX))));
        }
        for _ in 0..1 + random.below(2) {
            let shape = crate::schema::index(random, shapes.len());
            following.spawn(subscribe(run.clone(), server.client(), shape, shapes.clone(), Random::new(random.below(u64::MAX))));
        }
    }
    let mut copies = Vec::new();
    loop {
        tokio::select! {
            Some(written) = writers.join_next(), if !writers.is_empty() => written.expect("it wrote"),
            Some(followed) = following.join_next() => {
                let copy = followed.unwrap_or_else(|error| Err(Violation { kind: Kind::Stuck, text: error.to_string() }));
                copies.push(copy?);
                continue;
            }
            else => break,
        }
        if writers.is_empty() {
            run.done.store(true, Ordering::Relaxed);
        }
    }
    converge(run, server, shapes, copies).await?;
    Ok(clients)
}

/// One client's copy of a shape, until the writers are done.
async fn subscribe(
    run: Arc<Run>,
    client: Client,
    shape: usize,
    shapes: Arc<[Shape]>,
    mut random: Random,
) -> Result<Subscription, Violation> {
    let joins_at = random.below(TRANSACTIONS * 3 / 4) * random.below(2);
    while run.committed.load(Ordering::Relaxed) < joins_at && !run.done.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(5)).await;
    }
    let mut copy = Subscription::new(client, run.reference.clone(), shape, &shapes[shape].query);
    while !run.done.load(Ordering::Relaxed) {
        let outcome = match random.below(100) {
            0..=2 => {
                copy.forget();
                Outcome::Read
            }
            3..=5 => {
                copy.abandon().await;
                Outcome::Read
            }
            6..=12 => {
                sleep(Duration::from_millis(random.below(300))).await;
                Outcome::Read
            }
            13..=24 if !shapes[shape].has_subquery => {
                let messages = 1 + random.below(40);
                copy.listen(messages, Instant::now() + LISTEN_MAX).await?
            }
            25..=44 => copy.read(false).await?,
            _ => copy.read(true).await?,
        };
        if outcome == Outcome::Away {
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(copy)
}

/// Every copy, and a new one of each shape, reaches the last transaction.
async fn converge(run: &Run, server: &Limn, shapes: &Arc<[Shape]>, mut copies: Vec<Subscription>) -> Result<(), Violation> {
    let sql = run.connect("").await;
    let lsn = server.barrier(&sql).await;
    for (shape, definition) in shapes.iter().enumerate() {
        copies.push(Subscription::new(server.client(), run.reference.clone(), shape, &definition.query));
    }
    let mut reading = JoinSet::new();
    for copy in copies {
        reading.spawn(catch_up(copy, lsn));
    }
    while let Some(read) = reading.join_next().await {
        read.unwrap_or_else(|error| Err(Violation { kind: Kind::Stuck, text: error.to_string() }))?;
    }
    Ok(())
}

async fn catch_up(mut copy: Subscription, lsn: u64) -> Result<(), Violation> {
    let started = Instant::now();
    while copy.seen_lsn().is_none_or(|seen| seen < lsn) {
        let outcome = copy.read(false).await?;
        if outcome == Outcome::Away || copy.seen_lsn().is_some() {
            sleep(Duration::from_millis(20)).await;
        }
        if started.elapsed() > CATCH_UP_MAX {
            let text = format!("{} does not reach {lsn}", copy.place());
            return Err(Violation { kind: Kind::Stuck, text });
        }
    }
    Ok(())
}
