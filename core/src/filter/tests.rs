//! The filter as its callers see it: clause, columns and rows in, truth and canonical text out.

mod constructs;
mod postgres;
mod subqueries;

use super::*;
use crate::pg::oid;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const COLUMNS: &[(&str, u32, &str)] = &[
    ("a", oid::INT4, "int4"),
    ("b", oid::INT8, "int8"),
    ("c", oid::INT4, "int4"),
    ("t", oid::TEXT, "text"),
    ("f", oid::BOOL, "bool"),
    ("g", oid::BOOL, "bool"),
    ("n", oid::NUMERIC, "numeric"),
    ("x", oid::FLOAT8, "float8"),
    ("y", oid::FLOAT4, "float4"),
    ("p", oid::BPCHAR, "bpchar"),
    ("u", oid::UUID, "uuid"),
    ("d", oid::DATE, "date"),
    ("ts", oid::TIMESTAMP, "timestamp"),
    ("tz", oid::TIMESTAMPTZ, "timestamptz"),
    ("j", oid::JSONB, "jsonb"),
    ("Cap Col", oid::INT4, "int4"),
    ("k", 20_000, "pair"),
];

fn columns() -> Vec<Column> {
    COLUMNS.iter().map(|(name, type_oid, type_name)| Column::new(*name, *type_oid, *type_name)).collect()
}

