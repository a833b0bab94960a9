//! Moves: the events by which rows of a shape with subqueries leave and come. Where Limn's differ from the recorded
//! ones by a rule, whatever was asked:
//!
//! * Electric gives a move the offsets behind the shape's newest, which are `1_0`, `1_1`, … where there is none.
//!   Limn derives them from the commit of the transactions that caused it, so that they are the same after a
//!   restart. They must have the form, grow, and be one offset here wherever they are one in the record.
//! * The rows of a move are in the order of a scan, and patterns are in none.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Which offset here stands for which recorded one, where a move took it: by recorded handle and offset.
#[derive(Debug, Clone, Default)]
pub struct Places {
    ours: BTreeMap<(String, String), String>,
    /// The newest offset of each shape that was answered here.
    newest: BTreeMap<String, (u64, u64)>,
    /// The recorded handle that is being compared.
    handle: String,
}

impl Places {
    /// Takes the place of an answer: recorded, and here.
    pub fn visit(&mut self, recorded: &Value, headers: &BTreeMap<String, String>) {
        let header = |name: &str| recorded["headers"][name].as_str().unwrap_or_default().to_owned();
        self.handle = header("electric-handle");
        let Some((ours, place)) =
            headers.get("electric-offset").and_then(|text| Some((text, position(text)?)))
        else {
            return;
        };
        let newest = self.newest.insert(self.handle.clone(), place);
        if ends_in_a_move(&recorded["body"]) && newest < Some(place) {
            let key = (self.handle.clone(), header("electric-offset"));
            self.ours.entry(key).or_insert_with(|| ours.clone());
        }
    }

    /// The offset here that stands for a recorded one, if a move took it.
    pub fn ours(&self, recorded: &str) -> Option<&str> {
        self.ours.get(&(self.handle.clone(), recorded.to_owned())).map(String::as_str)
    }

    /// Pairs of recorded offsets and ours.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ours.iter().map(|((_, recorded), ours)| (recorded.as_str(), ours.as_str()))
    }
}

/// Puts the rows of each move of a body into the order of their keys.
pub fn sort_rows(body: &mut Value) {
    let Some(messages) = body.as_array_mut() else { return };
    for rows in messages.chunk_by_mut(|one, other| is_moved_in(one) && is_moved_in(other)) {
        rows.sort_by_key(|row| row["key"].to_string());
    }
}

/// Whether two lists of patterns are alike: as many at each position, and those known by `partner` at the same one.
pub fn same_patterns(recorded: &Value, ours: &Value, partner: impl Fn(&str) -> Option<String>) -> bool {
    let (Some(recorded), Some(ours)) = (patterns(recorded), patterns(ours)) else { return false };
    let positions = |patterns: &[(u64, String)]| {
        let mut positions: Vec<u64> = patterns.iter().map(|(position, _)| *position).collect();
        positions.sort_unstable();
        positions
    };
    let known = |(position, value): &(u64, String)| {
        partner(value).is_none_or(|value| ours.contains(&(*position, value)))
    };
    positions(&recorded) == positions(&ours) && recorded.iter().all(known)
}

fn patterns(list: &Value) -> Option<Vec<(u64, String)>> {
    let pattern = |pattern: &Value| {
        let fields = pattern.as_object().filter(|fields| has_exactly(fields, ["pos", "value"]))?;
        Some((fields["pos"].as_u64()?, fields["value"].as_str()?.to_owned()))
    };
    list.as_array()?.iter().map(pattern).collect()
}

fn has_exactly(fields: &Map<String, Value>, names: [&str; 2]) -> bool {
    fields.len() == names.len() && names.iter().all(|name| fields.contains_key(*name))
}

/// Whether the last thing that a body tells, but that it is up to date, is part of a move.
fn ends_in_a_move(body: &Value) -> bool {
    let messages = body.as_array().map(Vec::as_slice).unwrap_or_default();
    let told = messages.iter().rev().find(|message| message["headers"]["control"] != "up-to-date");
    let has_event = messages.iter().any(|message| message["headers"].get("event").is_some());
    has_event && told.is_some_and(|message| message["headers"].get("lsn").is_none())
}

fn is_moved_in(message: &Value) -> bool {
    message["headers"]["is_move_in"] == true
}

/// An offset in the WAL.
fn position(offset: &str) -> Option<(u64, u64)> {
    let (lsn, op) = offset.split_once('_')?;
    Some((lsn.parse().ok().filter(|lsn| *lsn > 0)?, op.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn visit(places: &mut Places, recorded: &str, ours: &str, body: &Value) {
        let headers = json!({ "electric-handle": "1-2", "electric-offset": recorded });
        let ours = BTreeMap::from([("electric-offset".to_owned(), ours.to_owned())]);
        places.visit(&json!({ "headers": headers, "body": body }), &ours);
    }

    #[test]
    fn moves_take_growing_offsets() {
        let event = json!([{ "headers": { "event": "move-out" } }]);
        let mut places = Places::default();
        visit(&mut places, "1_0", "50_2", &event);
        visit(&mut places, "1_1", "60_2", &event);
        assert_eq!((places.ours("1_0"), places.ours("1_1")), (Some("50_2"), Some("60_2")));
        visit(&mut places, "1_2", "60_2", &event);
        assert_eq!(places.ours("1_2"), None, "it did not grow");
        visit(&mut places, "70_0", "61_0", &json!([{ "headers": { "lsn": "70" } }]));
        visit(&mut places, "1_3", "0_inf", &event);
        assert_eq!((places.ours("70_0"), places.ours("1_3")), (None, None));
    }

    #[test]
    fn rows_and_patterns_have_no_order() {
        let row = |key: &str| json!({ "key": key, "headers": { "is_move_in": true } });
        let mut body = json!([row("b"), { "headers": {} }, row("d"), row("c")]);
        sort_rows(&mut body);
        assert_eq!(body, json!([row("b"), { "headers": {} }, row("c"), row("d")]));
        let list =
            |values: [&str; 2]| json!([{ "pos": 0, "value": values[0] }, { "pos": 0, "value": values[1] }]);
        let partner = |value: &str| (value == "a").then(|| "x".to_owned());
        assert!(same_patterns(&list(["a", "b"]), &list(["y", "x"]), partner));
        assert!(!same_patterns(&list(["a", "b"]), &list(["y", "z"]), partner));
        assert!(!same_patterns(&list(["a", "b"]), &json!([{ "pos": 0, "value": "x" }]), partner));
    }
}
