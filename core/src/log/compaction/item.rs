//! Items as a compaction sees them, and two updates of one row as one.

use crate::log::item::{ITEM_SUFFIX, LAST_SUFFIX, push_json_string};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// An item that is no insert, update or delete of a row, as compaction expects them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an item of the log is not a change of a row: {0}")]
pub struct NotAChange(String);

impl From<serde_json::Error> for NotAChange {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// The parts of an item.
#[derive(Debug, Deserialize)]
pub(super) struct Change<'a> {
    #[serde(borrow)]
    pub(super) key: &'a RawValue,
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(borrow)]
    headers: &'a RawValue,
}

/// The change that an item makes to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Operation {
    Insert,
    Update,
    Delete,
}

#[derive(Deserialize)]
struct Headers {
    operation: Operation,
}

impl<'a> Change<'a> {
    pub(super) fn read(item: &'a [u8]) -> Result<Self, NotAChange> {
        Ok(serde_json::from_slice(item)?)
    }

    pub(super) fn operation(&self) -> Result<Operation, NotAChange> {
        Ok(serde_json::from_str::<Headers>(self.headers.get())?.operation)
    }

    /// This update, and in it what an `earlier` one of the same row changed: the end of the item is left out. It tells no old
    /// values: those depend on which of the two a client has seen.
    pub(super) fn merged(&self, earlier: &Self) -> Result<Vec<u8>, NotAChange> {
        let mut item = b"{\"key\":".to_vec();
        item.extend_from_slice(self.key.get().as_bytes());
        item.extend_from_slice(b",\"value\":");
        push_columns(&mut item, earlier.value, self.value)?;
        item.extend_from_slice(b",\"headers\":");
        let (headers, _) = without_suffix(self.headers.get().as_bytes(), 1);
        item.extend_from_slice(headers);
        Ok(item)
    }
}

/// The item without its end, and whether that says that it is its transaction's last.
pub(super) fn split_suffix(item: &[u8]) -> (&[u8], bool) {
    without_suffix(item, 0)
}

/// Takes the end of an item away, but for `outer` of its braces.
fn without_suffix(text: &[u8], outer: usize) -> (&[u8], bool) {
    let end = |suffix: &'static [u8]| suffix.get(..suffix.len() - outer).unwrap_or_default();
    match text.strip_suffix(end(LAST_SUFFIX)) {
        Some(body) => (body, true),
        None => (text.strip_suffix(end(ITEM_SUFFIX)).unwrap_or(text), false),
    }
}

/// Appends the columns of both, as the later one has them.
fn push_columns(out: &mut Vec<u8>, earlier: &RawValue, later: &RawValue) -> Result<(), NotAChange> {
    let Columns(mut columns) = serde_json::from_str(earlier.get())?;
    let Columns(laters) = serde_json::from_str(later.get())?;
    for (name, value) in laters {
        match columns.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => columns.push((name, value)),
        }
    }
    out.push(b'{');
    for (index, (name, value)) in columns.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_json_string(out, name.as_bytes());
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
    Ok(())
}

/// The columns of a row, in their order.
struct Columns<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Columns<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ColumnsVisitor)
    }
}

struct ColumnsVisitor;

impl<'de> Visitor<'de> for ColumnsVisitor {
    type Value = Columns<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the columns of a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns<'de>, A::Error> {
        let mut columns = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            columns.push((name, map.next_value()?));
        }
        Ok(Columns(columns))
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn merged(earlier: &str, later: &str) -> String {
        let [earlier, later] = [earlier, later].map(|item| Change::read(item.as_bytes()).unwrap());
        String::from_utf8(later.merged(&earlier).unwrap()).unwrap()
    }

    #[test]
    fn a_merged_update_has_what_both_changed() {
        let earlier =
            r#"{"key":"k","value":{"id":"1","a\"":"2","b":"3"},"headers":{"operation":"update","lsn":"7"}}"#;
        let later = r#"{"key":"k","value":{"id":"1","b":null,"c":"\n"},"headers":{"operation":"update","lsn":"9","last":true}}"#;
        let both = r#"{"key":"k","value":{"id":"1","a\"":"2","b":null,"c":"\n"},"headers":{"operation":"update","lsn":"9""#;
        assert_eq!(merged(earlier, later), both);
    }

    #[test]
    fn a_merged_update_tells_no_old_values() {
        let earlier =
            r#"{"key":"k","value":{"a":"2","b":"3"},"old_value":{"a":"1"},"headers":{"operation":"update"}}"#;
        let later = r#"{"key":"k","value":{"a":"4","b":"5"},"old_value":{"a":"2","b":"3"},"headers":{"operation":"update"}}"#;
        let both = r#"{"key":"k","value":{"a":"4","b":"5"},"headers":{"operation":"update""#;
        assert_eq!(merged(earlier, later), both);
    }

    #[test]
    fn other_items_are_refused() {
        for item in ["", "{", "{}", r#"{"headers":{"control":"snapshot-end"}}"#, "\u{0}"] {
            assert!(Change::read(item.as_bytes()).is_err(), "{item}");
        }
        let event = r#"{"key":"k","value":{},"headers":{"operation":"move"}}"#;
        assert!(Change::read(event.as_bytes()).unwrap().operation().is_err());
    }
}
