//! The machine against scripted replies, and against a model server under a virtual clock.

use super::*;
use crate::client::{ChangeSet, Rows};
use std::collections::BTreeMap;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const INSERT: &str = r#"{"key":"k1","value":{"id":"1"},"headers":{"operation":"insert"}}"#;
const UP_TO_DATE: &str = r#"{"headers":{"control":"up-to-date","global_last_seen_lsn":"1"}}"#;
const OUT_OF_BOUNDS: &str =
    r#"{"message":"Invalid request","errors":{"offset":["out of bounds for this shape"]}}"#;

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> Reply {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Reply { status, headers, body: body.to_owned() }
}

fn log(handle: &str, offset: &str, body: &str) -> Reply {
    let headers = [("electric-handle", handle), ("electric-offset", offset), ("electric-schema", "{}")];
    reply(200, &headers, body)
}

fn live(handle: &str, offset: &str, cursor: &str, body: &str) -> Reply {
    reply(200, &[("electric-handle", handle), ("electric-offset", offset), ("electric-cursor", cursor)], body)
}

fn give(stream: &mut ShapeStream, now_ms: u64, reply: &Reply) -> Result<Vec<Event>, StreamError> {
    let header = |name: &str| reply.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
    let response = Response { status: reply.status, header: &header, body: reply.body.as_bytes() };
    stream.handle_response(&response, Moment { now_ms, random: 0xfeed })
}

fn query(stream: &mut ShapeStream, now_ms: u64) -> String {
    match stream.poll_request(now_ms) {
        Poll::Request(request) => request.query_string(),
        other => panic!("expected a request, got {other:?}"),
    }
}

/// Sends whatever is due and answers it.
fn step(stream: &mut ShapeStream, now_ms: u64, answer: &Reply) -> Result<Vec<Event>, StreamError> {
    query(stream, now_ms);
    give(stream, now_ms, answer)
}

fn started() -> ShapeStream {
    ShapeStream::new(StreamOptions::new("t"))
}

/// A stream that has reached the live phase of shape `h1` at `0_inf`.
fn following() -> ShapeStream {
    let mut stream = started();
    step(&mut stream, 0, &log("h1", "0_0", &format!("[{INSERT}]"))).unwrap();
    step(&mut stream, 0, &log("h1", "0_inf", &format!("[{UP_TO_DATE}]"))).unwrap();
    stream
}

#[test]
fn the_usual_sequence_of_requests() {
    let mut stream = started();
    assert_eq!(query(&mut stream, 0), "log=full&offset=-1&table=t");
    assert_eq!(stream.poll_request(0), Poll::Idle);
    let events = give(&mut stream, 0, &log("h1", "0_0", &format!("[{INSERT}]"))).unwrap();
    assert!(matches!(&events[..], [Event::Messages(messages)] if messages.len() == 1));
    assert_eq!(query(&mut stream, 0), "handle=h1&log=full&offset=0_0&table=t");
    let events = give(&mut stream, 0, &log("h1", "0_inf", &format!("[{UP_TO_DATE}]"))).unwrap();
    assert_eq!(events, [Event::Messages(vec![Message::UpToDate]), Event::UpToDate]);
    assert!(stream.is_up_to_date() && stream.status() == Status::Live);
    assert_eq!(query(&mut stream, 0), "cursor=&handle=h1&live=true&log=full&offset=0_inf&table=t");
    give(&mut stream, 0, &live("h1", "5_0", "c1", &format!("[{INSERT},{UP_TO_DATE}]"))).unwrap();
    assert_eq!(query(&mut stream, 0), "cursor=c1&handle=h1&live=true&log=full&offset=5_0&table=t");
    assert_eq!((stream.handle(), stream.schema()), (Some("h1"), Some("{}")));
}

#[test]
fn an_unfinished_live_reply_goes_on_with_cacheable_requests() {
    let mut stream = following();
    step(&mut stream, 0, &live("h1", "5_0", "c1", &format!("[{INSERT}]"))).unwrap();
    assert!(!stream.is_up_to_date());
    assert_eq!(query(&mut stream, 0), "handle=h1&log=full&offset=5_0&table=t");
}

#[test]
fn a_stream_may_end_at_its_first_up_to_date() {
    let mut options = StreamOptions::new("t");
    options.stop_when_up_to_date = true;
    let mut stream = ShapeStream::new(options);
    step(&mut stream, 0, &log("h1", "0_inf", &format!("[{UP_TO_DATE}]"))).unwrap();
    assert_eq!((stream.poll_request(0), stream.status()), (Poll::Done, Status::Done));
}

