//! `cargo x instructions`: instructions of what every change and every read costs, counted by callgrind and held against a
//! baseline in the repository. Counts do not depend on how busy the machine is, so a change that costs more is found by
//! a test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::process::{capture, command, run as run_command, shown};
use crate::setup::{self, Part, valgrind};
use crate::workspace::Workspace;

/// Options of `cargo x instructions`.
#[derive(Args)]
pub struct Options {
    /// Write what was counted as the new baseline
    #[arg(long)]
    accept: bool,
}

/// By how much a count may grow. Hash maps are seeded at random, which moves counts by a ten-thousandth.
const GROWTH_PERCENT_MAX: f64 = 3.0;

const PACKAGE: &str = "limn-instructions";
/// The profile of the workspace that builds it.
const PROFILE: &str = "instructions";
const BASELINE: &str = "bench/instructions/baseline.json";
const ACCEPT: &str = "cargo x instructions --accept";

/// The C library copies and compares by what the processor has; without these, by what all of them have. Names that a
/// version of the library does not know are ignored.
const PLAIN_PROCESSOR: &str =
    "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-AVX_Fast_Unaligned_Load,-BMI2,-ERMS,-FSRM";

/// Counts of each target, by the name that rustc has for it.
type Baseline = BTreeMap<String, Counts>;

/// What was counted, and with which compiler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Counts {
    rustc: String,
    /// By the name of the piece of work.
    instructions_per_operation: BTreeMap<String, f64>,
}

/// What a comparison says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    /// Pieces that cost too much, or that no baseline knows.
    beyond: Vec<String>,
    /// Those that became cheaper by as much.
    cheaper: Vec<String>,
}

/// Counts, and compares or accepts.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::run(workspace, &[Part::Native])?;
    if !options.accept {
        return gate(workspace);
    }
    let (target, counts) = count(workspace)?;
    let mut baseline = read(&workspace.path(BASELINE))?;
    baseline.insert(target, counts);
    let text = serde_json::to_string_pretty(&baseline)?;
    fs::write(workspace.path(BASELINE), text + "\n").with_context(|| format!("cannot write `{BASELINE}`"))?;
    println!("  {BASELINE} is written");
    Ok(())
}

/// Counts, and fails where a count has grown beyond the bound.
pub fn gate(workspace: &Workspace) -> Result<()> {
    let (target, counts) = count(workspace)?;
    let baseline = read(&workspace.path(BASELINE))?;
    let Some(before) = baseline.get(&target) else {
        bail!("`{BASELINE}` has no counts for {target}; `{ACCEPT}` adds those of this machine");
    };
    let Findings { beyond, cheaper } = compare(before, &counts);
    for line in cheaper {
        println!("  {line}; `{ACCEPT}` makes that the bound");
    }
    if beyond.is_empty() {
        return Ok(());
    }
    let files = folder(workspace);
    let mut message = format!("beyond +{GROWTH_PERCENT_MAX} %:\n  {}\n", beyond.join("\n  "));
    if before.rustc != counts.rustc {
        message += &format!("the baseline is of {}, this is {}\n", before.rustc, counts.rustc);
    }
    message += &format!("by function: callgrind_annotate {}/NAME.callgrind\n", files.display());
    message += &format!("where it is worth that: `{ACCEPT}`, and a reason in the commit");
    bail!(message)
}

/// Builds the pieces and counts each.
fn count(workspace: &Workspace) -> Result<(String, Counts)> {
    valgrind::ensure()?;
    run_command(command("cargo", workspace.root()).args([
        "build",
        "--profile",
        PROFILE,
        "--package",
        PACKAGE,
    ]))?;
    let program = workspace.target().join(PROFILE).join(PACKAGE);
    let files = folder(workspace);
    fs::create_dir_all(&files).with_context(|| format!("cannot create `{}`", files.display()))?;
    let mut instructions_per_operation = BTreeMap::new();
    for name in capture(&mut command(&program, workspace.root()))?.lines() {
        let count = count_piece(workspace, &program, name, &files.join(format!("{name}.callgrind")))?;
        println!("  {name:<16} {count:>10.1} instructions for each operation");
        instructions_per_operation.insert(name.to_owned(), count);
    }
    let (target, rustc) = compiler(workspace)?;
    Ok((target, Counts { rustc, instructions_per_operation }))
}

