//! Items 26–61: what is refused, and in which words. Subsets are tested elsewhere.

use super::{invalid, open, table};
use limn_tests::{Request, Response, encode};
use serde_json::json;

async fn get(query: &str) -> Response {
    open().await.get(query).await
}

async fn assert_invalid(query: &str, parameter: &str, text: &str) {
    let response = get(query).await;
    assert_eq!(response.status, 400, "{query}: {}", response.text());
    assert_eq!(response.json(), invalid(parameter, text), "{query}");
}

async fn assert_valid(query: &str) -> Response {
    let response = get(query).await;
    assert_eq!(response.status, 200, "{query}: {}", response.text());
    response
}

async fn assert_same(query: &str, other: &str) {
    let (one, two) = (assert_valid(query).await, assert_valid(other).await);
    assert_eq!(one.header("electric-handle"), two.header("electric-handle"), "{query} and {other}");
}

fn missing_table(schema: &str, name: &str) -> String {
    format!(
        "Table \"{schema}\".\"{name}\" does not exist. If the table name contains capitals or special \
         characters you must quote it."
    )
}

#[tokio::test]
async fn item_026_offset_is_required() {
    for query in ["table=t", "table=t&offset=", "", "table=t&offset=%20"] {
        assert_invalid(query, "offset", "can't be blank").await;
    }
}

#[tokio::test]
async fn item_027_a_word_is_no_offset() {
    assert_invalid("table=t&offset=abc", "offset", "has invalid format").await;
}

#[tokio::test]
async fn item_028_malformed_offsets() {
    let malformed = [
        "10", "1_2_3", "1_2%20", "0_-1", "1_1.5", "_1", "1_", "-1_1", "-2_0", "-2", "0_INF", "1_infx",
        "%20-1", "-1%20", "NOW",
    ];
    for offset in malformed {
        assert_invalid(&format!("table=t&handle=1-1&offset={offset}"), "offset", "has invalid format").await;
    }
}

#[tokio::test]
async fn item_029_leading_zeros_are_no_matter() {
    let first = assert_valid("table=t&offset=-1").await;
    let handle = first.header("electric-handle").expect("is sent");
    let response = assert_valid(&format!("table=t&handle={handle}&offset=0_02")).await;
    assert_eq!(
        response.header("electric-offset"),
        assert_valid(&format!("table=t&handle={handle}&offset=0_2")).await.header("electric-offset")
    );
    assert_eq!(assert_valid("table=t&offset=-1_0").await.header("electric-offset"), Some("0_0"));
}

#[tokio::test]
async fn item_030_a_real_offset_needs_a_handle() {
    for query in ["table=t&offset=0_0", "table=t&offset=0_0&handle="] {
        assert_invalid(query, "handle", "can't be blank when offset != -1").await;
    }
}

#[tokio::test]
async fn item_031_the_beginning_cannot_be_waited_for() {
    assert_invalid("table=t&offset=-1&live=true", "live", "can't be true when offset == -1").await;
}

#[tokio::test]
async fn item_032_now_cannot_be_waited_for() {
    assert_invalid("table=t&offset=now&live=true", "live", "can't be true when offset is 'now'").await;
}

#[tokio::test]
async fn item_033_events_need_live() {
    let text = "can't be true unless live is also true";
    for query in [
        "table=t&offset=-1&live_sse=true",
        "table=t&offset=0_0&handle=1-1&live_sse=true",
        "table=t&offset=-1&experimental_live_sse=true",
        "table=t&offset=-1&live_sse=0",
    ] {
        assert_invalid(query, "live_sse", text).await;
    }
    assert_invalid("table=t&offset=-1&experimental_live_sse=banana", "live_sse", "is invalid").await;
    assert_valid("table=t&offset=-1&experimental_live_sse=0").await;
    assert_valid("table=t&offset=-1&live_sse=false&experimental_live_sse=true").await;
}

#[tokio::test]
async fn item_034_live_is_true_in_every_form_but_one() {
    for flag in ["live", "live=", "live=0", "live=1", "live=banana", "live=False"] {
        assert_invalid(&format!("table=t&offset=-1&{flag}"), "live", "can't be true when offset == -1").await;
    }
}

#[tokio::test]
async fn item_035_live_false_is_false() {
    assert_valid("table=t&offset=-1&live=false").await;
}

