//! Chromium for the tests that need a real browser, and chromedriver for wasm-bindgen's own.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::announce;
use super::system::{self, System};
use crate::process::{capture, command, run, succeeds};
use crate::workspace::Workspace;

/// Where systems put a Chromium that works without a desktop; Ubuntu's snap of the same name does not.
const CHROMIUM_PATHS: [&str; 3] = [
    "/usr/bin/chromium",
    "/usr/bin/google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

const DRIVER_PATHS: [&str; 3] =
    ["/usr/bin/chromedriver", "/usr/local/bin/chromedriver", "/opt/homebrew/bin/chromedriver"];

/// Finds a Chromium, or installs the system's, or playwright's.
pub fn ensure(workspace: &Workspace) -> Result<String> {
    if chromium(workspace).is_none() {
        match System::here() {
            System::Debian => system::apt_install(&["chromium", "chromium-driver"])?,
            System::OtherApt | System::Mac | System::Unknown => install_playwrights(workspace)?,
        }
    }
    let path =
        chromium(workspace).context("no Chromium is here; install one, or set CHROMIUM to its path")?;
    let driver = match driver() {
        Some(driver) => format!("driver {}", driver.display()),
        None => "no chromedriver: wasm-bindgen's browser tests run in node only".to_owned(),
    };
    Ok(format!("{}, {driver}", path.display()))
}

/// The browser to test with: the one named by `CHROMIUM`, the system's, or playwright's.
pub fn chromium(workspace: &Workspace) -> Option<PathBuf> {
    let told = env::var_os("CHROMIUM").map(PathBuf::from);
    let known = CHROMIUM_PATHS.iter().map(PathBuf::from);
    // Asking playwright takes a second: last, and only where nothing else was found.
    let playwrights = std::iter::once_with(|| playwrights(workspace)).flatten();
    told.into_iter().chain(known).chain(playwrights).find(|path| path.is_file())
}

/// The driver that belongs to the system's browser; wasm-bindgen-test-runner speaks to it.
pub fn driver() -> Option<PathBuf> {
    let told = env::var_os("CHROMEDRIVER").map(PathBuf::from);
    told.into_iter().chain(DRIVER_PATHS.iter().map(PathBuf::from)).find(|path| path.is_file())
}

fn playwrights(workspace: &Workspace) -> Option<PathBuf> {
    const SCRIPT: &str = "process.stdout.write(require('playwright-core').chromium.executablePath())";
    capture(command("node", workspace.root()).args(["-e", SCRIPT])).ok().map(PathBuf::from)
}

fn install_playwrights(workspace: &Workspace) -> Result<()> {
    announce("downloading playwright's Chromium");
    let mut install = command(workspace.npm_tool("playwright-core"), workspace.root());
    install.args(["install", "chromium"]);
    // Its libraries are packages of the system; apt needs root.
    if System::here() == System::OtherApt
        && succeeds(&mut system::as_root("true").unwrap_or_else(|| command("false", Path::new("/"))))
    {
        install.arg("--with-deps");
    }
    run(&mut install)
}
