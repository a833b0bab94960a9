//! One of the concurrent writers.

use crate::circumstance::application;
use crate::kind::quoted;
use crate::reference::Transaction;
use crate::run::{Run, TRANSACTIONS};
use crate::schema::{Writes, index};
use crate::state::EXTRA;
use crate::statement;
use limn_tests::{Random, Sql};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;
use tokio_postgres::SimpleQueryMessage;

/// Somebody who waits longer gives up: the lock of the reference is no lock that Postgres knows of.
const SETTINGS: &str = "SET lock_timeout = '300ms'";

/// What is asked of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Changes of some rows.
    Plain,
    /// The same, and a TRUNCATE among them.
    Truncate,
    /// The same, and another column.
    Alter,
    /// Thousands of rows.
    Big,
}

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(30);

/// Writes until the seed has its transactions.
pub async fn write(seed: Arc<Run>, mut random: Random) {
    let mut sql = seed.connect(SETTINGS).await;
    while seed.transactions_left() {
        let form = match random.below(100) {
            0 | 1 if !seed.is_calm => Form::Truncate,
            2 | 3 if !seed.is_calm => Form::Alter,
            4..=6 if seed.schema.tables.last().is_some_and(|table| table.is_big) => Form::Big,
            _ => Form::Plain,
        };
        if transact(&seed, &sql, form, &mut random).await.is_err() {
            seed.aborted.fetch_add(1, Ordering::Relaxed);
            if sql.try_execute("ROLLBACK").await.is_err() {
                // The session has gone, with Postgres.
                sql = seed.connect(SETTINGS).await;
            }
        }
        // What comes and goes may take longer than the transactions that are asked for.
        let has_enough = seed.committed.load(Ordering::Relaxed) > TRANSACTIONS && !seed.has_faults;
        pause(&mut random, if has_enough { 60 } else { 8 }).await;
    }
}

async fn pause(random: &mut Random, milliseconds_max: u64) {
    sleep(Duration::from_millis(random.below(milliseconds_max + 1))).await;
}

