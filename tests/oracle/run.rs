//! One seed: a database, what is in it, and what its writers and clients share.

use crate::follow;
use crate::outage;
use crate::reference::{Counts, MARKS, Reference};
use crate::removals::causes;
use crate::schema::Schema;
use crate::shape::Shape;
use crate::statement;
use crate::violation::{Kind, Violation};
use limn_tests::{Cluster, Database, Limn, Random, Sql};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Committed transactions of a seed, at least.
pub const TRANSACTIONS: u64 = 200;
/// Shapes of a seed, at least.
const SHAPES_MIN: u64 = 10;
/// The chance of a table for big transactions.
const BIG_ONE_OF: u64 = 3;

/// What writers and clients share.
#[derive(Debug)]
pub struct Run {
    /// The tables.
    pub schema: Schema,
    /// Where they are.
    pub database: Database,
    /// What is followed.
    pub shapes: Arc<[Shape]>,
    /// The lock under which transactions commit.
    pub reference: Arc<Mutex<Reference>>,
    /// Transactions that committed.
    pub committed: AtomicU64,
    /// Transactions that did not.
    pub aborted: AtomicU64,
    /// How often the server was ended, and what came of it.
    pub crashes: Crashes,
    /// Whether nothing is done that makes shapes start over.
    pub is_calm: bool,
    transactions_max: u64,
    done: AtomicBool,
}

/// Ends of the server.
#[derive(Debug, Default)]
pub struct Crashes {
    /// How many there were.
    pub count: AtomicU64,
    /// Clients that held an offset before one, and went on behind it.
    pub went_on: AtomicU64,
    /// Clients that held an offset before one, and had to start over.
    pub started_over: AtomicU64,
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

/// How a seed is run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// See [`Run::is_calm`].
    pub is_calm: bool,
    /// After so many transactions the writers are done.
    pub transactions_max: u64,
}

impl Crashes {
    /// The server has ended.
    pub fn note(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Run {
    /// Makes the tables, and says which options the server is to have.
    pub async fn prepare(
        cluster: &Cluster,
        seed: u64,
        plan: Plan,
        random: &mut Random,
    ) -> (Arc<Self>, Vec<String>) {
        let is_big = seed.is_multiple_of(BIG_ONE_OF);
        let schema = Schema::random(random, is_big);
        let database = cluster.database().await;
        let sql = database.connect().await;
        sql.execute(&schema.ddl(random)).await;
        sql.execute(&format!("CREATE TABLE {MARKS} (mark int8 PRIMARY KEY)")).await;
        fill(&sql, &schema, random).await;
        let shapes: Arc<[Shape]> = shapes(&schema, &sql, random).await.into();
        let reference = Arc::new(Mutex::new(Reference::new(shapes.clone(), &sql).await));
        // Thousands of rows are not read a dozen at a time.
        let sizes = if is_big { &[500_000, 10_000_000] } else { &[2_000, 20_000] };
        let chunk_bytes = random.choice::<u64>(sizes).to_string();
        let options = ["--long-poll-timeout-ms", "400", "--chunk-bytes-max", &chunk_bytes].map(str::to_owned);
        let run = Self {
            schema,
            database,
            shapes,
            reference,
            committed: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            crashes: Crashes::default(),
            is_calm: plan.is_calm,
            transactions_max: plan.transactions_max,
            done: AtomicBool::new(false),
        };
        (Arc::new(run), options.into())
    }

    /// Whether the writers are to go on.
    pub fn transactions_left(&self) -> bool {
        self.committed.load(Ordering::Relaxed) < self.transactions_max && !self.is_done()
    }

    /// Whether clients have nothing more to wait for.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends the writing.
    pub fn finish(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    /// A session, as soon as Postgres is there.
    pub async fn connect(&self, settings: &str) -> Sql {
        outage::connect(&self.database, settings).await
    }

    /// What it held.
    pub async fn outline(&self, clients: u64) -> Outline {
        let counts = self.reference.lock().await.counts();
        let (aborted, shapes) = (self.aborted.load(Ordering::Relaxed), self.shapes.len() as u64);
        Outline { counts, aborted, shapes, clients }
    }
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

/// Runs one seed without faults.
pub async fn seed(cluster: &Cluster, seed: u64) -> Result<Outline, Violation> {
    let mut random = Random::new(seed);
    let plan = Plan { is_calm: false, transactions_max: TRANSACTIONS };
    let (run, options) = Run::prepare(cluster, seed, plan, &mut random).await;
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let server = Limn::start(&run.database, &options).await;
    let followed = match follow::follow(&run, &server.client(), &mut random, async {}).await {
        Ok((clients, copies)) => follow::converge(&run, &server, copies).await.map(|()| clients),
        Err(violation) => Err(violation),
    };
    run.finish();
    let causes = causes(&server.output());
    drop(server);
    cluster.discard(&run.database).await;
    let clients = followed?;
    match run.reference.lock().await.unexplained_handles(&causes).first() {
        None => {}
        Some((shape, handles)) => {
            let Shape { query, sql, .. } = &run.shapes[*shape];
            let given_up = handles.iter().map(|handle| format!("\n  {handle}: {:?}", causes.get(*handle)));
            let text = format!("too many handles: {query}\n  {sql}{}", given_up.collect::<String>());
            return Err(Violation { kind: Kind::Rotated, text });
        }
    }
    Ok(run.outline(clients).await)
}

async fn fill(sql: &Sql, schema: &Schema, random: &mut Random) {
    for table in schema.tables.iter().filter(|table| !table.is_big) {
        let rows = random.below(12);
        if rows > 0 {
            sql.execute(&statement::insert(table, rows, random)).await;
        }
    }
}

async fn shapes(schema: &Schema, sql: &Sql, random: &mut Random) -> Vec<Shape> {
    let mut shapes: Vec<Shape> =
        (0..SHAPES_MIN + random.below(4)).map(|_| Shape::random(schema, random)).collect();
    let big = schema.tables.iter().position(|table| table.is_big);
    shapes.extend(big.map(|table| Shape::of(schema, table, random)));
    for shape in &shapes {
        // What Postgres refuses is a mistake of the generator.
        sql.rows(&shape.sql).await;
    }
    shapes
}
