//! Items 161–177: shapes without a snapshot, and subsets of shapes read from the database on request.

use super::{followed, full_row, invalid, must_refetch, open, table};
use limn_tests::{Cluster, Limn, Request, Response, Sql, encode, eventually};
use serde_json::{Value, json};

/// A new table on the shared server, nobody having asked for it yet.
async fn fresh(name: &str) -> (&'static Limn, Sql) {
    let server = open().await;
    let sql = server.sql().await;
    table(&sql, name).await;
    (server, sql)
}

/// `GET` of a subset of a table; each parameter is a name and a value that is not yet encoded.
async fn get(server: &Limn, table: &str, parameters: &[(&str, &str)]) -> Response {
    let mut query = format!("table={table}&offset=-1");
    for (name, value) in parameters {
        query += &format!("&{name}={}", encode(value));
    }
    server.get(&query).await
}

async fn post(server: &Limn, query: &str, body: &str) -> Response {
    let target = format!("/v1/shape?{query}");
    server.client().send(&Request { method: "POST", target: &target, body, ..Request::default() }).await
}

/// The rows' values in the order of the answer.
fn values(response: &Response) -> Vec<Value> {
    assert_eq!(response.status, 200, "{}", response.text());
    let body = response.json();
    body["data"].as_array().expect("data are a list").iter().map(|row| row["value"].clone()).collect()
}

fn ids(response: &Response) -> Vec<String> {
    let id = |value: Value| value["id"].as_str().expect("ids are texts").to_owned();
    values(response).into_iter().map(id).collect()
}

/// The body of a 400 about a parameter of the subset.
fn refused(parameter: &str, text: &str) -> Value {
    json!({ "message": "Invalid request", "errors": { "subset": { parameter: [text] } } })
}

async fn assert_refused(
    server: &Limn,
    table: &str,
    parameters: &[(&str, &str)],
    parameter: &str,
    text: &str,
) {
    let response = get(server, table, parameters).await;
    assert_eq!(response.status, 400, "{parameters:?}: {}", response.text());
    assert_eq!(response.json(), refused(parameter, text), "{parameters:?}");
}

/// Whether a subset holds what the transaction did.
fn is_visible(metadata: &Value, txid: u64) -> bool {
    let id = |value: &Value| value.as_str().expect("ids are texts").parse::<u64>().expect("decimal");
    let running = metadata["xip_list"].as_array().expect("a list");
    txid < id(&metadata["xmax"]) && !running.iter().any(|running| id(running) == txid)
}

#[tokio::test]
async fn item_161_without_a_snapshot_only_its_end_comes() {
    let (server, sql) = fresh("t161").await;
    let beginning = server.get("table=t161&offset=-1&log=changes_only").await;
    let messages = beginning.json();
    assert_eq!(messages.as_array().map(Vec::len), Some(1), "{messages}");
    assert_eq!(messages[0]["headers"]["control"], "snapshot-end");
    let handle = beginning.header("electric-handle").expect("is sent").to_owned();
    let rest = server.get(&format!("table=t161&log=changes_only&handle={handle}&offset=0_0")).await;
    assert_eq!(
        (rest.header("electric-offset"), rest.header("electric-up-to-date")),
        (Some("0_inf"), Some(""))
    );
    sql.execute("UPDATE t161 SET n = 99 WHERE id = 1").await;
    let live = format!("table=t161&log=changes_only&handle={handle}&offset=0_inf&live=true");
    let change = server.get(&live).await.json();
    assert_eq!(change[0]["headers"]["operation"], "update");
    assert_eq!(change[0]["value"], json!({ "id": "1", "n": "99" }));
}

#[tokio::test]
async fn item_162_metadata_and_rows() {
    let (server, _) = fresh("t162").await;
    let response = get(server, "t162", &[("subset__where", "TRUE")]).await;
    let body = response.json();
    let mark = &body["metadata"]["snapshot_mark"];
    let row = |id: u32, a, n| {
        json!({
            "key": format!("\"public\".\"t162\"/\"{id}\""),
            "value": full_row(id, a, n),
            "headers": { "operation": "insert", "relation": ["public", "t162"], "snapshot_mark": mark },
        })
    };
    let rows = [row(1, Some("one"), Some(10)), row(2, Some("two"), Some(20)), row(3, None, None)];
    assert_eq!(body["data"], json!(rows));
    for name in ["xmin", "xmax", "database_lsn"] {
        let text = body["metadata"][name].as_str().expect("a text");
        assert!(text.parse::<u64>().is_ok(), "{name}: {text}");
    }
    assert!(body["metadata"]["xip_list"].is_array());
    assert_eq!(body["metadata"].as_object().map(serde_json::Map::len), Some(5));
}

