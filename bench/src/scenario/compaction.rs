//! A row that was updated very often.

use super::Scenario;
use crate::client::Log;
use crate::figures::Unit;
use crate::subject::{Stored, Subject};
use limn_tests::Sql;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Updates of one row, each in a transaction of its own, and what a client reads that comes some seconds later. The figure
/// is the number of its rows or of its replies, whichever is larger; bytes and files are printed.
pub struct Compaction {
    /// The number of updates.
    pub updates: u32,
}

const QUERY: &str = "table=counter";
/// The table by which the client knows that all updates have been processed.
const END: &str = "table=ends";
/// Logs are compacted some seconds after they were written; beyond this the figure is taken as it is.
const COMPACTED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A shape whose folder has more is not compacted yet: its log is not read to find that out.
const COMPACTED_BYTES: u64 = 100_000;

impl Scenario for Compaction {
    const TITLE: &str =
        "A row with a million updates, or `--updates`: rows or replies that a new client reads";
    const UNIT: Unit = Unit::Count;

    async fn fill(&self, sql: &Sql) {
        sql.execute("CREATE TABLE counter (id int PRIMARY KEY, n int, note text)").await;
        sql.execute("INSERT INTO counter VALUES (1, 0, 'a note of some length')").await;
        sql.execute("CREATE TABLE ends (id serial PRIMARY KEY)").await;
    }

    async fn set_up(&self, subject: &mut Subject) {
        subject.connect().await.read_to_end(&mut Log::new(QUERY)).await;
    }

    async fn run(&self, subject: &mut Subject, _run: usize) -> f64 {
        let (sql, mut connection) = (subject.limn().sql().await, subject.connect().await);
        let mut end = Log::new(END);
        connection.read_to_end(&mut end).await;
        sql.execute("SET synchronous_commit = off").await;
        let update = "UPDATE counter SET n = n + 1; COMMIT;";
        sql.execute(&format!("DO $$ BEGIN FOR i IN 1..{} LOOP {update} END LOOP; END $$", self.updates))
            .await;
        sql.execute("SET synchronous_commit = on").await;
        sql.execute("INSERT INTO ends DEFAULT VALUES").await;
        connection.wait(&mut end).await;
        let processed = Instant::now();
        let mut log = Log::new(QUERY);
        connection.get_head(&mut log).await;
        let folder = subject.limn().storage().join("shapes").join(log.handle());
        while Stored::of(&folder).bytes > COMPACTED_BYTES && processed.elapsed() < COMPACTED_WITHIN {
            sleep(LOOK_EVERY).await;
        }
        let waited = processed.elapsed().as_secs_f64();
        let (read, stored) = (connection.count_to_end(&mut Log::new(QUERY)).await, Stored::of(&folder));
        println!(
            "  {}: {waited:.1} s after the last of {} updates {} rows in {} replies, {} bytes; {} files of {} bytes",
            subject.name(),
            self.updates,
            read.rows,
            read.replies,
            read.bytes,
            stored.files,
            stored.bytes
        );
        read.rows.max(read.replies) as f64
    }
}
