//! The benchmark: `cargo x bench` runs it. Each scenario runs on every build of Limn in turn, and on the floor where
//! there is one (what Postgres's own tools take for the same work), all on this machine and one Postgres.
#![allow(clippy::print_stdout, reason = "a command line program talks to its terminal")]

mod client;
mod curve;
mod figures;
mod goal;
mod growth;
mod nginx;
mod plot;
mod profiler;
mod report;
mod responder;
mod scenario;
mod soak;
mod subject;
mod waiter;

use clap::{Parser, ValueEnum};
use figures::{Figures, Memory};
use goal::Goal;
use growth::Growth;
use limn_tests::Cluster;
use profiler::Profiler;
use report::{Report, Row};
use scenario::{
    ColdSync, Compaction, Creation, Crowd, Equality, Filters, IdleShapes, LargeRow, LargeTransaction,
    LiveClients, ManyReaders, ParkedMemory, Restart, Scenario, SmallShape, Transactions, WideWrite,
};
use soak::{Sizes, Soak};
use std::path::PathBuf;
use std::time::Duration;
use subject::Subject;

/// Options of the benchmark.
#[derive(Debug, Parser)]
struct Options {
    /// What to measure; everything but the soak and the growth when nothing is named
    scenarios: Vec<Name>,
    /// A build of Limn that is measured, by its path. Several are measured in turn, and compared with the first one
    #[arg(long = "program", value_name = "PATH", required = true)]
    programs: Vec<PathBuf>,
    /// How often each: medians are printed
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
    /// How many shapes the transactions or the large row go through, and how many are made, or there at a start
    /// [default: 10000, of the large row 40, of the soak 20000]
    #[arg(long, value_name = "N")]
    shapes: Option<u32>,
    /// The number of clients that wait [default: 1000, of the soak 2000]
    #[arg(long, value_name = "N")]
    clients: Option<u32>,
    /// How long the soak lasts
    #[arg(long, default_value_t = 20, value_name = "N")]
    minutes: u64,
    /// How often the row is updated whose log is compacted
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    updates: u32,
    /// Also the largest points of the growth: a million shapes, 10,000 clients, 10 million rows
    #[arg(long)]
    large: bool,
    /// Samples of `perf` while the last run is under way go into this file
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Writes a page with the table and a plot for each scenario into this folder
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
}

/// Without `--shapes`.
const SHAPES: u32 = 10_000;
const SHAPES_OF_LARGE_ROW: u32 = 40;
const SHAPES_OF_SOAK: u32 = 20_000;
/// Without `--clients`.
const CLIENTS: u32 = 1_000;
const CLIENTS_OF_SOAK: u32 = 2_000;
/// Where a soak leaves its plot and samples without `--results`.
const SOAK_FOLDER: &str = "target/soak";

/// The scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The initial sync of a new shape of a million rows; the floor is COPY by psql
    ColdSync,
    /// 50,000 transactions of one row each that are waiting in the WAL, through many shapes; the floor is `pg_recvlogical`
    Transactions,
    /// One transaction of 500,000 rows that waits in the WAL, through many shapes; the floor is `pg_recvlogical`
    LargeTransaction,
    /// A row of 50 MB that one client of each of many shapes waits for
    LargeRow,
    /// Clients that wait for the next row of one shape; the floor is a server that writes them a reply it knows beforehand
    LiveClients,
    /// The memory that the server keeps for each client that waits
    ParkedMemory,
    /// A row that hits 1,500 shapes, for each of which a client waits; the floor is the same
    WideWrite,
    /// 64 connections that read a shape of 500 rows again and again; the floor is nginx with a file of as many bytes
    SmallShape,
    /// The same by 2,000 connections: how long the slowest hundredth of the replies takes
    ManyReaders,
    /// New shapes through 16 connections
    Creation,
    /// 5,000 new shapes at once
    Crowd,
    /// The start of a server that has many shapes
    Restart,
    /// One client that waits for a row, beside shapes that ask for texts, ranges and lists
    Filters,
    /// The same beside shapes that ask for one value each
    Equality,
    /// The memory that the server keeps for each shape that nobody reads
    IdleShapes,
    /// A row that was updated very often, for a new client
    Compaction,
    /// Many shapes that come and go, many clients and steady writes, for `--minutes`: what grows meanwhile
    Soak,
    /// How figures grow with shapes, clients and rows
    Growth,
}

