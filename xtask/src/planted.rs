//! `cargo x oracle --planted`: mends that are taken back, one at a time. The oracle has to find each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::matrix::Readable;
use crate::postgres;
use crate::process::{capture, command, run as run_command, shown};
use crate::setup::{self, Part, postgres_versions};
use crate::workspace::Workspace;

/// A mend that a patch takes back, and the seed that finds it.
struct Planted {
    /// Its patch is the file in [`PATCHES`] that begins with this number.
    number: &'static str,
    /// The fault that it brings back.
    what: &'static str,
    seed: u64,
    /// The circumstances under which it shows.
    with: &'static str,
    /// The kinds of violation by which it may show.
    kinds: &'static [&'static str],
    /// The major version of Postgres, where that matters.
    postgres: Option<u32>,
}

/// Where the patches are.
const PATCHES: &str = "tests/oracle/planted";

/// How often a seed is run before its bug counts as not found: what its choices are repeats, how tasks meet does not.
const TIMES: &str = "3";

const PLANTED: &[Planted] = &[
    Planted {
        number: "01",
        what: "identity FULL is set though another publication does not bear it",
        seed: 1,
        with: "publications",
        kinds: &["Harmed"],
        postgres: None,
    },
    Planted {
        number: "02",
        what: "a lock on a table is waited for five seconds",
        seed: 5,
        with: "dump",
        kinds: &["Harmed"],
        postgres: None,
    },
    Planted {
        number: "03",
        what: "sessions let row-level security hide rows",
        seed: 1,
        with: "row-security",
        kinds: &["Lost", "Torn"],
        postgres: None,
    },
    Planted {
        number: "04",
        what: "two rows that hold one key inside a transaction are told change by change",
        seed: 1,
        with: "deferrable",
        kinds: &["Duplicated", "Lost", "Torn"],
        postgres: None,
    },
    Planted {
        number: "05",
        what: "unlogged and foreign tables below a table are overlooked",
        seed: 3,
        with: "strays",
        kinds: &["Lost", "Stale", "Duplicated"],
        postgres: None,
    },
    Planted {
        number: "06",
        what: "generated columns that the publication leaves out are shown",
        seed: 1,
        with: "generated,manual",
        kinds: &["Lost", "Torn", "Stale", "Rotated"],
        postgres: Some(18),
    },
    Planted {
        number: "07",
        what: "types that change without their table are overlooked",
        seed: 1,
        with: "types",
        kinds: &["Lost", "Stale"],
        postgres: None,
    },
    Planted {
        number: "08",
        what: "the head of an event stream names the end of what will be sent",
        seed: 2,
        with: "none",
        kinds: &["Lost", "Torn", "Stale"],
        postgres: None,
    },
    Planted {
        number: "09",
        what: "a clause that Postgres refuses for good is an endless 409",
        seed: 1,
        with: "types",
        kinds: &["Refused"],
        postgres: None,
    },
    Planted {
        number: "10",
        what: "transaction_timeout of the role cuts snapshots off",
        seed: 2,
        with: "role",
        kinds: &["Refused", "Stuck"],
        postgres: Some(18),
    },
    Planted {
        number: "11",
        what: "a fault of one table is everybody's",
        seed: 1,
        with: "manual",
        kinds: &["Refused"],
        postgres: None,
    },
    Planted {
        number: "12",
        what: "a new table waits for every transaction of the cluster",
        seed: 1,
        with: "other-database",
        kinds: &["Refused"],
        postgres: None,
    },
];

/// Plants all of them, or the one with that number, and fails where one is not found.
pub fn run(workspace: &Workspace, number: &str) -> Result<()> {
    let chosen: Vec<&Planted> =
        PLANTED.iter().filter(|planted| number == "all" || planted.number == number).collect();
    if chosen.is_empty() {
        let known: Vec<&str> = PLANTED.iter().map(|planted| planted.number).collect();
        bail!("no patch has the number `{number}`: there are {}", known.join(", "));
    }
    setup::run(workspace, &[Part::Native, Part::Postgres])?;
    let mut cargo = command("cargo", workspace.root());
    run_command(cargo.args(["build", "--package", "limn-tests", "--bin", "oracle"]))?;
    let mut lines = Vec::new();
    let mut missed = 0;
    for planted in chosen {
        println!("\n── {} {}", planted.number, planted.what);
        let started = Instant::now();
        let found = look(workspace, planted)?;
        missed += u32::from(found.is_none());
        let told = found.unwrap_or_else(|| "NOT FOUND".to_owned());
        let Planted { number, what, seed, with, .. } = planted;
        let seconds = started.elapsed().as_secs();
        lines.push(format!("  {number:<3} {what:<70} {seed:>5} {with:<28} {told:<12} {seconds:>4} s"));
    }
    println!("\n── planted: number, what is wrong, seed, circumstances, found as\n{}", lines.join("\n"));
    if missed > 0 {
        bail!("{missed} planted bugs were not found");
    }
    Ok(())
}