#[test]
fn streams_start_where_they_are_told() {
    let after = Start::After { handle: "h9".to_owned(), offset: Offset::new(7, 2) };
    let mut options = StreamOptions::new("t");
    options.start = after;
    let mut stream = ShapeStream::new(options.clone());
    assert_eq!(query(&mut stream, 0), "handle=h9&log=full&offset=7_2&table=t");
    options.start = Start::Now;
    let mut stream = ShapeStream::new(options);
    assert_eq!(query(&mut stream, 0), "log=full&offset=now&table=t");
    give(&mut stream, 0, &log("h1", "7_0", &format!("[{UP_TO_DATE}]"))).unwrap();
    assert_eq!(query(&mut stream, 0), "cursor=&handle=h1&live=true&log=full&offset=7_0&table=t");
}

#[test]
fn nothing_new_keeps_the_position() {
    for status in [204, 304] {
        let mut stream = following();
        let unchanged = reply(status, &[("electric-offset", "0_inf"), ("electric-cursor", "c7")], "");
        assert_eq!(step(&mut stream, 0, &unchanged), Ok(vec![Event::UpToDate]));
        assert!(query(&mut stream, 0).starts_with("cursor=c7&handle=h1&live=true"));
    }
    let mut stream = following();
    // A 304 for a reply that we never had: adopting its offset would skip messages.
    step(&mut stream, 0, &reply(304, &[("electric-offset", "9_0")], "")).unwrap();
    assert_eq!(stream.offset(), Some(Offset::SNAPSHOT_END));
    assert!(query(&mut stream, 60_000).contains("cache-buster="));
}

