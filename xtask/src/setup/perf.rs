//! perf, which samples where a program spends its time.

use std::path::Path;

use anyhow::{Result, bail};

use super::system::{self, System};
use crate::process::{command, succeeds};

/// Installs it where it is not there.
///
/// # Errors
/// Where it cannot be had.
pub fn ensure() -> Result<()> {
    if succeeds(command("perf", Path::new("/")).arg("--version")) {
        return Ok(());
    }
    match System::here() {
        System::Debian => system::apt_install(&["linux-perf"]),
        System::OtherApt => system::apt_install(&["linux-tools-generic"]),
        System::Mac | System::Unknown => bail!("there is no `perf` on the PATH; profiles are made on Linux"),
    }
}
