//! Clauses that only Postgres evaluates: which it confirms, and that a batch of texts is judged as the table is.

use crate::table::Table;
use limn_core::filter::{Clause, PostgresFilter};
use std::collections::BTreeMap;
use std::sync::Arc;

const SETUP: &[&str] = &[
    "CREATE EXTENSION IF NOT EXISTS citext",
    "CREATE SCHEMA other",
    "CREATE TYPE mood AS ENUM ('sad', 'it''s ok')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN short AS varchar(5)",
    "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    "CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2'",
    "CREATE FUNCTION drifting(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1'",
    "CREATE FUNCTION wild(int, int DEFAULT 1) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1'",
    "CREATE FUNCTION other.hidden(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'",
    "CREATE FUNCTION wild_equal(int, int) RETURNS bool LANGUAGE sql VOLATILE AS 'SELECT $1 = $2'",
    "CREATE OPERATOR ==== (LEFTARG = int, RIGHTARG = int, FUNCTION = wild_equal)",
    "CREATE OPERATOR other.<+> (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl)",
    "CREATE TYPE coin AS (n int)",
    "CREATE FUNCTION toss(int) RETURNS coin LANGUAGE sql VOLATILE AS 'SELECT ROW($1)::coin'",
    "CREATE CAST (int AS coin) WITH FUNCTION toss(int)",
    "CREATE TYPE dated AS (n int, d date)",
    "CREATE TABLE v (
        id int PRIMARY KEY, i int, t text, \"c1\" \"char\", n name, bp char(4), vc varchar(3), nu numeric(6, 2),
        f4 float4, f8 float8, b bool, by bytea, bi bit(3), vb varbit, u uuid, ip inet, d date, ti time(3),
        tt timetz, ts timestamp, tz timestamptz, iv interval, j json, jb jsonb, m mood, ms mood[], p pair,
        ps pair[], s short, r int4range, tv tsvector, pt point, mo money, grid int[], ci citext,
        \"ordinal\" int, blind text COLLATE blind, german text COLLATE \"de-x-icu\", o oid, x xml)",
    "INSERT INTO v VALUES
        (1, 1, 'a''b\\', 'x', 'name', 'ab', 'abc', 1.50, 0.1, 1e300, true, '\\x00ff', '101', '1', gen_random_uuid(),
         '10.0.0.1/8', '2026-01-31', '10:00:00.123', '10:00+02', '2026-01-31 10:00', '2026-01-31 10:00+00',
         '1 month 2 days 03:04:05', '{\"a\": 1}', '[1, \"b\"]', 'sad', '{sad,NULL,\"it''s ok\"}', '(1,\"x y\")',
         '{\"(1,x)\",\"(,)\"}', 'short', '[1,5)', 'cat:1A dog', '(1,2)', 12.50, '[0:1][1:2]={{1,2},{3,NULL}}', 'AbC',
         7, 'Blind', 'Ärger', 4000000000, '<a/>'),
        (2, -2, E'line\\nbreak', NULL, NULL, '', '', 'NaN', 'Infinity', '-0', false, '', '000', '', NULL,
         '::1', 'infinity', '24:00', NULL, '-infinity', '0044-03-15 BC', '-1 year', 'null', 'null', NULL, '{}', NULL,
         NULL, NULL, 'empty', '', NULL, NULL, NULL, 'zz', NULL, 'BLIND', 'arger', 0, NULL)",
    "INSERT INTO v VALUES (3)",
];

async fn table() -> Table {
    let statements: Vec<String> = SETUP.iter().map(|statement| (*statement).to_owned()).collect();
    Table::create(&statements, "v").await
}

fn parse(table: &Table, clause: &str) -> Result<Arc<PostgresFilter>, String> {
    match Clause::parse(clause, &BTreeMap::new(), &table.relation.columns, &[]) {
        Ok(Clause::Postgres(filter)) => Ok(filter),
        Ok(other) => Err(format!("core evaluates {}", other.sql())),
        Err(error) => Err(error.to_string()),
    }
}

