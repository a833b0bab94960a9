//! `limn dev`: everything on one machine, with nothing to set up.
//!
//! Uses the given database, or starts a private Postgres from the binaries it finds. Serves the API and a
//! page that shows a demo table live. What it started is gone when it ends.

mod page;
mod private_postgres;
mod table;

use crate::config::ServeOptions;
use crate::postgres::{PostgresConfig, Session};
use crate::serve::{self, Beside};
use crate::stopping::Interrupts;
use crate::store::Scratch;
use anyhow::{Context, Result};
use clap::Args;
use page::Page;
use private_postgres::PrivatePostgres;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long the server may take to follow Postgres.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Options of `limn dev`.
#[derive(Debug, Clone, Args)]
pub struct DevOptions {
    /// Postgres to use; without it a private one is started and removed again at the end
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,

    /// Port of the API and of the page
    #[arg(long, short, default_value_t = 3000)]
    pub port: u16,

    /// Port of the metrics; 0 takes any free one
    #[arg(long, default_value_t = 0)]
    pub metrics_port: u16,

    /// Edge worker through which the page reads, such as `http://127.0.0.1:8787`
    #[arg(long, value_name = "URL")]
    pub edge_url: Option<String>,

    /// Folder of the built browser client, for the page
    #[arg(long, default_value = "client/pkg", value_name = "DIR")]
    pub client_dir: PathBuf,

    /// Change the demo table every second
    #[arg(long)]
    pub writer: bool,
}

/// Runs until Ctrl-C.
///
/// # Errors
/// One sentence that says what to do.
pub async fn run(options: DevOptions) -> Result<()> {
    // Before a Postgres is made that would only have to go again.
    for (port, option) in [(options.port, "--port"), (options.metrics_port, "--metrics-port")] {
        drop(serve::listen((Ipv4Addr::LOCALHOST, port).into(), option).await?);
    }
    let scratch = Scratch::new("dev")?;
    let postgres = match &options.database_url {
        Some(_) => None,
        None => Some(PrivatePostgres::start(scratch.path()).await?),
    };
    let url = match (&options.database_url, &postgres) {
        (Some(url), _) => url.clone(),
        (None, postgres) => postgres.as_ref().map(PrivatePostgres::url).unwrap_or_default(),
    };
    let outcome = serve_page(&options, &url, scratch.path()).await;
    if let Some(postgres) = postgres {
        postgres.stop().await;
    }
    outcome
}

async fn serve_page(options: &DevOptions, url: &str, scratch: &Path) -> Result<()> {
    let config = PostgresConfig::parse(url, None, false).context("invalid DATABASE_URL")?;
    let session = Session::connect(&config).await.context("cannot reach the database")?;
    table::create(&session).await?;
    let session = Arc::new(session);
    let own = session.clone();
    let running = serve::start(serve_options(options, url, scratch).check()?).await?;
    let address = running.address()?;
    let status = running.server().status.clone();
    let page = Page::new(options, session.clone());
    let writer = options.writer.then(|| tokio::spawn(table::write_for_ever(session)));
    let announce = async {
        if status.wait_active(START_TIMEOUT).await {
            announce(options, &format!("http://{address}"));
        }
        std::future::pending::<()>().await;
    };
    let beside: Beside = Arc::new(move |request| {
        let page = page.clone();
        Box::pin(async move { page.answer(request).await })
    });
    let interrupts = Interrupts::listen()?;
    let run = running.run(Some(beside), &interrupts);
    let outcome = tokio::select! {
        outcome = run => outcome,
        () = announce => Ok(()),
    };
    if let Some(writer) = writer {
        writer.abort();
    }
    let drop_own = format!("DROP PUBLICATION IF EXISTS electric_publication_{}", stream_id());
    if let Err(error) = own.batch_execute(&drop_own).await {
        tracing::warn!(%error, "cannot drop the publication that was made for this run");
    }
    outcome
}

fn serve_options(options: &DevOptions, url: &str, scratch: &Path) -> ServeOptions {
    ServeOptions {
        database_url: Some(url.to_owned()),
        port: options.port,
        metrics_port: Some(options.metrics_port),
        storage_dir: scratch.join("storage"),
        // Nothing of a real server's is touched, and nothing stays behind.
        replication_stream_id: stream_id(),
        temporary_slot: true,
        shutdown_grace: Duration::ZERO,
        ..ServeOptions::for_dev()
    }
}

fn stream_id() -> String {
    format!("limn_dev_{}", std::process::id())
}

fn announce(options: &DevOptions, url: &str) {
    let shape = format!("/v1/shape?table={}", table::NAME);
    let through = options.edge_url.as_deref().map_or_else(String::new, |edge| format!(" (through {edge})"));
    let lines = [
        format!("page   {url}/{through}"),
        format!("rows   curl '{url}{shape}&offset=-1'"),
        format!(
            "next   curl '{url}{shape}&offset=OFFSET&handle=HANDLE'        (from the headers before: curl -i)"
        ),
        format!("live   curl '{url}{shape}&offset=OFFSET&handle=HANDLE&live=true'"),
        format!("ready: {url}"),
    ];
    // The one thing that is for the person at the terminal, and for scripts that wait for it.
    #[allow(clippy::print_stdout)]
    for line in lines {
        println!("{line}");
    }
}
