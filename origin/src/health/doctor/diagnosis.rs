//! What `limn check` asks Postgres: facts, without a judgement.

use crate::postgres::PostgresError;
use crate::postgres::catalog::one_row;
use crate::postgres::conflict::{Assumed, Conflict, conflicts};
use crate::postgres::publication::carries;
use crate::postgres::rights::{self, Denial};
use limn_core::pg::relation::quote_identifier;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// The server's settings, and how much of them is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// `server_version_num`
    pub version_num: i32,
    /// `server_version`
    pub version: String,
    /// `wal_level`
    pub wal_level: String,
    /// Whether it is a standby.
    pub is_standby: bool,
    /// `max_replication_slots`
    pub slots_max: i64,
    /// Slots there are.
    pub slots: i64,
    /// `max_wal_senders`
    pub senders_max: i64,
    /// Walsenders at work.
    pub senders: i64,
    /// `max_slot_wal_keep_size` in MB; negative where it is unlimited.
    pub keep_mb_max: i64,
    /// `fsync`
    pub fsync: String,
    /// `synchronous_standby_names`
    pub synchronous_standby_names: String,
    /// Whether the role may create a publication in this database.
    pub may_create: bool,
    /// `server_encoding`: that of the database.
    pub encoding: String,
}

/// A publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicationFacts {
    /// `publish_via_partition_root`
    pub via_root: bool,
    /// Whether it publishes every operation.
    pub all_operations: bool,
    /// Whether stored generated columns are published.
    pub generated_columns: bool,
    /// Whether the role owns it.
    pub is_ours: bool,
    /// Whether it is FOR ALL TABLES, so that none has to be added.
    pub all_tables: bool,
}

/// A replication slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFacts {
    /// What it is instead of a slot of ours, where it is not.
    pub foreign: Option<String>,
    /// Whether it is being read.
    pub active: bool,
    /// The process of Postgres that reads it, or creates it.
    pub reader: Option<i32>,
    /// `wal_status`: `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: Option<String>,
    /// `invalidation_reason`
    pub invalidated: Option<String>,
    /// WAL that is kept because of it.
    pub retained_bytes: Option<i64>,
}

/// A table that is published or has shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFacts {
    /// `pg_class.oid`
    pub oid: u32,
    /// Quoted for SQL.
    pub name: String,
    /// Whether the publication carries it.
    pub is_published: bool,
    /// Whether the publication leaves out some of its rows or columns.
    pub is_filtered: bool,
    /// Whether its replica identity is FULL.
    pub is_full: bool,
    /// Whether the role owns it.
    pub is_ours: bool,
    /// Publications with which its UPDATEs and DELETEs would fail once it is published as shapes need it.
    pub conflicts: Vec<Conflict>,
    /// Whether they fail already.
    pub writes_fail: bool,
    /// What keeps the role from reading it whole.
    pub denial: Option<Denial>,
}

