//! Every recorded clause with its rows: canonical text and core's evaluation must both give them, or Postgres's
//! evaluation of the rows' texts where core cannot. Those clauses, and what is refused although Postgres gives
//! rows, are listed by name.

use crate::table::Table;
use limn_core::filter::{Clause, Filter, FilterError, PostgresFilter};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const CLAUSES: &str = include_str!("../../fixtures/where.jsonl");
/// `postgres: clause` for what only Postgres evaluates, `never: clause` for what no shape can have.
const BEYOND_CORE: &str = include_str!("../../fixtures/where-beyond-core.txt");

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
    /// As it is listed.
    BeyondCore(String),
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
    let filter = match (parse(table, recorded), &recorded.ids) {
        (Err(_), None) => return Outcome::Agrees,
        (Err(_), Some(_)) => return Outcome::BeyondCore(format!("never: {}", recorded.clause)),
        (Ok(Clause::Postgres(filter)), _) => return judge_in_postgres(table, recorded, &filter).await,
        (Ok(Clause::Subqueries(_) | Clause::AtRest(_)), _) => {
            return Outcome::Differs("no clause has a subquery, and none is at rest".to_owned());
        }
        (Ok(Clause::Plain(filter)), _) => filter,
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
    if inside != expected {
        return Outcome::Differs(format!("{expected:?}, core {inside:?}"));
    }
    // Postgres must judge alike what it need not judge.
    let written = PostgresFilter::parse(&recorded.clause, &recorded.params, &table.relation.columns);
    let written = written.unwrap_or_else(|error| unreachable!("{}: {error}", recorded.clause));
    let (selected, judged) = (table.select(written.sql()).await, table.judge(&written).await);
    if selected.as_ref() == Ok(&expected) && judged.as_ref() == Ok(&expected) {
        Outcome::Agrees
    } else {
        Outcome::Differs(format!("{expected:?}, {} gives {selected:?}, batch {judged:?}", written.sql()))
    }
}

fn parse(table: &Table, recorded: &Recorded) -> Result<Clause, FilterError> {
    Clause::parse(&recorded.clause, &recorded.params, &table.relation.columns, &[])
}

/// Canonical text and batch must give the recorded rows, once Postgres has confirmed the clause.
async fn judge_in_postgres(table: &Table, recorded: &Recorded, filter: &PostgresFilter) -> Outcome {
    if let Err(refusal) = table.confirm(filter).await {
        return match &recorded.ids {
            None => Outcome::Agrees,
            Some(_) => Outcome::BeyondCore(format!("never: {} ({refusal})", recorded.clause)),
        };
    }
    let (selected, judged) = (table.select(filter.sql()).await, table.judge(filter).await);
    match (&recorded.ids, selected, judged) {
        (Some(ids), Ok(selected), Ok(judged)) if *ids == selected && *ids == judged => {
            Outcome::BeyondCore(format!("postgres: {}", recorded.clause))
        }
        (None, Err(_), Err(_)) => Outcome::Agrees,
        (ids, selected, judged) => Outcome::Differs(format!(
            "recorded {ids:?}, {} gives {selected:?}, batch {judged:?}",
            filter.sql()
        )),
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
    let (mut agree, mut beyond_core, mut differ) = (0, BTreeSet::new(), Vec::new());
    for line in lines {
        let recorded = recorded(line);
        match judge(&table, &recorded).await {
            Outcome::Agrees => agree += 1,
            Outcome::BeyondCore(clause) => {
                beyond_core.insert(clause);
            }
            Outcome::Differs(how) => differ.push(format!("{}\n    {how}", recorded.clause)),
        }
    }
    println!("{agree} agree, {} beyond core, {} differ", beyond_core.len(), differ.len());
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    let known: BTreeSet<String> = BEYOND_CORE.lines().map(str::to_owned).collect();
    let new: Vec<&String> = beyond_core.difference(&known).collect();
    let gone: Vec<&String> = known.difference(&beyond_core).collect();
    assert!(new.is_empty() && gone.is_empty(), "newly beyond core: {new:#?}\nno longer: {gone:#?}");
}
