//! The materialised shape: its rows, changed only where the log says that changes belong together.

use std::collections::HashMap;
use std::sync::Arc;

use super::message::{Change, Message, Operation, Row};
use super::stream::Event;
use crate::offset::Offset;

/// The rows of a shape by key, in the order in which they came.
///
/// Changes become visible together at an up-to-date, never in between; after a must-refetch the old rows
/// stay until the new ones are complete. Changes received twice are applied once.
#[derive(Debug)]
pub struct Rows {
    table: Table,
    /// The rows of a shape that is being read from its beginning.
    loading: Option<Table>,
    /// Changes to `table` that no up-to-date has released yet.
    staged: Vec<Change>,
    /// The last position taken: everything at or before it has been seen.
    seen: Option<Offset>,
}

/// What one up-to-date made visible. Each key stands in one list at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// The rows come from a new reading of the whole shape: their order may be another.
    pub is_reload: bool,
    /// Keys of the rows that are new.
    pub inserted: Vec<Arc<str>>,
    /// Keys of the rows that have another value.
    pub updated: Vec<Arc<str>>,
    /// Keys of the rows that are gone.
    pub deleted: Vec<Arc<str>>,
}

/// The log holds something that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// Going on would keep rows that have left the shape.
    #[error("unsupported event `{0}`: shapes with subqueries cannot be materialised by this client")]
    UnsupportedEvent(String),
}

/// Rows in the order of their insertion; a deleted row leaves a gap until gaps prevail.
#[derive(Debug, Default)]
struct Table {
    slots: Vec<Option<(Arc<str>, Row)>>,
    places: HashMap<Arc<str>, usize>,
}

const GAPS_MIN: usize = 64;

impl Rows {
    /// No rows yet.
    #[must_use]
    pub fn new() -> Self {
        Self { table: Table::default(), loading: Some(Table::default()), staged: Vec::new(), seen: None }
    }

    /// Takes an event of the stream; an up-to-date returns what it made visible.
    pub fn handle_event(&mut self, event: Event) -> Result<Option<ChangeSet>, RowsError> {
        match event {
            Event::Messages(messages) => {
                for message in messages {
                    self.handle_message(message)?;
                }
                Ok(None)
            }
            Event::MustRefetch => {
                self.loading = Some(Table::default());
                self.staged.clear();
                self.seen = None;
                Ok(None)
            }
            Event::UpToDate => Ok(Some(match self.loading.take() {
                Some(loaded) => self.replace(loaded),
                None => self.apply(),
            })),
        }
    }

    /// The row with this key.
    #[must_use]
    pub fn row(&self, key: &str) -> Option<&Row> {
        self.table.row(key)
    }

    /// All rows in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Row)> {
        self.table.iter()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.places.len()
    }

    /// True when there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.places.is_empty()
    }

    fn handle_message(&mut self, message: Message) -> Result<(), RowsError> {
        let change = match message {
            Message::Change(change) => change,
            Message::Event(name) => return Err(RowsError::UnsupportedEvent(name)),
            Message::UpToDate | Message::MustRefetch | Message::SnapshotEnd | Message::UnknownControl(_) => {
                return Ok(());
            }
        };
        if change.position.is_some() {
            if change.position <= self.seen {
                return Ok(());
            }
            self.seen = change.position;
        }
        match &mut self.loading {
            Some(loading) => {
                let before = loading.row(&change.key).cloned();
                let key = Arc::clone(&change.key);
                loading.put(key, outcome(before, change));
            }
            None => self.staged.push(change),
        }
        Ok(())
    }

    /// Shows the changes since the last up-to-date, each row's at its end result.
    fn apply(&mut self) -> ChangeSet {
        let mut touched: Vec<(Arc<str>, Option<Row>)> = Vec::new();
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        for change in self.staged.drain(..) {
            let place = *places.entry(Arc::clone(&change.key)).or_insert_with(|| {
                touched.push((Arc::clone(&change.key), self.table.row(&change.key).cloned()));
                touched.len() - 1
            });
            let (_, row) = &mut touched[place];
            *row = outcome(row.take(), change);
        }
        let mut changes = ChangeSet::default();
        for (key, after) in touched {
            changes.note(&key, self.table.row(&key), after.as_ref());
            self.table.put(key, after);
        }
        changes
    }

    fn replace(&mut self, loaded: Table) -> ChangeSet {
        let old = std::mem::replace(&mut self.table, loaded);
        let mut changes = ChangeSet { is_reload: true, ..ChangeSet::default() };
        for (key, row) in self.table.iter() {
            changes.note(key, old.row(key), Some(row));
        }
        for (key, row) in old.iter().filter(|(key, _)| self.table.row(key).is_none()) {
            changes.note(key, Some(row), None);
        }
        changes
    }
}

