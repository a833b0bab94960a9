//! `cargo x fuzz`: libFuzzer on what reads bytes from outside, by the stable compiler.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::{command, run as run_command};
use crate::setup::{self, Part};
use crate::workspace::Workspace;

/// Options of `cargo x fuzz`.
#[derive(Args)]
pub struct Options {
    /// How long each target runs
    #[arg(long, default_value_t = 60, value_name = "S")]
    seconds: u64,
    /// Only these targets, of those in `fuzz/targets`; all of them when none is named
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// An input that takes longer counts as a failure.
const INPUT_TIME_MAX_S: u32 = 10;

/// Runs the targets one after the other, all of them even where one fails; an error names those that did.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let known = targets(workspace)?;
    if let Some(unknown) = options.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no target `{unknown}`; there are: {}", known.join(", "));
    }
    setup::run(workspace, &[Part::Native])?;
    setup::ensure_cargo_fuzz(workspace)?;
    let chosen = if options.targets.is_empty() { &known } else { &options.targets };
    let mut failed = Vec::new();
    for (index, target) in chosen.iter().enumerate() {
        println!("\n── {}/{}  {target}: {} s", index + 1, chosen.len(), options.seconds);
        if let Err(error) = run_command(&mut fuzzer(workspace, target, options.seconds)?) {
            println!("  failed: {error:#}");
            failed.push(target.as_str());
        }
    }
    if !failed.is_empty() {
        bail!(
            "failed: {}; inputs that were found are in `fuzz/artifacts`, and belong into `fuzz/corpus`",
            failed.join(", ")
        );
    }
    println!("\n{} targets ran {} s each and found nothing", chosen.len(), options.seconds);
    Ok(())
}

/// The names of the files in `fuzz/targets`.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let entries = fs::read_dir(workspace.path("fuzz/targets")).context("cannot list `fuzz/targets`")?;
    let name = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned());
    let mut targets: Vec<_> = entries.flatten().filter_map(name).collect();
    targets.sort();
    Ok(targets)
}

/// New inputs go into the target folder; the committed corpus is only read.
fn fuzzer(workspace: &Workspace, target: &str, seconds: u64) -> Result<Command> {
    let found = workspace.target().join("fuzz-corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("cannot create `{}`", found.display()))?;
    let mut fuzz = command(workspace.tool("cargo-fuzz"), workspace.root());
    fuzz
        // Coverage flags are for nightly compilers. The sanitizers are too, but there is no unsafe code for them here.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .args(["fuzz", "run", "--fuzz-dir", "fuzz", "--sanitizer", "none", "--features", "libfuzzer", target])
        .arg(found)
        .arg(format!("fuzz/corpus/{target}"))
        .arg("--")
        .args([format!("-max_total_time={seconds}"), format!("-timeout={INPUT_TIME_MAX_S}")])
        .args(["-print_final_stats=1", "-verbosity=0"]);
    Ok(fuzz)
}
