//! The oracle: random schemas, shapes, writers and clients, and every up-to-date of every client compared with what
//! the shape's SQL said at that very commit. `cargo x oracle` runs it.
#![allow(clippy::print_stdout, reason = "a command line program talks to its terminal")]

mod kind;
mod outage;
mod reference;
mod run;
mod schema;
mod shape;
mod state;
mod statement;
mod subscription;
mod violation;
mod writer;

use clap::Parser;
use limn_tests::Cluster;
use run::Outline;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::timeout;
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
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
}

/// A seed takes seconds.
const SEED_TIME_MAX: Duration = Duration::from_secs(180);

/// What was done so far.
#[derive(Debug, Default)]
struct Totals {
    seeds: u64,
    outline: Outline,
    failed: Vec<(u64, Violation)>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let seeds: Vec<u64> = match options.seed {
        Some(seed) => vec![seed],
        None => (options.first..options.first + options.seeds).collect(),
    };
    let seeds = seeds.into_iter().flat_map(|seed| (0..options.times).map(move |_| seed)).collect();
    let started = Instant::now();
    // Writers and clients are tasks of the runtime; what starts and stops servers stays here.
    let totals = LocalSet::new().run_until(run_all(seeds, &options, started)).await;
    println!("{}", totals.summary(started.elapsed()));
    for (seed, violation) in &totals.failed {
        println!("seed {seed}: {violation}\n  again: cargo x oracle --seed {seed} --times 10");
    }
    if totals.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run_all(mut seeds: Vec<u64>, options: &Options, started: Instant) -> Totals {
    let cluster = Cluster::shared().await;
    let mut totals = Totals::default();
    let mut running = JoinSet::new();
    seeds.reverse();
    loop {
        while running.len() < options.jobs && (totals.failed.is_empty() || options.keep_going) {
            let Some(seed) = seeds.pop() else { break };
            running.spawn_local(async move { (seed, judge(cluster, seed).await) });
        }
        let Some(ended) = running.join_next().await else { return totals };
        let (seed, outcome) = ended.expect("failures are values");
        totals.add(seed, outcome);
        if std::io::stdout().is_terminal() {
            print!("\r{}   ", totals.summary(started.elapsed()));
            let _ = std::io::Write::flush(&mut std::io::stdout());
        }
    }
}

/// A panic, in whatever a seed stands on, is a failure of that seed.
async fn judge(cluster: &'static Cluster, seed: u64) -> Result<Outline, Violation> {
    let running = spawn_local(timeout(SEED_TIME_MAX, run::seed(cluster, seed)));
    let stuck = |text: String| Err(Violation { kind: Kind::Stuck, text });
    match running.await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => stuck(format!("not done within {} s", SEED_TIME_MAX.as_secs())),
        Err(panic) => stuck(panic.to_string()),
    }
}

impl Totals {
    fn add(&mut self, seed: u64, outcome: Result<Outline, Violation>) {
        self.seeds += 1;
        match outcome {
            Ok(outline) => self.outline = self.outline + outline,
            Err(violation) => self.failed.push((seed, violation)),
        }
    }

    fn summary(&self, took: Duration) -> String {
        let Outline { counts, aborted, shapes, clients } = self.outline;
        let per_minute = self.seeds as f64 * 60.0 / took.as_secs_f64();
        format!(
            "{} seeds ({per_minute:.1} a minute), {} failed: {} transactions, {aborted} rolled back, {shapes} shapes, \
             {clients} clients, {} changes, {} rotations, {} checks ({} ahead of the stream)",
            self.seeds,
            self.failed.len(),
            counts.transactions,
            counts.changes,
            counts.rotations,
            counts.checks,
            counts.ahead
        )
    }
}
