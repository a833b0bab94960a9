//! SIGTERM: readiness goes first, whoever waits is answered, nothing is cut, and then the process ends.

use super::{HeldSnapshot, shared, table};
use futures::future::join_all;
use limn_tests::{
    Client, Cluster, Events, Follower, Limn, Opened, Request, Response, Signal, Sql, Step, eventually,
};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// New connections are answered for longer than a test looks at that.
const LONG_GRACE: [&str; 2] = ["--shutdown-grace", "30s"];
/// A server that has nothing to wait for ends within this time; a busy machine included.
const PROMPT: Duration = Duration::from_secs(10);

/// A live request that waits; its answer comes through the handle.
fn park(client: &Client, target: &str) -> tokio::task::JoinHandle<std::io::Result<Response>> {
    let (client, target) = (client.clone(), target.to_owned());
    tokio::spawn(async move {
        let request = Request { method: "GET", target: &target, ..Request::default() };
        client.try_send(&request).await
    })
}

/// Event streams behind the position of `live`, whose heads have come.
async fn open_streams(client: &Client, live: &str, count: usize) -> Vec<Events> {
    let target = format!("{live}&live_sse=true");
    let open = async || match Events::open(client, &target).await {
        Ok(Opened::Events(events)) => events,
        other => unreachable!("no stream: {other:?}"),
    };
    join_all((0..count).map(|_| open())).await
}

async fn assert_ended_in_order(streams: Vec<Events>) {
    for mut stream in streams {
        assert_eq!(stream.next().await.expect("is not cut off"), None, "it ends between two events");
    }
}

async fn wait_stopping(client: &Client) {
    eventually("health says stopping", async || {
        let health = client.get("/v1/health").await;
        (health.json() == json!({ "status": "stopping" })).then(|| assert_eq!(health.status, 503))
    })
    .await;
}

