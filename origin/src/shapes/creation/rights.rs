//! Whether the server's role may read all that a shape shows.

use super::catalog::{Catalog, LookupError, unreachable};
use crate::postgres::PostgresError;
use crate::postgres::rights::{self, Denial};
use limn_core::protocol::reply::Unavailable;
use limn_core::shape::Definition;

/// When a client may ask again: somebody has to grant something first.
const RETRY_S: u64 = 10;

impl Catalog {
    /// Checks that the role may read the tables of a definition whole: a snapshot that lacks rows which the stream
    /// tells would be silently wrong.
    ///
    /// # Errors
    /// [`LookupError::Unavailable`] with what to grant.
    pub async fn check_rights(&self, definition: &Definition) -> Result<(), LookupError> {
        match self.denial(definition).await.map_err(|error| unreachable(&error))? {
            None => Ok(()),
            Some(denial) => {
                let text = format!("Unable to create initial snapshot: {denial}");
                Err(LookupError::Unavailable(Unavailable { known: true, ..Unavailable::new(text, RETRY_S) }))
            }
        }
    }

    /// The reason why the role cannot read a definition's tables, and the statement to run; `None` where it can.
    ///
    /// # Errors
    /// Where the catalog cannot be asked.
    pub async fn denial(&self, definition: &Definition) -> Result<Option<Denial>, PostgresError> {
        let read = definition.columns_read();
        let columns: Vec<(u32, Option<&str>)> =
            read.iter().map(|(relation, column)| (relation.oid, Some(column.name.as_str()))).collect();
        Ok(rights::denials(&*self.session().await?, &columns).await?.into_iter().next())
    }

    /// The same for a subset, whose own clause and order may read any column of the table.
    ///
    /// # Errors
    /// Where the catalog cannot be asked.
    pub async fn subset_denial(&self, definition: &Definition) -> Result<Option<Denial>, PostgresError> {
        if let Some(denial) = self.denial(definition).await? {
            return Ok(Some(denial));
        }
        let all = [(definition.relation.oid, None)];
        Ok(rights::denials(&*self.session().await?, &all).await?.into_iter().next())
    }
}
