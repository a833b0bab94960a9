//! Partitions and children that the stream tells nothing of, or not enough, and that come and go.

use super::standing::Standing;
use super::{Circumstance, NOTICED_WITHIN, role};
use crate::reference::Transaction;
use crate::run::Run;
use crate::writer;
use limn_tests::Random;
use std::time::Duration;
use tokio::time::sleep;

/// What a foreign child needs.
pub const DEFINITIONS: &str = "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;";

/// How long one is there: until the server must have noticed, and a while.
const THERE_FOR: Duration = Duration::from_secs(9);
/// The same for one that the server must not let anybody else wait for: longer than it lets a request wait.
const BARE_FOR: Duration = Duration::from_secs(14);
/// They come before there is a shape, or when there is one.
const FIRST_AFTER_MS: [u64; 4] = [0, 2_000, 2_500, 3_000];

/// One that comes and goes.
#[derive(Debug, Clone, Copy)]
struct Stray {
    table: &'static str,
    name: &'static str,
    create: &'static str,
    /// Rows that it comes with.
    fill: &'static str,
    words: &'static [&'static str],
    there_for: Duration,
}

const UNLOGGED_PARTITION: Stray = Stray {
    table: "sorted",
    name: "stray_part",
    create: "CREATE UNLOGGED TABLE stray_part PARTITION OF sorted FOR VALUES IN ('xx')",
    fill: "INSERT INTO sorted (region, number, v) SELECT 'xx', i, 'stray' FROM generate_series(1, 5) i",
    words: &["stray_part", "nlogged"],
    there_for: THERE_FOR,
};

const UNLOGGED_CHILD: Stray = Stray {
    table: "kept",
    name: "stray_kid",
    create: "CREATE UNLOGGED TABLE stray_kid () INHERITS (kept)",
    fill: "INSERT INTO stray_kid (id, v) SELECT i, 'stray' FROM generate_series(100, 105) i",
    words: &["stray_kid", "nlogged"],
    there_for: THERE_FOR,
};

const FOREIGN_CHILD: Stray = Stray {
    table: "kept",
    name: "stray_kid",
    // Its line has a value for each column that the table has got by then: otherwise nobody can read the table.
    create: "DO $$ BEGIN EXECUTE format(
                 'CREATE FOREIGN TABLE stray_kid () INHERITS (kept) SERVER files OPTIONS (program %L, format ''csv'')',
                 'echo 77,stray' || repeat(',', (
                     SELECT count(*)::int - 2 FROM pg_attribute
                      WHERE attrelid = 'kept'::regclass AND attnum > 0 AND NOT attisdropped))); END $$",
    fill: "SELECT 1",
    words: &["stray_kid", "oreign"],
    there_for: THERE_FOR,
};

const LOGGED_CHILD: Stray = Stray {
    table: "kept",
    name: "stray_kid",
    create: "CREATE TABLE stray_kid () INHERITS (kept)",
    fill: "INSERT INTO stray_kid (id, v) SELECT i, 'stray' FROM generate_series(100, 105) i",
    words: &[],
    there_for: THERE_FOR,
};

/// In manual mode nobody gives it the identity of the others. It is empty: whatever is written to it tells the stream.
const BARE_PARTITION: Stray = Stray {
    table: "sorted",
    name: "stray_part",
    create: "CREATE TABLE stray_part PARTITION OF sorted FOR VALUES IN ('xx')",
    fill: "SELECT 1",
    words: &["stray_part", "sorted", "identity"],
    there_for: BARE_FOR,
};

/// Lets one come to each of two tables.
pub async fn play(run: &Run, mut random: Random) {
    let partitions: &[Stray] =
        match (run.world.has(Circumstance::Manual), run.world.has(Circumstance::Strays)) {
            (true, true) => &[BARE_PARTITION, UNLOGGED_PARTITION],
            (true, false) => &[BARE_PARTITION],
            _ => &[UNLOGGED_PARTITION],
        };
    let children: &[Stray] = match run.world.has(Circumstance::Strays) {
        true => &[UNLOGGED_CHILD, FOREIGN_CHILD, LOGGED_CHILD],
        false => &[],
    };
    let (one, other) = (*random.choice(partitions), children);
    let second = (!other.is_empty()).then(|| *random.choice(other));
    let (early, late) = (*random.choice(&FIRST_AFTER_MS), *random.choice(&FIRST_AFTER_MS));
    tokio::join!(visit(run, one, early), async {
        if let Some(second) = second {
            visit(run, second, late).await;
        }
    });
}

/// It comes, is there for a while, and goes.
async fn visit(run: &Run, stray: Stray, after_ms: u64) {
    sleep(Duration::from_millis(after_ms)).await;
    let number = run.schema.number(stray.table).expect("it was added");
    // No unlogged table may be given to a publication, and no foreign one has an owner that matters.
    let own = role::own(run, stray.name);
    let standing = (!stray.words.is_empty())
        .then(|| run.world.begin(Standing::new("a partition or child", [number], stray.words)));
    let statements = [stray.create, own.as_str(), stray.fill];
    alter(run, number, &statements).await;
    sleep(stray.there_for).await;
    let is_bare = stray.create == BARE_PARTITION.create;
    if is_bare {
        let full = format!("ALTER TABLE {} REPLICA IDENTITY FULL", stray.name);
        alter(run, number, &[&full]).await;
    } else {
        let kind = if stray.create.contains("FOREIGN") { "FOREIGN TABLE" } else { "TABLE" };
        alter(run, number, &[&format!("DROP {kind} {}", stray.name)]).await;
    }
    if let Some(standing) = standing {
        run.world.end(standing);
    }
    sleep(NOTICED_WITHIN).await;
}

/// Changes what belongs to a table; until the server has noticed, its shapes may show anything.
async fn alter(run: &Run, number: usize, statements: &[&str]) {
    let sql = run.connect("SET lock_timeout = '300ms'").await;
    let mut transaction = Transaction::default();
    transaction.touched.insert(number);
    transaction.disturbed.insert(number);
    let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", run.schema.tables[number].name);
    let all = std::iter::once(lock.as_str()).chain(statements.iter().copied());
    transaction.statements = all.filter(|text| !text.is_empty()).map(str::to_owned).collect();
    run.forgive(&[number], NOTICED_WITHIN).await;
    writer::commit(run, &sql, transaction).await;
    run.forgive(&[number], NOTICED_WITHIN).await;
}
