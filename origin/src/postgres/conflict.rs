//! Publications with which REPLICA IDENTITY FULL makes UPDATE or DELETE of a table fail.
//!
//! Postgres looks at this when a statement starts (`CheckCmdReplicaIdentity`), over every publication that carries
//! the table and publishes updates or deletes. With FULL all columns belong to the identity, so that
//! * from 15 on no publication may have a list of columns for the table, not even one that names all of them. Where
//!   a publication publishes a partition as a table above it, the list of the topmost such table counts;
//! * from 18 on a table with STORED generated columns needs `publish_generated_columns = stored` everywhere, and a
//!   table with VIRTUAL ones may be in no publication at all.
//!
//! Row filters are no obstacle: they may use the columns of the identity, and those are all. Tables that are not
//! logged are in no publication. `origin/tests/postgres/conflicts.rs` compares all this with what Postgres does.

use super::catalog::one_row;
use super::error::PostgresError;
use super::publication::FIRST_USER_OID;
use super::sqlstate;
use limn_core::pg::relation::{quote_identifier, quote_literal};
use std::fmt::{self, Display, Formatter};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

/// From this version on, publications can have lists of columns.
const COLUMN_LISTS_VERSION: i32 = 150_000;
/// How many conflicts a text names one by one; a table with many partitions may have one for each.
const SHOWN: usize = 3;

/// One table below a given one, and one publication, that do not bear REPLICA IDENTITY FULL together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The oid of the given table that it is part of.
    pub top: u32,
    /// The table whose writes fail, quoted for SQL.
    pub table: String,
    /// The publication's name.
    pub publication: String,
    /// Why they do not go together.
    pub reasons: Vec<Reason>,
}

/// Why a table with REPLICA IDENTITY FULL cannot be written to in a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The publication has a list of columns.
    ColumnList {
        /// The table that has the list in the publication: the one written to, or a partitioned one above it. Quoted.
        listed: String,
        /// The row filter beside the list, as SQL.
        filter: Option<String>,
    },
    /// The publication leaves out STORED generated columns.
    StoredColumns {
        /// Their names, quoted.
        columns: Vec<String>,
    },
    /// The table has VIRTUAL generated columns.
    VirtualColumns {
        /// The statements that replace them by STORED ones.
        replace: Vec<String>,
        /// Their names, quoted.
        columns: Vec<String>,
        /// Whether the publication leaves STORED ones out.
        stored_is_left_out: bool,
    },
}

/// Which state of the catalog is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assumed {
    /// The catalog as it is: the writes of these tables fail now.
    Nothing,
    /// As it would be if each table had REPLICA IDENTITY FULL and were in this server's publication.
    Published,
}

/// The conflicts of the given tables and of all below them, with every publication of the database. `publication` is
/// this server's own.
///
/// # Errors
/// Where a query fails.
pub async fn conflicts(
    client: &Client,
    tables: &[u32],
    publication: &str,
    assumed: Assumed,
) -> Result<Vec<Conflict>, PostgresError> {
    if !are_possible(client).await? {
        return Ok(Vec::new());
    }
    let is_assumed = assumed == Assumed::Published;
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&tables, Type::OID_ARRAY), (&publication, Type::TEXT), (&is_assumed, Type::BOOL)];
    let sql = CONFLICTS.replace("$first_user_oid", &FIRST_USER_OID.to_string());
    let rows = client.query_typed(&sql, &parameters).await?;
    rows.iter().map(conflict).collect()
}

async fn are_possible(client: &Client) -> Result<bool, PostgresError> {
    let sql = "SELECT current_setting('server_version_num')::int4";
    Ok(one_row(client, sql).await?.try_get::<_, i32>(0)? >= COLUMN_LISTS_VERSION)
}

/// The SQLSTATE of a failed [`Guard`].
pub(super) const GUARD_FAILED: &str = sqlstate::DIVISION_BY_ZERO;

/// The facts that conflicts depend on, noted before they are looked for. Where they are the same behind an ALTER, in the same
/// transaction, none has come while that waited for the table's lock. It is compared instead of looking again, which would
/// keep the lock ten times as long.
#[derive(Debug)]
pub(super) struct Guard {
    publications: String,
    has_stored: bool,
}

/// Publications, their lists of columns and their schemas. That tables are added without a list changes nothing here.
const PUBLICATIONS: &str = "md5(concat_ws(' ',
    (SELECT string_agg(concat(oid, ':', xmin), ',' ORDER BY oid) FROM pg_publication),
    (SELECT string_agg(concat(oid, ':', xmin), ',' ORDER BY oid) FROM pg_publication_rel WHERE prattrs IS NOT NULL),
    (SELECT string_agg(concat(oid, ':', xmin), ',' ORDER BY oid) FROM pg_publication_namespace)))";