#[tokio::test]
async fn item_162_params_order_and_bounds() {
    let (server, _) = fresh("t162b").await;
    let above = ("subset__where", "n > $1");
    for params in
        [("subset__params", "{\"1\":\"15\"}"), ("subset__params", "{\"1\":15}"), ("subset__params[1]", "15")]
    {
        assert_eq!(ids(&get(server, "t162b", &[above, params]).await), ["2"], "{params:?}");
    }
    let order = ("subset__order_by", "n DESC NULLS LAST");
    let second = [order, ("subset__limit", "1"), ("subset__offset", "1")];
    assert_eq!(ids(&get(server, "t162b", &second).await), ["1"]);
    assert_eq!(ids(&get(server, "t162b", &[("subset__order_by", "id desc")]).await), ["3", "2", "1"]);
    assert_eq!(values(&get(server, "t162b", &[("subset__where", "FALSE")]).await), [json!(null); 0]);
    for ignored in ["subset__foo", "subset__where_expr", "subset__order_by_expr"] {
        assert_eq!(ids(&get(server, "t162b", &[(ignored, "{")]).await), ["1", "2", "3"], "{ignored}");
    }
    assert_eq!(ids(&get(server, "t162b", &[("subset__where", "")]).await), ["1", "2", "3"]);
}

