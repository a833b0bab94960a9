//! Items 204–206: which subqueries are accepted, and how the others are refused.

use super::{TABLES, named};
use crate::{invalid, open};
use limn_tests::{Limn, Response, encode};
use tokio::sync::OnceCell;

/// The tables' names begin so.
const NAME: &str = "s206";

/// The answer to a shape of `ITEM` with that clause.
async fn ask(clause: &str) -> Response {
    static SERVER: OnceCell<&Limn> = OnceCell::const_new();
    let made = SERVER.get_or_init(|| async {
        let server = open().await;
        let sql = server.sql().await;
        sql.execute(&named(NAME, TABLES)).await;
        sql.execute("ALTER TABLE s206_org ADD big int8").await;
        server
    });
    let clause = encode(&named(NAME, clause));
    made.await.get(&format!("table=s206_item&where={clause}&offset=-1")).await
}

async fn assert_refused(clause: &str, parameter: &str, text: &str) {
    let response = ask(clause).await;
    assert_eq!((response.status, response.json()), (400, invalid(parameter, text)), "{clause}");
}

#[tokio::test]
async fn item_204_a_subquery_has_one_polarity() {
    let text =
        "a subquery dependency cannot be used with both positive and negative polarity in the same filter";
    let subquery = "IN (SELECT id FROM PROJ WHERE active)";
    assert_refused(&format!("proj_id {subquery} AND alt_id NOT {subquery}"), "where", text).await;
    assert_refused(&format!("proj_id {subquery} OR NOT proj_id {subquery}"), "where", text).await;
    let twice = ask(&format!("NOT (proj_id NOT {subquery}) AND alt_id {subquery}")).await;
    assert_eq!(twice.status, 200, "{}", twice.text());
}

#[tokio::test]
async fn item_204_there_is_a_limit_to_the_ways_to_belong() {
    let parts: Vec<String> = (0..7)
        .map(|n| format!("(proj_id IN (SELECT id FROM PROJ WHERE id = {n}) OR alt_id = {n})"))
        .collect();
    let text = "WHERE clause too complex for DNF decomposition (128 disjuncts exceeds limit of 100)";
    assert_refused(&parts.join(" AND "), "where", text).await;
    assert_eq!(ask(&parts[..6].join(" AND ")).await.status, 200);
}

#[tokio::test]
async fn item_205_types_must_be_the_same() {
    for (clause, at, left, inner) in [
        ("proj_id IN (SELECT code FROM PROJ)", 8, "int4", "text[]"),
        ("proj_id IN (SELECT big FROM ORG)", 8, "int4", "int8[]"),
        ("code IN (SELECT id FROM PROJ)", 5, "text", "int4[]"),
        ("proj_id IN (SELECT id, org_id FROM PROJ)", 8, "int4", "row of (int4, int4)[]"),
        ("(proj_id, alt_id) IN (SELECT id FROM PROJ)", 18, "row of (int4, int4)", "int4[]"),
        (
            "(proj_id, code) IN (SELECT code, id FROM PROJ)",
            16,
            "row of (int4, text)",
            "row of (text, int4)[]",
        ),
    ] {
        let reason = format!("left side of `IN (SELECT ...)` has type {left} but subquery returns {inner}");
        assert_refused(clause, "where", &format!("At location {at}: {reason}")).await;
    }
}

#[tokio::test]
async fn item_206_what_is_not_there_is_named() {
    let text = "Table \"public\".\"nope\" does not exist. If the table name contains capitals or special characters \
                you must quote it.";
    assert_refused("proj_id IN (SELECT id FROM nope)", "table", text).await;
    let text = "The following columns are not found on the table: nope";
    assert_refused("proj_id IN (SELECT nope FROM PROJ)", "columns", text).await;
    assert_refused(
        "proj_id IN (SELECT id FROM PROJ WHERE nope = 1)",
        "where",
        "At location 43: unknown reference nope",
    )
    .await;
    let correlated = "proj_id IN (SELECT id FROM PROJ WHERE org_id = alt_id)";
    assert_refused(correlated, "where", "At location 52: unknown reference alt_id").await;
}