fn assert_stopping(response: &Response) {
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{}", response.text());
    assert_eq!(response.json()["code"], "stopping");
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn readiness_goes_first_and_every_request_is_answered() {
    let mut server = shared(&LONG_GRACE).await;
    let (client, sql) = (server.client(), server.sql().await);
    let mut shape = server.follow("table=t").await;
    let behind = shape.target(true);
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    let live = shape.target(true);
    let mut keep_alive =
        TcpStream::connect(client.url().trim_start_matches("http://")).await.expect("it listens");
    let parked: Vec<_> = (0..5).map(|_| park(&client, &live)).collect();
    let streams = open_streams(&client, &live, 5).await;
    server.wait_parked(5).await;
    server.signal(Signal::SIGTERM);
    wait_stopping(&client).await;
    for parked in join_all(parked).await {
        let response = parked.expect("is awaited").expect("a whole answer");
        assert_eq!((response.status, response.header("electric-up-to-date")), (200, Some("")));
    }
    assert_ended_in_order(streams).await;
    assert_stopping(&client.get(&live).await);
    assert_stopping(&client.get(&format!("{live}&live_sse=true")).await);
    for stored in
        [&behind, &shape.target(false), &format!("{behind}&live_sse=true"), "/v1/shape?table=t&offset=-1"]
    {
        assert_eq!(client.get(stored).await.status, 200, "{stored}");
    }
    // Whoever has a connection is sent elsewhere with the next request.
    let health = b"GET /v1/health HTTP/1.1\r\nhost: limn\r\n\r\n";
    keep_alive.write_all(health).await.expect("the connection is open");
    let mut answer = Vec::new();
    keep_alive.read_to_end(&mut answer).await.expect("an answer, then the end");
    assert!(String::from_utf8_lossy(&answer).contains("connection: close"), "{answer:?}");
    server.signal(Signal::SIGTERM);
    server.wait().await;
}

#[tokio::test]
async fn a_server_that_nobody_asks_ends_promptly() {
    let mut server = shared(&[]).await;
    server.follow("table=t").await;
    let started = Instant::now();
    assert!(server.stop().await.success());
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

#[tokio::test]
async fn requests_that_wait_for_a_snapshot_are_answered() {
    let mut held = HeldSnapshot::begin(&LONG_GRACE).await;
    let client = held.server.client();
    let waiting = park(&client, "/v1/shape?table=t&offset=-1");
    held.server.wait_parked(0).await;
    held.server.signal(Signal::SIGTERM);
    assert_stopping(&waiting.await.expect("is awaited").expect("a whole answer"));
    held.holder.execute("ROLLBACK").await;
    held.reading.abort();
    held.server.signal(Signal::SIGTERM);
    held.server.wait().await;
}

/// A server whose shape takes long to read, and a client that has read its head only.
async fn with_a_slow_reader(cluster: &Cluster) -> (Limn, Sql, TcpStream) {
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    sql.execute("INSERT INTO t SELECT n, repeat(md5(n::text), 625), n FROM generate_series(10, 2010) n")
        .await;
    let server = Limn::start(&database, &["--chunk-bytes-max", "100000000"]).await;
    let shape = server.follow("table=t").await;
    server.wait_durable(&shape).await;
    let mut reader = server.client().ask("/v1/shape?table=t&offset=-1").await.expect("it listens");
    let mut head = [0; 400];
    reader.read_exact(&mut head).await.expect("an answer begins");
    (server, sql, reader)
}

#[tokio::test]
async fn a_body_that_is_under_way_is_not_cut() {
    let cluster = Cluster::start(&[]).await;
    let (mut server, _, mut reader) = with_a_slow_reader(&cluster).await;
    server.signal(Signal::SIGTERM);
    eventually("it listens no more", async || {
        TcpStream::connect(server.client().url().trim_start_matches("http://")).await.err()
    })
    .await;
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.expect("the rest");
    assert!(rest.len() > 40_000_000 && rest.ends_with(b"]"), "{} bytes", rest.len());
    let (status, output) = server.wait().await;
    assert!(status.success() && !output.contains("cut off"), "{output}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let cluster = Cluster::start(&[]).await;
    let (mut server, sql, _reader) = with_a_slow_reader(&cluster).await;
    let mut shape = server.follow("table=t").await;
    server.signal(Signal::SIGTERM);
    let client = server.client();
    eventually("it listens no more", async || {
        TcpStream::connect(client.url().trim_start_matches("http://")).await.err()
    })
    .await;
    let started = Instant::now();
    server.signal(Signal::SIGINT);
    let (status, output) = server.wait().await;
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
    assert_eq!(status.code(), Some(1));
    assert!(output.contains("limn: interrupted twice"), "{output}");
    server.resume().await;
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    assert_eq!(shape.rotations(), 0, "the handle has survived");
}

/// One server takes the place of another under 1,000 clients that wait.
#[tokio::test]
async fn a_rolling_restart_leaves_no_request_without_an_answer() {
    const CLIENTS: usize = 1_000;
    const AT_ONCE: usize = 100;
    const STREAMS: usize = 50;
    let mut old = shared(&[]).await;
    let sql = old.sql().await;
    let mut reference = old.follow("table=t").await;
    old.wait_durable(&reference).await;
    let mut new = old.twin();
    new.spawn();
    new.wait_health("waiting").await;
    let target = reference.target(true);
    let mut parked = Vec::new();
    for _ in 0..CLIENTS / AT_ONCE {
        parked.extend((0..AT_ONCE).map(|_| park(&old.client(), &target)));
        old.wait_parked(parked.len() as u64).await;
    }
    let streams = open_streams(&old.client(), &target, STREAMS).await;
    let newcomers = tokio::spawn(ask_until_refused(old.client(), target.clone()));
    old.signal(Signal::SIGTERM);
    for response in join_all(parked).await {
        let response = response.expect("is awaited").expect("a whole answer");
        assert!(
            response.status == 200 || response.header("retry-after") == Some("1"),
            "{}: {}",
            response.status,
            response.text()
        );
    }
    assert!(newcomers.await.expect("every answer was whole") > 0);
    assert_ended_in_order(streams).await;
    assert!(old.wait().await.0.success());
    sql.execute("INSERT INTO t VALUES (4, 'x', 1), (5, 'y', 2)").await;
    reference.move_to(new.client());
    let again: Vec<_> = (0..CLIENTS / 10).map(|_| park(&new.client(), &target)).collect();
    for response in join_all(again).await {
        let response = response.expect("is awaited").expect("a whole answer");
        assert!([200, 503].contains(&response.status), "{}", response.text());
    }
    eventually("the new server has the rows", async || {
        assert_ne!(reference.step(false).await, Step::Rotated);
        (reference.rows().len() == 5).then_some(())
    })
    .await;
    new.wait_active().await;
    assert_eq!(reference.rotations(), 0);
}

/// Makes one request after the other, each by a connection of its own, until the server takes none. Returns how
/// many were answered; a connection that was made must bring a whole answer.
async fn ask_until_refused(client: Client, target: String) -> usize {
    let mut answered = 0;
    while let Ok(mut stream) = client.ask(&target).await {
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        read.unwrap_or_else(|error| unreachable!("request {answered} has no answer: {error}"));
        let begun = limn_tests::parse_begun(&answer).expect("a whole head");
        assert!([200, 503].contains(&begun.status), "{}", begun.text());
        answered += 1;
    }
    answered
}

/// Whoever reads by a client that follows the protocol notices nothing.
#[tokio::test]
async fn a_restart_is_no_rotation() {
    let mut server = shared(&[]).await;
    let mut shape: Follower = server.follow("table=t").await;
    server.wait_durable(&shape).await;
    assert!(server.stop().await.success());
    server.resume().await;
    server.sql().await.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    shape.changes(1).await;
    assert_eq!(shape.rotations(), 0);
}
