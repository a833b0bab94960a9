//! Items 142–147: the table changes under its shapes. Whatever makes a shape's rows or header wrong ends exactly
//! that shape, whether or not anything is written afterwards; what does not concern it changes nothing.

use super::{followed, followed_as, full_row, must_refetch, open, shared, table};
use limn_tests::{Follower, Limn, Response, Sql, eventually};
use serde_json::{Value, json};

/// Asks for what follows the snapshot, until that is refused.
async fn refusal(server: &Limn, shape: &Follower, query: &str) -> Response {
    let target = format!("{query}&handle={}&offset=0_inf", shape.handle());
    eventually(&format!("{query} is refused"), async || {
        let response = server.get(&target).await;
        (response.status != 200).then_some(response)
    })
    .await
}

async fn assert_rotates(server: &Limn, shape: &Follower, query: &str) {
    let refused = refusal(server, shape, query).await;
    assert_eq!((refused.status, refused.json()), (409, must_refetch()), "{query}");
    assert_ne!(refused.header("electric-handle"), Some(shape.handle()), "{query}");
}

/// Waits until the server has looked at the catalog after the call.
async fn wait_noticed(server: &Limn, sql: &Sql, name: &str) {
    // The first look may have begun before the call.
    for turn in 1..=2 {
        let canary = format!("{name}_canary{turn}");
        table(sql, &canary).await;
        let query = format!("table={canary}&columns=id,a");
        let shape = server.follow(&query).await;
        sql.execute(&format!("ALTER TABLE {canary} RENAME COLUMN a TO b")).await;
        refusal(server, &shape, &query).await;
    }
}

/// Changes `name` by `ddl` under a shape of its columns `id` and `a`, which must not notice.
async fn assert_goes_on(name: &str, ddl: &str, insert: &str) {
    let (server, sql, mut shape) = followed_as(name, "&columns=id,a").await;
    sql.execute(ddl).await;
    wait_noticed(server, &sql, name).await;
    sql.execute(insert).await;
    assert_eq!(shape.changes(1).await[0]["value"], json!({ "id": "4", "a": "four" }), "{ddl}");
    assert_eq!((shape.rows().len(), shape.rotations()), (4, 0), "{ddl}");
}

fn schema(response: &Response) -> Value {
    let header = response.header("electric-schema").expect("is sent");
    serde_json::from_str(header).expect("the schema is JSON")
}

fn first_value(response: &Response) -> Value {
    response.json()[0]["value"].clone()
}

#[tokio::test]
async fn item_142_a_dropped_column_rotates_a_shape_of_all_columns() {
    let (server, sql, shape) = followed("t142a").await;
    sql.execute("ALTER TABLE t142a DROP COLUMN n").await;
    assert_rotates(server, &shape, "table=t142a").await;
    let again = server.get("table=t142a&offset=-1").await;
    assert_eq!(first_value(&again), json!({ "id": "1", "a": "one" }));
    assert_eq!(schema(&again).as_object().map(serde_json::Map::len), Some(2), "{}", schema(&again));
}

#[tokio::test]
async fn item_142_a_dropped_column_that_is_selected_is_unknown() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    let shape = server.follow("table=t&columns=id,n").await;
    let (client, target) = (server.client(), shape.target(true));
    let waiting = tokio::spawn(async move { client.get(&target).await });
    server.wait_parked(1).await;
    sql.execute("ALTER TABLE t DROP COLUMN n; INSERT INTO t VALUES (4, 'x')").await;
    let refused = waiting.await.expect("is answered");
    assert!(matches!(refused.status, 400 | 409), "{}: {}", refused.status, refused.text());
    let refused = eventually("the column is unknown", async || {
        let response = server.get("table=t&columns=id,n&offset=-1").await;
        (response.status != 200).then_some(response)
    })
    .await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.json()["errors"]["columns"].is_array(), "{}", refused.text());
}

#[tokio::test]
async fn item_142_a_dropped_column_that_is_not_selected_changes_nothing() {
    assert_goes_on("t142c", "ALTER TABLE t142c DROP COLUMN n", "INSERT INTO t142c VALUES (4, 'four')").await;
}

#[tokio::test]
async fn item_142_a_dropped_column_of_the_clause_ends_the_shape() {
    let query = "table=t142d&columns=id,a&where=n%20%3E%2010";
    let (server, sql, shape) = followed_as("t142d", "&columns=id,a&where=n%20%3E%2010").await;
    sql.execute("ALTER TABLE t142d DROP COLUMN n").await;
    let refused = refusal(server, &shape, query).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.json()["errors"]["where"].is_array(), "{}", refused.text());
}

