//! Items 211–214: partitioned tables and tables with children. A shape of the root has the rows of all its parts
//! under the root's name; a shape of a part has the part's.

use super::{must_refetch, open};
use limn_tests::{Cluster, Follower, Limn, Sql, eventually};
use serde_json::json;

/// Two levels, and a part whose columns are in another order.
async fn partitioned(name: &str) -> (&'static Limn, Sql) {
    let server = open().await;
    let sql = server.sql().await;
    create(&sql, name).await;
    (server, sql)
}

async fn create(sql: &Sql, name: &str) {
    sql.execute(&format!(
        "CREATE TABLE {name} (id int, r text, v int, PRIMARY KEY (id, r)) PARTITION BY LIST (r);
         CREATE TABLE {name}_eu PARTITION OF {name} FOR VALUES IN ('eu') PARTITION BY RANGE (id);
         CREATE TABLE {name}_eu1 PARTITION OF {name}_eu FOR VALUES FROM (0) TO (100);
         CREATE TABLE {name}_us (v int, r text NOT NULL, id int NOT NULL);
         ALTER TABLE {name} ATTACH PARTITION {name}_us FOR VALUES IN ('us');
         INSERT INTO {name} VALUES (1, 'eu', 1), (2, 'us', 2)"
    ))
    .await;
}

/// Reads everything that was written so far, and holds it against the table.
async fn assert_shows(server: &Limn, sql: &Sql, shape: &mut Follower, relation: &str) {
    let lsn = server.barrier(sql).await;
    shape.sync_to(lsn).await;
    let mut expected = sql.rows(&format!("SELECT * FROM {relation}")).await;
    expected.sort();
    assert_eq!(shape.rows(), expected, "{relation}");
}

/// Waits until `shape` is told to start over.
async fn wait_rotated(server: &Limn, shape: &Follower, relation: &str) {
    let query = format!("table={relation}&handle={}&offset=0_inf", shape.handle());
    let refused = eventually("the shape rotates", async || {
        let response = server.get(&query).await;
        (response.status != 200).then_some(response)
    })
    .await;
    assert_eq!((refused.status, refused.json()), (409, must_refetch()));
}

