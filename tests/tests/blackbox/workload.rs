//! Concurrent random writers, and shapes that must equal their SQL in the end. A follower accepts nothing that is
//! lost, repeated or out of order on the way.

use limn_tests::{Cluster, Database, Deadline, Follower, Limn, Random, Sql, encode, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const WRITERS: u64 = 4;
const TRANSACTIONS: u64 = 50;
const IDS: u64 = 60;
const COLOURS: [&str; 4] = ["red", "blue", "black", "brown"];

/// Shapes: further parameters, the columns in SQL, the clause in SQL.
const SHAPES: [(&str, &str, &str); 10] = [
    ("", "*", "true"),
    ("&replica=full", "*", "true"),
    ("&columns=id,a", "id, a", "true"),
    ("&where=n%20%3E%2050", "*", "n > 50"),
    ("&where=a%20%3D%20$1&params[1]=red", "*", "a = 'red'"),
    ("&where=flag&replica=full&columns=id,flag,price", "id, flag, price", "flag"),
    ("&where=id%20%3C%2030", "*", "id < 30"),
    ("&where=n%20IS%20NULL&columns=id", "id", "n IS NULL"),
    ("", "*", "n IN (1, 2, 3, 50) OR a LIKE 'b%' AND price > 1.5"),
    ("&columns=id,n", "id, n", "NOT (n BETWEEN 20 AND 60) AND a IS DISTINCT FROM 'blue'"),
];

#[derive(Default)]
struct Progress {
    transactions: AtomicU64,
    /// Followers that have read something behind their snapshot.
    reached: AtomicUsize,
    done: AtomicBool,
}

/// The seed of a run; `LIMN_TEST_SEED` repeats another.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("LIMN_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_203);
    eprintln!("LIMN_TEST_SEED={seed}");
    seed
}

async fn start() -> (Database, Limn, Sql) {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    let columns = "id int PRIMARY KEY, a text, n int, flag bool, price numeric, at timestamptz";
    sql.execute(&format!(
        "CREATE TABLE item ({columns});
         INSERT INTO item SELECT i, 'red', i, i % 2 = 0, i / 4.0, now() FROM generate_series(1, 20) i"
    ))
    .await;
    let server =
        Limn::start(&database, &["--chunk-bytes-max", "5000", "--long-poll-timeout-ms", "1000"]).await;
    (database, server, sql)
}

fn query(shape: &(&str, &str, &str)) -> String {
    let clause =
        if shape.0.contains("where") { String::new() } else { format!("&where={}", encode(shape.2)) };
    // No clause at all is a case of its own.
    let clause = if shape.2 == "true" { String::new() } else { clause };
    format!("table=item{}{clause}", shape.0)
}

/// Writes so many transactions, and on until every shape has had something to follow.
async fn write(database: Database, seed: u64, progress: Arc<Progress>) {
    let sql = database.connect().await;
    let mut random = Random::new(seed);
    let deadline = Deadline::new("every shape has something to follow");
    let mut written = 0;
    while written < TRANSACTIONS || progress.reached.load(Ordering::Relaxed) < SHAPES.len() {
        deadline.check();
        written += 1;
        let count = 1 + random.below(4);
        let changes: Vec<String> = (0..count).map(|_| change(&mut random)).collect();
        let end = if random.below(10) == 0 { "ROLLBACK" } else { "COMMIT" };
        // Others may be in the way: a deadlock or a key that is taken ends this one.
        if sql.try_execute(&format!("BEGIN; {}; {end}", changes.join("; "))).await.is_err() {
            sql.execute("ROLLBACK").await;
        }
        progress.transactions.fetch_add(1, Ordering::Relaxed);
        // Else all is written before the first kill is over.
        sleep(Duration::from_millis(random.below(20))).await;
    }
}

