//! The application beside the server: its writes must not fail by the server's doing, and it must not wait behind it.

use crate::run::Run;
use crate::violation::{Kind, Violation};
use limn_tests::Random;
use std::collections::BTreeSet;
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

/// Who waits for a lock that only the server, or its place in the queue, keeps from them; and the server's own sessions.
/// What an ALTER or a TRUNCATE waits for that only reading keeps from it, a snapshot's COPY, is nobody's fault.
const WAITING: &str = "
    SELECT 'waits' AS what, a.pid::text, a.query,
           (extract(epoch FROM clock_timestamp() - l.waitstart) * 1000)::int8::text AS ms
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
     WHERE datname = current_database() AND application_name = 'limn'";

/// Looks who waits behind the server, until the run is over.
pub async fn watch(run: Arc<Run>) {
    let mut sql = run.connect("").await;
    let application = &run.world.application;
    while !run.is_done() {
        let Ok(rows) = sql.try_rows(WAITING).await else {
            sql = run.connect("").await;
            continue;
        };
        for row in rows {
            let text = |name: &str| row[name].clone().unwrap_or_default();
            if text("what") == "serves" {
                application.servers.lock().unwrap_or_else(PoisonError::into_inner).insert(text("pid"));
                continue;
            }
            let waited = text("ms").parse::<u64>().unwrap_or_default();
            application.longest_wait_ms.fetch_max(waited, Ordering::Relaxed);
            if waited > WAIT_MS_MAX {
                let text = format!(
                    "a statement of the application has waited {waited} ms behind limn: {}",
                    text("query")
                );
                run.world.note_violation(Violation { kind: Kind::Harmed, text });
                run.finish();
            }
        }
        sleep(LOOK_EVERY).await;
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
