//! A transaction of any size: it is taken in parts, and never lies in memory as a whole.

use super::table;
use limn_tests::{Cluster, Limn, Response, eventually};

/// Rows of one transaction, and the bytes of a row's text: over 300 MB together.
const ROWS: u64 = 300_000;
const TEXT_BYTES: u64 = 1_056;

/// What the server may have in memory at any time; the second where no row is large.
const MEMORY_KB_MAX: u64 = 150 << 10;
const MEMORY_OF_SHORT_ROWS_KB_MAX: u64 = 100 << 10;

/// Where a reader is, and what it has read of the transaction.
#[derive(Default)]
struct Read {
    offset: String,
    rows: u64,
    lasts: u64,
}

#[tokio::test]
async fn a_transaction_of_300_mb_is_kept_in_bounded_memory() {
    let cluster = Cluster::start(&["max_wal_size=2GB"]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let mut server = Limn::start(&database, &[]).await;
    let shape = server.follow("table=t").await;
    let some = server.follow("table=t&where=n%3D7&columns=id,n").await;
    server.wait_durable(&shape).await;
    server.wait_durable(&some).await;
    let mut second = server.twin();
    second.spawn();
    second.wait_health("waiting").await;
    sql.execute(&format!(
        "BEGIN; INSERT INTO t SELECT n + 10, repeat(md5(n::text), {}), n % 1000 FROM generate_series(1, {ROWS}) n; COMMIT",
        TEXT_BYTES / 32
    ))
    .await;
    let target = shape.target(false);
    eventually("the transaction is there", async || {
        let reply = server.client().get(&target).await;
        (reply.header("electric-offset") != Some(shape.offset())).then_some(())
    })
    .await;
    let all = read_all(&server, "table=t", shape.handle(), shape.offset()).await;
    assert_eq!((all.rows, all.lasts), (ROWS, 1));
    let few = read_all(&server, "table=t&where=n%3D7&columns=id,n", some.handle(), some.offset()).await;
    assert_eq!((few.rows, few.lasts), (ROWS / 1_000, 1));
    assert_memory(&server, "after the transaction");

    // The one that reads along has it as well, and takes over.
    let along = async || read_all(&second, "table=t", shape.handle(), shape.offset()).await;
    eventually("the second has it", async || (along().await.offset == all.offset).then_some(())).await;
    assert_memory(&second, "reading along");
    server.kill().await;
    second.wait_active().await;
    let again = read_all(&second, "table=t", shape.handle(), shape.offset()).await;
    assert_eq!((again.rows, again.offset), (ROWS, all.offset), "nothing is lost or taken twice by a kill");
    assert_memory(&second, "after the recovery");
}

/// Shapes that share one transaction, and the bytes of a row's text: 100 MB together.
const SHAPES: u64 = 1_000;
const SHORT_TEXT_BYTES: u64 = 128;

#[tokio::test]
async fn a_transaction_through_many_shapes_is_kept_in_bounded_memory() {
    let cluster = Cluster::start(&["max_wal_size=2GB"]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let server = Limn::start(&database, &[]).await;
    let mut shapes = Vec::new();
    for n in 0..SHAPES {
        shapes.push(server.follow(&format!("table=t&where=n%3D{n}")).await);
    }
    let last = shapes.last().expect("there are some");
    sql.execute(&format!(
        "INSERT INTO t SELECT n + 10, repeat(md5(n::text), {}), n % {SHAPES} FROM generate_series(1, {ROWS}) n",
        SHORT_TEXT_BYTES / 32
    ))
    .await;
    eventually("the transaction is there", async || {
        let reply = server.client().get(&last.target(false)).await;
        (reply.header("electric-offset") != Some(last.offset())).then_some(())
    })
    .await;
    let peak_kb = server.peak_memory_kb().unwrap_or_default();
    assert!(peak_kb < MEMORY_OF_SHORT_ROWS_KB_MAX, "with the transaction in every shape: {peak_kb} kB");
    for (n, shape) in shapes.iter().enumerate() {
        let all = read_all(&server, &format!("table=t&where=n%3D{n}"), shape.handle(), shape.offset()).await;
        assert_eq!((all.rows, all.lasts), (ROWS / SHAPES, 1), "n = {n}");
    }
}

/// Clients that wait for one row, and the row's bytes: over 300 MB together.
const CLIENTS: u64 = 40;
const LARGE_ROW_BYTES: usize = 8 << 20;

#[tokio::test]
async fn a_row_that_many_wait_for_is_in_memory_once() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let server = Limn::start(&database, &[]).await;
    let shape = server.follow("table=t").await;
    let clients = (0..CLIENTS).map(|_| {
        let (client, target) = (server.client(), shape.target(true));
        tokio::spawn(async move { client.get(&target).await })
    });
    let clients: Vec<_> = clients.collect();
    server.wait_parked(CLIENTS).await;
    let insert = format!("INSERT INTO t VALUES (9, repeat('0123456789abcdef', {}), 1)", LARGE_ROW_BYTES / 16);
    sql.execute(&insert).await;
    for client in clients {
        let response = client.await.expect("is answered");
        assert_eq!((response.status, response.header("electric-has-data")), (200, Some("true")));
        assert_eq!(response.json()[0]["value"]["a"].as_str().map(str::len), Some(LARGE_ROW_BYTES));
    }
    assert_memory(&server, "with every client answered");
}

#[tokio::test]
async fn a_row_that_many_shapes_share_is_in_memory_once() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let mut server = Limn::start(&database, &[]).await;
    let mut shapes = Vec::new();
    for n in 0..CLIENTS {
        shapes.push(server.follow(&format!("table=t&where=n%3E-{n}")).await);
    }
    let clients = shapes.iter().map(|shape| {
        let (client, target) = (server.client(), shape.target(true));
        tokio::spawn(async move { client.get(&target).await })
    });
    let clients: Vec<_> = clients.collect();
    server.wait_parked(CLIENTS).await;
    let assert_rows = |response: &Response| {
        let rows = response.json();
        assert_eq!(rows[0]["value"]["a"].as_str().map(str::len), Some(LARGE_ROW_BYTES));
        assert_eq!((&rows[1]["value"]["a"], &rows[1]["headers"]["last"]), (&"b".into(), &true.into()));
    };
    let a = format!("repeat('0123456789abcdef', {})", LARGE_ROW_BYTES / 16);
    // The second one closes the first one's item before the end of the transaction.
    sql.execute(&format!("INSERT INTO t VALUES (9, {a}, 1), (10, 'b', 1)")).await;
    for client in clients {
        let response = client.await.expect("is answered");
        assert_eq!((response.status, response.header("electric-has-data")), (200, Some("true")));
        assert_rows(&response);
    }
    assert_memory(&server, "with every shape's client answered");

    server.kill().await;
    server.resume().await;
    for shape in &shapes {
        assert_rows(&server.client().get(&shape.target(false)).await);
    }
    assert_memory(&server, "after the recovery");
}

fn assert_memory(server: &Limn, when: &str) {
    if let Some(peak_kb) = server.peak_memory_kb() {
        eprintln!("{when}: at most {peak_kb} kB at one time");
        assert!(peak_kb < MEMORY_KB_MAX, "{when}: {peak_kb} kB");
    }
}

/// Reads a log to its end, one chunk after the other.
async fn read_all(server: &Limn, query: &str, handle: &str, offset: &str) -> Read {
    let mut read = Read { offset: offset.to_owned(), ..Read::default() };
    loop {
        let reply = server.get(&format!("{query}&handle={handle}&offset={}", read.offset)).await;
        assert_eq!((reply.status, reply.header("electric-handle")), (200, Some(handle)));
        read.rows += count(&reply, "\"operation\":\"insert\"");
        read.lasts += count(&reply, "\"last\":true");
        read.offset = reply.header("electric-offset").expect("is sent").to_owned();
        if reply.header("electric-up-to-date").is_some() {
            return read;
        }
    }
}

fn count(reply: &Response, text: &str) -> u64 {
    let body = reply.text();
    body.matches(text).count() as u64
}