impl Name {
    /// The figures to reach, on two cores.
    fn goals(self, options: &Options) -> Vec<Goal> {
        let few_clients = options.clients.is_none_or(|clients| clients <= CLIENTS);
        let few_shapes = options.shapes.is_none_or(|shapes| shapes <= SHAPES);
        match self {
            Self::ColdSync => vec![Goal::TimesFloorAtMost(1.15), Goal::PeakMb(20.0)],
            Self::Transactions => vec![Goal::TimesFloorAtLeast(0.9)],
            Self::LargeTransaction => vec![Goal::TimesFloorAtLeast(2.0), Goal::PeakMb(100.0)],
            Self::LargeRow => vec![Goal::AboveIdleMb(150.0)],
            Self::LiveClients => vec![Goal::AtMost(if few_clients { 15.0 } else { 120.0 })],
            Self::ParkedMemory => vec![Goal::AtMost(6_000.0)],
            Self::WideWrite => vec![Goal::AtMost(10.0)],
            Self::SmallShape => vec![Goal::TimesFloorAtLeast(0.7)],
            Self::ManyReaders => vec![Goal::AtMost(400.0), Goal::PeakMb(100.0)],
            Self::Creation => vec![Goal::AtLeast(2_000.0)],
            Self::Crowd => vec![Goal::AtMost(5_000.0)],
            Self::Restart => vec![Goal::AtMost(if few_shapes { 300.0 } else { 1_000.0 })],
            Self::Filters => vec![Goal::TimesFloorAtMost(2.0)],
            Self::Equality => vec![Goal::TimesFloorAtMost(1.1)],
            Self::IdleShapes => vec![Goal::AtMost(1_000.0)],
            Self::Compaction => vec![Goal::AtMost(2.0)],
            Self::Soak | Self::Growth => Vec::new(),
        }
    }

    /// Runs where no other is named.
    const fn is_usual(self) -> bool {
        !matches!(self, Self::Soak | Self::Growth)
    }
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    // As a server is set up that keeps what it confirms.
    let settings = ["fsync=on", "shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=1h"];
    let cluster = Cluster::start(&settings).await;
    let mut names = options.scenarios.clone();
    if names.is_empty() {
        names.extend(Name::value_variants().iter().filter(|name| name.is_usual()));
    }
    let mut report = Report::default();
    for name in names {
        match name {
            Name::Soak => soak(&cluster, &options).await,
            Name::Growth => growth(&cluster, &options).await,
            name => {
                let name_text =
                    name.to_possible_value().expect("every scenario has a name").get_name().to_owned();
                let row = measure_named(&cluster, &options, name).await;
                let row = Row { name: name_text, goals: name.goals(&options), ..row };
                row.print();
                report.add(row);
            }
        }
    }
    if let Some(folder) = options.results.as_ref().filter(|_| !report.is_empty()) {
        let conditions = format!("{} runs of each, {}", options.runs, conditions(&cluster).await);
        report.write(folder, &conditions).expect("the folder can be written to");
        println!("\nwritten to {}", folder.join("RESULTS.md").display());
    }
}

async fn measure_named(cluster: &Cluster, options: &Options, name: Name) -> Row {
    let shapes = options.shapes.unwrap_or(SHAPES);
    let clients = options.clients.unwrap_or(CLIENTS);
    match name {
        Name::ColdSync => measure(cluster, options, ColdSync).await,
        Name::Transactions => measure(cluster, options, Transactions { shapes }).await,
        Name::LargeTransaction => measure(cluster, options, LargeTransaction { shapes }).await,
        Name::LargeRow => {
            let shapes = options.shapes.unwrap_or(SHAPES_OF_LARGE_ROW);
            measure(cluster, options, LargeRow { shapes }).await
        }
        Name::LiveClients => measure(cluster, options, LiveClients { clients }).await,
        Name::ParkedMemory => measure(cluster, options, ParkedMemory { clients }).await,
        Name::WideWrite => measure(cluster, options, WideWrite).await,
        Name::ManyReaders => measure(cluster, options, ManyReaders).await,
        Name::SmallShape => measure(cluster, options, SmallShape).await,
        Name::Creation => measure(cluster, options, Creation { shapes: shapes as usize }).await,
        Name::Crowd => measure(cluster, options, Crowd).await,
        Name::Restart => measure(cluster, options, Restart { shapes: shapes as usize }).await,
        Name::Filters => measure(cluster, options, Filters::new(shapes)).await,
        Name::Equality => measure(cluster, options, Equality::new(shapes)).await,
        Name::IdleShapes => measure(cluster, options, IdleShapes::new(shapes as usize)).await,
        Name::Compaction => measure(cluster, options, Compaction { updates: options.updates }).await,
        Name::Soak | Name::Growth => unreachable!("they have no row"),
    }
}

