//! Logs that are compacted: new clients read little, and those that are in the midst of a log go on as if nothing had been.

use super::shared;
use limn_tests::{Follower, Limn, Request, Row, Signal, Sql, eventually};
use std::fs;
use std::path::PathBuf;

/// Updates of one row. With that many, its log has several chunks.
const UPDATES: usize = 20_000;
const CHUNK: [&str; 2] = ["--chunk-bytes-max", "200000"];

/// A server with a table of one row.
async fn server(options: &[&str]) -> (Limn, Sql) {
    let server = shared(options).await;
    let sql = server.sql().await;
    sql.execute("CREATE TABLE counter (id int PRIMARY KEY, n int, a text, b text)").await;
    sql.execute("INSERT INTO counter VALUES (1, 0, 'old', 'old')").await;
    (server, sql)
}

/// Updates the row so many times, each in a transaction of its own, and gives the LSN behind them.
async fn update(server: &Limn, sql: &Sql, count: usize) -> u64 {
    let one = "UPDATE counter SET n = n + 1, a = CASE WHEN n % 3 = 0 THEN n::text ELSE a END; COMMIT;";
    sql.execute(&format!("DO $$ BEGIN FOR i IN 1..{count} LOOP {one} END LOOP; END $$")).await;
    server.barrier(sql).await
}

fn folder(server: &Limn, shape: &Follower) -> PathBuf {
    server.storage().join("shapes").join(shape.handle())
}

fn len(folder: &PathBuf) -> u64 {
    let files = fs::read_dir(folder).expect("the shape has a folder").flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

/// The changes that a new client reads, once there are as few as can be.
async fn few_changes(server: &Limn, lsn: u64) -> Follower {
    eventually("a new client reads one update", async || {
        let mut new = Follower::new(server.client(), "table=counter");
        let changes = new.sync_to(lsn).await;
        (changes.iter().filter(|change| change["headers"]["operation"] == "update").count() <= 1)
            .then_some(new)
    })
    .await
}

#[tokio::test]
async fn a_row_that_was_updated_often_costs_a_new_client_two_rows() {
    let (server, sql) = server(&CHUNK).await;
    let mut old = server.follow("table=counter").await;
    let lsn = update(&server, &sql, UPDATES).await;
    old.sync_to(lsn).await;
    let new = few_changes(&server, lsn).await;
    assert_eq!(new.rows(), old.rows());
    assert_eq!(new.rows()[0]["n"], Some(UPDATES.to_string()));
    let folder = folder(&server, &old);
    eventually("the old segment is gone", async || (len(&folder) < 2_000).then_some(())).await;
    assert_eq!((old.rotations(), new.handle()), (0, old.handle()));
}

#[tokio::test]
async fn clients_go_on_from_wherever_they_were() {
    let (server, sql) = server(&CHUNK).await;
    let mut behind: Vec<Follower> = Vec::new();
    // Clients that stop at the end of each chunk.
    update(&server, &sql, UPDATES).await;
    let mut reader = server.follow("table=counter").await;
    let lsn = update(&server, &sql, UPDATES / 4).await;
    reader.sync_to(lsn).await;
    for chunks in 0..6 {
        let mut client = Follower::new(server.client(), "table=counter");
        for _ in 0..chunks {
            client.step(false).await;
        }
        behind.push(client);
    }
    let target = format!("/v1/shape?table=counter&offset=0_inf&handle={}", reader.handle());
    let before = server.client().get(&target).await;
    few_changes(&server, lsn).await;
    let tag = before.header("etag").expect("a tag").to_owned();
    let headers = [("if-none-match", tag.as_str())];
    let again = server
        .client()
        .send(&Request { method: "GET", target: &target, headers: &headers, ..Request::default() })
        .await;
    assert_eq!(again.status, 200, "other bytes have another tag");
    assert_ne!(again.header("etag"), Some(tag.as_str()));
    let lsn = update(&server, &sql, 3).await;
    reader.sync_to(lsn).await;
    for mut client in behind {
        client.sync_to(lsn).await;
        assert_eq!((client.rows(), client.rotations()), (reader.rows(), 0));
    }
}

#[tokio::test]
async fn a_compacted_log_survives_a_kill_and_a_second_server_reads_it() {
    let (mut server, sql) = server(&CHUNK).await;
    let mut shape = server.follow("table=counter").await;
    server.wait_durable(&shape).await;
    let lsn = update(&server, &sql, UPDATES).await;
    shape.sync_to(lsn).await;
    let mut second = server.twin();
    second.spawn();
    second.wait_health("waiting").await;
    let mut along = second.follow("table=counter").await;
    along.sync_to(lsn).await;
    few_changes(&server, lsn).await;
    few_changes(&second, lsn).await;
    let lsn = update(&server, &sql, 3).await;
    along.sync_to(lsn).await;
    assert_eq!((&along.rows()[0]["n"], along.rotations()), (&Some((UPDATES + 3).to_string()), 0));
    assert!(second.stop().await.success());
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
        server.signal(signal);
        server.wait().await;
        server.resume().await;
        let lsn = update(&server, &sql, 5).await;
        shape.sync_to(lsn).await;
        let new = few_changes(&server, lsn).await;
        assert_eq!((new.rows(), new.handle(), shape.rotations()), (shape.rows(), shape.handle(), 0));
    }
}

#[tokio::test]
async fn rows_come_and_go_while_their_log_is_compacted() {
    let (server, sql) = server(&CHUNK).await;
    let mut first = server.follow("table=counter").await;
    let writer = server.sql().await;
    let writing = tokio::spawn(async move {
        for round in 0..150 {
            let insert = "INSERT INTO counter SELECT i, 0, 'a', 'b' FROM generate_series(2, 60) i";
            writer.execute(&format!("{insert} ON CONFLICT (id) DO UPDATE SET n = counter.n + 1")).await;
            writer.execute(&format!("UPDATE counter SET a = 'r{round}' WHERE id % 7 = {round} % 7")).await;
            writer.execute(&format!("UPDATE counter SET b = 's{round}' WHERE id % 5 = {round} % 5")).await;
            writer.execute(&format!("DELETE FROM counter WHERE id % 11 = {round} % 11 AND id > 1")).await;
            writer.execute("SELECT pg_sleep(0.1)").await;
        }
    });
    let mut clients = Vec::new();
    while !writing.is_finished() {
        let mut client = Follower::new(server.client(), "table=counter");
        client.sync().await;
        clients.push(client);
        first.step(true).await;
    }
    writing.await.expect("all is written");
    let lsn = server.barrier(&sql).await;
    let expected = "SELECT string_agg(concat_ws(',', id, n, a, b), ';' ORDER BY id) FROM counter";
    let expected = sql.value(expected).await;
    for client in clients.iter_mut().chain([&mut first]) {
        client.sync_to(lsn).await;
        let mut rows = client.rows();
        rows.sort_by_key(|row| row["id"].as_deref().and_then(|id| id.parse::<u32>().ok()));
        let shown =
            |row: &Row| ["id", "n", "a", "b"].map(|column| row[column].as_deref().unwrap_or("")).join(",");
        let shown: Vec<String> = rows.iter().map(shown).collect();
        assert_eq!((shown.join(";"), client.rotations()), (expected.clone(), 0));
    }
}