#[tokio::test]
async fn item_206_a_subquery_selects_plain_columns_of_one_table() {
    let clauses = "SELECT statement must not contain any clauses";
    let one_table = "Expected a single table reference";
    let plain = "At location 34: Expected a plain column reference";
    for (inner, text) in [
        ("SELECT DISTINCT id FROM PROJ", clauses),
        ("SELECT id FROM PROJ ORDER BY id", clauses),
        ("SELECT id FROM PROJ LIMIT 1", clauses),
        ("SELECT id FROM PROJ OFFSET 1", clauses),
        ("SELECT id FROM PROJ GROUP BY id", clauses),
        ("SELECT id FROM PROJ FOR UPDATE", clauses),
        ("WITH x AS (SELECT 1) SELECT id FROM PROJ", clauses),
        ("SELECT id FROM PROJ, ORG", one_table),
        ("SELECT id FROM PROJ JOIN ORG USING (id)", one_table),
        ("SELECT id FROM PROJ UNION SELECT id FROM ORG", one_table),
        ("SELECT id FROM PROJ TABLESAMPLE SYSTEM (1)", one_table),
        ("VALUES (1)", one_table),
        ("SELECT p.id FROM PROJ p", plain),
        ("SELECT * FROM PROJ", plain),
        ("SELECT max(id) FROM PROJ", plain),
        ("SELECT 1", plain),
    ] {
        assert_refused(&format!("proj_id IN ({inner})"), "where", text).await;
    }
    for inner in [
        "SELECT id FROM PROJ p",
        "SELECT id AS x FROM PROJ",
        "SELECT id FROM ONLY PROJ",
        "SELECT id FROM public.PROJ",
    ] {
        let response = ask(&format!("proj_id IN ({inner})")).await;
        assert_eq!(response.status, 200, "{inner}: {}", response.text());
    }
}

#[tokio::test]
async fn item_206_only_in_and_only_under_and_or_not() {
    let only_in = "only `value IN (SELECT ...)` sublinks are supported right now";
    for (clause, at) in [
        ("proj_id = (SELECT id FROM PROJ)", 10),
        ("EXISTS (SELECT id FROM PROJ)", 0),
        ("proj_id = ANY (SELECT id FROM PROJ)", 8),
        ("proj_id <> ALL (SELECT id FROM PROJ)", 8),
        ("proj_id = ANY (ARRAY(SELECT id FROM PROJ))", 15),
    ] {
        assert_refused(clause, "where", &format!("At location {at}: {only_in}")).await;
    }
    let left = "currently, left side of `IN (SELECT ...)` can only be a column reference or a list of column references";
    assert_refused("proj_id + 1 IN (SELECT id FROM PROJ)", "where", &format!("At location 12: {left}")).await;
    assert_refused("1 IN (SELECT id FROM PROJ)", "where", &format!("At location 2: {left}")).await;
    let within = "IN (SELECT ...) is only supported under AND, OR and NOT, not inside";
    for (clause, at, inside) in [
        ("(proj_id IN (SELECT id FROM PROJ)) IS TRUE", 9, "IS TRUE, IS FALSE or IS UNKNOWN"),
        ("(proj_id IN (SELECT id FROM PROJ)) = true", 9, "an operator"),
        ("coalesce(proj_id IN (SELECT id FROM PROJ), false)", 17, "COALESCE"),
    ] {
        assert_refused(clause, "where", &format!("At location {at}: {within} {inside}")).await;
    }
}

#[tokio::test]
async fn item_206_parameters_are_shared_with_the_subquery() {
    let clause = encode(&named(NAME, "code = $1 AND proj_id IN (SELECT id FROM PROJ WHERE code = $1)"));
    ask("true").await;
    let query = format!("table=s206_item&where={clause}&params%5B1%5D=z&offset=-1");
    let rows = open().await.get(&query).await.json();
    assert_eq!(
        (rows[0]["value"]["id"].as_str(), rows[1]["headers"]["control"].as_str()),
        (Some("3"), Some("snapshot-end"))
    );
}
