//! `--otlp-endpoint`: spans reach a collector, and carry no secret and no row.

use super::table;
use limn_tests::{Cluster, Limn, command, eventually};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SECRET: &str = "hidden-secret-41ab";
const ROW: &str = "hidden-row-c07e";

/// Takes what is posted to it, and says that it is fine.
struct Collector {
    port: u16,
    bodies: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let taken = bodies.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let request = take(stream).await;
                assert!(request.starts_with(b"POST /v1/traces HTTP/1.1\r\n"), "another request");
                taken.lock().expect("nobody panics").extend(request);
            }
        });
        Self { port, bodies }
    }

    /// Waits until something of that name has come.
    async fn wait_for(&self, name: &str) {
        eventually(&format!("a span has `{name}`"), async || self.has(name).then_some(())).await;
    }

    fn has(&self, text: &str) -> bool {
        let bodies = self.bodies.lock().expect("nobody panics");
        bodies.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// Reads one request, and answers it.
async fn take(mut stream: TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        let length = text.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next());
        if let (Some(length), Some((head, _))) = (length, text.split_once("\r\n\r\n"))
            && request.len() >= head.len() + 4 + length.parse::<usize>().expect("a number")
        {
            break;
        }
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            break;
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    request
}

#[tokio::test]
async fn what_takes_time_is_told_to_a_collector() {
    let collector = Collector::start().await;
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    sql.execute(&format!("UPDATE t SET a = '{ROW}'")).await;
    let endpoint = format!("http://127.0.0.1:{}", collector.port);
    let server = Limn::start(&database, &["--otlp-endpoint", &endpoint, "--secret", SECRET]).await;
    let query = format!("table=t&where=a%3D'{ROW}'&offset=-1&secret={SECRET}");
    let read = server.get(&query).await;
    assert_eq!(read.status, 200, "{}", read.text());
    let subquery =
        format!("table=t&where=id%20IN%20(SELECT%20id%20FROM%20t%20WHERE%20n>15)&offset=-1&secret={SECRET}")
            .replace('>', "%3E");
    assert_eq!(server.get(&subquery).await.status, 200);
    sql.execute("UPDATE t SET n = n + 10").await;
    for name in ["http.request", "snapshot", "replication.connect", "commit_log.sync", "move_round"] {
        collector.wait_for(name).await;
    }
    let handle = read.header("electric-handle").expect("a handle");
    for field in ["limn", "route", "status", "offset", handle] {
        collector.wait_for(field).await;
    }
    assert!(!collector.has(SECRET) && !collector.has(ROW));
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let database = Cluster::shared().await.database().await;
    table(&database.connect().await, "t").await;
    let mut server = Limn::start(&database, &["--otlp-endpoint", "http://127.0.0.1:1"]).await;
    assert_eq!(server.follow("table=t").await.rows().len(), 3);
    assert!(server.stop().await.success());
}

#[test]
fn an_endpoint_that_is_none_is_told() {
    let mut command = command();
    command.args([
        "serve",
        "--insecure",
        "--database-url",
        "postgres://u@h/d",
        "--otlp-endpoint",
        "collector:4318",
    ]);
    let output = command.output().expect("limn can be started");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("http://host:4318"), "{text}");
}
