//! The oracle: random schemas, shapes, writers and clients, and every up-to-date of every client compared with what
//! the shape's SQL said at that very commit. With `--chaos`, while things break. `cargo x oracle` and `cargo x chaos` run it.
#![allow(clippy::print_stdout, reason = "a command line program talks to its terminal")]

mod chaos;
mod circumstance;
mod crowd;
mod fault;
mod follow;
mod kind;
mod outage;
mod reference;
mod removals;
mod run;
mod schema;
mod shape;
mod state;
mod statement;
mod subquery;
mod subscription;
mod totals;
mod violation;
mod writer;

use circumstance::Circumstance;
use clap::Parser;
use limn_tests::keep_logs;
use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::timeout;
use totals::Totals;
use violation::{Kind, Violation};

/// Options of the oracle.
#[derive(Debug, Parser)]
struct Options {
    /// How many seeds to run
    #[arg(long, default_value_t = 200, value_name = "N")]
    seeds: u64,
    /// The first one; the others follow it
    #[arg(long, default_value_t = 1, value_name = "N")]
    first: u64,
    /// Only this one
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// How often each: writers and clients meet differently every time
    #[arg(long, default_value_t = 1, value_name = "N")]
    times: u64,
    /// How many at a time
    #[arg(long, default_value_t = 3, value_name = "N")]
    jobs: usize,
    /// Let things break, and run seeds until so many minutes are over
    #[arg(long, value_name = "MINUTES")]
    chaos: Option<u64>,
    /// How many more shapes the first server has, whose database has nothing else; with --chaos
    #[arg(long, default_value_t = 0, value_name = "N", requires = "chaos")]
    shapes: u32,
    /// Run the seeds that failed once, and further ones until so many seconds are over
    #[arg(long, value_name = "SECONDS", conflicts_with = "chaos")]
    known_for: Option<u64>,
    /// What databases have besides, instead of what the seeds draw; a comma between two, `none` for nothing
    #[arg(long, value_name = "NAMES")]
    with: Option<String>,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
}

/// A seed takes seconds, with faults about a minute.
const SEED_TIME_MAX: Duration = Duration::from_secs(300);

/// The same for a seed with `--shapes`: thousands of shapes are made, read, and read again.
const CROWDED_SEED_TIME_MAX: Duration = Duration::from_secs(900);

/// The first of the seeds that follow the known ones in a run with a limit of time.
const FURTHER: u64 = 1_000;

/// Seeds that found something once, and what. Choices change with the generator: what was found has a test of its
/// own wherever it can be brought about.
const KNOWN: &[(u64, &str)] = &[
    (3, "a column that came to a partitioned table was overlooked until the next look at the catalog"),
    (5, "a snapshot that had waited for a TRUNCATE was empty"),
    (12, "a long poll that ended at the moment of a commit named its LSN without its rows"),
    (21, "a table was altered between its description and its snapshot"),
];

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    // Writers and clients are tasks of the runtime; what starts and stops servers stays here.
    let told = match options.with.as_deref().map(named).transpose() {
        Ok(told) => told,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let totals = LocalSet::new().run_until(run_all(&options, told)).await;
    println!("{totals}");
    if totals.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The seeds in their order, and when to begin no more of them.
fn seeds(options: &Options) -> (Box<dyn Iterator<Item = u64>>, Option<Duration>) {
    let times = usize::try_from(options.times).unwrap_or(usize::MAX);
    let repeat = move |seed| std::iter::repeat_n(seed, times);
    if let Some(seed) = options.seed {
        return (Box::new(repeat(seed)), options.chaos.map(|minutes| Duration::from_secs(minutes * 60)));
    }
    if let Some(minutes) = options.chaos {
        return (Box::new((options.first..).flat_map(repeat)), Some(Duration::from_secs(minutes * 60)));
    }
    if let Some(seconds) = options.known_for {
        let known = KNOWN.iter().map(|(seed, _)| *seed);
        // The same seeds for everybody: who looks for new ones has `cargo x oracle`.
        return (Box::new(known.chain(FURTHER..)), Some(Duration::from_secs(seconds)));
    }
    (Box::new((options.first..options.first + options.seeds).flat_map(repeat)), None)
}

/// Circumstances by their names.
fn named(names: &str) -> Result<BTreeSet<Circumstance>, String> {
    names.split(',').filter(|name| *name != "none").map(str::parse).collect()
}

async fn run_all(options: &Options, told: Option<BTreeSet<Circumstance>>) -> Totals {
    let (mut seeds, time_max) = seeds(options);
    let started = Instant::now();
    let mut totals = Totals::new(options.chaos.is_some());
    let mut running = JoinSet::new();
    let with_faults = options.chaos.is_some();
    let mut crowd = options.shapes;
    loop {
        while running.len() < options.jobs
            && (!totals.has_failed() || options.keep_going)
            && time_max.is_none_or(|limit| started.elapsed() < limit)
        {
            let Some(seed) = seeds.next() else { break };
            let crowd = std::mem::take(&mut crowd);
            let drawn = || if crowd > 0 { BTreeSet::new() } else { Circumstance::draw(seed, with_faults) };
            let circumstances = told.clone().unwrap_or_else(drawn);
            running.spawn_local(async move {
                let outcome = judge(seed, with_faults, crowd, circumstances.clone()).await;
                (seed, circumstances, outcome)
            });
        }
        let Some(ended) = running.join_next().await else { return totals };
        let (seed, circumstances, outcome) = ended.expect("failures are values");
        if outcome.is_err() {
            keep_logs();
        }
        totals.add(seed, &circumstances, outcome);
        if std::io::stdout().is_terminal() {
            print!("\r{}   ", totals.line());
            let _ = std::io::stdout().flush();
        }
    }
}

/// A panic, in whatever a seed stands on, is a failure of that seed.
async fn judge(
    seed: u64,
    with_faults: bool,
    crowd: u32,
    circumstances: BTreeSet<Circumstance>,
) -> Result<chaos::Report, Violation> {
    let run = async move {
        if with_faults {
            chaos::run(seed, crowd, circumstances).await
        } else {
            run::seed(seed, circumstances).await
        }
    };
    let limit = if crowd > 0 { CROWDED_SEED_TIME_MAX } else { SEED_TIME_MAX };
    let stuck = |text: String| Err(Violation { kind: Kind::Stuck, text });
    match spawn_local(timeout(limit, run)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => stuck(format!("not done within {} s", limit.as_secs())),
        Err(panic) => stuck(panic.to_string()),
    }
}
