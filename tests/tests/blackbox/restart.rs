//! Items 220–222: what was told survives the process, or is taken back where Postgres kept nothing to go on from.

use super::{HeldSnapshot, shared, table};
use limn_tests::{Cluster, Limn, PATIENCE, Proxy, Request, Shim, eventually};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test]
async fn item_220_a_restart_goes_on_with_the_same_handles_and_offsets() {
    let mut server = shared(&[]).await;
    let sql = server.sql().await;
    let mut shape = server.follow("table=t").await;
    let mut some = server.follow("table=t&where=n%3D10&columns=id,n&replica=full").await;
    sql.execute("INSERT INTO t VALUES (4, 'x', 10); UPDATE t SET n = 11 WHERE id = 1").await;
    shape.changes(2).await;
    some.changes(2).await;
    let log = format!("table=t&handle={}&offset=0_inf", shape.handle());
    let before = (server.get("table=t&offset=-1").await.body, server.get(&log).await.json());
    assert!(server.stop().await.success());
    sql.execute("INSERT INTO t VALUES (5, 'while away', 10)").await;
    server.resume().await;
    assert_eq!(server.get("table=t&offset=-1").await.body, before.0, "the snapshot is the same");
    assert_eq!(shape.changes(1).await[0]["value"]["id"], "5");
    assert_eq!(some.changes(1).await[0]["value"]["id"], "5");
    let after = server.get(&log).await.json();
    assert_eq!((&after[0], &after[1]), (&before.1[0], &before.1[1]), "the log is the same");
    assert_eq!((shape.rotations(), some.rotations()), (0, 0));
}

#[tokio::test]
async fn item_220_a_restart_without_anything_new_is_up_to_date() {
    let mut server = shared(&[]).await;
    let mut shape = server.follow("table=t").await;
    assert!(server.stop().await.success());
    server.resume().await;
    shape.sync().await;
    assert_eq!((shape.rotations(), shape.offset()), (0, "0_inf"));
}

#[tokio::test]
async fn item_221_kill_9_loses_nothing_and_repeats_nothing() {
    let mut server = shared(&["--long-poll-timeout-ms", "1000"]).await;
    let (sql, writer) = (server.sql().await, server.sql().await);
    let mut shape = server.follow("table=t").await;
    server.wait_durable(&shape).await;
    let writing = tokio::spawn(async move {
        for id in 10..410 {
            let change = format!("INSERT INTO t VALUES ({id}, 'x', 1); UPDATE t SET n = {id} WHERE id = 1");
            writer.execute(&change).await;
            // Spread over the kills.
            sleep(Duration::from_millis(5)).await;
        }
    });
    for kill in 1..=3 {
        eventually("the stream goes on", async || {
            shape.step(true).await;
            (shape.rows().len() >= 80 * kill).then_some(())
        })
        .await;
        server.kill().await;
        server.resume().await;
    }
    writing.await.expect("all is written");
    let lsn = server.barrier(&sql).await;
    shape.sync_to(lsn).await;
    let mut expected = sql.rows("SELECT * FROM t").await;
    expected.sort();
    assert_eq!((shape.rows(), shape.rotations()), (expected, 0));
}

#[tokio::test]
async fn item_221_kill_9_while_a_snapshot_waits_for_its_table_costs_no_row() {
    let HeldSnapshot { mut server, sql, holder, mut published, reading, _cluster } =
        HeldSnapshot::begin(&[]).await;
    server.kill().await;
    holder.execute("INSERT INTO t VALUES (4, 'x', 1); COMMIT").await;
    server.resume().await;
    let mut shape = reading.await.expect("is read in the end");
    let lsn = server.barrier(&sql).await;
    shape.sync_to(lsn).await;
    published.sync_to(lsn).await;
    let mut expected = sql.rows("SELECT * FROM t").await;
    expected.sort();
    assert_eq!(shape.rows(), expected);
    assert_eq!((published.rows().len(), published.rotations()), (4, 0), "a shape that was complete goes on");
}

#[tokio::test]
async fn item_221_kill_9_while_rows_are_sent_takes_their_handle_back() {
    let cluster = Cluster::shared().await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    let rows = "SELECT i, repeat('x', 1000) FROM generate_series(1, 50000) i";
    sql.execute(&format!("CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t {rows}")).await;
    let wire = Proxy::start(cluster.port()).await;
    let mut server = Limn::start(&database.through(wire.port()), &[]).await;
    let first = Request { method: "GET", target: "/v1/shape?table=t&offset=-1", ..Request::default() };
    // From the first rows on nothing more comes from Postgres: the snapshot stays unfinished.
    let begun = |body: &[u8]| {
        wire.hold(!body.is_empty());
        !body.is_empty()
    };
    let (reply, has_ended) =
        server.client().read_while_open(&first, PATIENCE, begun).await.expect("it begins");
    assert!(!has_ended, "{} bytes", reply.body.len());
    let told = |name| reply.header(name).expect("the head comes first").to_owned();
    let (handle, offset) = (told("electric-handle"), told("electric-offset"));
    server.kill().await;
    wire.hold(false);
    server.resume().await;
    let answer = server.get(&format!("table=t&handle={handle}&offset={offset}")).await;
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert_ne!(answer.header("electric-handle"), Some(handle.as_str()));
    assert_eq!(server.follow("table=t").await.rows().len(), 50_000);
}

