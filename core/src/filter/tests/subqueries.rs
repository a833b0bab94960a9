//! `IN (SELECT …)`: which are accepted, and what becomes of them.

use super::super::*;
use super::columns as outer_columns;
use crate::pg::{Collation, QualifiedName, Relation, TypeKind, oid};
use std::sync::Arc;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// `proj (id int4, org int4, active bool, code text, big int8, price numeric, j jsonb)`, `org (id int4, active
/// bool)`, `app."T" ("Id" int4)`
fn inner() -> Vec<Arc<Relation>> {
    let relation = |oid, name, columns| Arc::new(Relation::new(oid, name, columns));
    let proj = vec![
        Column::new("id", oid::INT4, "int4"),
        Column::new("org", oid::INT4, "int4"),
        Column::new("active", oid::BOOL, "bool"),
        Column::new("code", oid::TEXT, "text"),
        Column::new("big", oid::INT8, "int8"),
        Column::new("price", oid::NUMERIC, "numeric"),
        Column::new("j", oid::JSONB, "jsonb"),
    ];
    let org = vec![Column::new("id", oid::INT4, "int4"), Column::new("active", oid::BOOL, "bool")];
    vec![
        relation(1, QualifiedName::new("public", "proj"), proj),
        relation(2, QualifiedName::new("public", "org"), org),
        relation(3, QualifiedName::new("app", "T"), vec![Column::new("Id", oid::INT4, "int4")]),
    ]
}

fn parse_with(text: &str, params: &[&str]) -> Result<Clause, FilterError> {
    let params = (1..).zip(params.iter().map(|value| (*value).to_owned())).collect();
    Clause::parse(text, &params, &outer_columns(), &inner())
}

