//! What must be true of every log, whatever it holds.

use crate::http::Response;
use serde_json::Value;

/// Looks at one reply after the other as a client gets them.
#[derive(Debug, Default)]
pub struct LogChecker {
    last: Option<(u64, u64)>,
    /// The LSN of a transaction whose last message has not come yet.
    open: Option<u64>,
    seen_lsn: u64,
}

impl LogChecker {
    /// Checks a reply with status 200.
    ///
    /// # Panics
    /// Where a rule is broken.
    pub fn check(&mut self, response: &Response, messages: &[Value]) {
        for message in messages {
            if let Some(position) = position(message) {
                self.check_change(message, position);
            }
        }
        let offset = response.header("electric-offset").expect("every reply names its offset");
        if let Some((lsn, op)) = messages.iter().rev().find_map(position) {
            assert_eq!(offset, format!("{lsn}_{op}"), "the offset is the last message's");
        }
        let controls = messages.iter().filter(|message| control(message) == Some("up-to-date")).count();
        let told = response.header("electric-up-to-date").is_some();
        let last_is = messages.last().and_then(control) == Some("up-to-date");
        assert_eq!((controls, last_is), (usize::from(told), told), "up-to-date: header and last message");
        if told {
            assert_eq!(self.open, None, "up to date inside a transaction");
            self.check_lsn(messages.last().expect("it was counted"));
        }
    }

    fn check_change(&mut self, message: &Value, position: (u64, u64)) {
        assert!(self.last < Some(position), "{position:?} comes after {:?}: {message}", self.last);
        self.last = Some(position);
        let lsn = position.0;
        assert!(self.open.is_none_or(|open| open == lsn), "the transaction before had no last: {message}");
        self.open = (message["headers"]["last"] != true).then_some(lsn);
    }

    fn check_lsn(&mut self, up_to_date: &Value) {
        let text = up_to_date["headers"]["global_last_seen_lsn"].as_str().expect("a decimal string");
        let lsn = text.parse().expect("decimal");
        let last = self.last.map_or(0, |(lsn, _)| lsn);
        assert!(lsn >= last, "global_last_seen_lsn {lsn} is behind the shape's own {last}");
        self.seen_lsn = self.seen_lsn.max(lsn);
    }

    /// The highest `global_last_seen_lsn` so far.
    #[must_use]
    pub const fn seen_lsn(&self) -> u64 {
        self.seen_lsn
    }
}

fn control(message: &Value) -> Option<&str> {
    message["headers"]["control"].as_str()
}

/// The position of a change that came by the WAL.
fn position(message: &Value) -> Option<(u64, u64)> {
    let headers = &message["headers"];
    let lsn = headers.get("lsn")?.as_str().expect("an LSN is a decimal string").parse().expect("decimal");
    Some((lsn, headers["op_position"].as_u64().expect("a position is a number")))
}
