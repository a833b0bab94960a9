//! `cargo x mutants`: small changes of core's write path, one at a time; a test must notice each of them.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::{capture, command, shown};
use crate::setup::{self, Part};
use crate::workspace::Workspace;

/// Options of `cargo x mutants`.
#[derive(Args)]
pub struct Options {
    /// Every Nth mutant, from the Kth on; `0/1` is all of them, some hours
    #[arg(long, default_value = "0/4", value_name = "K/N")]
    shard: String,
    /// Only mutants whose description matches, as cargo-mutants prints it
    #[arg(long, value_name = "REGEX")]
    only: Option<String>,
    /// Run 500 seeds of the simulation instead of the unit tests, on 100 mutants of core's store
    #[arg(long, conflicts_with_all = ["shard", "only"])]
    simulation: bool,
    /// Which 100 mutants the simulation has to find: another seed, another sample
    #[arg(long, default_value_t = 1, requires = "simulation")]
    seed: u64,
}

/// What is mutated: the write path, from the commit log to the shapes.
const FILES: [&str; 5] = [
    "core/src/journal/**/*.rs",
    "core/src/store/**/*.rs",
    "core/src/log/**/*.rs",
    "core/src/shape/**/*.rs",
    "core/src/pg/snapshot.rs",
];

/// What the simulation has to find mutants of.
const SIMULATED_FILES: &str = "core/src/store/**/*.rs";

/// How many of them are tried.
const SAMPLE: usize = 100;

/// How many seeds of the simulation each of these is tried with.
const SIMULATED_SEEDS: u32 = 500;

/// Changes that change nothing: what `recycle` gives is room only, whatever is in it.
const EQUIVALENT: &str = "replace recycle";

/// How many changes the test of the index makes, where there are 2,500 otherwise.
const INDEX_CASES: u32 = 600;

/// The share of mutants that the unit tests must notice.
const CAUGHT_PERCENT_MIN: usize = 90;

/// A mutant that makes the tests run this many times longer than without it is one that loops: it counts as
/// noticed. A multiple, since on a busy machine all of them are slow, the tests without a mutant too.
const TEST_TIME_FACTOR: u32 = 5;

/// No mutant is called looping before that.
const TEST_TIME_MIN_S: u32 = 60;

/// The same for the simulation, whose mutants begin without a run that could be multiplied.
const SIMULATION_TIME_MAX_S: u32 = 300;

/// Runs the unit tests of core, or the simulation, against each mutant.
///
/// # Errors
/// Fails where the unit tests leave too many mutants unnoticed. How many the simulation finds is printed only:
/// it judges what clients see, and a mutant may change what they never do.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::run(workspace, &[Part::Native])?;
    setup::ensure_cargo_mutants(workspace)?;
    let name = if options.simulation { "mutants-simulation" } else { "mutants" };
    let out = workspace.target().join(name);
    fs::create_dir_all(&out).with_context(|| format!("cannot create `{}`", out.display()))?;
    let mut mutants = cargo_mutants(workspace);
    mutants.arg("--output").arg(&out);
    if options.simulation {
        try_simulation(&mut mutants, &out.join("sample.toml"), &sample(workspace, options.seed)?)?;
    } else {
        try_unit_tests(&mut mutants, options);
    }
    println!("  $ {}", shown(&mutants));
    // It fails where a single mutant goes unnoticed: the share is judged here.
    mutants.status().context("cannot start `cargo-mutants`")?;
    let percent = count(&out.join("mutants.out"))?;
    if !options.simulation && percent < CAUGHT_PERCENT_MIN {
        bail!(
            "fewer than {CAUGHT_PERCENT_MIN} % of the mutants were noticed; the others are in `missed.txt`"
        );
    }
    Ok(())
}

fn cargo_mutants(workspace: &Workspace) -> Command {
    let mut mutants = command(workspace.tool("cargo-mutants"), workspace.root());
    mutants
        // What is built for seconds needs no line numbers.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        // One test alone took a third of the time of all.
        .env("LIMN_INDEX_CASES", INDEX_CASES.to_string())
        .args(["mutants", "--package", "limn-core", "--no-shuffle", "--exclude-re", EQUIVALENT]);
    mutants
}

fn try_unit_tests(mutants: &mut Command, options: &Options) {
    mutants
        .args(FILES.iter().flat_map(|file| ["--file", file]))
        .args(["--sharding", "round-robin", "--shard", &options.shard, "--cargo-arg=--lib", "--jobs", "2"])
        .args(["--timeout-multiplier", &TEST_TIME_FACTOR.to_string()])
        .args(["--minimum-test-timeout", &TEST_TIME_MIN_S.to_string()]);
    if let Some(only) = &options.only {
        mutants.args(["--re", only]);
    }
}

/// `config` is written: the mutants are too many for a line that anybody reads.
fn try_simulation(mutants: &mut Command, config: &Path, sample: &[String]) -> Result<()> {
    let patterns: Vec<String> = sample.iter().map(|mutant| exactly(mutant)).collect();
    // An array of strings of JSON is one of TOML.
    let text = format!("examine_re = {}\n", serde_json::to_string(&patterns)?);
    fs::write(config, text).with_context(|| format!("cannot write `{}`", config.display()))?;
    mutants
        .env("LIMN_SIM_SEEDS", SIMULATED_SEEDS.to_string())
        // Much arithmetic, again and again: half optimized it takes a tenth of the time.
        .args(["--test-package", "limn-sim", "--profile", "tools", "--jobs", "2"])
        // The tests of the code as it is would be looked for in core's package.
        .args(["--baseline", "skip"])
        .args(["--file", SIMULATED_FILES, "--timeout", &SIMULATION_TIME_MAX_S.to_string()])
        .arg("--config")
        .arg(config)
        .args(["--", "--test", "simulation", "nothing_is_found"]);
    Ok(())
}

/// A hundred mutants of the store, the same ones for the same seed.
fn sample(workspace: &Workspace, seed: u64) -> Result<Vec<String>> {
    let mut list = cargo_mutants(workspace);
    list.args(["--list", "--file", SIMULATED_FILES]);
    let listed = capture(&mut list)?;
    let mut mutants: Vec<String> = listed.lines().map(str::to_owned).collect();
    mutants.sort_by_cached_key(|mutant| {
        let mut hasher = DefaultHasher::new();
        (seed, mutant).hash(&mut hasher);
        hasher.finish()
    });
    println!("  {SAMPLE} of {} mutants, by seed {seed}", mutants.len());
    mutants.truncate(SAMPLE);
    Ok(mutants)
}

/// A regular expression that matches this text alone.
fn exactly(text: &str) -> String {
    let mut pattern = String::from("^");
    for character in text.chars() {
        // `\<` and `\>` are the ends of a word.
        if character.is_ascii_punctuation() && !"<>".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('$');
    pattern
}

/// Prints how many mutants were noticed, and returns that as a percentage.
fn count(out: &Path) -> Result<usize> {
    let lines = |file: &str| -> Result<usize> {
        let path = out.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(text.lines().count())
    };
    let (caught, missed, looping) = (lines("caught.txt")?, lines("missed.txt")?, lines("timeout.txt")?);
    let total = caught + missed + looping;
    if total == 0 {
        bail!("no mutant could be tested");
    }
    let percent = (caught + looping) * 100 / total;
    println!("{total} mutants, {caught} noticed by a test, {looping} by its time, {missed} not: {percent} %");
    Ok(percent)
}
