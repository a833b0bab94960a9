//! Children by INHERITS: a row of a child may hold the key of another row of the shape, and both are there.

use super::open;
use limn_tests::{Cluster, Follower, Limn, Sql, encode, eventually};

async fn create(sql: &Sql, name: &str) {
    sql.execute(&format!(
        "CREATE TABLE {name} (id int PRIMARY KEY, v text);
         CREATE TABLE {name}_child (extra int, PRIMARY KEY (id)) INHERITS ({name});
         CREATE TABLE {name}_deep () INHERITS ({name}_child);
         INSERT INTO {name} VALUES (1, 'parent'), (2, 'parent');
         INSERT INTO {name}_child VALUES (1, 'child', 9); INSERT INTO {name}_deep VALUES (1, 'deep', 9)"
    ))
    .await;
}

/// Reads everything that was written so far, and holds it against `select`.
async fn assert_shows(server: &Limn, sql: &Sql, shape: &mut Follower, select: &str) {
    let lsn = server.barrier(sql).await;
    shape.sync_to(lsn).await;
    let mut expected = sql.rows(select).await;
    expected.sort();
    assert_eq!(shape.rows(), expected, "{select}");
}

#[tokio::test]
async fn rows_of_parent_and_child_with_one_key_are_two() {
    let server = open().await;
    let sql = server.sql().await;
    create(&sql, "ih").await;
    sql.execute("CREATE TABLE ih_ids (id int PRIMARY KEY); INSERT INTO ih_ids VALUES (1), (2)").await;
    let inner = "id IN (SELECT id FROM ih_ids)";
    let clauses = ["true", "v <> 'deep'", "md5(v) > '0'", inner];
    let mut shapes = Vec::new();
    for clause in clauses {
        for more in ["", "&replica=full"] {
            let shape = server.follow(&format!("table=ih&where={}{more}", encode(clause))).await;
            shapes.push((format!("SELECT id, v FROM ih WHERE {clause}"), shape));
        }
    }
    let child = sql.value("SELECT 'ih_child'::regclass::oid::text").await;
    let keys = shapes[0].1.keys();
    assert!(keys.contains(&r#""public"."ih"/"1""#), "{keys:?}");
    assert!(keys.contains(&&*format!(r#""public"."ih"/{child}/"1""#)), "{keys:?}");
    for write in [
        "UPDATE ih_child SET v = 'x' WHERE id = 1",
        "DELETE FROM ONLY ih WHERE id = 1",
        "INSERT INTO ih VALUES (1, 'back'); UPDATE ih SET v = v || '.' WHERE id = 1",
        "BEGIN; UPDATE ih SET id = id + 10 WHERE id = 1; INSERT INTO ih_child VALUES (2, 'two', 1); DELETE FROM ONLY ih WHERE id = 2; COMMIT",
        "DELETE FROM ih_ids WHERE id = 2; INSERT INTO ih_ids VALUES (11)",
        "INSERT INTO ih_ids VALUES (2); DELETE FROM ih_deep",
    ] {
        sql.execute(write).await;
        for (select, shape) in &mut shapes {
            assert_shows(server, &sql, shape, select).await;
        }
    }
    assert!(shapes.iter().all(|(_, shape)| shape.rotations() == 0));
    let subset = server.get("table=ih&offset=-1&subset__order_by=id&subset__limit=9").await.json();
    let mut told: Vec<_> =
        subset["data"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
    told.sort_unstable();
    let mut known = shapes[0].1.keys();
    known.sort_unstable();
    assert_eq!(told, known, "a subset names its rows as the log does");
    // The child's own shape has its own keys.
    let own = server.follow("table=ih_child").await;
    assert!(own.keys().iter().all(|key| key.starts_with(r#""public"."ih_child"/"#)), "{:?}", own.keys());
}

#[tokio::test]
async fn the_first_child_starts_the_shape_over_and_a_restart_does_not() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    sql.execute("CREATE TABLE p (id int PRIMARY KEY, v text); INSERT INTO p VALUES (1, 'parent')").await;
    let mut server = Limn::start(&database, &[]).await;
    let mut shape = server.follow("table=p").await;
    sql.execute("CREATE TABLE c () INHERITS (p); INSERT INTO c VALUES (1, 'child')").await;
    eventually("the shape starts over", async || {
        shape.step(false).await;
        (shape.rotations() == 1).then_some(())
    })
    .await;
    assert_shows(&server, &sql, &mut shape, "SELECT * FROM p").await;
    server.wait_durable(&shape).await;
    assert!(server.stop().await.success());
    sql.execute("UPDATE p SET v = v || '!'").await;
    server.resume().await;
    assert_shows(&server, &sql, &mut shape, "SELECT * FROM p").await;
    assert_eq!(shape.rotations(), 1);
    // Postgres publishes a new child no sooner than it is asked to: its rows until then are in no stream.
    sql.execute("CREATE TABLE d () INHERITS (p); INSERT INTO d VALUES (1, 'another')").await;
    eventually("the shape starts over", async || {
        shape.step(false).await;
        (shape.rotations() == 2).then_some(())
    })
    .await;
    assert_shows(&server, &sql, &mut shape, "SELECT * FROM p").await;
    assert_eq!(shape.rows().len(), 3);
}