#[tokio::test]
async fn item_220_a_folder_that_another_one_followed_on_its_slot_starts_over() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let mut first = Limn::start(&database, &[]).await;
    let mut shape = first.follow("table=t").await;
    assert!(first.stop().await.success());
    first.resume().await;
    shape.sync().await;
    first.kill().await;
    first.resume().await;
    shape.sync().await;
    assert_eq!(shape.rotations(), 0, "the same folder goes on");
    assert!(first.stop().await.success());

    // It confirms to Postgres what the first has never read.
    let mut second = Limn::start(&database, &[]).await;
    let mut other = second.follow("table=t").await;
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    other.changes(1).await;
    assert!(second.stop().await.success());

    first.resume().await;
    let query = format!("table=t&handle={}&offset=0_inf", shape.handle());
    assert_eq!(first.get(&query).await.status, 409);
    shape.sync().await;
    assert_eq!((shape.rows().len(), shape.rotations()), (4, 1));
    sql.execute("INSERT INTO t VALUES (5, 'y', 1)").await;
    assert_eq!(shape.changes(1).await[0]["value"]["id"], "5");
}

#[tokio::test]
async fn item_220_no_handle_is_given_twice_though_the_clock_goes_back() {
    let Some(shim) = Shim::new() else {
        return eprintln!("skipped: a clock that jumps needs Linux and a C compiler");
    };
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    table(&sql, "u").await;
    let mut server = Limn::stopped(&database, &[]);
    server.set_variables(shim.variables(server.storage()));
    shim.set_clock(36_000);
    server.resume().await;
    let ahead = server.follow("table=u").await;
    server.wait_durable(&ahead).await;
    shim.set_clock(0);
    let mut shape = server.follow("table=t").await;
    let mut given = Vec::new();
    for count in 1..=3 {
        shape.sync().await;
        given.push(shape.handle().to_owned());
        sql.execute("TRUNCATE t; INSERT INTO t VALUES (4, 'other rows', 1)").await;
        let rotations = r#"limn_rotations_total{cause="truncate"}"#;
        let is_gone = async || (server.metric(rotations).await == count).then_some(());
        eventually("the shape is gone", is_gone).await;
    }
    assert!(server.stop().await.success());
    server.resume().await;
    shape.sync().await;
    assert_eq!((shape.rows().len(), shape.rotations()), (1, 3));
    assert!(!given.contains(&shape.handle().to_owned()), "caches know it as something else: {given:?}");
}

#[tokio::test]
async fn item_220_each_start_passes_over_handles_of_its_own() {
    let Some(shim) = Shim::new() else {
        return eprintln!("skipped: a clock that jumps needs Linux and a C compiler");
    };
    let mut server = shared(&[]).await;
    let made_at = |handle: &str| {
        handle.split_once('-').and_then(|(_, us)| us.parse::<u64>().ok()).expect("hash and microseconds")
    };
    assert!(server.stop().await.success());
    server.set_variables(shim.variables(server.storage()));
    shim.set_clock(36_000);
    server.resume().await;
    let first = server.follow("table=t").await;
    server.wait_durable(&first).await;
    shim.set_clock(0);
    // What this one gave until it was killed may not have become durable.
    server.kill().await;
    server.resume().await;
    server.kill().await;
    server.resume().await;
    let second = server.follow("table=t&columns=id").await;
    let ahead_us = made_at(second.handle()) - made_at(first.handle());
    assert!(ahead_us > 2_000_000, "a second for each start, not {ahead_us} us");
}

#[tokio::test]
async fn item_222_without_its_slot_every_shape_starts_over() {
    let mut server = shared(&[]).await;
    let sql = server.sql().await;
    let mut shape = server.follow("table=t").await;
    let target = shape.target(false);
    assert!(server.stop().await.success());
    sql.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database();
         INSERT INTO t VALUES (4, 'while nobody kept it', 1)",
    )
    .await;
    server.resume().await;
    assert_eq!(server.client().get(&target).await.status, 409);
    shape.sync().await;
    assert_eq!((shape.rows().len(), shape.rotations()), (4, 1));
    sql.execute("INSERT INTO t VALUES (5, 'y', 1)").await;
    assert_eq!(shape.changes(1).await[0]["value"]["id"], "5");
}
