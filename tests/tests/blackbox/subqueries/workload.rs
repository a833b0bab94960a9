//! Item 210: random writers in all tables of several shapes, NULLs among their values, with and without kill -9.
//! Followers accept nothing that does not fit; in the end every shape equals its SQL.

use super::{TABLES, named};
use crate::workload::seed;
use limn_tests::{Cluster, Database, Follower, Limn, Random, Sql, encode, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const WRITERS: u64 = 3;
const TRANSACTIONS: u64 = 40;
const NAME: &str = "s210";

/// Clauses, with whether a NULL among an inner query's members may make the shape start over.
const SHAPES: [(&str, &str, bool); 10] = [
    ("proj_id IN (SELECT id FROM PROJ WHERE active)", "", false),
    ("proj_id NOT IN (SELECT id FROM PROJ WHERE active)", "", true),
    ("proj_id NOT IN (SELECT id FROM PROJ WHERE active AND id IS NOT NULL)", "&replica=full", false),
    (
        "proj_id IN (SELECT id FROM PROJ WHERE active) OR alt_id IN (SELECT id FROM PROJ WHERE code = 'b')",
        "",
        false,
    ),
    (
        "(proj_id IN (SELECT id FROM PROJ WHERE active) OR code = 'b') AND alt_id IN (SELECT id FROM PROJ)",
        "",
        false,
    ),
    ("NOT (alt_id IN (SELECT id FROM PROJ WHERE active AND id > 0) AND code = 'a')", "&replica=full", false),
    ("(proj_id, code) IN (SELECT id, code FROM PROJ)", "", false),
    ("(proj_id, code) NOT IN (SELECT id, code FROM PROJ)", "", true),
    (
        "proj_id IN (SELECT id FROM PROJ WHERE org_id IN (SELECT id FROM ORG WHERE region IN (SELECT name FROM REGION WHERE open)))",
        "",
        false,
    ),
    ("id IN (SELECT alt_id FROM ITEM WHERE code <> 'c')", "", false),
];

async fn start() -> (Database, Limn, Sql) {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    sql.execute(&named(NAME, TABLES)).await;
    let server =
        Limn::start(&database, &["--chunk-bytes-max", "3000", "--long-poll-timeout-ms", "1000"]).await;
    (database, server, sql)
}

fn query(shape: &(&str, &str, bool)) -> String {
    format!("table={NAME}_item{}&where={}", shape.1, encode(&named(NAME, shape.0)))
}

async fn write(database: Database, seed: u64, written: Arc<AtomicU64>) {
    let sql = database.connect().await;
    let mut random = Random::new(seed);
    for _ in 0..TRANSACTIONS {
        let changes: Vec<String> = (0..=random.below(4)).map(|_| change(&mut random)).collect();
        let end = if random.below(8) == 0 { "ROLLBACK" } else { "COMMIT" };
        let transaction = named(NAME, &format!("BEGIN; {}; {end}", changes.join("; ")));
        // Others may be in the way: a deadlock or a key that is taken ends this one.
        if sql.try_execute(&transaction).await.is_err() {
            sql.execute("ROLLBACK").await;
        }
        written.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(random.below(20))).await;
    }
}

fn change(random: &mut Random) -> String {
    let id = 1 + random.below(30);
    let mut number = || match random.below(9) {
        0 => "NULL".to_owned(),
        n => n.to_string(),
    };
    let (one, other, proj) = (number(), number(), number());
    let code = *random.choice(&["'a'", "'b'", "'c'", "NULL"]);
    let region = *random.choice(&["'north'", "'south'", "NULL"]);
    match random.below(13) {
        0 | 1 => format!(
            "INSERT INTO ITEM VALUES ({id}, {one}, {other}, {code}) ON CONFLICT (id) DO UPDATE SET proj_id = {one}"
        ),
        2 => format!("UPDATE ITEM SET proj_id = {one} WHERE id = {id}"),
        3 => format!("UPDATE ITEM SET alt_id = {other}, code = {code} WHERE id = {id}"),
        4 => format!("UPDATE ITEM SET id = id + 100 WHERE id = {id}"),
        5 => format!("UPDATE ITEM SET id = id - 100 WHERE id = {id} + 100"),
        6 => format!("DELETE FROM ITEM WHERE id = {id}"),
        7 => format!("UPDATE PROJ SET active = NOT active WHERE id = {proj}"),
        8 => format!("UPDATE PROJ SET code = {code}, org_id = {other} WHERE id = {one}"),
        9 => format!("INSERT INTO PROJ VALUES ({proj}, {one}, true, {code})"),
        10 => format!("DELETE FROM PROJ WHERE id = {proj} OR id IS NULL"),
        11 => format!("INSERT INTO ORG VALUES ({one}, {region})"),
        _ => format!(
            "UPDATE REGION SET open = NOT open WHERE name = {region}; DELETE FROM ORG WHERE id = {other}"
        ),
    }
}

fn follow(mut shape: Follower, done: Arc<AtomicBool>) -> JoinHandle<Follower> {
    tokio::spawn(async move {
        while !done.load(Ordering::Relaxed) {
            shape.step(true).await;
        }
        shape
    })
}

async fn run(seed: u64, kills: u64) {
    let (database, mut server, sql) = start().await;
    let (written, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut following = Vec::new();
    for shape in &SHAPES {
        let shape = server.follow(&query(shape)).await;
        server.wait_durable(&shape).await;
        following.push(follow(shape, Arc::clone(&done)));
    }
    let writing: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(database.clone(), seed * WRITERS + writer, Arc::clone(&written))))
        .collect();
    for kill in 1..=kills {
        let enough = WRITERS * TRANSACTIONS * kill / (kills + 1);
        let reached = async || (written.load(Ordering::Relaxed) >= enough).then_some(());
        eventually("the writers go on", reached).await;
        server.kill().await;
        server.resume().await;
    }
    for writer in writing {
        writer.await.expect("it wrote");
    }
    done.store(true, Ordering::Relaxed);
    let lsn = server.barrier(&sql).await;
    for (shape, following) in SHAPES.iter().zip(following) {
        let mut follower = following.await.expect("it could be followed");
        follower.sync_to(lsn).await;
        let mut expected = sql.rows(&named(NAME, &format!("SELECT * FROM ITEM WHERE {}", shape.0))).await;
        expected.sort();
        assert_eq!(follower.rows(), expected, "seed {seed}: {shape:?}");
        assert!(shape.2 || follower.rotations() == 0, "seed {seed}: {shape:?} started over");
        let fresh = server.follow(&query(shape)).await;
        assert_eq!(
            (fresh.rows(), fresh.handle()),
            (expected, follower.handle()),
            "seed {seed}, read anew: {shape:?}"
        );
    }
}

#[tokio::test]
async fn item_210_random_writes_equal_their_sql() {
    run(seed(), 0).await;
}

#[tokio::test]
async fn item_210_random_writes_equal_their_sql_after_kill_9() {
    run(seed() + 1, 3).await;
}