#[test]
fn a_rotation_starts_over_under_the_new_handle() {
    let mut stream = following();
    let gone = reply(409, &[("electric-handle", "h2")], r#"[{"headers":{"control":"must-refetch"}}]"#);
    assert_eq!(step(&mut stream, 0, &gone), Ok(vec![Event::MustRefetch]));
    assert_eq!((stream.schema(), stream.is_up_to_date()), (None, false));
    assert_eq!(query(&mut stream, 0), "expired_handle=h1&handle=h2&log=full&offset=-1&table=t");
}

#[test]
fn a_rotation_without_successor_passes_the_caches() {
    for headers in [&[][..], &[("electric-handle", "h1")]] {
        let mut stream = following();
        step(&mut stream, 0, &reply(409, headers, "")).unwrap();
        assert_eq!(
            query(&mut stream, 0),
            "cache-buster=000000000000feed&expired_handle=h1&log=full&offset=-1&table=t"
        );
    }
}

#[test]
fn rotations_in_a_row_slow_down() {
    let mut stream = following();
    step(&mut stream, 0, &reply(409, &[], "")).unwrap();
    step(&mut stream, 0, &reply(409, &[], "")).unwrap();
    assert!(matches!(stream.poll_request(0), Poll::WaitUntil(_)));
}

#[test]
fn a_reply_with_the_expired_handle_is_a_caches() {
    let mut stream = following();
    step(&mut stream, 0, &reply(409, &[("electric-handle", "h2")], "")).unwrap();
    let stale = log("h1", "0_0", &format!("[{INSERT}]"));
    for _ in 0..STALE_REPLIES_MAX {
        assert_eq!(step(&mut stream, 0, &stale), Ok(vec![]));
        assert_eq!(stream.offset(), Some(Offset::Start));
    }
    // The mark itself may be wrong: it is dropped once, and the reply taken at its word.
    assert_eq!(step(&mut stream, 0, &stale), Ok(vec![Event::MustRefetch]));
    assert_eq!(query(&mut stream, 60_000), "cache-buster=000000000000feed&log=full&offset=-1&table=t");
    give(&mut stream, 60_000, &stale).unwrap();
    step(&mut stream, 60_000, &reply(409, &[], "")).unwrap();
    let mut now_ms = 60_000;
    let error = (0..=STALE_REPLIES_MAX).find_map(|_| {
        now_ms += 60_000;
        step(&mut stream, now_ms, &stale).err()
    });
    assert_eq!(error, Some(StreamError::StaleCache { handle: "h1".to_owned() }));
    assert_eq!(stream.poll_request(now_ms), Poll::Failed);
}

#[test]
fn a_log_of_another_handle_is_never_mixed_in() {
    let mut stream = following();
    let foreign = live("h2", "9_0", "c1", &format!("[{INSERT},{UP_TO_DATE}]"));
    assert_eq!(step(&mut stream, 0, &foreign), Ok(vec![Event::MustRefetch]));
    assert_eq!(query(&mut stream, 0), "handle=h2&log=full&offset=-1&table=t");
}

#[test]
fn an_offset_past_the_log_starts_over() {
    let mut stream = following();
    assert_eq!(step(&mut stream, 0, &reply(400, &[], OUT_OF_BOUNDS)), Ok(vec![Event::MustRefetch]));
    assert_eq!(query(&mut stream, 0), "cache-buster=000000000000feed&log=full&offset=-1&table=t");
    let error = give(&mut stream, 0, &reply(400, &[], OUT_OF_BOUNDS)).unwrap_err();
    assert!(matches!(error, StreamError::Refused { status: 400, .. }));
}

#[test]
fn refusals_end_the_stream_until_it_is_recovered() {
    let mut stream = following();
    let error = step(&mut stream, 0, &reply(401, &[], "no")).unwrap_err();
    assert_eq!(error, StreamError::Refused { status: 401, body: "no".to_owned() });
    assert_eq!((stream.poll_request(0), stream.status()), (Poll::Failed, Status::Failed));
    let token = serde_json::json!("s3");
    let moment = Moment { now_ms: 0, random: 0 };
    assert_eq!(stream.recover([("token", &token)], moment), Ok(true));
    assert_eq!(query(&mut stream, 0), "handle=h1&log=full&offset=0_inf&table=t&token=s3");
    assert_eq!(stream.recover([], moment), Ok(false));
    for _ in 0..RECOVERIES_MAX - 1 {
        assert!(give(&mut stream, 0, &reply(403, &[], "")).is_err());
        assert_eq!(stream.recover([], moment), Ok(true));
        query(&mut stream, 60_000);
    }
    assert!(give(&mut stream, 0, &reply(403, &[], "")).is_err());
    assert_eq!(stream.recover([], moment), Ok(false));
}

#[test]
fn failures_are_retried_no_sooner_than_the_server_asks() {
    let mut stream = following();
    for status in [429, 500, 503, 599] {
        assert_eq!(step(&mut stream, 0, &reply(status, &[("retry-after", "40")], "busy")), Ok(vec![]));
        assert_eq!(stream.poll_request(0), Poll::WaitUntil(40_000));
        assert_eq!((stream.status(), stream.is_up_to_date()), (Status::Retrying, false));
        assert!(matches!(stream.poll_request(40_000), Poll::Request(_)));
        stream.handle_network_error(Moment { now_ms: 0, random: 0 });
    }
    // The first request after an outage is answered at once.
    assert_eq!(query(&mut stream, 60_000), "cursor=&handle=h1&log=full&offset=0_inf&table=t");
    give(&mut stream, 60_000, &log("h1", "0_inf", &format!("[{UP_TO_DATE}]"))).unwrap();
    assert_eq!(stream.status(), Status::Live);
    assert!(query(&mut stream, 60_000).contains("live=true"));
}

#[test]
fn missing_headers_are_named() {
    let header = |skip: usize| {
        let mut answer = log("h1", "0_0", "[]");
        answer.headers.remove(skip);
        step(&mut started(), 0, &answer).unwrap_err()
    };
    assert_eq!(header(0), StreamError::MissingHeader { name: "electric-handle" });
    assert_eq!(header(1), StreamError::MissingHeader { name: "electric-offset" });
    assert_eq!(header(2), StreamError::MissingHeader { name: "electric-schema" });
    let error = step(&mut following(), 0, &log("h1", "0_inf", "[]")).unwrap_err();
    assert_eq!(error, StreamError::MissingHeader { name: "electric-cursor" });
    assert!(matches!(step(&mut started(), 0, &log("h1", "x", "[]")), Err(StreamError::InvalidOffset(_))));
    assert!(matches!(step(&mut started(), 0, &log("h1", "0_0", "{}")), Err(StreamError::InvalidBody(_))));
}

#[test]
fn a_pause_drops_the_request_and_resumes_with_a_quick_one() {
    let mut stream = following();
    step(&mut stream, 0, &live("h1", "5_0", "c1", &format!("[{UP_TO_DATE}]"))).unwrap();
    query(&mut stream, 0);
    stream.pause();
    assert_eq!((stream.poll_request(0), stream.status()), (Poll::Idle, Status::Paused));
    let late = live("h1", "9_0", "c2", &format!("[{INSERT},{UP_TO_DATE}]"));
    assert_eq!(give(&mut stream, 0, &late), Ok(vec![]));
    stream.resume();
    assert_eq!(query(&mut stream, 0), "cursor=c1&handle=h1&log=full&offset=5_0&table=t");
    give(&mut stream, 0, &log("h1", "5_0", &format!("[{UP_TO_DATE}]"))).unwrap();
    assert!(query(&mut stream, 0).contains("live=true"));
}

#[test]
fn a_cache_that_ignores_the_query_does_not_make_the_client_spin() {
    let mut stream = started();
    let same = log("h1", "0_0", "[]");
    let (mut now_ms, mut requests, mut restarts) = (0, 0, 0);
    let error = loop {
        match stream.poll_request(now_ms) {
            Poll::WaitUntil(until_ms) => now_ms = until_ms,
            Poll::Request(_) => {
                requests += 1;
                now_ms += 1;
                match give(&mut stream, now_ms, &same) {
                    Ok(events) => restarts += events.iter().filter(|e| **e == Event::MustRefetch).count(),
                    Err(error) => break error,
                }
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(error, StreamError::Standstill { offset: "0_0".to_owned() });
    assert!(requests < 40 && restarts == 4, "{requests} requests, {restarts} restarts");
}

#[test]
fn a_replayed_live_reply_slows_the_stream_and_loses_nothing() {
    let mut stream = following();
    step(&mut stream, 0, &live("h1", "5_0", "c1", &format!("[{UP_TO_DATE}]"))).unwrap();
    let same = live("h1", "5_0", "c1", &format!("[{UP_TO_DATE}]"));
    for _ in 0..5 {
        step(&mut stream, 0, &same).unwrap();
    }
    assert!(matches!(stream.poll_request(0), Poll::WaitUntil(_)));
    assert!(stream.is_up_to_date());
}

/// A server in memory: a log in chunks, a handle, faults drawn from a seed.
struct Model {
    random: u64,
    generation: u64,
    table: BTreeMap<u64, u64>,
    /// The rows when the shape was made, then its changes in order.
    snapshot: Vec<(u64, u64)>,
    changes: Vec<(Offset, String)>,
    lsn: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let table = (0..seed % 9).map(|id| (id, id)).collect();
        let mut model =
            Self { random: seed + 1, generation: 0, table, snapshot: vec![], changes: vec![], lsn: 1 };
        model.rotate();
        model
    }

    fn draw(&mut self, below: u64) -> u64 {
        // xorshift64*: enough for a script.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) % below
    }

    fn rotate(&mut self) {
        self.generation += 1;
        self.snapshot = self.table.iter().map(|(id, n)| (*id, *n)).collect();
        self.changes.clear();
    }

    fn handle(&self) -> String {
        format!("h{}", self.generation)
    }

    /// One transaction of up to three changes.
    fn write(&mut self) {
        self.lsn += 1 + self.draw(5);
        for op in 0..=self.draw(3) {
            let (id, n) = (self.draw(12), self.draw(1000));
            let (operation, value) = match (self.table.contains_key(&id), self.draw(3)) {
                (true, 0) => ("delete", format!(r#"{{"id":"{id}"}}"#)),
                (true, _) => ("update", format!(r#"{{"id":"{id}","n":"{n}"}}"#)),
                (false, _) => ("insert", format!(r#"{{"id":"{id}","n":"{n}"}}"#)),
            };
            match operation {
                "delete" => self.table.remove(&id),
                _ => self.table.insert(id, n),
            };
            let headers =
                format!(r#"{{"operation":"{operation}","lsn":"{}","op_position":{}}}"#, self.lsn, op * 2);
            let message = format!(r#"{{"key":"{id}","value":{value},"headers":{headers}}}"#);
            self.changes.push((Offset::new(self.lsn, op * 2), message));
        }
    }

    fn answer(&mut self, request: &Request) -> Option<Reply> {
        match self.draw(30) {
            0 => return None,
            1 => return Some(reply(503, &[("retry-after", "2")], "")),
            2 => return Some(reply(429, &[], "")),
            3 if self.draw(4) == 0 => self.rotate(),
            4 if self.draw(8) == 0 => {
                return Some(reply(400, &[], OUT_OF_BOUNDS)).filter(|_| has_offset(request));
            }
            _ => {}
        }
        let param = |name: &str| request.query.iter().find(|(n, _)| n == name).map(|(_, value)| &**value);
        let offset: Offset = param("offset").unwrap().parse().unwrap();
        let handle = self.handle();
        if offset != Offset::Start && param("handle") != Some(&handle) {
            let successor = [("electric-handle", &*handle)];
            let named = self.draw(2) == 0;
            return Some(reply(409, if named { &successor } else { &[] }, ""));
        }
        if request.is_live && self.draw(2) == 0 {
            self.write();
        }
        let cursor = self.draw(1_000_000).to_string();
        let (end, messages) = self.read(offset);
        let mut answer = log(&handle, &end.to_string(), &format!("[{}]", messages.join(",")));
        answer.headers.push(("electric-cursor", cursor));
        Some(answer)
    }

    /// At most two items a chunk; up-to-date only at the end.
    fn read(&self, after: Offset) -> (Offset, Vec<String>) {
        let chunk = match after {
            Offset::Start => Some(0),
            Offset::At { tx: 0, op: crate::Op::Number(n) } => Some(n as usize + 1),
            Offset::At { .. } => None,
        };
        if let Some(chunk) = chunk.filter(|chunk| *chunk == 0 || chunk * 2 < self.snapshot.len()) {
            let rows = self.snapshot.iter().skip(chunk * 2).take(2).map(|(id, n)| {
                let headers = r#"{"operation":"insert"}"#;
                format!(r#"{{"key":"{id}","value":{{"id":"{id}","n":"{n}"}},"headers":{headers}}}"#)
            });
            return (Offset::snapshot_chunk(chunk as u64), rows.collect());
        }
        let pending: Vec<_> = self.changes.iter().filter(|(offset, _)| *offset > after).collect();
        let chunk = &pending[..pending.len().min(2)];
        let end = chunk.last().map_or(after.max(Offset::SNAPSHOT_END), |(offset, _)| *offset);
        let mut messages: Vec<String> = chunk.iter().map(|(_, message)| message.clone()).collect();
        if chunk.len() == pending.len() {
            messages.push(UP_TO_DATE.to_owned());
        }
        (end, messages)
    }
}

fn has_offset(request: &Request) -> bool {
    !request.query.iter().any(|(name, value)| name == "offset" && value == "-1")
}

/// What the change sets alone say the keys are: they must agree with the rows.
fn note(keys: &mut Vec<String>, changes: &ChangeSet) {
    keys.retain(|key| !changes.deleted.iter().any(|gone| **gone == **key));
    keys.extend(changes.inserted.iter().map(|key| key.to_string()));
    assert!(changes.updated.iter().all(|key| keys.iter().any(|known| **known == **key)));
}

/// Follows a model server through faults; at every up-to-date the rows are the server's table.
fn follow(seed: u64) -> usize {
    let mut model = Model::new(seed);
    let (mut stream, mut rows, mut keys) = (started(), Rows::new(), Vec::new());
    let (mut now_ms, mut checks) = (1_000_000, 0);
    for _ in 0..400 {
        let moment = Moment { now_ms, random: model.draw(u64::MAX) };
        let request = match stream.poll_request(now_ms) {
            Poll::Request(request) => request,
            Poll::WaitUntil(until_ms) => {
                now_ms = until_ms;
                continue;
            }
            other => panic!("seed {seed}: {other:?}"),
        };
        now_ms += 1 + model.draw(200);
        if model.draw(40) == 0 {
            stream.pause();
            stream.resume();
            continue;
        }
        let Some(answer) = model.answer(&request) else {
            stream.handle_network_error(moment);
            continue;
        };
        let events =
            give(&mut stream, now_ms, &answer).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for event in events {
            let Some(changes) = rows.handle_event(event).unwrap() else { continue };
            note(&mut keys, &changes);
            let shown: BTreeMap<u64, u64> = rows
                .iter()
                .map(|(key, row)| (key.parse().unwrap(), row.value("n").flatten().unwrap().parse().unwrap()))
                .collect();
            assert_eq!(shown, model.table, "seed {seed}, check {checks}");
            let mut sorted: Vec<u64> = keys.iter().map(|key| key.parse().unwrap()).collect();
            sorted.sort_unstable();
            assert_eq!(sorted, shown.into_keys().collect::<Vec<_>>(), "seed {seed}, check {checks}");
            checks += 1;
        }
    }
    checks
}

#[test]
fn every_up_to_date_shows_the_servers_table() {
    let checks: usize = (0..100).map(follow).sum();
    assert!(checks > 100 * 20, "{checks}");
}

#[test]
fn of_a_refusal_only_the_beginning_is_kept() {
    let body = "a".repeat(REFUSAL_BODY_BYTES_MAX);
    assert_eq!(beginning(body.as_bytes()), body);
    assert_eq!(beginning(format!("{body}b").as_bytes()), body);
}