/// One transaction; an error leaves it to be rolled back.
async fn transact(
    seed: &Run,
    sql: &Sql,
    form: Form,
    random: &mut Random,
) -> Result<(), tokio_postgres::Error> {
    let mut transaction = Transaction::default();
    sql.try_execute("BEGIN").await?;
    for _ in 0..1 + random.below(4) {
        let number = index(random, seed.schema.tables.len());
        let table = &seed.schema.tables[number];
        if !table.is_big && table.writes != Writes::Nothing {
            step(seed, sql, &mut transaction, number, random).await?;
        }
        if random.below(4) == 0 {
            pause(random, 12).await;
        }
    }
    if form == Form::Big {
        big(seed, sql, &mut transaction, random).await?;
    }
    if form == Form::Plain && random.below(12) == 0 {
        seed.aborted.fetch_add(1, Ordering::Relaxed);
        return sql.try_execute("ROLLBACK").await;
    }
    // From here on nobody else commits: whoever waits for a table that this transaction has locked could not be waited for.
    let mut reference = seed.reference.lock().await;
    match form {
        Form::Truncate => truncate(seed, sql, &mut transaction, random).await?,
        Form::Alter => alter(seed, sql, &mut transaction, random).await?,
        Form::Plain | Form::Big => {}
    }
    if reference.commit(sql, &seed.database, transaction).await? {
        seed.committed.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// One statement; where it fails, what it did is taken back.
async fn step(
    seed: &Run,
    sql: &Sql,
    transaction: &mut Transaction,
    number: usize,
    random: &mut Random,
) -> Result<(), tokio_postgres::Error> {
    let change = statement::change(&seed.schema.tables[number], random);
    sql.try_execute("SAVEPOINT step").await?;
    let taken_back = random.below(12) == 0;
    match run(sql, &change).await {
        Ok(_) if taken_back => sql.try_execute("ROLLBACK TO step").await,
        Ok(rows) => {
            transaction.note(number, change, rows);
            Ok(())
        }
        Err(error) if error.is_closed() => Err(error),
        Err(error) => {
            application::judge(seed, &change, &error);
            sql.try_execute("ROLLBACK TO step").await
        }
    }
}

/// Runs a statement: how many rows it changed.
async fn run(sql: &Sql, statement: &str) -> Result<u64, tokio_postgres::Error> {
    let messages = sql.messages(statement).await?;
    let rows = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::CommandComplete(rows) => *rows,
        _ => 0,
    };
    Ok(messages.iter().map(rows).sum())
}

/// Thousands of rows, or the end of them.
async fn big(
    seed: &Run,
    sql: &Sql,
    transaction: &mut Transaction,
    random: &mut Random,
) -> Result<(), tokio_postgres::Error> {
    let number = seed.schema.tables.len() - 1;
    let table = &seed.schema.tables[number];
    let shrink = random.below(3) == 0;
    let change = if shrink { statement::shrink(table) } else { statement::big_change(table, random) };
    let rows = run(sql, &change).await.inspect_err(|error| application::judge(seed, &change, error))?;
    transaction.note(number, change, rows);
    Ok(())
}

/// Runs the statements of a transaction and commits it, again until that succeeds or the run is over.
pub async fn commit(seed: &Run, sql: &Sql, transaction: Transaction) {
    let statements = format!("BEGIN; {}", transaction.statements.join("; "));
    while !seed.is_done() {
        let committed = match sql.try_execute(&statements).await {
            Ok(()) => {
                // Whoever waits for a table that this transaction has locked gives up by itself.
                let mut reference = seed.reference.lock().await;
                reference.commit(sql, &seed.database, transaction.clone()).await.map(drop)
            }
            Err(error) => Err(error),
        };
        let Err(error) = committed else { return };
        application::judge(seed, &statements, &error);
        let _ = sql.try_execute("ROLLBACK").await;
        sleep(PAUSE).await;
    }
}

async fn truncate(
    seed: &Run,
    sql: &Sql,
    transaction: &mut Transaction,
    random: &mut Random,
) -> Result<(), tokio_postgres::Error> {
    let number = index(random, seed.schema.tables.len());
    let table = &seed.schema.tables[number];
    if table.writes == Writes::Nothing {
        return Ok(());
    }
    let mut statements = vec![statement::truncate(table, random)];
    if random.below(2) == 0 && !table.is_big {
        statements.push(statement::insert(table, 3, random));
    }
    for change in statements {
        sql.try_execute(&change).await?;
        transaction.statements.push(change);
    }
    transaction.touched.insert(number);
    transaction.truncated.insert(number);
    Ok(())
}

async fn alter(
    seed: &Run,
    sql: &Sql,
    transaction: &mut Transaction,
    random: &mut Random,
) -> Result<(), tokio_postgres::Error> {
    let number = index(random, seed.schema.tables.len());
    let table = &seed.schema.tables[number];
    if table.writes == Writes::Nothing {
        return Ok(());
    }
    let extras = format!(
        "SELECT attname FROM pg_attribute
         WHERE attrelid = {}::regclass AND attname LIKE '{EXTRA}%' AND NOT attisdropped",
        quoted(&table.name)
    );
    let extras = sql.try_rows(&extras).await?;
    let extra = extras.first().and_then(|row| row["attname"].as_ref());
    let change = match extra {
        Some(extra) if random.below(2) == 0 => format!("ALTER TABLE {} DROP COLUMN {extra}", table.name),
        _ => statement::add_column(table, random),
    };
    run(sql, &change).await?;
    transaction.altered.insert(number);
    transaction.note(number, change, 0);
    if random.below(2) == 0 && !table.is_big {
        let change = statement::insert(table, 2, random);
        let rows = run(sql, &change).await?;
        transaction.note(number, change, rows);
    }
    Ok(())
}
