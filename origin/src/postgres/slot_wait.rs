//! Whom the creation of a replication slot waits for: every transaction that has written when it begins, one after
//! the other, those of other databases and prepared ones too.

use super::error::PostgresError;
use super::lock_holders::{roll_back_prepared, terminate};
use std::fmt;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

/// A transaction that has written and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writer {
    /// That of a session.
    Session {
        /// Postgres's process.
        pid: i32,
        /// `application_name`, the role and the database, as far as they are known.
        who: String,
        /// Since when, where the role may see it.
        since: Option<String>,
    },
    /// A prepared one, which no session holds.
    Prepared {
        /// Its name.
        gid: String,
        /// Its database.
        database: String,
        /// Since when.
        since: String,
    },
}

impl Writer {
    /// What ends it, as SQL.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Session { pid, .. } => terminate(*pid),
            Self::Prepared { gid, .. } => roll_back_prepared(gid),
        }
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session { pid, who, since } => {
                write!(f, "the transaction of process {pid} ({who})")?;
                since.as_ref().map_or(Ok(()), |since| write!(f, ", open since {since}"))
            }
            Self::Prepared { gid, database, since } => {
                write!(f, "the prepared transaction `{gid}` of database `{database}`, since {since}")
            }
        }
    }
}

/// The views show locks and prepared transactions to every role; since when a session's transaction is open only to
/// some (`pg_read_all_stats`).
const WRITERS: &str = "
    SELECT DISTINCT a.pid, concat_ws(', ', 'application `' || nullif(a.application_name, '') || '`',
                      'role `' || a.usename || '`', 'database `' || a.datname || '`'),
           coalesce(a.xact_start, p.prepared)::timestamptz(0)::text AS since, p.gid, p.database::text
      FROM pg_locks l
      LEFT JOIN pg_stat_activity a ON a.pid = l.pid
      LEFT JOIN pg_prepared_xacts p ON p.transaction = l.transactionid
     WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock'
       AND l.pid IS DISTINCT FROM pg_backend_pid()";

/// Transactions that a process of Postgres waits for.
///
/// # Errors
/// Where the query fails.
pub async fn awaited_by(client: &Client, pid: i32) -> Result<Vec<Writer>, PostgresError> {
    let sql = format!(
        "{WRITERS} AND l.transactionid IN (
             SELECT transactionid FROM pg_locks WHERE pid = $1 AND NOT granted AND locktype = 'transactionid')
         ORDER BY since NULLS LAST"
    );
    writers(&client.query_typed(&sql, &[(&pid, Type::INT4)]).await?)
}

/// Transactions that the creation of a slot would wait for now; those that have just begun are not worth a word.
///
/// # Errors
/// Where the query fails.
pub async fn standing(client: &Client) -> Result<Vec<Writer>, PostgresError> {
    let sql = format!(
        "{WRITERS} AND coalesce(a.xact_start, p.prepared, '-infinity') < clock_timestamp() - interval '1 second'
         ORDER BY since NULLS LAST"
    );
    writers(&client.query_typed(&sql, &[]).await?)
}

fn writers(rows: &[Row]) -> Result<Vec<Writer>, PostgresError> {
    let writer = |row: &Row| {
        let (pid, gid): (Option<i32>, Option<String>) = (row.try_get(0)?, row.try_get(3)?);
        let since: Option<String> = row.try_get(2)?;
        Ok(match (pid, gid) {
            (Some(pid), _) => Some(Writer::Session { pid, who: row.try_get(1)?, since }),
            (None, Some(gid)) => {
                Some(Writer::Prepared { gid, database: row.try_get(4)?, since: since.unwrap_or_default() })
            }
            // It has ended between two of the views.
            (None, None) => None,
        })
    };
    rows.iter().filter_map(|row| writer(row).transpose()).collect()
}
