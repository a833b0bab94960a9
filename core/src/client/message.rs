//! Log messages as the client reads them (protocol §4): JSON in, rows with shared column names out.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::membership::{MemberMove, Tags};
use crate::offset::Offset;

/// One message of a log response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A row was inserted, updated or deleted.
    Change(Change),
    /// The client has everything that the server had when it answered.
    UpToDate,
    /// The shape's handle is no longer good; only the body of a 409 says so.
    MustRefetch,
    /// The end of the initial rows or of a batch of moved-in rows.
    SnapshotEnd,
    /// Rows leave or come by a change in another table (`move-out`, `move-in`).
    Move(MemberMove),
    /// An event of a later version.
    UnknownEvent(String),
    /// A control message of a later version: passed over.
    UnknownControl(String),
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Insert, update or delete.
    pub operation: Operation,
    /// The row's identity on the wire: relation and primary key.
    pub key: Arc<str>,
    /// The columns sent: all of them, the key's, or the key's and the changed ones.
    pub row: Row,
    /// Where the change stands in the log; snapshot rows and compacted entries have no position.
    pub position: Option<Offset>,
    /// The row's tags and conditions; empty in a shape without subqueries.
    pub tags: Tags,
}

/// The operation of a change message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The row is new to the shape.
    Insert,
    /// Columns of the row have new values.
    Update,
    /// The row has left the shape.
    Delete,
}

/// Columns and their values in Postgres's text format, `None` for NULL. Names are shared between rows.
#[derive(Debug, Clone, Default)]
pub struct Row {
    columns: Vec<(Arc<str>, Option<Box<str>>)>,
}

/// A response body is not a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body is not a JSON array of messages.
    #[error("invalid log body: expected a JSON array of messages: {0}")]
    Malformed(String),
    /// A message is neither a change, a control message nor an event.
    #[error("invalid message {index}: expected `operation` with `key` and `value`, `control` or `event`")]
    UnknownMessage {
        /// Its place in the body, from 0.
        index: usize,
    },
}

/// The column names seen so far, so that a million rows hold each name once.
#[derive(Debug, Default)]
pub(super) struct Names {
    seen: HashSet<Arc<str>>,
}

/// No table has as many columns (Postgres allows 1,600): past it a name is not worth keeping.
const NAMES_MAX: usize = 4096;

/// Reads a whole body; an empty one is an empty log, as Electric's clients read it.
pub(super) fn decode(body: &[u8], names: &mut Names) -> Result<Vec<Message>, DecodeError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let malformed = |error: serde_json::Error| DecodeError::Malformed(error.to_string());
    let wire: Vec<WireMessage<'_>> = serde_json::from_slice(body).map_err(malformed)?;
    let owned = |(index, message): (usize, WireMessage<'_>)| {
        message.into_message(names).ok_or(DecodeError::UnknownMessage { index })
    };
    wire.into_iter().enumerate().map(owned).collect()
}

impl Row {
    /// The columns and values, in the order in which the server sent them.
    pub fn columns(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.columns.iter().map(|(name, value)| (&**name, value.as_deref()))
    }

    /// The value of a column: `None` when the row has no such column, `Some(None)` for NULL.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<Option<&str>> {
        self.columns().find_map(|(column, value)| (column == name).then_some(value))
    }

    /// This row with the columns of a newer, possibly partial one laid over it.
    #[must_use]
    pub fn merged(mut self, newer: Self) -> Self {
        for (name, value) in newer.columns {
            match self.columns.iter_mut().find(|(column, _)| *column == name) {
                Some((_, old)) => *old = value,
                None => self.columns.push((name, value)),
            }
        }
        self
    }
}

/// The order of columns is the server's choice and says nothing about the row.
impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        let equal = |(name, value): (&str, Option<&str>)| other.value(name) == Some(value);
        self.columns == other.columns
            || (self.columns.len() == other.columns.len() && self.columns().all(equal))
    }
}

impl Eq for Row {}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.columns())
    }
}

impl Names {
    fn intern(&mut self, name: Cow<'_, str>) -> Arc<str> {
        if let Some(known) = self.seen.get(&*name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        if self.seen.len() < NAMES_MAX {
            self.seen.insert(Arc::clone(&name));
        }
        name
    }
}

#[derive(serde::Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    value: Option<WireRow<'a>>,
    #[serde(borrow)]
    headers: WireHeaders<'a>,
}

