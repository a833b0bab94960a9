//! nginx, for the test that puts it as a cache before the origin. Its program alone is enough: no service is installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::system::System;
use super::{Missing, announce};
use crate::process::{command, run, succeeds};
use crate::workspace::Workspace;

/// The program: the machine's own, else one that is unpacked from Debian's package into the tool cache.
///
/// # Errors
/// [`Missing`] where neither can be had.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let unpacked = workspace.tools().join("nginx");
    let program = unpacked.join("usr/sbin/nginx");
    for known in [PathBuf::from("nginx"), PathBuf::from("/usr/sbin/nginx"), program.clone()] {
        if runs(&known) {
            return Ok(known);
        }
    }
    if !matches!(System::here(), System::Debian | System::OtherApt) {
        bail!(Missing("there is no `nginx` here"));
    }
    announce("unpacking nginx from its package");
    fs::create_dir_all(&unpacked).with_context(|| format!("cannot create `{}`", unpacked.display()))?;
    if !succeeds(command("apt-get", &unpacked).args(["download", "-q", "nginx"])) {
        bail!(Missing(
            "there is no `nginx` here, and its package cannot be downloaded (`apt-get update` may help)"
        ));
    }
    let files = fs::read_dir(&unpacked).context("cannot list what was downloaded")?;
    let package =
        files.flatten().map(|file| file.path()).find(|path| path.extension().is_some_and(|e| e == "deb"));
    let package = package.context("apt-get downloaded no package")?;
    run(command("dpkg-deb", &unpacked).arg("-x").arg(&package).arg(&unpacked))?;
    fs::remove_file(&package).with_context(|| format!("cannot remove `{}`", package.display()))?;
    if !runs(&program) {
        bail!(Missing("nginx does not run here without its package's dependencies (Debian: nginx-light)"));
    }
    Ok(program)
}

fn runs(program: &Path) -> bool {
    succeeds(command(program, Path::new("/")).arg("-v"))
}
