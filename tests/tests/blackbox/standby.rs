//! Item 219: a second server for the same slot and folder reads along, and takes over.

use super::{full_row, must_refetch, shared, table};
use limn_tests::{Cluster, Follower, Limn, Request, eventually};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

/// A second server, once it serves what the first has written.
async fn standby(first: &Limn) -> Limn {
    let mut second = first.twin();
    second.spawn();
    second.wait_health("waiting").await;
    second
}

#[tokio::test]
async fn item_219_the_second_serves_what_the_first_has_written() {
    let first = shared(&["--long-poll-timeout-ms", "2000", "--allow-shape-deletion"]).await;
    let sql = first.sql().await;
    table(&sql, "u").await;
    let mut shape = first.follow("table=t").await;
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    let mut second = standby(&first).await;
    let client = second.client();
    let health = client.get("/v1/health").await;
    assert_eq!((health.status, health.json()), (202, json!({ "status": "waiting" })));

    let log = format!("table=t&handle={}&offset=0_inf", shape.handle());
    for query in ["table=t&offset=-1", &log] {
        let (one, other) = (first.get(query).await, second.get(query).await);
        assert_eq!((one.status, one.text()), (other.status, other.text()), "{query}");
        for name in ["electric-handle", "electric-offset", "electric-up-to-date", "etag"] {
            assert_eq!(one.header(name), other.header(name), "{name} of {query}");
        }
    }
    let now = second.get("table=t&offset=now").await;
    assert_eq!((now.status, now.header("electric-offset")), (200, Some(shape.offset())));
    let quiet = client.get(&shape.target(true)).await;
    assert_eq!((quiet.status, quiet.header("electric-up-to-date")), (200, Some("")), "{}", quiet.text());

    let wrong = second.get("table=t&handle=1-1&offset=0_0").await;
    assert_eq!((wrong.status, wrong.json()), (409, must_refetch()));
    assert_eq!(wrong.header("electric-handle"), Some(shape.handle()));
    let unknown = second.get("table=u&offset=-1").await;
    assert_eq!((unknown.status, unknown.header("retry-after")), (503, Some("5")), "{}", unknown.text());
    let delete = Request { method: "DELETE", target: "/v1/shape?table=t", ..Request::default() };
    assert_eq!(client.send(&delete).await.status, 503, "it only reads");
    assert!(second.stop().await.success());
    assert_eq!(first.get("table=t&offset=-1").await.status, 200, "the first is undisturbed");
}

#[tokio::test]
async fn item_219_the_second_tells_changes_as_the_first_writes_them() {
    let first = shared(&[]).await;
    let sql = first.sql().await;
    let mut shape = first.follow("table=t").await;
    let second = standby(&first).await;
    let mut along = second.follow("table=t").await;
    for id in 4..8 {
        sql.execute(&format!("INSERT INTO t VALUES ({id}, 'x', 1); UPDATE t SET n = {id} WHERE id = 1"))
            .await;
        let told = shape.changes(2).await;
        assert_eq!(along.changes(2).await, told);
        assert_eq!(along.offset(), shape.offset());
    }
    // A shape that is made meanwhile is there too.
    let made = first.follow("table=t&columns=id").await;
    assert_eq!(second.follow("table=t&columns=id").await.rows(), made.rows());
    // Where the rows of a new shape are, the second says no less than the first.
    table(&sql, "u").await;
    let seen = |follower: &Follower| {
        let messages = follower.response().json();
        let last = messages.as_array().and_then(|messages| messages.last()).expect("a message").clone();
        let lsn = last["headers"]["global_last_seen_lsn"].as_str().expect("is up to date").to_owned();
        lsn.parse::<u64>().expect("decimal")
    };
    let (one, other) = (first.follow("table=u").await, second.follow("table=u").await);
    assert!(seen(&other) >= seen(&one), "{} and {}", seen(&one), seen(&other));
    sql.execute("TRUNCATE t").await;
    eventually("the first starts over", async || {
        shape.step(false).await;
        (shape.rotations() == 1).then_some(())
    })
    .await;
    shape.sync().await;
    eventually("the second tells of the new shape", async || {
        along.step(true).await;
        (along.rotations() == 1).then_some(())
    })
    .await;
    along.sync().await;
    assert_eq!(along.rows(), []);
    assert_eq!(along.handle(), shape.handle());
}

