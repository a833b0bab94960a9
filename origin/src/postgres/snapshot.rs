//! One repeatable-read transaction that a shape's first rows come from.

use super::catalog::{lsn, one_row};
use super::config::PostgresConfig;
use super::error::{PostgresError, ServerError};
use super::session::Session;
use super::settings::{Scope, newer_statement, statements};
use super::sqlstate;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use limn_core::Lsn;
use limn_core::pg::{Relation, SnapshotBounds};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// How long the query may wait for a lock on the table. It is the lock of every SELECT, ACCESS SHARE, and conflicts with
/// ACCESS EXCLUSIVE only: whoever queues behind this wait would queue behind the lock's holder as well.
const LOCK_MS_MAX: u32 = 10_000;
/// How often, and how many times, it is looked whether others have flushed the WAL.
const FLUSH_POLL: Duration = Duration::from_millis(2);
const FLUSH_POLLS: u32 = 4;

/// How often a snapshot is begun again because a table was truncated or rewritten meanwhile.
const REWRITES_MAX: u32 = 5;

/// Snapshots that are taken in a row because no session was free to flush what they saw.
const SNAPSHOTS_MAX: u32 = 20;
/// Writes something that is not replicated.
const FLUSHING_COMMIT: &str = "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; \
    SELECT pg_logical_emit_message(true, 'limn', ''); COMMIT";

/// The tables, and those below them, whose file is another one than the snapshot shows: the function looks at the
/// catalog as it is now.
const REWRITTEN: &str = "
    WITH RECURSIVE tree (oid) AS (
         SELECT unnest($1::oid[])
          UNION
         SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid)
    SELECT FROM tree JOIN pg_class c USING (oid)
     WHERE c.relkind = 'r' AND pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode";

/// An open snapshot on a session of its own. Dropped unfinished, it drops the connection, so that a
/// long COPY ends at once.
pub struct Snapshot {
    /// Taken by [`finish`](Self::finish).
    session: Option<Session>,
    bounds: SnapshotBounds,
    ends_at: Lsn,
}

impl Snapshot {
    /// Takes the snapshot; queries in it read `tables`, and no others that may be truncated or rewritten.
    ///
    /// # Errors
    /// Where a statement fails.
    pub async fn begin(
        mut session: Session,
        tables: &[Arc<Relation>],
        config: &PostgresConfig,
    ) -> Result<Self, PostgresError> {
        for _ in 0..SNAPSHOTS_MAX {
            let snapshot = Self::take(session, tables).await?;
            if snapshot.is_flushed().await? {
                return Ok(snapshot);
            }
            // A commit that wrote something is flushed, with everything before it.
            match Session::try_connect(config).await {
                Ok(other) => {
                    other.batch_execute(FLUSHING_COMMIT).await?;
                    return Ok(snapshot);
                }
                Err(error) if error.code() == Some(sqlstate::TOO_MANY_CONNECTIONS) => {}
                Err(error) => return Err(error),
            }
            // No other session is to be had: this one commits, and the next snapshot is of what is flushed then.
            session = snapshot.finish().await?;
            session.batch_execute(FLUSHING_COMMIT).await?;
        }
        let message =
            format!("Postgres writes faster than it flushes, for {SNAPSHOTS_MAX} snapshots in a row");
        Err(ServerError {
            code: sqlstate::SERIALIZATION_FAILURE.to_owned(),
            message,
            ..ServerError::default()
        }
        .into())
    }

    async fn take(session: Session, tables: &[Arc<Relation>]) -> Result<Self, PostgresError> {
        // The tables are locked before the snapshot is taken: what TRUNCATE and a rewriting ALTER TABLE leave looks
        // empty to a snapshot from before them, also to one whose query waited for them (the Postgres
        // documentation, *Caveats* of *Concurrency Control*).
        let lock = |table: &Arc<Relation>| format!("; LOCK TABLE {} IN ACCESS SHARE MODE", table.name);
        let begun = session.batch_execute(&begin_sql(tables, lock)).await.map_err(PostgresError::from);
        match begun {
            Err(error) if error.code() == Some(sqlstate::INSUFFICIENT_PRIVILEGE) => {
                begin_by_queries(&session, tables).await?;
            }
            begun => begun?,
        }
        // The snapshot was taken by the last statement, at the latest by this one, whose functions run afterwards.
        let sql = "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text";
        let row = one_row(&session, sql).await?;
        let bounds = parsed(row.try_get(0)?)?;
        let ends_at = lsn(row.try_get(1)?)?;
        Ok(Self { session: Some(session), bounds, ends_at })
    }

    /// Whether everything which the snapshot saw is on Postgres's disk, or is within a moment. A crash forgets what is
    /// not, and gives its transaction ids and WAL positions to others: the rows would be of commits that never were,
    /// and later transactions would pass for ones that the snapshot holds.
    async fn is_flushed(&self) -> Result<bool, PostgresError> {
        let sql = format!("SELECT pg_current_wal_flush_lsn() >= '{}'::pg_lsn", self.ends_at);
        for _ in 0..FLUSH_POLLS {
            if one_row(self.session(), &sql).await?.try_get(0)? {
                return Ok(true);
            }
            // Mostly somebody commits within a moment.
            tokio::time::sleep(FLUSH_POLL).await;
        }
        Ok(false)
    }