impl Guard {
    /// Notes it for a table and all below it; `None` where this version has nothing that can be in conflict.
    pub(super) async fn new(client: &Client, table: u32) -> Result<Option<Self>, PostgresError> {
        if !are_possible(client).await? {
            return Ok(None);
        }
        let sql = format!(
            "WITH RECURSIVE tree (oid) AS (
                 SELECT $1::oid
                  UNION
                 SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid)
            SELECT {PUBLICATIONS},
                   EXISTS (SELECT FROM tree JOIN pg_attribute ON attrelid = oid WHERE attnum > 0 AND attgenerated = 's')"
        );
        let rows = client.query_typed(&sql, &[(&table, Type::OID)]).await?;
        let row = rows.first().ok_or_else(|| PostgresError::Protocol("no row of constants".to_owned()))?;
        Ok(Some(Self { publications: row.try_get(0)?, has_stored: row.try_get(1)? }))
    }

    /// A statement that fails where something has changed. `table` is quoted for SQL; nothing can be published that has
    /// VIRTUAL columns.
    pub(super) fn statement(&self, table: &str) -> String {
        let harmful = if self.has_stored { "'v'" } else { "'v', 's'" };
        format!(
            "SELECT 1 / ({PUBLICATIONS} = {} AND NOT EXISTS (
                 SELECT FROM pg_attribute WHERE attrelid = {}::regclass AND attnum > 0 AND attgenerated IN ({harmful})))::int",
            quote_literal(&self.publications),
            quote_literal(table)
        )
    }
}

impl Conflict {
    /// The SQL after which the two go together.
    #[must_use]
    pub fn mend(&self) -> String {
        let publication = quote_identifier(&self.publication);
        let publish_stored =
            || format!("ALTER PUBLICATION {publication} SET (publish_generated_columns = stored);");
        let mut statements: Vec<String> = Vec::new();
        for reason in &self.reasons {
            match reason {
                Reason::ColumnList { listed, filter } => {
                    let filter =
                        filter.as_ref().map(|filter| format!(" WHERE ({filter})")).unwrap_or_default();
                    statements.push(format!(
                        "BEGIN; ALTER PUBLICATION {publication} DROP TABLE {listed}; \
                         ALTER PUBLICATION {publication} ADD TABLE {listed}{filter}; COMMIT;"
                    ));
                }
                Reason::StoredColumns { .. } => statements.push(publish_stored()),
                Reason::VirtualColumns { replace, stored_is_left_out, .. } => {
                    statements.extend(stored_is_left_out.then(publish_stored));
                    statements.extend(replace.iter().cloned());
                }
            }
        }
        statements.dedup();
        statements.join(" ")
    }
}