/// The kind by which the oracle found it.
fn look(workspace: &Workspace, planted: &Planted) -> Result<Option<String>> {
    let limn = build(workspace, &patch(workspace, planted.number)?)?;
    let servers = match planted.postgres {
        Some(major) => Some(Readable::of(&postgres_versions::ensure(workspace, major)?)?),
        None => None,
    };
    let bin = match &servers {
        Some(servers) => servers.bin().to_owned(),
        None => postgres::bin_dir().context("no Postgres server is here; run `cargo x setup`")?,
    };
    let mut oracle = command(workspace.target().join("debug/oracle"), workspace.root());
    oracle.env("LIMN_BIN", limn).env("PG_BIN_DIR", bin);
    oracle.args([
        "--seed",
        &planted.seed.to_string(),
        "--times",
        TIMES,
        "--jobs",
        "1",
        "--with",
        planted.with,
    ]);
    println!("  $ {}", shown(&oracle));
    let output = oracle.stdin(Stdio::null()).output().context("cannot start the oracle")?;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{}", text.lines().take(8).collect::<Vec<_>>().join("\n"));
    Ok(kind(&text).filter(|kind| planted.kinds.contains(&kind.as_str())))
}

/// The kind of the first violation in what the oracle printed.
fn kind(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("seed "))?;
    let (_, rest) = line.split_once("): ")?;
    Some(rest.split_once(':')?.0.to_owned())
}

fn patch(workspace: &Workspace, number: &str) -> Result<PathBuf> {
    let folder = workspace.path(PATCHES);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let names = entries.collect::<std::io::Result<Vec<_>>>()?;
    let found = names.iter().find(|entry| entry.file_name().to_string_lossy().starts_with(number));
    Ok(found.with_context(|| format!("no file of `{PATCHES}` begins with {number}"))?.path())
}

/// The program with a patch: built in a copy of the checkout, whose target folder stays from one to the next.
fn build(workspace: &Workspace, patch: &Path) -> Result<PathBuf> {
    let folder = workspace.target().join("planted");
    let (tree, target) = (folder.join("tree"), folder.join("target"));
    copy(workspace, &tree)?;
    // Outside of a checkout, paths are those of the copy.
    let mut apply = git(&tree);
    apply.env("GIT_CEILING_DIRECTORIES", &folder).args(["apply", "-p1"]).arg(patch);
    run_command(&mut apply).with_context(|| format!("`{}` no longer applies", patch.display()))?;
    let mut cargo = command("cargo", &tree);
    run_command(cargo.env("CARGO_TARGET_DIR", &target).args(["build", "--package", "limn-origin"]))?;
    Ok(target.join("debug/limn"))
}

/// Makes the copy what the checkout is; files that are equal stay as old as they are, so that they are not compiled again.
fn copy(workspace: &Workspace, tree: &Path) -> Result<()> {
    let mut list = git(workspace.root());
    let files = capture(list.args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    for file in files.lines() {
        let (from, to) = (workspace.path(file), tree.join(file));
        let Ok(bytes) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|known| known == bytes) {
            continue;
        }
        let folder = to.parent().context("a file lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        fs::write(&to, bytes).with_context(|| format!("cannot write `{}`", to.display()))?;
    }
    Ok(())
}

fn git(folder: &Path) -> Command {
    command("git", folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_violation_is_read() {
        let text = "1 seeds\nseed 3 (deferrable): Duplicated: inserted twice: {}\n  again: cargo x oracle";
        assert_eq!(kind(text).as_deref(), Some("Duplicated"));
        assert_eq!(kind("1 seeds (3.0 a minute), 0 failed"), None);
    }

    #[test]
    fn each_has_a_patch_that_applies() {
        let workspace = Workspace::locate().expect("the tests run in a checkout");
        for planted in PLANTED {
            let patch = patch(&workspace, planted.number).expect("there is one");
            let mut apply = git(workspace.root());
            let output = apply.args(["apply", "--check"]).arg(&patch).output().expect("git is there");
            assert!(
                output.status.success(),
                "{}: {}",
                patch.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}
