//! One client's copy of one shape: it reads as real clients do, and has every up-to-date judged.

use crate::circumstance::Verdict;
use crate::reference::{Reference, Snapshot};
use crate::run::Run;
use crate::shape::Shape;
use crate::state::State;
use crate::violation::{Kind, Violation};
use limn_tests::{Client, Events, LogChecker, Opened, Request, Response, Rows, is_change, up_to_date_lsn};
use serde_json::Value;
use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

/// So long a shape may have no answer but 503, where nothing that names a reason stands in its way.
const UNSERVED_MAX: Duration = Duration::from_secs(15);

/// A copy of a shape.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    run: Arc<Run>,
    reference: Arc<Mutex<Reference>>,
    shape: usize,
    query: String,
    /// Since when there was no answer but 503.
    unserved: Option<Instant>,
    /// When the last request began.
    asked: Instant,
    /// Whether the log has events that move rows: those have no position of their own.
    has_moves: bool,
    held: Held,
}

/// What a client knows under one handle.
#[derive(Debug, Clone)]
struct Held {
    handle: Option<String>,
    offset: String,
    cursor: String,
    /// The columns that the first reply announced.
    columns: BTreeSet<String>,
    rows: Rows,
    checker: LogChecker,
    /// The transactions that the rows began with.
    snapshot: Option<Snapshot>,
    up_to_date: bool,
    /// Whether the offset is behind the last row; those of a snapshot have no position in a stream.
    is_placed: bool,
    state: Option<(u64, State)>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, and the copy is as new as that.
    Read,
    /// The copy starts over.
    Rotated,
    /// No answer, or 503.
    Away,
    /// A refusal whose reason passes.
    Refused,
    /// A refusal whose reason holds until the end.
    RefusedForGood,
}

impl Subscription {
    /// Nothing is read yet.
    pub fn new(client: Client, run: Arc<Run>, number: usize) -> Self {
        let Shape { query, has_subquery, .. } = run.shapes[number].clone();
        let reference = run.reference.clone();
        let held = Held::empty();
        Self {
            client,
            run,
            reference,
            shape: number,
            query,
            unserved: None,
            asked: Instant::now(),
            has_moves: has_subquery,
            held,
        }
    }

    /// Forgets everything, as a client that is started anew.
    pub fn forget(&mut self) {
        self.held = Held::empty();
    }

    /// Where it is, for a report.
    pub fn place(&self) -> String {
        let Held { handle, offset, .. } = &self.held;
        format!("`{}` behind {offset} of {handle:?}, up to date with {:?}", self.query, self.seen_lsn())
    }

    /// Whether the copy continues from an earlier reply.
    pub const fn holds_an_offset(&self) -> bool {
        self.held.handle.is_some()
    }

    /// What it was last told to be up to date with; `None` while it is not.
    pub fn seen_lsn(&self) -> Option<u64> {
        self.held.up_to_date.then(|| self.held.checker.seen_lsn())
    }

    /// One request, live or not.
    pub async fn read(&mut self, live: bool) -> Result<Outcome, Violation> {
        let read = self.try_read(live).await;
        self.pardoned(read).await
    }

    /// Opens a stream of events, and reads until `deadline`, until `messages` have come, or until the stream ends.
    pub async fn listen(&mut self, messages: u64, deadline: Instant) -> Result<Outcome, Violation> {
        let read = self.try_listen(messages, deadline).await;
        self.pardoned(read).await
    }

    /// While violations are forgiven, the copy starts over instead.
    async fn pardoned(&mut self, read: Result<Outcome, Violation>) -> Result<Outcome, Violation> {
        if read.is_err() && self.reference.lock().await.pardon(self.shape, self.asked.into_std()) {
            self.forget();
            return Ok(Outcome::Rotated);
        }
        read
    }

    async fn try_read(&mut self, live: bool) -> Result<Outcome, Violation> {
        let target = self.target(live);
        let request = Request { method: "GET", target: &target, ..Request::default() };
        self.asked = Instant::now();
        match self.client.try_send(&request).await {
            Ok(response) => self.take(&response).await,
            Err(_) => Ok(Outcome::Away),
        }
    }

