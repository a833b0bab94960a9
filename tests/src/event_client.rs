//! A client of event streams that moves on by the rules of the npm client, so that a stream can be cut anywhere.

use crate::follower::Follower;
use crate::http::{Client, parse_begun};
use crate::postgres::Row;
use crate::rows::Rows;
use serde_json::Value;
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// The silence after which a stream that goes on has sent all that it had.
const SILENCE: Duration = Duration::from_secs(20);

/// Reads a shape that was read to its end before, by event streams alone.
///
/// The rules of `@electric-sql/client` 1.5: the head's `electric-offset` is the new position; messages are kept until
/// an up-to-date message comes, then applied together; that message's LSN is the new position, as `<lsn>_0`.
#[derive(Debug, Clone)]
pub struct EventClient {
    client: Client,
    query: String,
    handle: String,
    offset: String,
    rows: Rows,
    seen_lsn: u64,
}

impl EventClient {
    /// Goes on behind what `follower` has read of the shape that `query` names.
    #[must_use]
    pub fn behind(follower: &Follower, client: Client, query: &str) -> Self {
        Self {
            client,
            query: query.to_owned(),
            handle: follower.handle().to_owned(),
            offset: follower.offset().to_owned(),
            rows: follower.all_rows().clone(),
            seen_lsn: 0,
        }
    }

    /// Opens a stream and cuts the connection once `length` bytes of the answer have come. Returns what came.
    ///
    /// # Errors
    /// Where the server takes no connection, or ends it.
    pub async fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        self.read_until(|answer| answer.len() >= length, Some(length)).await
    }

    /// Reads a stream up to the first up-to-date message. Returns what came.
    ///
    /// # Errors
    /// Where the server takes no connection, or ends it.
    pub async fn read_to_up_to_date(&mut self) -> io::Result<Vec<u8>> {
        let is_complete = |answer: &[u8]| {
            parse_begun(answer).is_ok_and(|begun| messages(&begun.body).iter().any(is_up_to_date))
        };
        self.read_until(is_complete, None).await
    }

    async fn read_until(
        &mut self,
        enough: impl Fn(&[u8]) -> bool,
        length_max: Option<usize>,
    ) -> io::Result<Vec<u8>> {
        let mut stream = self.client.ask(&self.target()).await?;
        let mut answer = Vec::new();
        while !enough(&answer) {
            let read = timeout(SILENCE, stream.read_buf(&mut answer)).await;
            if read.map_err(io::Error::other)?? == 0 {
                break;
            }
        }
        answer.truncate(length_max.unwrap_or(usize::MAX));
        self.receive(&answer);
        Ok(answer)
    }

    /// The LSN that the last up-to-date message has named.
    #[must_use]
    pub const fn seen_lsn(&self) -> u64 {
        self.seen_lsn
    }

    /// The rows, in an order of their own.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.rows.shown().map(|(_, row)| row.clone()).collect();
        rows.sort();
        rows
    }

    /// The request for the next stream.
    #[must_use]
    pub fn target(&self) -> String {
        let Self { query, handle, offset, .. } = self;
        format!("/v1/shape?{query}&handle={handle}&offset={offset}&live=true&live_sse=true&cursor=")
    }

    /// Takes an answer, or the part of it that came.
    fn receive(&mut self, answer: &[u8]) {
        let Ok(begun) = parse_begun(answer) else { return };
        assert_eq!(begun.status, 200, "{}", begun.text());
        assert_eq!(begun.header("electric-handle"), Some(&*self.handle), "the shape has not rotated");
        begun.header("electric-offset").expect("a reply names an offset").clone_into(&mut self.offset);
        let mut kept = Vec::new();
        for message in messages(&begun.body) {
            let ends = is_up_to_date(&message);
            kept.push(message);
            if ends {
                self.apply(&std::mem::take(&mut kept));
            }
        }
    }

    fn apply(&mut self, batch: &[Value]) {
        for message in batch {
            self.rows.apply_again(message).unwrap_or_else(|broken| unreachable!("{broken}"));
        }
        let lsn = batch.last().and_then(|last| last["headers"]["global_last_seen_lsn"].as_str());
        let lsn = lsn.expect("an up-to-date message names an LSN");
        self.offset = format!("{lsn}_0");
        self.seen_lsn = lsn.parse().expect("a decimal number");
    }
}

/// The messages of the events that are whole.
fn messages(body: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(body);
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
    let data = whole.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).expect("an event holds one message")).collect()
}

fn is_up_to_date(message: &Value) -> bool {
    message["headers"]["control"] == "up-to-date"
}
