//! The shapes that clients ask for, and, written down a second time, which rows belong to them.

use crate::postgres::{COLUMNS, Cell, Postgres, Row, TABLES, Tables};
use limn_core::protocol::request::{DefinitionRequest, parse_shape_request};
use limn_core::protocol::route::Method;
use limn_core::shape::dependent::{Member, View};
use limn_core::shape::{Definition, GeneratedColumns};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// A shape that somebody may ask for.
#[derive(Debug)]
pub struct Kind {
    /// Its place among [`KINDS`].
    pub number: u64,
    /// Which table.
    pub table: usize,
    /// Which of its rows, where the tables hold these.
    pub holds: fn(&Row, &Tables) -> bool,
    /// The subqueries of its clause, in their order.
    pub subqueries: &'static [Subquery],
    /// As core parsed it.
    pub request: DefinitionRequest,
    /// As core resolved it.
    pub definition: Definition,
}

/// A subquery that returns one column.
#[derive(Debug)]
pub struct Subquery {
    table: usize,
    column: usize,
    holds: fn(&Row, &Tables) -> bool,
}

/// A row as a client has it: the shown columns by name.
pub type ShownRow = BTreeMap<String, Cell>;

/// The positions of the columns.
const ID: usize = 0;
const N: usize = 1;
const NOTE: usize = 2;

const NOTED_OTHERS: Subquery =
    Subquery { table: 1, column: ID, holds: |row, _| row[NOTE].as_deref() == Some("a") };
const HIGH_ITEMS: Subquery = Subquery { table: 0, column: ID, holds: |row, _| n(row) > Some(3) };
const NUMBERS_OF_OTHERS: Subquery = Subquery { table: 1, column: N, holds: |_, _| true };
const NUMBERS_OF_ITEMS: Subquery = Subquery { table: 0, column: N, holds: |_, _| true };
const NOTED_ITEMS: Subquery =
    Subquery { table: 0, column: ID, holds: |row, _| row[NOTE].as_deref() == Some("a") };
const OTHERS_OF_NOTED_ITEMS: Subquery =
    Subquery { table: 1, column: ID, holds: |row, tables| NOTED_ITEMS.returns(&row[N], tables) };

/// All kinds.
pub static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let mut kinds = vec![
        kind(0, "table=items", |_, _| true, &[]),
        kind(0, "table=items&where=n=3", |row, _| n(row) == Some(3), &[]),
        kind(0, "table=items&where=n>3", |row, _| n(row) > Some(3), &[]),
        kind(0, "table=items&columns=id,n", |_, _| true, &[]),
        kind(0, "table=items&where=n IS NULL&replica=full", |row, _| n(row).is_none(), &[]),
        kind(1, "table=others&replica=full", |_, _| true, &[]),
        kind(1, "table=others&where=note='a'", |row, _| row[NOTE].as_deref() == Some("a"), &[]),
        kind(
            1,
            "table=others&where=n IN (1,2,3) AND id>2&columns=id,n",
            |row, _| {
                matches!(n(row), Some(1..=3))
                    && row[ID].as_ref().is_some_and(|id| id.parse::<u64>().is_ok_and(|id| id > 2))
            },
            &[],
        ),
        kind(
            0,
            "table=items&where=n IN (SELECT id FROM others WHERE note='a')",
            |row, tables| NOTED_OTHERS.returns(&row[N], tables),
            &[NOTED_OTHERS],
        ),
        kind(
            1,
            "table=others&where=n NOT IN (SELECT id FROM items WHERE n>3)&replica=full",
            |row, tables| {
                let is_empty = HIGH_ITEMS.results(tables).is_empty();
                is_empty || row[N].is_some() && !HIGH_ITEMS.returns(&row[N], tables)
            },
            &[HIGH_ITEMS],
        ),
        kind(
            0,
            "table=items&where=n IN (SELECT n FROM others) OR note='a'&columns=id,note",
            |row, tables| NUMBERS_OF_OTHERS.returns(&row[N], tables) || row[NOTE].as_deref() == Some("a"),
            &[NUMBERS_OF_OTHERS],
        ),
        kind(
            0,
            "table=items&where=n IN (SELECT id FROM others WHERE n IN (SELECT id FROM items WHERE note='a'))",
            |row, tables| OTHERS_OF_NOTED_ITEMS.returns(&row[N], tables),
            &[OTHERS_OF_NOTED_ITEMS],
        ),
        kind(
            0,
            "table=items&where=id IN (SELECT n FROM items)",
            |row, tables| NUMBERS_OF_ITEMS.returns(&row[ID], tables),
            &[NUMBERS_OF_ITEMS],
        ),
    ];
    (0..).zip(&mut kinds).for_each(|(number, kind)| kind.number = number);
    kinds
});

impl Kind {
    /// The row as clients see it.
    #[must_use]
    pub fn shown(&self, row: &Row) -> ShownRow {
        let columns = &self.definition.projection.columns;
        columns.iter().map(|index| (COLUMNS[*index].0.to_owned(), row[*index].clone())).collect()
    }

    /// Its rows.
    #[must_use]
    pub fn rows(&self, tables: &Tables) -> Vec<Row> {
        tables[self.table].values().filter(|row| (self.holds)(row, tables)).cloned().collect()
    }

    /// The results of its subqueries.
    #[must_use]
    pub fn views(&self, tables: &Tables) -> Vec<View> {
        let view = |subquery: &Subquery| {
            let results = subquery.results(tables);
            results.iter().map(|cell| Member::new([cell.as_deref().map(str::as_bytes)])).collect()
        };
        self.subqueries.iter().map(view).collect()
    }

    /// True where it reads this table, itself or in a subquery.
    #[must_use]
    pub fn reads(&self, table: usize) -> bool {
        self.definition.relations().iter().any(|relation| relation.oid == TABLES[table])
    }
}

impl Subquery {
    /// Its results, each once.
    #[must_use]
    pub fn results(&self, tables: &Tables) -> BTreeSet<Cell> {
        let rows = tables[self.table].values().filter(|row| (self.holds)(row, tables));
        rows.map(|row| row[self.column].clone()).collect()
    }

    /// True where a value is among its results. SQL leaves open whether NULL is.
    fn returns(&self, cell: &Cell, tables: &Tables) -> bool {
        cell.is_some() && self.results(tables).contains(cell)
    }
}

fn kind(
    table: usize,
    query: &str,
    holds: fn(&Row, &Tables) -> bool,
    subqueries: &'static [Subquery],
) -> Kind {
    let query = format!("{query}&offset=-1").replace(' ', "%20");
    let request = parse_shape_request(Method::Get, &query).expect("the query is a shape's").definition;
    let inner = [Postgres::relation(0), Postgres::relation(1)];
    let relation = &inner[table];
    let definition = Definition::resolve(&request, relation, &GeneratedColumns::Never, &inner);
    let definition = definition.expect("the tables have these columns");
    Kind { number: 0, table, holds, subqueries, request, definition }
}

fn n(row: &Row) -> Option<i32> {
    row[N].as_ref().and_then(|n| n.parse().ok())
}
