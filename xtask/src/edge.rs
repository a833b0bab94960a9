//! The edge worker: built for wasm32 by worker-build, run in the real workerd by miniflare.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::process::{Children, command, run as run_command};
use crate::setup::{self, Part};
use crate::wasm::Toolchain;
use crate::workspace::Workspace;

/// The program that runs the built worker in workerd.
pub const SERVER: &str = "edge-worker/dev/serve.mjs";

/// What `wrangler.toml` names as the worker's main module.
pub const MAIN_MODULE: &str = "build/index.js";

/// Options of `cargo x edge`.
#[derive(Args)]
pub struct Options {
    /// The Limn origin behind the worker, for example http://127.0.0.1:3000
    #[arg(long)]
    origin: Option<String>,
    /// The port of the worker, on 127.0.0.1
    #[arg(long, default_value_t = 8787)]
    port: u16,
    /// The origin's secret: the worker then checks credentials itself, before its cache
    #[arg(long)]
    secret: Option<String>,
}

/// Builds the worker into `build/`. It installs nothing: `wrangler deploy` calls it, too.
pub fn build(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::required(workspace)?;
    let mut worker_build = command(workspace.tool("worker-build"), workspace.root());
    // A tool that it does not find through these variables it would download.
    worker_build
        .env("RUSTUP_TOOLCHAIN", toolchain.name())
        .env("WASM_BINDGEN_BIN", workspace.tool("wasm-bindgen"))
        .env("WASM_OPT_BIN", workspace.npm_tool("wasm-opt"))
        .env("ESBUILD_BIN", workspace.npm_tool("esbuild"))
        // A client that leaves during a long poll must not leave the request's objects behind in the module.
        .env("RUN_TO_COMPLETION", "1")
        .args(["--profile", "wasm", "--out-dir", "../build", "edge-worker"]);
    run_command(&mut worker_build)
}

/// What `wrangler deploy` does from the root, up to the upload: the build that wrangler.toml names, and the modules.
pub fn deploy_dry_run(workspace: &Workspace) -> Result<()> {
    let out_dir = workspace.target().join("deploy");
    let mut wrangler = command(workspace.npm_tool("wrangler"), workspace.root());
    // Neither its statistics nor its questions belong into a test.
    wrangler.env("WRANGLER_SEND_METRICS", "false").env("WRANGLER_SEND_ERROR_REPORTS", "false").env("CI", "1");
    run_command(wrangler.args(["deploy", "--dry-run", "--outdir"]).arg(out_dir))
}

/// Builds the worker and runs it in workerd until Ctrl-C.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let Some(origin) = &options.origin else {
        bail!(
            "`--origin URL` says which Limn the worker stands in front of; `cargo x edge build` only builds it"
        );
    };
    setup::run(workspace, Part::EDGE)?;
    build(workspace)?;
    let mut children = Children::supervised()?;
    let mut server = server(workspace, origin, options.port, options.secret.as_deref());
    if children.start_until_ready("edge", &mut server)? {
        children.follow()?;
    }
    Ok(())
}

/// The command that serves the built worker on `port`.
pub fn server(workspace: &Workspace, origin: &str, port: u16, secret: Option<&str>) -> Command {
    let mut node = command("node", workspace.root());
    node.args([SERVER, "--origin", origin, "--port", &port.to_string()]);
    if let Some(secret) = secret {
        node.args(["--secret", secret]);
    }
    node
}
