//! Whether an answer is the recorded one: equal, but for values that differ in every run. Those must have
//! the recorded form, and the same recorded value must be the same value here, wherever it comes up.

use crate::answer::{Answer, events};
use crate::moves::{self, Places};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// Which value of this run stands for which recorded one.
#[derive(Debug, Clone, Default)]
pub struct Likeness {
    handles: Pairs,
    lsns: Pairs,
    transactions: Pairs,
    tags: Pairs,
    marks: Pairs,
    moves: Places,
}

/// A one-to-one relation of recorded values and ours.
#[derive(Debug, Clone, Default)]
struct Pairs {
    ours: BTreeMap<String, String>,
    recorded: BTreeMap<String, String>,
}

/// What is different, and where.
#[derive(Debug)]
pub struct Difference {
    at: String,
    recorded: Value,
    ours: Value,
}

/// Headers that were always recorded where they came, besides all that begin with `electric-`.
const RECORDED: [&str; 5] = ["content-type", "cache-control", "etag", "retry-after", "surrogate-control"];

/// Comes with every answer, and was recorded in few files.
const SERVER: &str = "electric-server";

impl Likeness {
    /// Compares an answer with the recorded one. `also` are beginnings of names of further headers that
    /// were recorded in that file wherever they came; of those in `volatile` only the form counts.
    pub fn differences(
        &mut self,
        recorded: &Value,
        answer: &Answer,
        also: &[&str],
        volatile: &[String],
    ) -> Vec<Difference> {
        let mut found = Vec::new();
        if recorded["status"] != json!(answer.status) {
            found.push(Difference::new("status", &recorded["status"], &json!(answer.status)));
        }
        self.moves.visit(recorded, &answer.headers);
        self.headers(&recorded["headers"], answer, also, volatile, &mut found);
        match recorded.get("body_omitted") {
            Some(omitted) => self.long_body(omitted, &answer.body, &mut found),
            None => self.body(recorded, answer, &mut found),
        }
        if let Some(closed) = recorded.get("stream_closed_by_server")
            && answer.closed_by_server != closed.as_bool()
        {
            found.push(Difference::new("stream_closed_by_server", closed, &json!(answer.closed_by_server)));
        }
        found
    }

    /// The text in recorded terms: what stands for a recorded value is replaced by it.
    pub fn as_recorded(&self, text: &str) -> String {
        let moved =
            self.moves.pairs().fold(text.to_owned(), |text, (recorded, ours)| text.replace(ours, recorded));
        let pairs = self.handles.recorded.iter().chain(&self.lsns.recorded).chain(&self.tags.recorded);
        pairs.fold(moved, |text, (ours, recorded)| text.replace(ours, recorded))
    }

    /// The text in terms of this run: recorded handles and positions are replaced by what stands for them.
    pub fn as_ours(&self, text: &str) -> String {
        let pairs = self.handles.ours.iter().chain(&self.lsns.ours);
        pairs.fold(text.to_owned(), |text, (recorded, ours)| text.replace(recorded, ours))
    }

    fn headers(
        &mut self,
        recorded: &Value,
        answer: &Answer,
        also: &[&str],
        volatile: &[String],
        found: &mut Vec<Difference>,
    ) {
        let recorded = recorded.as_object().expect("headers are an object");
        let was_recorded = |name: &str| {
            RECORDED.contains(&name)
                || (name.starts_with("electric-") && name != SERVER)
                || also.iter().any(|start| name.starts_with(start))
        };
        let extra = answer.headers.keys().filter(|name| was_recorded(name) && !recorded.contains_key(*name));
        for name in recorded.keys().chain(extra) {
            let theirs = recorded.get(name).and_then(Value::as_str);
            let ours = answer.headers.get(name).map(String::as_str);
            let alike = match (theirs, ours) {
                (Some(_), Some(ours)) if volatile.contains(name) && name.starts_with("x-") => {
                    !ours.is_empty()
                }
                (Some(theirs), Some(ours)) => self.header(name, theirs, ours),
                _ => false,
            };
            if !alike {
                found.push(Difference::new(&format!("headers.{name}"), &json!(theirs), &json!(ours)));
            }
        }
    }

