//! The browser client: an ESM package in `client/pkg`, from the crate `limn-client`.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::run;
use crate::wasm::{self, TARGET, Toolchain};
use crate::workspace::Workspace;

/// The folder of the package, in the checkout.
pub const PACKAGE: &str = "client/pkg";

/// The names of its files begin so.
const NAME: &str = "limn_client";

/// Compiles the crate, writes its glue, and makes the module small.
pub fn build(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::required(workspace)?;
    run(toolchain.cargo(workspace).args([
        "build",
        "--package",
        "limn-client",
        "--target",
        TARGET,
        "--profile",
        "wasm",
    ]))?;
    let module = workspace.target().join(TARGET).join("wasm").join(format!("{NAME}.wasm"));
    let package = workspace.path(PACKAGE);
    wasm::bindgen(workspace, &module, &package, &["--target", "web", "--remove-producers-section"])?;
    wasm::optimize(workspace, &package_module(workspace))
}

/// The module that a browser downloads.
pub fn package_module(workspace: &Workspace) -> PathBuf {
    workspace.path(PACKAGE).join(format!("{NAME}_bg.wasm"))
}

/// The glue that a browser downloads with it.
pub fn package_glue(workspace: &Workspace) -> PathBuf {
    workspace.path(PACKAGE).join(format!("{NAME}.js"))
}
