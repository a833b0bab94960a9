//! Clauses for Postgres: how they are written anew, and what they claim.

use super::super::*;
use super::columns;
use crate::pg::{QualifiedName, Relation};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn parse_with(text: &str, params: &[&str]) -> Result<PostgresFilter, FilterError> {
    let params = (1..).zip(params.iter().map(|value| (*value).to_owned())).collect();
    PostgresFilter::parse(text, &params, &columns())
}

fn parse(text: &str) -> PostgresFilter {
    parse_with(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    parse_with(text, &[]).err().map_or_else(|| panic!("`{text}` was accepted"), |error| error.to_string())
}

#[test]
fn what_is_written_anew_reads_as_it_was() {
    for (text, expected) in [
        ("t ~ 'a' and NOT f", r#"(("t") ~ ('a')) AND (NOT ("f"))"#),
        (r"upper(T) !~ E'\\d'", r#"("upper"("t")) !~ (E'\\d')"#),
        ("a = -5 OR a <> +.5e3", r#"(("a") = (-5)) OR (("a") <> (+ (.5e3)))"#),
        ("t COLLATE pg_catalog.\"C\" > 'a'", r#"(("t") COLLATE "pg_catalog"."C") > ('a')"#),
        ("(k).\"F x\"[1].g = 1", r#"(((("k")."F x")[1])."g") = (1)"#),
        ("t IS NOT NFKC NORMALIZED", r#"("t") IS NOT NFKC NORMALIZED"#),
        ("t NOT SIMILAR TO 'a' ESCAPE '#'", r#"("t") NOT SIMILAR TO ('a') ESCAPE ('#')"#),
        ("concat(VARIADIC '{a}') = t", r#"("concat"(VARIADIC '{a}')) = ("t")"#),
        ("\"position\"(t, 'a' || t) = 1", r#"("position"("t", ('a') || ("t"))) = (1)"#),
        ("ts AT TIME ZONE 'Asia/Tokyo' > tz", r#"("pg_catalog"."timezone"('Asia/Tokyo', "ts")) > ("tz")"#),
        ("(d, d) OVERLAPS (ts, '1 day')", r#""pg_catalog"."overlaps"("d", "d", "ts", '1 day')"#),
        ("a OPERATOR(\"s\"\"1\".+) 1 = 2", r#"(("a") OPERATOR("s""1".+) (1)) = (2)"#),
        ("t::char(3) = char 'abc'", r#"(("t")::"bpchar"(3)) = (('abc')::"bpchar")"#),
        ("t::interval(2) = interval '1 day'", r#"(("t")::interval(2)) = (('1 day')::interval)"#),
        ("t::\"char\" = t::s.\"T\"[]", r#"(("t")::"char") = (("t")::"s"."T"[])"#),
        ("b'101'::bit varying & x'f' = t", r#"(((B'101')::"varbit") & (X'f')) = ("t")"#),
        (
            "CASE a WHEN 1 THEN f ELSE t LIKE ANY ('{a}') END",
            r#"CASE ("a") WHEN (1) THEN ("f") ELSE (("t") ~~ ANY ('{a}')) END"#,
        ),
        (
            "a BETWEEN SYMMETRIC 1 AND 2 OR a NOT IN (1, 2)",
            r#"(("a") BETWEEN SYMMETRIC (1) AND (2)) OR (("a") NOT IN ((1), (2)))"#,
        ),
        (
            "NULLIF(a, 1) IS DISTINCT FROM GREATEST(a, NULL, 2)",
            r#"(NULLIF("a", 1)) IS DISTINCT FROM (GREATEST("a", NULL, 2))"#,
        ),
        ("(ARRAY[[1], [a]])[1:][1] = '{1}'", r#"((ARRAY[ARRAY[1], ARRAY["a"]])[(1):][1]) = ('{1}')"#),
        (
            "ROW(a, 1) IS NULL AND COALESCE(f, true) IS NOT TRUE",
            r#"((ROW("a", 1)) IS NULL) AND ((COALESCE("f", TRUE)) IS NOT TRUE)"#,
        ),
    ] {
        let filter = parse(text);
        assert_eq!(filter.sql(), expected, "{text}");
        assert_eq!(parse(filter.sql()).sql(), expected, "again");
    }
}

#[test]
fn parameters_are_literals_whatever_is_in_them() {
    let filter = parse_with("t ~ $1 AND a::text ~ $1::text", &["' OR '\\"]).unwrap();
    let literal = r"E''' OR ''\\'";
    let expected = format!(r#"(("t") ~ ({literal})) AND ((("a")::"text") ~ (({literal})::"text"))"#);
    assert_eq!(filter.sql(), expected);
    assert_eq!(error("t ~ $1"), "At location 4: parameter $1 was not provided");
    assert!(parse_with("t ~ $1", &["a\0b"]).is_err());
    let long = "x".repeat(60_000);
    let text = ["t ~ $1"; 100].join(" OR ");
    assert!(parse_with(&text, &[&long]).unwrap_err().to_string().contains("more than"));
}

#[test]
fn only_what_core_cannot_evaluate_goes_to_postgres() {
    let parse = |text: &str| Clause::parse(text, &BTreeMap::new(), &columns(), &[]);
    assert!(matches!(parse("t LIKE 'a%'").unwrap(), Clause::Plain(_)));
    let clause = parse("t ~ 'a'").unwrap();
    let filter = clause.postgres().expect("core has no regular expressions");
    assert_eq!((clause.sql(), clause.columns()), (filter.sql(), filter.columns()));
    for (text, expected) in [
        ("t ~ 'a' AND zz = 1", "At location 12: unknown reference zz"),
        ("t ~ 'a' AND now() > ts", "At location 12: unknown or unsupported function now/0"),
        ("t ~ 'a' AND pg_catalog.random() > x", "At location 12: unknown or unsupported function random/0"),
        ("t ~ 'a' AND age(ts) > '1 day'", "At location 12: unknown or unsupported function age/1"),
        ("t ~ 'a' AND t::regclass = a", "At location 15: unsupported type regclass"),
        ("t ~ 'a' AND current_date > d", "At location 12: SQLValueFunction is not supported in this context"),
        ("t ~ 'a' AND a IN (SELECT 1)", "At location 40: Expected a plain column reference"),
        ("a = t", "At location 2: Could not select an operator overload"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn a_clause_claims_what_the_catalog_must_confirm() {
    let names = |claims: &[PurityClaim<Signature>]| -> Vec<String> {
        claims.iter().map(|claim| format!("{}/{}", claim.subject.name, claim.subject.arity)).collect()
    };
    let filter = parse(
        "s.f(a, 1) AND NOT f(t) AND - a OPERATOR(s.<+>) 1 = 2 AND t::s.pair = k AND t ~ 'Now' AND date(t) = d",
    );
    let claims = filter.claims();
    assert_eq!(names(&claims.functions), ["f/2", "f/1", "date/1"]);
    assert_eq!(claims.functions[0].subject.schema.as_deref(), Some("s"));
    assert_eq!(names(&claims.operators), ["=/2", "<+>/2", "-/1", "~/2"]);
    assert_eq!(claims.operators[1].subject.schema.as_deref(), Some("s"));
    assert_eq!(names(&claims.types), [r#""s"."pair"/1"#]);
    let texts: Vec<&str> = claims.not_texts.iter().map(|claim| claim.subject.as_str()).collect();
    assert_eq!(texts, [r#""t""#], "once");
    let relation = Relation::new(1, QualifiedName::new("public", "w"), columns());
    assert_eq!(claims.not_texts_sql(&relation).as_deref(), Some(r#"SELECT ("t") FROM "public"."w""#));
    assert_eq!(claims.clock_words.len(), 1);
    assert!(claims.condition.contains(r#"("t") ~ ($1)"#), "{}", claims.condition);
    assert!(filter.sql().contains(r#"("t") ~ ('Now')"#), "{}", filter.sql());
}

#[test]
fn a_batch_takes_one_array_for_each_column() {
    let mut columns = columns();
    columns[3].typing.schema = "pg_catalog".to_owned();
    columns[3].typing.collation_name = Some(QualifiedName::new("public", "de"));
    columns[16].type_oid += 1;
    let filter = PostgresFilter::parse("k[1] IS NULL AND t ~ 'a'", &BTreeMap::new(), &columns).unwrap();
    let relation = Relation::new(1, QualifiedName::new("public", "w"), columns);
    assert_eq!(
        filter.batch_sql(&relation),
        concat!(
            r#"SELECT EXISTS (SELECT FROM (SELECT c1::"pg_catalog"."text" COLLATE "public"."de" AS "t", "#,
            r#"c2::"pair"[] AS "k") AS judged WHERE (((("k")[1]) IS NULL) AND (("t") ~ ('a')))) "#,
            r"FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS given(c1, c2, ordinal) ORDER BY ordinal"
        )
    );
    assert_eq!(parse("'a' ~ 'a'").columns(), [0], "rows are counted by some column");
}

/// Each cast writes what is before it once more, and not once more for each that is before it.
#[test]
fn a_chain_of_casts_takes_no_longer_than_it_is() {
    let claims = parse(&format!("a{} = 1", "::x".repeat(40))).claims().clone();
    assert_eq!((claims.not_texts.len(), claims.types.len()), (40, 1));
    assert_eq!(claims.not_texts[38].subject, r#"("a")::"x""#);
}
