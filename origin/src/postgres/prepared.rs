//! Questions to the catalog whose plan a session keeps: planning takes Postgres several times as long as answering.

use super::catalog::one_row;
use super::error::PostgresError;
use limn_core::pg::relation::quote_literal;
use tokio_postgres::{Client, Row};
use xxhash_rust::xxh3::xxh3_64;

/// A query with parameters.
pub(super) struct Prepared<'a> {
    /// With `$1` and so on.
    pub sql: &'a str,
    /// The types of the parameters, as SQL.
    pub types: &'a str,
}

impl Prepared<'_> {
    /// Runs the query. To be called inside a transaction: a pooler may give the next one another server session, which
    /// has other statements.
    ///
    /// `values` are the parameters, as SQL.
    ///
    /// # Errors
    /// Where a statement fails.
    pub(super) async fn rows(&self, client: &Client, values: &str) -> Result<Vec<Row>, PostgresError> {
        let Self { sql, types } = self;
        // Of another version of this program the statement may be another one.
        let name = format!("limn_{:016x}", xxh3_64(sql.as_bytes()));
        let known = format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE name = {})",
            quote_literal(&name)
        );
        if !one_row(client, &known).await?.try_get::<_, bool>(0)? {
            client.batch_execute(&format!("PREPARE {name} ({types}) AS {sql}")).await?;
        }
        Ok(client.query_typed(&format!("EXECUTE {name} ({values})"), &[]).await?)
    }
}
