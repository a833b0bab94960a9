//! Items 62–91: the snapshot, keys, values, the schema header, which requests share a shape. What joins
//! snapshot and log is in `joining`.

use super::{followed, full_row, open, small_chunks, table};
use limn_tests::{Request, Response, encode};
use serde_json::{Value, json};

/// The first reply about a table that `sql` makes on the shared server.
async fn first(sql: &str, query: &str) -> Response {
    let server = open().await;
    server.sql().await.execute(sql).await;
    let response = server.get(&format!("{query}&offset=-1")).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response
}

/// The first reply about a table with the usual three rows.
async fn usual(name: &str) -> Response {
    let server = open().await;
    table(&server.sql().await, name).await;
    server.get(&format!("table={name}&offset=-1")).await
}

async fn handle(query: &str) -> String {
    let response = open().await.get(&format!("{query}&offset=-1")).await;
    assert_eq!(response.status, 200, "{query}: {}", response.text());
    response.header("electric-handle").expect("is sent").to_owned()
}

fn assert_ends_with_snapshot_end(body: &Value) {
    let last = body.as_array().and_then(|messages| messages.last()).expect("there is a last message");
    assert_eq!(last["headers"]["control"], "snapshot-end", "{last}");
}

#[tokio::test]
async fn item_062_rows_and_then_the_snapshots_end() {
    let body = usual("t62").await.json();
    for (index, row) in [(0, full_row(1, Some("one"), Some(10))), (2, full_row(3, None, None))] {
        let headers = json!({ "operation": "insert", "relation": ["public", "t62"] });
        let key = format!("\"public\".\"t62\"/\"{}\"", index + 1);
        assert_eq!(body[index], json!({ "key": key, "value": row, "headers": headers }));
    }
    assert_eq!(body.as_array().map(Vec::len), Some(4));
    assert_ends_with_snapshot_end(&body);
}

#[tokio::test]
async fn item_063_an_empty_table() {
    let body = first("CREATE TABLE t63 (id int PRIMARY KEY)", "table=t63").await.json();
    assert_eq!(body.as_array().map(Vec::len), Some(1));
    assert_ends_with_snapshot_end(&body);
}

#[tokio::test]
async fn item_064_offset_is_0_0_without_up_to_date() {
    let (server, sql, mut shape) = followed("t64").await;
    sql.execute("INSERT INTO t64 VALUES (9, 'nine', 9)").await;
    shape.changes(1).await;
    let response = server.get("table=t64&offset=-1").await;
    assert_eq!(response.header("electric-offset"), Some("0_0"));
    assert_eq!(response.header("electric-up-to-date"), None);
    assert_eq!(response.header("electric-has-data"), Some("true"));
    assert!(!response.text().contains("up-to-date"));
    assert_eq!(response.json().as_array().map(Vec::len), Some(4), "the snapshot is as it was taken");
}

#[tokio::test]
async fn item_065_a_handle_is_two_numbers() {
    let response = usual("t65").await;
    let handle = response.header("electric-handle").expect("is sent");
    let (hash, micros) = handle.split_once('-').expect("two parts");
    assert!(hash.parse::<u64>().is_ok_and(|hash| hash < 1 << 27), "{handle}");
    assert!(micros.parse::<u64>().is_ok_and(|micros| micros > 1_600_000_000_000_000), "{handle}");
}