#[derive(serde::Deserialize)]
struct WireHeaders<'a> {
    #[serde(borrow, default)]
    operation: Option<Text<'a>>,
    #[serde(borrow, default)]
    control: Option<Text<'a>>,
    #[serde(borrow, default)]
    event: Option<Text<'a>>,
    #[serde(borrow, default)]
    lsn: Option<Text<'a>>,
    #[serde(default)]
    op_position: Option<u64>,
    #[serde(borrow, default)]
    tags: Vec<Text<'a>>,
    #[serde(borrow, default)]
    removed_tags: Vec<Text<'a>>,
    #[serde(default)]
    active_conditions: Option<Vec<bool>>,
    #[serde(borrow, default)]
    patterns: Vec<WirePattern<'a>>,
}

#[derive(serde::Deserialize)]
struct WirePattern<'a> {
    pos: usize,
    #[serde(borrow)]
    value: Text<'a>,
}

impl WireMessage<'_> {
    fn into_message(self, names: &mut Names) -> Option<Message> {
        let headers = self.headers;
        if let Some(operation) = headers.operation {
            let operation = match &*operation.0 {
                "insert" => Operation::Insert,
                "update" => Operation::Update,
                "delete" => Operation::Delete,
                _ => return None,
            };
            let lsn = headers.lsn.and_then(|lsn| lsn.0.parse().ok());
            let position = lsn.zip(headers.op_position).map(|(lsn, op)| Offset::new(lsn, op));
            let row = self.value?.into_row(names);
            let tags = Tags {
                tags: headers.tags.into_iter().map(Text::into_box).collect(),
                removed: headers.removed_tags.into_iter().map(Text::into_box).collect(),
                active: headers.active_conditions,
            };
            return Some(Message::Change(Change { operation, key: self.key?.0.into(), row, position, tags }));
        }
        if let Some(control) = headers.control {
            return Some(match &*control.0 {
                "up-to-date" => Message::UpToDate,
                "must-refetch" => Message::MustRefetch,
                "snapshot-end" => Message::SnapshotEnd,
                other => Message::UnknownControl(other.to_owned()),
            });
        }
        let holds = match &*headers.event?.0 {
            "move-in" => true,
            "move-out" => false,
            other => return Some(Message::UnknownEvent(other.to_owned())),
        };
        let mut moved = MemberMove { holds, patterns: BTreeMap::new() };
        for WirePattern { pos, value } in headers.patterns {
            moved.patterns.entry(pos).or_default().insert(value.into_box());
        }
        Some(Message::Move(moved))
    }
}