fn parse(text: &str) -> SubqueryFilter {
    let clause = parse_with(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
    clause.subqueries().unwrap_or_else(|| panic!("{text} has no subquery")).clone()
}

fn error(text: &str) -> String {
    parse_with(text, &[]).err().map_or_else(|| panic!("`{text}` was accepted"), |error| error.to_string())
}

/// `IN 0` for a member of dependency 0, `NOT IN 0`, or the plain filter's text.
fn described(filter: &SubqueryFilter) -> Vec<Vec<String>> {
    let describe = |position: &Position| match &position.condition {
        Condition::Plain(filter) => filter.sql().to_owned(),
        Condition::Member { dependency, columns } => {
            format!("{columns:?} {}IN {dependency}", if position.negated { "NOT " } else { "" })
        }
    };
    let disjuncts = filter.disjuncts().iter();
    disjuncts.map(|range| filter.positions()[range.clone()].iter().map(describe).collect()).collect()
}

#[test]
fn canonical_texts_are_runnable_and_stable() {
    for (text, expected) in [
        ("a IN (SELECT id FROM proj)", r#""a" IN (SELECT "id" FROM "public"."proj")"#),
        (
            "NOT (a IN (SELECT \"id\" AS x FROM Public.proj AS p WHERE active))",
            r#""a" NOT IN (SELECT "id" FROM "public"."proj" WHERE "active")"#,
        ),
        (
            "((c, t)) NOT IN (SELECT id, code FROM ONLY proj) AND f",
            r#"(("c", "t") NOT IN (SELECT "id", "code" FROM "public"."proj")) AND ("f")"#,
        ),
        (
            "NOT (a IN (SELECT id FROM proj) AND (f OR (a, c) IS NULL))",
            concat!(
                r#"("a" NOT IN (SELECT "id" FROM "public"."proj")) OR "#,
                r#"(NOT ("f" OR (("a" IS NULL) AND ("c" IS NULL))))"#
            ),
        ),
        (
            "(a, c) IS NULL AND a IN (SELECT id FROM proj)",
            r#"("a" IS NULL) AND ("c" IS NULL) AND ("a" IN (SELECT "id" FROM "public"."proj"))"#,
        ),
        (r#"a IN (SELECT "Id" FROM app."T")"#, r#""a" IN (SELECT "Id" FROM "app"."T")"#),
        (
            "a IN (SELECT id FROM proj WHERE org IN (SELECT id FROM org WHERE active) OR code = 'x')",
            concat!(
                r#""a" IN (SELECT "id" FROM "public"."proj" WHERE "#,
                r#"("org" IN (SELECT "id" FROM "public"."org" WHERE "active")) OR ("code" = 'x'::text))"#
            ),
        ),
    ] {
        let clause = parse_with(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(clause.sql(), expected, "{text}");
        let again = Clause::restore(clause.sql(), &BTreeMap::new(), &outer_columns(), &inner()).unwrap();
        assert_eq!(again.sql(), expected, "again");
    }
}

#[test]
fn terms_are_numbered_through_all_disjuncts() {
    let s = |n: u32| format!("a IN (SELECT id FROM proj WHERE org = {n})");
    let filter = parse(&format!("({} OR {}) AND c < 100", s(1), s(2)));
    assert_eq!(described(&filter), [["[0] IN 0", r#""c" < 100"#], ["[0] IN 1", r#""c" < 100"#]]);
    assert_eq!(filter.columns(), [0, 2]);
    let filter = parse(&format!("NOT ({} AND t = 'x') AND g", s(1)));
    assert_eq!(described(&filter), [["[0] NOT IN 0", r#""g""#], [r#"NOT ("t" = 'x'::text)"#, r#""g""#]]);
    let filter = parse(&format!("({} OR f) AND ({} OR g)", s(1), s(2)));
    assert_eq!(filter.disjuncts(), [0..2, 2..4, 4..6, 6..8]);
    // What has no subquery in it stays whole.
    assert_eq!(described(&parse(&format!("(f OR g) AND {}", s(1)))), [[r#""f" OR "g""#, "[0] IN 0"]]);
}

#[test]
fn one_inner_query_is_one_dependency() {
    let filter = parse(
        "a IN (SELECT id FROM proj WHERE active) OR c IN (select \"id\" from public.proj where (active))",
    );
    assert_eq!(described(&filter), [["[0] IN 0"], ["[2] IN 0"]]);
    let dependency = &filter.dependencies()[0];
    assert_eq!(dependency.sql, r#"SELECT "id" FROM "public"."proj" WHERE "active""#);
    assert_eq!((dependency.columns.as_slice(), dependency.used_columns()), (&[0][..], vec![0, 2]));
    let both = "a IN (SELECT id FROM proj) AND c NOT IN (SELECT id FROM proj)";
    let text =
        "a subquery dependency cannot be used with both positive and negative polarity in the same filter";
    assert_eq!(error(both), text);
    assert!(parse_with("NOT (a IN (SELECT id FROM proj) OR c IN (SELECT id FROM proj))", &[]).is_ok());
}

#[test]
fn selected_columns_keep_their_order() {
    let filter = parse("(c, a) IN (SELECT org, id FROM proj)");
    assert_eq!(described(&filter), [["[2, 0] IN 0"]]);
    assert_eq!(filter.dependencies()[0].columns, [1, 0]);
    let filter = parse("(t, n) IN (SELECT code, price FROM proj)");
    assert_eq!(filter.dependencies()[0].equalities, [Equal::Text, Equal::Numeric]);
    assert_eq!(&*filter.dependencies()[0].key(1, b"1.50"), b"1.5");
}

#[test]
fn parameters_have_one_type_inside_and_outside() {
    let text = "c = $1 AND a IN (SELECT id FROM proj WHERE org = $1 AND code = $2)";
    let clause = parse_with(text, &["5", "x"]).unwrap();
    assert_eq!(
        clause.sql(),
        r#"("c" = 5) AND ("a" IN (SELECT "id" FROM "public"."proj" WHERE ("org" = 5) AND ("code" = 'x'::text)))"#
    );
    let conflict = "c = $1 AND a IN (SELECT id FROM proj WHERE code = $1)";
    let error = parse_with(conflict, &["5"]).unwrap_err().to_string();
    assert_eq!(error, "At location 48: Could not select an operator overload");
}

#[test]
fn tables_are_named_in_order_of_appearance() {
    let text = "a IN (SELECT x FROM s.t WHERE y IN (SELECT z FROM \"U\")) OR NOT b IN (SELECT id FROM t)";
    let names: Vec<String> = subquery_tables(text).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, [r#""s"."t""#, r#""public"."U""#, r#""public"."t""#]);
    assert!(subquery_tables("a = 1").unwrap().is_empty());
    assert!(subquery_tables("a = ").is_err());
}

#[test]
fn refusals_have_their_own_words() {
    let plain = "Expected a plain column reference";
    let clauses = "SELECT statement must not contain any clauses";
    let single = "Expected a single table reference";
    let left = "currently, left side of `IN (SELECT ...)` can only be a column reference or a list of column references";
    let sublink = "only `value IN (SELECT ...)` sublinks are supported right now";
    for (text, expected) in [
        ("a IN (SELECT q.id FROM proj p)", format!("At location 28: {plain}")),
        ("a IN (SELECT * FROM proj)", format!("At location 28: {plain}")),
        ("a IN (SELECT max(id) FROM proj)", format!("At location 28: {plain}")),
        ("a IN (SELECT id, 1)", format!("At location 32: {plain}")),
        ("a IN (SELECT id)", single.to_owned()),
        ("a IN (SELECT id FROM proj, org)", single.to_owned()),
        ("a IN (SELECT id FROM proj JOIN org USING (id))", single.to_owned()),
        ("a IN (SELECT id FROM proj p(x))", single.to_owned()),
        ("a IN (SELECT id FROM proj TABLESAMPLE SYSTEM (1))", single.to_owned()),
        ("a IN (SELECT id FROM proj UNION SELECT id FROM org)", single.to_owned()),
        ("a IN (VALUES (1))", single.to_owned()),
        ("a IN (TABLE org)", single.to_owned()),
        ("a IN (SELECT DISTINCT id FROM proj)", clauses.to_owned()),
        ("a IN (SELECT id FROM proj ORDER BY id)", clauses.to_owned()),
        ("a IN (SELECT id FROM proj WHERE active LIMIT 1)", clauses.to_owned()),
        ("a IN (SELECT id FROM proj FETCH FIRST ROW ONLY)", clauses.to_owned()),
        ("a IN (SELECT id FROM proj FOR UPDATE)", clauses.to_owned()),
        ("a IN (WITH x AS (SELECT 1) SELECT id FROM proj)", clauses.to_owned()),
        ("a + 1 IN (SELECT id FROM proj)", format!("At location 6: {left}")),
        ("1 IN (SELECT id FROM proj)", format!("At location 2: {left}")),
        ("(a, 1) IN (SELECT id, org FROM proj)", format!("At location 7: {left}")),
        ("a = (SELECT id FROM proj)", format!("At location 4: {sublink}")),
        ("EXISTS (SELECT id FROM proj)", format!("At location 0: {sublink}")),
        ("EXISTS (SELECT 1)", format!("At location 30: {plain}")),
        ("a = ANY (SELECT id FROM proj)", format!("At location 2: {sublink}")),
        ("a = ANY (ARRAY(SELECT id FROM proj))", format!("At location 9: {sublink}")),
        ("a IN (SELECT id FROM proj WHERE nope = 1)", "At location 32: unknown reference nope".to_owned()),
        ("a IN (SELECT id FROM proj WHERE org = c)", "At location 38: unknown reference c".to_owned()),
        ("zz IN (SELECT id FROM proj)", "At location 0: unknown reference zz".to_owned()),
        ("a IN (SELECT nope, no FROM proj)", "The following columns are not found on the table: nope, no".to_owned()),
        ("a IN (SELECT id FROM zz)", r#"Table "public"."zz" does not exist"#.to_owned()),
        ("1 AND a IN (SELECT id FROM proj)", "At location 0: int4 is not castable to bool".to_owned()),
        (
            "upper(t) COLLATE \"C\" = 'A' AND a IN (SELECT id FROM proj)",
            "At location 9: CollateClause is not supported in this context (beside a subquery, where Postgres is not \
             asked to evaluate it)"
                .to_owned(),
        ),
        (
            "soundex(t) = 'A' AND a IN (SELECT id FROM proj)",
            "At location 0: unknown or unsupported function soundex/1 (beside a subquery, where Postgres is not asked \
             to evaluate it)"
                .to_owned(),
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn types_must_be_the_same_and_have_one_text_per_value() {
    let mismatch = |at: usize, left: &str, right: &str| {
        format!(
            "At location {at}: left side of `IN (SELECT ...)` has type {left} but subquery returns {right}[]"
        )
    };
    for (text, expected) in [
        ("a IN (SELECT code FROM proj)", mismatch(2, "int4", "text")),
        ("a IN (SELECT big FROM proj)", mismatch(2, "int4", "int8")),
        ("a IN (SELECT id, org FROM proj)", mismatch(2, "int4", "row of (int4, int4)")),
        ("(a, c) IN (SELECT id FROM proj)", mismatch(7, "row of (int4, int4)", "int4")),
        ("(a, c) NOT IN (SELECT code, id FROM proj)", mismatch(7, "row of (int4, int4)", "row of (text, int4)")),
        (
            "j IN (SELECT j FROM proj)",
            "At location 2: IN (SELECT ...) is not supported for type jsonb: equal values may differ in their texts"
                .to_owned(),
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
    let mut nondeterministic = outer_columns();
    for column in &mut nondeterministic {
        column.typing.collation = Collation::Nondeterministic;
    }
    let text = "t IN (SELECT code FROM proj)";
    let error = Clause::parse(text, &BTreeMap::new(), &nondeterministic, &inner()).unwrap_err().to_string();
    assert_eq!(error, "At location 2: IN (SELECT ...) is not supported under a nondeterministic collation");
}

#[test]
fn enums_are_told_by_schema_and_name() {
    let mood = |schema: &str| {
        let mut column = Column::new("m", 30_000, "mood");
        column.typing.schema = schema.to_owned();
        column.typing.kind = TypeKind::Enum { labels: vec!["ok".to_owned()] };
        column
    };
    let table = |schema| Arc::new(Relation::new(9, QualifiedName::new("public", "t"), vec![mood(schema)]));
    let parse = |schema| {
        Clause::parse("m IN (SELECT m FROM t)", &BTreeMap::new(), &[mood("public")][..], &[table(schema)])
    };
    assert!(parse("public").is_ok());
    assert!(parse("other").is_err());
}

#[test]
fn subqueries_stand_under_and_or_not_alone() {
    for (text, at, inside) in [
        ("(a IN (SELECT id FROM proj)) IS TRUE", 3, "IS TRUE, IS FALSE or IS UNKNOWN"),
        ("(a IN (SELECT id FROM proj)) = true", 3, "an operator"),
        ("coalesce(f AND a IN (SELECT id FROM proj), false)", 17, "COALESCE"),
        ("CASE WHEN a IN (SELECT id FROM proj) THEN f END", 12, "CASE"),
        ("g OR (NOT a IN (SELECT id FROM proj)) IS NULL", 12, "IS NULL"),
    ] {
        let expected = format!(
            "At location {at}: IN (SELECT ...) is only supported under AND, OR and NOT, not inside {inside}"
        );
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn filters_of_subsets_take_no_subquery() {
    for text in ["a IN (SELECT id FROM proj)", "EXISTS (SELECT 1)", "a = ANY (SELECT 1)", "(SELECT true)"] {
        let refused = Filter::parse(text, &BTreeMap::new(), &outer_columns()).unwrap_err();
        assert!(
            matches!(refused, FilterError::At { reason: Reason::Unsupported("SubLink"), .. }),
            "{text}: {refused}"
        );
    }
}

#[test]
fn clauses_have_limits() {
    let factor = |n: usize| format!("(a IN (SELECT id FROM proj WHERE org = {n}) OR c = {n})");
    let factors = |n: usize| (0..n).map(factor).collect::<Vec<_>>().join(" AND ");
    assert_eq!(
        error(&factors(7)),
        "WHERE clause too complex for DNF decomposition (128 disjuncts exceeds limit of 100)"
    );
    assert_eq!(parse(&factors(6)).positions().len(), 64 * 6);
    let long = format!(
        "({} OR f) AND ({})",
        factor(0),
        (0..60).map(|n| format!("({} AND g)", factor(n))).collect::<Vec<_>>().join(" OR ")
    );
    assert!(error(&long).starts_with("WHERE clause too complex for DNF decomposition ("));
    let many = (0..101).map(factor).collect::<Vec<_>>().join(" OR ");
    assert!(error(&many).ends_with("clause has more than 100 subqueries"), "{}", error(&many));
    let deep = (0..60).fold("SELECT id FROM proj".to_owned(), |query, _| {
        format!("SELECT id FROM proj WHERE id IN ({query})")
    });
    assert!(error(&format!("a IN ({deep})")).ends_with("expression is nested more than 48 levels deep"));
}

/// The OR of ANDs that becomes of a clause says what the clause said, in SQL's logic with NULL.
#[cfg(not(target_arch = "wasm32"))]
mod logic {
    use super::*;
    use proptest::prelude::*;

    /// A clause and what it says for a truth of each leaf.
    #[derive(Debug, Clone)]
    enum Logic {
        Leaf,
        Not(Box<Logic>),
        And(Vec<Logic>),
        Or(Vec<Logic>),
    }

    impl Logic {
        /// Every leaf gets a number of its own; even ones are subqueries, odd ones plain.
        fn write(&self, next: &mut usize) -> String {
            let mut joined = |parts: &[Self], word: &str| {
                let parts: Vec<String> = parts.iter().map(|part| part.write(next)).collect();
                format!("({})", parts.join(word))
            };
            match self {
                Self::And(parts) => joined(parts, " AND "),
                Self::Or(parts) => joined(parts, " OR "),
                Self::Not(part) => format!("(NOT {})", part.write(next)),
                Self::Leaf => {
                    *next += 1;
                    let n = *next - 1;
                    if n.is_multiple_of(2) {
                        format!("a IN (SELECT id FROM proj WHERE org = {n})")
                    } else {
                        format!("c = {n}")
                    }
                }
            }
        }

        fn truth(&self, leaves: &mut impl Iterator<Item = Option<bool>>) -> Option<bool> {
            match self {
                Self::Leaf => leaves.next().flatten(),
                Self::Not(part) => part.truth(leaves).map(|truth| !truth),
                Self::And(parts) => {
                    let truths: Vec<_> = parts.iter().map(|part| part.truth(leaves)).collect();
                    and(&truths)
                }
                Self::Or(parts) => {
                    let truths: Vec<_> =
                        parts.iter().map(|part| part.truth(leaves).map(|truth| !truth)).collect();
                    and(&truths).map(|truth| !truth)
                }
            }
        }
    }

    fn and(truths: &[Option<bool>]) -> Option<bool> {
        if truths.contains(&Some(false)) { Some(false) } else { (!truths.contains(&None)).then_some(true) }
    }

    fn logic() -> impl Strategy<Value = Logic> {
        Just(Logic::Leaf).prop_recursive(4, 8, 3, |inner| {
            let parts = prop::collection::vec(inner.clone(), 2..4);
            prop_oneof![
                inner.prop_map(|part| Logic::Not(Box::new(part))),
                parts.clone().prop_map(Logic::And),
                parts.prop_map(Logic::Or),
            ]
        })
    }

    /// The number of the leaf that a dependency is.
    fn leaf(dependency: &Dependency) -> usize {
        dependency.sql.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap()
    }

    proptest! {
        /// Only the leaves' truths are made up: plain leaves are evaluated, `c` being NULL or a number.
        #[test]
        fn the_or_of_ands_says_what_the_clause_says(
            logic in logic(),
            members in prop::collection::vec(prop::option::of(any::<bool>()), 64),
            c in prop::option::of(0_usize..12),
        ) {
            let mut count = 0;
            let text = logic.write(&mut count);
            let filter = match parse_with(&text, &[]) {
                Ok(Clause::Subqueries(filter)) => filter,
                Ok(_) => return Err(TestCaseError::fail(text)),
                Err(error) => {
                    prop_assert!(error.to_string().contains("too complex"), "{}: {}", text, error);
                    return Ok(());
                }
            };
            let truth_of = |n: usize| if n.is_multiple_of(2) { members[n] } else { c.map(|c| c == n) };
            let expected = logic.truth(&mut (0..count).map(truth_of)) == Some(true);
            let digits = c.map(|c| c.to_string());
            let row = OneColumn(digits.as_deref().map(str::as_bytes));
            let holds = |position: &Position| match &position.condition {
                Condition::Plain(filter) => filter.evaluate(&row).unwrap() == Some(true),
                Condition::Member { dependency, .. } => {
                    members[leaf(&filter.dependencies()[*dependency])] == Some(!position.negated)
                }
            };
            let belongs = filter.disjuncts().iter().any(|range| filter.positions()[range.clone()].iter().all(holds));
            prop_assert_eq!(belongs, expected, "{}", text);
            let again = Clause::restore(filter.sql(), &BTreeMap::new(), &outer_columns(), &inner()).unwrap();
            prop_assert_eq!(again.sql(), filter.sql());
        }
    }

    /// Column `c` of the outer table.
    struct OneColumn<'a>(Option<&'a [u8]>);

    impl Row for OneColumn<'_> {
        fn text(&self, column: usize) -> Option<&[u8]> {
            if column == 2 { self.0 } else { None }
        }
    }
}
