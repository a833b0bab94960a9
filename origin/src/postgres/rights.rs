//! Whether the server's role may read tables whole, and what to run where it may not.

use super::error::PostgresError;
use limn_core::pg::relation::quote_identifier;
use std::fmt;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

/// A table that the role may not read, or not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The table's oid.
    pub oid: u32,
    /// The table, quoted for SQL.
    table: String,
    /// Its schema, quoted for SQL.
    schema: String,
    /// The role, unquoted.
    role: String,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    /// No USAGE on the schema.
    Schema,
    /// No column of the table may be read.
    Table,
    /// These columns may not be read.
    Columns(Vec<String>),
    /// Row-level security would hide rows: from its owner, where that is forced, or from others.
    Policies { of_owner: bool },
}

impl Denial {
    /// Whether shapes can be served all the same: those that show other columns.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        matches!(self.reason, Reason::Columns(_))
    }

    /// Whether row-level security is the reason.
    #[must_use]
    pub const fn is_of_policies(&self) -> bool {
        matches!(self.reason, Reason::Policies { .. })
    }

    /// What mends it, as SQL.
    #[must_use]
    pub fn remedy(&self) -> String {
        let Self { table, schema, role, reason, .. } = self;
        let role = quote_identifier(role);
        match reason {
            Reason::Schema => format!("GRANT USAGE ON SCHEMA {schema} TO {role};"),
            Reason::Table => format!("GRANT SELECT ON {table} TO {role};"),
            Reason::Columns(columns) => format!("GRANT SELECT ({}) ON {table} TO {role};", list(columns)),
            Reason::Policies { .. } => format!("ALTER ROLE {role} BYPASSRLS;"),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self { table, schema, role, reason, .. }, run) = (self, self.remedy());
        match reason {
            Reason::Schema => write!(f, "the role `{role}` may not use the schema {schema}: run `{run}`"),
            Reason::Table => write!(f, "the role `{role}` may not read {table}: run `{run}`"),
            Reason::Columns(columns) => write!(
                f,
                "the role `{role}` may not read the columns {} of {table}: run `{run}`, or name the other columns \
                 in `columns`",
                list(columns)
            ),
            Reason::Policies { of_owner: false } => write!(
                f,
                "row-level security on {table} would hide rows from the role `{role}`, while the replication stream \
                 tells all of them: run `{run}`, or let a role connect that owns the table"
            ),
            Reason::Policies { of_owner: true } => write!(
                f,
                "row-level security on {table} is forced on its owner, the role `{role}`, while the replication \
                 stream tells all rows: run `{run}`, or `ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY;`"
            ),
        }
    }
}

fn list(columns: &[String]) -> String {
    columns.iter().map(|column| quote_identifier(column)).collect::<Vec<_>>().join(", ")
}

/// Asks the catalog only: no lock on a table is waited for.
const DENIALS: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), quote_ident(n.nspname), current_user::text,
           has_schema_privilege(n.oid, 'USAGE'), has_any_column_privilege(c.oid, 'SELECT'),
           ARRAY(SELECT a.attname::text FROM unnest($1::oid[], $2::text[]) wanted (oid, name)
                   JOIN pg_attribute a ON a.attrelid = wanted.oid AND a.attnum > 0
                        AND NOT a.attisdropped AND (wanted.name IS NULL OR a.attname = wanted.name)
                  WHERE wanted.oid = c.oid AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT')
                  ORDER BY a.attnum),
           row_security_active(c.oid), pg_has_role(c.relowner, 'USAGE'), c.oid
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = ANY ($1)
     ORDER BY array_position($1::oid[], c.oid)";

/// The tables of which the role may not read every row of these columns. Each column is given with its table's oid;
/// no name stands for all columns.
///
/// # Errors
/// Where the query fails.
pub async fn denials(client: &Client, columns: &[(u32, Option<&str>)]) -> Result<Vec<Denial>, PostgresError> {
    let (oids, names): (Vec<u32>, Vec<Option<&str>>) = columns.iter().copied().unzip();
    let rows = client.query_typed(DENIALS, &[(&oids, Type::OID_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    Ok(rows.iter().filter_map(|row| denial(row).transpose()).collect::<Result<_, _>>()?)
}

/// Which of these tables the role may read at least a column of, all rows of it.
///
/// # Errors
/// Where the query fails.
pub async fn readable(client: &Client, oids: &[u32]) -> Result<Vec<u32>, PostgresError> {
    let sql = "SELECT c.oid FROM pg_class c
                WHERE c.oid = ANY ($1) AND has_schema_privilege(c.relnamespace, 'USAGE')
                  AND has_any_column_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid)";
    let rows = client.query_typed(sql, &[(&oids, Type::OID_ARRAY)]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

fn denial(row: &Row) -> Result<Option<Denial>, tokio_postgres::Error> {
    let (has_schema, has_any_column): (bool, bool) = (row.try_get(3)?, row.try_get(4)?);
    let missing: Vec<String> = row.try_get(5)?;
    let (is_policed, is_owner): (bool, bool) = (row.try_get(6)?, row.try_get(7)?);
    let reason = match (has_schema, has_any_column) {
        (false, _) => Reason::Schema,
        (true, false) => Reason::Table,
        (true, true) if !missing.is_empty() => Reason::Columns(missing),
        (true, true) if is_policed => Reason::Policies { of_owner: is_owner },
        (true, true) => return Ok(None),
    };
    Ok(Some(Denial {
        oid: row.try_get(8)?,
        table: row.try_get(0)?,
        schema: row.try_get(1)?,
        role: row.try_get(2)?,
        reason,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_what_to_run() {
        let said = |reason| {
            let (table, schema, role) = ("public.t".to_owned(), "public".to_owned(), "Limn".to_owned());
            Denial { oid: 1, table, schema, role, reason }.to_string()
        };
        assert!(said(Reason::Schema).contains(r#"`GRANT USAGE ON SCHEMA public TO "Limn";`"#));
        assert!(said(Reason::Table).contains(r#"`GRANT SELECT ON public.t TO "Limn";`"#));
        let columns = said(Reason::Columns(vec!["a".to_owned(), "B".to_owned()]));
        assert!(columns.contains(r#"`GRANT SELECT ("a", "B") ON public.t TO "Limn";`"#), "{columns}");
        let bypass = r#"`ALTER ROLE "Limn" BYPASSRLS;`"#;
        assert!(said(Reason::Policies { of_owner: false }).contains(bypass));
        let forced = said(Reason::Policies { of_owner: true });
        assert!(
            forced.contains(bypass) && forced.contains("`ALTER TABLE public.t NO FORCE ROW LEVEL SECURITY;`")
        );
    }
}
