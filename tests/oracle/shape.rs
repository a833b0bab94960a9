//! Random shapes: what the server is asked for, and the SQL that says what it must show.

use crate::schema::{Column, Identity, Schema, Table, index};
use crate::subquery::dependent_clause;
use limn_tests::{Random, encode};

/// One shape.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Parameters of the request.
    pub query: String,
    /// The same in SQL.
    pub sql: String,
    /// The tables that decide what it shows, its own first.
    pub tables: Vec<usize>,
    /// Whether it shows a partition: what is written elsewhere in the table says nothing about it.
    pub is_partition: bool,
    /// Whether the table has children by INHERITS.
    pub has_children: bool,
    /// Whether messages have tags, and events move rows.
    pub has_subquery: bool,
}

/// The chance of a clause; the others show whole tables.
const CLAUSES_OF_10: u64 = 8;

/// The chance of a subquery.
const SUBQUERIES_ONE_OF: u64 = 4;

/// Levels of AND, OR and NOT.
const DEPTH: u64 = 3;

impl Shape {
    /// A shape of any table but the big one.
    pub fn random(schema: &Schema, random: &mut Random) -> Self {
        let small: Vec<usize> = (0..schema.tables.len()).filter(|&t| !schema.tables[t].is_big).collect();
        Self::of(schema, *random.choice(&small), random)
    }

    /// A shape of one table.
    pub fn of(schema: &Schema, number: usize, random: &mut Random) -> Self {
        let table = &schema.tables[number];
        if !table.is_big
            && random.below(SUBQUERIES_ONE_OF) == 0
            && let Some((clause, inner)) = dependent_clause(schema, number, random)
        {
            let tables = std::iter::once(number).chain(inner).collect();
            return Self::assemble(table, tables, Some((&clause, &clause)), "", random);
        }
        let mut clause = (random.below(10) < CLAUSES_OF_10).then(|| clause(table, DEPTH, random));
        let mut parameters = String::new();
        let in_sql = clause.clone();
        if random.below(3) == 0 {
            clause = clause.map(|text| with_parameters(&text, &mut parameters));
        }
        Self::assemble(table, vec![number], clause.as_deref().zip(in_sql.as_deref()), &parameters, random)
    }

    /// From a clause as it is asked for and as SQL.
    pub fn assemble(
        table: &Table,
        tables: Vec<usize>,
        clause: Option<(&str, &str)>,
        parameters: &str,
        random: &mut Random,
    ) -> Self {
        // Without a key, all columns are it, also those that are added.
        let has_key = table.identity == Identity::Key;
        let columns = (has_key && random.below(3) == 0).then(|| some_columns(table, random));
        let source = match table.partitions.as_slice() {
            [] => &table.name,
            partitions if random.below(4) == 0 => random.choice(partitions),
            _ => &table.name,
        };
        let mut query = format!("table={}", encode(source));
        if let Some(columns) = &columns {
            query += &format!("&columns={}", encode(columns));
        }
        if random.below(3) == 0 {
            query += "&replica=full";
        }
        if let Some((asked, _)) = &clause {
            query += &format!("&where={}{parameters}", encode(asked));
        }
        let selected = columns.as_deref().unwrap_or("*");
        let condition = clause.as_ref().map_or("true", |(_, sql)| sql);
        let sql = format!("SELECT {selected} FROM {source} WHERE {condition}");
        let (is_partition, has_subquery) = (*source != table.name, tables.len() > 1);
        let has_children = !table.children.is_empty();
        Self { query, sql, tables, is_partition, has_children, has_subquery }
    }
}

/// A clause over the columns of `table`.
pub fn clause(table: &Table, depth: u64, random: &mut Random) -> String {
    if depth > 0 && random.below(2) == 0 {
        let one = clause(table, depth - 1, random);
        let two = clause(table, depth - 1, random);
        return match random.below(5) {
            0 => format!("NOT ({one})"),
            1 | 2 => format!("({one} AND {two})"),
            _ => format!("({one} OR {two})"),
        };
    }
    let column = random.choice(&table.columns);
    column.kind.condition(&column.name, column.is_key, random)
}

/// Puts `$1` and so on in the place of some of the clause's quoted constants.
fn with_parameters(clause: &str, parameters: &mut String) -> String {
    let mut text = String::new();
    let mut rest = clause;
    let mut number = 0;
    while let Some(start) = rest.find("= '") {
        let (before, after) = rest.split_at(start + 2);
        let Some(length) = literal_length(after) else { break };
        let value = after[1..length - 1].replace("''", "'");
        number += 1;
        *parameters += &format!("&params[{number}]={}", encode(&value));
        text += &format!("{before}${number}");
        rest = &after[length..];
    }
    text + rest
}

/// The length of the quoted constant at the beginning of `text`.
fn literal_length(text: &str) -> Option<usize> {
    let mut at = 1;
    loop {
        at += text[at..].find('\'')? + 1;
        if !text[at..].starts_with('\'') {
            return Some(at);
        }
        at += 1;
    }
}

/// The key and some more columns, in any order.
fn some_columns(table: &Table, random: &mut Random) -> String {
    let mut chosen: Vec<&str> = Vec::new();
    for Column { name, is_key, .. } in &table.columns {
        if *is_key || random.below(2) == 0 {
            chosen.insert(index(random, chosen.len() + 1), name);
        }
    }
    chosen.join(",")
}
