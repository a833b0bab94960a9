//! `limn-sim`: runs seeds, in parallel, and prints the first that shows a violation, with the command that repeats it.
#![allow(clippy::print_stdout, reason = "a command line program talks to its terminal")]

use clap::Parser;
use limn_sim::{Fault, Outcome, run};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// Simulates the origin around core: many seeds, or one of them with its trace.
#[derive(Parser)]
struct Options {
    /// How many seeds to run, from the first
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0, value_name = "N")]
    first: u64,
    /// Runs this seed alone and prints what happens
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Plants a bug
    #[arg(long, value_name = "BUG")]
    fault: Option<Fault>,
    /// Plants each bug in turn, and fails unless all of them are found
    #[arg(long, conflicts_with_all = ["seed", "fault"])]
    planted: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match options.seed {
        Some(seed) => replay(seed, options.fault),
        None if options.planted => find_planted(&options),
        None => find(&options),
    }
}

fn replay(seed: u64, fault: Option<Fault>) -> ExitCode {
    let outcome = run(seed, fault, true);
    print!("{}", outcome.trace.text());
    println!("trace {:016x}, {} events", outcome.trace.hash(), outcome.trace.events());
    report(&outcome, fault)
}

fn find(options: &Options) -> ExitCode {
    let started = Instant::now();
    let (found, events) = search(options, options.fault);
    if let Some(seed) = found {
        return report(&run(seed, options.fault, false), options.fault);
    }
    let took = started.elapsed().as_secs_f64();
    println!(
        "{} seeds, {events} events in {took:.1} s: {:.0} seeds a minute on {} threads; nothing found",
        options.seeds,
        options.seeds as f64 / took * 60.0,
        threads(),
    );
    ExitCode::SUCCESS
}

fn find_planted(options: &Options) -> ExitCode {
    // Some need a rare coincidence of crashes.
    const SEEDS_MIN: u64 = 200_000;
    let options = Options { seeds: options.seeds.max(SEEDS_MIN), ..*options };
    let mut missed = 0;
    for fault in Fault::ALL {
        match search(&options, Some(*fault)).0 {
            Some(seed) => println!("found by seed {seed:>5}  {fault}"),
            None => {
                missed += 1;
                println!("NOT FOUND            {fault}");
            }
        }
    }
    println!("{} planted bugs, {missed} of them not found", Fault::ALL.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The first seed that shows a violation, and how many events there were.
fn search(options: &Options, fault: Option<Fault>) -> (Option<u64>, u64) {
    let (next, events) = (AtomicU64::new(options.first), AtomicU64::new(0));
    let (last, found) = (options.first + options.seeds, AtomicU64::new(u64::MAX));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= last || seed > found.load(Ordering::Relaxed) {
                return;
            }
            let outcome = run(seed, fault, false);
            events.fetch_add(outcome.trace.events(), Ordering::Relaxed);
            if outcome.violation.is_some() {
                found.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| (0..threads()).for_each(|_| drop(scope.spawn(work))));
    let found = found.into_inner();
    ((found != u64::MAX).then_some(found), events.into_inner())
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn report(outcome: &Outcome, fault: Option<Fault>) -> ExitCode {
    let Some(violation) = &outcome.violation else {
        println!("seed {}: nothing found", outcome.seed);
        return ExitCode::SUCCESS;
    };
    let planted = fault.map(|fault| format!(" with the planted bug {fault}")).unwrap_or_default();
    println!("seed {}{planted}: {violation}", outcome.seed);
    println!("again, with its trace: cargo x sim --seed {}", outcome.seed);
    ExitCode::FAILURE
}