/// The refusal of a clause, by core or by Postgres.
async fn refusal(table: &Table, clause: &str) -> Option<String> {
    match parse(table, clause) {
        Ok(filter) => table.confirm(&filter).await.err(),
        Err(error) => Some(error),
    }
}

#[tokio::test]
async fn what_depends_on_the_row_alone_is_confirmed() {
    let table = table().await;
    for clause in [
        "t ~ 'buy now'",
        "twice(i) = 2",
        "public.twice(i) = 2",
        "other.hidden(i) = 1",
        "i OPERATOR(other.<+>) 1 = 2",
        "to_char(tz, 'HH24') = '10'",
        "t ~ 'a' AND extract(isodow FROM tz) = 6",
        "(tz AT TIME ZONE 'Asia/Tokyo')::date = '2026-01-31'",
        "(d, d) OVERLAPS (date '2026-01-01', date '2026-12-31')",
        "tv @@ 'cat & dog'",
        "to_tsvector('english', t) @@ to_tsquery('english', 'breaks')",
        "to_tsvector('english'::regconfig, t) @@ to_tsquery('english', 'breaks')",
        "t COLLATE \"C\" > 'a'",
        "t COLLATE pg_catalog.\"C\" > 'a'",
        "format('%s', VARIADIC ARRAY[t]) = t",
        "(ROW(i, d)::dated).d = '2026-01-31'",
        "(p).a = 1 AND (ps)[1].b = 'x'",
        "bi & B'100' = B'100'",
        "bi = X'5'::bit(3)",
        "t SIMILAR TO '%b_' ESCAPE '#'",
        "normalize(t) IS NFC NORMALIZED",
        "d = ANY (ARRAY['2026-01-31', '2026-02-01']::date[]) AND t ~ 'a'",
        "ci = 'ABC'",
        "regexp_replace(t, 'a', 'b') = 'bb'",
        "jb @? '$[*] ? (@ == 1)'",
        "mo * 2 > '20'::money",
        "CASE m WHEN 'sad' THEN t ~ 'a' ELSE blind ~ 'B' END",
        "blind COLLATE blind = 'bLIND'",
        "blind = 'bLIND'",
        "lower(german) = 'ärger'",
        "german > 'b'",
    ] {
        let filter = parse(&table, clause).unwrap_or_else(|error| unreachable!("{clause}: {error}"));
        table.confirm(&filter).await.unwrap_or_else(|error| unreachable!("{clause}: {error}"));
        let (selected, judged) = (table.select(clause).await, table.judge(&filter).await);
        assert_eq!(selected, table.select(filter.sql()).await, "{clause} as {}", filter.sql());
        assert_eq!(selected, judged, "{clause}: {}", filter.batch_sql(&table.relation));
    }
}

