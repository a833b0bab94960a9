//! One seed: a database, what is in it, and what its writers and clients share.

use crate::chaos::Report;
use crate::circumstance::application::{read, watch};
use crate::circumstance::{self, Circumstance, World};
use crate::follow;
use crate::outage;
use crate::reference::{Counts, MARKS, Reference};
use crate::removals::causes;
use crate::schema::Schema;
use crate::shape::Shape;
use crate::statement;
use crate::violation::{Kind, Violation};
use limn_tests::{Cluster, Database, Limn, Random, Sql};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

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
    /// Whether things break, so that there may be no answer for a while.
    pub has_faults: bool,
    /// What other people's databases have.
    pub world: World,
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
#[derive(Debug, Clone)]
pub struct Plan {
    /// What its database has.
    pub circumstances: BTreeSet<Circumstance>,
    /// See [`Run::has_faults`].
    pub has_faults: bool,
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
        let database = cluster.database().await;
        let sql = database.connect().await;
        let version = sql.value("SELECT current_setting('server_version_num')::int / 10000").await;
        let world = World::new(plan.circumstances, version.parse().expect("a version"));
        let mut schema = Schema::random(random, is_big);
        let mut its_random = Random::new(random.below(u64::MAX));
        circumstance::extend(&mut schema, &world, &mut its_random);
        // What other publications bear depends on the identity that tables have.
        let identities = !world.has(Circumstance::Publications);
        sql.execute(&schema.ddl(identities, random)).await;
        sql.execute(&format!("CREATE TABLE {MARKS} (mark int8 PRIMARY KEY)")).await;
        fill(&sql, &schema, random).await;
        let shapes: Arc<[Shape]> = shapes(&schema, &sql, random).await.into();
        let reference = Arc::new(Mutex::new(Reference::new(shapes.clone(), &sql).await));
        // Thousands of rows are not read a dozen at a time.
        let sizes = if is_big { &[500_000, 10_000_000] } else { &[2_000, 20_000] };
        let chunk_bytes = random.choice::<u64>(sizes).to_string();
        let mut options: Vec<String> =
            ["--long-poll-timeout-ms", "400", "--chunk-bytes-max", &chunk_bytes].map(str::to_owned).into();
        if world.has(Circumstance::Manual) {
            options.push("--manual-table-publishing".to_owned());
        }
        let run = Self {
            schema,
            database,
            shapes,
            reference,
            committed: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            crashes: Crashes::default(),
            is_calm: plan.is_calm,
            has_faults: plan.has_faults,
            world,
            transactions_max: plan.transactions_max,
            done: AtomicBool::new(false),
        };
        sql.execute(&circumstance::ddl(&run, &mut its_random)).await;
        (Arc::new(run), options)
    }

    /// A server for it, yet to be started, that sees the database as `database`.
    pub fn server(&self, database: &Database, options: &[String]) -> Limn {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let mut server = Limn::stopped(database, &options);
        if let Some(login) = circumstance::login(self) {
            server.log_in_as(&login);
        }
        server
    }

    /// The publication that the server makes.
    pub fn publication(&self) -> String {
        format!("electric_publication_{}", self.database.name)
    }

    /// For a while, shapes of these tables may show anything: the server cannot have noticed.
    pub async fn forgive(&self, tables: &[usize], time: Duration) {
        self.reference.lock().await.forgive_tables(tables, time);
    }

    /// Shapes of this table may start over once.
    pub async fn excuse(&self, table: usize) {
        self.reference.lock().await.excuse(table);
    }

    /// The other sessions of the application, until the run is over.
    pub fn applications(self: &Arc<Self>, random: &mut Random) -> JoinSet<()> {
        let mut sessions = JoinSet::new();
        sessions.spawn(watch(self.clone()));
        sessions.spawn(read(self.clone(), Random::new(random.below(u64::MAX))));
        sessions
    }

    /// Whether the writers are to go on.
    pub fn transactions_left(&self) -> bool {
        let has_enough = self.committed.load(Ordering::Relaxed) >= self.transactions_max;
        !(self.is_done() || has_enough && self.world.is_over())
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
pub async fn seed(seed: u64, circumstances: BTreeSet<Circumstance>) -> Result<Report, Violation> {
    if Circumstance::needs_cluster(&circumstances) {
        let own = Cluster::start(&["max_prepared_transactions=10"]).await;
        return seed_on(&own, false, seed, circumstances).await;
    }
    seed_on(Cluster::shared().await, true, seed, circumstances).await
}

async fn seed_on(
    cluster: &Cluster,
    is_shared: bool,
    seed: u64,
    circumstances: BTreeSet<Circumstance>,
) -> Result<Report, Violation> {
    let mut random = Random::new(seed);
    let plan = Plan { circumstances, has_faults: false, is_calm: false, transactions_max: TRANSACTIONS };
    let (run, options) = Run::prepare(cluster, seed, plan, &mut random).await;
    let mut server = run.server(&run.database, &options);
    server.resume().await;
    let client = server.client();
    circumstance::begin(&run, &mut random).await;
    let sessions = run.applications(&mut random);
    let events = circumstance::play(run.clone(), client.clone(), Random::new(random.below(u64::MAX)));
    let followed = match follow::follow(&run, &client, &mut random, events).await {
        Ok((clients, copies)) => follow::converge(&run, &server, copies).await.map(|()| clients),
        Err(violation) => Err(violation),
    };
    run.finish();
    drop(sessions);
    let causes = causes(&server.output());
    drop(server);
    if is_shared {
        cluster.discard(&run.database).await;
    }
    let clients = followed?;
    if let Some(violation) = run.world.violation() {
        return Err(violation);
    }
    match run.reference.lock().await.unexplained_handles(&causes).first() {
        None => {}
        Some((shape, handles)) => {
            let Shape { query, sql, .. } = &run.shapes[*shape];
            let given_up = handles.iter().map(|handle| format!("\n  {handle}: {:?}", causes.get(*handle)));
            let text = format!("too many handles: {query}\n  {sql}{}", given_up.collect::<String>());
            return Err(Violation { kind: Kind::Rotated, text });
        }
    }
    let outline = run.outline(clients).await;
    Ok(Report { outline, world: run.world.outcome(), ..Report::default() })
}

async fn fill(sql: &Sql, schema: &Schema, random: &mut Random) {
    for table in schema.tables.iter().filter(|table| !table.is_big) {
        let rows = random.below(12);
        if table.deferrable.is_some() {
            for _ in 0..rows {
                // Nothing says that the key is not there yet.
                let _ = sql.try_execute(&statement::insert(table, 1, random)).await;
            }
        } else if rows > 0 {
            sql.execute(&statement::insert(table, rows, random)).await;
        }
    }
}

async fn shapes(schema: &Schema, sql: &Sql, random: &mut Random) -> Vec<Shape> {
    let mut shapes: Vec<Shape> =
        (0..SHAPES_MIN + random.below(4)).map(|_| Shape::random(schema, random)).collect();
    let big = schema.tables.iter().position(|table| table.is_big);
    shapes.extend(big.map(|table| Shape::of(schema, table, random)));
    for table in schema.only_here() {
        shapes.push(Shape::assemble(&schema.tables[table], vec![table], None, "", random));
        shapes.push(Shape::of(schema, table, random));
    }
    for shape in &shapes {
        // What Postgres refuses is a mistake of the generator.
        sql.rows(&shape.sql).await;
    }
    shapes
}
