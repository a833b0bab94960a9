//! Each family with the values that are awkward for it.

use super::clauses::columns;
use super::*;
use crate::shape::index::Index;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// An index of shapes 0, 1, … with these clauses, which must stand in it.
fn index(clauses: &[&str]) -> (Index, Vec<Filter>) {
    let parse = |text: &&str| Filter::parse(text, &BTreeMap::new(), &columns()).expect(text);
    let filters: Vec<Filter> = clauses.iter().map(parse).collect();
    let mut index = Index::default();
    for (id, filter) in (0..).zip(&filters) {
        index.insert(ShapeId(id), &filter.access().unwrap_or_else(|| panic!("{} is scanned", filter.sql())));
    }
    (index, filters)
}

fn row_of(values: &[(&str, &'static str)]) -> Row<'static> {
    let value = |kind: &clauses::Kind| values.iter().find(|(name, _)| *name == kind.0).map(|(_, text)| *text);
    row(&KINDS.iter().map(value).collect())
}

/// The shapes that an index finds for a new row, and how.
fn finds(index: &mut Index, row: &Row<'_>) -> Vec<(u32, Find)> {
    let mut candidates = Candidates::default();
    index.find(None, Some(row), &mut candidates);
    candidates.iter().map(|candidate| (candidate.id.0, candidate.new_find())).collect()
}

/// The shapes that an index finds for a row with one value; each of them is there.
#[track_caller]
fn assert_found(clauses: &[&str], column: &str, found: &[(Option<&'static str>, &[u32])]) {
    let (mut index, _) = index(clauses);
    for (text, expected) in found {
        let values: Vec<_> = text.iter().map(|text| (column, *text)).collect();
        let expected: Vec<_> = expected.iter().map(|id| (*id, Find::There)).collect();
        assert_eq!(finds(&mut index, &row_of(&values)), expected, "{column} is {text:?}");
    }
}

#[test]
fn equal_numbers_are_found_by_all_their_texts() {
    assert_found(
        &["n = 1", "n = 1.00", "n = 0", "n = 'NaN'", "n = 100"],
        "n",
        &[
            (Some("1"), &[0, 1]),
            (Some("1.0"), &[0, 1]),
            (Some("0.00"), &[2]),
            (Some("NaN"), &[3]),
            (Some("100.0"), &[4]),
            (Some("10"), &[]),
            (None, &[]),
        ],
    );
    assert_found(
        &["x = 0", "x = '-0'", "x = 'NaN'", "x IN (1, 2)"],
        "x",
        &[(Some("-0"), &[0, 1]), (Some("0"), &[0, 1]), (Some("NaN"), &[2]), (Some("1"), &[3])],
    );
    assert_found(&["i = 1", "i = 1.0", "i = 1.0::float8", "1 = i"], "i", &[(Some("1"), &[0, 1, 2, 3])]);
    assert_found(&["i = 1.5", "i < 1.5"], "i", &[(Some("1"), &[1]), (Some("2"), &[])]);
}

#[test]
fn padding_counts_where_postgres_counts_it() {
    let all: &[u32] = &[0, 1, 2];
    assert_found(&["p = 'a'", "p = 'a  '", "p IN ('a ', 'b')"], "p", &[(Some("a "), all), (Some("a"), all)]);
    assert_found(&["p = 'a '::text", "p = 'a'::text"], "p", &[(Some("a "), &[1]), (Some("a"), &[1])]);
    assert_found(&["t = 'a'", "t = 'a '"], "t", &[(Some("a"), &[0]), (Some("a "), &[1])]);
    assert_found(&["p LIKE 'a%'", "p LIKE 'a'"], "p", &[(Some("a "), &[0]), (Some("a"), &[0, 1])]);
}

#[test]
fn points_in_time_are_found_whatever_their_zone_and_type() {
    assert_found(
        &["tz = '2024-02-29 01:00:00+01'", "tz >= '2024-02-29 00:00:00Z'", "tz < '2024-02-29 00:00:00Z'"],
        "tz",
        &[
            (Some("2024-02-29 00:00:00+00"), &[0, 1]),
            (Some("2024-02-28 23:30:00+00"), &[2]),
            (Some("infinity"), &[1]),
        ],
    );
    assert_found(
        &["d = '2024-02-29 00:00:00'::timestamp", "d > '-infinity'", "d <= '2024-02-29 12:00:00'::timestamp"],
        "d",
        &[(Some("2024-02-29"), &[0, 1, 2]), (Some("-infinity"), &[2]), (Some("5874897-12-31"), &[1])],
    );
}

#[test]
fn ranges_have_their_bounds_where_they_are_written() {
    assert_found(
        &["i > 1", "i >= 1", "i < 1", "i <= 1", "i BETWEEN 1 AND 2", "i > 0 AND i < 2", "i BETWEEN 2 AND 1"],
        "i",
        &[
            (Some("0"), &[2, 3]),
            (Some("1"), &[1, 3, 4, 5]),
            (Some("2"), &[0, 1, 4]),
            (Some("-2147483648"), &[2, 3]),
            (None, &[]),
        ],
    );
    assert_found(
        &["i BETWEEN SYMMETRIC 3 AND 1", "NOT (i < 3)"],
        "i",
        &[(Some("1"), &[0]), (Some("3"), &[0, 1])],
    );
    assert_found(
        &["t < 'ab'", "t >= 'ab'", "t > 'ab'", "t BETWEEN 'A' AND 'a'"],
        "t",
        &[(Some("ab"), &[1]), (Some("abc"), &[1, 2]), (Some("a"), &[0, 3]), (Some("é"), &[1, 2])],
    );
}

#[test]
fn the_order_of_an_enum_is_that_of_its_labels() {
    assert_found(
        &["e > 'sad'", "e <= 'ok'", "e = 'happy'", "e IN ('sad', 'happy')"],
        "e",
        &[(Some("ok"), &[0, 1]), (Some("happy"), &[0, 2, 3]), (Some("sad"), &[1, 3])],
    );
}

#[test]
fn patterns_are_found_by_their_beginning_or_their_longest_piece() {
    assert_found(
        &["t LIKE 'ab%'", "t LIKE 'abc'", r"t LIKE 'a\%%'", "t ^@ 'ab'", "t LIKE 'é%'"],
        "t",
        &[
            (Some("ab"), &[0, 3]),
            (Some("abc"), &[0, 1, 3]),
            (Some("a%c"), &[2]),
            (Some("éa"), &[4]),
            (Some("Ab"), &[]),
            (None, &[]),
        ],
    );
    // Superset: whether the rest fits too, the clause decides.
    assert_found(
        &["t ILIKE '%aBc%'", "t LIKE '%abc%x'", "t ILIKE '%é_'", "t LIKE ANY (ARRAY['%bc%', 'xy%'])"],
        "t",
        &[(Some("xABCx"), &[0]), (Some("abc"), &[0, 1, 3]), (Some("É"), &[2]), (Some("xyz"), &[3])],
    );
    // The Kelvin sign is a letter k.
    assert_found(&["t ILIKE '%\u{212a}m%'"], "t", &[(Some("10 km"), &[0]), (Some("10 \u{212a}M"), &[0])]);
}

#[test]
fn nulls_and_truths_are_found() {
    assert_found(
        &[
            "i IS NULL",
            "i IS NOT NULL",
            "i IS NOT DISTINCT FROM NULL",
            "NOT (i IS NULL)",
            "i = NULL",
            "i IN (1, NULL)",
        ],
        "i",
        &[(None, &[0, 2]), (Some("1"), &[1, 3, 5]), (Some("2"), &[1, 3])],
    );
    assert_found(
        &["f", "NOT f", "f IS NOT TRUE", "f IS NOT FALSE", "f IS UNKNOWN", "f IS TRUE", "f = false"],
        "f",
        &[(Some("t"), &[0, 3, 5]), (Some("f"), &[1, 2, 6]), (None, &[2, 3, 4])],
    );
}

#[test]
fn arrays_are_found_by_their_elements() {
    assert_found(
        &[
            "ia @> '{1}'",
            "1 = ANY (ia)",
            "'{1,2}' <@ ia",
            "ia && '{2,5}'",
            "ia @> '{NULL}'",
            "NULL = ANY (ia)",
        ],
        "ia",
        &[
            (Some("{1}"), &[0, 1, 2]),
            (Some("[0:1]={5,NULL}"), &[3]),
            (Some("{{1,2},{2,1}}"), &[0, 1, 2, 3]),
            (Some("{NULL}"), &[]),
            (Some("{}"), &[]),
            (None, &[]),
        ],
    );
    assert_found(
        &["'a' = ANY (ta)", "ta @> '{\"a \"}'"],
        "ta",
        &[(Some("{a}"), &[0]), (Some("{\"a \"}"), &[1])],
    );
}

#[test]
fn a_shape_in_several_places_is_found_once() {
    let (mut index, filters) =
        index(&["i = 1 OR b = 2 OR t LIKE 'a%' OR i IN (1, 3)", "i = 1 AND b = 2", "t = 'ab' AND i > 0"]);
    let row = row_of(&[("i", "1"), ("b", "2"), ("t", "ab")]);
    assert_eq!(finds(&mut index, &row), [(0, Find::There), (1, Find::There), (2, Find::There)]);
    let exact: Vec<bool> = filters.iter().filter_map(Filter::access).map(|access| access.exact).collect();
    assert_eq!(exact, [true, true, false]);
    assert_eq!(finds(&mut index, &row_of(&[("i", "1"), ("b", "3")])), [(0, Find::There)]);
    assert_eq!(finds(&mut index, &row_of(&[("b", "2")])), [(0, Find::There)]);
    for (id, filter) in (0..).zip(&filters) {
        index.remove(ShapeId(id), &filter.access().expect("it was there"));
    }
    assert!(finds(&mut index, &row).is_empty());
    assert!(index.equal.is_empty() && index.intervals.is_empty() && index.presence.is_empty());
}

#[test]
fn an_index_is_empty_once_each_kind_of_place_is() {
    for clause in ["i = 1", "ta @> '{a}'", "i > 5", "t LIKE '%bcd%'", "t IS NULL"] {
        let (mut index, filters) = index(&[clause]);
        assert!(!index.is_empty(), "{clause}");
        index.remove(ShapeId(0), &filters[0].access().expect("it is found by a place"));
        assert!(index.is_empty(), "{clause}");
    }
}

#[test]
fn the_more_selective_term_finds_the_shape() {
    let (mut index, _) = index(&[
        "f AND n > 0 AND t ILIKE '%abcd%'",
        "f AND i = 1",
        "i IS NOT NULL AND b > 0",
        "b > 0 AND i IN (1, 2)",
    ]);
    let row = row_of(&[("f", "t"), ("n", "1"), ("t", "abc"), ("i", "3"), ("b", "1")]);
    assert_eq!(finds(&mut index, &row), [(2, Find::There)]);
}

#[test]
fn what_cannot_be_looked_up_is_scanned() {
    for text in [
        "i <> 1",
        "NOT (i = 1)",
        "i NOT IN (1, 2)",
        "t NOT LIKE 'a%'",
        "i = 1 OR b <> 2",
        "g = '1 day'",
        "i = b",
        "ia = '{1}'",
        "i > ALL (ARRAY[1, 2])",
        "(i = 1) IS NOT TRUE",
        "(i = 1) IS NULL",
        "t > v",
        "ia @> '{}'",
        "NOT (i = 1 AND b = 2)",
        "true",
    ] {
        let filter = Filter::parse(text, &BTreeMap::new(), &columns()).expect(text);
        assert!(filter.access().is_none(), "{text}");
    }
    for text in ["l < 'a'", "l ILIKE '%a%'"] {
        assert!(Filter::parse(text, &BTreeMap::new(), &columns()).is_err(), "{text} is Postgres's to judge");
    }
}

#[test]
fn of_a_value_that_core_cannot_read_the_clause_decides() {
    let clauses = [
        "i = 1",
        "i > 1",
        "i = 1 AND b = 2",
        "'1' = ANY (ta)",
        "1 = ANY (ia)",
        "e > 'sad'",
        "e = 'sad'",
        "t ILIKE '%a%'",
    ];
    let (mut index, _) = index(&clauses);
    let row = row_of(&[("i", "one"), ("b", "2"), ("ia", "{one}"), ("e", "new")]);
    let unknown: Vec<_> = [0, 1, 2, 4, 5].map(|id| (id, Find::Unknown)).into();
    assert_eq!(finds(&mut index, &row), unknown, "a new label is not the one that is asked for");
    let row = row_of(&[("i", "one"), ("e", "sad")]);
    let expected = [(0, Find::Unknown), (1, Find::Unknown), (6, Find::There)];
    assert_eq!(finds(&mut index, &row), expected, "where b is NULL, i does not matter");
    let invalid = Row { cells: KINDS.iter().map(|kind| (kind.0 == "t").then_some(&b"\xff"[..])).collect() };
    assert_eq!(finds(&mut index, &invalid), [(7, Find::Unknown)]);
}

#[test]
fn an_expression_is_a_lane_as_a_column_is() {
    assert_found(
        &["lower(t) = 'ab'", "length(t) > 2", "lower(t) LIKE 'ab%'", "t || 'x' = 'ABx'"],
        "t",
        &[(Some("AB"), &[0, 2, 3]), (Some("abc"), &[1, 2]), (None, &[])],
    );
}
