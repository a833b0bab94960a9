//! A Postgres server's programs; the tests and the demo start private servers from them.

use anyhow::{Context, Result, bail};

use super::system::{self, System};
use crate::postgres;
use crate::process::{capture, command};
use crate::workspace::Workspace;

/// Finds `initdb` and `postgres`, or installs the system's package.
pub fn ensure(workspace: &Workspace) -> Result<String> {
    if postgres::bin_dir().is_none() {
        match System::here() {
            System::Debian | System::OtherApt => system::apt_install(&["postgresql"])?,
            System::Mac => system::brew_install("postgresql@17")?,
            System::Unknown => bail!("no Postgres server was found; install one, or set PG_BIN_DIR"),
        }
    }
    let dir = postgres::bin_dir().context("the package is installed and `initdb` is still not found")?;
    let version = capture(command(dir.join("postgres"), workspace.root()).arg("--version"))?;
    Ok(format!("{version} in {}", dir.display()))
}
