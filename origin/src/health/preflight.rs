//! Checks before serving: each failure is one sentence that says what to run.

use crate::postgres::catalog::one_row;
use crate::postgres::{PostgresConfig, PostgresError, ReplicationConnection, Session, sqlstate};
use limn_core::pg::relation::quote_identifier;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// The oldest version that the stream's and the catalog's queries are written for.
const SERVER_VERSION_MIN: u32 = 140_000;

/// What poolers call themselves in their errors.
const POOLERS: [&str; 7] =
    ["pgbouncer", "odyssey", "supavisor", "pgcat", "rds proxy", "pooler", "tenant or user not found"];
/// The ports that poolers listen on by default: PgBouncer's and Odyssey's, Supavisor's.
const POOLER_PORTS: [u16; 2] = [6432, 6543];
/// Parts of hosts' names at services that offer one: Neon, Supabase, DigitalOcean.
const POOLER_HOSTS: [&str; 2] = ["-pooler.", ".pooler."];

/// What the server is, once it is known to be usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerVersion {
    /// `server_version_num`, such as 150018.
    pub version_num: u32,
}

/// Why Postgres cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Older than we support.
    #[error("Postgres {major} is too old: upgrade it to 14 or newer")]
    TooOld {
        /// The major version.
        major: u32,
    },
    /// `wal_level` is not `logical`.
    #[error(
        "Postgres's `wal_level` is `{0}`: run `ALTER SYSTEM SET wal_level = 'logical';` and restart Postgres. On Amazon RDS set `rds.logical_replication = 1` in the parameter group, and reboot"
    )]
    WalLevel(String),
    /// A standby cannot have our publication and slot.
    #[error("this Postgres is a read-only standby: use the URL of its primary")]
    Standby,
    /// The role may not replicate.
    #[error(
        "the role `{role}` may not replicate: run `ALTER ROLE {name} WITH REPLICATION;`, or on Amazon RDS `GRANT rds_replication TO {name};`",
        name = quote_identifier(role)
    )]
    NoReplication {
        /// The role.
        role: String,
    },
    /// The role may not create the publication.
    #[error(
        "the role `{role}` may not create the publication: run `GRANT CREATE ON DATABASE {} TO {};`",
        quote_identifier(database),
        quote_identifier(role)
    )]
    NoCreate {
        /// The role.
        role: String,
        /// The database.
        database: String,
    },
    /// User or password is wrong.
    #[error("Postgres refused the login as `{role}`: check user and password in DATABASE_URL ({reason})")]
    Login {
        /// The role.
        role: String,
        /// What Postgres said.
        reason: String,
    },
    /// The database does not exist.
    #[error(
        "the database `{database}` does not exist: check DATABASE_URL, or run `CREATE DATABASE {};`",
        quote_identifier(database)
    )]
    NoDatabase {
        /// The database.
        database: String,
    },
    /// A pooler answers, which carries no replication.
    #[error(
        "this looks like a pooler ({reason}), and poolers carry no replication: DATABASE_URL (`--database-url`) must \
         reach Postgres itself; give the pooler's URL as LIMN_POOLED_DATABASE_URL (`--pooled-database-url`), and \
         queries go through it"
    )]
    Pooler {
        /// By what it is known.
        reason: String,
    },
    /// Anything else; see [`PostgresError::is_transient`].
    #[error("{0}; check DATABASE_URL and that Postgres is running")]
    Connection(PostgresError),
}

impl PreflightError {
    /// True where waiting may help: nobody has to change anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connection(error) if error.is_transient())
    }

    /// Says what to do about a failed connection.
    #[must_use]
    pub fn of_connection(error: PostgresError, config: &PostgresConfig) -> Self {
        let role = config.user.clone();
        if let Some(reason) = pooler(&error, config) {
            return Self::Pooler { reason };
        }
        match error.code() {
            Some(sqlstate::INSUFFICIENT_PRIVILEGE) => Self::NoReplication { role },
            Some(sqlstate::INVALID_CATALOG_NAME) => Self::NoDatabase { database: config.database.clone() },
            Some(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION | sqlstate::INVALID_PASSWORD) => {
                Self::Login { role, reason: error.to_string() }
            }
            _ if matches!(error, PostgresError::Login(_)) => Self::Login { role, reason: error.to_string() },
            _ => Self::Connection(error),
        }
    }
}