#[tokio::test]
async fn item_066_the_schema_header() {
    let sql = "CREATE TYPE mood66 AS ENUM ('sad', 'ok'); CREATE DOMAIN dom66 AS int; CREATE TYPE comp66 AS (x int, y text);
        CREATE TABLE t66 (b int, a int, v varchar(40), v2 varchar, num numeric(8,2), num0 numeric, tags text[], mat int[][],
        ts3 timestamp(3), tz timestamptz(3), ti time(2), iv interval, iv2 interval year, iv3 interval day to second(3),
        iv4 interval(2), bt bit(5), vb7 varbit(7), m mood66, d dom66, c comp66, ch char(5), ch1 char, nn text NOT NULL,
        j jsonb, u uuid, ms mood66[], va varchar(10)[], by bytea, f float8, dt date, PRIMARY KEY (a, b))";
    let response = first(sql, "table=t66").await;
    let schema: Value =
        serde_json::from_str(response.header("electric-schema").expect("is sent")).expect("JSON");
    let expected = json!({
        "a": { "type": "int4", "not_null": true, "pk_index": 0 }, "b": { "type": "int4", "not_null": true, "pk_index": 1 },
        "v": { "type": "varchar", "max_length": 40 }, "v2": { "type": "varchar" },
        "num": { "type": "numeric", "precision": 8, "scale": 2 }, "num0": { "type": "numeric" },
        "tags": { "type": "text", "dims": 1 }, "mat": { "type": "int4", "dims": 2 },
        "ts3": { "type": "timestamp", "precision": 3 }, "tz": { "type": "timestamptz", "precision": 3 },
        "ti": { "type": "time", "precision": 2 }, "iv": { "type": "interval" },
        "iv2": { "type": "interval", "fields": "YEAR" },
        "iv3": { "type": "interval", "fields": "DAY TO SECOND", "precision": 3 },
        "iv4": { "type": "interval", "precision": 2 }, "bt": { "type": "bit", "length": 5 },
        "vb7": { "type": "varbit", "length": 7 }, "m": { "type": "mood66" }, "d": { "type": "dom66" },
        "c": { "type": "comp66" }, "ch": { "type": "bpchar", "length": 5 }, "ch1": { "type": "bpchar", "length": 1 },
        "nn": { "type": "text", "not_null": true }, "j": { "type": "jsonb" }, "u": { "type": "uuid" },
        "ms": { "type": "mood66", "dims": 1 }, "va": { "type": "varchar", "max_length": 10, "dims": 1 },
        "by": { "type": "bytea" }, "f": { "type": "float8" }, "dt": { "type": "date" },
    });
    for (column, info) in expected.as_object().expect("an object") {
        assert_eq!(&schema[column], info, "{column}");
    }
    assert_eq!(schema.as_object().map(serde_json::Map::len), Some(30));
}

#[tokio::test]
async fn item_066_the_schema_header_has_the_selected_columns() {
    table(&open().await.sql().await, "t66s").await;
    let response = open().await.get("table=t66s&columns=n,id&offset=-1").await;
    let schema: Value =
        serde_json::from_str(response.header("electric-schema").expect("is sent")).expect("JSON");
    assert_eq!(
        schema,
        json!({ "id": { "type": "int4", "not_null": true, "pk_index": 0 }, "n": { "type": "int4" } })
    );
    let response = first("CREATE TABLE n66 (x int, y text)", "table=n66").await;
    let schema: Value =
        serde_json::from_str(response.header("electric-schema").expect("is sent")).expect("JSON");
    assert_eq!(schema, json!({ "x": { "type": "int4" }, "y": { "type": "text" } }), "without a primary key");
}

#[tokio::test]
async fn item_069_the_second_request_finds_the_shape() {
    let first = usual("t69").await;
    let second = open().await.get("table=t69&offset=-1").await;
    assert_eq!(first.header("electric-handle"), second.header("electric-handle"));
    assert_eq!(first.body, second.body);
}

#[tokio::test]
async fn item_070_snapshot_rows_have_no_position() {
    let body = usual("t70").await.json();
    for row in &body.as_array().expect("an array")[..3] {
        let headers = row["headers"].as_object().expect("an object");
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["operation", "relation"]);
    }
}

#[tokio::test]
async fn item_071_transaction_ids_are_strings() {
    let body = usual("t71").await.json();
    let headers = &body[3]["headers"];
    for name in ["xmin", "xmax"] {
        let id = headers[name].as_str().unwrap_or_default();
        assert!(id.parse::<u64>().is_ok_and(|id| id > 0), "{headers}");
    }
    let ids = headers["xip_list"].as_array().expect("a list");
    assert!(ids.iter().all(Value::is_string), "{headers}");
    assert_eq!(headers.as_object().map(serde_json::Map::len), Some(4), "{headers}");
}

