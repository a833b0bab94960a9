//! One repeatable-read transaction that a shape's first rows come from.

use super::catalog::{lsn, one_row};
use super::config::PostgresConfig;
use super::error::PostgresError;
use super::session::Session;
use super::settings::{Scope, newer_statement, statements};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use limn_core::Lsn;
use limn_core::log::SnapshotBounds;
use limn_core::pg::Relation;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;

/// How long the query may wait for a lock on the table.
const LOCK_MS_MAX: u32 = 10_000;
/// How often, and how many times, it is looked whether others have flushed the WAL.
const FLUSH_POLL: Duration = Duration::from_millis(2);
const FLUSH_POLLS: u32 = 4;

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
        session: Session,
        tables: &[Arc<Relation>],
        config: &PostgresConfig,
    ) -> Result<Self, PostgresError> {
        // The settings again, in case a pooler gave this transaction another server session.
        // The tables are locked before the snapshot is taken: what TRUNCATE and a rewriting ALTER TABLE leave looks
        // empty to a snapshot from before them, also to one whose query waited for them (the Postgres
        // documentation, *Caveats* of *Concurrency Control*).
        let lock = |table: &Arc<Relation>| format!("; LOCK TABLE {} IN ACCESS SHARE MODE", table.name);
        let locks: String = tables.iter().map(lock).collect();
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}; \
             SET LOCAL lock_timeout = {LOCK_MS_MAX}{locks}; {}",
            statements(Scope::Transaction),
            newer_statement(Scope::Transaction),
        );
        session.batch_execute(&begin).await?;
        // The snapshot was taken by the last statement, at the latest by this one, whose functions run afterwards.
        let sql = "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text";
        let row = one_row(&session, sql).await?;
        let bounds = parsed(row.try_get(0)?)?;
        let ends_at = lsn(row.try_get(1)?)?;
        let snapshot = Self { session: Some(session), bounds, ends_at };
        snapshot.make_durable(config).await?;
        Ok(snapshot)
    }

    /// Sees to it that everything which the snapshot saw is on Postgres's disk. A crash forgets what is not, and gives
    /// its transaction ids and WAL positions to others: the rows would be of commits that never were, and later
    /// transactions would pass for ones that the snapshot holds.
    async fn make_durable(&self, config: &PostgresConfig) -> Result<(), PostgresError> {
        let sql = format!("SELECT pg_current_wal_flush_lsn() >= '{}'::pg_lsn", self.ends_at);
        for _ in 0..FLUSH_POLLS {
            if one_row(self.session(), &sql).await?.try_get(0)? {
                return Ok(());
            }
            // Mostly somebody commits within a moment.
            tokio::time::sleep(FLUSH_POLL).await;
        }
        // A commit that wrote something is flushed, with everything before it.
        let session = Session::connect(config).await?;
        let commit = "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; \
                      SELECT pg_logical_emit_message(true, 'limn', ''); COMMIT";
        Ok(session.batch_execute(commit).await?)
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

/// What a snapshot taken now would see.
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
