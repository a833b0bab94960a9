//! A client that turns a shape's log back into rows, and accepts nothing that does not fit.

use crate::eventually::Deadline;
use crate::http::{Client, Request, Response};
use crate::log_checker::LogChecker;
use crate::postgres::Row;
use crate::rows::{Rows, is_change};
use serde_json::Value;

/// Follows one shape.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    query: String,
    handle: Option<String>,
    offset: String,
    cursor: Option<String>,
    rows: Rows,
    checker: LogChecker,
    up_to_date: bool,
    rotations: u32,
    response: Option<Response>,
}

/// The outcome of one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// These messages, which are applied.
    Messages(Vec<Value>),
    /// The shape is to be read again from its beginning.
    Rotated,
    /// No answer, or 503.
    Away,
}

impl Follower {
    /// A client that has read nothing yet; `query` defines the shape.
    #[must_use]
    pub fn new(client: Client, query: &str) -> Self {
        Self {
            client,
            query: query.to_owned(),
            handle: None,
            offset: "-1".to_owned(),
            cursor: None,
            rows: Rows::default(),
            checker: LogChecker::default(),
            up_to_date: false,
            rotations: 0,
            response: None,
        }
    }

    /// Goes on at another server, which holds the same shapes.
    pub fn move_to(&mut self, client: Client) {
        self.client = client;
    }

    /// Makes one request.
    ///
    /// # Panics
    /// Where the answer does not fit the rows so far, or breaks a rule of every log.
    pub async fn step(&mut self, live: bool) -> Step {
        let target = self.target(live);
        let request = Request { method: "GET", target: &target, ..Request::default() };
        let Ok(response) = self.client.try_send(&request).await else { return Step::Away };
        let step = match response.status {
            200 => self.accept(&response, live),
            409 => self.start_over(&response),
            503 => Step::Away,
            other => unreachable!("{other} for {target}: {}", response.text()),
        };
        self.response = Some(response);
        step
    }

    /// Reads until it is up to date, and returns what came.
    pub async fn sync(&mut self) -> Vec<Value> {
        self.sync_to(0).await
    }

    /// Reads until it is up to date with everything before `lsn`, and returns what came.
    pub async fn sync_to(&mut self, lsn: u64) -> Vec<Value> {
        let deadline = Deadline::new("the shape is up to date");
        let mut all = Vec::new();
        loop {
            match self.step(false).await {
                Step::Messages(messages) => all.extend(messages),
                Step::Rotated => all.clear(),
                Step::Away => deadline.pause().await,
            }
            if self.up_to_date && self.checker.seen_lsn() >= lsn {
                return all;
            }
            if self.up_to_date {
                deadline.pause().await;
            }
            deadline.check();
        }
    }

    /// Waits by live requests until `count` changes have come, and returns all that came.
    ///
    /// # Panics
    /// Where more come, or the shape rotates.
    pub async fn changes(&mut self, count: usize) -> Vec<Value> {
        let deadline = Deadline::new("changes come");
        let mut changes = Vec::new();
        while changes.len() < count || !self.up_to_date {
            match self.step(true).await {
                Step::Messages(messages) => changes.extend(messages.into_iter().filter(is_change)),
                other => unreachable!("{other:?} instead of changes"),
            }
            deadline.check();
        }
        assert_eq!(changes.len(), count, "{changes:?}");
        changes
    }

    /// The request it would make next.
    #[must_use]
    pub fn target(&self, live: bool) -> String {
        let mut target = format!("/v1/shape?{}&offset={}", self.query, self.offset);
        if let Some(handle) = &self.handle {
            target += &format!("&handle={handle}");
        }
        // Nothing can be waited for at the beginning.
        if live && self.offset != "-1" {
            target += &format!("&live=true&cursor={}", self.cursor.as_deref().unwrap_or_default());
        }
        target
    }

    /// The shape's rows, in an order of their own.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.rows.shown().map(|(_, row)| row.clone()).collect();
        rows.sort();
        rows
    }

    /// The rows as they are kept, with what decides whether they are shown.
    #[must_use]
    pub const fn all_rows(&self) -> &Rows {
        &self.rows
    }

    /// The keys of the rows.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        self.rows.shown().map(|(key, _)| key).collect()
    }

    /// The handle of the last answer.
    ///
    /// # Panics
    /// Where there was none.
    #[must_use]
    pub fn handle(&self) -> &str {
        self.handle.as_deref().expect("it has read")
    }

    /// The offset of the last answer.
    #[must_use]
    pub fn offset(&self) -> &str {
        &self.offset
    }

    /// The last answer.
    ///
    /// # Panics
    /// Where there was none.
    #[must_use]
    pub fn response(&self) -> &Response {
        self.response.as_ref().expect("it has read")
    }

    /// How often it was told to start over.
    #[must_use]
    pub const fn rotations(&self) -> u32 {
        self.rotations
    }

    fn accept(&mut self, response: &Response, live: bool) -> Step {
        let Value::Array(messages) = response.json() else { unreachable!("no array: {}", response.text()) };
        let accepted = self.checker.check(response, &messages);
        let applied =
            accepted.and_then(|()| messages.iter().try_for_each(|message| self.rows.apply(message)));
        applied.unwrap_or_else(|broken| unreachable!("{broken}"));
        let header = |name: &str| response.header(name).map(str::to_owned);
        let handle = header("electric-handle").expect("every reply names its handle");
        assert!(
            self.offset == "-1" || self.handle.as_ref() == Some(&handle),
            "the handle changed to {handle}"
        );
        self.handle = Some(handle);
        self.offset = header("electric-offset").expect("every reply names its offset");
        self.cursor = header("electric-cursor");
        assert!(!live || self.cursor.is_some() || response.header("electric-schema").is_some());
        self.up_to_date = response.header("electric-up-to-date").is_some();
        Step::Messages(messages)
    }

    fn start_over(&mut self, response: &Response) -> Step {
        assert_eq!(response.text(), r#"[{"headers":{"control":"must-refetch"}}]"#);
        let successor = response.header("electric-handle").map(str::to_owned);
        assert!(successor.is_none() || successor != self.handle, "the successor has the same handle");
        *self = Self { rotations: self.rotations + 1, ..Self::new(self.client.clone(), &self.query) };
        Step::Rotated
    }
}
