//! `cargo x demo`: a private Postgres with the origin, the edge worker before it, a page, and a writer.

use std::io;
use std::net::TcpListener;

use anyhow::{Result, bail};
use clap::Args;

use crate::client;
use crate::edge;
use crate::process::{Children, command, run as run_command};
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
}

/// Runs until Ctrl-C, or until one of the parts ends by itself.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    options.check_ports()?;
    if !options.no_build {
        setup::run(workspace, Part::DEMO)?;
        build(workspace)?;
        // That may have taken minutes.
        options.check_ports()?;
    }
    let mut children = Children::supervised()?;
    let outcome = serve(workspace, options, &mut children);
    children.end_all();
    println!("everything has ended");
    outcome
}

fn build(workspace: &Workspace) -> Result<()> {
    run_command(command("cargo", workspace.root()).args(["build", "--release", "--package", "limn-origin"]))?;
    edge::build(workspace)?;
    client::build(workspace)
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
    let mut origin = command(workspace.limn(), workspace.root());
    origin.args(["dev", "--port", &options.port.to_string(), "--edge-url", &edge_url]);
    origin.args(["--client-dir", client::PACKAGE]);
    if !options.quiet {
        origin.arg("--writer");
    }
    let mut edge = edge::server(workspace, &origin_url, options.edge_port, None);
    if !children.start_until_ready("origin", &mut origin)?
        || !children.start_until_ready("edge", &mut edge)?
    {
        return Ok(());
    }
    println!("\n  page  {origin_url}/\n  edge  {edge_url}/v1/shape?table=limn_demo&offset=-1");
    println!("\n  Ctrl-C ends all of it\n");
    children.follow()
}
