//! One look at all tables that have shapes: did anything change that the replication stream does not tell?

use super::error::PostgresError;
use super::publication::carries;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// A table as the survey saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// `pg_class.oid`
    pub oid: u32,
    /// Changes whenever the table's name, columns or key may have changed.
    pub version: String,
    /// Whether its changes are in the publication, all of them.
    pub is_published: bool,
    /// What of the publication names it, its partitions, or a table above it: another entry has missed changes.
    pub memberships: Vec<u32>,
    /// Whether it, or a partition of it, does not write old rows whole.
    pub lacks_identity: bool,
    /// Its partitions, at any depth, with whether each was made as one, and so without rows.
    pub partitions: Vec<(u32, bool)>,
}

/// The catalog's rows change their `xmin` with every DDL, so that the versions of a table's rows are
/// a version of the table. A partition whose row type is as old as its place in the tree was created
/// there; one that was attached is older. Row filters and lists of columns are in columns that 14 does not
/// have, and are read through JSON.
fn query() -> String {
    format!(
        "WITH RECURSIVE tree (top, oid) AS (
         SELECT oid, oid FROM unnest($1::oid[]) given (oid)
          UNION
         SELECT top, i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid)
    SELECT c.oid,
           concat_ws('.', n.nspname, c.relname, c.relkind,
                     (SELECT string_agg(concat_ws(':', attnum, xmin), ',' ORDER BY attnum)
                        FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0),
                     (SELECT string_agg(concat_ws(':', indexrelid, xmin), ',')
                        FROM pg_index WHERE indrelid = c.oid AND indisprimary)),
           (c.relkind = 'p' AND EXISTS (
                SELECT FROM (SELECT c.oid UNION SELECT relid FROM pg_partition_ancestors(c.oid)) above (oid)
                  JOIN pg_publication_rel r ON r.prrelid = above.oid
                  JOIN pg_publication p ON p.oid = r.prpubid
                 WHERE p.pubname = $2))
               OR coalesce((SELECT bool_and({carries}) FROM tree t JOIN pg_class l USING (oid) WHERE t.top = c.oid AND l.relkind = 'r'), false),
           EXISTS (SELECT FROM tree t JOIN pg_class l USING (oid) WHERE t.top = c.oid AND l.relreplident <> 'f'),
           ARRAY(SELECT t.oid FROM tree t WHERE t.top = c.oid AND t.oid <> c.oid ORDER BY 1),
           ARRAY(SELECT t.oid FROM tree t JOIN pg_inherits i ON i.inhrelid = t.oid JOIN pg_type y ON y.typrelid = t.oid
                  WHERE t.top = c.oid AND t.oid <> c.oid AND y.xmin = i.xmin),
           ARRAY(SELECT r.oid FROM {line} JOIN pg_publication_rel r ON r.prrelid = line.oid
                   JOIN pg_publication p ON p.oid = r.prpubid
                  WHERE p.pubname = $2),
           EXISTS (SELECT FROM {line} JOIN pg_publication_rel r ON r.prrelid = line.oid
                     JOIN pg_publication p ON p.oid = r.prpubid
                    WHERE p.pubname = $2 AND jsonb_strip_nulls(to_jsonb(r)) ?| ARRAY['prqual', 'prattrs'])
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = ANY ($1)",
        carries = carries("$2", "l"),
        line = "(SELECT relid FROM pg_partition_ancestors(c.oid) UNION
                           SELECT oid FROM tree WHERE top = c.oid) line (oid)"
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
            lacks_identity: row.try_get(3)?,
            partitions: partitions.into_iter().map(|oid| (oid, made.contains(&oid))).collect(),
        })
    });
    surveyed.collect()
}
