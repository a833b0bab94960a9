//! One large transaction through many shapes.

use super::Scenario;
use super::transactions::{FLOOR, LAST, make_shapes, receive, work_off};
use crate::figures::Unit;
use crate::subject::Subject;
use limn_tests::{Database, Sql};
use std::path::Path;
use std::time::Duration;

/// A transaction that waits in the WAL while the server stands still, and then is worked off: until a client has its last
/// row. The time by the clock counts, which includes Postgres's; that in which a processor worked for the server is printed
/// beside it.
pub struct LargeTransaction {
    /// The number of shapes, each for one value of a column.
    pub shapes: u32,
}

const ROWS: u32 = 500_000;
/// A commit log that is shorter holds nothing of such a transaction.
const CHECKPOINT_BYTES: u64 = 40 << 20;

impl LargeTransaction {
    async fn write(&self, sql: &Sql) {
        let n = format!("CASE WHEN i = {ROWS} THEN -1 ELSE i % {} END", self.shapes);
        let rows = format!("SELECT {n}, 'a note of some length' FROM generate_series(1, {ROWS}) i");
        sql.execute(&format!("INSERT INTO items (n, note) {rows}")).await;
    }
}

impl Scenario for LargeTransaction {
    const TITLE: &str = "A transaction of 500,000 rows through many shapes: rows";
    const UNIT: Unit = Unit::PerSecond;

    async fn fill(&self, sql: &Sql) {
        sql.execute("CREATE TABLE items (id serial PRIMARY KEY, n int, note text)").await;
        sql.execute(&format!("CREATE PUBLICATION {FLOOR} FOR TABLE items")).await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        make_shapes(subject, self.shapes).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        let times = work_off(subject, LAST, async |sql: &Sql| self.write(sql).await).await;
        let by_processor = f64::from(ROWS) / times.worked.as_secs_f64();
        println!("  {}: {by_processor:.0} rows per second of processor time", subject.name());
        wait_checkpoint(subject.limn().storage()).await;
        f64::from(ROWS) / times.passed.as_secs_f64()
    }

    async fn floor(&self, database: &Database) -> Option<f64> {
        let sql = database.connect().await;
        let times = receive(database, &sql, self.write(&sql)).await?;
        Some(f64::from(ROWS) / times.passed.as_secs_f64())
    }
}

/// Waits until the commit log is short again: a start of the next run would work it off.
async fn wait_checkpoint(storage: &Path) {
    let length = || {
        let files = std::fs::read_dir(storage.join("commit")).expect("the commit log's folder");
        files.map(|file| file.and_then(|file| file.metadata()).map_or(0, |file| file.len())).sum::<u64>()
    };
    while length() > CHECKPOINT_BYTES {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
