//! Licences, bans and sources of all dependencies. Advisories are left out: their database is a download of its own.

use anyhow::Result;

use crate::process::{command, run as run_command};
use crate::setup;
use crate::workspace::Workspace;

/// Runs cargo-deny with the rules of deny.toml.
pub fn run(workspace: &Workspace) -> Result<()> {
    setup::ensure_cargo_deny(workspace)?;
    let mut deny = command(workspace.tool("cargo-deny"), workspace.root());
    run_command(deny.args([
        "--all-features",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))
}
