//! The application beside the server: its writes must not fail by the server's doing, and it must not wait behind it.

use crate::run::Run;
use crate::violation::{Kind, Violation};
use limn_tests::Random;
use limn_tests::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;

/// How often it is looked who waits for whom.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A longer wait behind the server is a violation.
const WAIT_MS_MAX: u64 = 1_000;

/// What the application went through.
#[derive(Debug, Default)]
pub struct Application {
    failed_writes: AtomicU64,
    longest_wait_ms: AtomicU64,
    /// Sessions that the server has had.
    servers: Mutex<BTreeSet<String>>,
}

impl Application {
    /// Failed writes, and the longest wait.
    pub fn counts(&self) -> (u64, u64) {
        (self.failed_writes.load(Ordering::Relaxed), self.longest_wait_ms.load(Ordering::Relaxed))
    }

    /// Whether a statement failed by the server's doing: its table has an identity that a publication does not bear, or
    /// the server stood in its way.
    fn is_harm(&self, error: &tokio_postgres::Error) -> bool {
        let Some(error) = error.as_db_error() else { return false };
        let is_identity = ["replica identity", "Replica identity", "publishes updates", "publishes deletes"];
        let told = format!("{} {}", error.message(), error.detail().unwrap_or_default());
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let by_server = |pid: &String| told.contains(&format!("process {pid};"));
        is_identity.iter().any(|words| told.contains(words))
            || *error.code() == SqlState::T_R_DEADLOCK_DETECTED && servers.iter().any(by_server)
    }
}

/// Judges a statement of the application that failed.
pub fn judge(run: &Run, statement: &str, error: &tokio_postgres::Error) {
    if !run.world.application.is_harm(error) || run.world.expects_harm() {
        return;
    }
    run.world.application.failed_writes.fetch_add(1, Ordering::Relaxed);
    let told = run.world.told();
    let text =
        format!("a write of the application failed: {error:?}\n  {statement}\n  what there was: {told}");
    run.world.note_violation(Violation { kind: Kind::Harmed, text });
    run.finish();
}

/// The sessions that wait for a lock from which only the server, or its place in the queue, keeps them, and since when they
/// wait for it in ms of the epoch; and the server's own sessions. What an ALTER or a TRUNCATE waits for that only reading keeps
/// from it, a snapshot's COPY, is nobody's fault.
const WAITING: &str = "
    SELECT 'waits' AS what, a.pid::text, a.query, (extract(epoch FROM l.waitstart) * 1000)::int8::text AS since
      FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE NOT l.granted AND l.waitstart IS NOT NULL AND a.datname = current_database()
       AND a.application_name <> 'limn'
       AND (SELECT bool_and(EXISTS (SELECT FROM pg_stat_activity s WHERE s.pid = blocker AND s.application_name = 'limn'))
              FROM unnest(pg_blocking_pids(l.pid)) blocker)
       AND (l.locktype <> 'relation' OR EXISTS (
             SELECT FROM pg_locks b
              WHERE b.pid = ANY (pg_blocking_pids(l.pid)) AND b.relation = l.relation AND b.mode <> 'AccessShareLock'))
    UNION ALL
    SELECT 'serves', pid::text, '', '0' FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'limn'
    UNION ALL
    SELECT 'began', '', '', (extract(epoch FROM statement_timestamp()) * 1000)::int8::text
    UNION ALL
    SELECT 'ended', '', '', (extract(epoch FROM clock_timestamp()) * 1000)::int8::text";

/// A wait: whose, and when Postgres says that it began.
type Wait = (String, u64);

/// The waits behind the server alone. A statement may have waited for others before; what it waited for them is none of the
/// server's, so a wait counts from the last look that did not show it behind the server alone. That is up to a look too much.
#[derive(Debug, Default)]
struct Waits {
    /// When each wait of the last look came to be behind the server alone.
    since: BTreeMap<Wait, u64>,
    /// When the last look began.
    looked: u64,
}

impl Waits {
    /// Takes what a look has shown, and returns how long each wait has been behind the server alone, in ms.
    fn handle_look(&mut self, waits: &[Wait], began: u64, ended: u64) -> Vec<u64> {
        let since = |wait: &Wait| self.since.get(wait).copied().unwrap_or_else(|| wait.1.max(self.looked));
        self.since = waits.iter().map(|wait| (wait.clone(), since(wait))).collect();
        self.looked = began;
        waits.iter().map(|wait| ended.saturating_sub(self.since[wait])).collect()
    }
}

/// Looks who waits behind the server, until the run is over.
pub async fn watch(run: Arc<Run>) {
    let mut sql = run.connect("").await;
    let mut waits = Waits::default();
    while !run.is_done() {
        match sql.try_rows(WAITING).await {
            Ok(rows) => handle_rows(&run, &rows, &mut waits),
            Err(_) => sql = run.connect("").await,
        }
        sleep(LOOK_EVERY).await;
    }
}

fn handle_rows(run: &Run, rows: &[Row], waits: &mut Waits) {
    let application = &run.world.application;
    let text = |row: &Row, name: &str| row[name].clone().unwrap_or_default();
    let (mut found, mut queries, mut began, mut ended) = (Vec::new(), Vec::new(), 0, 0);
    for row in rows {
        let time = text(row, "since").parse::<u64>().unwrap_or_default();
        match &*text(row, "what") {
            "began" => began = time,
            "ended" => ended = time,
            "waits" => {
                found.push((text(row, "pid"), time));
                queries.push(text(row, "query"));
            }
            _ => {
                let mut servers = application.servers.lock().unwrap_or_else(PoisonError::into_inner);
                servers.insert(text(row, "pid"));
            }
        }
    }
    for (waited, query) in waits.handle_look(&found, began, ended).into_iter().zip(queries) {
        application.longest_wait_ms.fetch_max(waited, Ordering::Relaxed);
        if waited > WAIT_MS_MAX {
            let text = format!("a statement of the application has waited {waited} ms behind limn: {query}");
            run.world.note_violation(Violation { kind: Kind::Harmed, text });
            run.finish();
        }
    }
}

/// Reads tables, as somebody who waits for nobody.
pub async fn read(run: Arc<Run>, mut random: Random) {
    let mut sql = run.connect("").await;
    while !run.is_done() {
        let table = &random.choice(&run.schema.tables).name;
        if sql.try_rows(&format!("SELECT count(*) FROM {table}")).await.is_err() {
            sql = run.connect("").await;
        }
        sleep(Duration::from_millis(random.below(40))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_for_others_before_is_not_the_servers() {
        let wait = ("17".to_owned(), 1_000);
        let mut waits = Waits::default();
        assert!(waits.handle_look(&[], 900, 905).is_empty());
        assert_eq!(waits.handle_look(std::slice::from_ref(&wait), 1_020, 1_025), [25], "from its beginning");
        assert_eq!(waits.handle_look(std::slice::from_ref(&wait), 1_040, 1_045), [45]);
        // Somebody else stands before it as well, for one look.
        assert!(waits.handle_look(&[], 1_060, 1_065).is_empty());
        assert_eq!(waits.handle_look(&[wait], 1_080, 1_085), [25], "from the look that showed others");
    }
}
