//! The quick gate before a commit. `cargo x test` runs the same steps, and many more.

use anyhow::Result;

use crate::house_rules;
use crate::process::{command, run as run_command};
use crate::workspace::Workspace;

/// Format, house rules, clippy and unit tests, in the order in which they fail fastest.
pub fn run(workspace: &Workspace) -> Result<()> {
    format(workspace)?;
    house_rules::run(workspace)?;
    clippy(workspace)?;
    unit_tests(workspace)
}

/// Every file is as rustfmt would write it.
pub fn format(workspace: &Workspace) -> Result<()> {
    run_command(command("cargo", workspace.root()).args(["fmt", "--all", "--check"]))
}

/// No warnings in any member. The edge worker and the client are looked at as they compile natively.
pub fn clippy(workspace: &Workspace) -> Result<()> {
    let mut cargo = command("cargo", workspace.root());
    run_command(cargo.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// The tests that start nothing: all members but the black-box suite.
pub fn unit_tests(workspace: &Workspace) -> Result<()> {
    let mut cargo = command("cargo", workspace.root());
    run_command(cargo.args(["test", "--workspace", "--exclude", "limn-tests"]))
}
