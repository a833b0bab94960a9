//! Rows: encoded as clients read them, and judged by where clauses.

use crate::Work;
use crate::input::{Cells, Random, relation};
use limn_core::filter::Filter;
use limn_core::log::ItemFormat;
use limn_core::log::item::ChangePosition;
use limn_core::protocol::request::Replica;
use std::collections::BTreeMap;
use std::hint::black_box;

const ROWS: u64 = 250;

const CLAUSES: [&str; 12] = [
    "tenant = 17",
    "tenant IN (17, 18, 4711, 11000)",
    "amount BETWEEN 1000 AND 90000 AND NOT done",
    "code LIKE 'p1%.code'",
    "title ILIKE '%WORD1%X in%'",
    "price * 2 > 1000000.50",
    "changed >= '2026-03-14 00:00:00+00'",
    "tenant % 7 = 3 OR amount / 10 < tenant",
    "lower(title) = 'a title of some length'",
    "code IS NOT NULL AND (tenant > 5000 OR price < 250000)",
    "title || ' ' || code LIKE '%code'",
    "CASE WHEN done THEN amount ELSE tenant END > 6000",
];

/// A row becomes an item of the log: as an insert, as an update, and as a row of a snapshot.
pub fn encode() -> Work {
    let relation = relation();
    let projection: Vec<usize> = (0..relation.columns.len()).collect();
    let format = ItemFormat::new(&relation, &projection, Replica::Default);
    let rows = rows();
    let mut out = Vec::new();
    Work::new(rows.len() * 3, move || {
        out.clear();
        for ((old, new), op) in rows.iter().zip(0..) {
            let at = ChangePosition { lsn: 100, op, xid: 900 };
            format.push_insert(&mut out, old, at);
            black_box(format.push_update(&mut out, old, new, at));
            format.push_snapshot_row(&mut out, new);
        }
        black_box(&out);
    })
}

/// A clause says whether a row belongs to it.
pub fn evaluate() -> Work {
    let (relation, none) = (relation(), BTreeMap::new());
    let parse = |text: &str| Filter::parse(text, &none, &relation.columns).expect("a clause");
    let (filters, rows) = (CLAUSES.map(parse), rows());
    Work::new(filters.len() * rows.len(), move || {
        for (row, _) in &rows {
            for filter in &filters {
                black_box(filter.evaluate(row).expect("the row has no value that fails"));
            }
        }
    })
}

/// Rows before and after an update.
fn rows() -> Vec<(Cells, Cells)> {
    let mut random = Random::default();
    let pair = |id| {
        let old = Cells::random(&mut random, id);
        let new = old.changed(&mut random, id);
        (old, new)
    };
    (1..=ROWS).map(pair).collect()
}