impl Default for Rows {
    fn default() -> Self {
        Self::new()
    }
}

impl ChangeSet {
    /// True when the rows are as they were.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inserted.is_empty() && self.updated.is_empty() && self.deleted.is_empty()
    }

    fn note(&mut self, key: &Arc<str>, before: Option<&Row>, after: Option<&Row>) {
        let list = match (before, after) {
            (None, Some(_)) => &mut self.inserted,
            (Some(_), None) => &mut self.deleted,
            (Some(before), Some(after)) if before != after => &mut self.updated,
            _ => return,
        };
        list.push(Arc::clone(key));
    }
}

impl Table {
    fn row(&self, key: &str) -> Option<&Row> {
        let slot = self.slots.get(*self.places.get(key)?)?;
        slot.as_ref().map(|(_, row)| row)
    }

    fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Row)> {
        self.slots.iter().flatten().map(|(key, row)| (key, row))
    }

    /// Sets a row, or removes it. A row that stays keeps its place.
    fn put(&mut self, key: Arc<str>, row: Option<Row>) {
        match (self.places.get(&key).copied(), row) {
            (Some(place), Some(row)) => self.slots[place] = Some((key, row)),
            (None, Some(row)) => {
                self.places.insert(Arc::clone(&key), self.slots.len());
                self.slots.push(Some((key, row)));
            }
            (Some(place), None) => {
                self.slots[place] = None;
                self.places.remove(&key);
                self.close_gaps();
            }
            (None, None) => {}
        }
    }

    fn close_gaps(&mut self) {
        let gaps = self.slots.len() - self.places.len();
        if gaps < GAPS_MIN || gaps < self.places.len() {
            return;
        }
        self.slots.retain(Option::is_some);
        for (place, (key, _)) in self.slots.iter().flatten().enumerate() {
            if let Some(known) = self.places.get_mut(key) {
                *known = place;
            }
        }
    }
}