fn change(random: &mut Random) -> String {
    let id = 1 + random.below(IDS);
    let a = random.choice(&COLOURS);
    let n = random.below(100);
    match random.below(10) {
        0..=2 => {
            let values = format!("{id}, '{a}', {n}, {}, {n} / 7.0, now()", n.is_multiple_of(3));
            format!("INSERT INTO item VALUES ({values}) ON CONFLICT (id) DO NOTHING")
        }
        3 => format!("UPDATE item SET n = {n}, flag = NOT flag WHERE id = {id}"),
        4 => format!("UPDATE item SET n = NULL, a = NULL WHERE id = {id}"),
        5 => format!("UPDATE item SET a = '{a}', price = price + 1, at = now() WHERE id = {id}"),
        6 => format!("UPDATE item SET n = n + 1 WHERE n BETWEEN {n} AND {n} + 10"),
        7 => format!("UPDATE item SET a = a WHERE id = {id}"),
        8 => {
            let other = 1 + random.below(IDS);
            format!(
                "UPDATE item SET id = {other} WHERE id = {id} AND NOT EXISTS (SELECT FROM item WHERE id = {other})"
            )
        }
        _ => format!("DELETE FROM item WHERE id = {id}"),
    }
}

fn follow(mut shape: Follower, begin_at: u64, progress: Arc<Progress>) -> JoinHandle<Follower> {
    tokio::spawn(async move {
        let deadline = Deadline::new("the writers go on");
        while progress.transactions.load(Ordering::Relaxed) < begin_at {
            deadline.pause().await;
        }
        let mut has_reached = false;
        while !progress.done.load(Ordering::Relaxed) {
            shape.step(true).await;
            let is_behind_snapshot = !shape.offset().starts_with("0_");
            if is_behind_snapshot && !std::mem::replace(&mut has_reached, true) {
                progress.reached.fetch_add(1, Ordering::Relaxed);
            }
        }
        shape
    })
}

/// Reads to the end and compares.
async fn assert_equal(server: &Limn, sql: &Sql, following: Vec<JoinHandle<Follower>>) {
    let lsn = server.barrier(sql).await;
    for (shape, following) in SHAPES.iter().zip(following) {
        let mut follower = following.await.expect("it could be followed");
        follower.sync_to(lsn).await;
        let mut expected = sql.rows(&format!("SELECT {} FROM item WHERE {}", shape.1, shape.2)).await;
        expected.sort();
        assert_eq!(follower.rows(), expected, "{shape:?}");
        assert_eq!(follower.rotations(), 0, "{shape:?}");
        assert_ne!(follower.offset(), "0_inf", "there was nothing to follow: {shape:?}");
        let fresh = server.follow(&query(shape)).await;
        assert_eq!((fresh.rows(), fresh.handle()), (expected, follower.handle()), "read anew: {shape:?}");
    }
}

#[tokio::test]
async fn shapes_that_begin_among_writers_equal_their_sql() {
    let (database, server, sql) = start().await;
    let (seed, progress) = (seed(), Arc::new(Progress::default()));
    let writing: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(database.clone(), seed + writer, progress.clone())))
        .collect();
    let shape = |index: usize| Follower::new(server.client(), &query(&SHAPES[index]));
    let begin_at = |index: usize| 15 * u64::try_from(index).expect("is small");
    let following =
        (0..SHAPES.len()).map(|index| follow(shape(index), begin_at(index), progress.clone())).collect();
    for writer in writing {
        writer.await.expect("it wrote");
    }
    progress.done.store(true, Ordering::Relaxed);
    assert_equal(&server, &sql, following).await;
}

#[tokio::test]
async fn shapes_equal_their_sql_after_kill_9() {
    let (database, mut server, sql) = start().await;
    let (seed, progress) = (seed() + 100, Arc::new(Progress::default()));
    let mut following = Vec::new();
    for shape in &SHAPES {
        let shape = server.follow(&query(shape)).await;
        server.wait_durable(&shape).await;
        following.push(follow(shape, 0, progress.clone()));
    }
    let writing: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(database.clone(), seed + writer, progress.clone())))
        .collect();
    for part in 1..=2 {
        let reached = async || (progress.transactions.load(Ordering::Relaxed) >= part * 70).then_some(());
        eventually("the writers go on", reached).await;
        server.kill().await;
        server.resume().await;
    }
    for writer in writing {
        writer.await.expect("it wrote");
    }
    progress.done.store(true, Ordering::Relaxed);
    assert_equal(&server, &sql, following).await;
}
