//! Random clauses over random rows, each judged by core and by Postgres.
//!
//! `LIMN_DIFFERENTIAL_CASES` says how many, `LIMN_SEED` which; both are printed.

use crate::clause::clause;
use crate::table::Table;
use crate::values;
use limn_core::filter::{Filter, PostgresFilter};
use limn_tests::Random;
use std::collections::BTreeMap;

const CASES: u64 = 3_000;
const SEED: u64 = 20_261_123;
/// After so many clauses the rows are new.
const CASES_PER_TABLE: u64 = 60;
const ROWS: u64 = 12;
/// Shown of every kind of observation.
const EXAMPLES: usize = 12;
/// Of all rows judged, how many in ten thousand core may fail on where Postgres answers.
const UNJUDGED_PER_TEN_THOUSAND: u64 = 20;

/// What is no difference but worth counting.
#[derive(Default)]
struct Report {
    /// Both sides judged the row.
    judged: u64,
    counts: BTreeMap<&'static str, (u64, Vec<String>)>,
    differences: Vec<String>,
}

impl Report {
    fn count(&mut self, what: &'static str, example: impl FnOnce() -> String) {
        let (count, examples) = self.counts.entry(what).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            let example = example();
            let clause = |text: &str| text.lines().next().map(str::to_owned);
            // One row of a clause says enough.
            if examples.last().is_none_or(|last| clause(last) != clause(&example)) {
                examples.push(example);
            }
        }
    }

    fn counted(&self, what: &str) -> u64 {
        self.counts.get(what).map_or(0, |(count, _)| *count)
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |value| value.parse().expect("a number"))
}

#[tokio::test]
async fn random_clauses_mean_what_postgres_means() {
    let (cases, seed) = (number("LIMN_DIFFERENTIAL_CASES", CASES), number("LIMN_SEED", SEED));
    println!("LIMN_SEED={seed} LIMN_DIFFERENTIAL_CASES={cases}");
    let mut random = Random::new(seed);
    let mut table = Table::create(&values::schema(), "d").await;
    let mut report = Report::default();
    for case in 0..cases {
        if case % CASES_PER_TABLE == 0 {
            table.change(&values::rows(&mut random, ROWS)).await;
        }
        let clause = clause(&mut random);
        judge(&table, &clause, &mut report).await;
    }
    println!("{} rows judged by both", report.judged);
    for (what, (count, examples)) in &report.counts {
        println!("{count} {what}, such as");
        for example in examples {
            println!("    {example}");
        }
    }
    let differences = report.differences.len();
    assert!(differences == 0, "{differences} differences:\n{}", report.differences.join("\n"));
    let allowed = report.judged * UNJUDGED_PER_TEN_THOUSAND / 10_000;
    assert!(report.counted(UNJUDGED) <= allowed, "core fails on more than {allowed} rows");
}

const UNJUDGED: &str = "rows core fails on where Postgres answers";

async fn judge(table: &Table, clause: &str, report: &mut Report) {
    let filter = match Filter::parse(clause, &BTreeMap::new(), &table.relation.columns) {
        Ok(filter) => filter,
        Err(error) => {
            match table.select(clause).await {
                Ok(selected) if error.needs_postgres() => {
                    judge_written(table, clause, &selected, report).await;
                    report.count("clauses left to Postgres", || format!("{clause}\n        {error}"));
                }
                Err(_) => report.count("clauses both refuse", || format!("{clause}\n        {error}")),
                Ok(_) => report.differences.push(format!("{clause}\n    refused for good: {error}")),
            }
            return;
        }
    };
    let again = Filter::restore(filter.sql(), &table.relation.columns);
    if again.as_ref() != Ok(&filter) {
        let again = again.map(|filter| filter.sql().to_owned());
        report.differences.push(format!("{clause}\n    {} is read back as {again:?}", filter.sql()));
        return;
    }
    if let Ok(selected) = table.select(clause).await {
        judge_written(table, clause, &selected, report).await;
    }
    let both = format!("{clause}) IS NOT DISTINCT FROM ({}", filter.sql());
    let (truths, same) = (table.truths(clause).await, table.truths(&both).await);
    match (truths, same) {
        (Ok(truths), Ok(same)) => {
            if same.contains(&Some(false)) {
                report.differences.push(format!("{clause}\n    means something else than {}", filter.sql()));
            }
            for (i, (row, truth)) in table.rows.iter().zip(truths).enumerate() {
                compare(clause, &filter, table, i, row.id(), Ok(truth), report);
            }
        }
        // Some row fails: one by one.
        _ => {
            for (i, row) in table.rows.iter().enumerate() {
                let (truth, canonical) =
                    (table.truth(clause, row.id()).await, table.truth(filter.sql(), row.id()).await);
                if let (Ok(truth), Ok(canonical)) = (&truth, &canonical)
                    && truth != canonical
                {
                    report
                        .differences
                        .push(format!("{clause}\n    means something else than {}", filter.sql()));
                }
                compare(clause, &filter, table, i, row.id(), truth, report);
            }
        }
    }
}

/// The clause as it is written anew for Postgres must select the same rows, and read as the same again.
async fn judge_written(table: &Table, clause: &str, selected: &[i64], report: &mut Report) {
    let parse = |text: &str| PostgresFilter::parse(text, &BTreeMap::new(), &table.relation.columns);
    let written = match parse(clause) {
        Ok(written) => written,
        Err(error) => {
            return report.count("clauses not written for Postgres", || format!("{clause}: {error}"));
        }
    };
    let sql = written.sql();
    let again = parse(sql).map(|again| again.sql().to_owned());
    if again.as_deref() != Ok(sql) {
        report.differences.push(format!("{clause}\n    {sql} is read back as {again:?}"));
    }
    // A row may fail that another order of evaluation spares.
    if let Ok(rows) = table.select(sql).await
        && rows != selected
    {
        report.differences.push(format!("{clause}\n    selects {selected:?}, and as {sql} {rows:?}"));
    }
}

fn compare(
    clause: &str,
    filter: &Filter,
    table: &Table,
    index: usize,
    id: i64,
    postgres: Result<Option<bool>, String>,
    report: &mut Report,
) {
    let row = &table.rows[index];
    let values = || {
        let used = filter
            .columns()
            .iter()
            .map(|column| format!("{} = {:?}", table.relation.columns[*column].name, row.0[*column]));
        used.collect::<Vec<_>>().join(", ")
    };
    match (filter.evaluate(row), postgres) {
        (Ok(core), Ok(postgres)) => {
            report.judged += 1;
            if core != postgres {
                let shown = format!("{clause}\n    {}\n    row {id}: {}", filter.sql(), values());
                report.differences.push(format!("{shown}\n    Postgres {postgres:?}, core {core:?}"));
            }
        }
        (Err(error), Ok(_)) => report.count(UNJUDGED, || format!("{clause}\n        {}: {error}", values())),
        (Ok(_), Err(error)) => {
            report.count("rows Postgres fails on where core answers", || {
                format!("{clause}\n        {}: {error}", values())
            });
        }
        (Err(_), Err(_)) => report.count("rows both fail on", || clause.to_owned()),
    }
}
