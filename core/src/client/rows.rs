//! The materialised shape: its rows, changed only where the log says that changes belong together.

use std::collections::HashMap;
use std::sync::Arc;

use super::membership::{MemberMove, Membership};
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
    /// Changes of `table` that no up-to-date has released yet.
    staged: Vec<Staged>,
    /// The last position taken: everything at or before it has been seen.
    seen: Option<Offset>,
}

/// The changes that one up-to-date made visible. Each key stands in one list at most.
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
    /// Going on might keep rows that have left the shape.
    #[error("unsupported event `{0}`: it belongs to a later version than this client's")]
    UnsupportedEvent(String),
}

/// One thing that happens to rows; they stand in the log's order.
#[derive(Debug)]
enum Staged {
    Change(Change),
    Move(MemberMove),
}

/// Rows in the order of their insertion; a deleted row leaves a gap until gaps prevail.
#[derive(Debug, Default)]
struct Table {
    slots: Vec<Option<(Arc<str>, Entry)>>,
    places: HashMap<Arc<str>, usize>,
}

/// A row, with what decides whether it is in the shape.
#[derive(Debug, Clone, Default)]
struct Entry {
    row: Row,
    membership: Option<Box<Membership>>,
}

/// The rows that change at an up-to-date, as they will be.
struct Touched<'a> {
    table: &'a Table,
    entries: Vec<(Arc<str>, Option<Entry>)>,
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
            Message::Move(moved) => {
                match &mut self.loading {
                    Some(loading) => loading.handle_move(&moved),
                    None => self.staged.push(Staged::Move(moved)),
                }
                return Ok(());
            }
            Message::UnknownEvent(name) => return Err(RowsError::UnsupportedEvent(name)),
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
                let before = loading.entry(&change.key).cloned();
                let key = Arc::clone(&change.key);
                loading.put(key, outcome(before, change));
            }
            None => self.staged.push(Staged::Change(change)),
        }
        Ok(())
    }

    /// Shows what happened since the last up-to-date, each row's at its end result.
    fn apply(&mut self) -> ChangeSet {
        let mut touched = Touched { table: &self.table, entries: Vec::new(), places: HashMap::new() };
        for staged in self.staged.drain(..) {
            match staged {
                Staged::Change(change) => touched.handle_change(change),
                Staged::Move(moved) => touched.handle_move(&moved),
            }
        }
        let mut changes = ChangeSet::default();
        for (key, after) in touched.entries {
            changes.note(&key, self.table.row(&key), after.as_ref().map(|entry| &entry.row));
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

impl Touched<'_> {
    fn handle_change(&mut self, change: Change) {
        let entry = self.entry(&change.key);
        *entry = outcome(entry.take(), change);
    }

    fn handle_move(&mut self, moved: &MemberMove) {
        let table = self.table;
        table.concerned(moved).for_each(|key| {
            self.entry(key);
        });
        for (_, entry) in &mut self.entries {
            *entry = entry.take().and_then(|entry| entry.moved(moved));
        }
    }

    /// The row as it is so far; from now on it is one that changes.
    fn entry(&mut self, key: &Arc<str>) -> &mut Option<Entry> {
        let place = *self.places.entry(Arc::clone(key)).or_insert_with(|| {
            self.entries.push((Arc::clone(key), self.table.entry(key).cloned()));
            self.entries.len() - 1
        });
        &mut self.entries[place].1
    }
}

impl Entry {
    fn is_concerned(&self, moved: &MemberMove) -> bool {
        self.membership.as_ref().is_some_and(|membership| membership.is_concerned(moved))
    }

    /// The row after a move; nothing where it is no longer shown.
    fn moved(mut self, moved: &MemberMove) -> Option<Self> {
        if let Some(membership) = &mut self.membership {
            membership.handle_move(moved);
        }
        self.shown()
    }

    fn shown(self) -> Option<Self> {
        self.membership.as_ref().is_none_or(|membership| membership.is_shown()).then_some(self)
    }
}

impl Table {
    fn row(&self, key: &str) -> Option<&Row> {
        self.entry(key).map(|entry| &entry.row)
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        let slot = self.slots.get(*self.places.get(key)?)?;
        slot.as_ref().map(|(_, entry)| entry)
    }

    fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Row)> {
        self.slots.iter().flatten().map(|(key, entry)| (key, &entry.row))
    }

    /// The keys of the rows that a move concerns.
    fn concerned<'a>(&'a self, moved: &'a MemberMove) -> impl Iterator<Item = &'a Arc<str>> {
        let concerned = self.slots.iter().flatten().filter(|(_, entry)| entry.is_concerned(moved));
        concerned.map(|(key, _)| key)
    }

    fn handle_move(&mut self, moved: &MemberMove) {
        let keys: Vec<Arc<str>> = self.concerned(moved).cloned().collect();
        for key in keys {
            let after = self.entry(&key).cloned().and_then(|entry| entry.moved(moved));
            self.put(key, after);
        }
    }

    /// Sets a row, or removes it. A row that stays keeps its place.
    fn put(&mut self, key: Arc<str>, entry: Option<Entry>) {
        match (self.places.get(&key).copied(), entry) {
            (Some(place), Some(entry)) => self.slots[place] = Some((key, entry)),
            (None, Some(entry)) => {
                self.places.insert(Arc::clone(&key), self.slots.len());
                self.slots.push(Some((key, entry)));
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
fn outcome(before: Option<Entry>, change: Change) -> Option<Entry> {
    let after = match change.operation {
        Operation::Insert => Entry { row: change.row, membership: Membership::of(change.tags) },
        Operation::Update => {
            let before = before.unwrap_or_default();
            Entry {
                row: before.row.merged(change.row),
                membership: Membership::updated(before.membership, change.tags),
            }
        }
        Operation::Delete => return None,
    };
    after.shown()
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

    /// Messages as they come.
    fn body(messages: &serde_json::Value) -> Event {
        Event::Messages(decode(messages.to_string().as_bytes(), &mut Names::default()).unwrap())
    }

    fn tagged(key: &str, tags: &[&str], active: &[bool]) -> serde_json::Value {
        let headers = serde_json::json!({"operation": "insert", "tags": tags, "active_conditions": active});
        serde_json::json!({"key": key, "value": {"id": key}, "headers": headers})
    }

    fn moved(event: &str, pos: usize, value: &str) -> serde_json::Value {
        serde_json::json!({"headers": {"event": event, "patterns": [{"pos": pos, "value": value}], "txids": [7]}})
    }

    #[test]
    fn moves_take_rows_out_and_in() {
        let mut rows = Rows::new();
        let loaded = [tagged("a", &["x/", "/y"], &[true, true]), tagged("b", &["x/", "/z"], &[true, false])];
        rows.handle_event(body(&loaded.to_vec().into())).unwrap();
        assert_eq!(up_to_date(&mut rows), ["a,b", "", ""]);
        rows.handle_event(body(&serde_json::json!([moved("move-out", 0, "x")]))).unwrap();
        assert_eq!(rows.len(), 2, "nothing changes before the up-to-date");
        assert_eq!(up_to_date(&mut rows), ["", "", "b"]);
        let back = serde_json::json!([moved("move-in", 0, "x"), tagged("b", &["x/", "/z"], &[true, false])]);
        rows.handle_event(body(&back)).unwrap();
        rows.handle_event(body(&serde_json::json!([moved("move-out", 1, "y")]))).unwrap();
        assert_eq!(up_to_date(&mut rows), ["b", "", ""]);
        rows.handle_event(body(&back)).unwrap();
        assert_eq!(up_to_date(&mut rows), ["", "", ""], "what comes twice changes nothing");
        rows.handle_event(body(&serde_json::json!([moved("move-out", 0, "x")]))).unwrap();
        assert_eq!(up_to_date(&mut rows), ["", "", "a,b"]);
    }

    #[test]
    fn changes_and_moves_take_effect_in_order() {
        let mut rows = Rows::new();
        let update = serde_json::json!({"key": "a", "value": {"n": "1"}, "headers": {
            "operation": "update", "tags": ["y"], "removed_tags": ["x"], "active_conditions": [true]}});
        rows.handle_event(body(&serde_json::json!([
            tagged("a", &["x"], &[true]),
            moved("move-out", 0, "q")
        ])))
        .unwrap();
        up_to_date(&mut rows);
        rows.handle_event(body(&serde_json::json!([update, moved("move-out", 0, "x")]))).unwrap();
        assert_eq!(up_to_date(&mut rows), ["", "a", ""]);
        rows.handle_event(body(&serde_json::json!([
            tagged("c", &["y"], &[true]),
            moved("move-out", 0, "y")
        ])))
        .unwrap();
        assert_eq!(up_to_date(&mut rows), ["", "", "a"]);
    }

    #[test]
    fn moves_hold_for_rows_that_are_being_loaded() {
        let mut rows = Rows::new();
        let begin = [tagged("a", &["x"], &[true]), tagged("b", &["y"], &[true]), moved("move-out", 0, "x")];
        rows.handle_event(body(&begin.to_vec().into())).unwrap();
        assert_eq!(up_to_date(&mut rows), ["b", "", ""]);
    }

    #[test]
    fn an_unknown_event_is_refused_rather_than_missed() {
        let event = Event::Messages(vec![Message::UnknownEvent("move-on".to_owned())]);
        assert_eq!(Rows::new().handle_event(event), Err(RowsError::UnsupportedEvent("move-on".to_owned())));
    }
}
