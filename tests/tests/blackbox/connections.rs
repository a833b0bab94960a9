//! Connections that carry more than one request, of any kind: what one of them looked like changes nothing for the next.

use super::{open, shared, table};
use bytes::Bytes;
use limn_tests::PATIENCE;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection to the server that most tests share.
struct Connection(TcpStream);

impl Connection {
    async fn open() -> Self {
        let address = ("127.0.0.1", open().await.port());
        Self(TcpStream::connect(address).await.expect("the server listens"))
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("the connection is open");
    }

    /// The next answer's head and body, where its length is told.
    async fn answer(&mut self, has_body: bool) -> (String, String) {
        let read = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.0.read_u8().await.expect("an answer"));
            }
            let head = String::from_utf8(head).expect("a head");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.parse().expect("a number"));
            let mut body = vec![0; if has_body { length } else { 0 }];
            self.0.read_exact(&mut body).await.expect("the whole body");
            (head, String::from_utf8(body).expect("text"))
        };
        timeout(PATIENCE, read).await.expect("an answer in time")
    }

    async fn is_closed(&mut self) -> bool {
        matches!(timeout(PATIENCE, self.0.read(&mut [0])).await, Ok(Ok(0) | Err(_)))
    }
}

fn request(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: a\r\n{headers}\r\n")
}

const ROWS: &str = "/v1/shape?table=t&offset=-1";

#[tokio::test]
async fn requests_of_all_kinds_take_turns_on_one_connection() {
    let mut connection = Connection::open().await;
    let mut bodies = Vec::new();
    for method in ["GET", "GET", "HEAD", "GET", "OPTIONS", "GET"] {
        connection.send(&request(method, ROWS, "")).await;
        let (head, body) = connection.answer(method != "HEAD").await;
        let status = if method == "OPTIONS" { "204" } else { "200" };
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method}: {head}");
        bodies.extend((method == "GET").then_some(body));
    }
    assert!(bodies[0].contains("\"value\""), "{bodies:?}");
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    connection.send(&request("GET", ROWS, "connection: close\r\n")).await;
    let (head, body) = connection.answer(true).await;
    assert!(head.contains("\r\nconnection: close\r\n") && body == bodies[0], "{head}");
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn a_plain_connection_is_closed_where_the_client_wants_it() {
    let mut connection = Connection::open().await;
    connection.send(&request("GET", ROWS, "Connection: Close\r\n")).await;
    let (head, _) = connection.answer(true).await;
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn heads_that_come_together_or_in_pieces_are_answered_in_their_order() {
    let mut connection = Connection::open().await;
    let both = request("GET", ROWS, "") + &request("GET", "/v1/health", "");
    connection.send(&both).await;
    assert!(connection.answer(true).await.1.contains("\"value\""));
    assert!(connection.answer(true).await.1.contains("status"));
    let mut connection = Connection::open().await;
    let whole = request("GET", ROWS, "x-request-id: 0123456789012345678901\r\n");
    let (begun, rest) = whole.split_at(whole.len() - 9);
    connection.send(begun).await;
    // The server must have read the first piece by itself: nothing tells from outside that it has.
    tokio::time::sleep(Duration::from_millis(50)).await;
    connection.send(rest).await;
    let (head, _) = connection.answer(true).await;
    assert!(head.contains("\r\nx-request-id: 0123456789012345678901\r\n"), "{head}");
}

#[tokio::test]
async fn a_request_behind_one_that_waits_is_answered_after_it() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    let shape = server.follow("table=t").await;
    let stream = TcpStream::connect(("127.0.0.1", server.port())).await.expect("the server listens");
    let mut connection = Connection(stream);
    connection.send(&request("GET", &shape.target(true), "")).await;
    server.wait_parked(1).await;
    connection.send(&request("GET", "/v1/health", "")).await;
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    assert!(connection.answer(true).await.1.contains("\"value\""));
    assert!(connection.answer(true).await.1.contains("active"));
}

