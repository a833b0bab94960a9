//! `limn types`: TypeScript types for tables, from the database.

use crate::postgres::{PostgresConfig, Session, catalog, obstacle};
use anyhow::{Context, Result, bail};
use clap::Args;
use limn_core::protocol::identifier::parse_table;
use limn_core::shape::typescript::row_type;

/// Options of `limn types`.
#[derive(Debug, Clone, Args)]
pub struct TypesOptions {
    /// Postgres to ask
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: String,

    /// Table to declare, spelled as in a shape's `table`; may be given several times
    #[arg(long = "table", required = true, value_name = "TABLE")]
    pub tables: Vec<String>,
}

/// The declarations, in the order given.
///
/// # Errors
/// Where a table does not exist, or Postgres cannot be asked.
pub async fn declare(options: &TypesOptions) -> Result<String> {
    let config = PostgresConfig::parse(&options.database_url, None, false).context("invalid DATABASE_URL")?;
    let session = Session::connect(&config).await?;
    let mut text = String::new();
    for table in &options.tables {
        let name = parse_table(table).map_err(anyhow::Error::msg)?;
        if let Some(obstacle) = obstacle::find(&session, &name).await? {
            bail!("{obstacle}");
        }
        let described = catalog::describe(&session, &name).await?;
        let described = described.with_context(|| {
            format!("table {name} does not exist; quote names with capitals: --table '\"Name\"'")
        })?;
        text.push_str(&row_type(&described.relation));
    }
    Ok(text)
}
