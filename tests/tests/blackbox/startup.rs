//! What keeps `limn serve` from starting is one sentence that says what to do.

use super::{shared, table};
use limn_tests::{
    Client, Cluster, Database, Process, Request, Signal, command, eventually, free_port, new_folder,
};
use std::fs;

/// Runs `limn serve` until it ends, which it must by itself; returns its sentence.
async fn refusal(options: &[&str]) -> String {
    let mut command = command();
    let storage = new_folder("refused");
    command.args(["serve", "--host", "127.0.0.1", "--port", &free_port().to_string()]).args(options);
    if !options.contains(&"--storage-dir") {
        command.arg("--storage-dir").arg(storage);
    }
    let mut process = Process::start(command, Signal::SIGKILL);
    assert!(!process.wait().await.success(), "{}", process.output());
    let output = process.output();
    assert!(!output.contains("panicked"), "{output}");
    let sentences: Vec<&str> = output.lines().filter(|line| line.starts_with("limn: ")).collect();
    assert_eq!(sentences.len(), 1, "{output}");
    assert_eq!(output.lines().last(), Some(sentences[0]), "it is the last that is said");
    sentences[0].to_owned()
}

async fn refusal_of(database_url: &str) -> String {
    refusal(&["--insecure", "--database-url", database_url]).await
}

async fn database() -> Database {
    Cluster::shared().await.database().await
}

#[track_caller]
fn assert_says(sentence: &str, parts: &[&str]) {
    for part in parts {
        assert!(sentence.contains(part), "`{part}` is missing in: {sentence}");
    }
}

#[tokio::test]
async fn the_wal_level_must_be_logical() {
    let cluster = Cluster::start(&["wal_level=replica", "max_wal_senders=5"]).await;
    let sentence = refusal_of(&cluster.database().await.url()).await;
    assert_says(&sentence, &["wal_level", "`ALTER SYSTEM SET wal_level = 'logical';`", "restart"]);
}

#[tokio::test]
async fn the_role_must_be_allowed_to_replicate() {
    let database = database().await;
    let role = format!("bystander_{}", database.name);
    let sql = database.connect().await;
    sql.execute(&format!("CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {} TO {role}", database.name))
        .await;
    let sentence = refusal_of(&database.url_as(&role)).await;
    assert_says(&sentence, &[&format!("`ALTER ROLE \"{role}\" WITH REPLICATION;`")]);
}

#[tokio::test]
async fn the_role_must_be_allowed_to_publish() {
    let database = database().await;
    let role = format!("replicator_{}", database.name);
    database.connect().await.execute(&format!("CREATE ROLE {role} LOGIN REPLICATION")).await;
    let sentence = refusal_of(&database.url_as(&role)).await;
    assert_says(&sentence, &[&format!("`GRANT CREATE ON DATABASE \"{}\" TO \"{role}\";`", database.name)]);
}

#[tokio::test]
async fn the_database_must_be_there() {
    let url = database().await.sibling("nowhere").url();
    assert_says(&refusal_of(&url).await, &["`nowhere`", "`CREATE DATABASE \"nowhere\";`"]);
}

#[tokio::test]
async fn the_role_must_be_there() {
    let sentence = refusal_of(&database().await.url_as("nobody_at_all")).await;
    assert_says(&sentence, &["nobody_at_all", "DATABASE_URL"]);
}

#[tokio::test]
async fn the_url_must_be_one() {
    for url in ["nonsense", "mysql://h/d", "postgres://h:port/d", "postgres://u@h/d?sslmode=verify-full"] {
        assert_says(&refusal_of(url).await, &["DATABASE_URL"]);
    }
    assert_says(&refusal(&["--insecure"]).await, &["--database-url", "DATABASE_URL"]);
}

#[tokio::test]
async fn a_secret_or_its_absence_is_chosen() {
    let url = database().await.url();
    assert_says(&refusal(&["--database-url", &url]).await, &["--secret", "--insecure"]);
    let both = refusal(&["--database-url", &url, "--secret", "s", "--insecure"]).await;
    assert_says(&both, &["--secret", "--insecure"]);
}

#[tokio::test]
async fn electrics_variables_suffice() {
    let database = database().await;
    table(&database.connect().await, "t").await;
    let port = free_port();
    let mut command = command();
    command.arg("serve").env("DATABASE_URL", database.url()).env("ELECTRIC_PORT", port.to_string());
    command.env("ELECTRIC_SECRET", "s").env("ELECTRIC_STORAGE_DIR", new_folder("storage"));
    command
        .env("ELECTRIC_REPLICATION_STREAM_ID", &database.name)
        .env("ELECTRIC_ENABLE_INTEGRATION_TESTING", "true");
    let _process = Process::start(command, Signal::SIGKILL);
    let (client, target) = (Client::new(port), "/v1/shape?table=t&offset=-1&secret=s");
    eventually("it serves", async || {
        let request = Request { method: "GET", target, ..Request::default() };
        client.try_send(&request).await.ok().filter(|response| response.status == 200)
    })
    .await;
    let delete = Request { method: "DELETE", target: "/v1/shape?table=t&secret=s", ..Request::default() };
    assert_eq!(client.send(&delete).await.status, 202);
}

#[tokio::test]
async fn a_foreign_storage_folder_is_left_untouched() {
    let folder = new_folder("foreign");
    fs::write(folder.join("thesis.txt"), "dear").expect("is written");
    let (url, path) = (database().await.url(), folder.display().to_string());
    let sentence = refusal(&["--insecure", "--database-url", &url, "--storage-dir", &path]).await;
    assert_says(&sentence, &[&path, "--storage-dir"]);
    let names: Vec<_> =
        fs::read_dir(&folder).expect("is there").map(|entry| entry.expect("is read").file_name()).collect();
    assert_eq!(names, ["thesis.txt"]);
    assert_eq!(fs::read_to_string(folder.join("thesis.txt")).expect("is there"), "dear");
}

#[tokio::test]
async fn a_storage_folder_has_one_server() {
    let server = shared(&[]).await;
    table(&server.sql().await, "u").await;
    let (url, path) = (database().await.url(), server.storage().display().to_string());
    let sentence = refusal(&["--insecure", "--database-url", &url, "--storage-dir", &path]).await;
    assert_says(&sentence, &[&path, "in use"]);
    assert_eq!(server.follow("table=u").await.rows().len(), 3, "the first is undisturbed");
}