    async fn try_listen(&mut self, messages: u64, deadline: Instant) -> Result<Outcome, Violation> {
        if !self.holds_an_offset() {
            return self.try_read(false).await;
        }
        let target = format!("{}&live_sse=true", self.target(true));
        self.asked = Instant::now();
        let mut events = match Events::open(&self.client, &target).await {
            Ok(Opened::Events(events)) => events,
            Ok(Opened::Other(response)) => return self.take(&response).await,
            Err(_) => return Ok(Outcome::Away),
        };
        // The head says where to go on from where no message has come; the clients of npm believe it.
        let told = events.head.header("electric-offset").unwrap_or_default().to_owned();
        if !told.is_empty() && !self.has_moves {
            self.held.offset = told;
        }
        let before = self.held.clone();
        for _ in 0..messages {
            // A stream that was cut goes on behind its last message.
            let Ok(Ok(Some(message))) = timeout_at(deadline, events.next()).await else { break };
            self.take_event(&message).await?;
        }
        // A stream may end where nothing says how to go on, behind a move or inside a snapshot: what it came to is judged,
        // and then read again.
        if self.has_moves || !self.held.is_placed {
            self.held = before;
        }
        Ok(Outcome::Read)
    }

    /// Sends a request and never reads its answer.
    pub async fn abandon(&mut self) {
        let target = self.target(true);
        let request = Request { method: "GET", target: &target, ..Request::default() };
        // The connection ends with the value.
        let _ = timeout(Duration::from_millis(5), self.client.try_send(&request)).await;
    }

    fn target(&self, live: bool) -> String {
        let Held { handle, offset, cursor, .. } = &self.held;
        let mut target = format!("/v1/shape?{}&offset={offset}", self.query);
        if let Some(handle) = handle {
            target += &format!("&handle={handle}");
            if live {
                target += &format!("&live=true&cursor={cursor}");
            }
        }
        target
    }

    async fn take(&mut self, response: &Response) -> Result<Outcome, Violation> {
        match response.status {
            200 => {
                self.unserved = None;
                self.accept(response).await.map(|()| Outcome::Read)
            }
            409 => self.start_over(response).await.map(|()| Outcome::Rotated),
            _ => self.judge_refusal(response).await,
        }
    }

    /// A refusal names a reason that holds; a state that passes without one does so in time.
    async fn judge_refusal(&mut self, response: &Response) -> Result<Outcome, Violation> {
        let text = response.text();
        match self.run.world.judge(&self.run.shapes[self.shape], &text) {
            Verdict::Passing => {
                self.unserved = None;
                return Ok(Outcome::Refused);
            }
            Verdict::Lasting => {
                self.unserved = None;
                return Ok(Outcome::RefusedForGood);
            }
            Verdict::Unjustified => {}
        }
        let has_code = response.json()["code"].is_string();
        let since = self.unserved.get_or_insert(self.asked).elapsed();
        // The writers may hold a table in turns for as long as they write; the reply has to name them.
        let is_held = !self.run.is_done() && text.contains("waiting for a table lock: process ");
        if response.status == 503 && (self.run.has_faults || !has_code && (is_held || since < UNSERVED_MAX)) {
            self.run.world.note_away(&text);
            return Ok(Outcome::Away);
        }
        let told = format!("{} for {}: {text}", response.status, self.target(false));
        Err(self
            .violation(Kind::Refused, format!("{told}\n  not served for {:.1} s", since.as_secs_f64()))
            .await)
    }

    async fn accept(&mut self, response: &Response) -> Result<(), Violation> {
        self.note(response).await?;
        let Ok(Value::Array(messages)) = serde_json::from_slice(&response.body) else {
            return Err(self
                .violation(Kind::Torn, format!("no array of messages: {}", response.text()))
                .await);
        };
        if let Err(broken) = self.held.checker.check(response, &messages) {
            return Err(self.violation(Kind::Torn, broken).await);
        }
        for message in &messages {
            self.apply(message).await?;
        }
        let header = |name: &str| response.header(name).unwrap_or_default().to_owned();
        self.held.offset = header("electric-offset");
        self.held.cursor = header("electric-cursor");
        self.held.up_to_date = response.header("electric-up-to-date").is_some();
        if let Some(lsn) = messages.last().and_then(up_to_date_lsn) {
            self.judge(lsn).await?;
        }
        Ok(())
    }

    /// The handle, the columns, and the bytes of a chunk that never change.
    async fn note(&mut self, response: &Response) -> Result<(), Violation> {
        let handle = response.header("electric-handle").unwrap_or_default().to_owned();
        if self.held.handle.as_ref().is_some_and(|known| *known != handle) {
            return Err(self.violation(Kind::Torn, format!("the handle became `{handle}` in a 200")).await);
        }
        let mut reference = self.reference.lock().await;
        reference.note_handle(self.shape, &handle);
        if response.header("limn-chunk") == Some("closed") {
            let mut hash = DefaultHasher::new();
            response.body.hash(&mut hash);
            let place = (self.held.offset.as_str(), response.segment_start());
            reference.check_body(self.shape, &handle, place, hash.finish())?;
        }
        drop(reference);
        if self.held.handle.is_none() {
            let schema = response.header("electric-schema").and_then(|text| serde_json::from_str(text).ok());
            let schema: serde_json::Map<String, Value> = schema.unwrap_or_default();
            self.held.columns = schema.into_iter().map(|(name, _)| name).collect();
            self.held.handle = Some(handle);
        }
        Ok(())
    }

