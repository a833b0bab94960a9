//! Types that change while shapes show them: labels that come and get other names, attributes, constraints.

use super::NOTICED_WITHIN;
use crate::kind::{DISTINCT, Kind};
use crate::reference::Transaction;
use crate::run::Run;
use crate::schema::{Column, Table, Writes, text_key};
use crate::violation::{self, Violation};
use crate::writer;
use limn_tests::{Client, Random, Request, Sql, encode};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The table whose columns have these types.
const TONED: &str = "toned";

/// Another one with the same columns, to which nothing is written while a type changes: only the catalog tells.
const SETTLED: &str = "settled";

/// An enum that gets labels; `old` is in rows only.
const TONE: Kind = Kind::of(
    "tone",
    &["low", "mid", "high"],
    &["{c} = {v}", "{c} > 'low'", "{c} <= {v}", "{c} IN ({v}, {v})", "{c}::text LIKE 'h%'", "{c} <> {v}"],
);
/// A domain over it: Postgres has no operator for it and a constant.
const FEELING: Kind =
    Kind::of("feeling", &["low", "mid", "high"], &["{c}::text = {v}", "{c}::text <> 'mid'"]);
/// A composite that gets an attribute.
const COUPLE: Kind = Kind::of("couple", &["(1,x)", "(2,)"], &[]);
/// A domain that gets a constraint.
const BRIEF: Kind = Kind::of("brief", &["a", "abc", ""], &["{c} = {v}", "{c} LIKE 'a%'"]);

/// The table that is written to.
pub fn table() -> Table {
    of_these_types(TONED)
}

/// The table that is not.
pub fn settled() -> Table {
    Table { writes: Writes::Nothing, ..of_these_types(SETTLED) }
}

fn of_these_types(name: &str) -> Table {
    let columns = vec![
        Column::new("id", DISTINCT, true),
        Column::new("tone", &TONE, false),
        Column::new("feel", &FEELING, false),
        Column::new("pair", &COUPLE, false),
        Column::new("short", &BRIEF, false),
        Column::new("v", text_key(), false),
    ];
    Table::of(name, columns)
}

/// Between two changes.
const QUIET: Duration = Duration::from_millis(500);

/// For so long nothing else happens once a change must have been noticed, so that clients are judged by it.
const JUDGED_FOR: Duration = Duration::from_secs(2);

/// A reply that a change makes wrong may come for so long after it.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// Lets them change: a label comes always, and one other thing.
pub async fn play(run: &Run, client: &Client, mut random: Random) {
    let sql = run.connect("SET lock_timeout = '300ms'").await;
    refused_for_good(run, client).await;
    let rows = "INSERT INTO settled (id, tone, feel, pair, short, v)
                VALUES (901, 'old', 'old', '(1,x)', 'a', 'kept'), (902, 'low', 'old', '(2,)', 'abc', 'kept')";
    write(run, &sql, rows).await;
    add_label(run, client, &sql).await;
    write(run, &sql, "ALTER DOMAIN brief ADD CONSTRAINT is_short CHECK (VALUE <> 'zzz')").await;
    sleep(QUIET).await;
    match random.below(2) {
        0 => {
            write(run, &sql, "UPDATE toned SET tone = 'old', v = 'was old' WHERE id % 3 = 0").await;
            sleep(QUIET).await;
            change(run, &sql, "ALTER TYPE tone RENAME VALUE 'old' TO 'older'").await;
        }
        _ => {
            change(run, &sql, "ALTER TYPE couple ADD ATTRIBUTE c int4").await;
            change(run, &sql, "ALTER TYPE couple DROP ATTRIBUTE c").await;
        }
    }
}

/// A type that changes changes what its rows look like, without the stream.
async fn change(run: &Run, sql: &Sql, statement: &str) {
    let tables = tables(run);
    let mut transaction = Transaction::default();
    transaction.touched.extend(tables);
    transaction.disturbed.extend(tables);
    transaction.statements = vec![statement.to_owned()];
    run.forgive(&tables, NOTICED_WITHIN).await;
    writer::commit(run, sql, transaction).await;
    run.forgive(&tables, NOTICED_WITHIN).await;
    sleep(NOTICED_WITHIN + JUDGED_FOR).await;
}

/// Both tables.
fn tables(run: &Run) -> [usize; 2] {
    [TONED, SETTLED].map(|name| run.schema.number(name).expect("it was added"))
}

async fn write(run: &Run, sql: &Sql, statement: &str) {
    let mut transaction = Transaction::default();
    transaction.touched.extend(tables(run));
    transaction.statements = vec![statement.to_owned()];
    writer::commit(run, sql, transaction).await;
}

/// A label that comes in between the others: rows have it at once, and clauses may name it.
async fn add_label(run: &Run, client: &Client, sql: &Sql) {
    for table in tables(run) {
        run.excuse(table).await;
    }
    sql.execute("ALTER TYPE tone ADD VALUE 'soft' BEFORE 'mid'").await;
    write(run, sql, "UPDATE toned SET tone = 'soft', v = 'was soft' WHERE id % 2 = 0").await;
    let target = format!("/v1/shape?table={TONED}&where={}&offset=-1", encode("tone = 'soft'"));
    expect(run, client, &target, (200, ""), "a clause with a label that came").await;
}

/// What Postgres refuses for good is the asker's fault, and says why. A 409 would let clients ask again and again.
async fn refused_for_good(run: &Run, client: &Client) {
    let target = format!("/v1/shape?table={TONED}&where={}&offset=-1", encode("feel = 'low'"));
    let answer = (400, "operator does not exist");
    expect(run, client, &target, answer, "a clause for which Postgres has no operator").await;
}

/// Within seconds the reply has that status and contains that text.
async fn expect(run: &Run, client: &Client, target: &str, (status, words): (u16, &str), what: &str) {
    let started = Instant::now();
    loop {
        let request = Request { method: "GET", target, ..Request::default() };
        let told = match client.try_send(&request).await {
            Ok(response) if response.status == status && response.text().contains(words) => return,
            Ok(response) => format!("{}: {}", response.status, response.text()),
            Err(error) => error.to_string(),
        };
        if started.elapsed() > SERVED_WITHIN {
            let text = format!("{what} is not answered with {status} and `{words}`: {target}\n  {told}");
            run.world.note_violation(Violation { kind: violation::Kind::Refused, text });
            run.finish();
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}