    fn header(&mut self, name: &str, recorded: &str, ours: &str) -> bool {
        match name {
            "electric-handle" => self.handle(recorded, ours),
            "electric-offset" => self.offset(recorded, ours),
            "electric-cursor" => is_number(ours),
            "electric-schema" => {
                let schema = |text: &str| serde_json::from_str::<Value>(&from_latin1(text)).ok();
                schema(recorded).is_some_and(|recorded| schema(ours) == Some(recorded))
            }
            "etag" => recorded == ours || self.etag(recorded, ours),
            _ => recorded == ours,
        }
    }

    fn handle(&mut self, recorded: &str, ours: &str) -> bool {
        ours.split_once('-').is_some_and(|(hash, time)| is_number(hash) && is_number(time))
            && self.handles.pair(recorded, ours)
    }

    /// `-1`, `now`, `0_…`, or the position of a change in the WAL and its number there.
    fn offset(&mut self, recorded: &str, ours: &str) -> bool {
        if let Some(moved) = self.moves.ours(recorded) {
            return ours == moved;
        }
        match (recorded.split_once('_'), ours.split_once('_')) {
            (Some((lsn, op)), Some((our_lsn, our_op))) if lsn != "0" => {
                op == our_op && self.lsn(lsn, our_lsn)
            }
            _ => recorded == ours,
        }
    }

    fn lsn(&mut self, recorded: &str, ours: &str) -> bool {
        is_number(ours) && self.lsns.keep_order(recorded, ours) && self.lsns.pair(recorded, ours)
    }