#[tokio::test]
async fn item_163_a_body_asks_for_the_same() {
    let (server, _) = fresh("t163").await;
    let parameters = [("subset__where", "n > 15"), ("subset__order_by", "id"), ("subset__limit", "2")];
    let expected = values(&get(server, "t163", &parameters).await);
    let query = "table=t163&offset=-1";
    let response = post(server, query, r#"{"where":"n > 15","order_by":"id","limit":2}"#).await;
    assert_eq!(values(&response), expected);
    for params in [r#"{"1":15}"#, r#"{"1":"15"}"#] {
        let body = format!(r#"{{"where":"n > $1","params":{params}}}"#);
        assert_eq!(values(&post(server, query, &body).await), expected, "{params}");
    }
    let response = post(server, query, r#"{"where":"n > $1","params":["15"]}"#).await;
    assert_eq!((response.status, response.json()), (400, refused("params", "is invalid")));
    assert_eq!(response.header("cache-control"), Some("no-cache"));
    assert_eq!(response.header("surrogate-control"), None);
}

#[tokio::test]
async fn item_164_a_subset_object_leaves_the_rest_to_the_shape() {
    let (server, _) = fresh("t164").await;
    let query = "table=t164&offset=-1";
    let rows = |body: &'static str| async move { values(&post(server, query, body).await) };
    assert_eq!(rows(r#"{"subset":{"where":"id = 2"}}"#).await, [full_row(2, Some("two"), Some(20))]);
    let columns = r#"{"subset":{"where":"id = 2"},"columns":"id,a"}"#;
    assert_eq!(rows(columns).await, [json!({ "id": "2", "a": "two" })]);
    assert_eq!(rows(r#"{"subset":{},"where":"id=1"}"#).await, [full_row(1, Some("one"), Some(10))]);
    let log = post(server, query, "{}").await;
    assert!(log.json().is_array(), "without a subset it is a read of the log");
    assert_eq!(log.header("cache-control"), Some("no-cache"));
}

#[tokio::test]
async fn item_165_headers() {
    let (server, _) = fresh("t165").await;
    let response = get(server, "t165", &[("subset__where", "TRUE")]).await;
    let schema = "{\"id\":{\"type\":\"int4\",\"pk_index\":0,\"not_null\":true},\"a\":{\"type\":\"text\"},\"n\":{\"type\":\"int4\"}}";
    let schema: Value = serde_json::from_str(schema).expect("is JSON");
    let header = |name: &str| response.header(name);
    assert_eq!(header("electric-snapshot"), Some("true"));
    assert_eq!(header("cache-control"), Some("no-cache"));
    assert_eq!(header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(header("electric-offset"), Some("0_0"));
    let sent = header("electric-schema").expect("is sent");
    assert_eq!(serde_json::from_str::<Value>(sent).expect("is JSON"), schema);
    for absent in ["etag", "electric-cursor", "electric-up-to-date", "electric-has-data", "retry-after"] {
        assert_eq!(header(absent), None, "{absent}");
    }
    let handle = header("electric-handle").expect("is sent").to_owned();
    let log = server.get("table=t165&offset=-1").await;
    assert_eq!(log.header("electric-handle"), Some(&*handle), "it is the log's shape");
    let head = Request {
        method: "HEAD",
        target: "/v1/shape?table=t165&offset=-1&subset__where=TRUE",
        ..Request::default()
    };
    let head = server.client().send(&head).await;
    assert_eq!((head.status, head.header("electric-snapshot"), head.body.len()), (200, Some("true"), 0));
    let other = server.get("table=t165&offset=-1&log=changes_only&subset__where=TRUE").await;
    assert_ne!(other.header("electric-handle"), Some(&*handle), "valid for every log mode");
    assert_eq!(ids(&other), ["1", "2", "3"]);
}

#[tokio::test]
async fn item_165_the_offset_is_where_the_log_goes_on() {
    let (server, sql, mut shape) = followed("t165b").await;
    let handle = shape.handle().to_owned();
    let subset = |rest: &str| format!("table=t165b&handle={handle}&subset__where=TRUE&{rest}");
    let offset = async |rest: &str| {
        let response = server.get(&subset(rest)).await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.header("electric-offset").expect("is sent").to_owned()
    };
    assert_eq!(offset("offset=now").await, "0_inf");
    assert_eq!(offset("offset=0_inf").await, "0_inf");
    sql.execute("INSERT INTO t165b VALUES (9, 'x', 1)").await;
    shape.changes(1).await;
    let last = shape.offset().to_owned();
    assert_eq!(offset("offset=now").await, last);
    assert_eq!(offset("offset=9999999999999_0").await, last, "no offset is out of bounds");
    // Clients move to it: had it passed the insert, they would never see that.
    for rest in ["offset=0_inf", "offset=0_inf&live=true"] {
        assert_eq!(offset(rest).await, "0_inf", "{rest}");
    }
    for live in ["live=true", "live=true&live_sse=true"] {
        let response = server.get(&subset(&format!("offset=0_inf&{live}"))).await;
        assert_eq!(response.header("electric-schema"), None, "{live}");
        assert_eq!(response.header("electric-cursor"), None, "{live}");
        assert_eq!(response.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(ids(&response), ["1", "2", "3", "9"], "{live}");
    }
}

#[tokio::test]
async fn item_166_one_mark_for_all_rows_of_an_answer() {
    let (server, _) = fresh("t166").await;
    let mut marks = Vec::new();
    for _ in 0..3 {
        let body = get(server, "t166", &[("subset__where", "TRUE")]).await.json();
        let mark = body["metadata"]["snapshot_mark"].as_u64().expect("an integer");
        assert!(mark < 1 << 31, "{mark}");
        let rows = body["data"].as_array().expect("a list");
        assert!(rows.len() == 3 && rows.iter().all(|row| row["headers"]["snapshot_mark"] == mark), "{body}");
        marks.push(mark);
    }
    marks.dedup();
    assert_eq!(marks.len(), 3, "and another one for the next");
}

#[tokio::test]
async fn item_167_a_limit_needs_an_order() {
    let (server, _) = fresh("t167").await;
    let text = "order_by is required when limit or offset is present";
    for bound in ["subset__limit", "subset__offset"] {
        assert_refused(server, "t167", &[(bound, "1")], "order_by", text).await;
    }
}

#[tokio::test]
async fn item_168_bounds() {
    let (server, _) = fresh("t168").await;
    for (name, value, text) in [
        ("limit", "0", "must be greater than 0"),
        ("limit", "-3", "must be greater than 0"),
        ("limit", "abc", "is invalid"),
        ("limit", "1.5", "is invalid"),
        ("offset", "-1", "must be greater than or equal to 0"),
    ] {
        let bound = format!("subset__{name}");
        assert_refused(server, "t168", &[("subset__order_by", "id"), (&bound, value)], name, text).await;
    }
    let largest = [("subset__order_by", "id"), ("subset__limit", "9223372036854775807")];
    assert_eq!(ids(&get(server, "t168", &largest).await), ["1", "2", "3"]);
}

#[tokio::test]
async fn item_169_an_order_is_columns_and_nothing_else() {
    let (server, sql) = fresh("t169").await;
    let expression = |at: u32, node: &str| {
        format!("At location {at}: {node} expressions are not allowed in ORDER BY clauses")
    };
    for (clause, text) in [
        ("id; DROP TABLE t169", "Unexpected `;` in order by".to_owned()),
        ("(select 1)", expression(18, "SubLink")),
        ("pg_sleep(1)", expression(18, "FuncCall")),
        ("id) UNION SELECT 1--", "At location 20: syntax error at or near \")\"".to_owned()),
        ("CASE WHEN true THEN id END", expression(18, "CaseExpr")),
        ("id + 1", expression(21, "A_Expr")),
        ("$1", "At location 18: parameter $1 is not supported in ORDER BY clauses".to_owned()),
        ("id::text", expression(22, "TypeName")),
        ("id COLLATE \"C\"", expression(21, "CollateClause")),
        ("t.id", "At location 18: unknown reference t.id".to_owned()),
        ("id desc,", "At location 26: syntax error at end of input".to_owned()),
        ("'a'", "At location 18: non-integer constant in ORDER BY".to_owned()),
        ("id FOR UPDATE", "malformed query ending with SQL clauses".to_owned()),
        ("id LIMIT 1", "malformed query ending with SQL clauses".to_owned()),
    ] {
        assert_refused(server, "t169", &[("subset__order_by", clause)], "order_by", &text).await;
    }
    for clause in ["id, id desc nulls first", "1", "\"id\"", "id USING <", "id -- x"] {
        assert_eq!(
            ids(&get(server, "t169", &[("subset__order_by", clause)]).await),
            ["1", "2", "3"],
            "{clause}"
        );
    }
    assert_eq!(sql.value("SELECT count(*) FROM t169").await, "3");
}

#[tokio::test]
async fn item_169_a_type_without_an_order() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute("CREATE TABLE t169b (id int PRIMARY KEY, j json)").await;
    let text = "could not identify an ordering operator for type json";
    assert_refused(server, "t169b", &[("subset__order_by", "j")], "order_by", text).await;
}

#[tokio::test]
async fn item_169_a_filter_cannot_be_left() {
    let (server, sql) = fresh("t169c").await;
    for clause in
        ["TRUE) OR (TRUE", "id = 1; DROP TABLE t169c", "id = 1 UNION SELECT 1", "TRUE --", "TRUE /*"]
    {
        let response = get(server, "t169c", &[("where", "id = 1"), ("subset__where", clause)]).await;
        if response.status == 200 {
            assert_eq!(ids(&response), ["1"], "{clause}");
        } else {
            assert_eq!(response.status, 400, "{clause}: {}", response.text());
        }
    }
    let quoted = [("subset__where", "a = $1"), ("subset__params[1]", "x' OR TRUE --")];
    assert_eq!(values(&get(server, "t169c", &quoted).await).len(), 0);
    assert_eq!(sql.value("SELECT count(*) FROM t169c").await, "3");
}

#[tokio::test]
async fn item_170_only_queryable_columns_are_known() {
    let (server, _) = fresh("t170").await;
    let (columns, queryable) = (("columns", "id"), ("queryable_columns", "id,n"));
    let hidden = [columns, queryable, ("subset__where", "a = 'one'")];
    assert_refused(server, "t170", &hidden, "where", "At location 0: unknown reference a").await;
    let hidden = [columns, queryable, ("subset__order_by", "a")];
    assert_refused(server, "t170", &hidden, "order_by", "At location 18: unknown reference a").await;
    let unselected = [("subset__where", "n > 15"), ("subset__order_by", "n")];
    let listed = [[columns, queryable], unselected].concat();
    assert_eq!(values(&get(server, "t170", &listed).await), [json!({ "id": "2" })]);
    // The list belongs to the request, not to the shape, which both have in common.
    assert_refused(server, "t170", &hidden, "order_by", "At location 18: unknown reference a").await;
    let all = [columns, ("subset__where", "a = 'one'")];
    assert_eq!(values(&get(server, "t170", &all).await), [json!({ "id": "1" })]);
}

#[tokio::test]
async fn item_171_constants_of_an_enum() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute(
        "CREATE TYPE e171 AS ENUM ('sad', 'ok');
         CREATE TABLE t171 (id int PRIMARY KEY, m e171);
         INSERT INTO t171 VALUES (1, 'sad'), (2, 'ok')",
    )
    .await;
    for clause in ["m = 'ok'", "m IN ('ok')"] {
        assert_eq!(ids(&get(server, "t171", &[("subset__where", clause)]).await), ["2"], "{clause}");
    }
    let params = [("subset__where", "m = $1"), ("subset__params[1]", "ok")];
    assert_eq!(ids(&get(server, "t171", &params).await), ["2"]);
    let order = [("subset__order_by", "m desc")];
    assert_eq!(ids(&get(server, "t171", &order).await), ["2", "1"], "in the order of the type");
    let bad = get(server, "t171", &[("subset__where", "m = 'bad'")]).await;
    assert_eq!(bad.status, 400, "{}", bad.text());
    assert!(bad.json()["errors"]["subset"]["where"][0].as_str().is_some_and(|text| text.contains("bad")));
}

#[tokio::test]
async fn item_171_what_only_a_row_shows_to_be_wrong() {
    let (server, _) = fresh("t171b").await;
    let zero = [("subset__where", "100 / (n - 10) > 1")];
    assert_refused(server, "t171b", &zero, "where", "division by zero").await;
}

#[tokio::test]
async fn item_171_what_only_postgres_can_evaluate() {
    let (server, _) = fresh("t171c").await;
    for clause in
        ["to_tsvector('simple', a) @@ to_tsquery('simple', 'two')", "a ~ '^(?=t)two$'", "md5(a) = md5('two')"]
    {
        assert_eq!(ids(&get(server, "t171c", &[("subset__where", clause)]).await), ["2"], "{clause}");
    }
    let mixed = [("where", "soundex_of(a) = 'x'"), ("subset__where", "n > 1")];
    assert_eq!(get(server, "t171c", &mixed).await.status, 400, "no such function");
    for (clause, says) in [("random() > 0.5", "random"), ("no_such_function(a)", "no_such_function")] {
        let refused = get(server, "t171c", &[("subset__where", clause)]).await;
        assert_eq!(refused.status, 400, "{clause}: {}", refused.text());
        let told = refused.json()["errors"]["subset"]["where"][0].as_str().map(str::to_owned);
        assert!(told.is_some_and(|text| text.contains(says)), "{}", refused.text());
    }
}

#[tokio::test]
async fn item_172_no_subqueries() {
    let (server, _) = fresh("t172").await;
    let text = "Subqueries are not allowed in subsets";
    for clause in ["id IN (SELECT id FROM t172)", "id NOT IN (SELECT id FROM t172)", "EXISTS (SELECT 1)"] {
        assert_refused(server, "t172", &[("subset__where", clause)], "where", text).await;
    }
}

#[tokio::test]
async fn item_173_neither_filter_opens_the_other() {
    let (server, _) = fresh("t173").await;
    let base = [("where", "id = 1 OR id = 2"), ("subset__where", "n = 20")];
    assert_eq!(ids(&get(server, "t173", &base).await), ["2"]);
    let subset = [("where", "id = 1"), ("subset__where", "n = 20 OR n = 10")];
    assert_eq!(ids(&get(server, "t173", &subset).await), ["1"]);
}

#[tokio::test]
async fn item_174_bodies_that_are_no_object() {
    let (server, _) = fresh("t174").await;
    let query = "table=t174&offset=-1";
    let response = post(server, query, "{bad").await;
    assert_eq!((response.status, &response.json()["error"]), (400, &json!("Invalid JSON in request body")));
    assert!(response.json()["details"].is_string());
    for body in ["[1]", "\"x\"", "null"] {
        let response = post(server, query, body).await;
        let expected = json!({ "error": "Request body must be a JSON object" });
        assert_eq!((response.status, response.json()), (400, expected), "{body}");
    }
}

#[tokio::test]
async fn item_175_another_handle() {
    let (server, _) = fresh("t175").await;
    let query = "table=t175&handle=1-1&offset=0_0";
    let response = server.get(&format!("{query}&subset__where=TRUE")).await;
    assert_eq!((response.status, response.json()), (409, must_refetch()));
    assert_eq!(response.header("cache-control"), Some("public, max-age=60, must-revalidate"));
    let handle = response.header("electric-handle").expect("names the right one").to_owned();
    assert_eq!(response.header("etag"), Some(&*format!("\"{handle}::\"")));
    let response = post(server, query, r#"{"where":"TRUE"}"#).await;
    assert_eq!((response.status, response.header("cache-control")), (409, Some("no-cache")));
    assert_eq!(response.header("electric-handle"), Some(&*handle));
    let response = server.get("table=t175&handle=1-1&offset=-1&subset__where=TRUE").await;
    assert_eq!((ids(&response).len(), response.header("electric-handle")), (3, Some(&*handle)));
}

#[tokio::test]
async fn item_175_a_refused_subset_creates_no_shape() {
    let (server, sql) = fresh("t175b").await;
    let text = "At location 0: unknown reference zzz";
    assert_refused(server, "t175b", &[("subset__where", "zzz = 1")], "where", text).await;
    let published = "SELECT count(*) FROM pg_publication_tables WHERE tablename = 't175b'";
    assert_eq!(sql.value(published).await, "0");
    // What the shape itself has wrong is said first.
    let both = server.get("table=t175b&offset=-1&where=yyy=1&subset__limit=0").await;
    assert_eq!(both.json(), invalid("where", "At location 0: unknown reference yyy"));
}

#[tokio::test]
async fn item_176_no_subset_is_not_modified() {
    let (server, _) = fresh("t176").await;
    let etag = server.get("table=t176&offset=-1").await.header("etag").expect("is sent").to_owned();
    let target = "/v1/shape?table=t176&offset=-1&subset__where=TRUE";
    let headers = [("if-none-match", &*etag)];
    let request = Request { method: "GET", target, headers: &headers, body: "" };
    assert_eq!(ids(&server.client().send(&request).await), ["1", "2", "3"]);
}

#[tokio::test]
async fn item_177_subset_and_log_fit_together() {
    let (server, sql) = fresh("t177").await;
    let shape = server.follow("table=t177&log=changes_only").await;
    let (handle, start) = (shape.handle().to_owned(), shape.offset().to_owned());
    let before = sql.value("INSERT INTO t177 VALUES (4, 'x', 1) RETURNING pg_current_xact_id()::text").await;
    let query = format!("table=t177&log=changes_only&handle={handle}&offset={start}");
    let subset = server.get(&format!("{query}&subset__where=TRUE")).await;
    assert_eq!(ids(&subset), ["1", "2", "3", "4"]);
    let after = sql.value("INSERT INTO t177 VALUES (5, 'y', 1) RETURNING pg_current_xact_id()::text").await;
    let metadata = &subset.json()["metadata"];
    let (before, after) = (before.parse().expect("a number"), after.parse().expect("a number"));
    assert!(is_visible(metadata, before) && !is_visible(metadata, after), "{metadata}");
    let changes = eventually("both inserts are in the log", async || {
        let messages = server.get(&query).await.json();
        let changes = messages.as_array().expect("a list").clone();
        (changes.len() == 3).then_some(changes)
    })
    .await;
    let known =
        |message: &Value| is_visible(metadata, message["headers"]["txids"][0].as_u64().expect("an id"));
    assert!(known(&changes[0]) && !known(&changes[1]), "{changes:?}");
    let lsn = |text: &Value| text.as_str().expect("a text").parse::<u64>().expect("decimal");
    assert!(lsn(&changes[1]["headers"]["lsn"]) > lsn(&metadata["database_lsn"]), "{metadata}");
}

/// With synchronous replication the WAL tells of a commit before Postgres shows it to anybody.
#[tokio::test]
async fn item_177_what_the_log_shows_before_the_database_does() {
    let cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    let (sql, writer) = (database.connect().await, database.connect().await);
    table(&sql, "t").await;
    let server = Limn::start(&database, &[]).await;
    let mut shape = server.follow("table=t&log=changes_only").await;
    sql.execute("CREATE TABLE probe (id serial)").await;
    sql.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    sql.execute("SELECT pg_reload_conf()").await;
    // The setting holds once the checkpointer has read it, whatever a session says.
    eventually("commits wait for a standby", async || {
        let probe = database.connect().await;
        tokio::spawn(async move { probe.try_execute("INSERT INTO probe DEFAULT VALUES").await });
        let waiting = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        (sql.value(waiting).await != "0").then_some(())
    })
    .await;
    let waiting = tokio::spawn(async move { writer.execute("INSERT INTO t VALUES (4, 'x', 1)").await });
    let inserted = shape.changes(1).await;
    assert_eq!(inserted[0]["value"]["id"], "4");

    let query = format!("table=t&log=changes_only&handle={}", shape.handle());
    let subset = server.get(&format!("{query}&offset=now&subset__where=TRUE")).await;
    assert_eq!(ids(&subset), ["1", "2", "3"], "the standby has not answered");
    let offset = subset.header("electric-offset").expect("is sent");
    let rest = server.get(&format!("{query}&offset={offset}")).await.json();
    assert_eq!(rest[0]["value"]["id"], "4", "the log goes on before the insert: {rest}");

    sql.execute("ALTER SYSTEM RESET synchronous_standby_names").await;
    sql.execute("SELECT pg_reload_conf()").await;
    waiting.await.expect("the insert ends");
    let subset = server.get(&format!("{query}&offset=now&subset__where=TRUE")).await;
    assert_eq!(ids(&subset), ["1", "2", "3", "4"]);
    assert_eq!(subset.header("electric-offset"), Some(shape.offset()));
}

#[tokio::test]
async fn a_large_subset_comes_whole() {
    let (server, sql) = fresh("subset_large").await;
    sql.execute("INSERT INTO subset_large SELECT n, repeat('x', 100), n FROM generate_series(4, 20000) n")
        .await;
    let response =
        get(server, "subset_large", &[("subset__order_by", "id desc"), ("subset__where", "n > 0")]).await;
    let ids = ids(&response);
    assert_eq!((ids.len(), &*ids[0], response.header("content-length")), (19_999, "20000", None));
    assert!(ids.windows(2).all(|pair| pair[0].parse::<u32>().ok() > pair[1].parse().ok()));
}

#[tokio::test]
async fn subsets_do_not_wait_for_one_another() {
    let (server, _) = fresh("subset_crowd").await;
    let crowd = (0..60).map(|n| async move {
        let value = (n % 3 + 1).to_string();
        let parameters = [("subset__where", "id = $1"), ("subset__params[1]", &*value)];
        assert_eq!(ids(&get(server, "subset_crowd", &parameters).await), [value]);
    });
    let crowd: Vec<_> = crowd.map(Box::pin).collect();
    let mut set = tokio::task::JoinSet::new();
    for one in crowd {
        set.spawn(one);
    }
    while let Some(done) = set.join_next().await {
        done.expect("each is answered");
    }
}

#[tokio::test]
async fn a_locked_table_is_a_state_that_passes() {
    let cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let server = Limn::start(&database, &[]).await;
    assert_eq!(ids(&get(&server, "t", &[("subset__where", "TRUE")]).await).len(), 3);
    sql.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
    let response = get(&server, "t", &[("subset__where", "TRUE")]).await;
    assert_eq!((response.status, response.header("retry-after")), (503, Some("10")), "{}", response.text());
    assert_eq!(response.header("electric-internal-known-error"), Some("true"));
    sql.execute("ROLLBACK").await;
    assert_eq!(ids(&get(&server, "t", &[("subset__where", "TRUE")]).await).len(), 3);
}
