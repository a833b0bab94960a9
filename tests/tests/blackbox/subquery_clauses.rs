//! Items 203–206: which subqueries a WHERE clause may have, and what is said of the others.

use super::{invalid, open};
use limn_tests::{Limn, Response, encode};
use tokio::sync::OnceCell;

/// The tables that every test asks for; nobody writes them.
async fn tables() -> &'static Limn {
    static MADE: OnceCell<&'static Limn> = OnceCell::const_new();
    let make = async || {
        let server = open().await;
        let sql = server.sql().await;
        sql.execute(
            "CREATE TABLE q_org (id int PRIMARY KEY, active bool);
             CREATE TABLE q_proj (id int PRIMARY KEY, org_id int, active bool, code text, big int8, j jsonb,
                                  twice int GENERATED ALWAYS AS (org_id * 2) STORED);
             CREATE TABLE q_item (id int PRIMARY KEY, proj_id int, alt_id int, a text, code text, j jsonb);
             INSERT INTO q_org VALUES (1, true), (2, false);
             INSERT INTO q_proj VALUES (1, 1, true, 'x', 1), (2, 1, false, 'y', 2), (3, 2, true, 'z', 3);
             INSERT INTO q_item VALUES (1, 1, 2, 'i1', 'x'), (2, 2, 1, 'i2', 'y'), (3, 3, 3, 'i3', 'z'),
                                       (4, NULL, 1, 'i4', NULL)",
        )
        .await;
        server
    };
    MADE.get_or_init(make).await
}

async fn get(clause: &str) -> Response {
    let query = format!("table=q_item&offset=-1&where={}", encode(clause));
    tables().await.get(&query).await
}

async fn refused(clause: &str, parameter: &str, text: &str) {
    let response = get(clause).await;
    assert_eq!(response.status, 400, "{clause}: {}", response.text());
    assert_eq!(response.json(), invalid(parameter, text), "{clause}");
}

/// The snapshot only: what becomes of changes is tested with the moves.
#[tokio::test]
async fn item_203_several_columns_are_compared_in_their_order() {
    let server = tables().await;
    let sql = server.sql().await;
    for clause in [
        "(proj_id, code) IN (SELECT id, code FROM q_proj WHERE active)",
        "(proj_id, code) NOT IN (SELECT id, code FROM q_proj WHERE active)",
        "(proj_id, alt_id) IN (SELECT org_id, id FROM q_proj)",
        "(alt_id, proj_id) IN (SELECT id, org_id FROM q_proj)",
    ] {
        let shape = server.follow(&format!("table=q_item&where={}", encode(clause))).await;
        let mut expected = sql.rows(&format!("SELECT * FROM q_item WHERE {clause}")).await;
        expected.sort();
        assert_eq!(shape.rows(), expected, "{clause}");
    }
}

#[tokio::test]
async fn compaction_is_refused_where_the_same_shape_without_it_is_known() {
    let query = format!(
        "table=q_item&offset=-1&where={}",
        encode("alt_id IN (SELECT id FROM q_proj WHERE org_id = 1)")
    );
    let server = tables().await;
    assert_eq!(server.get(&query).await.status, 200);
    let response = server.get(&format!("{query}&experimental_compaction=true")).await;
    assert_eq!(response.status, 400, "{}", response.text());
    let text = "can't be enabled for shapes with subqueries";
    assert_eq!(response.json(), invalid("experimental_compaction", text));
}

#[tokio::test]
async fn item_204_one_query_has_one_polarity() {
    let text =
        "a subquery dependency cannot be used with both positive and negative polarity in the same filter";
    let inner = "(SELECT id FROM q_proj WHERE active)";
    refused(&format!("proj_id IN {inner} AND alt_id NOT IN {inner}"), "where", text).await;
    refused(&format!("proj_id IN {inner} OR NOT (alt_id IN {inner})"), "where", text).await;
    let factor = |n: u32| format!("(proj_id IN (SELECT id FROM q_proj WHERE id = {n}) OR alt_id = {n})");
    let clause = (0..7).map(factor).collect::<Vec<_>>().join(" AND ");
    let text = "WHERE clause too complex for DNF decomposition (128 disjuncts exceeds limit of 100)";
    refused(&clause, "where", text).await;
}

#[tokio::test]
async fn item_205_types_are_the_same_on_both_sides() {
    for (clause, at, left, right) in [
        ("proj_id IN (SELECT code FROM q_proj)", 8, "int4", "text"),
        ("proj_id IN (SELECT big FROM q_proj)", 8, "int4", "int8"),
        ("code IN (SELECT id FROM q_proj)", 5, "text", "int4"),
        ("proj_id IN (SELECT id, org_id FROM q_proj)", 8, "int4", "row of (int4, int4)"),
        ("(proj_id, alt_id) IN (SELECT id FROM q_proj)", 18, "row of (int4, int4)", "int4"),
    ] {
        let text = format!(
            "At location {at}: left side of `IN (SELECT ...)` has type {left} but subquery returns {right}[]"
        );
        refused(clause, "where", &text).await;
    }
    let text = "At location 2: IN (SELECT ...) is not supported for type jsonb: equal values may differ in their texts";
    refused("j IN (SELECT j FROM q_proj)", "where", text).await;
}

