//! Relations that no shape can follow: what is not a table, and tables whose rows are in no WAL.

use super::error::PostgresError;
use super::prepared::Prepared;
use super::publication::carries;
use limn_core::pg::QualifiedName;
use limn_core::pg::relation::quote_literal;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

/// Why a relation cannot be followed. `Display` gives the whole sentence for the person who asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} {reason}")]
pub struct Obstacle {
    name: QualifiedName,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error(
        "is a system catalog, and Postgres replicates none of these. Copy what you need into a table of your own"
    )]
    System,
    #[error(
        "is a view, and views have no changes of their own in the WAL. Ask for the table that it reads, with the view's condition as `where` and its columns as `columns`"
    )]
    View,
    #[error(
        "is a materialized view, and REFRESH is not replicated. Ask for the table that it reads, or keep its rows in an ordinary table"
    )]
    MaterializedView,
    #[error("is a sequence, not a table. Ask for the table whose column takes its values")]
    Sequence,
    #[error("is an index, not a table. Ask for its table {0}")]
    Index(String),
    #[error("is a composite type, not a table")]
    CompositeType,
    #[error("is a TOAST table, which belongs to another table and is replicated with it. Ask for that table")]
    Toast,
    #[error(
        "is a foreign table: its rows are on another server, and changes of them are not in this server's WAL. Sync it from the server that holds its rows"
    )]
    Foreign,
    #[error("is a temporary table: only the session that made it sees its rows. Create an ordinary table")]
    Temporary,
    #[error(
        "is an unlogged table: changes of its rows are not in the WAL, so clients would never learn of them. Run `ALTER TABLE {0} SET LOGGED;`"
    )]
    Unlogged(String),
    #[error(
        "is an unlogged partitioned table, and Postgres publishes none. Create it again without UNLOGGED, and attach its partitions there"
    )]
    UnloggedPartitioned,
    #[error("is a relation of kind `{0}`, not a table")]
    Other(String),
    #[error("cannot be followed: {0}")]
    Below(WithoutWal),
}

/// A partition, or a child by INHERITS, whose rows are in no WAL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}. Run `{}`", self.fact(), self.statements().join("` or `"))]
pub struct WithoutWal {
    name: String,
    parent: String,
    is_foreign: bool,
    is_partition: bool,
}

impl WithoutWal {
    /// The obstacle as a sentence, without the statement that mends it.
    #[must_use]
    pub fn fact(&self) -> String {
        let Self { name, .. } = self;
        format!(
            "its {} {name} is {}, so clients would never learn of changes of its rows",
            self.noun(),
            self.kind()
        )
    }

    const fn noun(&self) -> &'static str {
        if self.is_partition { "partition" } else { "child table" }
    }

    const fn kind(&self) -> &'static str {
        if self.is_foreign {
            "a foreign table, whose rows are not in this server's WAL"
        } else {
            "unlogged, and unlogged rows are not in the WAL"
        }
    }

    /// Each of these mends it.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        let Self { name, parent, .. } = self;
        let take_out = match self.is_partition {
            true => format!("ALTER TABLE {parent} DETACH PARTITION {name};"),
            false => format!("ALTER TABLE {name} NO INHERIT {parent};"),
        };
        match self.is_foreign {
            true => vec![take_out],
            false => vec![format!("ALTER TABLE {name} SET LOGGED;"), take_out],
        }
    }
}

/// SQL that is true of an alias of `pg_class` below a table where its rows are in no WAL. A partitioned table has none.
pub(crate) fn lacks_wal(class: &str) -> String {
    format!("({class}.relkind = 'f' OR {class}.relkind = 'r' AND {class}.relpersistence = 'u')")
}

fn query() -> String {
    format!(
        "WITH RECURSIVE named AS (
              SELECT c.*, n.nspname IN ('pg_catalog', 'information_schema') AS is_system
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = $1 AND c.relname = $2),
         tree (oid, parent) AS (
              SELECT oid, NULL::oid FROM named
               UNION
              SELECT i.inhrelid, i.inhparent
                FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid JOIN pg_class k ON k.oid = i.inhrelid
               WHERE k.relpersistence <> 't')
         SELECT c.relkind::text, c.relpersistence::text, c.is_system, i.indrelid::regclass::text,
                b.name, b.parent, b.is_foreign, b.relispartition
           FROM named c
           LEFT JOIN pg_index i ON i.indexrelid = c.oid
           LEFT JOIN LATERAL (
                SELECT format('%I.%I', ln.nspname, l.relname) AS name, l.relkind = 'f' AS is_foreign, l.relispartition,
                       format('%I.%I', pn.nspname, p.relname) AS parent
                  FROM tree t
                  JOIN pg_class l ON l.oid = t.oid JOIN pg_namespace ln ON ln.oid = l.relnamespace
                  JOIN pg_class p ON p.oid = t.parent JOIN pg_namespace pn ON pn.oid = p.relnamespace
                 WHERE {lacks_wal}
                 ORDER BY 1 LIMIT 1) b ON true",
        lacks_wal = lacks_wal("l")
    )
}