/// Has each build work for a long time, one after the other.
async fn soak(cluster: &Cluster, options: &Options) {
    let shapes = options.shapes.unwrap_or(SHAPES_OF_SOAK);
    let sizes = Sizes { shapes, clients: options.clients.unwrap_or(CLIENTS_OF_SOAK).min(shapes / 2) };
    let folder = match &options.results {
        Some(folder) => folder.join("results"),
        None => PathBuf::from(SOAK_FOLDER),
    };
    for program in &options.programs {
        let soak = Soak::run(cluster, program, sizes, Duration::from_secs(options.minutes * 60)).await;
        soak.print();
        soak.write(&folder, sizes).expect("the folder can be written to");
        println!("  written to {}", folder.display());
    }
}

/// Measures how the figures of the first build grow.
async fn growth(cluster: &Cluster, options: &Options) {
    let Some(program) = options.programs.first() else { return };
    let growth = Growth::run(cluster, program, options.large).await;
    if let Some(folder) = &options.results {
        let conditions = format!("once at each point, {}", conditions(cluster).await);
        growth.write(folder, &conditions).expect("the folder can be written to");
    }
}

/// The machine and the Postgres on which the figures were measured.
async fn conditions(cluster: &Cluster) -> String {
    let database = cluster.database().await;
    let postgres = database.connect().await.value("SHOW server_version").await;
    cluster.discard(&database).await;
    let line_of = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split(':').nth(1).unwrap_or("unknown").trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "on {cores} cores of a machine ({}, memory {}) with everything on it: server, clients, \
         and one Postgres {postgres} with fsync.",
        line_of("/proc/cpuinfo", "model name"),
        line_of("/proc/meminfo", "MemTotal"),
    )
}

/// Measures a scenario.
async fn measure<S: Scenario>(cluster: &Cluster, options: &Options, scenario: S) -> Row {
    println!("\n{}, {}", S::TITLE, S::UNIT.name());
    let mut subjects = Vec::new();
    for program in &options.programs {
        let database = cluster.database().await;
        scenario.fill(&database.connect().await).await;
        let mut subject = Subject::new(program, database);
        subject.start().await;
        scenario.set_up(&mut subject).await;
        subject.stop().await;
        subjects.push((subject, Figures::default()));
    }
    // Its own as well: what the floor writes would wait in the slot of the first subject.
    let database = cluster.database().await;
    scenario.fill(&database.connect().await).await;
    let mut floor = Figures::default();
    for run in 0..options.runs {
        // The others do not run meanwhile, and each comes first in turn.
        let first = run % subjects.len();
        let (head, tail) = subjects.split_at_mut(first);
        for (subject, figures) in tail.iter_mut().chain(head) {
            subject.start().await;
            let process = subject.limn().process();
            let profiler = options.profile.as_ref().map(|file| Profiler::begin(file, process));
            let figure = scenario.run(subject, run).await;
            if let Some(profiler) = profiler {
                profiler.end(subject.limn().process());
            }
            figures.add(figure, subject.memory_kb());
            subject.stop().await;
        }
        if let Some(figure) = scenario.floor(&database).await {
            floor.add(figure, Memory::default());
        }
    }
    cluster.discard(&database).await;
    let mut measured = Vec::new();
    for (subject, figures) in subjects {
        cluster.discard(subject.database()).await;
        measured.push((subject.name(), figures));
    }
    Row { name: String::new(), title: S::TITLE, unit: S::UNIT, floor, subjects: measured, goals: Vec::new() }
}