#[tokio::test]
async fn item_036_table_is_required() {
    assert_invalid("offset=-1", "table", "can't be blank").await;
    assert_invalid("offset=-1&table=", "table", "can't be blank").await;
}

#[tokio::test]
async fn item_037_no_part_of_a_name_is_empty() {
    for name in [".t", "t.", "%22%22", "public.%22%22"] {
        assert_invalid(
            &format!("offset=-1&table={name}"),
            "table",
            "Invalid zero-length delimited identifier",
        )
        .await;
    }
}

#[tokio::test]
async fn item_038_a_name_has_two_parts() {
    let text = "Invalid relation identifier, too many delimiters: a.b.c";
    assert_invalid("offset=-1&table=a.b.c", "table", text).await;
}

#[tokio::test]
async fn item_039_unknown_tables() {
    assert_invalid("offset=-1&table=nope39", "table", &missing_table("public", "nope39")).await;
    assert_invalid("offset=-1&table=zz.Nope", "table", &missing_table("zz", "nope")).await;
    for (name, shown) in [("no-pe", "no-pe"), ("1t", "1t"), ("%20t", " t")] {
        let text = format!("Invalid unquoted identifier contains special characters: {shown}");
        assert_invalid(&format!("offset=-1&table={name}"), "table", &text).await;
    }
    let text = "Invalid identifier with unescaped quote: a\"b";
    assert_invalid("offset=-1&table=%22a%22b%22", "table", text).await;
}

#[tokio::test]
async fn item_040_capitals_need_quotes() {
    let sql = open().await.sql().await;
    sql.execute("CREATE TABLE \"T40\" (id int PRIMARY KEY); INSERT INTO \"T40\" VALUES (7)").await;
    assert_invalid("offset=-1&table=T40", "table", &missing_table("public", "t40")).await;
    let response = assert_valid("offset=-1&table=%22T40%22").await;
    assert_eq!(response.json()[0]["key"], "\"public\".\"T40\"/\"7\"");
    assert_same("offset=-1&table=%22T40%22", "offset=-1&table=%22public%22.%22T40%22").await;
}

#[tokio::test]
async fn item_041_names_have_at_most_63_characters() {
    let (most, more) = ("a".repeat(63), "a".repeat(64));
    let text = "Identifier is too long (max length is 63)";
    assert_invalid(&format!("offset=-1&table={more}"), "table", text).await;
    assert_invalid(&format!("offset=-1&table=%22{more}%22"), "table", text).await;
    assert_invalid(&format!("offset=-1&table={most}"), "table", &missing_table("public", &most)).await;
    // Counted in characters, though Postgres counts bytes.
    let accents = "é".repeat(63);
    let query = format!("offset=-1&table={}", encode(&accents));
    assert_invalid(&query, "table", &missing_table("public", &accents)).await;
}

#[tokio::test]
async fn item_042_only_tables_are_tables() {
    let sql = open().await.sql().await;
    sql.execute("CREATE TABLE z42 ()").await;
    for name in ["z42", "pg_class"] {
        assert_invalid(&format!("offset=-1&table={name}"), "table", &missing_table("public", name)).await;
    }
}

#[tokio::test]
async fn item_043_columns_include_the_primary_key() {
    let text = "The list of columns must include all primary key columns, missing: id";
    assert_invalid("offset=-1&table=t&columns=a", "columns", text).await;
    assert_invalid("offset=-1&table=t&columns=zzz", "columns", text).await;
}

#[tokio::test]
async fn item_044_unknown_columns() {
    let text = "The following columns are not found on the table: zzz";
    assert_invalid("offset=-1&table=t&columns=id,zzz", "columns", text).await;
    assert_invalid("offset=-1&table=t&columns=id,zzz,yyy", "columns", &format!("{text}, yyy")).await;
    let text = "Invalid unquoted identifier contains special characters: b-d";
    assert_invalid("offset=-1&table=t&columns=id,b-d", "columns", text).await;
}