#[tokio::test]
async fn item_072_null_is_null() {
    let body = usual("t72").await.json();
    assert_eq!(body[2]["value"], json!({ "id": "3", "a": null, "n": null }));
}

#[tokio::test]
async fn item_073_booleans_are_alike_in_snapshot_and_log() {
    let sql = "CREATE TABLE t73 (id int PRIMARY KEY, b bool, bs bool[]);
               INSERT INTO t73 VALUES (1, true, '{t,f,NULL}'), (2, false, '{}')";
    let body = first(sql, "table=t73").await.json();
    assert_eq!(body[0]["value"], json!({ "id": "1", "b": "t", "bs": "{t,f,NULL}" }));
    assert_eq!(body[1]["value"], json!({ "id": "2", "b": "f", "bs": "{}" }));
    let mut shape = open().await.follow("table=t73").await;
    open().await.sql().await.execute("INSERT INTO t73 VALUES (3, true, '{t,f,NULL}')").await;
    assert_eq!(shape.changes(1).await[0]["value"], json!({ "id": "3", "b": "t", "bs": "{t,f,NULL}" }));
}

#[tokio::test]
async fn item_074_values_have_one_text_everywhere() {
    let sql = "CREATE TYPE c74 AS (x text, y int);
        CREATE TABLE t74 (id int PRIMARY KEY, by bytea, tz timestamptz, ts timestamp, d date, iv interval, ar int[], mat text[],
            f8 float8, f4 float4, nu numeric, jb jsonb, js json, u uuid, co c74, no c74, ti time, tt timetz);
        INSERT INTO t74 VALUES (1, '\\x00ff', '2026-02-03 06:05:06+02', '2026-02-03 04:05:06.5', '2026-02-03',
            '1 day 2 hours', '{1,2,NULL}', '{{a,b},{c,d}}', 0.1, 0.1, 1.50, '{\"b\":2,\"a\":1}', '{\"b\" :2}',
            'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11', ROW('a b', 3), ROW(NULL, NULL), '04:05:06', '04:05:06+02')";
    let expected = json!({
        "id": "1", "by": "\\x00ff", "tz": "2026-02-03 04:05:06+00", "ts": "2026-02-03 04:05:06.5", "d": "2026-02-03",
        "iv": "P1DT2H", "ar": "{1,2,NULL}", "mat": "{{a,b},{c,d}}", "f8": "0.1", "f4": "0.1", "nu": "1.50",
        "jb": "{\"a\": 1, \"b\": 2}", "js": "{\"b\" :2}", "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "co": "(\"a b\",3)", "no": "(,)", "ti": "04:05:06", "tt": "04:05:06+02",
    });
    let body = first(sql, "table=t74").await.json();
    assert_eq!(body[0]["value"], expected, "in the snapshot");
    let mut shape = open().await.follow("table=t74").await;
    open().await.sql().await.execute("UPDATE t74 SET id = 2").await;
    let mut moved = expected;
    moved["id"] = json!("2");
    assert_eq!(shape.changes(2).await[1]["value"], moved, "in the log");
}

#[tokio::test]
async fn item_075_char_keeps_its_padding() {
    let sql = "CREATE TABLE t75 (id int PRIMARY KEY, c char(5)); INSERT INTO t75 VALUES (1, 'ab')";
    assert_eq!(first(sql, "table=t75").await.json()[0]["value"]["c"], "ab   ");
    let mut shape = open().await.follow("table=t75").await;
    open().await.sql().await.execute("INSERT INTO t75 VALUES (2, 'cd')").await;
    assert_eq!(shape.changes(1).await[0]["value"]["c"], "cd   ");
}

#[tokio::test]
async fn item_076_large_integers_stay_whole() {
    let sql = "CREATE TABLE t76 (id int8 PRIMARY KEY);
               INSERT INTO t76 VALUES (9223372036854775807), (-9223372036854775808)";
    let body = first(sql, "table=t76").await.json();
    assert_eq!(body[0]["value"]["id"], "9223372036854775807");
    assert_eq!(body[1]["key"], "\"public\".\"t76\"/\"-9223372036854775808\"");
}

#[tokio::test]
async fn item_077_keys_double_the_slash_and_nothing_else() {
    let sql = "CREATE TABLE t77 (k text PRIMARY KEY);
        INSERT INTO t77 VALUES ('a/b'), ('//'), ('q\"r'), ('é'), (''), ('b.c'), (E'x\\\\y'), (E'nl\\nz')";
    let parts = ["a//b", "////", "q\"r", "é", "", "b.c", "x\\y", "nl\nz"];
    let keys: Vec<String> = parts.iter().map(|part| format!("\"public\".\"t77\"/\"{part}\"")).collect();
    let body = first(sql, "table=t77").await.json();
    let found = |body: &[Value]| {
        body.iter().map(|m| m["key"].as_str().expect("a key").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found(&body.as_array().expect("an array")[..8]), keys, "in the snapshot");
    let mut shape = open().await.follow("table=t77").await;
    open().await.sql().await.execute("DELETE FROM t77").await;
    assert_eq!(found(&shape.changes(8).await), keys, "in the log");
}

#[tokio::test]
async fn item_077_keys_quote_table_names_alike_everywhere() {
    let sql = "CREATE SCHEMA \"s.77a\"; CREATE TABLE \"s.77a\".\"a/b\"\"c.d\" (id int PRIMARY KEY, n int);
               INSERT INTO \"s.77a\".\"a/b\"\"c.d\" VALUES (1, 1)";
    let query = format!("table={}", encode("\"s.77a\".\"a/b\"\"c.d\""));
    let body = first(sql, &query).await.json();
    assert_eq!(body[0]["headers"]["relation"], json!(["s.77a", "a/b\"c.d"]));
    let mut shape = open().await.follow(&query).await;
    open().await.sql().await.execute("UPDATE \"s.77a\".\"a/b\"\"c.d\" SET n = 2").await;
    assert_eq!(shape.changes(1).await[0]["key"], body[0]["key"]);
}

#[tokio::test]
async fn item_078_a_key_has_the_order_of_the_index() {
    let sql =
        "CREATE TABLE t78 (a int, b text, c int, PRIMARY KEY (c, b)); INSERT INTO t78 VALUES (1, 'x/y', 2)";
    let body = first(sql, "table=t78").await.json();
    assert_eq!(body[0]["key"], "\"public\".\"t78\"/\"2\"/\"x//y\"");
    let mut shape = open().await.follow("table=t78").await;
    open().await.sql().await.execute("UPDATE t78 SET a = 5").await;
    let change = shape.changes(1).await.remove(0);
    assert_eq!(change["key"], body[0]["key"]);
    assert_eq!(change["value"], json!({ "a": "5", "b": "x/y", "c": "2" }));
}

#[tokio::test]
async fn item_079_without_a_primary_key_all_columns_are_the_key() {
    let sql = "CREATE TABLE t79 (z text, a int, m bool); INSERT INTO t79 VALUES ('q', NULL, true), (NULL, NULL, NULL)";
    let body = first(sql, "table=t79").await.json();
    assert_eq!(body[0]["key"], "\"public\".\"t79\"/\"q\"/_/\"t\"");
    assert_eq!(body[1]["key"], "\"public\".\"t79\"/_/_/_");
    let refused = open().await.get("table=t79&columns=z&offset=-1").await.json();
    let text = "The list of columns must include all primary key columns, missing: a, m";
    assert_eq!(refused["errors"]["columns"][0], text);
}

#[tokio::test]
async fn item_079_a_boolean_key_is_one_key() {
    let sql = "CREATE TABLE t79a (b bool PRIMARY KEY, n int); INSERT INTO t79a VALUES (true, 1)";
    first(sql, "table=t79a").await;
    let mut shape = open().await.follow("table=t79a").await;
    open().await.sql().await.execute("UPDATE t79a SET n = 2").await;
    assert_eq!(shape.changes(1).await[0]["key"], "\"public\".\"t79a\"/\"t\"");
    assert_eq!(shape.rows().len(), 1);
}

#[tokio::test]
async fn item_080_after_the_snapshot_comes_0_inf() {
    let first = usual("t80").await;
    let handle = first.header("electric-handle").expect("is sent").to_owned();
    let server = open().await;
    let shape = server.follow("table=t80").await;
    assert_eq!((shape.offset(), shape.handle()), ("0_inf", &*handle));
    for offset in ["0_0", "0_7", "0_inf"] {
        let response = server.get(&format!("table=t80&handle={handle}&offset={offset}")).await;
        assert_eq!(response.header("electric-offset"), Some("0_inf"), "{offset}");
        assert_eq!(response.header("electric-up-to-date"), Some(""), "{offset}");
        assert_eq!(response.json().as_array().map(Vec::len), Some(1), "{offset}");
    }
}

#[tokio::test]
async fn item_081_a_large_snapshot_has_several_chunks() {
    let server = small_chunks().await;
    let rows = "CREATE TABLE t81 (id int PRIMARY KEY, a text);
                INSERT INTO t81 SELECT i, repeat('x', 1000) FROM generate_series(1, 14) i";
    server.sql().await.execute(rows).await;
    let first = server.get("table=t81&offset=-1").await;
    let handle = first.header("electric-handle").expect("is sent").to_owned();
    let second = server.get(&format!("table=t81&handle={handle}&offset=0_0")).await;
    assert_eq!(first.header("electric-offset"), Some("0_0"));
    assert_eq!(second.header("electric-offset"), Some("0_1"));
    assert_eq!((first.header("electric-up-to-date"), second.header("electric-up-to-date")), (None, None));
    let (first, second) = (first.json(), second.json());
    let messages: Vec<&Value> =
        [&first, &second].into_iter().flat_map(|body| body.as_array().expect("an array")).collect();
    assert_eq!(first.as_array().map(Vec::len), Some(9), "the ninth row passes 10,000 bytes");
    let ids: Vec<&str> = messages.iter().filter_map(|message| message["value"]["id"].as_str()).collect();
    assert_eq!(ids, (1..=14).map(|id: u32| id.to_string()).collect::<Vec<_>>());
    assert_ends_with_snapshot_end(&second);
    let shape = server.follow("table=t81").await;
    assert_eq!((shape.offset(), shape.rows().len()), ("0_inf", 14));
}

#[tokio::test]
async fn item_082_the_snapshots_end_may_be_a_chunk_of_its_own() {
    let server = small_chunks().await;
    let rows =
        "CREATE TABLE t82 (id int PRIMARY KEY, a text); INSERT INTO t82 VALUES (1, repeat('x', 12000))";
    server.sql().await.execute(rows).await;
    let first = server.get("table=t82&offset=-1").await;
    assert_eq!(first.json().as_array().map(Vec::len), Some(1));
    assert_eq!(first.json()[0]["value"]["id"], "1");
    let handle = first.header("electric-handle").expect("is sent").to_owned();
    let second = server.get(&format!("table=t82&handle={handle}&offset=0_0")).await;
    assert_eq!(second.header("electric-offset"), Some("0_1"));
    assert_eq!(second.json().as_array().map(Vec::len), Some(1));
    assert_ends_with_snapshot_end(&second.json());
    let third = server.get(&format!("table=t82&handle={handle}&offset=0_1")).await;
    assert_eq!(
        (third.header("electric-offset"), third.header("electric-up-to-date")),
        (Some("0_inf"), Some(""))
    );
}

#[tokio::test]
async fn item_083_concurrent_first_requests_share_one_snapshot() {
    let server = open().await;
    table(&server.sql().await, "t83").await;
    let get = || server.get("table=t83&offset=-1");
    let (a, b, c, d) = tokio::join!(get(), get(), get(), get());
    for other in [b, c, d] {
        assert_eq!(a.header("electric-handle"), other.header("electric-handle"));
        assert_eq!(a.body, other.body);
    }
}

#[tokio::test]
async fn item_085_head_has_the_headers_of_get() {
    let get = usual("t85").await;
    let client = open().await.client();
    let head = Request { method: "HEAD", target: "/v1/shape?table=t85&offset=-1", ..Request::default() };
    let head = client.send(&head).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let kept = |response: &Response| {
        let changing = ["date", "x-request-id", "transfer-encoding", "content-length", "connection"];
        let mut kept = response.headers.clone();
        kept.retain(|(name, _)| !changing.contains(&name.as_str()));
        kept.sort();
        kept
    };
    assert_eq!(kept(&head), kept(&get));
}

#[tokio::test]
async fn item_085_head_creates_the_shape() {
    let server = open().await;
    table(&server.sql().await, "u85").await;
    let head = Request { method: "HEAD", target: "/v1/shape?table=u85&offset=-1", ..Request::default() };
    let head = server.client().send(&head).await;
    assert_eq!(head.header("electric-handle"), Some(&*handle("table=u85").await));
}

#[tokio::test]
async fn item_086_the_beginning_takes_any_handle() {
    let first = usual("t86").await;
    let other = open().await.get("table=t86&offset=-1&handle=1-1").await;
    assert_eq!((other.status, other.header("electric-handle")), (200, first.header("electric-handle")));
}

#[tokio::test]
async fn item_087_the_filter_holds_for_the_snapshot() {
    let server = open().await;
    table(&server.sql().await, "t87").await;
    for (clause, parameters, ids) in [
        ("n > 10", "", vec!["2"]),
        ("n IS NULL OR a = 'one'", "", vec!["1", "3"]),
        ("a = $1", "&params[1]=two", vec!["2"]),
        ("a ILIKE 'T%' AND n BETWEEN 1 AND 30", "", vec!["2"]),
        ("NOT (n IN (10, 20))", "", vec![]),
        ("a IS DISTINCT FROM 'one'", "", vec!["2", "3"]),
        ("a = $1", "&params[1]=x%27%20OR%20%271%27=%271", vec![]),
    ] {
        let body = server.get(&format!("table=t87&where={}{parameters}&offset=-1", encode(clause))).await;
        assert_eq!(body.status, 200, "{clause}: {}", body.text());
        let body = body.json();
        let found: Vec<&str> =
            body.as_array().expect("an array").iter().filter_map(|m| m["value"]["id"].as_str()).collect();
        assert_eq!(found, ids, "{clause}");
    }
}

#[tokio::test]
async fn item_088_spellings_of_a_table() {
    let expected = usual("t88").await.header("electric-handle").map(str::to_owned).expect("is sent");
    for name in ["T88", "public.t88", "%22t88%22", "Public.%22t88%22", "%22public%22.t88"] {
        assert_eq!(handle(&format!("table={name}")).await, expected, "{name}");
    }
}

#[tokio::test]
async fn item_089_columns_are_a_set() {
    let all = usual("t89").await.header("electric-handle").map(str::to_owned).expect("is sent");
    let two = handle("table=t89&columns=a,id").await;
    assert_eq!(two, handle("table=t89&columns=id,a").await);
    assert_eq!(two, handle("table=t89&columns=%22id%22,A").await);
    assert_ne!(two, all);
    let listed = handle("table=t89&columns=id,a,n").await;
    assert!(listed != all && listed != two, "all columns, but chosen: they stay when a column is added");
}

#[tokio::test]
async fn item_090_replica_and_log_mode_make_another_shape() {
    let default = usual("t90").await.header("electric-handle").map(str::to_owned).expect("is sent");
    assert_ne!(handle("table=t90&replica=full").await, default);
    assert_ne!(handle("table=t90&log=changes_only").await, default);
    assert_eq!(handle("table=t90&replica=default&log=full").await, default);
}

#[tokio::test]
async fn item_091_the_clauses_spelling_is_no_matter() {
    table(&open().await.sql().await, "t91").await;
    let shape = async |clause: &str| handle(&format!("table=t91&where={}", encode(clause))).await;
    let expected = shape("n = 1 AND a = 'x'").await;
    for clause in ["n=1  and (a = 'x')", "\"n\" = 1 AND \"a\" = 'x'", "N = 1 AND A = 'x'"] {
        assert_eq!(shape(clause).await, expected, "{clause}");
    }
    assert_ne!(shape("n = 2 AND a = 'x'").await, expected);
    assert_ne!(shape("n = 1 AND a = 'X'").await, expected);
}