/// Text borrowed from the body unless it holds escapes; serde's own `Cow` always copies inside an `Option`.
struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    fn into_box(self) -> Box<str> {
        self.0.into()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

struct WireRow<'a>(Vec<(Text<'a>, Option<Text<'a>>)>);

impl WireRow<'_> {
    fn into_row(self, names: &mut Names) -> Row {
        let column = |(name, value): (Text<'_>, Option<Text<'_>>)| {
            (names.intern(name.0), value.map(|value| value.0.into()))
        };
        Row { columns: self.0.into_iter().map(column).collect() }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for WireRow<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RowVisitor;
        impl<'de> Visitor<'de> for RowVisitor {
            type Value = WireRow<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of column values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(WireRow(columns))
            }
        }
        deserializer.deserialize_map(RowVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn decoded(body: &str) -> Result<Vec<Message>, DecodeError> {
        decode(body.as_bytes(), &mut Names::default())
    }

    #[test]
    fn a_log_with_every_kind_of_message_is_read() {
        let messages = decoded(
            r#"[{"key":"\"public\".\"crate\"/\"7\"","value":{"id":"7","note":null},
                 "headers":{"operation":"insert","relation":["public","crate"]}},
                {"key":"k","value":{"id":"7"},"old_value":{"id":"6"},"headers":{"operation":"update",
                 "txids":[9],"lsn":"29360128","op_position":4,"last":true,
                 "tags":["5f/"],"removed_tags":["5e/"],"active_conditions":[true,false]}},
                {"headers":{"event":"move-out","patterns":[{"pos":0,"value":"5f"}],"txids":[3]}},
                {"headers":{"event":"move-on"}},
                {"headers":{"control":"snapshot-end","xmin":"1","xmax":"2","xip_list":[]}},
                {"headers":{"control":"from-the-future"}},
                {"headers":{"control":"up-to-date","global_last_seen_lsn":"5"}}]"#,
        )
        .unwrap();
        let [Message::Change(insert), Message::Change(update), rest @ ..] = &messages[..] else {
            panic!("{messages:?}")
        };
        assert_eq!(&*insert.key, r#""public"."crate"/"7""#);
        assert_eq!(insert.row.value("note"), Some(None));
        assert_eq!((insert.row.value("missing"), insert.position), (None, None));
        assert_eq!(update.position, Some(Offset::new(29_360_128, 4)));
        let (tags, removed) = (vec!["5f/".into()], vec!["5e/".into()]);
        assert_eq!(update.tags, Tags { tags, removed, active: Some(vec![true, false]) });
        assert_eq!(
            rest,
            [
                Message::Move(MemberMove { holds: false, patterns: [(0, ["5f".into()].into())].into() }),
                Message::UnknownEvent("move-on".to_owned()),
                Message::SnapshotEnd,
                Message::UnknownControl("from-the-future".to_owned()),
                Message::UpToDate
            ]
        );
    }

    #[test]
    fn column_names_are_held_once() {
        let row = r#"{"key":"k","value":{"id":"1"},"headers":{"operation":"insert"}}"#;
        let messages = decoded(&format!("[{row},{row}]")).unwrap();
        let [Message::Change(a), Message::Change(b)] = &messages[..] else { panic!("{messages:?}") };
        assert!(Arc::ptr_eq(&a.row.columns[0].0, &b.row.columns[0].0));
    }

    #[test]
    fn an_empty_body_is_an_empty_log() {
        assert_eq!((decoded(""), decoded(" [] ")), (Ok(vec![]), Ok(vec![])));
    }

    #[test]
    fn what_is_no_log_is_refused() {
        for body in [
            "{}",
            "[1]",
            "[",
            "null",
            r#"[{"key":"k","value":{"id":7},"headers":{"operation":"insert"}}]"#,
            "\u{0}",
        ] {
            assert!(matches!(decoded(body), Err(DecodeError::Malformed(_))), "{body}");
        }
        for body in [
            r#"[{"headers":{}}]"#,
            r#"[{"headers":{"operation":"insert"}}]"#,
            r#"[{"key":"k","value":{},"headers":{"operation":"upsert"}}]"#,
        ] {
            assert_eq!(decoded(body), Err(DecodeError::UnknownMessage { index: 0 }), "{body}");
        }
    }

    #[test]
    fn rows_are_equal_whatever_the_order_of_their_columns() {
        let row = |columns: &[(&str, Option<&str>)]| Row {
            columns: columns.iter().map(|(name, value)| ((*name).into(), value.map(Into::into))).collect(),
        };
        assert_eq!(row(&[("a", None), ("b", Some("1"))]), row(&[("b", Some("1")), ("a", None)]));
        assert_ne!(row(&[("a", None)]), row(&[("a", Some(""))]));
        let merged = row(&[("a", Some("1")), ("b", Some("2"))]).merged(row(&[("b", None), ("c", Some("3"))]));
        assert_eq!(serde_json::to_string(&merged).unwrap(), r#"{"a":"1","b":null,"c":"3"}"#);
    }

    #[test]
    fn names_beyond_the_limit_are_read_but_not_held() {
        let mut names = Names::default();
        let all: Vec<String> = (0..=NAMES_MAX).map(|n| format!("c{n}")).collect();
        let twice = |names: &mut Names, name: &str| {
            let (first, second) = (names.intern(name.into()), names.intern(name.into()));
            assert_eq!((&*first, &*second), (name, name));
            Arc::ptr_eq(&first, &second)
        };
        assert!(all[..NAMES_MAX].iter().all(|name| twice(&mut names, name)));
        assert!(!twice(&mut names, &all[NAMES_MAX]));
        assert_eq!(names.seen.len(), NAMES_MAX);
    }
}
