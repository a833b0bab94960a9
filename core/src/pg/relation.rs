//! A relation and its columns, as the catalog describes them.

use super::typing::Typing;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A schema-qualified name, unquoted and case-exact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QualifiedName {
    /// The schema (`pg_namespace.nspname`).
    pub schema: String,
    /// The relation (`pg_class.relname`).
    pub name: String,
}

impl QualifiedName {
    /// A name from its two parts.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }
}

/// As SQL: both parts quoted.
impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

/// A table with its columns in `attnum` order (dropped columns left out).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// `pg_class.oid`
    pub oid: u32,
    /// Schema and name.
    pub name: QualifiedName,
    /// All live columns in `attnum` order, the order in which pgoutput sends them.
    pub columns: Vec<Column>,
    /// True where no two rows ever hold one key, not even inside a transaction: the primary key is NOT DEFERRABLE, and
    /// no other table's rows count as this one's but those of its partitions. What an older version stored does not say;
    /// it is read as false, which is right for every table.
    #[serde(default)]
    pub key_always_unique: bool,
    /// True where tables inherit from it that are no partitions: a row of such a child may have the key of another
    /// row, so that its own key on the wire names the child too.
    #[serde(default)]
    pub has_children: bool,
}

/// One column of a [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// `pg_attribute.attname`
    pub name: String,
    /// `pg_attribute.atttypid`: the array type's oid for arrays.
    pub type_oid: u32,
    /// `pg_type.typname` of the type, or of the element where the column is an array.
    pub type_name: String,
    /// The element type's oid where the column is an array, else equal to `type_oid`.
    pub element_oid: u32,
    /// `pg_attribute.attndims`: 0 for scalars.
    pub dims: u32,
    /// `pg_attribute.atttypmod`: -1 where the type has no modifier.
    pub type_mod: i32,
    /// `pg_attribute.attnotnull`
    pub not_null: bool,
    /// 0-based position inside the primary key, in index column order.
    pub pk_index: Option<u32>,
    /// `pg_attribute.attgenerated <> ''`
    pub generated: bool,
    /// `pg_attribute.attgenerated = 'v'`: generated when it is read, so that no version of Postgres sends it.
    #[serde(default)]
    pub is_virtual: bool,
    /// The type's kind, collation and parts.
    #[serde(default)]
    pub typing: Typing,
}

impl Column {
    /// A nullable column of a scalar type without a modifier, outside the primary key.
    #[must_use]
    pub fn new(name: impl Into<String>, type_oid: u32, type_name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            type_oid,
            type_name: type_name.into(),
            element_oid: type_oid,
            dims: 0,
            type_mod: -1,
            not_null: false,
            pk_index: None,
            generated: false,
            is_virtual: false,
            typing: Typing::default(),
        }
    }
}

impl Relation {
    /// A table whose keys are always unique and from which no other table inherits.
    #[must_use]
    pub const fn new(oid: u32, name: QualifiedName, columns: Vec<Column>) -> Self {
        Self { oid, name, columns, key_always_unique: true, has_children: false }
    }

    /// The position of a column by its exact name.
    #[must_use]
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Positions of the key columns, in key order: the primary key, or every column in table order
    /// where there is none (protocol §4.5).
    #[must_use]
    pub fn key_columns(&self) -> Vec<usize> {
        let mut key: Vec<(u32, usize)> =
            self.columns.iter().enumerate().filter_map(|(i, c)| Some((c.pk_index?, i))).collect();
        if key.is_empty() {
            return (0..self.columns.len()).collect();
        }
        key.sort_unstable();
        key.into_iter().map(|(_, index)| index).collect()
    }

    /// Where a row has the oid of the child that it is in, behind all columns; absent where there are no children. The
    /// table's own rows have NULL there.
    #[must_use]
    pub fn child_position(&self) -> Option<usize> {
        self.has_children.then_some(self.columns.len())
    }

    /// The select list of a query for these columns.
    #[must_use]
    pub fn select_list(&self, positions: &[usize]) -> String {
        let expression = |position: &usize| match self.columns.get(*position) {
            Some(column) => quote_identifier(&column.name),
            None => format!("NULLIF(tableoid, {})", self.oid),
        };
        positions.iter().map(expression).collect::<Vec<_>>().join(", ")
    }

    /// True where the table has a primary key.
    #[must_use]
    pub fn has_primary_key(&self) -> bool {
        self.columns.iter().any(|column| column.pk_index.is_some())
    }
}

/// An identifier as SQL: always in double quotes, inner quotes doubled.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string as an SQL literal that means the same whatever `standard_conforming_strings` says.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn column(name: &str, pk_index: Option<u32>) -> Column {
        Column { pk_index, ..Column::new(name, super::super::oid::TEXT, "text") }
    }

    #[test]
    fn key_follows_the_index_not_the_table() {
        let columns = vec![column("a", Some(1)), column("b", None), column("c", Some(0))];
        let mut relation = Relation::new(1, QualifiedName::new("public", "t"), columns);
        assert_eq!(relation.key_columns(), [2, 0]);
        relation.columns.iter_mut().for_each(|c| c.pk_index = None);
        assert_eq!(relation.key_columns(), [0, 1, 2]);
    }

    #[test]
    fn quoting_doubles_what_it_must() {
        assert_eq!(QualifiedName::new("s.x", "a\"b").to_string(), "\"s.x\".\"a\"\"b\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), "E'a\\\\''b'");
    }
}