#[tokio::test]
async fn item_206_unknown_names_inside() {
    let text = "Table \"public\".\"q_nope\" does not exist. \
                If the table name contains capitals or special characters you must quote it.";
    refused("proj_id IN (SELECT id FROM q_nope)", "table", text).await;
    let text = "The following columns are not found on the table: nope";
    refused("proj_id IN (SELECT nope FROM q_proj)", "columns", text).await;
    let text = "At location 40: unknown reference nope";
    refused("proj_id IN (SELECT id FROM q_proj WHERE nope = 1)", "where", text).await;
    let text = "At location 49: unknown reference alt_id";
    refused("proj_id IN (SELECT id FROM q_proj WHERE org_id = alt_id)", "where", text).await;
    // From 18 on they are streamed.
    let sql = tables().await.sql().await;
    if sql.value("SHOW server_version_num").await.parse::<u32>().expect("a number") < 180_000 {
        let text = "The following columns are generated and cannot be used in a where clause: twice";
        refused("proj_id IN (SELECT twice FROM q_proj)", "where", text).await;
    }
}

#[tokio::test]
async fn item_206_a_subquery_reads_columns_of_one_table() {
    let column = "At location 34: Expected a plain column reference";
    let clauses = "SELECT statement must not contain any clauses";
    let single = "Expected a single table reference";
    for (query, text) in [
        ("SELECT q_proj.id FROM q_proj p", column),
        ("SELECT * FROM q_proj", column),
        ("SELECT max(id) FROM q_proj", column),
        ("SELECT 1", column),
        ("SELECT id FROM q_proj, q_org", single),
        ("SELECT id FROM q_proj JOIN q_org USING (id)", single),
        ("SELECT id FROM q_proj UNION SELECT id FROM q_org", single),
        ("VALUES (1)", single),
        ("SELECT id FROM q_proj TABLESAMPLE SYSTEM (1)", single),
        ("SELECT DISTINCT id FROM q_proj", clauses),
        ("SELECT id FROM q_proj ORDER BY id", clauses),
        ("SELECT id FROM q_proj LIMIT 1", clauses),
        ("SELECT id FROM q_proj OFFSET 1", clauses),
        ("SELECT id FROM q_proj GROUP BY id", clauses),
        ("WITH x AS (SELECT 1) SELECT id FROM q_proj", clauses),
        ("SELECT id FROM q_proj FOR UPDATE", clauses),
    ] {
        refused(&format!("proj_id IN ({query})"), "where", text).await;
    }
    for query in [
        "SELECT id FROM q_proj p",
        "SELECT id AS x FROM q_proj",
        "SELECT id FROM ONLY q_proj",
        "SELECT id FROM q_proj WHERE code LIKE 'x%'",
    ] {
        let response = get(&format!("proj_id IN ({query})")).await;
        assert_eq!(response.status, 200, "{query}: {}", response.text());
    }
}

#[tokio::test]
async fn item_206_a_subquery_stands_right_of_in() {
    let left = "currently, left side of `IN (SELECT ...)` can only be a column reference or a list of column references";
    let sublink = "only `value IN (SELECT ...)` sublinks are supported right now";
    let inside = "IN (SELECT ...) is only supported under AND, OR and NOT, not inside";
    let beside =
        "unknown binary operator \"~\" (beside a subquery, where Postgres is not asked to evaluate it)";
    for (clause, at, text) in [
        ("proj_id + 1 IN (SELECT id FROM q_proj)", 12, left.to_owned()),
        ("1 IN (SELECT id FROM q_proj)", 2, left.to_owned()),
        ("proj_id = (SELECT id FROM q_proj)", 10, sublink.to_owned()),
        ("EXISTS (SELECT id FROM q_proj)", 0, sublink.to_owned()),
        ("proj_id = ANY (SELECT id FROM q_proj)", 8, sublink.to_owned()),
        ("proj_id <> ALL (SELECT id FROM q_proj)", 8, sublink.to_owned()),
        ("proj_id = ANY (ARRAY(SELECT id FROM q_proj))", 15, sublink.to_owned()),
        (
            "(proj_id IN (SELECT id FROM q_proj)) IS TRUE",
            9,
            format!("{inside} IS TRUE, IS FALSE or IS UNKNOWN"),
        ),
        ("(proj_id IN (SELECT id FROM q_proj)) = true", 9, format!("{inside} an operator")),
        ("coalesce(proj_id IN (SELECT id FROM q_proj), false)", 17, format!("{inside} COALESCE")),
        ("proj_id IN (SELECT id FROM q_proj) AND a ~ 'i'", 41, beside.to_owned()),
    ] {
        refused(clause, "where", &format!("At location {at}: {text}")).await;
    }
}

/// A child's rows belong to the parent, but not to `ONLY` the parent.
#[tokio::test]
async fn only_is_refused_where_it_makes_a_difference() {
    let sql = tables().await.sql().await;
    sql.execute("CREATE TABLE q_root (id int); CREATE TABLE q_child () INHERITS (q_root)").await;
    let text = "FROM ONLY \"public\".\"q_root\" is not supported: other tables are its partitions or inherit from it";
    refused("proj_id IN (SELECT id FROM ONLY q_root)", "where", text).await;
}
