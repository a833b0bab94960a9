//! What a native build and `cargo x check` need beside cargo itself.

use std::path::Path;

use anyhow::{Result, bail};

use super::system::{self, System};
use crate::process::{capture, command, run, succeeds};
use crate::workspace::Workspace;

/// A C linker, rustfmt and clippy, and a Node that runs our tools.
pub fn ensure(workspace: &Workspace) -> Result<String> {
    ensure_linker()?;
    ensure_component(workspace, "rustfmt", "fmt")?;
    ensure_component(workspace, "clippy", "clippy")?;
    let rustc = capture(command("rustc", workspace.root()).arg("--version"))?;
    let node = ensure_node(workspace)?;
    let rustc_version = rustc.split(" (").next().unwrap_or(&rustc);
    Ok(format!("{rustc_version}, node {node}"))
}

fn ensure_linker() -> Result<()> {
    if succeeds(command("cc", Path::new("/")).arg("--version")) {
        return Ok(());
    }
    match System::here() {
        System::Debian | System::OtherApt => system::apt_install(&["build-essential"]),
        System::Mac => bail!("there is no C compiler; run `xcode-select --install`"),
        System::Unknown => bail!("there is no C compiler `cc` on the PATH; install one"),
    }
}

fn ensure_component(workspace: &Workspace, component: &str, verb: &str) -> Result<()> {
    if succeeds(command("cargo", workspace.root()).args([verb, "--version"])) {
        return Ok(());
    }
    run(command("rustup", workspace.root()).args(["component", "add", component]))
}

fn ensure_node(workspace: &Workspace) -> Result<String> {
    let version = capture(command("node", workspace.root()).arg("--version")).unwrap_or_default();
    let (major, minor) = OLDEST_NODE;
    match parse_version(&version) {
        Some(found) if found >= OLDEST_NODE => Ok(version.trim_start_matches('v').to_owned()),
        Some(_) => bail!("node is {version}, expected {major}.{minor} or newer"),
        None => bail!("there is no `node` on the PATH; install Node {major}.{minor} or newer"),
    }
}

/// The oldest that has all options of `node --test` that we use, as in package.json.
const OLDEST_NODE: (u32, u32) = (20, 14);

fn parse_version(printed: &str) -> Option<(u32, u32)> {
    let mut numbers = printed.strip_prefix('v')?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_prints_its_version_with_a_v() {
        assert_eq!(parse_version("v20.20.2"), Some((20, 20)));
        assert_eq!(parse_version("20.20.2"), None);
        assert_eq!(parse_version(""), None);
    }
}
