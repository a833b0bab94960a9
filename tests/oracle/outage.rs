//! Sessions while Postgres comes and goes, and what became of a COMMIT that was cut off.

use crate::reference::{self, Attempt, MARKS};
use limn_tests::{Database, Deadline, Sql};

/// A session, as soon as Postgres is there.
pub async fn connect(database: &Database, settings: &str) -> Sql {
    let deadline = Deadline::new("Postgres takes a session");
    loop {
        if let Ok(sql) = database.try_connect().await
            && sql.try_execute(settings).await.is_ok()
        {
            return sql;
        }
        deadline.pause().await;
    }
}

/// Where the transaction committed; `None` where it did not. Waits until Postgres is back.
pub async fn commit_lsn(database: &Database, attempt: &Attempt) -> Option<u64> {
    let Attempt { pid, mark, xid, before } = attempt;
    let deadline = Deadline::new("Postgres tells what became of a transaction");
    // The session that was cut off may still be ending.
    let ending = format!("SELECT 1 AS one FROM pg_stat_activity WHERE pid = {pid}");
    let marked = format!("SELECT 1 AS one FROM {MARKS} WHERE mark = {mark}");
    loop {
        let sql = connect(database, "").await;
        if let Ok(ending) = sql.try_rows(&ending).await
            && ending.is_empty()
            && let Ok(marked) = sql.try_rows(&marked).await
        {
            if marked.is_empty() {
                return None;
            }
            if let Ok(lsn) = reference::commit_lsn(&sql, *xid, *before).await {
                return Some(lsn);
            }
        }
        deadline.pause().await;
    }
}