impl Display for Conflict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "publication `{}` ", self.publication)?;
        for (index, reason) in self.reasons.iter().enumerate() {
            let and = if index == 0 { "" } else { ", and " };
            match reason {
                Reason::ColumnList { listed, .. } => write!(f, "{and}has a list of columns for {listed}")?,
                Reason::StoredColumns { columns } => {
                    write!(
                        f,
                        "{and}leaves out the stored generated columns of {} ({})",
                        self.table,
                        columns.join(", ")
                    )?;
                }
                Reason::VirtualColumns { columns, .. } => {
                    write!(
                        f,
                        "{and}cannot carry the virtual generated columns of {} ({})",
                        self.table,
                        columns.join(", ")
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// Several conflicts in one text, and the SQL that mends them all.
#[must_use]
pub fn describe(conflicts: &[Conflict]) -> (String, String) {
    let mut texts: Vec<String> = Vec::new();
    let mut statements: Vec<String> = Vec::new();
    for conflict in conflicts {
        let (text, mend) = (conflict.to_string(), conflict.mend());
        if !texts.contains(&text) {
            texts.push(text);
        }
        // Partitions that are published through their root, and columns that they inherit, are mended together.
        if !statements.contains(&mend) {
            statements.push(mend);
        }
    }
    let more = texts.len().saturating_sub(SHOWN);
    texts.truncate(SHOWN);
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    (texts.join("; "), statements.join(" "))
}

fn conflict(row: &tokio_postgres::Row) -> Result<Conflict, PostgresError> {
    let mut reasons = Vec::new();
    if let Some(listed) = row.try_get(3)? {
        reasons.push(Reason::ColumnList { listed, filter: row.try_get(4)? });
    }
    let (stored, replaced): (Vec<String>, Vec<String>) = (row.try_get(5)?, row.try_get(6)?);
    let stored_is_left_out: bool = row.try_get(8)?;
    if !stored.is_empty() && stored_is_left_out {
        reasons.push(Reason::StoredColumns { columns: stored });
    }
    if !replaced.is_empty() {
        let columns = row.try_get(7)?;
        reasons.push(Reason::VirtualColumns { replace: replaced, columns, stored_is_left_out });
    }
    Ok(Conflict { top: row.try_get(0)?, table: row.try_get(1)?, publication: row.try_get(2)?, reasons })
}

/// What only 18 has is read through JSON. `carried` says which publication carries which table, and by what: the
/// table itself (distance 0) or a partitioned table above it. Only columns that are generated make `pg_attribute`
/// worth asking for details, so that thousands of tables without any cost one look each. A column that is inherited can
/// only be replaced in the table that defines it.
const CONFLICTS: &str = "
    WITH RECURSIVE tree (top, oid) AS (
         SELECT oid, oid FROM unnest($1::oid[]) given (oid)
          UNION
         SELECT top, i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid),
    leaf AS (
         SELECT DISTINCT c.oid, c.relispartition, c.relreplident
           FROM tree JOIN pg_class c USING (oid)
          WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= $first_user_oid),
    line (leaf, oid, distance) AS (
         SELECT oid, oid, 0 FROM leaf
          UNION ALL
         SELECT l.oid, a.relid, a.distance
           FROM leaf l CROSS JOIN LATERAL pg_partition_ancestors(l.oid) WITH ORDINALITY a (relid, distance)
          WHERE l.relispartition AND a.relid <> l.oid),
    carried (leaf, publication, oid, distance) AS (
         SELECT leaf, r.prpubid, line.oid, distance
           FROM line JOIN pg_publication_rel r ON r.prrelid = line.oid
          UNION
         SELECT leaf, s.pnpubid, line.oid, distance
           FROM line JOIN pg_class c USING (oid)
           JOIN pg_publication_namespace s ON s.pnnspid = c.relnamespace
          UNION
         SELECT leaf.oid, p.oid, leaf.oid, 0
           FROM leaf, pg_publication p
          WHERE p.puballtables OR ($3 AND p.pubname = $2)),
    named (leaf, publication, oid) AS (
         SELECT leaf, c.publication,
                coalesce((array_agg(c.oid ORDER BY distance DESC)
                          FILTER (WHERE distance > 0 AND p.pubviaroot AND NOT p.puballtables))[1], leaf)
           FROM carried c JOIN pg_publication p ON p.oid = c.publication
          WHERE p.pubupdate OR p.pubdelete
          GROUP BY leaf, c.publication)
    SELECT t.top, format('%I.%I', n.nspname, c.relname), p.pubname::text,
           CASE WHEN r.prattrs IS NOT NULL THEN format('%I.%I', rn.nspname, rc.relname) END,
           pg_get_expr(r.prqual, r.prrelid),
           ARRAY(SELECT quote_ident(attname) FROM pg_attribute
                  WHERE attrelid = c.oid AND attnum > 0 AND attgenerated = 's' ORDER BY attnum),
           ARRAY(SELECT format('ALTER TABLE %1$s DROP COLUMN %2$I; ALTER TABLE %1$s ADD COLUMN %2$I %3$s GENERATED ALWAYS AS (%4$s) STORED;',
                               definer.name, a.attname, format_type(a.atttypid, a.atttypmod),
                               pg_get_expr(d.adbin, d.adrelid))
                   FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                  CROSS JOIN LATERAL (
                        WITH RECURSIVE up (oid) AS (
                             SELECT a.attrelid UNION SELECT inhparent FROM pg_inherits JOIN up ON inhrelid = up.oid)
                        SELECT format('%I.%I', un.nspname, uc.relname) AS name
                          FROM up JOIN pg_attribute ua ON ua.attrelid = up.oid AND ua.attname = a.attname AND ua.attinhcount = 0
                          JOIN pg_class uc ON uc.oid = up.oid JOIN pg_namespace un ON un.oid = uc.relnamespace
                         ORDER BY up.oid LIMIT 1) definer
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attgenerated = 'v' ORDER BY a.attnum),
           ARRAY(SELECT quote_ident(attname) FROM pg_attribute
                  WHERE attrelid = c.oid AND attnum > 0 AND attgenerated = 'v' ORDER BY attnum),
           coalesce(to_jsonb(p) ->> 'pubgencols', 's') <> 's'
      FROM named JOIN leaf ON leaf.oid = named.leaf JOIN tree t ON t.oid = leaf.oid
      JOIN pg_class c ON c.oid = leaf.oid JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_publication p ON p.oid = named.publication
      LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = named.oid
      LEFT JOIN pg_class rc ON rc.oid = r.prrelid LEFT JOIN pg_namespace rn ON rn.oid = rc.relnamespace
      CROSS JOIN LATERAL (
           SELECT coalesce(bool_or(attgenerated = 's'), false) AS stored, coalesce(bool_or(attgenerated = 'v'), false) AS virtual
             FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND attgenerated <> '') generated
     WHERE (leaf.relreplident = 'f' OR $3)
       AND (r.prattrs IS NOT NULL
            OR generated.virtual
            OR generated.stored AND coalesce(to_jsonb(p) ->> 'pubgencols', 's') <> 's')
     ORDER BY 1, 2, 3";
