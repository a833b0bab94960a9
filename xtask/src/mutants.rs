//! `cargo x mutants`: small changes of core's write path, one at a time; a test must notice each of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::{command, shown};
use crate::setup::{self, Part};
use crate::workspace::Workspace;

/// Options of `cargo x mutants`.
#[derive(Args)]
pub struct Options {
    /// Every Nth mutant, from the Kth on; `0/1` is all of them, some hours
    #[arg(long, default_value = "0/2", value_name = "K/N")]
    shard: String,
    /// Only mutants whose description matches, as cargo-mutants prints it
    #[arg(long, value_name = "REGEX")]
    only: Option<String>,
}

/// What is mutated: commit log, shape logs, router, snapshot.
const FILES: [&str; 11] = [
    "core/src/journal/*.rs",
    "core/src/store/*.rs",
    "core/src/log/*.rs",
    "core/src/pg/snapshot.rs",
    "core/src/shape/encode.rs",
    "core/src/shape/router.rs",
    "core/src/shape/routing.rs",
    "core/src/shape/snapshot_writer.rs",
    "core/src/shape/subset_writer.rs",
    "core/src/shape/table.rs",
    "core/src/shape/waiting.rs",
];

/// Changes that change nothing: what `recycle` gives is room only, whatever is in it.
const EQUIVALENT: &str = "replace recycle";

/// The share of mutants that must be noticed.
const CAUGHT_PERCENT_MIN: usize = 90;

/// A mutant that makes the tests run longer is one that loops: it counts as noticed.
const TEST_TIME_MAX_S: u32 = 60;

/// Runs the unit tests of core against each mutant, and fails where too many go unnoticed.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::run(workspace, &[Part::Native])?;
    setup::ensure_cargo_mutants(workspace)?;
    let out = workspace.target().join("mutants");
    fs::create_dir_all(&out).with_context(|| format!("cannot create `{}`", out.display()))?;
    let mut mutants = command(workspace.tool("cargo-mutants"), workspace.root());
    mutants
        // What is built for seconds needs no line numbers.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .args(["mutants", "--package", "limn-core", "--no-shuffle", "--sharding", "round-robin"])
        .args(FILES.iter().flat_map(|file| ["--file", file]))
        .args(["--shard", &options.shard, "--cargo-arg=--lib", "--output"])
        .arg(&out)
        .args(["--timeout", &TEST_TIME_MAX_S.to_string(), "--exclude-re", EQUIVALENT]);
    if let Some(only) = &options.only {
        mutants.args(["--re", only]);
    }
    println!("  $ {}", shown(&mutants));
    // It fails where a single mutant goes unnoticed: the share is judged here.
    mutants.status().context("cannot start `cargo-mutants`")?;
    judge(&out.join("mutants.out"))
}

fn judge(out: &Path) -> Result<()> {
    let count = |file: &str| -> Result<usize> {
        let path = out.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(text.lines().count())
    };
    let (caught, missed, looping) = (count("caught.txt")?, count("missed.txt")?, count("timeout.txt")?);
    let total = caught + missed + looping;
    if total == 0 {
        bail!("no mutant could be tested");
    }
    let percent = (caught + looping) * 100 / total;
    println!("{total} mutants, {caught} noticed by a test, {looping} by its time, {missed} not: {percent} %");
    if percent < CAUGHT_PERCENT_MIN {
        bail!(
            "fewer than {CAUGHT_PERCENT_MIN} % of the mutants were noticed; the others are in `missed.txt`"
        );
    }
    Ok(())
}
