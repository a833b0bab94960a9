//! Makes a Debian, Ubuntu or macOS machine with Rust and Node ready. Each part looks first and acts only where
//! something is missing, so running it again costs about a second.

use std::fmt;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::workspace::Workspace;

pub mod browser;
mod cargo_tools;
mod native;
pub mod nginx;
mod npm;
pub mod perf;
mod postgres_server;
pub mod postgres_versions;
pub mod schemathesis;
mod system;
mod toolchain;
pub mod valgrind;

/// Something that the setup does not install: what needs it is left out.
#[derive(Debug)]
pub struct Missing(&'static str);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Missing {}

/// Something that a verb needs on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A C linker; rustfmt and clippy.
    Native,
    /// A Rust toolchain for wasm32.
    WasmTarget,
    /// The npm packages of the lockfile.
    Npm,
    /// `initdb` and `postgres`.
    Postgres,
    /// Chromium, and its driver where the system has one.
    Browser,
}

impl Part {
    /// All of them, in the order in which they are looked at.
    pub const ALL: &[Self] = &[Self::Native, Self::WasmTarget, Self::Npm, Self::Postgres, Self::Browser];

    /// What building and running the edge worker needs, and building the browser client.
    pub const EDGE: &[Self] = &[Self::Native, Self::WasmTarget, Self::Npm];

    /// What `limn dev` needs: it is built, and it starts a Postgres.
    pub const DEV: &[Self] = &[Self::Native, Self::Postgres];

    fn title(self) -> &'static str {
        match self {
            Self::Native => "native build",
            Self::WasmTarget => "wasm32 target",
            Self::Npm => "npm packages",
            Self::Postgres => "Postgres server",
            Self::Browser => "Chromium",
        }
    }

    /// Makes the part ready and says in a few words what is there now.
    fn ensure(self, workspace: &Workspace) -> Result<String> {
        match self {
            Self::Native => native::ensure(workspace),
            Self::WasmTarget => toolchain::ensure(workspace),
            Self::Npm => npm::ensure(workspace),
            Self::Postgres => postgres_server::ensure(workspace),
            Self::Browser => browser::ensure(workspace),
        }
    }
}

pub use cargo_tools::{ensure_cargo_deny, ensure_cargo_fuzz, ensure_cargo_mutants, ensure_inferno};
pub use toolchain::ensure_clippy as ensure_wasm_clippy;

/// Makes all `parts` ready, one line each.
pub fn run(workspace: &Workspace, parts: &[Part]) -> Result<()> {
    for (index, part) in parts.iter().enumerate() {
        let started = Instant::now();
        let (number, title) = (index + 1, part.title());
        let found = part.ensure(workspace).with_context(|| format!("setup of {title} failed"))?;
        let seconds = started.elapsed().as_secs_f32();
        println!("setup {number}/{}  {title:<16} {found} ({seconds:.1} s)", parts.len());
    }
    Ok(())
}

/// Says what is about to happen, before it takes its time.
fn announce(what: &str) {
    println!("  … {what}");
}