#[tokio::test]
async fn item_045_a_comma_may_be_part_of_a_column() {
    let sql = open().await.sql().await;
    sql.execute("CREATE TABLE t45 (id int PRIMARY KEY, \"we,ird\" text); INSERT INTO t45 VALUES (1, 'x')")
        .await;
    let response = assert_valid("offset=-1&table=t45&columns=id,%22we,ird%22").await;
    assert_eq!(response.json()[0]["value"], json!({ "id": "1", "we,ird": "x" }));
    assert_valid("offset=-1&table=t45&columns[]=id&columns[]=we,ird").await;
    assert_valid("offset=-1&table=t45&columns=ID").await;
    for (columns, text) in [
        (
            "columns[]=id&columns[]=%22we,ird%22",
            "The following columns are not found on the table: \"we,ird\"",
        ),
        ("columns=id,id", "The following columns are not found on the table: id"),
        ("columns=id,,%22we,ird%22", "Invalid zero-length delimited identifier"),
        (
            "columns=id,%20%22we,ird%22",
            "Invalid unquoted identifier contains special characters:  \"we,ird\"",
        ),
    ] {
        assert_invalid(&format!("offset=-1&table=t45&{columns}"), "columns", text).await;
    }
}

#[tokio::test]
async fn item_046_empty_columns_are_all_columns() {
    assert_same("offset=-1&table=t&columns=", "offset=-1&table=t").await;
}

#[tokio::test]
async fn item_047_unknown_replica_mode() {
    assert_invalid("offset=-1&table=t&replica=foo", "replica", "is invalid").await;
    assert_invalid("offset=-1&table=t&replica=FULL", "replica", "is invalid").await;
}

#[tokio::test]
async fn item_048_unknown_log_mode() {
    assert_invalid("offset=-1&table=t&log=foo", "log", "is invalid").await;
}

#[tokio::test]
async fn item_049_params_have_no_gap() {
    let text = "Parameters must be numbered sequentially, starting from 1";
    for parameters in
        ["where=n%3D1&params[2]=1", "where=n%3D1&params[0]=1", "where=n%3D$1&params[1]=1&params[3]=1"]
    {
        assert_invalid(&format!("offset=-1&table=t&{parameters}"), "params", text).await;
    }
    assert_valid("offset=-1&table=t&params[2]=1").await;
    let response = assert_valid("offset=-1&table=t&where=n%3D$1&params[1]=10&params[2]=zzz").await;
    assert_eq!(response.json()[0]["value"]["id"], "1");
}

#[tokio::test]
async fn item_050_params_are_numbered() {
    let text = "Parameters can only use numbers as keys";
    assert_invalid("offset=-1&table=t&where=n%3D1&params[x]=1", "params", text).await;
    assert_valid("offset=-1&table=t&params[x]=1").await;
    assert_invalid("offset=-1&table=t&params=%7B%221%22%3A%22a%22%7D", "params", "is invalid").await;
    assert_invalid("offset=-1&table=t&params[]=1", "params", "is invalid").await;
}

#[tokio::test]
async fn item_051_a_placeholder_needs_a_parameter() {
    let text = "At location 4: parameter $1 was not provided";
    assert_invalid("offset=-1&table=t&where=n%20%3D%20$1", "where", text).await;
}

#[tokio::test]
async fn item_052_a_clause_is_a_boolean() {
    assert_invalid("offset=-1&table=t&where=1", "where", "WHERE clause must return a boolean").await;
}

#[tokio::test]
async fn item_053_unknown_references() {
    assert_invalid("offset=-1&table=t&where=zzz%20%3D%201", "where", "At location 0: unknown reference zzz")
        .await;
    assert_invalid("offset=-1&table=t&where=u.n%20%3D%201", "where", "At location 0: unknown reference u.n")
        .await;
}

#[tokio::test]
async fn item_054_a_literal_has_its_columns_type() {
    let text = "At location 4: invalid syntax for type int4: x";
    assert_invalid("offset=-1&table=t&where=n%20%3D%20%27x%27", "where", text).await;
}

#[tokio::test]
async fn item_055_a_clause_is_one_expression() {
    let clause = |clause: &str| format!("offset=-1&table=t&where={}", encode(clause));
    let split = "unescaped \";\" causing statement split";
    assert_invalid(&clause("id=1; select 1"), "where", split).await;
    let trailing = "malformed query ending with SQL clauses";
    for sql in ["id=1 ORDER BY id", "id=1 GROUP BY id", "id=1 FOR UPDATE", "1=1 HAVING true"] {
        assert_invalid(&clause(sql), "where", trailing).await;
    }
    assert_invalid(&clause("id="), "where", "At location 18: syntax error at end of input").await;
    assert_invalid(&clause("id=1)"), "where", "At location 19: syntax error at or near \")\"").await;
    assert_eq!(get(&clause("id=1 UNION SELECT 1")).await.status, 400);
    for sql in ["id=1;", "id=1 -- c"] {
        let response = assert_valid(&clause(sql)).await;
        assert_eq!(response.json()[0]["value"]["id"], "1", "{sql}");
    }
}

