//! Generated columns: which of them the replication stream has.
//!
//! A column that it has not is NULL in every change, and a filter on it would lose rows. A shape that shows or asks for one
//! is refused.

use crate::pg::relation::quote_identifier;
use crate::pg::{Column, Relation};
use crate::protocol::RequestError;

/// Which generated columns the stream has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GeneratedColumns {
    /// None: Postgres sends them from version 18 on.
    Never,
    /// Those that are STORED.
    Stored,
    /// None: this publication leaves them out.
    LeftOut {
        /// Its name.
        publication: String,
    },
    /// It was asked when the shape was made.
    Checked,
}

impl GeneratedColumns {
    /// Whether the stream lacks a column.
    fn lacks(&self, column: &Column) -> bool {
        column.generated
            && match self {
                Self::Never | Self::LeftOut { .. } => true,
                Self::Stored => column.is_virtual,
                Self::Checked => false,
            }
    }

    /// Refuses to show columns that the stream lacks. `all`: nobody named them.
    pub(super) fn check_shown(
        &self,
        columns: &[usize],
        all: bool,
        relation: &Relation,
    ) -> Result<(), RequestError> {
        let hint = match all {
            true => {
                ". You can exclude them from the shape by explicitly listing which columns to fetch \
                 in the 'columns' query param"
            }
            false => "",
        };
        self.check("columns", "included in the shape", hint, columns, relation)
    }

    /// Refuses clauses that read columns which the stream lacks.
    pub(super) fn check_read(&self, columns: &[usize], relation: &Relation) -> Result<(), RequestError> {
        self.check("where", "used in a where clause", "", columns, relation)
    }

    fn check(
        &self,
        parameter: &'static str,
        verb: &str,
        hint: &str,
        columns: &[usize],
        relation: &Relation,
    ) -> Result<(), RequestError> {
        let columns = columns.iter().filter_map(|index| relation.columns.get(*index));
        let lacking: Vec<&Column> = columns.filter(|column| self.lacks(column)).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = lacking.iter().map(|column| column.name.as_str()).collect();
        let names = names.join(", ");
        let advice = self.advice(&lacking);
        let text = format!("The following columns are generated and cannot be {verb}: {names}{hint}{advice}");
        Err(RequestError::new(parameter, text))
    }

    /// Why the stream lacks the columns, and what would help.
    fn advice(&self, lacking: &[&Column]) -> String {
        match self {
            // The text before it is one that clients of Electric know.
            Self::Never | Self::Checked => String::new(),
            _ if lacking.iter().any(|column| column.is_virtual) => {
                ". Postgres computes a VIRTUAL column when it is read, and does not replicate it; make it STORED".to_owned()
            }
            Self::LeftOut { publication } => format!(
                ". The publication leaves them out; run: ALTER PUBLICATION {} SET (publish_generated_columns = stored)",
                quote_identifier(publication)
            ),
            Self::Stored => String::new(),
        }
    }
}
