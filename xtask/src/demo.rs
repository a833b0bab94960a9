//! `cargo x demo`: a private Postgres with the origin, the edge worker before it, a page, and a writer.
//!
//! The page is there once the origin is built; the browser client and the edge worker are built behind it and join.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::{fs, io};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::client;
use crate::edge;
use crate::process::{Children, Ending, command, run as run_command};
use crate::setup::{self, Part};
use crate::workspace::Workspace;

/// Options of `cargo x demo`.
#[derive(Args)]
pub struct Options {
    /// The port of the origin and of the page
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// The port of the edge worker
    #[arg(long, default_value_t = 8787)]
    edge_port: u16,
    /// Leave out the writer that changes a row every second
    #[arg(long)]
    quiet: bool,
    /// Take everything as it was built before, and do not look at the machine
    #[arg(long)]
    no_build: bool,
    /// Only build what joins the page later
    #[arg(long, hide = true)]
    only_build: bool,
}

/// Runs until Ctrl-C, or until one of the servers ends by itself.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.only_build {
        return build_the_rest(workspace);
    }
    options.check_ports()?;
    if !options.no_build {
        setup::run(workspace, Part::DEV)?;
        // Not optimized: the page waits for it, and its table is small.
        run_command(command("cargo", workspace.root()).args(["build", "--package", "limn-origin"]))?;
        // That may have taken minutes.
        options.check_ports()?;
    }
    let mut children = Children::supervised()?;
    let outcome = serve(workspace, options, &mut children);
    children.end_all();
    println!("everything has ended");
    outcome
}

/// What the page can do without for a while. The client comes first: the page looks for it when the edge worker serves.
fn build_the_rest(workspace: &Workspace) -> Result<()> {
    setup::run(workspace, Part::EDGE)?;
    client::build(workspace)?;
    edge::build(workspace)
}

impl Options {
    /// Fails where a port cannot be used. It is looked at first: a port in use would otherwise only show as a child's
    /// failure, after everything was built.
    fn check_ports(&self) -> Result<()> {
        if self.port == self.edge_port {
            bail!(
                "--port and --edge-port are both {}: the origin and the edge worker need one each",
                self.port
            );
        }
        let ports = [("origin", self.port, "--port"), ("edge worker", self.edge_port, "--edge-port")];
        let taken: Vec<String> = ports
            .into_iter()
            .filter_map(|(part, port, option)| {
                let error = TcpListener::bind(("127.0.0.1", port)).err()?;
                Some(format!(
                    "the {part} cannot listen on port {port} ({}); choose another, such as `{option} {}`",
                    reason(&error),
                    free_port().unwrap_or(port),
                ))
            })
            .collect();
        if taken.is_empty() { Ok(()) } else { bail!("{}", taken.join("\n")) }
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there".to_owned(),
        _ => error.to_string(),
    }
}

/// A port that is free now.
fn free_port() -> Option<u16> {
    Some(TcpListener::bind(("127.0.0.1", 0)).ok()?.local_addr().ok()?.port())
}

fn serve(workspace: &Workspace, options: &Options, children: &mut Children) -> Result<()> {
    let origin_url = format!("http://127.0.0.1:{}", options.port);
    let edge_url = format!("http://127.0.0.1:{}", options.edge_port);
    let mut origin = command(built_last(workspace)?, workspace.root());
    origin.args(["dev", "--port", &options.port.to_string(), "--edge-url", &edge_url]);
    origin.args(["--client-dir", client::PACKAGE]);
    if !options.quiet {
        origin.arg("--writer");
    }
    if !children.start_until_ready("origin", &mut origin)? {
        return Ok(());
    }
    println!("\n  page  {origin_url}/\n");
    if !options.no_build {
        println!("  The edge worker is being built and joins the page; Ctrl-C ends all of it\n");
        match children.run_to_end("build", &mut rest_of_the_build(workspace)?)? {
            Ending::Interrupted => return Ok(()),
            Ending::Success => {}
            Ending::Failure(status) => {
                println!("\n  the build ended with {status}: the page goes on without the edge worker\n");
                return children.follow();
            }
        }
    }
    let mut edge = edge::server(workspace, &origin_url, options.edge_port, None);
    if !children.start_until_ready("edge", &mut edge)? {
        return Ok(());
    }
    println!("\n  page  {origin_url}/\n  edge  {edge_url}/v1/shape?table=limn_demo&offset=-1");
    println!("\n  Ctrl-C ends all of it\n");
    children.follow()
}

/// The server that was built last, optimized or not.
fn built_last(workspace: &Workspace) -> Result<PathBuf> {
    let age = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    let built = [workspace.limn(), workspace.limn_unoptimized()].into_iter().filter(|path| path.is_file());
    built.max_by_key(age).context("`limn` is not built yet; leave out `--no-build`")
}

/// This program again, as a child that ends with the others: cargo and npm are below it.
fn rest_of_the_build(workspace: &Workspace) -> Result<Command> {
    let mut build = command(std::env::current_exe()?, workspace.root());
    build.env("CARGO_MANIFEST_DIR", workspace.path("xtask")).args(["demo", "--only-build"]);
    Ok(build)
}
