//! `cargo x oracle` and `cargo x chaos`: random clients and writers against the release build, judged by SQL.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::planted;
use crate::process::{command, run as run_command, run_telling};
use crate::setup::{self, Part};
use crate::test::with_servers;
use crate::workspace::Workspace;

/// Options of `cargo x oracle`.
#[derive(Args)]
pub struct OracleOptions {
    /// How many seeds
    #[arg(long, default_value_t = 200, value_name = "N")]
    seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 1, value_name = "N")]
    first: u64,
    /// Only this one
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How often each
    #[arg(long, default_value_t = 1, value_name = "N")]
    times: u64,
    /// How many at a time
    #[arg(long, default_value_t = 3, value_name = "N")]
    jobs: u64,
    /// What databases have besides, instead of what the seeds draw, such as `deferrable,dump`; `none` for nothing
    #[arg(long, value_name = "NAMES")]
    with: Option<String>,
    /// Take mends back, all or the one with this number: each must be found
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, default_missing_value = "all")]
    planted: Option<String>,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
}

/// Options of `cargo x chaos`.
#[derive(Args)]
pub struct ChaosOptions {
    /// Begin seeds for so long
    #[arg(long, default_value_t = 10, value_name = "N")]
    minutes: u64,
    /// The first one
    #[arg(long, default_value_t = 1, value_name = "N")]
    first: u64,
    /// Only this one
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many at a time
    #[arg(long, default_value_t = 2, value_name = "N")]
    jobs: u64,
    /// How many plain shapes the first server has besides
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    shapes: u32,
    /// What databases have besides, as for `cargo x oracle`
    #[arg(long, value_name = "NAMES")]
    with: Option<String>,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
}

/// The step of `cargo x test`: the seeds that found something once, and new ones, for so many seconds.
const KNOWN_FOR_S: u64 = 40;

/// Seeds without faults.
pub fn run(workspace: &Workspace, options: &OracleOptions) -> Result<()> {
    if let Some(number) = &options.planted {
        return planted::run(workspace, number);
    }
    let mut arguments = seeds(options.seed, options.first);
    if options.seed.is_none() {
        arguments.extend(["--seeds".to_owned(), options.seeds.to_string()]);
    }
    arguments.extend(["--times".to_owned(), options.times.to_string()]);
    arguments.extend(pace(options.jobs, options.keep_going));
    arguments.extend(with(options.with.as_ref()));
    set_up(workspace)?;
    start(workspace, &arguments)
}

/// Seeds under faults.
pub fn chaos(workspace: &Workspace, options: &ChaosOptions) -> Result<()> {
    let mut arguments = seeds(options.seed, options.first);
    arguments.extend(["--chaos".to_owned(), options.minutes.to_string()]);
    arguments.extend(["--shapes".to_owned(), options.shapes.to_string()]);
    arguments.extend(pace(options.jobs, options.keep_going));
    arguments.extend(with(options.with.as_ref()));
    set_up(workspace)?;
    start(workspace, &arguments)
}

/// What `cargo x test` runs of it; the server is built.
pub fn known(workspace: &Workspace) -> Result<()> {
    run_telling(prepare(workspace)?.args(["--known-for", &KNOWN_FOR_S.to_string()]))
}

fn seeds(one: Option<u64>, first: u64) -> Vec<String> {
    let (name, seed) = one.map_or(("--first", first), |seed| ("--seed", seed));
    vec![name.to_owned(), seed.to_string()]
}

fn pace(jobs: u64, keep_going: bool) -> Vec<String> {
    let keep_going = keep_going.then(|| "--keep-going".to_owned());
    ["--jobs".to_owned(), jobs.to_string()].into_iter().chain(keep_going).collect()
}

fn with(names: Option<&String>) -> Vec<String> {
    names.map_or_else(Vec::new, |names| vec!["--with".to_owned(), names.clone()])
}

fn set_up(workspace: &Workspace) -> Result<()> {
    setup::run(workspace, &[Part::Native, Part::Postgres])?;
    run_command(command("cargo", workspace.root()).args(["build", "--release", "--package", "limn-origin"]))
}

fn start(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    run_command(prepare(workspace)?.args(arguments))
}

/// The oracle, yet to be given its arguments.
fn prepare(workspace: &Workspace) -> Result<Command> {
    let mut cargo = command("cargo", workspace.root());
    with_servers(workspace, &mut cargo)?;
    cargo.args(["run", "--quiet", "--release", "--package", "limn-tests", "--bin", "oracle", "--"]);
    Ok(cargo)
}