#[tokio::test]
async fn item_143_a_changed_type_rotates() {
    let (server, sql, shape) = followed("t143a").await;
    sql.execute("ALTER TABLE t143a ALTER n TYPE bigint").await;
    assert_rotates(server, &shape, "table=t143a").await;
    assert_eq!(schema(&server.get("table=t143a&offset=-1").await)["n"]["type"], "int8");
}

#[tokio::test]
async fn item_143_a_changed_type_rotates_before_the_next_write_is_told() {
    let (server, sql, mut shape) = followed("t143b").await;
    sql.execute("UPDATE t143b SET n = 11 WHERE id = 1").await;
    shape.changes(1).await;
    sql.execute("ALTER TABLE t143b ALTER n TYPE text USING 'n' || n; UPDATE t143b SET a = 'x' WHERE id = 1")
        .await;
    let lsn = server.barrier(&sql).await;
    shape.sync_to(lsn).await;
    let mut expected = sql.rows("SELECT * FROM t143b").await;
    expected.sort();
    assert_eq!((shape.rows(), shape.rotations()), (expected, 1));
}

#[tokio::test]
async fn item_144_an_added_column_rotates_a_shape_of_all_columns() {
    let (server, sql, mut shape) = followed("t144a").await;
    sql.execute("ALTER TABLE t144a ADD COLUMN z int DEFAULT 7").await;
    assert_rotates(server, &shape, "table=t144a").await;
    shape.step(false).await;
    shape.sync().await;
    let mut expected = sql.rows("SELECT * FROM t144a").await;
    expected.sort();
    assert_eq!((shape.rows(), shape.rotations()), (expected, 1));
}

#[tokio::test]
async fn item_144_an_added_column_that_is_not_selected_changes_nothing() {
    assert_goes_on(
        "t144b",
        "ALTER TABLE t144b ADD COLUMN z int DEFAULT 7",
        "INSERT INTO t144b VALUES (4, 'four', 40, 1)",
    )
    .await;
}

#[tokio::test]
async fn item_145_a_renamed_table_has_no_shape_of_its_old_name() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    let shape = server.follow("table=t").await;
    let (client, target) = (server.client(), shape.target(true));
    let waiting = tokio::spawn(async move { client.get(&target).await });
    server.wait_parked(1).await;
    sql.execute("ALTER TABLE t RENAME TO renamed").await;
    let refused = waiting.await.expect("is answered");
    assert!(matches!(refused.status, 400 | 409), "{}: {}", refused.status, refused.text());
    let refused = refusal(&server, &shape, "table=t").await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.json()["errors"]["table"].is_array(), "{}", refused.text());
    let mut renamed = server.follow("table=renamed").await;
    sql.execute("INSERT INTO renamed VALUES (4, 'x', 1)").await;
    assert_eq!(renamed.changes(1).await[0]["key"], "\"public\".\"renamed\"/\"4\"");
}

#[tokio::test]
async fn item_145_a_name_that_another_table_takes_has_its_rows() {
    let (server, sql, shape) = followed("t145b").await;
    sql.execute(
        "ALTER TABLE t145b RENAME TO t145old; CREATE TABLE t145b (id int PRIMARY KEY, a text, n int)",
    )
    .await;
    sql.execute("INSERT INTO t145b VALUES (9, 'new', 9); INSERT INTO t145old VALUES (8, 'old', 8)").await;
    assert_rotates(server, &shape, "table=t145b").await;
    let again = server.follow("table=t145b").await;
    assert_eq!(again.keys(), ["\"public\".\"t145b\"/\"9\""]);
}

#[tokio::test]
async fn item_145_a_renamed_column_rotates() {
    let (server, sql, shape) = followed("t145c").await;
    sql.execute("ALTER TABLE t145c RENAME n TO m").await;
    assert_rotates(server, &shape, "table=t145c").await;
    let again = server.get("table=t145c&offset=-1").await;
    assert_eq!(first_value(&again), json!({ "id": "1", "a": "one", "m": "10" }));
    assert!(schema(&again).get("n").is_none());
}

