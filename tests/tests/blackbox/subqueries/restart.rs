//! Shapes with subqueries outlive the process: their handles, and what they believe of the other tables.

use super::{Followed, IN_ACTIVE, NOT_IN_ACTIVE, kinds, partitioned};
use crate::shared;
use limn_tests::{Follower, encode, eventually};

#[tokio::test]
async fn item_220_a_restart_keeps_handle_and_members() {
    let mut server = shared(&[]).await;
    let mut f = Followed::start(&server, "s220", IN_ACTIVE, "").await;
    f.after("UPDATE PROJ SET active = NOT active WHERE id < 3").await;
    let (shape, clause) = (f.shape, f.clause);
    assert!(server.stop().await.success());
    let sql = server.sql().await;
    sql.execute(
        "UPDATE s220_proj SET active = false WHERE id = 3; INSERT INTO s220_item VALUES (9, 2, 2, 'away')",
    )
    .await;
    server.resume().await;
    let mut f = Followed { server: &server, sql, name: "s220", clause, shape };
    let came = f.judge().await;
    assert_eq!(kinds(&came), ["insert 9", "move-out"]);
    let came = f.after("UPDATE PROJ SET active = true WHERE id = 1").await;
    assert_eq!(kinds(&came), ["move-in", "insert 1", "snapshot-end"]);
    let fresh = server.follow(&format!("table=s220_item&where={}", encode(&f.clause))).await;
    assert_eq!((fresh.rows(), fresh.handle()), (f.shape.rows(), f.shape.handle()));
    assert_eq!(f.shape.rotations(), 0);
}

#[tokio::test]
async fn item_220_a_partition_of_the_inner_table_that_goes_meanwhile_takes_its_values_along() {
    let mut server = shared(&[]).await;
    let f = partitioned(&server, "s220p").await;
    let (shape, clause, sql) = (f.shape, f.clause, f.sql);
    assert!(server.stop().await.success());
    sql.execute("ALTER TABLE s220p_proj DETACH PARTITION s220p_proj_one").await;
    server.resume().await;
    let mut f = Followed { server: &server, sql, name: "s220p", clause, shape };
    eventually("the shape starts over", async || {
        f.shape.step(true).await;
        (f.shape.rotations() > 0).then_some(())
    })
    .await;
    f.judge().await;
    assert_eq!(f.ids(), ["3"]);
}

#[tokio::test]
async fn item_221_kill_9_among_moves_loses_nothing_and_repeats_nothing() {
    let mut server = shared(&["--long-poll-timeout-ms", "1000"]).await;
    let first = Followed::start(&server, "s221", IN_ACTIVE, "").await;
    let query = format!("table=s221_item&where={}", encode(&super::named("s221", NOT_IN_ACTIVE)));
    let mut other = server.follow(&query).await;
    server.wait_durable(&first.shape).await;
    server.wait_durable(&other).await;
    let (mut shape, clause, writer) = (first.shape, first.clause, first.sql);
    let writing = tokio::spawn(async move {
        for n in 10..250 {
            let change = format!(
                "UPDATE s221_proj SET active = NOT active WHERE id = 1 + {n} % 3;
                 INSERT INTO s221_item VALUES ({n}, 1 + {n} % 4, 1, 'x')"
            );
            writer.execute(&change).await;
            // Spread over the kills.
            tokio::time::sleep(std::time::Duration::from_millis(8)).await;
        }
    });
    for _ in 0..3 {
        let before = shape.offset().to_owned();
        eventually("the log goes on", async || {
            shape.step(true).await;
            other.step(false).await;
            (shape.offset() != before).then_some(())
        })
        .await;
        server.kill().await;
        server.resume().await;
    }
    writing.await.expect("all is written");
    let sql = server.sql().await;
    let mut f = Followed { server: &server, sql, name: "s221", clause, shape };
    f.judge().await;
    assert_eq!(f.shape.rotations(), 0);
    (f.shape, f.clause) = (other, super::named("s221", NOT_IN_ACTIVE));
    f.judge().await;
    assert_eq!(f.shape.rotations(), 0);
}

#[tokio::test]
async fn item_221_kill_9_behind_a_snapshot_forgets_no_move_that_it_lacks() {
    let mut server = shared(&[]).await;
    let (sql, holder) = (server.sql().await, server.sql().await);
    // So many that they take a while to read.
    sql.execute("CREATE TABLE chosen AS SELECT generate_series(2, 200000) AS id").await;
    let mut chosen = server.follow("table=chosen&where=id%3D1").await;
    let copies = "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'COPY%chosen%'";
    eventually("its own snapshot's session is closed", async || {
        (sql.value(copies).await == "0").then_some(())
    })
    .await;
    let client = server.client();
    let reading = tokio::spawn(async move {
        let mut shape = Follower::new(client, "table=t&where=id%20IN%20(SELECT%20id%20FROM%20chosen)");
        shape.step(false).await;
        shape
    });
    eventually("the subquery is read", async || (sql.value(copies).await != "0").then_some(())).await;
    // Behind the snapshot, and in front of what follows from it.
    sql.execute("INSERT INTO chosen VALUES (1)").await;
    chosen.changes(1).await;
    let locked = holder.execute("BEGIN; LOCK TABLE chosen IN ACCESS EXCLUSIVE MODE");
    let (mut shape, ()) = tokio::join!(async { reading.await.expect("it is read") }, locked);
    assert_eq!(shape.rows().len(), 2, "the snapshot was taken before");
    server.wait_durable(&shape).await;
    server.kill().await;
    holder.execute("COMMIT").await;
    server.resume().await;
    let lsn = server.barrier(&sql).await;
    shape.sync_to(lsn).await;
    assert_eq!((shape.rows().len(), shape.rotations()), (3, 0));
}
