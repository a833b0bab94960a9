//! What must be true of every log, whatever it holds.

use crate::http::Response;
use serde_json::Value;

/// Looks at one reply after the other as a client gets them.
#[derive(Debug, Default, Clone)]
pub struct LogChecker {
    last: Option<(u64, u64)>,
    /// The LSN of a transaction whose last message has not come yet.
    open: Option<u64>,
    seen_lsn: u64,
}

impl LogChecker {
    /// Checks a reply with status 200.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&mut self, response: &Response, messages: &[Value]) -> Result<(), String> {
        for message in messages {
            self.check_message(message)?;
        }
        let offset = response.header("electric-offset").ok_or("the reply names no offset")?;
        // What follows without a position of its own, such as a move, takes the positions behind.
        let positioned = messages.iter().rev().skip_while(|message| control(message) == Some("up-to-date"));
        if let Some((lsn, op)) = positioned.take(1).find_map(position) {
            require(offset == format!("{lsn}_{op}"), || {
                format!("the offset {offset} is not that of the last message, {lsn}_{op}")
            })?;
        }
        let controls = messages.iter().filter(|message| control(message) == Some("up-to-date")).count();
        let told = response.header("electric-up-to-date").is_some();
        let last_is = messages.last().and_then(control) == Some("up-to-date");
        require((controls, last_is) == (usize::from(told), told), || {
            format!(
                "up-to-date: header {told}, {controls} of the messages, and that the last one is: {last_is}"
            )
        })
    }

    /// Checks one message of a reply or of a stream of events.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check_message(&mut self, message: &Value) -> Result<(), String> {
        if let Some(position) = position(message) {
            self.check_change(message, position)?;
        }
        if control(message) != Some("up-to-date") {
            return Ok(());
        }
        require(self.open.is_none(), || format!("up to date inside a transaction: {:?}", self.open))?;
        let lsn = up_to_date_lsn(message).ok_or_else(|| format!("no decimal LSN: {message}"))?;
        let last = self.last.map_or(0, |(lsn, _)| lsn);
        require(lsn >= last, || format!("global_last_seen_lsn {lsn} is behind the shape's own {last}"))?;
        self.seen_lsn = self.seen_lsn.max(lsn);
        Ok(())
    }

    fn check_change(&mut self, message: &Value, position: (u64, u64)) -> Result<(), String> {
        let last = self.last;
        require(last < Some(position), || format!("{position:?} comes after {last:?}: {message}"))?;
        self.last = Some(position);
        let lsn = position.0;
        require(self.open.is_none_or(|open| open == lsn), || {
            format!("the transaction before had no last: {message}")
        })?;
        self.open = (message["headers"]["last"] != true).then_some(lsn);
        Ok(())
    }

    /// The highest `global_last_seen_lsn` so far.
    #[must_use]
    pub const fn seen_lsn(&self) -> u64 {
        self.seen_lsn
    }
}

/// The LSN of an up-to-date message.
#[must_use]
pub fn up_to_date_lsn(message: &Value) -> Option<u64> {
    if control(message) != Some("up-to-date") {
        return None;
    }
    message["headers"]["global_last_seen_lsn"].as_str()?.parse().ok()
}

fn require(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
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

    fn check(checker: &mut LogChecker, messages: &[Value], offset: &str) -> Result<(), String> {
        let mut headers = vec![("electric-offset".to_owned(), offset.to_owned())];
        if messages.last().and_then(control).is_some() {
            headers.push(("electric-up-to-date".to_owned(), String::new()));
        }
        checker.check(&Response { status: 200, headers, body: Vec::new() }, messages)
    }

    fn up_to_date(lsn: u64) -> Value {
        json!({ "headers": { "control": "up-to-date", "global_last_seen_lsn": lsn.to_string() } })
    }

    fn broken(messages: &[Value], offset: &str) -> String {
        check(&mut LogChecker::default(), messages, offset).expect_err("a rule is broken")
    }

    #[test]
    fn a_log_in_order_passes() {
        let mut checker = LogChecker::default();
        check(&mut checker, &[change(10, 0, false)], "10_0").unwrap();
        check(&mut checker, &[change(10, 4, true), change(12, 2, true), up_to_date(13)], "12_2").unwrap();
        assert_eq!(checker.seen_lsn(), 13);
    }

    #[test]
    fn what_has_no_position_moves_the_offset_on() {
        let event = json!({ "headers": { "event": "move-out" } });
        check(&mut LogChecker::default(), &[change(10, 0, true), event, up_to_date(13)], "10_1").unwrap();
    }

    #[test]
    fn a_repeated_change_does_not_pass() {
        let twice = [change(10, 0, true), change(10, 0, true)];
        assert!(broken(&twice, "10_0").contains("comes after"));
    }

    #[test]
    fn up_to_date_inside_a_transaction_does_not_pass() {
        assert!(broken(&[change(10, 0, false), up_to_date(10)], "10_0").contains("inside a transaction"));
    }

    #[test]
    fn an_unfinished_transaction_does_not_pass() {
        assert!(broken(&[change(10, 0, false), change(11, 0, true)], "11_0").contains("had no last"));
    }

    #[test]
    fn an_lsn_that_falls_back_does_not_pass() {
        assert!(broken(&[change(10, 0, true), up_to_date(9)], "10_0").contains("is behind"));
    }

    #[test]
    fn another_offset_does_not_pass() {
        assert!(broken(&[change(10, 0, true), up_to_date(10)], "10_2").contains("not that of the last"));
    }
}
