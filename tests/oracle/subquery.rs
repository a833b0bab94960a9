//! Random clauses with subqueries: nested, negated, of several columns, beside each other and beside plain conditions.

use crate::schema::{Column, Schema, index};
use crate::shape::clause;
use limn_tests::Random;

/// Types whose values are likely to meet in several tables.
const TYPES: [&str; 9] = ["int4", "text", "int8", "uuid", "date", "bool", "mood", "numeric", "timestamptz"];

/// Subqueries in subqueries.
const DEPTH: u64 = 2;

/// How often columns of one type are looked for before there are none.
const ATTEMPTS: u64 = 30;

/// A clause over table `outer`, and the tables that its subqueries read; `None` where no columns fit.
pub fn dependent_clause(schema: &Schema, outer: usize, random: &mut Random) -> Option<(String, Vec<usize>)> {
    let mut inner = Vec::new();
    let one = membership(schema, outer, DEPTH, &mut inner, random)?;
    let clause = match random.below(6) {
        0 | 1 => one,
        2 => format!("{one} AND {}", clause(&schema.tables[outer], 1, random)),
        3 => format!("({one} OR {})", clause(&schema.tables[outer], 1, random)),
        choice => {
            let two = membership(schema, outer, 0, &mut inner, random)?;
            let operator = if choice == 4 { "OR" } else { "AND" };
            format!("({one} {operator} {two})")
        }
    };
    Some((clause, inner))
}

/// `[NOT] IN`, of one column or two.
fn membership(
    schema: &Schema,
    outer: usize,
    depth: u64,
    inner: &mut Vec<usize>,
    random: &mut Random,
) -> Option<String> {
    let table = index(random, schema.tables.len());
    let (left, right) = pair(schema, outer, table, random)?;
    let (mut left, mut right) = (left.name.clone(), right.name.clone());
    if random.below(4) == 0
        && let Some(second) = pair(schema, outer, table, random)
        && second.0.name != left
        && second.1.name != right
    {
        (left, right) = (format!("({left}, {})", second.0.name), format!("{right}, {}", second.1.name));
    }
    inner.push(table);
    let condition = match random.below(4) {
        0 => String::new(),
        1 if depth > 0 => format!(" WHERE {}", membership(schema, table, depth - 1, inner, random)?),
        _ => format!(" WHERE {}", clause(&schema.tables[table], 1, random)),
    };
    let not = if random.below(3) == 0 { "NOT " } else { "" };
    Some(format!("{left} {not}IN (SELECT {right} FROM {}{condition})", schema.tables[table].name))
}

/// Columns of two tables that are of one type.
fn pair<'a>(
    schema: &'a Schema,
    outer: usize,
    inner: usize,
    random: &mut Random,
) -> Option<(&'a Column, &'a Column)> {
    let (outer, inner) = (&schema.tables[outer].columns, &schema.tables[inner].columns);
    (0..ATTEMPTS).find_map(|_| {
        let (left, right) = (random.choice(outer), random.choice(inner));
        let fits = left.kind.sql == right.kind.sql && TYPES.contains(&left.kind.sql);
        fits.then_some((left, right))
    })
}
