//! The questions that a move asks, answered inside a snapshot as COPY gives it.
//!
//! The model knows no SQL. It knows the subqueries and the clauses of its shapes, and reads from a question which of
//! them it is about and which values it names: no other rows are in the answer.

use crate::postgres::{COLUMNS, Cell, Row, Tables};
use crate::shapes::{KINDS, Kind};
use limn_core::filter::Clause;

/// The answer to a question of `limn_core::shape::dependent`.
///
/// # Panics
/// If the question concerns no shape of the model.
#[must_use]
pub fn answer(question: &str, tables: &Tables) -> Vec<u8> {
    let mut answers = KINDS
        .iter()
        .filter_map(|kind| members(kind, question, tables).or_else(|| rows(kind, question, tables)));
    answers.next().unwrap_or_else(|| unreachable!("it is about no shape of the model: {question}"))
}

/// `SELECT DISTINCT * FROM (<subquery>) AS m(c0) WHERE <values>`
fn members(kind: &Kind, question: &str, tables: &Tables) -> Option<Vec<u8>> {
    let subqueries = kind.subqueries.iter().zip(kind.definition.subqueries());
    let mut found = subqueries.filter_map(|(subquery, dependency)| {
        let rest = question.strip_prefix(&format!("SELECT DISTINCT * FROM ({}) AS m(c0)", dependency.sql))?;
        Some((subquery, rest))
    });
    let (subquery, condition) = found.next()?;
    let named = condition.strip_prefix(" WHERE ").map(named);
    let is_named =
        |cell: &Cell| named.as_ref().is_none_or(|named| named.iter().any(|(_, value)| value == cell));
    let results = subquery.results(tables).into_iter().filter(is_named);
    Some(results.flat_map(|cell| line(&[cell])).collect())
}

/// `SELECT <columns> FROM <table> WHERE (<clause>) AND (<values>)`
fn rows(kind: &Kind, question: &str, tables: &Tables) -> Option<Vec<u8>> {
    let filter = kind.definition.filter.as_ref().and_then(Clause::subqueries)?;
    let (columns, rest) = question.strip_prefix("SELECT ")?.split_once(" FROM ")?;
    let clause = format!("{} WHERE ({}) AND ", kind.definition.relation.name, filter.sql());
    let named = named(rest.strip_prefix(&clause)?);
    let columns: Vec<usize> = columns.split(", ").map(column).collect();
    let is_named = |row: &&Row| named.iter().any(|(name, value)| row[column(name)] == *value);
    let rows = tables[kind.table].values().filter(|row| (kind.holds)(row, tables)).filter(is_named);
    let shown = |row: &Row| line(&columns.iter().map(|column| row[*column].clone()).collect::<Vec<_>>());
    Some(rows.flat_map(shown).collect())
}

/// The values of `((c0 IS NULL OR c0 = ANY ('{"1","2"}')))`, each with its column.
fn named(condition: &str) -> Vec<(&str, Cell)> {
    let mut named = Vec::new();
    for term in condition.split(" OR ").map(|term| term.trim_start_matches('(')) {
        if let Some((column, _)) = term.split_once(" IS NULL") {
            named.push((column, None));
        } else if let Some((column, list)) = term.split_once(" = ANY ('{") {
            let (list, _) = list.split_once("}'").expect("a list ends");
            named.extend(list.split(',').map(|value| (column, Some(value.trim_matches('"').to_owned()))));
        } else {
            unreachable!("the model does not understand `{term}`");
        }
    }
    named
}

fn column(name: &str) -> usize {
    let name = name.trim_matches('"');
    COLUMNS.iter().position(|(column, _)| *column == name).expect("a column of the tables")
}

/// A row as COPY writes it.
fn line(cells: &[Cell]) -> Vec<u8> {
    let text = |cell: &Cell| cell.as_ref().map_or("\\N".to_owned(), |text| text.replace('\\', "\\\\"));
    let mut line = cells.iter().map(text).collect::<Vec<_>>().join("\t");
    line.push('\n');
    line.into_bytes()
}
