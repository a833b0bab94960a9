//! Sessions while Postgres comes and goes, and what became of a COMMIT that was cut off.

use crate::reference;
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
pub async fn commit_lsn(database: &Database, xid: u64, before: u64) -> Option<u64> {
    let deadline = Deadline::new("Postgres tells what became of a transaction");
    let status = format!("SELECT pg_xact_status('{xid}'::xid8) AS status");
    loop {
        let sql = connect(database, "").await;
        let told = sql.try_rows(&status).await.ok();
        // The session that was cut off may still be ending.
        match told.as_ref().and_then(|rows| rows[0]["status"].as_deref()) {
            Some("committed") => {
                if let Ok(lsn) = reference::commit_lsn(&sql, xid, before).await {
                    return Some(lsn);
                }
            }
            Some("in progress") | None => {}
            Some(_) => return None,
        }
        deadline.pause().await;
    }
}