/// A server that is usable, and the connections that have shown it.
pub struct Checked {
    /// What it is.
    pub server: ServerVersion,
    /// For queries.
    pub session: Session,
    /// For the stream.
    pub replication: ReplicationConnection,
}

/// Connects both ways and checks that everything is there that serving needs.
///
/// # Errors
/// The first thing that is missing.
pub async fn check(
    config: &PostgresConfig,
    publication: &str,
    manual: bool,
) -> Result<Checked, PreflightError> {
    let connection = |error| PreflightError::of_connection(error, config);
    // Some hosts grant replication by membership in a role of theirs, so only trying tells.
    let replicate = async {
        let mut replication = ReplicationConnection::connect(config).await?;
        replication.identify_system().await.map(|_| replication)
    };
    let (session, replication) = tokio::join!(Session::connect(config), replicate);
    let session = session.map_err(connection)?;
    let server = check_server(&session).await?;
    if !manual {
        check_create(&session, config, publication).await?;
    }
    let replication = replication.map_err(connection)?;
    Ok(Checked { server, session, replication })
}

/// By what an answer shows that it is a pooler's: Postgres itself knows the parameters and commands of replication.
fn pooler(error: &PostgresError, config: &PostgresConfig) -> Option<String> {
    let PostgresError::Server(error) = error else { return None };
    let (code, message) = (error.code.as_str(), error.message.to_lowercase());
    let named = POOLERS.iter().find(|name| message.contains(*name));
    // A start-up parameter that it does not know; IDENTIFY_SYSTEM on a session that is no walsender.
    let is_answer = named.is_some() || matches!(code, sqlstate::PROTOCOL_VIOLATION | sqlstate::SYNTAX_ERROR);
    let host = config.host.to_string();
    let looks_like_one =
        POOLER_PORTS.contains(&config.port) || POOLER_HOSTS.iter().any(|part| host.contains(part));
    // A wrong password or a missing right is one behind a pooler too.
    let may_be_postgres = code.starts_with(sqlstate::class::INVALID_AUTHORIZATION)
        || code.starts_with(sqlstate::class::INSUFFICIENT_RESOURCES)
        || matches!(code, sqlstate::INSUFFICIENT_PRIVILEGE | sqlstate::INVALID_CATALOG_NAME);
    (is_answer || looks_like_one && !may_be_postgres).then(|| format!("it says `{}`", error.message))
}

async fn check_server(client: &Client) -> Result<ServerVersion, PreflightError> {
    let sql = "SELECT current_setting('server_version_num'), current_setting('wal_level'),
                      pg_is_in_recovery()";
    let row = one_row(client, sql).await.map_err(PreflightError::Connection)?;
    let field = |index| row.try_get::<_, &str>(index).map_err(failed);
    let version_num: u32 = field(0)?.parse().unwrap_or(0);
    if version_num < SERVER_VERSION_MIN {
        return Err(PreflightError::TooOld { major: version_num / 10_000 });
    }
    if row.try_get(2).map_err(failed)? {
        return Err(PreflightError::Standby);
    }
    match field(1)? {
        "logical" => Ok(ServerVersion { version_num }),
        other => Err(PreflightError::WalLevel(other.to_owned())),
    }
}

/// A publication that exists needs no right to create it.
async fn check_create(
    client: &Client,
    config: &PostgresConfig,
    publication: &str,
) -> Result<(), PreflightError> {
    let sql = "SELECT has_database_privilege(current_database(), 'CREATE')
                      OR EXISTS (SELECT FROM pg_publication WHERE pubname = $1)";
    let rows = client.query_typed(sql, &[(&publication, Type::TEXT)]).await.map_err(failed)?;
    match rows.first().map(|row| row.try_get(0)).transpose().map_err(failed)? {
        Some(true) => Ok(()),
        _ => Err(PreflightError::NoCreate { role: config.user.clone(), database: config.database.clone() }),
    }
}

fn failed(error: tokio_postgres::Error) -> PreflightError {
    PreflightError::Connection(error.into())
}