#[tokio::test]
async fn item_211_a_shape_of_the_root_has_the_rows_of_all_parts() {
    let (server, sql) = partitioned("t211").await;
    let mut shape = server.follow("table=t211").await;
    assert_eq!(shape.keys(), [r#""public"."t211"/"1"/"eu""#, r#""public"."t211"/"2"/"us""#]);
    sql.execute("INSERT INTO t211 VALUES (3, 'us', 3), (4, 'eu', 4)").await;
    let changes = shape.changes(2).await;
    assert_eq!(changes[0]["key"], r#""public"."t211"/"3"/"us""#);
    assert_eq!(changes[0]["value"], json!({ "id": "3", "r": "us", "v": "3" }));
    assert_eq!(changes[0]["headers"]["relation"], json!(["public", "t211"]));
    assert_eq!(changes[1]["headers"]["relation"], json!(["public", "t211"]));
    sql.execute("UPDATE t211 SET v = 33 WHERE id = 3; UPDATE t211_eu1 SET v = 44 WHERE id = 4").await;
    sql.execute("DELETE FROM t211 WHERE id = 2; INSERT INTO t211_us VALUES (5, 'us', 5)").await;
    assert_shows(server, &sql, &mut shape, "t211").await;
    assert_eq!(shape.rotations(), 0);
}

#[tokio::test]
async fn item_211_a_row_that_changes_its_part_stays_in_the_shape() {
    let (server, sql) = partitioned("t211b").await;
    let mut shape = server.follow("table=t211b&replica=full").await;
    let mut some = server.follow("table=t211b&where=v%20%3C%202").await;
    sql.execute("UPDATE t211b SET r = 'us' WHERE id = 1").await;
    sql.execute("BEGIN; UPDATE t211b SET r = 'eu', v = 9 WHERE id = 2; UPDATE t211b SET r = 'eu', id = 7 WHERE id = 1; COMMIT")
        .await;
    assert_shows(server, &sql, &mut shape, "t211b").await;
    assert_shows(server, &sql, &mut some, "t211b WHERE v < 2").await;
    assert_eq!((shape.rotations(), some.rotations()), (0, 0));
}

#[tokio::test]
async fn item_212_a_shape_of_a_part_has_its_rows_only() {
    let (server, sql) = partitioned("t212").await;
    let mut leaf = server.follow("table=t212_us").await;
    let mut middle = server.follow("table=t212_eu").await;
    assert!(leaf.keys()[0].starts_with(r#""public"."t212_us"/"#), "{:?}", leaf.keys());
    sql.execute("INSERT INTO t212 VALUES (3, 'us', 3), (4, 'eu', 4); UPDATE t212 SET r = 'us' WHERE id = 1")
        .await;
    assert_shows(server, &sql, &mut leaf, "t212_us").await;
    assert_shows(server, &sql, &mut middle, "t212_eu").await;
    assert!(middle.keys().iter().all(|key| key.starts_with(r#""public"."t212_eu"/"#)), "{:?}", middle.keys());
    assert_eq!((leaf.rows().len(), middle.rows().len()), (3, 1));
    assert_eq!((leaf.rotations(), middle.rotations()), (0, 0));
}

#[tokio::test]
async fn item_213_a_new_part_belongs_to_the_shape() {
    let (server, sql) = partitioned("t213").await;
    let mut shape = server.follow("table=t213").await;
    sql.execute(
        "CREATE TABLE t213_ap PARTITION OF t213 FOR VALUES IN ('ap'); INSERT INTO t213 VALUES (9, 'ap', 9)",
    )
    .await;
    sql.execute("CREATE TABLE t213_eu2 PARTITION OF t213_eu FOR VALUES FROM (100) TO (200); INSERT INTO t213 VALUES (101, 'eu', 1)")
        .await;
    assert_shows(server, &sql, &mut shape, "t213").await;
    // Without the identity Postgres refuses changes of rows that are published.
    for part in ["t213_ap", "t213_eu2"] {
        eventually("the part has its identity", async || {
            let identity = format!("SELECT relreplident::text FROM pg_class WHERE relname = '{part}'");
            (sql.value(&identity).await == "f").then_some(())
        })
        .await;
    }
    sql.execute("UPDATE t213 SET v = 99 WHERE id IN (9, 101); DELETE FROM t213 WHERE id = 101").await;
    sql.execute("UPDATE t213 SET r = 'us' WHERE id = 9").await;
    assert_shows(server, &sql, &mut shape, "t213").await;
    assert_eq!(shape.rotations(), 0);
}

#[tokio::test]
async fn item_213_a_part_that_was_made_in_a_long_transaction_belongs_to_the_shape() {
    let database = Cluster::start(&[]).await;
    let database = database.database().await;
    let (sql, other) = (database.connect().await, database.connect().await);
    create(&sql, "p").await;
    let server = Limn::start(&database, &[]).await;
    let mut shape = server.follow("table=p").await;
    other.execute("CREATE TABLE u (id int PRIMARY KEY)").await;
    let mut meanwhile = server.follow("table=u").await;
    // It keeps everybody from the root and its parts.
    sql.execute(
        "BEGIN; CREATE TABLE p_ap PARTITION OF p FOR VALUES IN ('ap'); INSERT INTO p VALUES (9, 'ap', 9)",
    )
    .await;
    other.execute("INSERT INTO u VALUES (1)").await;
    meanwhile.changes(1).await;
    sql.execute("INSERT INTO p VALUES (10, 'ap', 10); COMMIT").await;
    assert_shows(&server, &sql, &mut shape, "p").await;
    assert_eq!((shape.rows().len(), shape.rotations()), (4, 0));
}

#[tokio::test]
async fn item_214_a_truncated_part_rotates_the_shapes_above_it() {
    let (server, sql) = partitioned("t214").await;
    let mut shape = server.follow("table=t214").await;
    let mut truncated = server.follow("table=t214_us").await;
    let mut sibling = server.follow("table=t214_eu").await;
    sql.execute("TRUNCATE t214_us").await;
    assert_shows(server, &sql, &mut shape, "t214").await;
    assert_shows(server, &sql, &mut truncated, "t214_us").await;
    assert_shows(server, &sql, &mut sibling, "t214_eu").await;
    assert_eq!((shape.rotations(), truncated.rotations(), sibling.rotations()), (1, 1, 0));
}

#[tokio::test]
async fn item_214_a_truncated_root_rotates_the_shapes_below_it() {
    let (server, sql) = partitioned("t214b").await;
    let mut shape = server.follow("table=t214b").await;
    let mut leaf = server.follow("table=t214b_us").await;
    sql.execute("TRUNCATE t214b; INSERT INTO t214b VALUES (5, 'us', 5)").await;
    assert_shows(server, &sql, &mut shape, "t214b").await;
    assert_shows(server, &sql, &mut leaf, "t214b_us").await;
    assert_eq!((shape.rotations(), leaf.rotations()), (1, 1));
}

#[tokio::test]
async fn item_214_a_detached_part_takes_its_rows_along() {
    let (server, sql) = partitioned("t214c").await;
    let mut shape = server.follow("table=t214c").await;
    sql.execute("ALTER TABLE t214c DETACH PARTITION t214c_us").await;
    wait_rotated(server, &shape, "t214c").await;
    assert_shows(server, &sql, &mut shape, "t214c").await;
    assert_eq!((shape.rows().len(), shape.rotations()), (1, 1));
    sql.execute("INSERT INTO t214c_us VALUES (5, 'us', 5); INSERT INTO t214c VALUES (6, 'eu', 6)").await;
    assert_shows(server, &sql, &mut shape, "t214c").await;
}

#[tokio::test]
async fn item_214_an_attached_table_brings_its_rows() {
    let (server, sql) = partitioned("t214d").await;
    sql.execute("CREATE TABLE t214d_ap (LIKE t214d INCLUDING ALL); INSERT INTO t214d_ap VALUES (9, 'ap', 9)")
        .await;
    let mut shape = server.follow("table=t214d").await;
    sql.execute("ALTER TABLE t214d ATTACH PARTITION t214d_ap FOR VALUES IN ('ap')").await;
    wait_rotated(server, &shape, "t214d").await;
    sql.execute("UPDATE t214d SET v = 99 WHERE id = 9").await;
    assert_shows(server, &sql, &mut shape, "t214d").await;
    assert_eq!((shape.rows().len(), shape.rotations()), (3, 1));
}

#[tokio::test]
async fn item_214_a_part_that_goes_while_the_server_is_down_takes_its_rows_along() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    create(&sql, "p").await;
    let mut server = Limn::start(&database, &[]).await;
    let mut shape = server.follow("table=p").await;
    let mut sibling = server.follow("table=p_eu").await;
    assert!(server.stop().await.success());
    sql.execute("ALTER TABLE p DETACH PARTITION p_us").await;
    server.resume().await;
    wait_rotated(&server, &shape, "p").await;
    assert_shows(&server, &sql, &mut shape, "p").await;
    assert_shows(&server, &sql, &mut sibling, "p_eu").await;
    assert_eq!((shape.rotations(), sibling.rotations()), (1, 0));
}

#[tokio::test]
async fn item_211_children_by_inheritance_count_like_parts() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute(
        "CREATE TABLE parent (id int PRIMARY KEY, v int);
         CREATE TABLE child (x int) INHERITS (parent);
         INSERT INTO parent VALUES (1, 1); INSERT INTO child VALUES (2, 2, 9)",
    )
    .await;
    let mut shape = server.follow("table=parent").await;
    assert_eq!(shape.rows().len(), 2);
    sql.execute("INSERT INTO child VALUES (3, 3, 9); INSERT INTO parent VALUES (4, 4)").await;
    sql.execute(
        "UPDATE child SET v = 7 WHERE id = 2; UPDATE parent SET v = v + 1; DELETE FROM parent WHERE id = 3",
    )
    .await;
    assert_shows(server, &sql, &mut shape, "parent").await;
    assert_eq!((shape.rows().len(), shape.rotations()), (3, 0));
}
