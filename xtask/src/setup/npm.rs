//! The npm packages of package-lock.json, installed once per lockfile.

use std::fs;

use anyhow::{Context, Result};

use super::announce;
use crate::process::{command, run};
use crate::workspace::Workspace;

/// A copy of the lockfile that the folder beside it was installed from.
const STAMP: &str = "node_modules/.installed-from.json";

/// `npm ci`, unless node_modules is already what the lockfile says.
pub fn ensure(workspace: &Workspace) -> Result<String> {
    let lockfile =
        fs::read(workspace.path("package-lock.json")).context("cannot read `package-lock.json`")?;
    let stamp = workspace.path(STAMP);
    if fs::read(&stamp).is_ok_and(|installed| installed == lockfile) {
        return Ok("as in package-lock.json".to_owned());
    }
    announce("npm ci");
    run(command("npm", workspace.root()).args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]))?;
    fs::write(&stamp, &lockfile).with_context(|| format!("cannot write `{}`", stamp.display()))?;
    Ok("installed from package-lock.json".to_owned())
}
