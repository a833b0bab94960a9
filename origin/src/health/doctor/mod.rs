//! `limn check`: what keeps `limn serve` from working or from telling the truth, and what mends it.
//!
//! It takes the options of `limn serve`, changes nothing, and does not mind a server that runs.

mod diagnosis;
mod report;
mod server;
mod source;
mod storage;

pub use report::{Finding, Level, Report};

use crate::config::{ServeConfig, ServeOptions};
use crate::health::preflight::PreflightError;
use crate::postgres::replication::SystemIdentity;
use crate::postgres::{PostgresError, ReplicationConnection, Session, obstacle, slot_wait};
use anyhow::Result;
use clap::Args;
use diagnosis::ServerFacts;
use source::Source;

/// How long one question to Postgres may take: a locked table must not hold the answer up.
const STATEMENT_MS_MAX: u32 = 10_000;

/// Options of `limn check`.
#[derive(Debug, Clone, Args)]
pub struct CheckOptions {
    /// The options of the server that is to be checked.
    #[command(flatten)]
    pub serve: ServeOptions,

    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Looks at everything.
///
/// # Errors
/// Where the options make no sense; what is wrong with Postgres or the disk is in the report.
pub async fn check(options: CheckOptions) -> Result<Report> {
    let mut report = Report::default();
    let mut serve = options.serve;
    if serve.secret.as_ref().is_none_or(String::is_empty) && !serve.insecure {
        report.warning(
            "secret",
            "neither `--secret` nor `--insecure` is given: `limn serve` needs one of them",
            None,
        );
        serve.insecure = true;
    }
    let config = serve.check()?;
    let identity = replicate(&mut report, &config).await;
    let shapes = storage::judge(&mut report, &config.storage_dir, identity.as_ref(), &config.slot);
    if let Some(session) = connect(&mut report, &config).await
        && let Err(error) = ask(&mut report, &config, &session, &shapes).await
    {
        report.error("postgres", format!("cannot ask Postgres: {error}"), None);
    }
    Ok(report)
}

/// Some hosts grant replication by membership in a role of theirs, so only trying tells.
async fn replicate(report: &mut Report, config: &ServeConfig) -> Option<SystemIdentity> {
    let attempt = async {
        let mut connection = ReplicationConnection::connect(&config.replication).await?;
        connection.identify_system().await
    };
    match attempt.await {
        Ok(identity) => {
            report.ok("replication", format!("the role `{}` may replicate", config.replication.user));
            Some(identity)
        }
        Err(error) => {
            let error = PreflightError::of_connection(error, &config.replication);
            server::judge_failure(report, "replication", &error);
            None
        }
    }
}

async fn connect(report: &mut Report, config: &ServeConfig) -> Option<Session> {
    // Queries may go elsewhere than the stream.
    let connected = match Session::connect(&config.queries).await {
        Ok(_) => Session::connect(&config.replication).await,
        Err(error) => Err(error),
    };
    match connected {
        Ok(session) => {
            let database = &config.replication.database;
            report.ok("connection", format!("database `{database}` as `{}`", config.replication.user));
            Some(session)
        }
        Err(error) => {
            let error = PreflightError::of_connection(error, &config.replication);
            server::judge_failure(report, "connection", &error);
            None
        }
    }
}

async fn ask(
    report: &mut Report,
    config: &ServeConfig,
    session: &Session,
    shapes: &[(u32, String)],
) -> Result<(), PostgresError> {
    session.batch_execute(&format!("SET statement_timeout = {STATEMENT_MS_MAX}")).await?;
    let publication_name = config.publication.name();
    let facts: ServerFacts = diagnosis::server(session).await?;
    let publication = diagnosis::publication(session, publication_name).await?;
    let slot = diagnosis::slot(session, &config.slot).await?;
    let holder = diagnosis::lock_holder(session, &config.slot).await?;
    let role = server::Role {
        name: &config.replication.user,
        database: &config.replication.database,
        creates_publication: publication.is_none() && !config.manual,
        has_slot: slot.is_some(),
        has_sender: slot.as_ref().is_some_and(|slot| slot.active),
    };
    server::judge(report, &facts, &role);
    let source = Source {
        publication: publication_name,
        slot: &config.slot,
        role: &config.replication.user,
        manual: config.manual,
        shapes,
    };
    source::judge_publication(report, &source, &facts, publication.as_ref());
    source::judge_slot(report, &source, slot.as_ref(), holder);
    let writers = match slot.as_ref().map(|slot| slot.reader) {
        None => slot_wait::standing(session).await?,
        Some(Some(pid)) => slot_wait::awaited_by(session, pid).await?,
        Some(None) => Vec::new(),
    };
    source::judge_writers(report, &source, &writers);
    let oids: Vec<u32> = shapes.iter().map(|(oid, _)| *oid).collect();
    let tables = diagnosis::tables(session, publication_name, &oids).await?;
    let without_wal = obstacle::below_tables(session, source.publication, &oids).await?;
    source::judge_tables(report, &source, &tables, &without_wal);
    Ok(())
}