#[tokio::test]
async fn what_depends_on_more_is_refused() {
    let table = table().await;
    let function =
        |at: usize, name: &str| Some(format!("At location {at}: unknown or unsupported function {name}"));
    let operator = |at: usize, op: &str| Some(format!("At location {at}: unknown binary operator \"{op}\""));
    let from_text =
        |at: usize, ty: &str| Some(format!("At location {at}: unknown cast from type text to type {ty}"));
    let text = |text: &str| Some(text.to_owned());
    let mut differ = Vec::new();
    for (clause, expected) in [
        ("drifting(i) = 1", function(0, "drifting/1")),
        ("wild(i) = 1", function(0, "wild/1")),
        ("public.wild(i, 2) = 1", function(0, "public.wild/2")),
        ("hidden(i) = 1", function(0, "hidden/1")),
        ("t ~ 'a' AND now() > ts", function(12, "now/0")),
        ("age(ts) > '1 day'", function(0, "age/1")),
        ("to_tsvector(t) @@ 'cat'", function(0, "to_tsvector/1")),
        ("has_table_privilege('v', 'select')", function(0, "has_table_privilege/2")),
        ("date_in(textout(t)) = d", function(0, "date_in/1")),
        ("i ==== 1", operator(2, "====")),
        ("t @@ 'cat'", operator(2, "@@")),
        ("'cat' @@ to_tsquery('english', t)", operator(6, "@@")),
        ("t ~ 'a' AND t::date = d", from_text(13, "date")),
        ("t ~ 'a' AND (jb ->> 1)::timestamptz > tz", from_text(22, "timestamptz")),
        ("r @> 1 AND t::daterange @> d", from_text(12, "daterange")),
        ("t ~ 'a' AND date(t) = d", function(12, "date/1")),
        ("t ~ 'a' AND daterange(t) @> d", function(12, "daterange/1")),
        ("t ~ 'a' AND (ROW(i, t)::dated).d = d", from_text(22, "dated")),
        ("t ~ 'a' AND (i::coin).n = 1", text("At location 16: unsupported type coin")),
        ("t ~ 'a' AND 'v'::regclass IS NOT NULL", text("At location 17: unsupported type regclass")),
        ("t ~ 'a' AND d = 'today'", text("At location 16: invalid syntax for type text: today")),
        ("t ~ 'a' AND d IN ('2026-01-01', 'now')", text("At location 32: invalid syntax for type text: now")),
        (
            "t ~ 'a' AND d <@ '[today,tomorrow]'::daterange",
            text("At location 17: invalid syntax for type text: [today,tomorrow]"),
        ),
        ("'now' IS NULL AND t ~ 'a'", text("At location 0: invalid syntax for type text: now")),
        ("t ~ 'a' AND nope(t) = 1", text("function nope(text) does not exist")),
        ("nope(t) = 1 AND t ~ 'a'", function(0, "nope/1")),
        ("i ~ 'a'", operator(2, "~")),
        ("t ~ 'a' AND zz = 1", text("At location 12: unknown reference zz")),
        ("t ~ 'a' AND v.t = 'x'", text("At location 12: unknown reference v.t")),
        ("t ~ $1", text("At location 4: parameter $1 was not provided")),
        ("t ~ 'a' AND count(t) > 1", text("aggregate functions are not allowed in WHERE")),
        ("regexp_replace(t, 'a', 'b')", text("argument of WHERE must be type boolean, not type text")),
        ("t ~ 'a' AND i / 0 = 1 AND d = 'x'", text("invalid input syntax for type date: \"x\"")),
    ] {
        let refusal = refusal(&table, clause).await;
        if refusal != expected {
            differ.push(format!("{clause}: {refusal:?}, expected {expected:?}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// Every type's text, cast to the type again, is the value it was.
#[tokio::test]
async fn a_batch_holds_the_values_of_the_table() {
    let table = table().await;
    for (index, column) in table.relation.columns.iter().enumerate().skip(1) {
        for row in &table.rows {
            let Some(text) = &row.0[index] else { continue };
            let literal = text.replace('\'', "''");
            let name = &column.name;
            let clause =
                format!("regexp_replace(format('%s', \"{name}\") COLLATE \"C\", '^$', '') = '{literal}'");
            let filter = parse(&table, &clause).unwrap_or_else(|error| unreachable!("{clause}: {error}"));
            let (selected, judged) = (table.select(filter.sql()).await, table.judge(&filter).await);
            assert_eq!(selected, judged, "{clause}");
            let inside = selected.unwrap_or_else(|error| unreachable!("{clause}: {error}"));
            assert!(inside.contains(&row.id()), "{clause}");
        }
    }
}

/// Nothing of the request reaches Postgres but as a name, a literal or an operator.
#[tokio::test]
async fn literals_and_names_stay_what_they_are() {
    let table = table().await;
    let params = BTreeMap::from([(1, "' OR true --".to_owned())]);
    let text = "t ~ $1 OR t SIMILAR TO $1";
    let clause = Clause::parse(text, &params, &table.relation.columns, &[]).expect("parses");
    assert_eq!(table.select(clause.sql()).await, Ok(Vec::new()), "{}", clause.sql());
    for clause in
        [r#""select"(t) ~ 'a'"#, r#"t::"pg_catalog"."x) OR (true" ~ 'a'"#, r#"t COLLATE "C"" --" ~ 'a'"#]
    {
        let refusal = refusal(&table, clause).await;
        assert!(refusal.is_some(), "{clause}");
    }
}