    /// `"<handle>:<from>:<to>"`, and for an answer that may not be kept something that makes it unique.
    fn etag(&mut self, recorded: &str, ours: &str) -> bool {
        let parts = |text: &'_ str| -> Option<Vec<String>> {
            let text = text.strip_prefix('"')?.strip_suffix('"')?;
            Some(text.split(':').map(str::to_owned).collect())
        };
        let (Some(recorded), Some(ours)) = (parts(recorded), parts(ours)) else { return false };
        match (recorded.as_slice(), ours.as_slice()) {
            ([handle, from, to, rest @ ..], [our_handle, our_from, our_to, our_rest @ ..]) => {
                rest.len() == our_rest.len()
                    && our_rest.iter().all(|unique| is_number(unique.trim_start_matches('-')))
                    && self.handle(handle, our_handle)
                    && self.offset(from, our_from)
                    && self.offset(to, our_to)
            }
            _ => false,
        }
    }

    fn body(&mut self, recorded: &Value, answer: &Answer, found: &mut Vec<Difference>) {
        let body = &recorded["body"];
        let streamed = recorded.get("stream_closed_by_server").is_some();
        match body.as_str().filter(|_| streamed) {
            Some(text) => {
                let recorded_events = events(text.as_bytes());
                let mut ours = answer.body.clone();
                if let (Value::Array(ours), Some(false)) =
                    (&mut ours, recorded["stream_closed_by_server"].as_bool())
                {
                    // The record ends where reading stopped.
                    ours.truncate(recorded_events.len());
                }
                self.value("body", "", &Value::Array(recorded_events), &ours, found);
            }
            None => {
                let (mut recorded, mut ours) = (body.clone(), answer.body.clone());
                moves::sort_rows(&mut recorded);
                moves::sort_rows(&mut ours);
                self.value("body", "", &recorded, &ours, found);
            }
        }
        self.last_seen(&answer.body, found);
    }

    fn long_body(&mut self, omitted: &Value, ours: &Value, found: &mut Vec<Difference>) {
        let ours = ours.as_array().map(Vec::as_slice).unwrap_or_default();
        if omitted["messages"] != json!(ours.len()) {
            found.push(Difference::new("body.length", &omitted["messages"], &json!(ours.len())));
            return;
        }
        let ends = [("first", &ours[..2]), ("last", &ours[ours.len() - 2..])];
        for (name, messages) in ends {
            let messages = Value::Array(messages.to_vec());
            self.value(&format!("body.{name}"), "", &omitted[name], &messages, found);
        }
    }

    fn value(&mut self, at: &str, key: &str, recorded: &Value, ours: &Value, found: &mut Vec<Difference>) {
        if let Some(alike) = self.volatile(key, recorded, ours) {
            if !alike {
                found.push(Difference::new(at, recorded, ours));
            }
            return;
        }
        match (recorded, ours) {
            // A row: its values are exactly those recorded.
            (Value::Object(_), Value::Object(_)) if key == "value" || key == "old_value" => {
                if recorded != ours {
                    found.push(Difference::new(at, recorded, ours));
                }
            }
            (Value::Object(theirs), Value::Object(mine)) if same_keys(theirs, mine) => {
                for (key, value) in theirs {
                    self.value(&format!("{at}.{key}"), key, value, &mine[key], found);
                }
            }
            (Value::Array(theirs), Value::Array(mine)) if theirs.len() == mine.len() => {
                for (index, (value, our_value)) in theirs.iter().zip(mine).enumerate() {
                    self.value(&format!("{at}[{index}]"), "", value, our_value, found);
                }
            }
            _ if without_stream_id(recorded) == without_stream_id(ours) => {}
            _ => found.push(Difference::new(at, recorded, ours)),
        }
    }

    /// Whether a value that differs in every run is like the recorded one. Nothing for other values.
    fn volatile(&mut self, key: &str, recorded: &Value, ours: &Value) -> Option<bool> {
        let number = |value: &Value| value.as_str().is_some_and(is_number);
        let same_text = |alike: &mut dyn FnMut(&str, &str) -> bool| match (recorded, ours) {
            (Value::String(recorded), Value::String(ours)) => alike(recorded, ours),
            _ => false,
        };
        Some(match key {
            "lsn" => same_text(&mut |recorded, ours| self.lsn(recorded, ours)),
            "global_last_seen_lsn" | "database_lsn" | "xmin" | "xmax" => number(ours),
            "xip_list" => ours.as_array().is_some_and(|list| list.iter().all(number)),
            "txids" => all_pairs(recorded, ours, |recorded, ours| {
                ours.is_u64() && self.transactions.pair(&recorded.to_string(), &ours.to_string())
            }),
            "snapshot_mark" => ours.is_u64() && self.marks.pair(&recorded.to_string(), &ours.to_string()),
            "tags" | "removed_tags" => all_pairs(recorded, ours, |recorded, ours| {
                self.tag(recorded.as_str().unwrap_or_default(), ours.as_str().unwrap_or_default())
            }),
            "patterns" => self.patterns(recorded, ours),
            _ => return None,
        })
    }

    /// Hashes, one for each place, some of them empty.
    fn tag(&mut self, recorded: &str, ours: &str) -> bool {
        let (recorded, ours): (Vec<_>, Vec<_>) = (recorded.split('/').collect(), ours.split('/').collect());
        recorded.len() == ours.len()
            && recorded.iter().zip(&ours).all(|(recorded, ours)| {
                recorded.is_empty() == ours.is_empty() && (ours.is_empty() || self.tags.pair(recorded, ours))
            })
    }

    /// One pattern is a tag like others; of several it is not known which is which.
    fn patterns(&mut self, recorded: &Value, ours: &Value) -> bool {
        let alike = moves::same_patterns(recorded, ours, |value| self.tags.ours.get(value).cloned());
        let one = |list: &Value| match list.as_array().map(Vec::as_slice) {
            Some([pattern]) => pattern["value"].as_str().map(str::to_owned),
            _ => None,
        };
        alike
            && match (one(recorded), one(ours)) {
                (Some(recorded), Some(ours)) => self.tags.pair(&recorded, &ours),
                _ => true,
            }
    }

    /// An up-to-date message has seen all that came with it.
    fn last_seen(&self, body: &Value, found: &mut Vec<Difference>) {
        let messages = body.as_array().map(Vec::as_slice).unwrap_or_default();
        let number = |message: &Value, key: &str| message["headers"][key].as_str()?.parse::<u64>().ok();
        let newest = messages.iter().filter_map(|message| number(message, "lsn")).max();
        let seen = messages.iter().filter_map(|message| number(message, "global_last_seen_lsn")).next_back();
        if seen < newest && seen.is_some() {
            found.push(Difference::new("global_last_seen_lsn", &json!(newest), &json!(seen)));
        }
    }
}

impl Pairs {
    /// Whether the two belong together; they do from now on, if both are new.
    fn pair(&mut self, recorded: &str, ours: &str) -> bool {
        let (known, known_recorded) = (self.ours.get(recorded), self.recorded.get(ours));
        if known.is_none() && known_recorded.is_none() {
            self.ours.insert(recorded.to_owned(), ours.to_owned());
            self.recorded.insert(ours.to_owned(), recorded.to_owned());
            return true;
        }
        known.is_some_and(|known| known == ours)
    }

