//! One look at what the stream depends on: the publication and the slot, as Postgres has them now.

use crate::postgres::PostgresError;
use limn_core::Lsn;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Publication, slot and WAL at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vitals {
    /// The publication, where there is one.
    pub publication: Option<PublicationVitals>,
    /// Whether the slot is there and its WAL too.
    pub slot_lives: bool,
    /// WAL that Postgres keeps because of the slot.
    pub retained_bytes: Option<u64>,
    /// Where the WAL ends.
    pub wal_end: Lsn,
}

/// A publication at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicationVitals {
    /// `pg_publication.oid`: another one where it was dropped and created again.
    pub oid: u32,
    /// Changes whenever its options may have changed, but not with its tables.
    pub version: String,
    /// Whether it publishes every operation, and partitions as themselves.
    pub is_whole: bool,
}

// Columns that only newer versions have are read through JSON.
const LOOK: &str = "
    SELECT p.oid, p.xmin::text,
           NOT p.pubviaroot AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
           coalesce(s.wal_status <> 'lost' AND to_jsonb(s) ->> 'invalidation_reason' IS NULL, false),
           (pg_current_wal_lsn() - s.restart_lsn)::bigint,
           (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint
      FROM (SELECT) one
      LEFT JOIN pg_publication p ON p.pubname = $1
      LEFT JOIN pg_replication_slots s ON s.slot_name = $2";

/// Looks at a publication and a slot by name.
///
/// # Errors
/// Where the query fails.
pub async fn read(client: &Client, publication: &str, slot: &str) -> Result<Vitals, PostgresError> {
    let rows = client.query_typed(LOOK, &[(&publication, Type::TEXT), (&slot, Type::TEXT)]).await?;
    let row = rows
        .first()
        .ok_or_else(|| PostgresError::Protocol("a query without WHERE gave no row".to_owned()))?;
    let bytes = |index: usize| -> Result<Option<u64>, tokio_postgres::Error> {
        Ok(row.try_get::<_, Option<i64>>(index)?.map(|bytes| u64::try_from(bytes).unwrap_or(0)))
    };
    let publication = match row.try_get::<_, Option<u32>>(0)? {
        Some(oid) => Some(PublicationVitals { oid, version: row.try_get(1)?, is_whole: row.try_get(2)? }),
        None => None,
    };
    Ok(Vitals {
        publication,
        slot_lives: row.try_get(3)?,
        retained_bytes: bytes(4)?,
        wal_end: Lsn::new(bytes(5)?.unwrap_or(0)),
    })
}
