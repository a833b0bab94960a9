//! The replication slot, and the lock that keeps two servers from sharing it. Both live on the
//! replication connection and end with it where Postgres ends them.

use super::catalog::lsn;
use super::error::PostgresError;
use super::replication::ReplicationConnection;
use limn_core::Lsn;
use limn_core::pg::relation::{quote_identifier, quote_literal};
use std::time::Duration;
use tokio::time::sleep;

/// How often a waiting server asks for the lock. It asks instead of waiting inside Postgres, since
/// a statement that waits holds back vacuum.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// A slot that is ready for streaming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// True where it was created now: shapes from before cannot continue.
    pub created: bool,
    /// Up to where changes were confirmed; nothing before it is sent again.
    pub confirmed_flush: Lsn,
}

/// The slot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// Its WAL is gone: drop it, and retire every shape.
    #[error("the replication slot `{name}` is invalidated: {reason}")]
    Invalidated {
        /// The slot.
        name: String,
        /// What `pg_replication_slots` says.
        reason: String,
    },
    /// The name is taken by a slot that is not ours.
    #[error(
        "the replication slot `{name}` belongs to {owner}: choose another replication stream id, or run `SELECT pg_drop_replication_slot({});`",
        quote_literal(name)
    )]
    Foreign {
        /// The slot.
        name: String,
        /// The owner of the slot.
        owner: String,
    },
    /// A statement failed.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
}

/// Takes the advisory lock that goes with the slot's name, which lasts as long as the connection.
/// Calls `on_wait` once if another server holds it.
///
/// # Errors
/// Where the connection fails.
pub async fn lock(
    connection: &mut ReplicationConnection,
    slot: &str,
    on_wait: impl FnOnce(),
) -> Result<(), PostgresError> {
    if try_lock(connection, slot).await? {
        return Ok(());
    }
    on_wait();
    loop {
        sleep(LOCK_POLL).await;
        if try_lock(connection, slot).await? {
            return Ok(());
        }
    }
}

/// Takes the advisory lock if it is free.
///
/// # Errors
/// Where the connection fails.
pub async fn try_lock(connection: &mut ReplicationConnection, slot: &str) -> Result<bool, PostgresError> {
    let sql = format!("SELECT pg_try_advisory_lock(hashtext({}))", quote_literal(slot));
    let rows = connection.query(&sql).await?;
    Ok(rows.first().and_then(|row| row.first()) == Some(&Some("t".to_owned())))
}

/// Finds the slot or creates it. Creating waits until the transactions that are writing now end.
///
/// # Errors
/// [`SlotError`]
pub async fn ensure(
    connection: &mut ReplicationConnection,
    name: &str,
    temporary: bool,
) -> Result<Slot, SlotError> {
    match find(connection, name).await? {
        Some(confirmed_flush) => Ok(Slot { created: false, confirmed_flush }),
        None => {
            let confirmed_flush = create(connection, name, temporary).await?;
            Ok(Slot { created: true, confirmed_flush })
        }
    }
}

/// Drops the slot; it need not exist.
///
/// # Errors
/// Where it is in use, or the connection fails.
pub async fn drop_if_exists(connection: &mut ReplicationConnection, name: &str) -> Result<(), PostgresError> {
    let name = quote_literal(name);
    let sql = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {name}"
    );
    connection.query(&sql).await.map(drop)
}

/// Up to where the slot is confirmed, where there is one.
///
/// # Errors
/// [`SlotError`]
pub async fn find(connection: &mut ReplicationConnection, name: &str) -> Result<Option<Lsn>, SlotError> {
    // Columns that only newer versions have are read through JSON.
    let sql = format!(
        "SELECT confirmed_flush_lsn, wal_status, to_jsonb(s) ->> 'invalidation_reason',
                CASE WHEN slot_type <> 'logical' THEN 'physical replication'
                     WHEN database <> current_database() THEN 'database `' || database || '`'
                     WHEN plugin <> 'pgoutput' THEN 'the plugin `' || plugin || '`' END
           FROM pg_replication_slots s WHERE slot_name = {}",
        quote_literal(name)
    );
    let Some(row) = connection.query(&sql).await?.into_iter().next() else { return Ok(None) };
    let field = |index: usize| row.get(index).and_then(Option::as_deref);
    if let Some(owner) = field(3) {
        return Err(SlotError::Foreign { name: name.to_owned(), owner: owner.to_owned() });
    }
    match (field(0), field(1), field(2)) {
        (_, _, Some(reason)) => {
            Err(SlotError::Invalidated { name: name.to_owned(), reason: reason.to_owned() })
        }
        (_, Some("lost"), None) | (None, _, None) => {
            let reason = "its WAL was removed".to_owned();
            Err(SlotError::Invalidated { name: name.to_owned(), reason })
        }
        (Some(confirmed_flush), _, None) => Ok(Some(lsn(confirmed_flush)?)),
    }
}

async fn create(
    connection: &mut ReplicationConnection,
    name: &str,
    temporary: bool,
) -> Result<Lsn, PostgresError> {
    let command = format!(
        "CREATE_REPLICATION_SLOT {} {}LOGICAL pgoutput NOEXPORT_SNAPSHOT",
        quote_identifier(name),
        if temporary { "TEMPORARY " } else { "" },
    );
    let rows = connection.query(&command).await?;
    match rows.first().map(Vec::as_slice) {
        Some([_, Some(consistent_point), ..]) => lsn(consistent_point),
        _ => Err(PostgresError::Protocol("not an answer to CREATE_REPLICATION_SLOT".to_owned())),
    }
}
