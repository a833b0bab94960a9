//! `cargo x matrix`: the black-box suite on every supported major version of Postgres.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::{command, run as run_command, shown};
use crate::setup::{self, Part, postgres_versions};
use crate::workspace::Workspace;

/// Options of `cargo x matrix`.
#[derive(Args)]
pub struct Options {
    /// Only these major versions, such as `14,18`; all that are supported when none is named
    #[arg(long, value_delimiter = ',', value_name = "MAJOR")]
    versions: Vec<u32>,
    /// Only tests whose name contains this
    #[arg(value_name = "TEST")]
    test: Option<String>,
}

/// The result of the suite on one version.
struct Report {
    major: u32,
    tests: Counts,
    took: Duration,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u32,
    failed: u32,
}

/// Runs the suite on one version after the other, on all of them even where one fails.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let supported = postgres_versions::VERSIONS.map(|(major, _)| major);
    let versions: &[u32] = if options.versions.is_empty() { &supported } else { &options.versions };
    setup::run(workspace, &[Part::Native, Part::Postgres])?;
    let servers = versions.iter().map(|major| postgres_versions::ensure(workspace, *major));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    let limn = build(workspace)?;
    let mut reports = Vec::new();
    for (major, bin) in versions.iter().zip(servers) {
        println!("\n── Postgres {major}");
        let started = Instant::now();
        let readable = Readable::of(&bin)?;
        let tests = test(workspace, options, &limn, readable.bin())?;
        reports.push(Report { major: *major, tests, took: started.elapsed() });
    }
    summarize(&reports)
}

/// The program that is tested: `LIMN_BIN`, else a new release build.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(told) = std::env::var_os("LIMN_BIN") {
        return Ok(told.into());
    }
    run_command(command("cargo", workspace.root()).args(["build", "--release", "--package", "limn-origin"]))?;
    Ok(workspace.limn())
}

fn test(workspace: &Workspace, options: &Options, limn: &Path, postgres: &Path) -> Result<Counts> {
    let mut cargo = command("cargo", workspace.root());
    cargo.env("LIMN_BIN", limn).env("PG_BIN_DIR", postgres);
    cargo.args(["test", "--package", "limn-tests", "--test", "blackbox"]).args(&options.test);
    println!("  $ {}", shown(&cargo));
    last_counts(&mut cargo)
}

/// Passes on what the suite prints, and returns the counts that it ends with.
fn last_counts(suite: &mut Command) -> Result<Counts> {
    let mut child = suite.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("stdout was asked to be a pipe")?;
    let mut last = None;
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        println!("{line}");
        last = counts(&line).or(last);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    let counts = last.context("the suite ended without saying how")?;
    if !status.success() && counts.failed == 0 {
        bail!("the suite ended with {status}");
    }
    Ok(counts)
}

/// Of `test result: ok. 3 passed; 0 failed; …`.
fn counts(line: &str) -> Option<Counts> {
    let line = line.strip_prefix("test result: ")?;
    let count = |word: &str| {
        let part = line.split([';', '.']).find_map(|part| part.trim().strip_suffix(word))?;
        part.trim().parse().ok()
    };
    Some(Counts { passed: count("passed")?, failed: count("failed")? })
}

fn summarize(reports: &[Report]) -> Result<()> {
    println!("\n── summary\n  Postgres   passed  failed  seconds");
    for Report { major, tests: Counts { passed, failed }, took } in reports {
        println!("  {major:<8} {passed:>8} {failed:>7} {:>8.0}", took.as_secs_f32());
    }
    if reports.iter().any(|report| report.tests.failed > 0) {
        bail!("not everything passed; one version again: cargo x matrix --versions MAJOR");
    }
    Ok(())
}

/// Programs that every user can reach. Postgres does not run as root, and root's cache is closed to others:
/// the programs are then copied for as long as the value lives.
pub struct Readable {
    bin: PathBuf,
    copy: Option<PathBuf>,
}

impl Readable {
    /// Of the programs in `bin`.
    pub fn of(bin: &Path) -> Result<Self> {
        let closed = |dir: &Path| fs::metadata(dir).is_ok_and(|dir| dir.permissions().mode() & 0o001 == 0);
        if !bin.ancestors().any(closed) {
            return Ok(Self { bin: bin.to_owned(), copy: None });
        }
        let programs = bin.parent().context("programs lie in `native/bin`")?;
        let copy = std::env::temp_dir().join(format!("limn-matrix-{}", std::process::id()));
        run_command(command("cp", Path::new("/")).arg("-a").arg(programs).arg(&copy))?;
        Ok(Self { bin: copy.join("bin"), copy: Some(copy) })
    }

    /// Their folder.
    pub fn bin(&self) -> &Path {
        &self.bin
    }
}

impl Drop for Readable {
    fn drop(&mut self) {
        if let Some(copy) = &self.copy
            && let Err(error) = fs::remove_dir_all(copy)
        {
            println!("  cannot remove `{}`: {error}", copy.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_suite_is_counted() {
        let line = "test result: FAILED. 270 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 190.25s";
        assert_eq!(counts(line), Some(Counts { passed: 270, failed: 2 }));
        assert_eq!(counts("test item_001 ... ok"), None);
    }

    #[test]
    fn a_failed_version_fails_the_run() {
        let report = |failed| Report { major: 18, tests: Counts { passed: 1, failed }, took: Duration::ZERO };
        assert!(summarize(&[report(0)]).is_ok());
        assert!(summarize(&[report(0), report(1)]).is_err());
    }
}
