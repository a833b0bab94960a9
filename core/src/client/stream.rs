//! The follow-the-log state machine: which request to send next, and what a reply means.

use super::exchange::{Moment, Request, Response};
use super::message::{DecodeError, Message, Names, decode};
use super::options::{OptionsError, Start, StreamOptions};
use super::retry::Retry;
use super::standstill::Standstill;
use crate::offset::{Offset, ParseOffsetError};

/// Follows one shape: initial rows, catch-up, live (protocol §3, §6, §10.1).
///
/// The owner alternates two steps until [`Poll::Done`] or [`Poll::Failed`]: [`poll_request`] says what to
/// send or how long to wait; the outcome of a request goes to [`handle_response`] or
/// [`handle_network_error`]. At most one request is in flight. [`pause`] and [`resume`] may come at any time.
///
/// [`poll_request`]: Self::poll_request
/// [`handle_response`]: Self::handle_response
/// [`handle_network_error`]: Self::handle_network_error
/// [`pause`]: Self::pause
/// [`resume`]: Self::resume
#[derive(Debug)]
pub struct ShapeStream {
    options: StreamOptions,
    names: Names,
    phase: Phase,
    /// The live request's cache key: each reply says which one comes next.
    cursor: String,
    handle: Option<String>,
    /// `None` asks for `now`.
    offset: Option<Offset>,
    schema: Option<String>,
    is_up_to_date: bool,
    /// The next request is the one after a pause: not live, under a key of its own.
    is_refresh: bool,
    is_paused: bool,
    in_flight: Option<InFlight>,
    retry: Retry,
    /// A handle that a 409 took back: a reply that still bears it comes from a cache.
    expired_handle: Option<String>,
    cache_buster: Option<u64>,
    stale_replies: u32,
    has_healed: bool,
    rotations: u32,
    standstill: Standstill,
    recoveries: u32,
}

/// The step that the stream's owner has to take next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Poll {
    /// Send this request.
    Request(Request),
    /// Send nothing before this time (milliseconds since 1970).
    WaitUntil(u64),
    /// A request is in flight, or the stream is paused.
    Idle,
    /// The stream has reached its end and was told not to follow further.
    Done,
    /// An error ended the stream; [`ShapeStream::recover`] may start it again.
    Failed,
}

/// One thing that a reply brought; they come in the reply's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Messages of the log, never empty.
    Messages(Vec<Message>),
    /// Everything before this belongs together and can be shown.
    UpToDate,
    /// Everything received so far is void; the initial rows follow.
    MustRefetch,
}

/// The state of a stream, for whoever watches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Fetching what it does not have yet.
    Syncing,
    /// Has everything; waits for changes.
    Live,
    /// The server cannot be reached or is not able to answer; the stream tries again by itself.
    Retrying,
    /// Stopped for a while by its owner.
    Paused,
    /// At its end.
    Done,
    /// Ended by an error.
    Failed,
}

