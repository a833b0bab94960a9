//! Describes a table by the catalog: all that the replication stream does not tell.

use super::error::PostgresError;
use super::prepared::Prepared;
use super::publication::FIRST_USER_OID;
use limn_core::Lsn;
use limn_core::pg::{Collation, Column, DomainBase, QualifiedName, Relation, TypeKind, TypeParts, Typing};
use limn_core::pgoutput::ReplicaIdentity;
use std::sync::Arc;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

/// A table as a shape can have it: an ordinary or a partitioned one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Name and columns.
    pub relation: Arc<Relation>,
    /// Whether it holds rows itself.
    pub kind: TableKind,
    /// The tables whose rows include its own, nearest first: partitioned ones, or parents by INHERITS.
    pub ancestors: Vec<u32>,
    /// Whether it is a partition: its columns are those of the tables above. A child by INHERITS may have more.
    pub is_partition: bool,
    /// The tables below it, at any depth, whose rows a query of it includes; in order of their oids.
    pub partitions: Vec<u32>,
    /// What its UPDATEs and DELETEs write of the row before.
    pub replica_identity: ReplicaIdentity,
}

/// `pg_class.relkind`, as far as shapes know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// `r`
    Ordinary,
    /// `p`
    Partitioned,
}

/// Where the WAL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalPositions {
    /// `pg_current_wal_lsn()`: written.
    pub written: Lsn,
    /// `pg_current_wal_insert_lsn()`: inserted, perhaps not yet written.
    pub inserted: Lsn,
}

/// The types that a type `y` is made of, as SQL: an array's element, what lies under a domain, the attributes of a row
/// type, and what ranges are over.
pub(crate) const TYPES_BELOW: &str = "
    (SELECT y.typelem WHERE y.typelem <> 0
      UNION ALL
     SELECT y.typbasetype WHERE y.typbasetype <> 0
      UNION ALL
     SELECT atttypid FROM pg_attribute
      WHERE attrelid = y.typrelid AND y.typrelid <> 0 AND attnum > 0 AND NOT attisdropped
      UNION ALL
     SELECT rngsubtype FROM pg_range WHERE rngtypid = y.oid
      UNION ALL
     SELECT rngtypid FROM pg_range WHERE rngmultitypid = y.oid)";