    /// A message of a stream: the offset follows it, since the stream may end at any moment.
    async fn take_event(&mut self, message: &Value) -> Result<(), Violation> {
        if let Err(broken) = self.held.checker.check_message(message) {
            return Err(self.violation(Kind::Torn, broken).await);
        }
        self.apply(message).await?;
        let headers = &message["headers"];
        if let (Some(lsn), Some(op)) = (headers["lsn"].as_str(), headers["op_position"].as_u64()) {
            (self.held.offset, self.held.is_placed) = (format!("{lsn}_{op}"), true);
        } else if is_change(message) {
            self.held.is_placed = false;
        }
        let lsn = up_to_date_lsn(message);
        self.held.up_to_date = lsn.is_some();
        if let Some(lsn) = lsn.filter(|_| !self.held.is_placed) {
            (self.held.offset, self.held.is_placed) = (format!("{lsn}_0"), true);
        }
        match lsn {
            Some(lsn) => self.judge(lsn).await,
            None => Ok(()),
        }
    }

    async fn apply(&mut self, message: &Value) -> Result<(), Violation> {
        if let Err(broken) = self.held.rows.apply(message) {
            let twice = broken.starts_with("inserted twice");
            return Err(self.violation(if twice { Kind::Duplicated } else { Kind::Torn }, broken).await);
        }
        let headers = &message["headers"];
        if self.held.snapshot.is_none() && headers["control"] == "snapshot-end" {
            self.held.snapshot = Snapshot::read(headers);
        }
        if is_change(message) && headers["operation"] == "insert" {
            let columns: BTreeSet<&str> = message["value"]
                .as_object()
                .into_iter()
                .flat_map(|row| row.keys().map(String::as_str))
                .collect();
            if !columns.iter().copied().eq(self.held.columns.iter().map(String::as_str)) {
                let text = format!("columns other than {:?}: {message}", self.held.columns);
                return Err(self.violation(Kind::Torn, text).await);
            }
        }
        let lsn = headers["lsn"].as_str().and_then(|lsn| lsn.parse().ok());
        if let (Some(lsn), Some(xid)) = (lsn, headers["txids"][0].as_u64()) {
            self.reference.lock().await.check_change(self.shape, lsn, xid)?;
        }
        Ok(())
    }

    async fn judge(&mut self, lsn: u64) -> Result<(), Violation> {
        let columns = &self.held.columns;
        let version = self.held.rows.version();
        if self.held.state.as_ref().is_none_or(|(known, _)| *known != version) {
            let mut state = State::of_columns(columns.iter().map(String::as_str));
            for (_, row) in self.held.rows.shown() {
                state.add(row.iter().map(|(name, value)| (name.as_str(), value.as_deref())));
            }
            self.held.state = Some((version, state));
        }
        let (_, state) = self.held.state.as_ref().expect("it was just made");
        let told = format!("{columns:?}");
        // Whoever commits holds the lock until it is recorded: what the client sees is there.
        let judged =
            self.reference.lock().await.check(self.shape, lsn, self.held.snapshot.as_ref(), state, &told);
        judged.map_err(|violation| self.signed(violation))
    }

    async fn start_over(&mut self, response: &Response) -> Result<(), Violation> {
        let successor = response.header("electric-handle");
        let is_same = self.held.handle.is_some() && successor == self.held.handle.as_deref();
        if is_same || response.text() != r#"[{"headers":{"control":"must-refetch"}}]"# {
            let text =
                format!("a 409 with handle {successor:?} after {:?}: {}", self.held.handle, response.text());
            return Err(self.violation(Kind::Torn, text).await);
        }
        self.reference.lock().await.note_rotation();
        self.forget();
        Ok(())
    }

    async fn violation(&self, kind: Kind, text: String) -> Violation {
        let violation = self.reference.lock().await.violation(kind, self.shape, u64::MAX - 1, text);
        self.signed(violation)
    }

    /// Says where the client was.
    fn signed(&self, mut violation: Violation) -> Violation {
        let Held { handle, offset, .. } = &self.held;
        violation.text += &format!("\n  the client is behind {offset} of {handle:?}");
        violation
    }
}

impl Held {
    fn empty() -> Self {
        Self {
            handle: None,
            offset: "-1".to_owned(),
            cursor: String::new(),
            columns: BTreeSet::new(),
            rows: Rows::default(),
            checker: LogChecker::default(),
            snapshot: None,
            up_to_date: false,
            is_placed: true,
            state: None,
        }
    }
}
