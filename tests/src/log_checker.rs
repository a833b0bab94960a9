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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(lsn: u64, op: u64, last: bool) -> Value {
        let mut change = json!({ "headers": { "lsn": lsn.to_string(), "op_position": op } });
        if last {
            change["headers"]["last"] = json!(true);
        }
        change
    }

    fn check(checker: &mut LogChecker, messages: &[Value], offset: &str) {
        let mut headers = vec![("electric-offset".to_owned(), offset.to_owned())];
        if messages.last().and_then(control).is_some() {
            headers.push(("electric-up-to-date".to_owned(), String::new()));
        }
        checker.check(&Response { status: 200, headers, body: Vec::new() }, messages);
    }

    fn up_to_date(lsn: u64) -> Value {
        json!({ "headers": { "control": "up-to-date", "global_last_seen_lsn": lsn.to_string() } })
    }

    #[test]
    fn a_log_in_order_passes() {
        let mut checker = LogChecker::default();
        check(&mut checker, &[change(10, 0, false)], "10_0");
        check(&mut checker, &[change(10, 4, true), change(12, 2, true), up_to_date(13)], "12_2");
        assert_eq!(checker.seen_lsn(), 13);
    }

    #[test]
    #[should_panic(expected = "comes after")]
    fn a_repeated_change_does_not() {
        let mut checker = LogChecker::default();
        check(&mut checker, &[change(10, 0, true)], "10_0");
        check(&mut checker, &[change(10, 0, true)], "10_0");
    }

    #[test]
    #[should_panic(expected = "inside a transaction")]
    fn up_to_date_inside_a_transaction_does_not() {
        check(&mut LogChecker::default(), &[change(10, 0, false), up_to_date(10)], "10_0");
    }

    #[test]
    #[should_panic(expected = "had no last")]
    fn an_unfinished_transaction_does_not() {
        check(&mut LogChecker::default(), &[change(10, 0, false), change(11, 0, true)], "11_0");
    }

    #[test]
    #[should_panic(expected = "is behind")]
    fn an_lsn_that_falls_back_does_not() {
        check(&mut LogChecker::default(), &[change(10, 0, true), up_to_date(9)], "10_0");
    }
}
