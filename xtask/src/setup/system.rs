//! Packages of the operating system: apt on Debian and Ubuntu, Homebrew on macOS.

use std::path::Path;

use anyhow::{Result, bail};

use super::announce;
use crate::process::{capture, command, run, shown, succeeds};

/// What kind of machine this is, as far as installing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Debian itself: it has `rustc-web` and a Chromium in its packages.
    Debian,
    /// Another distribution that uses apt.
    OtherApt,
    /// macOS.
    Mac,
    /// Anything else: we say what is missing and stop.
    Unknown,
}

impl System {
    /// This machine.
    pub fn here() -> Self {
        if cfg!(target_os = "macos") {
            return Self::Mac;
        }
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        if !Path::new("/usr/bin/apt-get").exists() {
            Self::Unknown
        } else if release.lines().any(|line| line == "ID=debian") {
            Self::Debian
        } else {
            Self::OtherApt
        }
    }
}

/// Installs those of `packages` that are missing. Where we may not, the error is the command to run.
pub fn apt_install(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    let Some(mut update) = as_root("apt-get") else {
        bail!(
            "we are neither root nor allowed to sudo; run this as root, then again what you ran: {by_hand}"
        );
    };
    announce(&format!("installing {}", missing.join(", ")));
    // A source that cannot be reached must not stop us: the packages may come from another.
    if !succeeds(update.args(["update", "-q"])) {
        println!("  apt-get update did not succeed; going on with the lists that are here");
    }
    let mut install = as_root("env").unwrap_or_else(|| command("env", Path::new("/")));
    install.args([
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "-y",
        "-q",
        "--no-install-recommends",
    ]);
    install.args(missing);
    println!("  $ {}", shown(&install));
    // Its hundreds of lines are of interest only when it fails.
    capture(&mut install).map(drop)
}

/// Installs a Homebrew formula.
pub fn brew_install(formula: &str) -> Result<()> {
    announce(&format!("installing {formula}"));
    if !succeeds(command("brew", Path::new("/")).arg("--version")) {
        bail!("Homebrew is not here; install `{formula}` in your own way and run this again");
    }
    run(command("brew", Path::new("/")).args(["install", formula]))
}

/// A command run as root: directly, or by a sudo that asks nothing. `None` where neither works.
pub fn as_root(program: &str) -> Option<std::process::Command> {
    let root = Path::new("/");
    if capture(command("id", root).arg("-u")).is_ok_and(|uid| uid == "0") {
        return Some(command(program, root));
    }
    // With a terminal sudo may ask for the password; without one it must not hang.
    let allowed = std::io::IsTerminal::is_terminal(&std::io::stdin())
        && succeeds(command("sudo", root).arg("--version"))
        || succeeds(command("sudo", root).args(["-n", "true"]));
    allowed.then(|| {
        let mut sudo = command("sudo", root);
        sudo.arg(program);
        sudo
    })
}

fn is_installed(package: &str) -> bool {
    let mut query = command("dpkg-query", Path::new("/"));
    capture(query.args(["-W", "-f", "${Status}", package]))
        .is_ok_and(|status| status == "install ok installed")
}
