//! The shapes that clients ask for, and, written down a second time, which rows belong to them.

use crate::postgres::{COLUMNS, Postgres, Row};
use limn_core::protocol::request::{DefinitionRequest, parse_shape_request};
use limn_core::protocol::route::Method;
use limn_core::shape::{Definition, GeneratedColumns};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A shape that somebody may ask for.
#[derive(Debug)]
pub struct Kind {
    /// Which table.
    pub table: usize,
    /// Which rows.
    pub holds: fn(&Row) -> bool,
    /// As core parsed it.
    pub request: DefinitionRequest,
    /// As core resolved it.
    pub definition: Definition,
}

/// A row as a client has it: the shown columns by name.
pub type ShownRow = BTreeMap<String, Option<String>>;

/// All kinds.
pub static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    vec![
        kind(0, "table=items", |_| true),
        kind(0, "table=items&where=n=3", |row| n(row) == Some(3)),
        kind(0, "table=items&where=n>3", |row| n(row) > Some(3)),
        kind(0, "table=items&columns=id,n", |_| true),
        kind(0, "table=items&where=n%20IS%20NULL&replica=full", |row| n(row).is_none()),
        kind(1, "table=others&replica=full", |_| true),
        kind(1, "table=others&where=note='a'", |row| row[2].as_deref() == Some("a")),
        kind(1, "table=others&where=n%20IN%20(1,2,3)%20AND%20id>2&columns=id,n", |row| {
            matches!(n(row), Some(1..=3))
                && row[0].as_ref().is_some_and(|id| id.parse::<u64>().is_ok_and(|id| id > 2))
        }),
    ]
});

impl Kind {
    /// The row as clients see it.
    #[must_use]
    pub fn shown(&self, row: &Row) -> ShownRow {
        let columns = &self.definition.projection.columns;
        columns.iter().map(|index| (COLUMNS[*index].0.to_owned(), row[*index].clone())).collect()
    }
}

fn kind(table: usize, query: &str, holds: fn(&Row) -> bool) -> Kind {
    let request = parse_shape_request(Method::Get, &format!("{query}&offset=-1"));
    let request = request.expect("the query is a shape's").definition;
    let definition = Definition::resolve(&request, &Postgres::relation(table), &GeneratedColumns::Never, &[]);
    Kind { table, holds, request, definition: definition.expect("the table has these columns") }
}

fn n(row: &Row) -> Option<i32> {
    row[1].as_ref().and_then(|n| n.parse().ok())
}
