//! The table whose rows a clause is about.

use crate::pg::{Column, QualifiedName, Relation};

/// The columns that a clause may name, and the table's name, by which it may qualify them.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The table's name; without one no column can be qualified.
    pub name: Option<&'a QualifiedName>,
    /// Its columns in table order, or those of them that the clause may see.
    pub columns: &'a [Column],
}

impl<'a> From<&'a Relation> for Subject<'a> {
    fn from(relation: &'a Relation) -> Self {
        Self { name: Some(&relation.name), columns: &relation.columns }
    }
}

impl<'a> From<&'a [Column]> for Subject<'a> {
    fn from(columns: &'a [Column]) -> Self {
        Self { name: None, columns }
    }
}

impl<'a> From<&'a Vec<Column>> for Subject<'a> {
    fn from(columns: &'a Vec<Column>) -> Self {
        Self { name: None, columns }
    }
}

/// The qualifiers that a column's name may carry: `table.column`, `schema.table.column`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Qualifier {
    /// Absent for an alias, which has no schema.
    schema: Option<String>,
    name: String,
}

impl Qualifier {
    /// In SQL an alias hides the table's own name.
    pub(crate) fn new(table: &QualifiedName, alias: Option<String>) -> Self {
        match alias {
            Some(name) => Self { schema: None, name },
            None => Self { schema: Some(table.schema.clone()), name: table.name.clone() },
        }
    }

    /// True where the qualifier `parts` names this table.
    pub(crate) fn matches(&self, parts: &[String]) -> bool {
        match parts {
            [] => true,
            [name] => *name == self.name,
            [schema, name] => self.schema.as_ref() == Some(schema) && *name == self.name,
            _ => false,
        }
    }
}