fn count_piece(workspace: &Workspace, program: &Path, name: &str, file: &Path) -> Result<f64> {
    let mut valgrind = command("valgrind", workspace.root());
    valgrind.env("GLIBC_TUNABLES", PLAIN_PROCESSOR);
    valgrind.args(["--tool=callgrind", "--toggle-collect=*measured*"]);
    valgrind.arg(format!("--callgrind-out-file={}", file.display())).arg(program).arg(name);
    if name == "decode" {
        println!("  $ {}", shown(&valgrind));
    }
    let operations = capture(&mut valgrind)?;
    let operations: u32 = operations.parse().with_context(|| format!("`{operations}` is no number"))?;
    let text = fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let total = total(&text).with_context(|| format!("`{}` counts nothing", file.display()))?;
    // A tenth is more than enough of a digit, and makes the baseline readable.
    Ok((total as f64 / f64::from(operations) * 10.0).round() / 10.0)
}

/// The sum that callgrind writes at the end of its file.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok().filter(|total| *total > 0)
}

fn compare(before: &Counts, now: &Counts) -> Findings {
    let (before, now) = (&before.instructions_per_operation, &now.instructions_per_operation);
    let mut findings = Findings::default();
    for (name, count) in now {
        let Some(was) = before.get(name) else {
            findings.beyond.push(format!("{name}: {count:.1} instructions, and the baseline has none"));
            continue;
        };
        let percent = (count / was - 1.0) * 100.0;
        let line = format!("{name}: {was:.1} → {count:.1} instructions for each operation, {percent:+.1} %");
        if *count > was * (1.0 + GROWTH_PERCENT_MAX / 100.0) {
            findings.beyond.push(line);
        } else if *count < was * (1.0 - GROWTH_PERCENT_MAX / 100.0) {
            findings.cheaper.push(line);
        }
    }
    for name in before.keys().filter(|name| !now.contains_key(*name)) {
        findings.beyond.push(format!("{name}: the baseline has it, and nothing counts it"));
    }
    findings
}

fn read(path: &Path) -> Result<Baseline> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("cannot read `{}`", path.display())),
        Err(_) => Ok(Baseline::new()),
    }
}

/// The target that rustc compiles for here, and its version.
fn compiler(workspace: &Workspace) -> Result<(String, String)> {
    let printed = capture(command("rustc", workspace.root()).arg("-vV"))?;
    let line = |name: &str| printed.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    line("host: ")
        .zip(line("release: ").map(|release| format!("rustc {release}")))
        .context("rustc says what it is")
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join(PROFILE).join("counts")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pieces: &[(&str, f64)]) -> Counts {
        let instructions_per_operation =
            pieces.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Counts { rustc: "rustc 1.0.0".to_owned(), instructions_per_operation }
    }

    #[test]
    fn what_grew_is_named_with_both_counts_and_the_growth() {
        let findings = compare(&counts(&[("encode", 1000.0)]), &counts(&[("encode", 1031.0)]));
        assert_eq!(findings.beyond, ["encode: 1000.0 → 1031.0 instructions for each operation, +3.1 %"]);
    }

    #[test]
    fn the_bound_itself_is_within() {
        let findings =
            compare(&counts(&[("a", 1000.0), ("b", 1000.0)]), &counts(&[("a", 1030.0), ("b", 970.0)]));
        assert_eq!(findings, Findings::default());
    }

    #[test]
    fn what_became_cheaper_is_no_failure() {
        let findings = compare(&counts(&[("a", 1000.0)]), &counts(&[("a", 900.0)]));
        assert!(findings.beyond.is_empty());
        assert_eq!(findings.cheaper.len(), 1);
    }

    #[test]
    fn a_piece_without_its_counterpart_is_found() {
        let findings = compare(&counts(&[("a", 1.0)]), &counts(&[("b", 1.0)]));
        assert_eq!(findings.beyond.len(), 2);
    }

    #[test]
    fn the_total_is_the_line_at_the_end() {
        assert_eq!(total("fn=(1) measured\n1 5\n\ntotals: 42\n"), Some(42));
        assert_eq!(total("totals: 0\n"), None);
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let baseline = Baseline::from([("here".to_owned(), counts(&[("a", 1.5)]))]);
        let text = serde_json::to_string_pretty(&baseline).expect("it has a text");
        assert_eq!(serde_json::from_str::<Baseline>(&text).expect("it was just written"), baseline);
    }
}
