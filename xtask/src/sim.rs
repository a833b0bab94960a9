//! `cargo x sim`: the simulation, optimized.

use anyhow::Result;
use clap::Args;

use crate::process::{command, run as run_command};
use crate::workspace::Workspace;

/// Options of `cargo x sim`, handed on to `limn-sim`.
#[derive(Args)]
pub struct Options {
    /// `--seeds 10000`, `--seed 7` (one of them, with its trace), `--fault confirms-before-sync` (a planted bug);
    /// `-- --help` says more
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Builds the simulation and runs it.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut cargo = command("cargo", workspace.root());
    run_command(
        cargo.args(["run", "--quiet", "--release", "--package", "limn-sim", "--"]).args(&options.options),
    )
}
