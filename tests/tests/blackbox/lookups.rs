//! A locked table: one definition's lookup does not hold another's up, and who holds the lock is named.

use super::table;
use limn_tests::{Cluster, Limn, Sql, encode, eventually};

/// A server whose table `locked` is followed, so that it is published, and then locked by `holder`.
async fn with_a_locked_table() -> (Limn, Sql, Sql) {
    let database = Cluster::shared().await.database().await;
    let (sql, holder) = (database.connect().await, database.connect().await);
    table(&sql, "locked").await;
    table(&sql, "free").await;
    let server = Limn::start(&database, &[]).await;
    server.follow("table=locked").await;
    let lock = "SET application_name = 'a migration'; BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE";
    holder.execute(lock).await;
    (server, sql, holder)
}

/// A clause that only Postgres can confirm, which takes a lock on the table.
fn judged(table: &str, text: &str) -> String {
    format!("table={table}&offset=-1&where={}", encode(&format!("md5(a) <> '{text}'")))
}

/// Returns once the server waits for the table's lock, or has seen that it cannot have it.
async fn wait_confirming(sql: &Sql) {
    let waits = "
        SELECT ((SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'locked'::regclass)
                + (SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'limn'
                      AND query LIKE '%AccessExclusiveLock%'))::text";
    eventually("the clause waits for the table", async || (sql.value(waits).await != "0").then_some(()))
        .await;
}

#[tokio::test]
async fn a_clause_that_waits_for_a_lock_holds_no_other_definition_up() {
    let (server, sql, holder) = with_a_locked_table().await;
    let (client, waiting) = (server.client(), judged("locked", "ONE"));
    let target = format!("/v1/shape?{waiting}");
    let asked = tokio::spawn(async move { client.get(&target).await });
    wait_confirming(&sql).await;
    let others = ["table=free&offset=-1".to_owned(), judged("free", "ONE"), judged("free", "TWO")];
    for query in others {
        let answer = server.get(&query).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    }
    let refused = asked.await.expect("it is answered");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(refused.text().contains("a migration"), "names who holds the lock: {}", refused.text());
    holder.execute("COMMIT").await;
    assert_eq!(server.get(&waiting).await.status, 200, "nothing is left of the refusal");
}

#[tokio::test]
async fn a_crowd_that_asks_for_one_new_definition_gets_one_shape() {
    let (server, sql, holder) = with_a_locked_table().await;
    let query = judged("locked", "TWO");
    let ask = |_| {
        let (client, target) = (server.client(), format!("/v1/shape?{query}"));
        tokio::spawn(async move { client.get(&target).await })
    };
    let crowd: Vec<_> = (0..5).map(ask).collect();
    wait_confirming(&sql).await;
    assert_eq!(server.get("table=free&offset=-1").await.status, 200);
    holder.execute("COMMIT").await;
    let mut handles = Vec::new();
    for asked in crowd {
        let answer = asked.await.expect("it is answered");
        assert_eq!(answer.status, 200, "{}", answer.text());
        handles.push(answer.header("electric-handle").map(ToOwned::to_owned));
    }
    handles.dedup();
    assert_eq!(handles.len(), 1, "one shape: {handles:?}");
}

#[tokio::test]
async fn a_snapshot_that_waits_for_a_lock_in_vain_names_who_holds_it() {
    let (server, _sql, holder) = with_a_locked_table().await;
    let query = "table=locked&offset=-1&columns=id";
    let refused = server.get(query).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(refused.text().contains("a migration"), "{}", refused.text());
    holder.execute("COMMIT").await;
    assert_eq!(server.get(query).await.status, 200);
}