/// One row a column; a table without columns gives one row without a column. `indkey` counts from
/// 0 and lists INCLUDE columns after the key's own. A type is an array exactly where its element
/// names it as its array type. `f` is the type whose kind counts: the element of an array, the base
/// under domains, and an array's element there. The columns of collations differ between versions, so
/// they are read by way of JSON; collation 100 is the database's, which types without one have too.
const DESCRIBE: &str = "
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relreplident,
           ARRAY(WITH RECURSIVE above AS (
                      SELECT inhparent, 1 AS distance FROM pg_inherits WHERE inhrelid = c.oid
                       UNION
                      SELECT i.inhparent, distance + 1 FROM pg_inherits i JOIN above a ON i.inhrelid = a.inhparent)
                 SELECT inhparent FROM above GROUP BY 1 ORDER BY min(distance)),
           a.attname, a.atttypid, coalesce(e.typname, t.typname), coalesce(e.oid, t.oid),
           CASE WHEN e.oid IS NULL THEN 0 ELSE greatest(a.attndims, 1) END::int4,
           a.atttypmod, a.attnotnull, a.attgenerated::text, k.position,
           xn.nspname, x.typtype, b.oid, coalesce(be.typname, b.typname), coalesce(be.oid, b.oid), bn.nspname,
           f.typtype, ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = f.oid ORDER BY enumsortorder),
           l.provider, l.deterministic, coalesce(l.locale, l.collate), coalesce(l.locale, l.ctype),
           ARRAY(WITH RECURSIVE below AS (
                      SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid
                       UNION
                      SELECT i.inhrelid FROM pg_inherits i JOIN below b ON i.inhparent = b.inhrelid)
                 SELECT inhrelid FROM below JOIN pg_class k ON k.oid = inhrelid
                  WHERE k.relpersistence <> 't' ORDER BY 1),
           ln.nspname, lo.collname, c.relispartition,
           coalesce(i.indimmediate, false)
               AND NOT EXISTS (
                   SELECT FROM pg_inherits h JOIN pg_class k ON k.oid = h.inhrelid
                    WHERE h.inhparent = c.oid AND c.relkind = 'r' AND k.relpersistence <> 't')
               AND NOT EXISTS (
                   WITH RECURSIVE below AS (
                        SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid
                         UNION
                        SELECT h.inhrelid FROM pg_inherits h JOIN below b ON h.inhparent = b.inhrelid)
                   SELECT FROM below JOIN pg_index p ON p.indrelid = inhrelid
                    WHERE p.indisprimary AND NOT p.indimmediate),
           parts.label_oids, parts.labels, parts.fields,
           c.relkind = 'r' AND EXISTS (
               SELECT FROM pg_inherits h JOIN pg_class k ON k.oid = h.inhrelid
                WHERE h.inhparent = c.oid AND k.relpersistence <> 't')
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
      LEFT JOIN pg_type x ON x.oid = coalesce(e.oid, t.oid)
      LEFT JOIN pg_namespace xn ON xn.oid = x.typnamespace
      LEFT JOIN LATERAL (
           WITH RECURSIVE under AS (
                SELECT d.* FROM pg_type d WHERE d.oid = x.typbasetype AND x.typtype = 'd'
                 UNION ALL
                SELECT d.* FROM pg_type d JOIN under u ON d.oid = u.typbasetype AND u.typtype = 'd')
           SELECT * FROM under WHERE typtype <> 'd') b ON true
      LEFT JOIN pg_type be ON be.oid = b.typelem AND be.typarray = b.oid
      LEFT JOIN pg_namespace bn ON bn.oid = coalesce(be.typnamespace, b.typnamespace)
      LEFT JOIN pg_type f ON f.oid = coalesce(be.oid, b.oid, x.oid)
      LEFT JOIN LATERAL (
           SELECT coalesce(j->>'collprovider', j->>'datlocprovider', 'c') AS provider,
                  coalesce(j->>'collisdeterministic', 'true')::bool AS deterministic,
                  coalesce(j->>'collcollate', j->>'datcollate', '') AS collate,
                  coalesce(j->>'collctype', j->>'datctype', '') AS ctype,
                  coalesce(j->>'colllocale', j->>'datlocale') AS locale
             FROM (SELECT to_jsonb(o) FROM pg_collation o WHERE o.oid = a.attcollation AND o.oid <> 100
                    UNION ALL
                   SELECT to_jsonb(o) FROM pg_database o
                    WHERE o.datname = current_database() AND a.attcollation IN (0, 100)) s (j)) l ON true
      LEFT JOIN pg_collation lo ON lo.oid = a.attcollation AND lo.oid <> 100
      LEFT JOIN pg_namespace ln ON ln.oid = lo.collnamespace
      LEFT JOIN LATERAL (
           WITH RECURSIVE used (oid) AS (
                SELECT a.atttypid WHERE a.atttypid >= $first_user_oid
                 UNION
                SELECT below.oid FROM used JOIN pg_type y ON y.oid = used.oid CROSS JOIN LATERAL $types_below below (oid))
           SELECT ARRAY(SELECT m.oid FROM used JOIN pg_enum m ON m.enumtypid = used.oid ORDER BY m.oid) AS label_oids,
                  ARRAY(SELECT enumlabel::text FROM used JOIN pg_enum m ON m.enumtypid = used.oid ORDER BY m.oid) AS labels,
                  ARRAY(SELECT concat_ws(':', h.attrelid, h.attnum, h.atttypid)
                          FROM used JOIN pg_type y ON y.oid = used.oid
                          JOIN pg_attribute h ON h.attrelid = y.typrelid AND y.typrelid <> 0
                         WHERE h.attnum > 0 AND NOT h.attisdropped ORDER BY h.attrelid, h.attnum) AS fields) parts ON true
      LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
      LEFT JOIN LATERAL (
           SELECT min(s) AS position FROM generate_series(0, i.indnkeyatts - 1) s
            WHERE i.indkey[s] = a.attnum) k ON true
     WHERE c.relkind IN ('r', 'p')";

fn describe_sql() -> String {
    DESCRIBE.replace("$types_below", TYPES_BELOW).replace("$first_user_oid", &FIRST_USER_OID.to_string())
}

/// Describes a table by name, in one round trip. `None` where there is no such table; views and
/// the like do not count.
///
/// # Errors
/// Where the query fails.
pub async fn describe(client: &Client, name: &QualifiedName) -> Result<Option<Description>, PostgresError> {
    let sql = format!("{} AND n.nspname = $1 AND c.relname = $2 ORDER BY a.attnum", describe_sql());
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&name.schema, Type::TEXT), (&name.name, Type::TEXT)];
    description(&client.query_typed(&sql, &parameters).await?)
}

/// Describes a table by its oid.
///
/// # Errors
/// Where the query fails.
pub async fn describe_oid(client: &Client, oid: u32) -> Result<Option<Description>, PostgresError> {
    let sql = format!("{} AND c.oid = $1 ORDER BY a.attnum", describe_sql());
    description(&client.query_typed(&sql, &[(&oid, Type::OID)]).await?)
}

/// The same inside a transaction, where the session may keep the plan.
///
/// # Errors
/// Where a statement fails.
pub async fn describe_oid_prepared(client: &Client, oid: u32) -> Result<Option<Description>, PostgresError> {
    let sql = format!("{} AND c.oid = $1 ORDER BY a.attnum", describe_sql());
    description(&Prepared { sql: &sql, types: "oid" }.rows(client, &oid.to_string()).await?)
}

