//! The benchmark: `cargo x bench` runs it. Each scenario runs on every build of Limn in turn, and on the floor where
//! there is one (what Postgres's own tools take for the same work), all on this machine and one Postgres.
#![allow(clippy::print_stdout, reason = "a command line program talks to its terminal")]

mod client;
mod figures;
mod goal;
mod nginx;
mod plot;
mod report;
mod responder;
mod scenario;
mod subject;
mod waiter;

use clap::{Parser, ValueEnum};
use figures::{Figures, Memory};
use goal::Goal;
use limn_tests::Cluster;
use report::{Report, Row};
use scenario::{
    ColdSync, Creation, Crowd, Equality, Filters, IdleShapes, LargeRow, LargeTransaction, LiveClients,
    ManyReaders, ParkedMemory, Restart, Scenario, SmallShape, Transactions, WideWrite,
};
use std::path::PathBuf;
use subject::Subject;

/// Options of the benchmark.
#[derive(Debug, Parser)]
struct Options {
    /// What to measure; everything when nothing is named
    scenarios: Vec<Name>,
    /// A build of Limn that is measured, by its path. Several are measured in turn, and compared with the first one
    #[arg(long = "program", value_name = "PATH", required = true)]
    programs: Vec<PathBuf>,
    /// How often each: medians are printed
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
    /// How many shapes the transactions or the large row go through, and how many are made, or there at a start
    /// [default: 10000, of the large row 40]
    #[arg(long, value_name = "N")]
    shapes: Option<u32>,
    /// The number of clients that wait
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    clients: u32,
    /// Writes a page with the table and a plot for each scenario into this folder
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
}

/// Without `--shapes`.
const SHAPES: u32 = 10_000;
const SHAPES_OF_LARGE_ROW: u32 = 40;

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
}

impl Name {
    /// The figures to reach, on two cores.
    fn goals(self, options: &Options) -> Vec<Goal> {
        let few_clients = options.clients <= 1_000;
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
        }
    }
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    // As a server is set up that keeps what it confirms.
    let settings = ["fsync=on", "shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=1h"];
    let cluster = Cluster::start(&settings).await;
    let names = if options.scenarios.is_empty() { Name::value_variants() } else { &options.scenarios };
    let shapes = options.shapes.unwrap_or(SHAPES);
    let mut report = Report::default();
    for name in names {
        let row = match name {
            Name::ColdSync => measure(&cluster, &options, ColdSync).await,
            Name::Transactions => measure(&cluster, &options, Transactions { shapes }).await,
            Name::LargeTransaction => measure(&cluster, &options, LargeTransaction { shapes }).await,
            Name::LargeRow => {
                let shapes = options.shapes.unwrap_or(SHAPES_OF_LARGE_ROW);
                measure(&cluster, &options, LargeRow { shapes }).await
            }
            Name::LiveClients => measure(&cluster, &options, LiveClients { clients: options.clients }).await,
            Name::ParkedMemory => {
                measure(&cluster, &options, ParkedMemory { clients: options.clients }).await
            }
            Name::WideWrite => measure(&cluster, &options, WideWrite).await,
            Name::ManyReaders => measure(&cluster, &options, ManyReaders).await,
            Name::SmallShape => measure(&cluster, &options, SmallShape).await,
            Name::Creation => measure(&cluster, &options, Creation { shapes: shapes as usize }).await,
            Name::Crowd => measure(&cluster, &options, Crowd).await,
            Name::Restart => measure(&cluster, &options, Restart { shapes: shapes as usize }).await,
            Name::Filters => measure(&cluster, &options, Filters::new(shapes)).await,
            Name::Equality => measure(&cluster, &options, Equality::new(shapes)).await,
            Name::IdleShapes => measure(&cluster, &options, IdleShapes::new(shapes as usize)).await,
        };
        let name_text = name.to_possible_value().expect("every scenario has a name").get_name().to_owned();
        let row = Row { name: name_text, goals: name.goals(&options), ..row };
        row.print();
        report.add(row);
    }
    if let Some(folder) = &options.results {
        let conditions = conditions(&cluster, options.runs).await;
        report.write(folder, &conditions).expect("the folder can be written to");
        println!("\nwritten to {}", folder.join("RESULTS.md").display());
    }
}

/// The machine and the Postgres on which the figures were measured.
async fn conditions(cluster: &Cluster, runs: usize) -> String {
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
        "{runs} runs of each, on {cores} cores of a machine ({}, memory {}) with everything on it: server, clients, \
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
            let figure = scenario.run(subject, run).await;
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