#[tokio::test]
async fn item_056_a_long_clause_is_refused_with_both_sizes() {
    let server = open().await;
    // Only a body is long enough: a URL would be refused as such.
    let clause = format!("n = 1{}", " OR n = 1".repeat(8_000));
    let body = json!({ "subset": {}, "where": clause }).to_string();
    let target = "/v1/shape?table=t&offset=-1";
    let refused =
        server.client().send(&Request { method: "POST", target, body: &body, ..Request::default() }).await;
    let text = format!("WHERE clause of {} bytes is bigger than maximum size of 65536 bytes", clause.len());
    assert_eq!((refused.status, refused.json()), (400, invalid("where", &text)));
}

#[tokio::test]
async fn item_057_unknown_parameters_are_ignored() {
    let further = "offset=-1&table=t&foo=bar&expired_handle=1-1&cache-buster=9&cursor=abc&x[y]=1";
    assert_same("offset=-1&table=t", further).await;
    assert_same("offset=-1&table=t", "offset=-1&table=nope&table=t").await;
}

#[tokio::test]
async fn item_058_errors_are_not_stored() {
    let response = get("offset=abc&table=t").await;
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("surrogate-control"), Some("no-store"));
    assert_eq!(response.header("content-type"), Some("application/json; charset=utf-8"));
}

#[tokio::test]
async fn item_059_errors_carry_nothing_of_a_log() {
    let response = get("offset=abc&table=t").await;
    for name in ["electric-has-data", "electric-handle", "electric-offset", "electric-schema", "etag"] {
        assert_eq!(response.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn item_060_a_refused_request_makes_no_shape() {
    let server = open().await;
    table(&server.sql().await, "t60").await;
    assert_invalid("table=t60&offset=-1&live=true", "live", "can't be true when offset == -1").await;
    assert_eq!(get("table=t60&offset=-1&where=zzz").await.status, 400);
    let delete = Request { method: "DELETE", target: "/v1/shape?table=t60", ..Request::default() };
    assert_eq!(server.client().send(&delete).await.status, 404);
}

#[tokio::test]
async fn item_061_generated_columns_are_refused_where_postgres_does_not_stream_them() {
    let sql = open().await.sql().await;
    if sql.value("SHOW server_version_num").await.parse::<u32>().expect("a number") >= 180_000 {
        return;
    }
    sql.execute("CREATE TABLE t61 (id int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n * 2) STORED)")
        .await;
    let text = "The following columns are generated and cannot be included in the shape: g";
    let implicit = format!(
        "{text}. You can exclude them from the shape by explicitly listing which columns to fetch in the \
         'columns' query param"
    );
    assert_invalid("offset=-1&table=t61", "columns", &implicit).await;
    assert_invalid("offset=-1&table=t61&columns=id,g", "columns", text).await;
    assert_valid("offset=-1&table=t61&columns=id,n").await;
}

#[tokio::test]
async fn item_061b_checks_come_in_their_order() {
    let response = get("replica=foo&log=bar").await;
    let errors = json!({ "offset": ["can't be blank"], "log": ["is invalid"], "replica": ["is invalid"] });
    assert_eq!(response.json(), json!({ "message": "Invalid request", "errors": errors }));
    assert_invalid("table=nope&offset=abc&live_sse=true&replica=foo", "replica", "is invalid").await;
    assert_invalid("table=nope&offset=abc", "offset", "has invalid format").await;
    assert_invalid("table=nope&offset=0_0", "handle", "can't be blank when offset != -1").await;
    assert_invalid("table=nope&offset=-1&live=true", "live", "can't be true when offset == -1").await;
    assert_invalid("table=nope&offset=-1&where=zzz", "table", &missing_table("public", "nope")).await;
    let text = "The following columns are not found on the table: zzz";
    assert_invalid("table=t&offset=-1&columns=id,zzz&where=zzz", "columns", text).await;
}
