//! The `limn` command: what it is told, and which part of the program does it.

use crate::config::{ServeOptions, value_of, with_electric_names, without_effect};
use crate::dev::{self, DevOptions};
use crate::health::client::{self, HealthOptions};
use crate::health::doctor::{self, CheckOptions};
use crate::observe::telemetry::Exporter;
use crate::serve;
use crate::stopping::Interrupts;
use crate::token::{self, TokenOptions};
use crate::typescript::{self, TypesOptions};
use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::io::{IsTerminal, Write};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::num::NonZero;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Every so many tasks a thread takes one from the queue that all threads share. Once more connections have something to
/// do than a thread's own queue holds, the rest are there: by tokio's choice they wait until the others have been served
/// dozens of times.
const SHARED_QUEUE_INTERVAL: u32 = 2;

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
    /// Say what keeps `limn serve` from working, and what to run to mend it
    Check(Box<CheckOptions>),
    /// Ask a running server for its health; fails unless it answers well
    Health(HealthOptions),
    /// Try everything on this machine: a private Postgres, a demo table, a page
    Dev(DevOptions),
    /// Write TypeScript types for tables
    Types(TypesOptions),
    /// Make a token that lets its bearer read a shape through the edge worker
    Token(TokenOptions),
}

/// Does what the command line says.
#[must_use]
pub fn run() -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let command = Cli::command().mut_subcommand("serve", |serve| with_electric_names(serve, variable));
    let command = command.mut_subcommand("check", |check| with_electric_names(check, variable));
    let command = command.mut_subcommand("health", |health| with_electric_names(health, variable));
    let cli = match Cli::from_arg_matches(&command.get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if matches!(cli.command, Commands::Serve(_)) {
        share_heap();
    }
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            tracing::debug!(?error, "ending");
            // One sentence for the person who started us: the chain of causes, no backtrace.
            eprintln!("limn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// So many processors may share a heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const SHARING_PROCESSORS: usize = 4;

/// glibc gives threads heaps of their own, and in each of them stays what a start or a large transaction has needed. How
/// many there are it reads where a program begins: so this one begins again, unless somebody has chosen, or there are so
/// many processors that their threads would wait for each other. Where that is not possible, it costs memory only.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn share_heap() {
    const HEAPS: &str = "MALLOC_ARENA_MAX";
    let is_chosen = [HEAPS, "GLIBC_TUNABLES"].iter().any(|name| std::env::var_os(name).is_some());
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    if is_chosen || processors > SHARING_PROCESSORS {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let (mut again, mut arguments) = (std::process::Command::new(program), std::env::args_os());
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    let _cannot_begin_again = again.args(arguments).env(HEAPS, "1").exec();
}

fn start(cli: Cli) -> Result<ExitCode> {
    let endpoint = match &cli.command {
        Commands::Serve(options) => options.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()),
        _ => None,
    };
    let exporter = endpoint.map(Exporter::start).transpose()?;
    log(exporter.as_ref());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .global_queue_interval(SHARED_QUEUE_INTERVAL)
        .build()?;
    let outcome = runtime.block_on(carry_out(cli));
    // What had to end has ended. A second interrupt does not wait for the rest, such as a disk that hangs.
    runtime.shutdown_background();
    outcome
}

async fn carry_out(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Commands::Serve(options) => {
            tell_variables_without_effect();
            let running = serve::start(options.check()?).await?;
            tracing::info!(address = %running.address()?, "serving shapes");
            running.run(None, &Interrupts::listen()?).await?;
        }
        Commands::Check(options) => return check(*options).await,
        Commands::Health(options) => {
            let health = client::ask(&options).await?;
            std::io::stdout().write_all((health + "\n").as_bytes())?;
        }
        Commands::Dev(options) => dev::run(options).await?,
        Commands::Types(options) => {
            let text = typescript::declare(&options).await?;
            std::io::stdout().write_all(text.as_bytes())?;
        }
        Commands::Token(options) => {
            let token = token::make(&options)?;
            std::io::stdout().write_all((token + "\n").as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn check(options: CheckOptions) -> Result<ExitCode> {
    let as_json = options.json;
    let report = doctor::check(options).await?;
    let text = if as_json { report.to_json() + "\n" } else { report.to_string() };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What has a name of Electric's and does nothing here is said once.
fn tell_variables_without_effect() {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for (name, reason) in without_effect(names) {
        tracing::warn!("{name} has no effect here: {reason}");
    }
}

fn log(exporter: Option<&Exporter>) {
    let variable = |ours: &str| {
        let theirs = || value_of(ours, |name| std::env::var(name).ok());
        std::env::var(ours).ok().filter(|value| !value.is_empty()).or_else(theirs)
    };
    let level = variable("LIMN_LOG_LEVEL").unwrap_or_else(|| "info".to_owned());
    let filter = level_name(&level).parse::<Targets>();
    let wants_colors = variable("LIMN_LOG_COLORS").is_none_or(|wanted| wanted != "false");
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(wants_colors && std::io::stderr().is_terminal())
        .with_filter(filter.unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO)));
    tracing_subscriber::registry().with(lines).with(exporter.map(Exporter::layer)).init();
}

/// Electric has more levels than there are here.
fn level_name(level: &str) -> &str {
    match level {
        "emergency" | "alert" | "critical" => "error",
        "warning" => "warn",
        "notice" => "info",
        other => other,
    }
}
