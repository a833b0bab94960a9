//! The rows that a log's messages come to. Shapes with subqueries are in it: their rows carry tags, and events move
//! rows out and in by them.

use crate::postgres::Row;
use serde_json::Value;
use std::collections::BTreeMap;

/// A shape's rows as a client has them.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    rows: BTreeMap<String, Tagged>,
    version: u64,
}

/// A row and what decides whether it is shown.
#[derive(Debug, Clone, Default, PartialEq)]
struct Tagged {
    row: Row,
    /// One per disjunct; the slots of a tag are separated by `/`, and positions of other disjuncts are empty.
    tags: Vec<String>,
    /// The truth of each position.
    active: Vec<bool>,
}

impl Rows {
    /// Applies a message; control messages change nothing.
    ///
    /// # Errors
    /// What does not fit: a row that is inserted twice, or changed without being there, or whose old values differ.
    pub fn apply(&mut self, message: &Value) -> Result<(), String> {
        let headers = &message["headers"];
        let applied = match (headers["operation"].as_str(), headers["event"].as_str()) {
            (Some("insert"), None) => self.insert(message),
            (Some("update"), None) => self.update(message),
            (Some("delete"), None) => self.delete(message),
            (None, Some("move-in")) => self.switch(headers, true),
            (None, Some("move-out")) => self.switch(headers, false),
            (None, None) if headers["control"].is_string() => return Ok(()),
            _ => Err("unknown message".to_owned()),
        };
        self.version += 1;
        applied.map_err(|broken| format!("{broken}: {message}"))
    }

    /// Applies a change that may have been applied before. Whoever resumes an event stream at the LSN of its last
    /// up-to-date message is sent the later changes of that transaction again.
    ///
    /// # Errors
    /// Where it is no message of a shape.
    pub fn apply_again(&mut self, message: &Value) -> Result<(), String> {
        let key = message["key"].as_str().unwrap_or_default();
        match message["headers"]["operation"].as_str() {
            Some("insert") => drop(self.rows.remove(key)),
            Some("update" | "delete") if !self.rows.contains_key(key) => return Ok(()),
            _ => {}
        }
        self.apply(message)
    }

    /// The rows that the shape shows, with their keys.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &Row)> {
        self.rows.iter().map(|(key, tagged)| (key.as_str(), &tagged.row))
    }

    /// Grows with every change.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    fn insert(&mut self, message: &Value) -> Result<(), String> {
        let tagged = Tagged {
            row: row(&message["value"])?,
            tags: strings(&message["headers"]["tags"])?,
            active: truths(&message["headers"]["active_conditions"])?,
        };
        let key = key(message)?;
        if self.rows.contains_key(&key) {
            return Err("inserted twice".to_owned());
        }
        if tagged.is_shown() {
            self.rows.insert(key, tagged);
        }
        Ok(())
    }

    fn update(&mut self, message: &Value) -> Result<(), String> {
        let key = key(message)?;
        let found = self.rows.get_mut(&key).ok_or("updated, and not there")?;
        if let Some(old) = message.get("old_value") {
            agree(&found.row, &row(old)?, "another old value")?;
        }
        found.row.extend(row(&message["value"])?);
        let headers = &message["headers"];
        let (tags, removed) = (strings(&headers["tags"])?, strings(&headers["removed_tags"])?);
        found.tags.retain(|tag| !removed.contains(tag) && !tags.contains(tag));
        found.tags.extend(tags);
        if headers.get("active_conditions").is_some() {
            found.active = truths(&headers["active_conditions"])?;
        }
        if !found.is_shown() {
            self.rows.remove(&key);
        }
        Ok(())
    }

    fn delete(&mut self, message: &Value) -> Result<(), String> {
        let removed = self.rows.remove(&key(message)?).ok_or("deleted, and not there")?;
        agree(&removed.row, &row(&message["value"])?, "another row was deleted")
    }

    /// Carries out a move.
    fn switch(&mut self, headers: &Value, active: bool) -> Result<(), String> {
        for pattern in headers["patterns"].as_array().ok_or("a move has patterns")? {
            let position = pattern["pos"].as_u64().and_then(|position| usize::try_from(position).ok());
            let position = position.ok_or("a pattern has a position")?;
            let value = pattern["value"].as_str().ok_or("a pattern has a value")?;
            for tagged in self.rows.values_mut().filter(|tagged| tagged.has(position, value)) {
                *tagged.active.get_mut(position).ok_or("a position that a row does not have")? = active;
            }
        }
        self.rows.retain(|_, tagged| tagged.is_shown());
        Ok(())
    }
}

