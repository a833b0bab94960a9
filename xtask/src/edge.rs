//! The edge worker: built for wasm32 and bundled with its glue, run in the real workerd by miniflare.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::{Children, command, run as run_command};
use crate::setup::{self, Part};
use crate::wasm::{self, Host};
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
    /// A variable or secret of the worker, such as LIMN_JWT_SECRET=…; may be given several times
    #[arg(long = "var", value_name = "NAME=VALUE")]
    variables: Vec<String>,
}

/// The worker's main module as it is in the sources: it imports the glue.
const ENTRY: &str = "edge-worker/entry.mjs";

/// Where [`build`] puts the worker.
const BUILD: &str = "build";

/// The files of wasm-bindgen begin so; `entry.mjs` imports them by that name.
const GLUE: &str = "glue";

/// Builds the worker into `build/`: `index.js` and the module that it imports. It needs what `cargo x setup` made,
/// and installs nothing: `wrangler deploy` calls it, too.
pub fn build(workspace: &Workspace) -> Result<()> {
    let module = wasm::build(workspace, "limn-edge")?;
    // Put together beside the place where it is used: a worker that runs sees all of the new build or nothing.
    let staging = workspace.target().join("edge-worker");
    if staging.exists() {
        fs::remove_dir_all(&staging).with_context(|| format!("cannot empty `{}`", staging.display()))?;
    }
    wasm::bindgen(workspace, Host::Worker, &module, &staging, GLUE)?;
    wasm::optimize(workspace, &staging.join(format!("{GLUE}_bg.wasm")))?;
    import_as_module(&staging.join(format!("{GLUE}.js")))?;
    fs::copy(workspace.path(ENTRY), staging.join("entry.mjs"))
        .with_context(|| format!("cannot copy `{ENTRY}`"))?;
    bundle(workspace, &staging)
}

/// workerd gives a compiled module for a plain import; the glue asks for one by a syntax that it does not know.
fn import_as_module(glue: &Path) -> Result<()> {
    let text = fs::read_to_string(glue).with_context(|| format!("cannot read `{}`", glue.display()))?;
    let plain = text.replace("import source ", "import ");
    fs::write(glue, plain).with_context(|| format!("cannot write `{}`", glue.display()))
}

/// Makes one JavaScript file of entry and glue, and puts it into `build/` with the WebAssembly module.
fn bundle(workspace: &Workspace, staging: &Path) -> Result<()> {
    let build = workspace.path(BUILD);
    if build.exists() {
        fs::remove_dir_all(&build).with_context(|| format!("cannot empty `{BUILD}`"))?;
    }
    let mut esbuild = command(workspace.npm_tool("esbuild"), workspace.root());
    esbuild.arg(staging.join("entry.mjs")).args([
        "--bundle",
        "--minify",
        "--format=esm",
        "--log-level=warning",
    ]);
    esbuild.args(["--external:*.wasm", "--external:cloudflare:*"]);
    run_command(esbuild.arg(format!("--outfile={MAIN_MODULE}")))?;
    let module = format!("{GLUE}_bg.wasm");
    fs::copy(staging.join(&module), build.join(&module))
        .with_context(|| format!("cannot copy `{module}`"))?;
    Ok(())
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
    server.args(options.variables.iter().flat_map(|variable| ["--var", variable]));
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