const SERVER: &str = "
    SELECT current_setting('server_version_num')::int, current_setting('server_version'),
           current_setting('wal_level'), pg_is_in_recovery(),
           current_setting('max_replication_slots')::bigint, (SELECT count(*) FROM pg_replication_slots),
           current_setting('max_wal_senders')::bigint, (SELECT count(*) FROM pg_stat_replication),
           (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
           current_setting('fsync'), current_setting('synchronous_standby_names'),
           has_database_privilege(current_database(), 'CREATE'), current_setting('server_encoding')";

/// The server's facts.
///
/// # Errors
/// Where the query fails.
pub async fn server(client: &Client) -> Result<ServerFacts, PostgresError> {
    let row = one_row(client, SERVER).await?;
    Ok(ServerFacts {
        version_num: row.try_get(0)?,
        version: row.try_get(1)?,
        wal_level: row.try_get(2)?,
        is_standby: row.try_get(3)?,
        slots_max: row.try_get(4)?,
        slots: row.try_get(5)?,
        senders_max: row.try_get(6)?,
        senders: row.try_get(7)?,
        keep_mb_max: row.try_get(8)?,
        fsync: row.try_get(9)?,
        synchronous_standby_names: row.try_get(10)?,
        may_create: row.try_get(11)?,
        encoding: row.try_get(12)?,
    })
}

/// A publication by name, where there is one.
///
/// # Errors
/// Where the query fails.
pub async fn publication(client: &Client, name: &str) -> Result<Option<PublicationFacts>, PostgresError> {
    // A column that only newer versions have is read through JSON.
    let sql = "SELECT pubviaroot, pubinsert AND pubupdate AND pubdelete AND pubtruncate,
                      coalesce(to_jsonb(p) ->> 'pubgencols' = 's', false), pg_has_role(pubowner, 'USAGE'), puballtables
                 FROM pg_publication p WHERE pubname = $1";
    let rows = client.query_typed(sql, &[(&name, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(PublicationFacts {
        via_root: row.try_get(0)?,
        all_operations: row.try_get(1)?,
        generated_columns: row.try_get(2)?,
        is_ours: row.try_get(3)?,
        all_tables: row.try_get(4)?,
    }))
}

/// A slot by name, where there is one.
///
/// # Errors
/// Where the query fails.
pub async fn slot(client: &Client, name: &str) -> Result<Option<SlotFacts>, PostgresError> {
    let sql = "SELECT CASE WHEN slot_type <> 'logical' THEN 'physical replication'
                           WHEN database <> current_database() THEN 'the database `' || database || '`'
                           WHEN plugin <> 'pgoutput' THEN 'the plugin `' || plugin || '`' END,
                      active, wal_status, to_jsonb(s) ->> 'invalidation_reason',
                      CASE WHEN NOT pg_is_in_recovery()
                           THEN (pg_current_wal_lsn() - restart_lsn)::bigint END, active_pid
                 FROM pg_replication_slots s WHERE slot_name = $1";
    let rows = client.query_typed(sql, &[(&name, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(SlotFacts {
        foreign: row.try_get(0)?,
        active: row.try_get(1)?,
        wal_status: row.try_get(2)?,
        invalidated: row.try_get(3)?,
        retained_bytes: row.try_get(4)?,
        reader: row.try_get(5)?,
    }))
}

/// The process of Postgres that holds the slot's advisory lock.
///
/// # Errors
/// Where the query fails.
pub async fn lock_holder(client: &Client, slot: &str) -> Result<Option<i32>, PostgresError> {
    let sql = "SELECT pid FROM pg_locks
                WHERE locktype = 'advisory' AND granted AND objsubid = 1
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND ((classid::bigint << 32) | objid::bigint) = hashtext($1)::bigint";
    let rows = client.query_typed(sql, &[(&slot, Type::TEXT)]).await?;
    rows.first().map_or(Ok(None), |row| Ok(Some(row.try_get(0)?)))
}

fn tables_query() -> String {
    let carries = carries("$1", "c");
    format!(
        "WITH published AS (SELECT c.oid FROM pg_class c WHERE c.relkind = 'r' AND {carries})
    SELECT c.oid, format('%I.%I', n.nspname, c.relname),
           c.oid IN (SELECT oid FROM published) OR c.relkind = 'p',
           EXISTS (SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
                    WHERE p.pubname = $1 AND r.prrelid = c.oid
                      AND jsonb_strip_nulls(to_jsonb(r)) ?| ARRAY['prqual', 'prattrs']),
           c.relreplident = 'f', pg_has_role(c.relowner, 'USAGE')
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid IN (SELECT oid FROM published UNION SELECT unnest($2::oid[]))
     ORDER BY 2"
    )
}

/// The tables of a publication, and those with these oids as far as they exist.
///
/// # Errors
/// Where the query fails.
pub async fn tables(
    client: &Client,
    publication: &str,
    oids: &[u32],
) -> Result<Vec<TableFacts>, PostgresError> {
    let rows =
        client.query_typed(&tables_query(), &[(&publication, Type::TEXT), (&oids, Type::OID_ARRAY)]).await?;
    let oids: Vec<u32> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let mut found = conflicts(client, &oids, publication, Assumed::Published).await?;
    let failing = conflicts(client, &oids, publication, Assumed::Nothing).await?;
    let columns: Vec<(u32, Option<&str>)> = oids.iter().copied().map(|oid| (oid, None)).collect();
    let denials = rights::denials(client, &columns).await?;
    let table = |row: &tokio_postgres::Row| {
        let oid = row.try_get(0)?;
        Ok(TableFacts {
            oid,
            conflicts: found.extract_if(.., |conflict| conflict.top == oid).collect(),
            writes_fail: failing.iter().any(|conflict| conflict.top == oid),
            name: row.try_get(1)?,
            is_published: row.try_get(2)?,
            is_filtered: row.try_get(3)?,
            is_full: row.try_get(4)?,
            is_ours: row.try_get(5)?,
            denial: denials.iter().find(|denial| denial.oid == oid).cloned(),
        })
    };
    rows.iter().map(table).collect()
}

impl ServerFacts {
    /// How `CREATE PUBLICATION` is to be run here.
    #[must_use]
    pub fn create_publication(&self, name: &str) -> String {
        let options = match self.publishes_generated_columns() {
            true => " WITH (publish_generated_columns = stored)",
            false => "",
        };
        format!("CREATE PUBLICATION {}{options};", quote_identifier(name))
    }

    /// Whether this version can publish generated columns.
    #[must_use]
    pub const fn publishes_generated_columns(&self) -> bool {
        self.version_num >= crate::postgres::publication::GENERATED_COLUMNS_VERSION as i32
    }
}
