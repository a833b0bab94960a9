//! Transactions that do not end: of another database, prepared ones, and somebody who reads all tables.

use super::PAUSE;
use super::standing::Standing;
use crate::reference::Transaction;
use crate::run::Run;
use crate::schema::{Identity, Table, index};
use crate::statement;
use limn_tests::{Random, Sql};
use std::time::Duration;
use tokio::time::sleep;

/// How long a prepared transaction waits for its end.
const PREPARED_FOR: Duration = Duration::from_secs(4);
/// How long a table is read.
const READ_MS_MAX: u64 = 3_000;
/// How often all of them are.
const DUMPS: usize = 3;

/// Words of a reply that waits for a lock.
const LOCK_WORDS: &[&str] = &["lock"];

/// A transaction in another database that has written, and does not end. It must not matter.
pub async fn other_database(run: &Run) {
    let sql = run.database.sibling("postgres").connect().await;
    sql.execute("BEGIN; CREATE TABLE forgotten (id int4); INSERT INTO forgotten VALUES (1)").await;
    run.world.keep(sql);
}

/// Prepares a transaction that has written a table, and one that has not: that one stays, and must not matter.
pub async fn prepared(run: &Run, mut random: Random) {
    let sql = run.connect("SET lock_timeout = '300ms'").await;
    sql.execute(
        "CREATE TABLE aside (id int4); BEGIN; INSERT INTO aside VALUES (1); PREPARE TRANSACTION 'elsewhere'",
    )
    .await;
    let tables = &run.schema.tables;
    let plain: Vec<usize> = (0..tables.len())
        .filter(|&number| {
            let table = &tables[number];
            table.identity == Identity::Key && table.deferrable.is_none() && !table.is_big
        })
        .collect();
    if !plain.is_empty() {
        let number = plain[index(&mut random, plain.len())];
        one(run, &sql, number, &mut random).await;
    }
}

async fn one(run: &Run, sql: &Sql, number: usize, random: &mut Random) {
    let table = &run.schema.tables[number];
    let insert = statement::insert(table, 2, random);
    let begin = format!("BEGIN; SELECT pg_current_xact_id(); {insert}");
    while sql.try_execute(&begin).await.is_err() {
        let _ = sql.try_execute("ROLLBACK").await;
        if run.is_done() {
            return;
        }
        sleep(PAUSE).await;
    }
    let xid = sql.value("SELECT pg_current_xact_id()::text AS xid").await.parse().expect("an id");
    let standing = run.world.begin(Standing::new("a prepared transaction", [number], &["forgotten_sale"]));
    sql.execute("PREPARE TRANSACTION 'forgotten_sale'").await;
    sleep(PREPARED_FOR).await;
    let mut transaction = Transaction::default();
    transaction.note(number, format!("COMMIT PREPARED of {insert}"), 1);
    let reader = run.connect("SET lock_timeout = '300ms'").await;
    let all = 0..run.schema.tables.len();
    let reading = run.world.begin(Standing::new("a reader of all tables", all, LOCK_WORDS));
    while reader.try_execute(&format!("BEGIN; {}", lock_all(run))).await.is_err() {
        let _ = reader.try_execute("ROLLBACK").await;
        sleep(PAUSE).await;
    }
    let mut reference = run.reference.lock().await;
    let committed = reference.commit_prepared((&reader, sql), "forgotten_sale", xid, transaction).await;
    drop(reference);
    committed.expect("nothing breaks where transactions are prepared");
    drop(reader);
    run.world.end(reading);
    run.world.end(standing);
}

/// Locks every table as its readers do.
fn lock_all(run: &Run) -> String {
    let lock = |table: &Table| format!("LOCK TABLE {} IN ACCESS SHARE MODE", table.name);
    run.schema.tables.iter().map(lock).collect::<Vec<_>>().join("; ")
}

/// Reads all tables for a while, as a dump does, again and again. The first time begins before anybody asks for a shape.
pub async fn dumps(run: &Run, mut random: Random) {
    for _ in 0..DUMPS {
        let sql = run.connect("").await;
        let all = 0..run.schema.tables.len();
        let standing = run.world.begin(Standing::new("a dump", all, LOCK_WORDS));
        let read = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {}", lock_all(run));
        if sql.try_execute(&read).await.is_ok() {
            sleep(Duration::from_millis(500 + random.below(READ_MS_MAX))).await;
        }
        let _ = sql.try_execute("ROLLBACK").await;
        run.world.end(standing);
        sleep(Duration::from_millis(random.below(READ_MS_MAX / 3))).await;
    }
}
