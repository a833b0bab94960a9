//! Compressed chunks: those that never change again, in the coding that the client prefers.

use super::{open, table};
use limn_tests::{Request, Response, Sql};
use std::io::Read;

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

async fn get(target: &str, headers: &[(&str, &str)]) -> Response {
    open().await.client().send(&Request { method: "GET", target, headers, body: "" }).await
}

fn unpacked(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut back = Vec::new();
    let read = match coding {
        "zstd" => zstd::stream::read::Decoder::new(body).and_then(|mut read| read.read_to_end(&mut back)),
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut back),
        _ => flate2::read::GzDecoder::new(body).read_to_end(&mut back),
    };
    read.expect("it is what the header says");
    back
}

/// A table whose snapshot is worth compressing.
async fn long_table(sql: &Sql, name: &str) -> String {
    table(sql, name).await;
    let rows = "SELECT i, 'a text that comes again', i FROM generate_series(10, 500) i";
    sql.execute(&format!("INSERT INTO {name} {rows}")).await;
    // Its first chunk is closed once the snapshot is written.
    open().await.follow(&format!("table={name}")).await;
    format!("/v1/shape?table={name}&offset=-1")
}

#[tokio::test]
async fn a_closed_chunk_is_compressed_once_and_has_a_tag_of_its_own() {
    let target = long_table(&open().await.sql().await, "compressed_chunk").await;
    let plain = get(&target, &[]).await;
    let mut tags = vec![plain.header("etag").expect("a tag").to_owned()];
    assert_eq!(plain.header("content-encoding"), None);
    for coding in CODINGS {
        let accepted = [("accept-encoding", coding)];
        let response = get(&target, &accepted).await;
        assert_eq!(response.header("content-encoding"), Some(coding));
        assert_eq!(response.header("vary"), Some("accept-encoding"));
        assert_eq!(response.header("limn-chunk"), Some("closed"));
        assert!(response.body.len() * 2 < plain.body.len(), "{coding}: {}", response.body.len());
        assert_eq!(unpacked(coding, &response.body), plain.body, "{coding}");
        assert_eq!(get(&target, &accepted).await.body, response.body, "{coding}");
        let head = Request { method: "HEAD", target: &target, headers: &accepted, body: "" };
        let head = open().await.client().send(&head).await;
        assert_eq!(head.header("content-encoding"), Some(coding));
        assert_eq!(head.header("etag"), response.header("etag"));
        tags.push(response.header("etag").expect("a tag").to_owned());
    }
    for (number, tag) in tags.iter().enumerate() {
        assert!(!tags[..number].contains(tag), "{tags:?}");
        let known = get(&target, &[("if-none-match", tag), ("accept-encoding", "gzip")]).await;
        assert_eq!((known.status, known.header("etag")), (304, Some(tag.as_str())));
        assert_eq!(known.header("content-encoding"), None);
    }
}

#[tokio::test]
async fn the_clients_weights_decide() {
    let target = long_table(&open().await.sql().await, "compressed_weights").await;
    for (accepted, expected) in [
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip;q=0.8, br;q=0.2", Some("gzip")),
        ("zstd;q=0, *", Some("br")),
        ("gzip;q=0.5, identity;q=0", Some("gzip")),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0", None),
        ("identity", None),
        ("deflate", None),
        // There is nothing else to send: the chunk as it is serves better than no chunk.
        ("identity;q=0", None),
    ] {
        let response = get(&target, &[("accept-encoding", accepted)]).await;
        assert_eq!((response.status, response.header("content-encoding")), (200, expected), "{accepted}");
    }
    let lines = [("accept-encoding", "br;q=0.1"), ("accept-encoding", "gzip")];
    assert_eq!(get(&target, &lines).await.header("content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn what_may_change_or_is_short_is_sent_as_it_is() {
    let server = open().await;
    let sql = server.sql().await;
    let accepted = [("accept-encoding", "gzip, br, zstd")];
    table(&sql, "compressed_short").await;
    let short = get("/v1/shape?table=compressed_short&offset=-1", &accepted).await;
    assert_eq!((short.status, short.header("content-encoding")), (200, None));
    long_table(&sql, "compressed_open").await;
    let mut shape = server.follow("table=compressed_open").await;
    let behind_snapshot = shape.target(false);
    sql.execute("UPDATE compressed_open SET n = n + 1").await;
    // All rows but the one whose number is NULL.
    shape.changes(493).await;
    let open_chunk = get(&behind_snapshot, &accepted).await;
    assert!(open_chunk.body.len() > 10_000);
    assert_eq!((open_chunk.status, open_chunk.header("content-encoding")), (200, None));
}