    /// Whether numbers that are less than `recorded` have partners that are less than `ours`, and so on.
    fn keep_order(&self, recorded: &str, ours: &str) -> bool {
        let number = |text: &str| text.parse::<u64>().unwrap_or_default();
        let (at, ours_at) = (number(recorded), number(ours));
        self.ours.iter().all(|(other, partner)| number(other).cmp(&at) == number(partner).cmp(&ours_at))
    }
}

impl Difference {
    fn new(at: &str, recorded: &Value, ours: &Value) -> Self {
        Self { at: at.to_owned(), recorded: recorded.clone(), ours: ours.clone() }
    }

    /// Where: `status`, `headers.<name>`, or a path into the body.
    pub fn at(&self) -> &str {
        &self.at
    }
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: recorded {}, now {}", self.at, shortened(&self.recorded), shortened(&self.ours))
    }
}

fn shortened(value: &Value) -> String {
    const CHARACTERS_MAX: usize = 400;
    let text = value.to_string();
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Headers were recorded byte by byte; some are UTF-8.
fn from_latin1(text: &str) -> String {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| text.to_owned())
}

fn same_keys(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    one.len() == other.len() && one.keys().all(|key| other.contains_key(key))
}

fn all_pairs(recorded: &Value, ours: &Value, mut alike: impl FnMut(&Value, &Value) -> bool) -> bool {
    match (recorded, ours) {
        (Value::Array(recorded), Value::Array(ours)) => {
            recorded.len() == ours.len()
                && recorded.iter().zip(ours).all(|(recorded, ours)| alike(recorded, ours))
        }
        _ => false,
    }
}

/// A text in which the publication's name is no longer that of one server.
fn without_stream_id(value: &Value) -> Value {
    const PREFIX: &str = "electric_publication_";
    let Some(text) = value.as_str() else { return value.clone() };
    let mut parts = text.split(PREFIX);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        plain += PREFIX;
        plain += &part[end..];
    }
    Value::String(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(offset: &str, body: Value) -> Answer {
        let headers = BTreeMap::from([
            ("electric-offset".to_owned(), offset.to_owned()),
            ("electric-handle".to_owned(), "7-8".to_owned()),
            ("etag".to_owned(), format!("\"7-8:0_inf:{offset}\"")),
        ]);
        Answer { status: 200, headers, body, closed_by_server: None, seconds: 0.0 }
    }

    fn message(lsn: &str, op: u32) -> Value {
        json!([{ "value": { "lsn": "1" }, "headers": { "lsn": lsn, "op_position": op, "txids": [9] } }])
    }

    fn recorded(lsn: &str) -> Value {
        let headers = json!({
            "electric-offset": format!("{lsn}_0"),
            "electric-handle": "1-2",
            "etag": format!("\"1-2:0_inf:{lsn}_0\""),
        });
        json!({ "status": 200, "headers": headers, "body": message(lsn, 0) })
    }

    #[test]
    fn values_that_change_from_run_to_run_keep_their_equalities() {
        let mut likeness = Likeness::default();
        let mut differences = |recorded: &Value, answer: &Answer| -> Vec<String> {
            let found = likeness.differences(recorded, answer, &[], &[]);
            found.iter().map(|difference| difference.at().to_owned()).collect()
        };
        assert!(differences(&recorded("500"), &answer("30_0", message("30", 0))).is_empty());
        assert!(differences(&recorded("600"), &answer("40_0", message("40", 0))).is_empty());
        let other_op = answer("40_0", message("40", 1));
        assert_eq!(differences(&recorded("600"), &other_op), ["body[0].headers.op_position"]);
        let older = answer("20_0", message("20", 0));
        assert!(differences(&recorded("700"), &older).contains(&"headers.electric-offset".to_owned()));
        assert!(differences(&recorded("500"), &answer("30_0", message("40", 0))).len() == 1);
    }

    #[test]
    fn headers_that_were_recorded_wherever_they_came_may_not_be_new() {
        let mut extra = answer("30_0", message("30", 0));
        extra.headers.insert("electric-new".to_owned(), "1".to_owned());
        extra.headers.insert("vary".to_owned(), "x".to_owned());
        extra.headers.insert("date".to_owned(), "x".to_owned());
        let found = Likeness::default().differences(&recorded("500"), &extra, &["vary"], &[]);
        let found: Vec<&str> = found.iter().map(Difference::at).collect();
        assert_eq!(found, ["headers.electric-new", "headers.vary"]);
    }
}