/// Why a stream cannot go on by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The server, or what stands before it, refuses the request as it is.
    #[error("request refused with status {status}: {body}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body, which says why.
        body: String,
    },
    /// A reply lacks what every reply has: usually a proxy drops it or CORS does not expose it.
    #[error("missing header `{name}` in the reply: does a proxy drop it, or CORS not expose it?")]
    MissingHeader {
        /// The header's name.
        name: &'static str,
    },
    /// The reply's offset cannot be read.
    #[error("invalid header `electric-offset`: {0}")]
    InvalidOffset(#[from] ParseOffsetError),
    /// The body cannot be read.
    #[error(transparent)]
    InvalidBody(#[from] DecodeError),
    /// A cache answers with a shape that is gone, whatever is asked.
    #[error("a cache keeps answering with the expired handle `{handle}`: does it ignore the query string?")]
    StaleCache {
        /// The handle that a 409 had taken back.
        handle: String,
    },
    /// Replies come at once and lead nowhere.
    #[error("no progress past offset `{offset}`: does a cache or proxy ignore the query string?")]
    Standstill {
        /// Where the stream stood.
        offset: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Following,
    Done,
    Failed,
}

#[derive(Debug)]
struct InFlight {
    is_live: bool,
}

/// The server answers a live request within 20 seconds; one this old is lost.
const LIVE_TIMEOUT_MS: u64 = 45_000;
const STALE_REPLIES_MAX: u32 = 3;
const RECOVERIES_MAX: u32 = 50;
const REFUSAL_BODY_BYTES_MAX: usize = 2_000;

impl ShapeStream {
    /// A stream that has sent nothing yet.
    #[must_use]
    pub fn new(options: StreamOptions) -> Self {
        let (handle, offset) = match &options.start {
            Start::Beginning => (None, Some(Offset::Start)),
            Start::Now => (None, None),
            Start::After { handle, offset } => (Some(handle.clone()), Some(*offset)),
        };
        Self {
            options,
            names: Names::default(),
            phase: Phase::Following,
            cursor: String::new(),
            handle,
            offset,
            schema: None,
            is_up_to_date: false,
            is_refresh: false,
            is_paused: false,
            in_flight: None,
            retry: Retry::default(),
            expired_handle: None,
            cache_buster: None,
            stale_replies: 0,
            has_healed: false,
            rotations: 0,
            standstill: Standstill::default(),
            recoveries: 0,
        }
    }

    /// The next thing to do. A returned request counts as sent.
    pub fn poll_request(&mut self, now_ms: u64) -> Poll {
        match self.phase {
            Phase::Done => return Poll::Done,
            Phase::Failed => return Poll::Failed,
            Phase::Following if self.is_paused || self.in_flight.is_some() => return Poll::Idle,
            Phase::Following => {}
        }
        if let Some(until_ms) = self.retry.wait_until_ms(now_ms) {
            return Poll::WaitUntil(until_ms);
        }
        let request = self.request();
        self.in_flight = Some(InFlight { is_live: request.is_live });
        Poll::Request(request)
    }

    /// Takes the reply to the request in flight. An error ends the stream.
    pub fn handle_response(
        &mut self,
        response: &Response<'_>,
        moment: Moment,
    ) -> Result<Vec<Event>, StreamError> {
        // A reply to a request that was given up at a pause is out of date.
        let Some(sent) = self.in_flight.take() else { return Ok(Vec::new()) };
        let outcome = match response.status {
            204 | 304 => self.handle_unchanged(response, moment),
            200..=299 => self.handle_log(&sent, response, moment),
            409 => Ok(self.handle_rotation(response, moment)),
            // After a failover the log may be shorter than what was served from it: only the offset is
            // bad, so the stream starts over instead of stranding its owner.
            400 if self.has_position() && is_out_of_bounds(response.body) => Ok(self.start_over(moment)),
            429 | 500..=599 => {
                self.handle_outage(moment, (response.header)("retry-after").as_deref());
                Ok(Vec::new())
            }
            status => Err(StreamError::Refused { status, body: beginning(response.body) }),
        };
        if outcome.is_err() {
            self.phase = Phase::Failed;
            self.is_up_to_date = false;
        }
        outcome
    }

    /// The request in flight got no reply.
    pub fn handle_network_error(&mut self, moment: Moment) {
        if self.in_flight.take().is_some() {
            self.handle_outage(moment, None);
        }
    }

    /// Stops asking; the owner aborts the request in flight, whose reply is no longer wanted.
    pub fn pause(&mut self) {
        self.is_paused = true;
        self.in_flight = None;
    }

    /// Goes on after a pause, at once, with one request that is not live: it tells quickly what was missed.
    pub fn resume(&mut self) {
        if !std::mem::take(&mut self.is_paused) {
            return;
        }
        self.refresh();
        self.retry.hurry();
    }

    /// Ends the stream.
    pub fn stop(&mut self) {
        self.phase = Phase::Done;
        self.in_flight = None;
    }

    /// Goes on after an error with changed parameters, for instance another token. False when it was
    /// tried too often without a success, or when nothing had failed.
    pub fn recover<'a>(
        &mut self,
        parameters: impl IntoIterator<Item = (&'a str, &'a serde_json::Value)>,
        moment: Moment,
    ) -> Result<bool, OptionsError> {
        if self.phase != Phase::Failed || self.recoveries >= RECOVERIES_MAX {
            return Ok(false);
        }
        for (name, value) in parameters {
            self.options.set(name, value)?;
        }
        self.recoveries += 1;
        self.retry.failed(moment, None);
        if self.recoveries == 1 {
            self.retry.hurry();
        }
        self.phase = Phase::Following;
        Ok(true)
    }

    /// The shape's handle, once the server has said it.
    #[must_use]
    pub fn handle(&self) -> Option<&str> {
        self.handle.as_deref()
    }

    /// The position after the last message received; `None` while the server has not said where `now` is.
    #[must_use]
    pub const fn offset(&self) -> Option<Offset> {
        self.offset
    }

    /// The column types as the server describes them (`electric-schema`, a JSON object).
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// True when the last reply ended up to date.
    #[must_use]
    pub const fn is_up_to_date(&self) -> bool {
        self.is_up_to_date
    }

    /// The state that the stream is in.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Done => Status::Done,
            Phase::Failed => Status::Failed,
            Phase::Following if self.is_paused => Status::Paused,
            Phase::Following if self.retry.is_failing() => Status::Retrying,
            Phase::Following if self.is_up_to_date => Status::Live,
            Phase::Following => Status::Syncing,
        }
    }

    fn request(&self) -> Request {
        let is_live = self.is_up_to_date;
        let mut query = self.options.parameters().clone();
        let mut put = |name: &str, value: String| query.insert(name.to_owned(), value);
        put("log", self.options.log.as_str().to_owned());
        put("offset", self.offset_text());
        if let Some(handle) = &self.handle {
            put("handle", handle.clone());
        }
        if is_live {
            put("live", "true".to_owned());
        }
        if is_live || self.is_refresh {
            put("cursor", self.cursor.clone());
        }
        if let Some(expired) = &self.expired_handle {
            put("expired_handle", expired.clone());
        }
        if let Some(buster) = self.cache_buster {
            put("cache-buster", format!("{buster:016x}"));
        }
        Request {
            query: query.into_iter().collect(),
            is_live,
            timeout_ms: is_live.then_some(LIVE_TIMEOUT_MS),
        }
    }

    fn offset_text(&self) -> String {
        self.offset.map_or_else(|| "now".to_owned(), |offset| offset.to_string())
    }

    /// True when the stream stands inside a log, which only its handle's server knows.
    fn has_position(&self) -> bool {
        self.offset.is_some_and(|offset| offset != Offset::Start)
    }

    fn handle_log(
        &mut self,
        sent: &InFlight,
        response: &Response<'_>,
        moment: Moment,
    ) -> Result<Vec<Event>, StreamError> {
        let required =
            |name: &'static str| (response.header)(name).ok_or(StreamError::MissingHeader { name });
        let handle = required("electric-handle")?;
        let offset = required("electric-offset")?.parse::<Offset>()?;
        let cursor = if sent.is_live { Some(required("electric-cursor")?) } else { None };
        let schema = if sent.is_live { None } else { Some(required("electric-schema")?) };
        if self.expired_handle.as_ref() == Some(&handle) {
            return self.handle_stale(handle, moment);
        }
        if self.has_position() && self.handle.as_ref().is_some_and(|ours| *ours != handle) {
            // An offset of one log means nothing in another: the reply cannot be the one asked for.
            return Ok(self.rotate_to(Some(handle), moment));
        }
        let messages = decode(response.body, &mut self.names)?;
        let is_up_to_date = messages.last() == Some(&Message::UpToDate);
        let is_at_standstill = self.offset == Some(offset)
            && if sent.is_live { cursor.as_ref() == Some(&self.cursor) } else { !is_up_to_date };
        if is_at_standstill && self.standstill.is_reached(moment.now_ms) {
            return self.handle_standstill(sent, moment);
        }
        if !is_at_standstill {
            self.standstill.progressed();
        }
        self.handle = Some(handle);
        self.offset = Some(offset);
        self.cursor = cursor.unwrap_or_else(|| std::mem::take(&mut self.cursor));
        if self.schema.is_none() {
            self.schema = schema;
        }
        self.note_success();
        let mut events = Vec::new();
        if !messages.is_empty() {
            events.push(Event::Messages(messages));
        }
        if is_up_to_date {
            self.note_up_to_date();
            events.push(Event::UpToDate);
        } else {
            self.is_up_to_date = false;
        }
        Ok(events)
    }

    /// 204 is an older server's "nothing new"; 304 comes through when a cache in front asked for it.
    fn handle_unchanged(
        &mut self,
        response: &Response<'_>,
        moment: Moment,
    ) -> Result<Vec<Event>, StreamError> {
        let offset = (response.header)("electric-offset").map(|text| text.parse::<Offset>()).transpose()?;
        if self.offset.is_none() || offset.is_some_and(|offset| self.offset != Some(offset)) {
            // The position would move past messages that were never received.
            self.cache_buster = Some(moment.random);
            self.retry.failed(moment, None);
            return Ok(Vec::new());
        }
        if let Some(cursor) = (response.header)("electric-cursor") {
            self.cursor = cursor;
        } else if self.standstill.is_reached(moment.now_ms) {
            self.retry.failed(moment, None);
            return Ok(Vec::new());
        }
        self.note_success();
        self.note_up_to_date();
        Ok(vec![Event::UpToDate])
    }

    /// Waits, and then asks at once what was missed: a live request would only tell at its end, perhaps
    /// 20 seconds later, that the server is back.
    fn handle_outage(&mut self, moment: Moment, retry_after: Option<&str>) {
        self.retry.failed(moment, retry_after);
        self.refresh();
    }

    /// Makes the next request one that is not live, but passes the caches of those that never were.
    fn refresh(&mut self) {
        self.is_refresh |= self.is_up_to_date;
        self.is_up_to_date = false;
    }

    fn note_success(&mut self) {
        self.retry.succeeded();
        self.cache_buster = None;
        self.is_refresh = false;
        self.stale_replies = 0;
        self.recoveries = 0;
    }

    fn note_up_to_date(&mut self) {
        self.is_up_to_date = true;
        self.rotations = 0;
        self.has_healed = false;
        self.standstill.arrived();
        if self.options.stop_when_up_to_date {
            self.phase = Phase::Done;
        }
    }

    fn handle_rotation(&mut self, response: &Response<'_>, moment: Moment) -> Vec<Event> {
        let successor = (response.header)("electric-handle");
        if let Some(handle) = &self.handle {
            self.expired_handle = Some(handle.clone());
        }
        self.rotate_to(successor, moment)
    }

    /// Starts the shape again from its first row, under a URL that no cache has an old answer for.
    fn rotate_to(&mut self, successor: Option<String>, moment: Moment) -> Vec<Event> {
        self.handle = successor.filter(|handle| Some(handle) != self.expired_handle.as_ref());
        // A new handle is a new URL, and one that all clients of the shape share: a random one then
        // would only send each of them past the caches to the origin.
        self.cache_buster = if self.handle.is_none() { Some(moment.random) } else { None };
        self.offset = Some(Offset::Start);
        self.schema = None;
        self.cursor.clear();
        self.is_up_to_date = false;
        self.is_refresh = false;
        self.rotations += 1;
        if self.rotations > 1 {
            // A shape that rotates before it can be read, as one does while its table is altered.
            self.retry.failed(moment, None);
        }
        vec![Event::MustRefetch]
    }

    fn start_over(&mut self, moment: Moment) -> Vec<Event> {
        self.rotate_to(None, moment)
    }

    /// A cache answered with a shape that a 409 has taken back.
    fn handle_stale(&mut self, handle: String, moment: Moment) -> Result<Vec<Event>, StreamError> {
        self.cache_buster = Some(moment.random);
        self.stale_replies += 1;
        if self.stale_replies <= STALE_REPLIES_MAX {
            return Ok(Vec::new());
        }
        if std::mem::replace(&mut self.has_healed, true) {
            return Err(StreamError::StaleCache { handle });
        }
        // Perhaps the mark is what is wrong: take the handle at its word once.
        self.stale_replies = 0;
        self.expired_handle = None;
        Ok(self.start_over(moment))
    }

    fn handle_standstill(&mut self, sent: &InFlight, moment: Moment) -> Result<Vec<Event>, StreamError> {
        if self.standstill.is_hopeless() {
            return Err(StreamError::Standstill { offset: self.offset_text() });
        }
        self.cache_buster = Some(moment.random);
        self.retry.failed(moment, None);
        // A live reply that repeats itself is a cache's: nothing is lost by asking again, later.
        if sent.is_live { Ok(Vec::new()) } else { Ok(self.start_over(moment)) }
    }
}

fn is_out_of_bounds(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Refusal {
        errors: Errors,
    }
    #[derive(serde::Deserialize)]
    struct Errors {
        offset: Vec<String>,
    }
    serde_json::from_slice::<Refusal>(body)
        .is_ok_and(|refusal| refusal.errors.offset.iter().any(|text| text.contains("out of bounds")))
}

fn beginning(body: &[u8]) -> String {
    let end = body.len().min(REFUSAL_BODY_BYTES_MAX);
    String::from_utf8_lossy(&body[..end]).into_owned()
}

#[cfg(test)]
mod tests;