impl Tagged {
    /// Whether a tag has that value at that position.
    fn has(&self, position: usize, value: &str) -> bool {
        self.tags.iter().any(|tag| tag.split('/').nth(position) == Some(value))
    }

    /// Whether some tag has all its positions active.
    fn is_shown(&self) -> bool {
        let active = |position: usize| self.active.get(position).copied().unwrap_or(false);
        let satisfied = |tag: &String| {
            tag.split('/').enumerate().all(|(position, slot)| slot.is_empty() || active(position))
        };
        self.tags.is_empty() || self.tags.iter().any(satisfied)
    }
}

/// Whether the message changes a row.
#[must_use]
pub fn is_change(message: &Value) -> bool {
    message["headers"].get("operation").is_some()
}

fn key(message: &Value) -> Result<String, String> {
    Ok(message["key"].as_str().ok_or("a change has a key")?.to_owned())
}

fn row(value: &Value) -> Result<Row, String> {
    let columns = value.as_object().ok_or("a row is an object")?;
    let cell = |(name, value): (&String, &Value)| match value {
        Value::Null => Ok((name.clone(), None)),
        Value::String(text) => Ok((name.clone(), Some(text.clone()))),
        _ => Err("values are strings or null".to_owned()),
    };
    columns.iter().map(cell).collect()
}

fn agree(row: &Row, told: &Row, otherwise: &str) -> Result<(), String> {
    match told.iter().all(|(column, value)| row.get(column) == Some(value)) {
        true => Ok(()),
        false => Err(format!("{otherwise} than {row:?}")),
    }
}

fn strings(value: &Value) -> Result<Vec<String>, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("tags are strings".to_owned());
    value.as_array().map_or(Ok(Vec::new()), |values| values.iter().map(text).collect())
}

fn truths(value: &Value) -> Result<Vec<bool>, String> {
    let truth = |value: &Value| value.as_bool().ok_or("conditions are booleans".to_owned());
    value.as_array().map_or(Ok(Vec::new()), |values| values.iter().map(truth).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn insert(key: &str, tags: &[&str], active: &[bool]) -> Value {
        json!({ "key": key, "value": { "id": key },
                "headers": { "operation": "insert", "tags": tags, "active_conditions": active } })
    }

    fn moved(event: &str, position: u32, value: &str) -> Value {
        json!({ "headers": { "event": event, "patterns": [{ "pos": position, "value": value }] } })
    }

    fn rows(messages: &[Value]) -> Vec<String> {
        let mut rows = Rows::default();
        for message in messages {
            rows.apply(message).unwrap();
        }
        rows.shown().map(|(key, _)| key.to_owned()).collect()
    }

    #[test]
    fn a_row_without_tags_is_shown() {
        let plain = json!({ "key": "a", "value": {}, "headers": { "operation": "insert" } });
        assert_eq!(rows(&[plain]), ["a"]);
    }

    #[test]
    fn the_last_satisfied_disjunct_keeps_a_row() {
        let both = insert("a", &["x/", "/y"], &[true, true]);
        assert_eq!(rows(&[both.clone(), moved("move-out", 0, "x")]), ["a"]);
        let neither = [both.clone(), moved("move-out", 0, "x"), moved("move-out", 1, "y")];
        assert_eq!(rows(&neither), [] as [&str; 0]);
        let again = [both, moved("move-out", 0, "x"), moved("move-in", 0, "x"), moved("move-out", 1, "y")];
        assert_eq!(rows(&again), ["a"]);
    }

    #[test]
    fn other_values_and_positions_stay() {
        let messages =
            [insert("a", &["x/1"], &[true, true]), moved("move-out", 0, "z"), moved("move-out", 1, "x")];
        assert_eq!(rows(&messages), ["a"]);
    }

    #[test]
    fn an_update_changes_the_tags() {
        let update = json!({ "key": "a", "value": {},
            "headers": { "operation": "update", "tags": ["y"], "removed_tags": ["x"], "active_conditions": [true] } });
        assert_eq!(rows(&[insert("a", &["x"], &[true]), update.clone(), moved("move-out", 0, "x")]), ["a"]);
        let gone = [insert("a", &["x"], &[true]), update, moved("move-out", 0, "y")];
        assert_eq!(rows(&gone), [] as [&str; 0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut rows = Rows::default();
        rows.apply(&insert("a", &[], &[])).unwrap();
        assert!(rows.apply(&insert("a", &[], &[])).unwrap_err().starts_with("inserted twice"));
        let delete = json!({ "key": "b", "value": {}, "headers": { "operation": "delete" } });
        assert!(rows.apply(&delete).unwrap_err().starts_with("deleted, and not there"));
    }
}