/// The row after a change. An update of an unknown row is what a log of changes only begins with.
fn outcome(before: Option<Row>, change: Change) -> Option<Row> {
    match change.operation {
        Operation::Insert => Some(change.row),
        Operation::Update => Some(before.unwrap_or_default().merged(change.row)),
        Operation::Delete => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::message::{Names, decode};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// `op key column=value…[@lsn]`, one change a line.
    fn messages(script: &[&str]) -> Event {
        let messages = script.iter().map(|line| {
            let (line, lsn) = line.split_once('@').map_or((*line, None), |(line, lsn)| (line, Some(lsn)));
            let mut words = line.split(' ');
            let (operation, key) = (words.next().unwrap(), words.next().unwrap());
            let value: serde_json::Map<_, _> = words
                .filter_map(|word| word.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect();
            let headers = match lsn {
                Some(lsn) => serde_json::json!({"operation": operation, "lsn": lsn, "op_position": 0}),
                None => serde_json::json!({"operation": operation}),
            };
            serde_json::json!({"key": key, "value": value, "headers": headers})
        });
        let body = serde_json::to_vec(&messages.collect::<Vec<_>>()).unwrap();
        Event::Messages(decode(&body, &mut Names::default()).unwrap())
    }

    fn up_to_date(rows: &mut Rows) -> [String; 3] {
        let changes = rows.handle_event(Event::UpToDate).unwrap().unwrap();
        [changes.inserted, changes.updated, changes.deleted].map(|keys| keys.join(","))
    }

    fn text(rows: &Rows) -> String {
        let row = |(key, row): (&Arc<str>, &Row)| format!("{key}{}", serde_json::to_string(row).unwrap());
        rows.iter().map(row).collect::<Vec<_>>().join(" ")
    }

    fn loaded() -> Rows {
        let mut rows = Rows::new();
        rows.handle_event(messages(&["insert a id=1 n=x", "insert b id=2 n=y"])).unwrap();
        assert!(rows.is_empty());
        assert_eq!(up_to_date(&mut rows), ["a,b", "", ""]);
        rows
    }

    #[test]
    fn changes_show_together_at_up_to_date() {
        let mut rows = loaded();
        rows.handle_event(messages(&["update a n=z", "delete b", "insert c id=3"])).unwrap();
        assert_eq!(text(&rows), r#"a{"id":"1","n":"x"} b{"id":"2","n":"y"}"#);
        assert_eq!(up_to_date(&mut rows), ["c", "a", "b"]);
        assert_eq!(text(&rows), r#"a{"id":"1","n":"z"} c{"id":"3"}"#);
    }

    #[test]
    fn only_the_end_result_counts() {
        let mut rows = loaded();
        let script =
            ["insert c id=3", "delete c", "update a n=z", "update a n=x", "delete b", "insert b id=9"];
        rows.handle_event(messages(&script)).unwrap();
        assert_eq!(up_to_date(&mut rows), ["", "b", ""]);
        assert_eq!(text(&rows), r#"a{"id":"1","n":"x"} b{"id":"9"}"#);
        assert_eq!(up_to_date(&mut rows), ["", "", ""]);
    }

    #[test]
    fn what_comes_twice_is_applied_once() {
        let mut rows = loaded();
        let script = ["update a n=z@10", "delete b@11"];
        rows.handle_event(messages(&script)).unwrap();
        rows.handle_event(messages(&script)).unwrap();
        assert_eq!(up_to_date(&mut rows), ["", "a", "b"]);
        rows.handle_event(messages(&["insert b id=2@12"])).unwrap();
        rows.handle_event(messages(&script)).unwrap();
        assert_eq!(up_to_date(&mut rows), ["b", "", ""]);
        assert_eq!(text(&rows), r#"a{"id":"1","n":"z"} b{"id":"2"}"#);
    }

    #[test]
    fn a_refetch_swaps_the_rows_when_it_is_complete() {
        let mut rows = loaded();
        rows.handle_event(messages(&["delete a@50"])).unwrap();
        rows.handle_event(Event::MustRefetch).unwrap();
        rows.handle_event(messages(&["insert c id=3", "insert a id=1 n=w", "update c id=4@7"])).unwrap();
        assert_eq!(text(&rows), r#"a{"id":"1","n":"x"} b{"id":"2","n":"y"}"#);
        let changes = rows.handle_event(Event::UpToDate).unwrap().unwrap();
        assert!(changes.is_reload && changes.inserted == ["c".into()] && changes.updated == ["a".into()]);
        assert_eq!(changes.deleted, ["b".into()]);
        assert_eq!(text(&rows), r#"c{"id":"4"} a{"id":"1","n":"w"}"#);
    }

    #[test]
    fn gaps_close_and_the_order_stays() {
        let mut rows = Rows::new();
        let all: Vec<String> = (0..300).map(|n| format!("insert k{n} id={n}")).collect();
        rows.handle_event(messages(&all.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
        up_to_date(&mut rows);
        let most: Vec<String> = (0..290).map(|n| format!("delete k{n}")).collect();
        rows.handle_event(messages(&most.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
        up_to_date(&mut rows);
        let keys: Vec<&str> = rows.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, (290..300).map(|n| format!("k{n}")).collect::<Vec<_>>());
        assert!(rows.table.slots.len() < 150 && rows.len() == 10);
        assert_eq!(rows.row("k295").and_then(|row| row.value("id")), Some(Some("295")));
    }

    #[test]
    fn moves_between_tables_are_refused_rather_than_missed() {
        let event = Event::Messages(vec![Message::Event("move-out".to_owned())]);
        assert_eq!(Rows::new().handle_event(event), Err(RowsError::UnsupportedEvent("move-out".to_owned())));
    }
}