/// Values by column name; everything else is NULL.
struct Values(Vec<(usize, &'static str)>);

impl Row for Values {
    fn text(&self, column: usize) -> Option<&[u8]> {
        self.0.iter().find(|(index, _)| *index == column).map(|(_, text)| text.as_bytes())
    }
}

fn row(values: &[(&str, &'static str)]) -> Values {
    let index = |name: &str| COLUMNS.iter().position(|(n, _, _)| *n == name).expect("a known column");
    Values(values.iter().map(|(name, text)| (index(name), *text)).collect())
}

fn parse_with(text: &str, params: &[&str]) -> Result<Filter, FilterError> {
    let params = (1..).zip(params.iter().map(|value| (*value).to_owned())).collect();
    Filter::parse(text, &params, &columns())
}

fn parse(text: &str) -> Result<Filter, FilterError> {
    parse_with(text, &[])
}

fn sql(text: &str) -> String {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).sql().to_owned()
}

fn error(text: &str) -> String {
    parse(text).err().map_or_else(|| panic!("`{text}` was accepted"), |error| error.to_string())
}

fn truth(text: &str, values: &[(&str, &'static str)]) -> Option<bool> {
    let filter = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    filter.evaluate(&row(values)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn precedence_is_postgres() {
    for (text, expected) in [
        ("NOT a = c", r#"NOT ("a" = "c")"#),
        ("f OR g AND a = 1", r#""f" OR ("g" AND ("a" = 1))"#),
        ("NOT f AND g", r#"(NOT "f") AND "g""#),
        ("a = c IS NULL", r#"("a" = "c") IS NULL"#),
        ("f IS NULL = g", r#"("f" IS NULL) = "g""#),
        ("f IS NULL IS NULL", r#"("f" IS NULL) IS NULL"#),
        ("a IN (1) = g", r#"("a" = 1) = "g""#),
        ("f = NOT g", r#""f" = (NOT "g")"#),
        ("a - c - 1 = 0", r#"(("a" - "c") - 1) = 0"#),
        ("a + c * 2 = 0", r#"("a" + ("c" * 2)) = 0"#),
        ("@ a + 1 = 0", r#"(@ ("a" + 1)) = 0"#),
        ("2 * @ a + 1 = 0", r#"(2 * (@ ("a" + 1))) = 0"#),
        ("a & 3 + 1 = 0", r#"("a" & 4) = 0"#),
        ("- a::int8 = 1", r#"(- "a"::int8) = 1"#),
        ("a = -5::int8", r#""a" = '-5'::int8"#),
        ("a BETWEEN 1 AND 2 AND f", r#"("a" BETWEEN 1 AND 2) AND "f""#),
        ("t LIKE 'a' || '%'", r#""t" LIKE 'a%'::text"#),
        ("t || 'x' = 'ax'", r#"("t" || 'x'::text) = 'ax'::text"#),
        ("NOT a IN (1, 2)", r#"NOT ("a" IN (1, 2))"#),
        ("a IS DISTINCT FROM c OR f", r#"("a" IS DISTINCT FROM "c") OR "f""#),
    ] {
        assert_eq!(sql(text), expected, "{text}");
    }
    // The lower bound is read by a grammar of its own, which has comparisons but no AND.
    assert_eq!(sql("f BETWEEN a < 2 AND g"), r#""f" BETWEEN ("a" < 2) AND "g""#);
}

#[test]
fn operators_without_associativity_do_not_chain() {
    for text in ["a < c < 3", "a = c = f", "f IS DISTINCT FROM g IS NULL", "t LIKE 'a' LIKE 'b'", "a = 1 = f"]
    {
        assert!(error(text).contains("syntax error at or near"), "{text}");
    }
    // The sign binds to the number before the power does.
    assert_eq!(error("-2 ^ 2 = a"), "At location 3: unknown binary operator \"^\"");
}

#[test]
fn same_clause_same_text() {
    let expected = r#"("a" = 1) AND ("t" = 'x'::text)"#;
    for text in
        ["a=1 and t='x'", "  ((a) = (1))\nAND (t = 'x') ;", "A = 1 /* c */ and \"t\" = $$x$$ -- d", expected]
    {
        assert_eq!(sql(text), expected);
    }
    assert_ne!(sql("a = c"), sql("c = a"));
    assert_eq!(parse("a = 1").expect("parses").columns(), [0]);
    assert_eq!(parse("c = 1 OR a = c").expect("parses").columns(), [0, 2]);
}

#[test]
fn constants_keep_their_type_and_value() {
    for (text, expected) in [
        ("a = '5'", r#""a" = 5"#),
        ("b = 3000000000", r#""b" = 3000000000"#),
        ("b = 9223372036854775808", r#""b" = 9223372036854775808"#),
        ("a = -2147483648", r#""a" = (-2147483648)"#),
        ("n = .5", r#""n" = 0.5"#),
        ("n = 5", r#""n" = '5'::numeric"#),
        ("x < 1e5", r#""x" < '100000'::float8"#),
        ("y = 0.1", r#""y" = '0.1'::float8"#),
        ("y IN (0.1, 0.2)", r#""y" IN ('0.1'::float4, '0.2'::float4)"#),
        ("d = '31/01/2026'", r#""d" = '2026-01-31'::date"#),
        ("tz > '2026-01-31 12:00+02'", r#""tz" > '2026-01-31 10:00:00+00'::timestamptz"#),
        ("u = '{A0EEBC999C0B4EF8BB6D6BB9BD380A11}'", r#""u" = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid"#),
        (r"t = E'a\\b''c'", r#""t" = E'a\\b''c'::text"#),
        ("t = CAST('abc' AS varchar(2))", r#""t" = 'ab'::varchar"#),
        ("a = NULL", r#""a" = NULL::int4"#),
        ("u IS DISTINCT FROM NULL", r#""u" IS DISTINCT FROM NULL"#),
        ("j IS NOT DISTINCT FROM NULL", r#""j" IS NOT DISTINCT FROM NULL"#),
    ] {
        assert_eq!(sql(text), expected, "{text}");
    }
}

#[test]
fn canonical_text_is_a_fixed_point() {
    for text in [
        "a = 1",
        "NOT (f OR g) AND a + 1 > -c",
        "a BETWEEN SYMMETRIC 1 AND $1",
        "t ILIKE $2 ESCAPE '#' OR t NOT LIKE 'x'",
        "a NOT IN (1, c, NULL)",
        "y IN (0.1, 0.2 + 0.3)",
        "n / 3 = 1.5 AND x IS UNKNOWN IS NULL",
        "p = 'ab' AND t || p || a = 'x'",
        "(t::varchar(3) = 'abc') IS NOT TRUE",
        "d + 1 > '2026-01-01' AND ts = 'infinity'",
        "NULL IS DISTINCT FROM j",
        "k IS NOT NULL",
    ] {
        let Ok(filter) = parse_with(text, &["7", "a%"]) else { continue };
        let again =
            Filter::restore(filter.sql(), &columns()).unwrap_or_else(|e| panic!("{}: {e}", filter.sql()));
        assert_eq!(again, filter);
    }
}

#[test]
fn logic_is_three_valued() {
    for (text, expected) in [
        ("f AND g", None),
        ("f AND false", Some(false)),
        ("f OR true", Some(true)),
        ("f OR false", None),
        ("NOT f", None),
        ("a = 1", None),
        ("a IS NULL", Some(true)),
        ("(a = 1) IS UNKNOWN", Some(true)),
        ("f IS NOT TRUE", Some(true)),
        ("a IN (1, 2)", None),
        ("c IN (5, NULL)", Some(true)),
        ("c IN (6, NULL)", None),
        ("c NOT IN (6, NULL)", None),
        ("c NOT IN (5, NULL)", Some(false)),
        ("c NOT IN (6, 7)", Some(true)),
        ("c BETWEEN NULL AND 4", Some(false)),
        ("c BETWEEN NULL AND 6", None),
        ("c NOT BETWEEN NULL AND 4", Some(true)),
        ("c BETWEEN SYMMETRIC 9 AND 1", Some(true)),
        ("a IS DISTINCT FROM NULL", Some(false)),
        ("c IS DISTINCT FROM NULL", Some(true)),
        ("a IS NOT DISTINCT FROM a", Some(true)),
        ("a + 1 IS NULL", Some(true)),
        ("t LIKE NULL", None),
        ("NULL", None),
        ("'t'", Some(true)),
    ] {
        assert_eq!(truth(text, &[("c", "5")]), expected, "{text}");
    }
}

#[test]
fn values_compare_by_type() {
    let values: &[(&str, &str)] = &[
        ("a", "10"),
        ("b", "9007199254740993"),
        ("n", "1.50"),
        ("x", "NaN"),
        ("y", "0.1"),
        ("p", "ab   "),
        ("t", "ab"),
        ("u", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("d", "infinity"),
        ("ts", "0044-03-15 12:00:00 BC"),
        ("tz", "2026-01-31 10:00:00+00"),
    ];
    for (text, expected) in [
        ("b = 9007199254740993 AND b <> 9007199254740992", true),
        ("n = 1.5 AND n < 2", true),
        ("x = 'NaN' AND x > 1e308", true),
        ("y = '0.1'", true),
        ("y = 0.1", false),
        ("y IN (0.1, 0.2)", true),
        ("p = 'ab' AND p = t AND p || 'x' = 'abx'", true),
        ("p LIKE 'ab'", false),
        ("t < 'b' AND t >= 'AB'", true),
        ("u = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", true),
        ("d > '5874897-12-31' AND d > ts", true),
        ("ts < '0001-01-01'", true),
        ("tz = '2026-01-31 11:00+01' AND tz > '2026-01-31'", true),
        ("a / 3 = 3 AND a % 3 = 1 AND -a / 3 = -3", true),
        ("n / 2 = 0.75 AND n * 2 = 3", true),
        ("a::text || t = '10ab'", true),
        ("|/ 16 = 4", true),
    ] {
        assert_eq!(truth(text, values), Some(expected), "{text}");
    }
}

#[test]
fn rows_that_cannot_be_judged() {
    let judge = |text: &str, values: &[(&str, &'static str)]| parse(text).expect(text).evaluate(&row(values));
    assert_eq!(judge("1 / a = 1", &[("a", "0")]), Err(EvalError::DivisionByZero));
    assert_eq!(judge("a + 1 > 0", &[("a", "2147483647")]), Err(EvalError::OutOfRange { ty: "int4" }));
    assert_eq!(judge("t::int4 = 1", &[("t", "abc")]), Err(EvalError::InvalidValue { ty: "int4" }));
    assert_eq!(judge("'a' LIKE t", &[("t", "a\\")]), Err(EvalError::PatternEndsWithEscape));
    // What is false already needs no judgement of the rest.
    assert_eq!(judge("1 / a = 1 AND c = 1", &[("a", "0"), ("c", "2")]), Ok(Some(false)));
    assert_eq!(judge("c = 2 OR 1 / a = 1", &[("a", "0"), ("c", "2")]), Ok(Some(true)));
}

#[test]
fn refusals_in_the_words_of_the_wire() {
    for (text, expected) in [
        ("a = $1", "At location 4: parameter $1 was not provided"),
        ("1", "WHERE clause must return a boolean"),
        ("'abc'", "WHERE clause must return a boolean"),
        ("zzz = 1", "At location 0: unknown reference zzz"),
        ("w.a = 1", "At location 0: unknown reference w.a"),
        ("\"T\" = 'x'", "At location 0: unknown reference \"T\""),
        ("a = 'x'", "At location 4: invalid syntax for type int4: x"),
        ("a=1; select 1", "unescaped \";\" causing statement split"),
        ("a = 1 ORDER BY 1", "malformed query ending with SQL clauses"),
        ("a = 1 LIMIT 1", "malformed query ending with SQL clauses"),
        ("a = 1 UNION SELECT 1", "malformed query ending with SQL clauses"),
        ("i4 =", "At location 19: syntax error at end of input"),
        ("= 1", "At location 15: syntax error at or near \"=\""),
        ("t = 'abc", "At location 19: unterminated quoted string at or near \"'abc\""),
        ("WHERE a = 1", "At location 15: syntax error at or near \"WHERE\""),
        ("", "At location 15: syntax error at end of input"),
        ("a = t", "At location 2: Could not select an operator overload"),
        (
            "'x' IN (t, p)",
            "At location 4: a literal beside operands of several types is not supported in this context",
        ),
        ("a == 1", "At location 2: unknown binary operator \"==\""),
        ("||/ a = 1", "At location 0: unknown unary operator \"||/\""),
        ("a IS TRUE", "At location 2: argument of IS TRUE must be bool, not int4"),
        ("a AND f", "At location 0: int4 is not castable to bool"),
        ("now() > ts", "At location 0: unknown or unsupported function now/0"),
        ("lower(t, 1) = t", "At location 0: Could not select a function overload for lower(text, int4)"),
        ("nosuch(t) = t", "At location 0: unknown or unsupported function nosuch/1"),
        ("current_date > d", "At location 0: SQLValueFunction is not supported in this context"),
        ("CASE WHEN f THEN a ELSE t END = 1", "At location 0: CASE types text and int4 cannot be matched"),
        ("a = ANY(c)", "At location 2: argument of ANY must be an array"),
        ("ARRAY[] = NULL", "At location 0: cannot determine type of empty array"),
        ("(a, b) = (1, 2, 3)", "At location 7: unequal number of entries in row expressions"),
        ("r < t", "At location 0: unknown reference r"),
        ("count(*) > 1", "At location 0: aggregation is not supported in this context"),
        ("t = B'101'", "At location 4: BitString values are not supported"),
        ("a::money = '1'", "At location 3: unsupported type money"),
        ("d::int4 = 1", "At location 0: unknown cast from type date to type int4"),
        ("t COLLATE \"C\" = 'x'", "At location 2: CollateClause is not supported in this context"),
        ("t LIKE 'a\\'", "At location 2: LIKE pattern must not end with escape character"),
        ("1 / 0 = a", "At location 0: Failed to apply function to constant arguments"),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
    let long = format!("a = 1{}", " ".repeat(MAX_BYTES));
    assert_eq!(error(&long), "WHERE clause of 65541 bytes is bigger than maximum size of 65536 bytes");
}

#[test]
fn parameters_have_one_type() {
    let twice = parse_with("a = $1 OR b = $1", &["5"]).expect("parses");
    assert_eq!(twice.sql(), r#"("a" = 5) OR ("b" = 5)"#);
    let error = |text: &str| parse_with(text, &["10"]).expect_err(text).to_string();
    assert_eq!(error("a = $1 OR t = $1"), "At location 12: Could not select an operator overload");
    assert_eq!(error("a = $1 OR t = $1::text"), "At location 14: type conflict for $1: int4 and text");
    let injected = parse_with("t = $1", &["' OR true --"]).expect("parses");
    assert_eq!(injected.sql(), r#""t" = ''' OR true --'::text"#);
}

#[test]
fn equality_for_the_index() {
    let equality = |text: &str| parse(text).expect(text).equality().map(|found| (found.column, found.text));
    let found = |column: usize, text: &str| Some((column, text.to_owned()));
    assert_eq!(equality("a = 5"), found(0, "5"));
    assert_eq!(equality("'5' = b"), found(1, "5"));
    assert_eq!(equality("f AND t = 'x'"), found(4, "t"));
    assert_eq!(equality("a > 1 AND t = 'x'"), found(3, "x"));
    assert_eq!(equality("f = false"), found(4, "f"));
    assert_eq!(
        equality("u = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"),
        found(10, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
    );
    for none in ["a = 5 OR t = 'x'", "a = 5.0", "n = 5", "p = 'x'", "t = p", "a = NULL", "NOT f", "a <> 5"] {
        assert_eq!(equality(none), None, "{none}");
    }
}

#[test]
fn hostile_sizes_are_refused() {
    let nested = format!("{}a = 1{}", "(".repeat(20_000), ")".repeat(20_000));
    let signs = format!("a = {}1", "- ".repeat(20_000));
    let chain = format!("a = 1{}", " + 1 + a".repeat(5_000));
    let nots = format!("{} f", "NOT ".repeat(10_000));
    for text in [&nested, &signs, &chain, &nots] {
        let error = error(text);
        assert!(error.ends_with("expression is nested more than 48 levels deep"), "{error}");
    }
    let terms = format!("a IN (1{})", ",1".repeat(MAX_TERMS));
    assert!(error(&terms).ends_with("expression has more than 20000 terms"));
    // A long chain of AND or OR is no deep one.
    let wide = format!("f{}", " OR f".repeat(6_000));
    assert_eq!(truth(&wide, &[("f", "t")]), Some(true));
}

#[test]
fn columns_may_be_qualified_by_their_table() {
    let name = crate::pg::QualifiedName::new("public", "User");
    let columns = columns();
    let parse = |text: &str| {
        let table = Subject { name: Some(&name), columns: &columns };
        Clause::parse_plain(text, &BTreeMap::new(), table)
    };
    let plain = parse("a = 1").unwrap();
    for text in ["\"User\".a = 1", "public.\"User\".a = 1", "\"public\".\"User\".\"a\" = 1"] {
        assert_eq!(parse(text).unwrap().sql(), plain.sql(), "{text}");
    }
    for text in ["\"user\".a = 1", "other.\"User\".a = 1", "x.public.\"User\".a = 1", "\"User\".zz = 1"] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use super::*;
    use proptest::prelude::*;

    fn words() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
            "a",
            "b",
            "t",
            "f",
            "n",
            "x",
            "p",
            "d",
            "ts",
            "u",
            "1",
            "2.5",
            "'5'",
            "'x'",
            "NULL",
            "true",
            "(",
            ")",
            ",",
            "=",
            "<",
            ">=",
            "<>",
            "+",
            "-",
            "*",
            "/",
            "%",
            "||",
            "AND",
            "OR",
            "NOT",
            "IN",
            "BETWEEN",
            "LIKE",
            "SIMILAR TO",
            "COLLATE",
            "[",
            "]",
            ".",
            "~",
            "upper(",
            "VARIADIC",
            "CASE",
            "IS",
            "DISTINCT",
            "FROM",
            "::int8",
            "::text",
            "$1",
            "~~",
            "@",
            "E'\\",
            "$$",
            "/*",
            ";",
            "[",
        ]);
        prop::collection::vec(word, 0..14).prop_map(|words| words.join(" "))
    }

    fn expression() -> impl Strategy<Value = String> {
        let number =
            prop::sample::select(vec!["a", "b", "c", "n", "x", "y", "1", "-7", "2.50", "'3'", "3000000000"]);
        let text = prop::sample::select(vec!["t", "p", "'ab'", "'a%'", "NULL"]);
        let leaf = prop_oneof![
            (
                number.clone(),
                prop::sample::select(vec!["=", "<", ">=", "<>", "IS DISTINCT FROM"]),
                number.clone()
            )
                .prop_map(|(l, op, r)| format!("{l} {op} {r}")),
            (number.clone(), number.clone(), number.clone())
                .prop_map(|(x, y, z)| format!("{x} IN ({y}, {z})")),
            (number.clone(), number.clone(), number)
                .prop_map(|(x, y, z)| format!("{x} + {y} BETWEEN {z} AND {y}")),
            (text.clone(), prop::sample::select(vec!["LIKE", "=", "<", "NOT ILIKE"]), text)
                .prop_map(|(l, op, r)| format!("{l} {op} {r}")),
            Just("f".to_owned()),
        ];
        leaf.prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("{l} AND {r}")),
                (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("({l} OR {r})")),
                inner.clone().prop_map(|x| format!("NOT ({x})")),
                inner.prop_map(|x| format!("({x}) IS NOT TRUE")),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_result(text in "\\PC{0,60}") {
            let _ = parse_with(&text, &["1"]);
        }

        #[test]
        fn any_words_end_in_a_fixed_point(text in words()) {
            if let Ok(filter) = parse_with(&text, &["5"]) {
                prop_assert_eq!(Filter::restore(filter.sql(), &columns()), Ok(filter));
            }
        }

        #[test]
        fn what_is_written_for_postgres_is_a_fixed_point(text in words()) {
            let params = BTreeMap::from([(1, "5".to_owned())]);
            if let Ok(filter) = PostgresFilter::parse(&text, &params, &columns()) {
                let again = PostgresFilter::parse(filter.sql(), &BTreeMap::new(), &columns());
                prop_assert_eq!(again.as_ref().map(PostgresFilter::sql), Ok(filter.sql()), "{}", text);
            }
        }

        #[test]
        fn canonical_text_means_the_same(text in expression()) {
            let Ok(filter) = parse(&text) else { return Ok(()) };
            let again = Filter::restore(filter.sql(), &columns());
            prop_assert_eq!(again.as_ref(), Ok(&filter));
            let row = row(&[("a", "1"), ("b", "-7"), ("n", "2.5"), ("x", "1"), ("t", "ab"), ("p", "ab  "), ("f", "t")]);
            prop_assert_eq!(again.expect("just compared").evaluate(&row), filter.evaluate(&row));
        }
    }
}