    /// Which transactions it sees.
    #[must_use]
    pub const fn bounds(&self) -> &SnapshotBounds {
        &self.bounds
    }

    /// A WAL position noted after the snapshot was taken: what commits beyond it is not visible.
    #[must_use]
    pub const fn ends_at(&self) -> Lsn {
        self.ends_at
    }

    /// The session, for other queries inside the snapshot.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.session.as_ref().expect("only `finish` takes the session, and it consumes the snapshot")
    }

    /// Runs a SELECT as `COPY … TO STDOUT`; the chunks are for
    /// [`limn_core::pg::copy::CopyDecoder`].
    ///
    /// # Errors
    /// Where the statement fails to start; later failures are items of the stream.
    pub async fn copy(
        &self,
        select: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, PostgresError>> + Unpin + Send + use<>, PostgresError> {
        let chunks = self.session().copy_out(&format!("COPY ({select}) TO STDOUT")).await?;
        Ok(Box::pin(chunks.map(|chunk| chunk.map_err(PostgresError::from))))
    }

    /// Ends the transaction and gives the session back, ready for another one.
    ///
    /// # Errors
    /// Where the statement fails.
    pub async fn finish(mut self) -> Result<Session, PostgresError> {
        self.session().batch_execute("COMMIT").await?;
        Ok(self.session.take().expect("nobody else takes it"))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            session.abort();
        }
    }
}

/// The statements that begin the transaction, with one for each table.
fn begin_sql(tables: &[Arc<Relation>], statement: impl Fn(&Arc<Relation>) -> String) -> String {
    // The settings again, in case a pooler gave this transaction another server session. A plan that is kept serves
    // any values; the snapshot's own query has none.
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}; SET LOCAL lock_timeout = {LOCK_MS_MAX}; \
         SET LOCAL plan_cache_mode = force_generic_plan{}; {}",
        statements(Scope::Transaction),
        tables.iter().map(statement).collect::<String>(),
        newer_statement(Scope::Transaction),
    )
}

/// Begins where the role may read only some columns of a table, which LOCK TABLE does not take for a right: a query
/// locks the table too, but takes the snapshot before. So it is begun again where a table was truncated or rewritten
/// between the two.
async fn begin_by_queries(client: &Client, tables: &[Arc<Relation>]) -> Result<(), PostgresError> {
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    for _ in 0..REWRITES_MAX {
        let query = |table: &Arc<Relation>| format!("; SELECT FROM {} LIMIT 0", table.name);
        let begin = format!("ROLLBACK; {}", begin_sql(tables, query));
        client.batch_execute(&begin).await?;
        let rows = client.query_typed(REWRITTEN, &[(&oids, Type::OID_ARRAY)]).await?;
        if rows.is_empty() {
            return Ok(());
        }
    }
    let message = format!("the tables were rewritten {REWRITES_MAX} times while a snapshot was begun");
    Err(ServerError { code: sqlstate::SERIALIZATION_FAILURE.to_owned(), message, ..ServerError::default() }
        .into())
}

/// The transactions that a snapshot taken now would see.
///
/// # Errors
/// Where the query fails.
pub async fn current_bounds(client: &Client) -> Result<SnapshotBounds, PostgresError> {
    let row = one_row(client, "SELECT pg_current_snapshot()::text").await?;
    parsed(row.try_get(0)?)
}

fn parsed(text: &str) -> Result<SnapshotBounds, PostgresError> {
    bounds(text).ok_or_else(|| PostgresError::Protocol(format!("`{text}` is not a snapshot")))
}

/// Reads `xmin:xmax:xip,xip,…` (the Postgres documentation, *pg_snapshot*).
fn bounds(text: &str) -> Option<SnapshotBounds> {
    let mut parts = text.split(':');
    let xmin = parts.next()?.parse().ok()?;
    let xmax = parts.next()?.parse().ok()?;
    let xip = match parts.next()? {
        "" => Vec::new(),
        list => list.split(',').map(str::parse).collect::<Result<_, _>>().ok()?,
    };
    parts.next().is_none().then_some(SnapshotBounds { xmin, xmax, xip })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_read_from_their_text() {
        let expected = SnapshotBounds { xmin: 10, xmax: 20, xip: vec![10, 14] };
        assert_eq!(bounds("10:20:10,14"), Some(expected));
        assert_eq!(bounds("10:10:"), Some(SnapshotBounds { xmin: 10, xmax: 10, xip: vec![] }));
        for text in ["", "10", "10:20", "a:b:", "10:20:x", "10:20:,", "1:2:3:4"] {
            assert_eq!(bounds(text), None, "{text}");
        }
    }
}
