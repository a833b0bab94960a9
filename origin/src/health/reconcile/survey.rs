//! One look at all tables that have shapes: did anything change that the replication stream does not tell?

use crate::postgres::PostgresError;
use crate::postgres::catalog::TYPES_BELOW;
use crate::postgres::obstacle::lacks_wal;
use crate::postgres::publication::{FIRST_USER_OID, carries};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// A table as the survey saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// `pg_class.oid`
    pub oid: u32,
    /// Its name, as SQL.
    pub name: String,
    /// Changes whenever the table's name, columns or key may have changed, or a type or collation that they use.
    pub version: String,
    /// Whether its changes are in the publication, all of them.
    pub is_published: bool,
    /// What of the publication names it, its partitions, or a table above it: another entry has missed changes.
    pub memberships: Vec<u32>,
    /// Of itself and its partitions, those that do not write old rows whole; as SQL.
    pub not_full: Vec<String>,
    /// Whether its rows, or those of a partition, are in no WAL.
    pub lacks_wal: bool,
    /// Its partitions, at any depth, with whether each was made as one, and so without rows.
    pub partitions: Vec<(u32, bool)>,
}

/// The catalog's rows change their `xmin` with every DDL, so that the versions of a table's rows are
/// a version of the table. A partition whose row type is as old as its place in the tree was created
/// there; one that was attached is older. Temporary children are left out: no other session sees their rows. Row filters and lists of columns are in columns that 14 does not
/// have, and are read through JSON.
fn query() -> String {
    format!(
        "WITH RECURSIVE tree (top, oid) AS (
         SELECT oid, oid FROM unnest($1::oid[]) given (oid)
          UNION
         SELECT top, i.inhrelid
           FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid JOIN pg_class k ON k.oid = i.inhrelid
          WHERE k.relpersistence <> 't')
    SELECT c.oid,
           concat_ws('.', n.nspname, c.relname, c.relkind,
                     (SELECT string_agg(concat_ws(':', attnum, xmin), ',' ORDER BY attnum)
                        FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0),
                     (SELECT string_agg(concat_ws(':', indexrelid, xmin), ',')
                        FROM pg_index WHERE indrelid = c.oid AND indisprimary),
                     {types}),
           (c.relkind = 'p' AND EXISTS (
                SELECT FROM (SELECT c.oid UNION SELECT relid FROM pg_partition_ancestors(c.oid)) above (oid)
                  JOIN pg_publication_rel r ON r.prrelid = above.oid
                  JOIN pg_publication p ON p.oid = r.prpubid
                 WHERE p.pubname = $2))
               OR coalesce((SELECT bool_and({carries}) FROM tree t JOIN pg_class l USING (oid) WHERE t.top = c.oid AND l.relkind = 'r'), false),
           ARRAY(SELECT format('%I.%I', m.nspname, l.relname)
                   FROM tree t JOIN pg_class l USING (oid) JOIN pg_namespace m ON m.oid = l.relnamespace
                  WHERE t.top = c.oid AND l.relkind = 'r' AND l.relreplident <> 'f' ORDER BY 1),
           ARRAY(SELECT t.oid FROM tree t WHERE t.top = c.oid AND t.oid <> c.oid ORDER BY 1),
           ARRAY(SELECT t.oid FROM tree t JOIN pg_inherits i ON i.inhrelid = t.oid JOIN pg_type y ON y.typrelid = t.oid
                  WHERE t.top = c.oid AND t.oid <> c.oid AND y.xmin = i.xmin),
           ARRAY(SELECT r.oid FROM {line} JOIN pg_publication_rel r ON r.prrelid = line.oid
                   JOIN pg_publication p ON p.oid = r.prpubid
                  WHERE p.pubname = $2),
           EXISTS (SELECT FROM {line} JOIN pg_publication_rel r ON r.prrelid = line.oid
                     JOIN pg_publication p ON p.oid = r.prpubid
                    WHERE p.pubname = $2 AND jsonb_strip_nulls(to_jsonb(r)) ?| ARRAY['prqual', 'prattrs']),
           EXISTS (SELECT FROM tree t JOIN pg_class l USING (oid) WHERE t.top = c.oid AND {lacks_wal}),
           format('%I.%I', n.nspname, c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = ANY ($1)",
        carries = carries("$2", "l"),
        lacks_wal = lacks_wal("l"),
        types = types_version("c"),
        line = "(SELECT relid FROM pg_partition_ancestors(c.oid) UNION
                           SELECT oid FROM tree WHERE top = c.oid) line (oid)"
    )
}

/// SQL for a version of all types and collations that the columns of a table use, at any depth: elements of arrays, the
/// types under domains, attributes of row types, ranges. Those that Postgres brings along do not change.
fn types_version(class: &str) -> String {
    format!(
        "(WITH RECURSIVE used (oid) AS (
               SELECT atttypid FROM pg_attribute
                WHERE attrelid = {class}.oid AND attnum > 0 AND NOT attisdropped AND atttypid >= {FIRST_USER_OID}
                UNION
               SELECT below.oid FROM used JOIN pg_type y ON y.oid = used.oid CROSS JOIN LATERAL {TYPES_BELOW} below (oid))
          SELECT concat_ws('.',
                 (SELECT string_agg(concat_ws(':', y.oid, y.xmin, s.nspname,
                         (SELECT string_agg(concat_ws(':', oid, xmin), '+' ORDER BY oid)
                            FROM pg_enum WHERE enumtypid = y.oid),
                         (SELECT string_agg(concat_ws(':', attnum, xmin), '+' ORDER BY attnum)
                            FROM pg_attribute WHERE attrelid = y.typrelid AND y.typrelid <> 0 AND attnum > 0),
                         (SELECT string_agg(concat_ws(':', oid, xmin), '+' ORDER BY oid)
                            FROM pg_constraint WHERE contypid = y.oid)), ',' ORDER BY y.oid)
                    FROM used JOIN pg_type y USING (oid) JOIN pg_namespace s ON s.oid = y.typnamespace),
                 (SELECT string_agg(concat_ws(':', a.attnum, o.xmin, s.nspname), ',' ORDER BY a.attnum)
                    FROM pg_attribute a JOIN pg_collation o ON o.oid = a.attcollation
                    JOIN pg_namespace s ON s.oid = o.collnamespace
                   WHERE a.attrelid = {class}.oid AND a.attnum > 0 AND NOT a.attisdropped
                     AND a.attcollation >= {FIRST_USER_OID})))"
    )
}

/// Looks at tables by oid; those that are gone are left out.
///
/// # Errors
/// Where the query fails.
pub async fn survey(
    client: &Client,
    oids: &[u32],
    publication: &str,
) -> Result<Vec<Surveyed>, PostgresError> {
    let rows = client.query_typed(&query(), &[(&oids, Type::OID_ARRAY), (&publication, Type::TEXT)]).await?;
    let surveyed = rows.iter().map(|row| {
        let (partitions, made): (Vec<u32>, Vec<u32>) = (row.try_get(4)?, row.try_get(5)?);
        Ok(Surveyed {
            oid: row.try_get(0)?,
            version: row.try_get(1)?,
            is_published: row.try_get::<_, bool>(2)? && !row.try_get::<_, bool>(7)?,
            memberships: row.try_get(6)?,
            not_full: row.try_get(3)?,
            lacks_wal: row.try_get(8)?,
            name: row.try_get(9)?,
            partitions: partitions.into_iter().map(|oid| (oid, made.contains(&oid))).collect(),
        })
    });
    surveyed.collect()
}