/// Why a relation of this name cannot be followed; `None` where it can, and where there is none.
///
/// # Errors
/// Where the query fails.
pub async fn find(client: &Client, name: &QualifiedName) -> Result<Option<Obstacle>, PostgresError> {
    obstacle(
        &client.query_typed(&query(), &[(&name.schema, Type::TEXT), (&name.name, Type::TEXT)]).await?,
        name,
    )
}

/// The same inside a transaction, where the session may keep the plan.
///
/// # Errors
/// Where a statement fails.
pub async fn find_prepared(client: &Client, name: &QualifiedName) -> Result<Option<Obstacle>, PostgresError> {
    let values = format!("{}, {}", quote_literal(&name.schema), quote_literal(&name.name));
    obstacle(&Prepared { sql: &query(), types: "text, text" }.rows(client, &values).await?, name)
}

fn obstacle(rows: &[Row], name: &QualifiedName) -> Result<Option<Obstacle>, PostgresError> {
    let Some(row) = rows.first() else { return Ok(None) };
    let obstacle = |reason| Obstacle { name: name.clone(), reason };
    Ok(reason(row, name)?.map(obstacle))
}

fn reason(row: &Row, name: &QualifiedName) -> Result<Option<Reason>, PostgresError> {
    let (kind, persistence): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
    if row.try_get(2)? {
        return Ok(Some(Reason::System));
    }
    Ok(Some(match (kind, persistence) {
        ("v", _) => Reason::View,
        ("m", _) => Reason::MaterializedView,
        ("S", _) => Reason::Sequence,
        ("i" | "I", _) => Reason::Index(row.try_get::<_, Option<String>>(3)?.unwrap_or_default()),
        ("c", _) => Reason::CompositeType,
        ("t", _) => Reason::Toast,
        ("f", _) => Reason::Foreign,
        ("r" | "p", "t") => Reason::Temporary,
        ("r", "u") => Reason::Unlogged(name.to_string()),
        ("p", "u") => Reason::UnloggedPartitioned,
        ("r" | "p", _) => return Ok(below(row)?.map(Reason::Below)),
        (other, _) => Reason::Other(other.to_owned()),
    }))
}

fn below(row: &Row) -> Result<Option<WithoutWal>, PostgresError> {
    let Some(name) = row.try_get(4)? else { return Ok(None) };
    Ok(Some(WithoutWal {
        name,
        parent: row.try_get(5)?,
        is_foreign: row.try_get(6)?,
        is_partition: row.try_get(7)?,
    }))
}

/// Partitions and children whose rows are in no WAL, each once, with a table above that is in the publication or among
/// `oids`.
///
/// # Errors
/// Where the query fails.
pub async fn below_tables(
    client: &Client,
    publication: &str,
    oids: &[u32],
) -> Result<Vec<(String, WithoutWal)>, PostgresError> {
    let sql = format!(
        "WITH RECURSIVE tree (oid, parent, top) AS (
              SELECT c.oid, NULL::oid, c.oid FROM pg_class c
               WHERE c.relkind IN ('r', 'p') AND (c.oid = ANY ($2) OR {carries})
               UNION
              SELECT i.inhrelid, i.inhparent, tree.top
                FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid JOIN pg_class k ON k.oid = i.inhrelid
               WHERE k.relpersistence <> 't')
         SELECT DISTINCT ON (t.oid) format('%I.%I', an.nspname, a.relname), NULL, NULL, NULL,
                format('%I.%I', ln.nspname, l.relname), format('%I.%I', pn.nspname, p.relname),
                l.relkind = 'f', l.relispartition
           FROM tree t
           JOIN pg_class l ON l.oid = t.oid JOIN pg_namespace ln ON ln.oid = l.relnamespace
           JOIN pg_class p ON p.oid = t.parent JOIN pg_namespace pn ON pn.oid = p.relnamespace
           JOIN pg_class a ON a.oid = t.top JOIN pg_namespace an ON an.oid = a.relnamespace
          WHERE {lacks_wal} ORDER BY t.oid, t.top",
        carries = carries("$1", "c"),
        lacks_wal = lacks_wal("l")
    );
    let rows = client.query_typed(&sql, &[(&publication, Type::TEXT), (&oids, Type::OID_ARRAY)]).await?;
    let mut found = Vec::new();
    for row in &rows {
        let top = row.try_get(0)?;
        found.extend(below(row)?.map(|below| (top, below)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_the_table_and_the_statement() {
        let unlogged =
            WithoutWal { name: "s.c".into(), parent: "s.t".into(), is_foreign: false, is_partition: true };
        let obstacle =
            Obstacle { name: QualifiedName::new("s", "t"), reason: Reason::Below(unlogged.clone()) };
        assert_eq!(
            obstacle.to_string(),
            "\"s\".\"t\" cannot be followed: its partition s.c is unlogged, and unlogged rows are not in the WAL, \
             so clients would never learn of changes of its rows. Run `ALTER TABLE s.c SET LOGGED;` or \
             `ALTER TABLE s.t DETACH PARTITION s.c;`"
        );
        let foreign = WithoutWal { is_foreign: true, is_partition: false, ..unlogged };
        assert!(foreign.to_string().ends_with("Run `ALTER TABLE s.c NO INHERIT s.t;`"), "{foreign}");
    }
}
