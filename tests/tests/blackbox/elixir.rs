//! Item 228: the requests of Electric's Elixir client, in its order, and what it demands of the answers. The client
//! itself is in no registry that the tests could take it from.

use super::{must_refetch, shared};
use limn_tests::{Client, Limn, Response};
use serde_json::Value;

/// The client's state between two requests.
struct ElixirClient {
    http: Client,
    handle: Option<String>,
    offset: String,
    cursor: Option<String>,
    knows_schema: bool,
    is_up_to_date: bool,
    /// Ids in the order of their inserts.
    ids: Vec<String>,
    resets: u32,
}

impl ElixirClient {
    fn new(server: &Limn) -> Self {
        Self {
            http: server.client(),
            handle: None,
            offset: "-1".to_owned(),
            cursor: None,
            knows_schema: false,
            is_up_to_date: false,
            ids: Vec::new(),
            resets: 0,
        }
    }

    /// One poll: live once it is up to date.
    async fn poll(&mut self) {
        let mut target = format!("/v1/shape?offset={}&table=t", self.offset);
        if let Some(handle) = &self.handle {
            target += &format!("&handle={handle}");
        }
        if self.is_up_to_date {
            target += &format!("&live=true&cursor={}", self.cursor.as_deref().unwrap_or_default());
        }
        let response = self.http.get(&target).await;
        match response.status {
            200 | 204 => self.accept(&response),
            409 => self.reset(&response),
            other => unreachable!("{other} for {target}: {}", response.text()),
        }
    }

    /// It asks again from the beginning, under a handle of its own making where it is told none.
    fn reset(&mut self, response: &Response) {
        assert_eq!(response.json(), must_refetch());
        let old = self.handle.take().unwrap_or_default();
        self.handle = Some(response.header("electric-handle").map_or(format!("{old}-next"), str::to_owned));
        self.resets += 1;
        (self.offset, self.cursor, self.is_up_to_date) = ("-1".to_owned(), None, false);
        self.ids.clear();
    }

    fn accept(&mut self, response: &Response) {
        let required = |name: &str| {
            response
                .header(name)
                .map(str::to_owned)
                .unwrap_or_else(|| unreachable!("{name} is missing: {:?}", response.headers))
        };
        if self.is_up_to_date {
            self.cursor = Some(required("electric-cursor"));
        }
        if !self.knows_schema {
            let schema: Value = serde_json::from_str(&required("electric-schema")).expect("JSON");
            assert_eq!(schema["id"]["type"], "int4");
            self.knows_schema = true;
        }
        (self.handle, self.offset) = (Some(required("electric-handle")), required("electric-offset"));
        let messages = response.json();
        self.is_up_to_date &= messages.as_array().is_some_and(Vec::is_empty);
        for message in messages.as_array().expect("a list") {
            let headers = &message["headers"];
            match (headers["operation"].as_str(), headers["control"].as_str()) {
                (Some("insert"), None) => {
                    self.ids.push(message["value"]["id"].as_str().expect("a text").to_owned());
                }
                (Some("update" | "delete"), None) => assert!(message["key"].is_string()),
                (None, Some("up-to-date")) => {
                    assert!(headers["global_last_seen_lsn"].is_string());
                    self.is_up_to_date = true;
                }
                // It crashes at any other.
                (None, Some("snapshot-end")) => {}
                _ => unreachable!("neither a change nor a control message it knows: {message}"),
            }
        }
    }

    async fn catch_up(&mut self) {
        self.poll().await;
        while !self.is_up_to_date {
            self.poll().await;
        }
    }
}

#[tokio::test]
async fn item_228_a_stream_of_the_elixir_client() {
    let server = shared(&["--long-poll-timeout", "2s"]).await;
    let sql = server.sql().await;
    let mut client = ElixirClient::new(&server);
    client.catch_up().await;
    assert_eq!(client.ids, ["1", "2", "3"]);
    sql.execute("INSERT INTO t VALUES (4, 'x', 1)").await;
    client.catch_up().await;
    assert_eq!(client.ids, ["1", "2", "3", "4"]);
    let before = client.offset.clone();
    client.catch_up().await;
    assert_eq!((&client.offset, client.resets), (&before, 0), "a quiet poll changes nothing");

    let first = client.handle.clone();
    sql.execute("TRUNCATE t; INSERT INTO t VALUES (9, 'y', 2)").await;
    while client.ids != ["9"] {
        client.poll().await;
    }
    client.catch_up().await;
    assert_eq!(client.resets, 1);
    assert_ne!(client.handle, first);
    sql.execute("INSERT INTO t VALUES (10, 'z', 3)").await;
    client.catch_up().await;
    assert_eq!(client.ids, ["9", "10"], "it goes on under the new handle");
}

#[tokio::test]
async fn item_228_a_handle_of_its_own_making_is_no_error_at_the_beginning() {
    let server = shared(&[]).await;
    let known = server.get("table=t&offset=-1").await;
    let handle = known.header("electric-handle").expect("is sent");
    let again = server.get(&format!("offset=-1&table=t&handle={handle}-next")).await;
    assert_eq!((again.status, again.header("electric-handle")), (200, Some(handle)));
}
