//! `cargo x bench profile ROW`: where the server spends its time while it does the work of a row, as a flame graph.

use std::fs::{self, File};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::process::{command, run as run_command, shown};
use crate::setup::{self, Part, perf};
use crate::test::with_servers;
use crate::workspace::Workspace;

/// The profile of the workspace that builds a server with the names of its functions.
const PROFILE: &str = "profiling";

/// Runs a scenario once with its options, and writes `target/profiles/ROW.svg`.
pub fn run(workspace: &Workspace, row: &str, options: &[String]) -> Result<()> {
    setup::run(workspace, &[Part::Native, Part::Postgres])?;
    perf::ensure()?;
    setup::ensure_inferno(workspace)?;
    let mut server = command("cargo", workspace.root());
    // perf walks the stack by them.
    server.env("RUSTFLAGS", "-Cforce-frame-pointers=yes");
    run_command(server.args(["build", "--profile", PROFILE, "--package", "limn-origin"]))?;
    run_command(command("cargo", workspace.root()).args(["build", "--release", "--package", "limn-bench"]))?;
    let folder = workspace.target().join("profiles");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let samples = folder.join(format!("{row}.data"));
    let mut bench = command(workspace.target().join("release").join("limn-bench"), workspace.root());
    with_servers(workspace, &mut bench)?;
    bench.arg("--program").arg(workspace.target().join(PROFILE).join("limn"));
    bench.arg("--profile").arg(&samples).args(["--runs", "1", row]).args(options);
    run_command(&mut bench)?;
    let pids = samples.with_extension("pids");
    let pids = fs::read_to_string(&pids).with_context(|| format!("cannot read `{}`", pids.display()))?;
    let (stacks, collapsed) = (folder.join(format!("{row}.stacks")), folder.join(format!("{row}.collapsed")));
    let image = folder.join(format!("{row}.svg"));
    let mut script = command("perf", workspace.root());
    script.args(["script", "--force", "--pid", pids.trim(), "--input"]).arg(&samples);
    into_file(&mut script, &stacks)?;
    into_file(command(workspace.tool("inferno-collapse-perf"), workspace.root()).arg(&stacks), &collapsed)?;
    let mut graph = command(workspace.tool("inferno-flamegraph"), workspace.root());
    into_file(graph.arg("--title").arg(format!("limn, {row}")).arg(&collapsed), &image)?;
    println!("  {}", image.display());
    Ok(())
}

/// Runs a command whose output is the file.
fn into_file(command: &mut std::process::Command, path: &std::path::Path) -> Result<()> {
    println!("  $ {} > {}", shown(command), path.display());
    let file = File::create(path).with_context(|| format!("cannot create `{}`", path.display()))?;
    let status = command.stdout(file).stderr(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}
