//! `docs/openapi.yaml` against the running server, by schemathesis: it makes up requests that the document allows and
//! others that it does not, and compares every answer with what the document says of it.

use limn_tests::{Cluster, Limn, Sql};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Requests per operation and phase.
const EXAMPLES_MAX: u32 = 60;
/// Beyond that, requests are cut off and count as failures.
const REQUEST_TIMEOUT_S: u32 = 15;
/// Unless `LIMN_TEST_SEED` names another one.
const SEED: &str = "1";
const SECRET: &str = "s3cret";

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance,ignored_auth";

const TABLES: &str = r#"
    CREATE TABLE items (
        id bigint PRIMARY KEY, title varchar(40) NOT NULL, amount int NOT NULL, price numeric(10, 2), tags text[],
        seen timestamptz(3), span interval day to second, code char(4), flags bit(3));
    INSERT INTO items (id, title, amount, price, tags)
    SELECT n, 'item ' || n, n * 3 % 17, n / 7.0, ARRAY['a', NULL] FROM generate_series(1, 50) n;
    CREATE TABLE "No Key" (id int, title text);
    INSERT INTO "No Key" VALUES (1, 'a'), (1, NULL)"#;
const CHANGE: &str = "UPDATE items SET amount = amount + 1 WHERE id = 1";

#[tokio::test]
#[ignore = "needs schemathesis: run by `cargo x test openapi`"]
async fn the_server_answers_as_the_document_says() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    sql.execute(TABLES).await;
    let server = Limn::start(
        &database,
        &["--secret", SECRET, "--long-poll-timeout-ms", "200", "--allow-shape-deletion"],
    )
    .await;
    let writer = tokio::spawn(write_for_ever(sql));
    let mut command = schemathesis(&server);
    println!("{command:?}");
    let run = tokio::task::spawn_blocking(move || command.status());
    let status = run.await.expect("it does not panic").expect("schemathesis starts");
    writer.abort();
    assert!(status.success(), "schemathesis found differences, or could not run ({status})");
}

/// So that logs hold changes, and some waits end with one.
async fn write_for_ever(sql: Sql) {
    loop {
        sql.execute(CHANGE).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

fn schemathesis(server: &Limn) -> Command {
    let program = std::env::var_os("SCHEMATHESIS").expect("SCHEMATHESIS names the program");
    let member = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seed = std::env::var("LIMN_TEST_SEED").unwrap_or_else(|_| SEED.to_owned());
    let mut command = Command::new(program);
    command
        .env("PYTHONPATH", member)
        .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    // It leaves files where it runs.
    command.current_dir(server.storage().parent().expect("a folder of this test's"));
    command.arg("--config-file").arg(member.join("schemathesis.toml"));
    command.arg("run").arg(member.join("../docs/openapi.yaml")).args(["--url", &server.client().url()]);
    command.args(["--header", &format!("Authorization: Bearer {SECRET}")]);
    command.args(["--checks", CHECKS, "--generation-with-security-parameters", "false"]);
    command.args([
        "--seed",
        &seed,
        "--max-examples",
        &EXAMPLES_MAX.to_string(),
        "--generation-database",
        "none",
    ]);
    command.args(["--request-timeout", &REQUEST_TIMEOUT_S.to_string(), "--no-color"]);
    command
}
