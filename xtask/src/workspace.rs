//! Where things are: the root of the checkout, cargo's target folder, and the cache that outlives checkouts.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folders that the verbs work in.
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
    cache: PathBuf,
}

impl Workspace {
    /// The checkout that `cargo x` was called in; started without cargo, the one it was built from.
    pub fn locate() -> Result<Self> {
        // Checkouts may share a target folder, and with it this program.
        let called_in = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let root = called_in
            .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")))
            .parent()
            .context("xtask lies in a folder of the workspace")?
            .to_path_buf();
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        Ok(Self { cache: cache_dir()?, root, target })
    }

    /// The root of the checkout; every command runs here.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a file of the checkout.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Cargo's target folder.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The release binary `limn`.
    pub fn limn(&self) -> PathBuf {
        self.target.join("release").join("limn")
    }

    /// The binary `limn` as `cargo build` makes it: in a fraction of the release build's time.
    pub fn limn_unoptimized(&self) -> PathBuf {
        self.target.join("debug").join("limn")
    }

    /// Where the setup keeps tools that it built: `bin` has the programs.
    pub fn tools(&self) -> PathBuf {
        self.cache.join("tools")
    }

    /// A program that the setup built.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.tools().join("bin").join(name)
    }

    /// A program that npm installed.
    pub fn npm_tool(&self, name: &str) -> PathBuf {
        self.root.join("node_modules/.bin").join(name)
    }
}

fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("LIMN_CACHE_DIR") {
        return Ok(PathBuf::from(dir));
    }
    if let Some(dir) = env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(dir).join("limn"));
    }
    let home = env::var_os("HOME").context("neither LIMN_CACHE_DIR, XDG_CACHE_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache").join("limn"))
}
