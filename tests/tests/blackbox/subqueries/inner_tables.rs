//! Item 198 and what else may happen to a subquery's table: emptied, altered, dropped, partitioned, no longer published.

use super::{IN_ACTIVE, follow, kinds, partitioned};
use crate::open;
use limn_tests::{Follower, Step, eventually};

/// Waits by live requests until the shape starts over.
async fn wait_rotated(shape: &mut Follower) {
    eventually("the shape starts over", async || (shape.step(true).await == Step::Rotated).then_some(()))
        .await;
}

#[tokio::test]
async fn item_198_emptying_the_inner_table_starts_over() {
    let mut f = follow("s198t", IN_ACTIVE).await;
    f.write("TRUNCATE PROJ").await;
    wait_rotated(&mut f.shape).await;
    f.after("INSERT INTO PROJ VALUES (2, 1, true, 'n')").await;
    assert_eq!((f.ids(), f.shape.rotations()), (vec!["2".to_owned()], 1));
}

#[tokio::test]
async fn item_198_a_column_that_no_subquery_reads_may_come_and_go() {
    let mut f = follow("s198c", IN_ACTIVE).await;
    let came = f.after("ALTER TABLE PROJ ADD extra int; INSERT INTO PROJ VALUES (2, 1, true, 'n', 7)").await;
    assert_eq!(kinds(&came), ["move-in", "insert 2", "snapshot-end"]);
    f.after("ALTER TABLE PROJ DROP code; UPDATE PROJ SET active = NOT active").await;
    f.after("ALTER TABLE PROJ ALTER org_id TYPE int8; UPDATE PROJ SET active = true").await;
    assert_eq!(f.shape.rotations(), 0);
}

#[tokio::test]
async fn item_198_a_column_that_a_subquery_reads_starts_over() {
    let mut f = follow("s198r", IN_ACTIVE).await;
    f.write("ALTER TABLE PROJ RENAME active TO act").await;
    wait_rotated(&mut f.shape).await;
    let response = f.server.client().get(&f.shape.target(false)).await;
    assert_eq!(response.json()["errors"]["where"][0], "At location 44: unknown reference active");
    f.after("ALTER TABLE PROJ RENAME act TO active; UPDATE PROJ SET active = id = 2").await;
    assert_eq!(f.ids(), ["2"]);
}

#[tokio::test]
async fn item_198_dropping_the_inner_table_starts_over() {
    let mut f = follow("s198x", IN_ACTIVE).await;
    f.write("DROP TABLE PROJ").await;
    wait_rotated(&mut f.shape).await;
    let response = f.server.client().get(&f.shape.target(false)).await;
    assert_eq!(response.status, 400, "{}", response.text());
    f.after("CREATE TABLE PROJ (id int, active bool); INSERT INTO PROJ VALUES (2, true)").await;
    assert_eq!(f.ids(), ["2"]);
}

#[tokio::test]
async fn item_198_an_inner_table_that_is_no_longer_published_starts_over() {
    let mut f = follow("s198u", IN_ACTIVE).await;
    let publication = f.sql.value("SELECT pubname FROM pg_publication").await;
    f.write(&format!("ALTER PUBLICATION {publication} DROP TABLE PROJ")).await;
    f.write("UPDATE PROJ SET active = NOT active").await;
    wait_rotated(&mut f.shape).await;
    f.judge().await;
    f.after("UPDATE PROJ SET active = NOT active").await;
}

#[tokio::test]
async fn item_198_partitions_of_the_inner_table_count() {
    let mut f = partitioned(open().await, "s198p").await;
    assert_eq!(f.ids(), ["1", "3"]);
    f.after("UPDATE PROJ SET active = NOT active").await;
    f.after("UPDATE PROJ SET id = 3 WHERE id = 2").await;
    f.after("DELETE FROM PROJ; INSERT INTO PROJ_one VALUES (1, 1, true, 'n')").await;
    assert_eq!((f.ids(), f.shape.rotations()), (vec!["1".to_owned()], 0));
    f.after(
        "BEGIN; CREATE TABLE PROJ_two PARTITION OF PROJ FOR VALUES IN (20);
             INSERT INTO PROJ VALUES (20, 1, true, 'n'); INSERT INTO ITEM VALUES (20, 20, 20, 'n'); COMMIT",
    )
    .await;
    assert_eq!((f.ids(), f.shape.rotations()), (vec!["1".to_owned(), "20".to_owned()], 0));
    f.write("ALTER TABLE PROJ DETACH PARTITION PROJ_one").await;
    wait_rotated(&mut f.shape).await;
    f.judge().await;
}
