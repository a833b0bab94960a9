//! The quick gate before a commit. `cargo x test` runs the same steps, and many more.

use anyhow::Result;

use crate::house_rules;
use crate::process::{command, run as run_command};
use crate::wasm::{Source, TARGET, Toolchain};
use crate::workspace::Workspace;

/// The packages with code that only compiles for wasm32.
const WASM_PACKAGES: [&str; 2] = ["limn-edge", "limn-client"];

/// Format, house rules, clippy, documentation and unit tests, in the order in which they fail fastest.
pub fn run(workspace: &Workspace) -> Result<()> {
    format(workspace)?;
    house_rules::run(workspace)?;
    clippy(workspace)?;
    match Toolchain::installed(workspace, Source::from_environment()?) {
        Some(toolchain) if toolchain.has_clippy(workspace) => clippy_for_wasm(workspace, &toolchain)?,
        _ => println!("  skipped: clippy for {TARGET}; `cargo x test clippy-wasm` installs it"),
    }
    documentation(workspace)?;
    unit_tests(workspace)
}

/// Every file is as rustfmt would write it.
pub fn format(workspace: &Workspace) -> Result<()> {
    run_command(command("cargo", workspace.root()).args(["fmt", "--all", "--check"]))
}

/// No warnings in any member, nor in the server without its optional features. The edge worker and the client are looked
/// at as they compile natively.
pub fn clippy(workspace: &Workspace) -> Result<()> {
    let lean = ["--package", "limn-origin", "--no-default-features"];
    for members in [&["--workspace", "--all-targets"][..], &lean] {
        let mut cargo = command("cargo", workspace.root());
        run_command(cargo.arg("clippy").args(members).args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// No warnings in the code that [`clippy`] does not see, because it only compiles for wasm32.
pub fn clippy_for_wasm(workspace: &Workspace, toolchain: &Toolchain) -> Result<()> {
    let mut cargo = toolchain.cargo(workspace);
    cargo
        .args(["clippy", "--target", TARGET])
        .args(WASM_PACKAGES.iter().flat_map(|name| ["--package", name]));
    run_command(cargo.args(["--all-targets", "--no-deps", "--", "-D", "warnings"]))
}

/// No warnings in the documentation of any member, private items included: each link in it leads somewhere.
pub fn documentation(workspace: &Workspace) -> Result<()> {
    let mut cargo = command("cargo", workspace.root());
    cargo.env("RUSTDOCFLAGS", "-D warnings");
    run_command(cargo.args(["doc", "--workspace", "--no-deps", "--document-private-items"]))
}

/// The tests that start nothing: all members but the black-box suite.
pub fn unit_tests(workspace: &Workspace) -> Result<()> {
    let mut cargo = command("cargo", workspace.root());
    run_command(cargo.args(["test", "--workspace", "--exclude", "limn-tests"]))
}
