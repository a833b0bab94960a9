//! Transactions that hold locks on a table, as `pg_locks` shows them; prepared ones too.

use super::error::PostgresError;
use limn_core::pg::relation::quote_literal;
use std::fmt::{self, Display, Formatter};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// How many transactions a text names.
const SHOWN: usize = 5;

/// Which transactions are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Those that may have written rows. Every INSERT, UPDATE, DELETE, MERGE and COPY takes ROW EXCLUSIVE, beside any
    /// stronger lock that its transaction holds already, and keeps it to the transaction's end. TRUNCATE does not, but
    /// takes ACCESS EXCLUSIVE, behind which a shape's snapshot waits anyway.
    ForWriting,
    /// Those that hold any lock, all of which keep a replica identity from being altered.
    Any,
}

/// A transaction that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its transaction id, which it keeps when it is prepared, and when Postgres starts again. The lowest of those that
    /// the locks show: subtransactions have higher ones. Where it has written nothing yet, its virtual id.
    pub transaction: String,
    /// A session, or a prepared transaction.
    pub kind: HolderKind,
    /// When the transaction began, or was prepared; `None` where the role may not see it.
    pub since: Option<String>,
}

/// What a [`Holder`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HolderKind {
    /// A session.
    Session {
        /// Its process.
        pid: i32,
        /// Application, role and state, as far as they are shown.
        details: Vec<String>,
    },
    /// A prepared transaction, by its gid.
    Prepared(String),
}

/// Who holds locks on the table or on any table below it, other than the client's own session.
///
/// # Errors
/// Where the query fails.
pub async fn lock_holders(client: &Client, table: u32, held: Held) -> Result<Vec<Holder>, PostgresError> {
    let sql = "
        WITH RECURSIVE tree (oid) AS (
             SELECT $1::oid
              UNION
             SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid)
        SELECT DISTINCT coalesce(t.xid::text, l.virtualtransaction), l.pid, x.gid,
               array_remove(ARRAY['application `' || nullif(a.application_name, '') || '`',
                                  'role `' || a.usename || '`', a.state], NULL),
               date_trunc('second', coalesce(x.prepared, a.xact_start))::text
          FROM pg_locks l
          LEFT JOIN (SELECT virtualtransaction, min(transactionid::text::bigint) AS xid
                       FROM pg_locks WHERE locktype = 'transactionid' AND granted GROUP BY 1) t
                 ON t.virtualtransaction = l.virtualtransaction
          LEFT JOIN pg_stat_activity a ON a.pid = l.pid
          LEFT JOIN pg_prepared_xacts x ON l.pid IS NULL AND x.transaction::text::bigint = t.xid
         WHERE l.locktype = 'relation' AND l.granted AND l.relation IN (SELECT oid FROM tree)
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND l.pid IS DISTINCT FROM pg_backend_pid() AND (l.mode = 'RowExclusiveLock' OR $2)
         ORDER BY 5, 1";
    let any = held == Held::Any;
    let rows = client.query_typed(sql, &[(&table, Type::OID), (&any, Type::BOOL)]).await?;
    let holder = |row: &tokio_postgres::Row| {
        let (transaction, pid): (String, Option<i32>) = (row.try_get(0)?, row.try_get(1)?);
        let kind = match pid {
            Some(pid) => HolderKind::Session { pid, details: row.try_get(3)? },
            // The views are read one after the other: one that has just ended has no gid any more.
            None => HolderKind::Prepared(row.try_get::<_, Option<String>>(2)?.unwrap_or_default()),
        };
        Ok(Holder { transaction, kind, since: row.try_get(4)? })
    };
    rows.iter().map(holder).collect()
}

/// Whether somebody keeps the table from being read, or waits for a lock behind which readers would queue.
///
/// # Errors
/// Where the query fails.
pub async fn is_locked(client: &Client, table: u32) -> Result<bool, PostgresError> {
    let sql = "
        SELECT FROM pg_locks
         WHERE locktype = 'relation' AND relation = $1 AND mode = 'AccessExclusiveLock'
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    Ok(!client.query_typed(sql, &[(&table, Type::OID)]).await?.is_empty())
}

impl Holder {
    /// The SQL that ends it.
    fn end(&self) -> String {
        match &self.kind {
            HolderKind::Session { pid, .. } => terminate(*pid),
            HolderKind::Prepared(gid) => roll_back_prepared(gid),
        }
    }
}

impl Display for Holder {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            HolderKind::Session { pid, details } if details.is_empty() => write!(f, "process {pid}")?,
            HolderKind::Session { pid, details } => write!(f, "process {pid} ({})", details.join(", "))?,
            HolderKind::Prepared(gid) => write!(f, "prepared transaction `{gid}`")?,
        }
        match &self.since {
            Some(since) => write!(f, " since {since}"),
            None => Ok(()),
        }
    }
}

/// Holders in one text, with the SQL that ends them; empty where there are none.
#[must_use]
pub fn describe(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return String::new();
    }
    let shown = &holders[..holders.len().min(SHOWN)];
    let names: Vec<String> = shown.iter().map(Holder::to_string).collect();
    let ends: Vec<String> = shown.iter().map(Holder::end).collect();
    let more = match holders.len() - shown.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!(": {}{more}. Ask again when they have ended, or end them: `{}`", names.join("; "), ends.join(" "))
}

/// The SQL that ends a session, and so its transaction.
pub(super) fn terminate(pid: i32) -> String {
    format!("SELECT pg_terminate_backend({pid});")
}

/// The SQL that ends a prepared transaction.
pub(super) fn roll_back_prepared(gid: &str) -> String {
    format!("ROLLBACK PREPARED {};", quote_literal(gid))
}
