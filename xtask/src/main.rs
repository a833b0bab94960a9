//! `cargo x …`: the only place that knows how to run things. Every command it starts is printed first, so that
//! each of them can be repeated by hand.
#![allow(clippy::print_stdout, reason = "a command line program talks to its terminal")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

mod bench;
mod check;
mod client;
mod demo;
mod deny;
mod edge;
mod fuzz;
mod house_rules;
mod import_order;
mod imports;
mod instructions;
mod limits;
#[cfg(test)]
mod links;
mod matrix;
mod mutants;
mod oracle;
mod planted;
mod postgres;
mod process;
mod profile;
mod setup;
mod sim;
mod sizes;
mod sqlstates;
mod test;
mod tested_limits;
mod unsafe_code;
mod wasm;
#[cfg(test)]
mod workflows;
mod workspace;

use workspace::Workspace;

/// Limn's own commands. A newcomer needs two: `cargo x demo` and `cargo x test`; both make the machine ready first.
///
/// Environment: LIMN_CACHE_DIR (tools that were built; default ~/.cache/limn), WASM_TOOLCHAIN_FROM=auto|rustup|debian
/// (where the wasm32 standard library comes from; auto asks rustup first), PG_BIN_DIR (the folder that holds initdb
/// and postgres), CHROMIUM and CHROMEDRIVER (the browser used by the tests).
#[derive(Parser)]
#[command(name = "cargo x", bin_name = "cargo x", verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Live data in a page: Postgres, origin, edge worker and a small writer; Ctrl-C ends all of it
    Demo(demo::Options),
    /// Every check there is, with a summary at the end; names after it run only those steps
    Test(test::Options),
    /// The black-box suite on Postgres 14 to 18; installs the servers into the cache on first use
    Matrix(matrix::Options),
    /// The quick gate before a commit: format, clippy, house rules, unit tests
    Check,
    /// Make this machine ready: wasm32 target, npm packages, Postgres, Chromium
    Setup,
    /// Run the edge worker in the real workerd before an origin, or build it
    Edge(EdgeArgs),
    /// Build the browser client into client/pkg
    #[command(subcommand)]
    Client(ClientVerb),
    /// Print the sizes of what is downloaded: edge worker, browser client, the program `limn`
    Sizes,
    /// libFuzzer on what reads bytes from outside: pgoutput, COPY, WHERE, requests, the store's files
    Fuzz(fuzz::Options),
    /// Random schemas, shapes, writers and clients: every up-to-date against what SQL said at that commit
    Oracle(oracle::OracleOptions),
    /// The same while processes are killed, Postgres restarts, the wire is cut and the disk fails
    Chaos(oracle::ChaosOptions),
    /// Core on a virtual clock, with a model Postgres and a faulty disk: a history for each seed
    Sim(sim::Options),
    /// How long the usual work takes, beside Postgres's own tools and beside other builds of Limn
    Bench(bench::Options),
    /// Instructions of decoding, routing, encoding, judging and reading, held against the baseline of the repository
    Instructions(instructions::Options),
    /// Mutation testing of core's log, flush and routing: does a test notice each small change of the code?
    Mutants(mutants::Options),
    /// Licences, bans and sources of all dependencies, by cargo-deny (built on first use: several minutes)
    Deny,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
struct EdgeArgs {
    #[command(subcommand)]
    verb: Option<EdgeVerb>,
    #[command(flatten)]
    run: edge::Options,
}

#[derive(Subcommand)]
enum EdgeVerb {
    /// Build the worker into build/, as wrangler.toml says
    Build,
}

#[derive(Subcommand)]
enum ClientVerb {
    /// Build the ESM package into client/pkg
    Build,
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    let workspace = Workspace::locate()?;
    match verb {
        Verb::Demo(options) => demo::run(&workspace, &options),
        Verb::Test(options) => test::run(&workspace, &options),
        Verb::Matrix(options) => matrix::run(&workspace, &options),
        Verb::Check => check::run(&workspace),
        Verb::Setup => setup::run(&workspace, setup::Part::ALL),
        Verb::Edge(EdgeArgs { verb: Some(EdgeVerb::Build), .. }) => edge::build(&workspace),
        Verb::Edge(EdgeArgs { verb: None, run }) => edge::run(&workspace, &run),
        Verb::Client(ClientVerb::Build) => client::build(&workspace),
        Verb::Sizes => sizes::run(&workspace),
        Verb::Fuzz(options) => fuzz::run(&workspace, &options),
        Verb::Oracle(options) => oracle::run(&workspace, &options),
        Verb::Chaos(options) => oracle::chaos(&workspace, &options),
        Verb::Sim(options) => sim::run(&workspace, &options),
        Verb::Bench(options) => bench::run(&workspace, &options),
        Verb::Instructions(options) => instructions::run(&workspace, &options),
        Verb::Mutants(options) => mutants::run(&workspace, &options),
        Verb::Deny => deny::run(&workspace),
    }
}
