//! The browser client: an ESM package in `client/pkg`, from the crate `limn-client`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::wasm::{self, Host};
use crate::workspace::Workspace;

/// The folder of the package, in the checkout.
pub const PACKAGE: &str = "client/pkg";

/// The names of its files begin so.
const NAME: &str = "limn_client";

/// What the package has beside the built files: its manifest, its entry with types, its introduction.
const WRITTEN_BY_HAND: [&str; 2] = ["client/npm", "client/README.md"];

/// Compiles the crate, writes its glue, makes the module small, and adds what was written by hand.
pub fn build(workspace: &Workspace) -> Result<()> {
    let module = wasm::build(workspace, "limn-client")?;
    let package = workspace.path(PACKAGE);
    if package.exists() {
        fs::remove_dir_all(&package).with_context(|| format!("cannot empty `{PACKAGE}`"))?;
    }
    wasm::bindgen(workspace, Host::Browser, &module, &package, NAME)?;
    wasm::optimize(workspace, &package_module(workspace))?;
    WRITTEN_BY_HAND.iter().try_for_each(|source| copy_into_package(workspace, source))
}

/// Copies a file, or the files of a folder, into the package.
fn copy_into_package(workspace: &Workspace, source: &str) -> Result<()> {
    let path = workspace.path(source);
    let files = if path.is_dir() {
        fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?
    } else {
        vec![path]
    };
    for file in files {
        let name = file.file_name().with_context(|| format!("`{}` has no name", file.display()))?;
        let target = workspace.path(PACKAGE).join(name);
        fs::copy(&file, target).with_context(|| format!("cannot copy `{}`", file.display()))?;
    }
    Ok(())
}

/// The module that a browser downloads.
fn package_module(workspace: &Workspace) -> PathBuf {
    workspace.path(PACKAGE).join(format!("{NAME}_bg.wasm"))
}
