//! The `limn` command.

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use limn_origin::config::{ServeOptions, with_electric_names};
use limn_origin::dev::{self, DevOptions};
use limn_origin::serve;
use limn_origin::typescript::{self, TypesOptions};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Keep filtered subsets of a Postgres database in sync with apps, over plain HTTP.
///
/// Start with `limn dev`: it needs no arguments and shows live data in a page.
#[derive(Debug, Parser)]
#[command(name = "limn", version)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// Serve the shapes of a Postgres database
    Serve(Box<ServeOptions>),
    /// Try everything on this machine: a private Postgres, a demo table, a page
    Dev(DevOptions),
    /// Write TypeScript types for tables
    Types(TypesOptions),
}

fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let command = Cli::command().mut_subcommand("serve", |serve| with_electric_names(serve, variable));
    let cli = match Cli::from_arg_matches(&command.get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    log();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(cli)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::debug!(?error, "ending");
            // One sentence for the person who started us: the chain of causes, no backtrace.
            eprintln!("limn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Commands::Serve(options) => {
            let running = serve::start(options.check()?).await?;
            tracing::info!(address = %running.address()?, "serving shapes");
            running.run(|request| async { Err(request) }, serve::interrupted()).await
        }
        Commands::Dev(options) => dev::run(options).await,
        Commands::Types(options) => {
            let text = typescript::declare(&options).await?;
            Ok(std::io::stdout().write_all(text.as_bytes())?)
        }
    }
}

fn log() {
    let level = ["LIMN_LOG_LEVEL", "ELECTRIC_LOG_LEVEL"].iter().find_map(|name| std::env::var(name).ok());
    let filter = EnvFilter::try_new(level.as_deref().unwrap_or("info"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new("info")))
        .init();
}
