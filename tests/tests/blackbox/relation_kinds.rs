//! Relations that are no tables are refused by what they are, with what to do instead.

use super::open;
use limn_tests::{Limn, command, encode};
use serde_json::Value;
use tokio::task::spawn_blocking;

/// One of each kind, and words that must be in the refusal.
const KINDS: [(&str, &[&str]); 10] = [
    ("kinds.v", &["is a view", "Ask for the table"]),
    ("kinds.m", &["is a materialized view", "Ask for the table"]),
    ("kinds.s", &["is a sequence"]),
    ("kinds.t_pkey", &["is an index", "kinds.t"]),
    ("kinds.c", &["is a composite type"]),
    ("kinds.f", &["is a foreign table", "from the server that holds its rows"]),
    ("kinds.u", &["is an unlogged table", "`ALTER TABLE \"kinds\".\"u\" SET LOGGED;`"]),
    ("pg_catalog.pg_class", &["is a system catalog"]),
    ("information_schema.tables", &["is a system catalog"]),
    ("information_schema.sql_features", &["is a system catalog"]),
];

async fn kinds() -> &'static Limn {
    static MADE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    let server = open().await;
    let make = async || {
        let setup = "CREATE SCHEMA kinds; CREATE TABLE kinds.t (id int PRIMARY KEY);
             CREATE VIEW kinds.v AS SELECT * FROM kinds.t;
             CREATE MATERIALIZED VIEW kinds.m AS SELECT * FROM kinds.t;
             CREATE SEQUENCE kinds.s; CREATE TYPE kinds.c AS (id int); CREATE UNLOGGED TABLE kinds.u (id int PRIMARY KEY);
             CREATE FOREIGN DATA WRAPPER kinds_nowhere; CREATE SERVER kinds_nowhere FOREIGN DATA WRAPPER kinds_nowhere;
             CREATE FOREIGN TABLE kinds.f (id int) SERVER kinds_nowhere";
        server.sql().await.execute(setup).await;
    };
    MADE.get_or_init(make).await;
    server
}

fn assert_says(text: &str, table: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{table}: `{word}` is not in {text}");
    }
}

#[tokio::test]
async fn each_kind_is_refused_by_its_name() {
    let server = kinds().await;
    for (name, words) in KINDS {
        let requests = [
            format!("/v1/shape?table={name}&offset=-1"),
            format!("/v1/shape?table={name}&offset=-1&subset__where=true"),
            format!("/v1/schema?table={name}"),
            format!(
                "/v1/shape?table=t&offset=-1&where={}",
                encode(&format!("id IN (SELECT id FROM {name})"))
            ),
        ];
        for request in requests {
            let response = server.client().get(&request).await;
            assert_eq!(response.status, 400, "{request}: {}", response.text());
            let body: Value = response.json();
            let text =
                body["errors"]["table"][0].as_str().unwrap_or_else(|| unreachable!("{request}: {body}"));
            assert_says(text, &request, words);
        }
    }
}

#[tokio::test]
async fn a_temporary_table_of_another_session_is_refused() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute("CREATE TEMPORARY TABLE kinds_tmp (id int PRIMARY KEY)").await;
    let schema = sql.value("SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()").await;
    let response = server.get(&format!("table={schema}.kinds_tmp&offset=-1")).await;
    assert_eq!(response.status, 400, "{}", response.text());
    assert_says(&response.text(), &schema, &["is a temporary table", "Create an ordinary table"]);
}

#[tokio::test]
async fn an_unlogged_table_is_served_once_it_is_logged() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute("CREATE UNLOGGED TABLE kinds_u (id int PRIMARY KEY); INSERT INTO kinds_u VALUES (1)").await;
    let refused = server.get("table=kinds_u&offset=-1").await;
    let text = refused.json()["errors"]["table"][0].as_str().expect("a text").to_owned();
    sql.execute(text.split('`').nth(1).expect("a statement")).await;
    assert_eq!(server.follow("table=kinds_u").await.rows().len(), 1);
}

#[tokio::test]
async fn types_are_not_declared_for_what_is_no_table() {
    let server = kinds().await;
    for (name, words) in KINDS {
        let mut types = command();
        let url = server.check_arguments().into_iter().find(|argument| argument.starts_with("postgres://"));
        types.args(["types", "--database-url", &url.expect("a URL"), "--table", name]);
        let output = spawn_blocking(move || types.output().expect("it runs")).await.expect("it ends");
        assert!(!output.status.success(), "{name}");
        assert_says(&String::from_utf8_lossy(&output.stderr), name, words);
    }
}