/// `server_version_num`, such as 150018.
///
/// # Errors
/// Where the query fails.
pub async fn server_version_num(client: &Client) -> Result<u32, PostgresError> {
    let sql = "SELECT current_setting('server_version_num')::int4";
    let row = one_row(client, sql).await?;
    let number: i32 = row.try_get(0)?;
    u32::try_from(number).map_err(|_| PostgresError::Protocol(format!("`server_version_num` of {number}")))
}

/// Where the WAL is now.
///
/// # Errors
/// Where the query fails.
pub async fn wal_positions(client: &Client) -> Result<WalPositions, PostgresError> {
    let sql = "SELECT pg_current_wal_lsn()::text, pg_current_wal_insert_lsn()::text";
    let row = one_row(client, sql).await?;
    Ok(WalPositions { written: lsn(row.try_get(0)?)?, inserted: lsn(row.try_get(1)?)? })
}

pub(crate) async fn one_row(client: &Client, sql: &str) -> Result<Row, PostgresError> {
    let row = client.query_typed(sql, &[]).await?.into_iter().next();
    row.ok_or_else(|| PostgresError::Protocol("an aggregate without a row".to_owned()))
}

pub(super) fn lsn(text: &str) -> Result<Lsn, PostgresError> {
    text.parse().map_err(|error| PostgresError::Protocol(format!("{error}")))
}

fn description(rows: &[Row]) -> Result<Option<Description>, PostgresError> {
    let Some(first) = rows.first() else { return Ok(None) };
    let kind: i8 = first.try_get(3)?;
    let identity: i8 = first.try_get(4)?;
    let columns = rows.iter().filter_map(|row| column(row).transpose());
    Ok(Some(Description {
        relation: Arc::new(Relation {
            oid: first.try_get(0)?,
            name: QualifiedName::new(first.try_get::<_, &str>(1)?, first.try_get::<_, &str>(2)?),
            columns: columns.collect::<Result<_, _>>()?,
            key_always_unique: first.try_get(31)?,
            has_children: first.try_get(35)?,
        }),
        kind: match kind.cast_unsigned() {
            b'p' => TableKind::Partitioned,
            _ => TableKind::Ordinary,
        },
        ancestors: first.try_get(5)?,
        is_partition: first.try_get(30)?,
        partitions: first.try_get(27)?,
        replica_identity: ReplicaIdentity::from_catalog(identity.cast_unsigned())
            .ok_or_else(|| PostgresError::Protocol(format!("`relreplident` of {identity}")))?,
    }))
}

fn column(row: &Row) -> Result<Option<Column>, PostgresError> {
    let Some(name) = row.try_get::<_, Option<String>>(6)? else { return Ok(None) };
    let generated: &str = row.try_get(13)?;
    Ok(Some(Column {
        name,
        type_oid: row.try_get(7)?,
        type_name: row.try_get(8)?,
        element_oid: row.try_get(9)?,
        dims: row.try_get::<_, i32>(10)?.unsigned_abs(),
        type_mod: row.try_get(11)?,
        not_null: row.try_get(12)?,
        generated: !generated.is_empty(),
        is_virtual: generated == "v",
        pk_index: row.try_get::<_, Option<i32>>(14)?.map(i32::unsigned_abs),
        typing: typing(row)?,
    }))
}

fn typing(row: &Row) -> Result<Typing, PostgresError> {
    let labels = || row.try_get::<_, Vec<String>>(22);
    let kind = |typtype: i8| {
        Ok::<_, PostgresError>(match typtype.cast_unsigned() {
            b'b' => TypeKind::Base,
            b'e' => TypeKind::Enum { labels: labels()? },
            b'c' => TypeKind::Composite,
            _ => TypeKind::Other,
        })
    };
    let domain: Option<u32> = row.try_get(17)?;
    let innermost = kind(row.try_get(21)?)?;
    let kind = match domain {
        None => innermost,
        Some(type_oid) => TypeKind::Domain(Box::new(DomainBase {
            type_oid,
            type_name: row.try_get(18)?,
            element_oid: row.try_get(19)?,
            schema: row.try_get(20)?,
            kind: innermost,
        })),
    };
    let provider = row.try_get::<_, Option<&str>>(23)?.and_then(|name| name.bytes().next());
    let collation = match provider {
        None => Collation::Linguistic,
        Some(provider) => Collation::classify(provider, row.try_get(24)?, row.try_get(25)?, row.try_get(26)?),
    };
    let collation_schema: Option<String> = row.try_get(28)?;
    let collation_name = match collation_schema {
        None => None,
        Some(schema) => Some(QualifiedName::new(schema, row.try_get::<_, String>(29)?)),
    };
    let labels = row.try_get::<_, Vec<u32>>(32)?.into_iter().zip(row.try_get::<_, Vec<String>>(33)?);
    let parts = TypeParts { labels: labels.collect(), fields: row.try_get(34)? };
    Ok(Typing { schema: row.try_get(15)?, kind, collation, collation_name, parts })
}
