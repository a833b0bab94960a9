//! A clause at rest: of most shapes of a server nobody evaluates the clause, because an index finds the rows.

use super::{Filter, FilterError};
use crate::pg::Column;
use std::sync::Arc;

/// A clause as its canonical text. It takes a fraction of the memory of what was read from it, and is read again where a
/// row has to be judged by it.
#[derive(Debug, PartialEq, Eq)]
pub struct FilterText {
    sql: Box<str>,
    columns: Positions,
}

/// Positions of columns, sorted. Most clauses mention one.
#[derive(Debug, PartialEq, Eq)]
enum Positions {
    One([usize; 1]),
    Several(Box<[usize]>),
}

impl FilterText {
    pub(super) fn new(sql: &str, columns: Vec<usize>) -> Arc<Self> {
        let columns = match columns[..] {
            [one] => Positions::One([one]),
            _ => Positions::Several(columns.into()),
        };
        Arc::new(Self { sql: sql.into(), columns })
    }

    /// [`Filter::sql`]
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// [`Filter::columns`]
    #[must_use]
    pub fn columns(&self) -> &[usize] {
        match &self.columns {
            Positions::One(one) => one,
            Positions::Several(several) => several,
        }
    }

    /// The clause, read again. `columns` are those of the relation for which it was read at first.
    ///
    /// # Errors
    /// Where the columns are others.
    pub fn read(&self, columns: &[Column]) -> Result<Filter, FilterError> {
        Filter::restore(&self.sql, columns)
    }
}
