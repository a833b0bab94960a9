//! schemathesis, in a Python environment of its own in the cache.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{Missing, announce};
use crate::process::{capture, command, run, succeeds};
use crate::workspace::Workspace;

const VERSION: &str = "4.32.5";

/// The program, installed on first use.
///
/// # Errors
/// [`Missing`] where there is no Python that can make environments.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let environment = workspace.tools().join("schemathesis");
    let program = environment.join("bin/schemathesis");
    if is_installed(&program) {
        return Ok(program);
    }
    let root = Path::new("/");
    if !succeeds(command("python3", root).args(["-c", "import venv, ensurepip"])) {
        bail!(Missing("there is no `python3` with `venv` here (Debian: python3-venv)"));
    }
    announce(&format!("installing schemathesis {VERSION}"));
    run(command("python3", root).args(["-m", "venv", "--clear"]).arg(&environment))?;
    let package = format!("schemathesis=={VERSION}");
    run(command(environment.join("bin/pip"), root).args(["install", "--quiet", &package]))?;
    if !is_installed(&program) {
        bail!("`{}` was installed and does not say that it is {VERSION}", program.display());
    }
    Ok(program)
}

fn is_installed(program: &Path) -> bool {
    let printed = capture(command(program, Path::new("/")).arg("--version"));
    printed.is_ok_and(|printed| printed.split_whitespace().any(|word| word.trim_matches(',') == VERSION))
}
