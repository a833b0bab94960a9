//! Every recorded clause with its rows: canonical text and core's evaluation must both give them. What core
//! refuses although Postgres gives rows is listed by name.

use crate::table::Table;
use limn_core::filter::Filter;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const CLAUSES: &str = include_str!("../../fixtures/where.jsonl");
/// `postgres: clause` for what the origin asks Postgres to evaluate, `never: clause` for what no shape can have.
const REFUSED: &str = include_str!("../../fixtures/where-refused.txt");

/// Clauses whose recorded answer another setting, or another version's grammar, gave.
const RECORDED_OTHERWISE: [&str; 4] = [
    // Recorded with `IntervalStyle = postgres`.
    "iv::text = '1 day'",
    "iv::text = 'P1D'",
    // Numbers that Postgres reads since version 16.
    "i4 = 0x0A",
    "i4 = 1_0",
];

struct Recorded {
    clause: String,
    params: BTreeMap<u32, String>,
    /// `None` where Postgres answered with an error.
    ids: Option<Vec<i64>>,
}

enum Outcome {
    Agrees,
    Refused(String),
    Differs(String),
}

fn recorded(line: &str) -> Recorded {
    let line: Value = serde_json::from_str(line).expect("a line of JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let params = line["params"].as_object().into_iter().flatten();
    Recorded {
        clause: text(&line["where"]),
        params: params.map(|(n, value)| (n.parse().expect("a number"), text(value))).collect(),
        ids: line["ids"].as_array().map(|ids| ids.iter().filter_map(Value::as_i64).collect()),
    }
}

async fn judge(table: &Table, recorded: &Recorded) -> Outcome {
    let parsed = Filter::parse(&recorded.clause, &recorded.params, &table.relation.columns);
    let filter = match (parsed, &recorded.ids) {
        (Err(_), None) => return Outcome::Agrees,
        (Err(error), Some(_)) => {
            let way = if error.needs_postgres() { "postgres" } else { "never" };
            return Outcome::Refused(format!("{way}: {}", recorded.clause));
        }
        (Ok(filter), _) => filter,
    };
    let selected = table.select(filter.sql()).await;
    let otherwise = RECORDED_OTHERWISE.contains(&recorded.clause.as_str());
    let expected = match (&recorded.ids, selected) {
        (Some(ids), Ok(selected)) if *ids == selected || otherwise => selected,
        (None, Err(_)) => return Outcome::Agrees,
        (None, Ok(selected)) if otherwise => selected,
        (ids, selected) => {
            return Outcome::Differs(format!("recorded {ids:?}, {} gives {selected:?}", filter.sql()));
        }
    };
    let again = Filter::restore(filter.sql(), &table.relation.columns);
    if again.as_ref() != Ok(&filter) {
        let again = again.map(|filter| filter.sql().to_owned());
        return Outcome::Differs(format!("{} is read back as {again:?}", filter.sql()));
    }
    let mut inside = Vec::new();
    for (row, truth) in table.rows.iter().zip(table.evaluate(&filter)) {
        match truth {
            Ok(Some(true)) => inside.push(row.id()),
            Ok(_) => {}
            Err(error) => return Outcome::Differs(format!("row {}: {error}", row.id())),
        }
    }
    if inside == expected {
        Outcome::Agrees
    } else {
        Outcome::Differs(format!("{expected:?}, core {inside:?}"))
    }
}

#[tokio::test]
async fn recorded_clauses_give_their_rows() {
    let mut lines = CLAUSES.lines();
    let setup: Value = serde_json::from_str(lines.next().expect("the fixture")).expect("JSON");
    let setup: Vec<String> = setup["setup"]
        .as_array()
        .expect("statements")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let table = Table::create(&setup, "w").await;
    let (mut agree, mut refused, mut differ) = (0, BTreeSet::new(), Vec::new());
    for line in lines {
        let recorded = recorded(line);
        match judge(&table, &recorded).await {
            Outcome::Agrees => agree += 1,
            Outcome::Refused(clause) => {
                refused.insert(clause);
            }
            Outcome::Differs(how) => differ.push(format!("{}\n    {how}", recorded.clause)),
        }
    }
    println!("{agree} agree, {} refused, {} differ", refused.len(), differ.len());
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    let known: BTreeSet<String> = REFUSED.lines().map(str::to_owned).collect();
    let new: Vec<&String> = refused.difference(&known).collect();
    let gone: Vec<&String> = known.difference(&refused).collect();
    assert!(new.is_empty() && gone.is_empty(), "newly refused: {new:#?}\nno longer refused: {gone:#?}");
}
