//! What a server answered, in the form of the record.

use crate::transcript::Call;
use limn_tests::{Client, Request, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// By name; a header that came twice has both values.
    pub headers: BTreeMap<String, String>,
    /// JSON as it is; the events of a stream as an array; else a string.
    pub body: Value,
    /// Of a stream: whether the server ended it.
    pub closed_by_server: Option<bool>,
    /// How long it took.
    pub seconds: f64,
}

/// Longer than any stream stays open.
const STREAM_TIME_MAX: Duration = Duration::from_secs(70);

/// How much longer than recorded an event may take.
const EVENT_DELAY_MAX: Duration = Duration::from_secs(5);

/// Sends a request whose variables are filled in. `recorded` says how far to read a stream: its events,
/// and whether the server ends it after them.
///
/// # Errors
/// Where no answer comes.
pub async fn send(client: &Client, call: &Call, recorded: Option<&Recorded>) -> io::Result<Answer> {
    let headers: Vec<(&str, &str)> =
        call.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let request = Request { method: &call.method, target: &call.path, headers: &headers, body: &call.body };
    let started = Instant::now();
    let (response, closed_by_server) = match recorded {
        Some(stream) => {
            let enough = |body: &[u8]| !stream.closed_by_server && events(body).len() >= stream.events;
            let limit = match stream.closed_by_server {
                true => STREAM_TIME_MAX,
                false => Duration::from_secs_f64(stream.seconds) + EVENT_DELAY_MAX,
            };
            let (response, closed) = client.read_while_open(&request, limit, enough).await?;
            (response, Some(closed))
        }
        None => (client.try_send(&request).await?, None),
    };
    let seconds = started.elapsed().as_secs_f64();
    Ok(Answer::new(&response, closed_by_server, seconds))
}

/// How a recorded stream went.
#[derive(Debug, Clone)]
pub struct Recorded {
    events: usize,
    closed_by_server: bool,
    seconds: f64,
}

impl Recorded {
    /// Nothing, where the recorded answer is no stream.
    pub fn of(response: Option<&Value>, seconds: Option<f64>) -> Option<Self> {
        let response = response?;
        let closed_by_server = response.get("stream_closed_by_server")?.as_bool()?;
        let events = match &response["body"] {
            Value::String(text) => events(text.as_bytes()).len(),
            body => body.as_array().map_or(0, Vec::len),
        };
        Some(Self { events, closed_by_server, seconds: seconds.unwrap_or_default() })
    }
}

impl Answer {
    fn new(response: &Response, closed_by_server: Option<bool>, seconds: f64) -> Self {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &response.headers {
            let all = headers.entry(name.clone()).or_default();
            if !all.is_empty() {
                all.push_str(", ");
            }
            all.push_str(value);
        }
        let is_stream = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let body = if is_stream {
            Value::Array(events(&response.body))
        } else {
            serde_json::from_slice(&response.body).unwrap_or_else(|_| Value::String(response.text()))
        };
        Self { status: response.status, headers, body, closed_by_server, seconds }
    }
}

/// The events of a stream that are whole: the JSON of its data, or its comment.
pub fn events(body: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(body);
    let Some((whole, _)) = text.rsplit_once("\n\n") else { return Vec::new() };
    whole.split("\n\n").map(event).collect()
}

fn event(text: &str) -> Value {
    let data = text.strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok());
    data.unwrap_or_else(|| json!({ "not data": text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_far_as_they_are_whole() {
        let body = b"data: {\"a\":1}\n\n: keep-alive\n\ndata: {\"b\"";
        assert_eq!(events(body), [json!({ "a": 1 }), json!({ "not data": ": keep-alive" })]);
        assert!(events(b"data: 1").is_empty());
    }
}
