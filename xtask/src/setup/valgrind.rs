//! valgrind, whose callgrind counts instructions.

use std::path::Path;

use anyhow::{Result, bail};

use super::system::{self, System};
use crate::process::{command, succeeds};

/// Installs it where it is not there.
///
/// # Errors
/// Where it cannot be had: there is no other way to count.
pub fn ensure() -> Result<()> {
    if succeeds(command("valgrind", Path::new("/")).arg("--version")) {
        return Ok(());
    }
    match System::here() {
        System::Debian | System::OtherApt => system::apt_install(&["valgrind"]),
        System::Mac => {
            bail!("instructions are counted by valgrind, which does not run on macOS; count on Linux")
        }
        System::Unknown => bail!("there is no `valgrind` on the PATH; install it in this system's way"),
    }
}