#[tokio::test]
async fn item_219_the_second_takes_over_when_the_first_ends() {
    let mut first = shared(&[]).await;
    let sql = first.sql().await;
    let shape = first.follow("table=t").await;
    let mut second = standby(&first).await;
    let mut along = second.follow("table=t").await;
    let (client, target) = (second.client(), along.target(true));
    let waiting = tokio::spawn(async move { client.get(&target).await });
    second.wait_parked(1).await;
    assert!(first.stop().await.success());
    second.wait_active().await;
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    let answer = waiting.await.expect("is answered");
    assert_eq!(answer.status, 200, "who waits goes on waiting: {}", answer.text());
    assert_eq!(answer.json()[0]["value"], full_row(4, Some("x"), Some(1)));
    assert_eq!(along.changes(1).await[0]["value"]["id"], "4");
    assert_eq!((along.rotations(), along.handle()), (0, shape.handle()));
    assert_eq!(second.follow("table=t&columns=id").await.rows().len(), 4, "it makes shapes now");
}

#[tokio::test]
async fn item_219_a_shape_with_a_subquery_is_read_along_and_goes_on() {
    let mut first = shared(&[]).await;
    let sql = first.sql().await;
    sql.execute("CREATE TABLE chosen (id int PRIMARY KEY); INSERT INTO chosen VALUES (1), (2)").await;
    let query = "table=t&where=id%20IN%20(SELECT%20id%20FROM%20chosen)";
    let mut shape = first.follow(query).await;
    first.wait_durable(&shape).await;
    let mut second = standby(&first).await;
    let mut behind = second.follow(query).await;
    sql.execute("DELETE FROM chosen WHERE id = 1").await;
    let lsn = first.barrier(&sql).await;
    behind.sync_to(lsn).await;
    assert_eq!((behind.rows().len(), behind.rotations()), (1, 0));
    first.kill().await;
    second.wait_active().await;
    shape.move_to(second.client());
    sql.execute("INSERT INTO chosen VALUES (1), (3)").await;
    let lsn = second.barrier(&sql).await;
    shape.sync_to(lsn).await;
    assert_eq!((shape.rows().len(), shape.rotations()), (3, 0));
}

#[tokio::test]
async fn item_219_two_servers_take_turns_under_kill_9() {
    let database = Cluster::shared().await.database().await;
    let (sql, writer) = (database.connect().await, database.connect().await);
    table(&sql, "t").await;
    // Chunks that close often, so that every part of a log is asked for.
    let options = ["--long-poll-timeout-ms", "1000", "--chunk-bytes-max", "2000"];
    let mut active = Limn::start(&database, &options).await;
    let mut shape = active.follow("table=t").await;
    active.wait_durable(&shape).await;
    let mut other = standby(&active).await;
    let writing = tokio::spawn(async move {
        for id in 10..410 {
            let change = format!("INSERT INTO t VALUES ({id}, 'x', 1); UPDATE t SET n = {id} WHERE id = 1");
            writer.execute(&change).await;
            // Spread over the kills.
            sleep(Duration::from_millis(5)).await;
        }
    });
    for turn in 1..=3 {
        let mut along = Follower::new(other.client(), "table=t");
        eventually("both go on", async || {
            shape.step(true).await;
            along.step(true).await;
            (shape.rows().len() >= 80 * turn && along.rows().len() >= 80 * turn).then_some(())
        })
        .await;
        active.kill().await;
        other.wait_active().await;
        shape.move_to(other.client());
        std::mem::swap(&mut active, &mut other);
        other.spawn();
        other.wait_health("waiting").await;
        assert_eq!(along.rotations(), 0, "handles go on");
    }
    writing.await.expect("all is written");
    let lsn = active.barrier(&sql).await;
    shape.sync_to(lsn).await;
    let mut along = Follower::new(other.client(), "table=t");
    along.sync_to(lsn).await;
    let mut expected = sql.rows("SELECT * FROM t").await;
    expected.sort();
    assert_eq!((shape.rows(), shape.rotations()), (expected.clone(), 0));
    assert_eq!(along.rows(), expected, "the one that reads along is not behind");
}
