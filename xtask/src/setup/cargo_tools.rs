//! Command line tools that cargo builds into the cache, outside the checkout.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::announce;
use crate::process::{capture, command, run, succeeds};
use crate::workspace::Workspace;

const CARGO_DENY_VERSION: &str = "0.20.2";

const CARGO_FUZZ_VERSION: &str = "0.13.2";

const CARGO_MUTANTS_VERSION: &str = "27.1.0";

const INFERNO_VERSION: &str = "0.12.8";

struct Tool {
    package: &'static str,
    program: &'static str,
    version: String,
}

/// cargo-deny; about two minutes of CPU on first use.
pub fn ensure_cargo_deny(workspace: &Workspace) -> Result<()> {
    let version = CARGO_DENY_VERSION.to_owned();
    Tool { package: "cargo-deny", program: "cargo-deny", version }.ensure(workspace)
}

/// cargo-fuzz, for `cargo x fuzz` alone.
pub fn ensure_cargo_fuzz(workspace: &Workspace) -> Result<()> {
    let version = CARGO_FUZZ_VERSION.to_owned();
    Tool { package: "cargo-fuzz", program: "cargo-fuzz", version }.ensure(workspace)
}

/// cargo-mutants, for `cargo x mutants` alone.
pub fn ensure_cargo_mutants(workspace: &Workspace) -> Result<()> {
    let version = CARGO_MUTANTS_VERSION.to_owned();
    Tool { package: "cargo-mutants", program: "cargo-mutants", version }.ensure(workspace)
}

/// inferno, which draws flame graphs.
pub fn ensure_inferno(workspace: &Workspace) -> Result<()> {
    let version = INFERNO_VERSION.to_owned();
    Tool { package: "inferno", program: "inferno-flamegraph", version }.ensure(workspace)
}

impl Tool {
    fn ensure(&self, workspace: &Workspace) -> Result<()> {
        if self.installed_version(workspace).as_ref() == Some(&self.version) {
            return Ok(());
        }
        announce(&format!("building {} {} (a few minutes, once)", self.package, self.version));
        // --locked fails where the tool's lock file names a crate that the registry in reach does not have yet.
        if !succeeds(&mut self.install(workspace, &["--locked"])) {
            run(&mut self.install(workspace, &[]))?;
        }
        // What was compiled on the way is of no more use; a folder left behind harms nobody.
        let _ = std::fs::remove_dir_all(build_dir(workspace));
        self.installed_version(workspace)
            .map(|_| ())
            .with_context(|| format!("`{}` was built and does not run", self.program))
    }

    fn install(&self, workspace: &Workspace, flags: &[&str]) -> std::process::Command {
        let mut cargo = command("cargo", workspace.root());
        // The tools run for seconds: time spent on optimizing them never comes back.
        cargo
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_TARGET_DIR", build_dir(workspace))
            .args(["install", "--quiet", "--force"])
            .args(flags)
            .arg("--root")
            .arg(workspace.tools())
            .args(["--version", &self.version, self.package]);
        cargo
    }

    /// As cargo lists what it installed: for programs that do not tell their version.
    fn listed_version(&self, workspace: &Workspace) -> Option<String> {
        let mut cargo = command("cargo", workspace.root());
        let listed = capture(cargo.args(["install", "--list", "--root"]).arg(workspace.tools())).ok()?;
        listed_version(&listed, self.package).map(str::to_owned)
    }

    fn installed_version(&self, workspace: &Workspace) -> Option<String> {
        if self.package == "inferno" {
            return self.listed_version(workspace);
        }
        let path = workspace.tool(self.program);
        let mut program = command(path, workspace.root());
        // This one answers only as the subcommand that cargo would call.
        program.args((self.program == "cargo-mutants").then_some("mutants"));
        let printed = capture(program.arg("--version")).ok()?;
        first_version(&printed).map(str::to_owned)
    }
}

/// `inferno v0.12.8:`, with its programs below.
fn listed_version<'a>(listed: &'a str, package: &str) -> Option<&'a str> {
    listed.lines().find_map(|line| line.strip_prefix(package)?.strip_prefix(" v")?.strip_suffix(':'))
}

fn build_dir(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("build")
}

/// The first word that looks like a version: `cargo-deny 0.20.2 (…)`.
fn first_version(printed: &str) -> Option<&str> {
    printed
        .split_whitespace()
        .find(|word| word.split('.').count() == 3 && word.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stands_after_the_name() {
        assert_eq!(first_version("cargo-deny 0.20.2"), Some("0.20.2"));
        assert_eq!(first_version("tool-1.2 0.8.7 (abc 2026)"), Some("0.8.7"));
        assert_eq!(first_version("no version at all"), None);
        let listed = "cargo-deny v0.20.2:\n    cargo-deny\ninferno v0.12.8:\n    inferno-flamegraph\n";
        assert_eq!(listed_version(listed, "inferno"), Some("0.12.8"));
        assert_eq!(listed_version(listed, "cargo"), None);
    }
}