#[tokio::test]
async fn who_is_answered_together_gets_a_head_of_its_own() {
    let server = shared(&[]).await;
    let (sql, shape) = (server.sql().await, server.follow("table=t").await);
    let target = shape.target(true);
    let id = "x-request-id: 0123456789012345678901\r\n";
    let later = target.replace("&cursor=", "&cursor=9000000000");
    let asked = [
        (&target, String::new()),
        (&target, format!("origin: http://a.example\r\nauthorization: Bearer b\r\n{id}")),
        (&later, String::new()),
        (&target, "connection: close\r\n".to_owned()),
    ];
    let mut waiting = Vec::new();
    for (target, headers) in &asked {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).await.expect("the server listens");
        let mut connection = Connection(stream);
        connection.send(&request("GET", target, headers)).await;
        waiting.push(connection);
    }
    server.wait_parked(4).await;
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    let mut answers = Vec::new();
    for connection in &mut waiting {
        answers.push(connection.answer(true).await);
    }
    assert!(
        answers.iter().all(|(_, body)| body.contains("\"value\"") && *body == answers[0].1),
        "{answers:?}"
    );
    let has = |number: usize, line: &str| answers[number].0.contains(&format!("\r\n{line}"));
    assert!(
        has(0, "vary: accept-encoding\r\n") && has(0, "access-control-allow-origin: *\r\n"),
        "{answers:?}"
    );
    assert!(has(1, "vary: accept-encoding, origin, authorization\r\n") && has(1, id), "{answers:?}");
    assert!(has(1, "access-control-allow-origin: http://a.example\r\n"), "{answers:?}");
    assert!(has(2, "electric-cursor: 9") && !has(0, "electric-cursor: 9"), "{answers:?}");
    assert!(has(3, "connection: close\r\n") && !has(0, "connection: close\r\n"), "{answers:?}");
    assert!(waiting[3].is_closed().await);
    server.wait_parked(0).await;
    for (connection, method) in waiting.iter_mut().zip(["GET", "OPTIONS", "GET"]) {
        connection.send(&request(method, ROWS, "")).await;
        assert!(connection.answer(true).await.0.starts_with("HTTP/1.1 20"), "{method}");
    }
}

#[tokio::test]
async fn a_request_that_was_answered_has_left_its_place() {
    let server = shared(&["--max-concurrent-requests", r#"{"existing":1}"#]).await;
    let (sql, mut shape) = (server.sql().await, server.follow("table=t").await);
    for n in 10..20 {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).await.expect("the server listens");
        let mut waiting = Connection(stream);
        waiting.send(&request("GET", &shape.target(true), "")).await;
        server.wait_parked(1).await;
        sql.execute(&format!("INSERT INTO t VALUES ({n}, 'x', 1)")).await;
        waiting.answer(true).await;
        // Another connection has the place now: a refusal would show here.
        assert_eq!(server.client().get(&shape.target(false)).await.status, 200);
        shape.sync().await;
    }
}

#[tokio::test]
async fn who_leaves_is_not_waited_for() {
    let server = shared(&[]).await;
    let shape = server.follow("table=t").await;
    let mut waiting = Vec::new();
    for live in ["&live=true", "&live=true&live_sse=true"] {
        let target = shape.target(true).replace("&live=true", live);
        waiting.push(server.client().ask(&target).await.expect("a connection"));
    }
    server.wait_parked(1).await;
    drop(waiting);
    server.wait_parked(0).await;
}

#[tokio::test]
async fn http_2_has_the_same_bytes() {
    let server = open().await;
    table(&server.sql().await, "over_http_2").await;
    let target = "/v1/shape?table=over_http_2&offset=-1";
    let over_1 = server.client().get(target).await;
    let stream = TcpStream::connect(("127.0.0.1", server.port())).await.expect("the server listens");
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    for _ in 0..2 {
        let request = hyper::Request::get(format!("http://127.0.0.1{target}"));
        let request = request.body(http_body_util::Empty::<Bytes>::new()).expect("a request");
        let (head, body) = sender.send_request(request).await.expect("an answer").into_parts();
        let body = http_body_util::BodyExt::collect(body).await.expect("a whole body").to_bytes();
        assert_eq!((head.status.as_u16(), &body[..]), (over_1.status, &over_1.body[..]));
        for (name, value) in &over_1.headers {
            let is_of_one = ["connection", "date", "x-request-id"].contains(&name.as_str());
            let over_2 = head.headers.get(name).and_then(|value| value.to_str().ok());
            assert!(is_of_one || over_2 == Some(value), "{name}: {value} and {over_2:?}");
        }
        assert!(head.headers.get("connection").is_none());
    }
}
