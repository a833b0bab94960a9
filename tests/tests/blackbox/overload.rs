//! More clients than there is room for, and clients that do not read: the answer is 503, never growth.

use super::{shared, table};
use futures::future::join_all;
use limn_tests::{Cluster, Limn, eventually};
use tokio::net::TcpStream;

/// What a server's memory may grow by under the load of a test: far less than what its clients ask for.
const GROWTH_KIB_MAX: u64 = 96 << 10;

/// Connections that are opened at one time: a kernel's queue for a listener is short.
const AT_ONCE: usize = 100;

fn assert_flat(server: &Limn, before_kib: Option<u64>) {
    if let (Some(before), Some(after)) = (before_kib, server.peak_memory_kb()) {
        assert!(after < before + GROWTH_KIB_MAX, "the peak was {before} KiB and is {after} KiB");
    }
}

#[tokio::test]
async fn parked_clients_beyond_the_limit_are_refused_and_cost_nothing() {
    const PLACES: usize = 500;
    const BEYOND: usize = 2_000;
    let limits = format!(r#"{{"initial":50,"existing":{PLACES}}}"#);
    let server = shared(&["--max-concurrent-requests", &limits]).await;
    let shape = server.follow("table=t").await;
    let (client, target) = (server.client(), shape.target(true));
    let mut parked = Vec::new();
    for _ in 0..PLACES / AT_ONCE {
        for _ in 0..AT_ONCE {
            let (client, target) = (client.clone(), target.clone());
            parked.push(tokio::spawn(async move { client.get(&target).await }));
        }
        server.wait_parked(parked.len() as u64).await;
    }
    let before = server.peak_memory_kb();
    for _ in 0..BEYOND / AT_ONCE {
        for response in join_all((0..AT_ONCE).map(|_| client.get(&target))).await {
            assert_eq!(response.status, 503, "{}", response.text());
            assert_eq!(response.json()["code"], "concurrent_request_limit_exceeded");
            assert!(response.header("retry-after").is_some());
        }
    }
    assert_flat(&server, before);
    let refused = server.metric(r#"limn_requests_refused_total{kind="existing"}"#).await;
    assert_eq!(refused, BEYOND as u64);
    assert_eq!(server.get("table=t&columns=id&offset=-1").await.status, 200, "new clients are served");
    assert_eq!(client.get("/v1/health").await.status, 200);
    server.sql().await.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    for response in join_all(parked).await {
        assert_eq!(response.expect("is answered").status, 200, "whoever waited gets the change");
    }
}

/// A shape with 40 MB in its log.
async fn heavy(cluster: &Cluster) -> (Limn, limn_tests::Sql) {
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    sql.execute("INSERT INTO t SELECT n, repeat(md5(n::text), 625), n FROM generate_series(10, 2010) n")
        .await;
    let server = Limn::start(&database, &["--chunk-bytes-max", "100000000"]).await;
    (server, sql)
}

async fn read_nothing(server: &Limn, target: &str, clients: usize) -> Vec<TcpStream> {
    let client = server.client();
    let opened = join_all((0..clients).map(|_| client.ask(target))).await;
    opened.into_iter().map(|stream| stream.expect("a connection")).collect()
}

#[tokio::test]
async fn clients_that_do_not_read_hold_nothing_up() {
    const CLIENTS: usize = 100;
    let cluster = Cluster::start(&[]).await;
    let (server, sql) = heavy(&cluster).await;
    let snapshot = "table=t&offset=-1";
    assert!(server.get(snapshot).await.body.len() > 40_000_000);
    let before = server.peak_memory_kb();
    let unread = read_nothing(&server, &format!("/v1/shape?{snapshot}"), CLIENTS).await;
    sql.execute("UPDATE t SET n = n + 1 WHERE id >= 10").await;
    let end = sql.lsn().await;
    eventually("the slot moves on", async || {
        (server.metric("limn_confirmed_lsn").await >= end).then_some(())
    })
    .await;
    assert!(server.get(snapshot).await.body.len() > 40_000_000, "others are served");
    let mut follower = server.follow("table=t&where=id%3C4").await;
    sql.execute("INSERT INTO t VALUES (0, 'x', 1)").await;
    assert_eq!(follower.changes(1).await.len(), 1, "live requests too");
    assert_flat(&server, before);
    drop(unread);
}
