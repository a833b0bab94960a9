//! `cargo x bench`: the benchmark, on the release build and on others that are named.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::process::{command, run as run_command};
use crate::profile;
use crate::setup::{self, Part};
use crate::test::with_servers;
use crate::workspace::Workspace;

/// Options of `cargo x bench`.
#[derive(Args)]
pub struct Options {
    /// Another build of Limn, measured in turn with this one; may be given several times
    #[arg(long, value_name = "PROGRAM")]
    against: Vec<PathBuf>,
    /// Write the results to `bench/RESULTS.md`, with plots
    #[arg(long)]
    write: bool,
    /// What to measure, and how: `transactions --runs 3`; `-- --help` says more. `profile restart` draws where the
    /// server spends its time in that row
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Builds the server and the benchmark, and runs it; or profiles a row of it.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if let [verb, row, rest @ ..] = options.options.as_slice()
        && verb == "profile"
    {
        return profile::run(workspace, row, rest);
    }
    setup::run(workspace, &[Part::Native, Part::Postgres])?;
    let packages = ["--package", "limn-origin", "--package", "limn-bench"];
    run_command(command("cargo", workspace.root()).args(["build", "--release"]).args(packages))?;
    let mut bench = command(workspace.target().join("release").join("limn-bench"), workspace.root());
    with_servers(workspace, &mut bench)?;
    bench.arg("--program").arg(workspace.limn());
    for program in &options.against {
        bench.arg("--program").arg(program);
    }
    if options.write {
        bench.arg("--results").arg(workspace.root().join("bench"));
    }
    run_command(bench.args(&options.options))
}
