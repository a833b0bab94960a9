//! WHERE: a clause is refused, or its canonical text reads as the same filter, which says the same of every row.
//! What is written anew for Postgres reads as itself.

use limn_core::filter::{Filter, PostgresFilter};
use limn_core::pg::{Column, Row, oid};
use std::collections::BTreeMap;

/// The columns that clauses can name: name, type, and the text that a row holds.
const COLUMNS: [(&str, u32, &str, &str); 17] = [
    ("a", oid::INT4, "int4", "7"),
    ("b", oid::INT8, "int8", "-9223372036854775808"),
    ("c", oid::INT2, "int2", "0"),
    ("t", oid::TEXT, "text", "Kingf\u{e4}her%_\\"),
    ("v", oid::VARCHAR, "varchar", ""),
    ("p", oid::BPCHAR, "bpchar", "x  "),
    ("f", oid::BOOL, "bool", "t"),
    ("n", oid::NUMERIC, "numeric", "12.500"),
    ("x", oid::FLOAT8, "float8", "-0.1"),
    ("y", oid::FLOAT4, "float4", "NaN"),
    ("u", oid::UUID, "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("d", oid::DATE, "date", "2026-11-23"),
    ("ts", oid::TIMESTAMP, "timestamp", "2026-11-23 02:47:43.684088"),
    ("tz", oid::TIMESTAMPTZ, "timestamptz", "infinity"),
    ("i", oid::INTERVAL, "interval", "P1Y2M3DT4H5M6.5S"),
    ("j", oid::JSONB, "jsonb", "{\"a\": [1, null]}"),
    ("Cap Col", oid::INT4, "int4", "1"),
];

/// A row of [`COLUMNS`], or one of nulls.
struct TestRow {
    is_null: bool,
}

impl Row for TestRow {
    fn text(&self, column: usize) -> Option<&[u8]> {
        let (_, _, _, text) = COLUMNS.get(column)?;
        (!self.is_null).then_some(text.as_bytes())
    }
}

/// `data` is the clause, and behind zero bytes the values of `$1`, `$2`, …
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut parts = text.split('\0');
    let clause = parts.next().unwrap_or_default();
    let params: BTreeMap<u32, String> = (1..).zip(parts.map(str::to_owned)).collect();
    let columns = columns();
    if let Ok(written) = PostgresFilter::parse(clause, &params, &columns) {
        let again = PostgresFilter::parse(written.sql(), &BTreeMap::new(), &columns);
        assert_eq!(again.as_ref().map(PostgresFilter::sql), Ok(written.sql()));
    }
    let Ok(filter) = Filter::parse(clause, &params, &columns) else { return };

    let restored = Filter::restore(filter.sql(), &columns);
    assert!(restored.is_ok(), "the canonical text `{}` is refused: {restored:?}", filter.sql());
    let Ok(restored) = restored else { return };
    assert_eq!(restored.sql(), filter.sql());
    assert_eq!(restored.columns(), filter.columns());
    assert_eq!(restored.equality(), filter.equality());
    for is_null in [false, true] {
        let row = TestRow { is_null };
        let (truth, again) = (filter.evaluate(&row), restored.evaluate(&row));
        assert_eq!(truth.ok(), again.ok(), "`{}`", filter.sql());
    }
}

fn columns() -> Vec<Column> {
    let column =
        |&(name, type_oid, type_name, _): &(&str, u32, &str, &str)| Column::new(name, type_oid, type_name);
    COLUMNS.iter().map(column).collect()
}