#[tokio::test]
async fn item_145_a_moved_primary_key_rotates() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute(
        "CREATE TABLE t145d (id int PRIMARY KEY, a text NOT NULL); INSERT INTO t145d VALUES (1, 'one')",
    )
    .await;
    let shape = server.follow("table=t145d").await;
    sql.execute("ALTER TABLE t145d DROP CONSTRAINT t145d_pkey; ALTER TABLE t145d ADD PRIMARY KEY (a)").await;
    assert_rotates(server, &shape, "table=t145d").await;
    let mut again = server.follow("table=t145d").await;
    assert_eq!(again.keys(), ["\"public\".\"t145d\"/\"one\""]);
    sql.execute("UPDATE t145d SET id = 2").await;
    let change = again.changes(1).await.remove(0);
    assert_eq!(change["value"], json!({ "a": "one", "id": "2" }));
}

#[tokio::test]
async fn item_146_a_table_that_is_made_anew_has_a_new_shape() {
    let (server, sql, shape) = followed("t146a").await;
    sql.execute("DROP TABLE t146a; CREATE TABLE t146a (id int PRIMARY KEY, a text, n int)").await;
    sql.execute("INSERT INTO t146a VALUES (7, 'new', 70)").await;
    assert_rotates(server, &shape, "table=t146a").await;
    let mut again = server.follow("table=t146a").await;
    sql.execute("INSERT INTO t146a VALUES (8, 'later', 80)").await;
    assert_eq!(again.changes(1).await[0]["value"], full_row(8, Some("later"), Some(80)));
    assert_eq!(again.keys(), ["\"public\".\"t146a\"/\"7\"", "\"public\".\"t146a\"/\"8\""]);
}

#[tokio::test]
async fn item_146_a_dropped_table_is_unknown() {
    let (server, sql, shape) = followed("t146b").await;
    sql.execute("DROP TABLE t146b").await;
    let refused = refusal(server, &shape, "table=t146b").await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.json()["errors"]["table"].is_array(), "{}", refused.text());
}

#[tokio::test]
async fn item_147_nullability_shows_in_the_header_and_nowhere_else() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute("CREATE TABLE t147 (id int PRIMARY KEY, a text NOT NULL, n int); INSERT INTO t147 VALUES (1, 'one', 10)")
        .await;
    let mut shape = server.follow("table=t147").await;
    let query = format!("table=t147&handle={}&offset=0_inf", shape.handle());
    let not_null = async |column: &str| schema(&server.get(&query).await)[column]["not_null"] == true;
    assert!(not_null("a").await && !not_null("n").await);
    sql.execute("ALTER TABLE t147 ALTER a DROP NOT NULL, ALTER n SET NOT NULL").await;
    eventually("the header follows", async || (!not_null("a").await && not_null("n").await).then_some(()))
        .await;
    sql.execute("INSERT INTO t147 VALUES (2, NULL, 20)").await;
    assert_eq!(shape.changes(1).await[0]["value"], full_row(2, None, Some(20)));
    assert_eq!(shape.rotations(), 0);
}

#[tokio::test]
async fn item_215_what_was_missed_while_a_table_was_not_published_is_not_lost() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    table(&sql, "u").await;
    let (mut other, mut shape) = (server.follow("table=u").await, server.follow("table=t").await);
    let publication = sql.value("SELECT pubname::text FROM pg_publication").await;
    sql.execute(&format!("ALTER PUBLICATION {publication} DROP TABLE t; INSERT INTO t VALUES (4, 'x', 1)"))
        .await;
    assert_rotates(&server, &shape, "table=t").await;
    shape.step(false).await;
    shape.sync().await;
    assert_eq!((shape.rows().len(), shape.rotations()), (4, 1));
    sql.execute("INSERT INTO t VALUES (5, 'y', 1); INSERT INTO u VALUES (4, 'y', 1)").await;
    assert_eq!(shape.changes(1).await[0]["value"]["id"], "5", "it is published again");
    assert_eq!(other.changes(1).await[0]["value"]["id"], "4", "the other shape goes on");
}

#[tokio::test]
async fn item_215_a_dropped_publication_ends_every_shape_and_loses_nothing() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    let mut shape = server.follow("table=t").await;
    let publication = sql.value("SELECT pubname::text FROM pg_publication").await;
    sql.execute(&format!("DROP PUBLICATION {publication}; INSERT INTO t VALUES (4, 'x', 1)")).await;
    eventually("the shape starts over", async || {
        shape.step(false).await;
        (shape.rotations() > 0).then_some(())
    })
    .await;
    shape.sync().await;
    assert_eq!(shape.rows().len(), 4);
    sql.execute("INSERT INTO t VALUES (5, 'y', 1)").await;
    let lsn = server.barrier(&sql).await;
    shape.sync_to(lsn).await;
    assert_eq!(shape.rows().len(), 5);
}
