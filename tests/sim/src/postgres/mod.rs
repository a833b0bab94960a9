//! A model of Postgres: what matters to a program that replicates from it.
//!
//! * Transactions run side by side and lock the rows they write.
//! * A commit is written to the WAL first and shown to others later, and not in the same order.
//! * A snapshot is `xmin:xmax:xip` as Postgres builds it: `xmax` follows the newest transaction that has ended.
//! * One of two tables is partitioned: the stream tells of the partitions.
//! * A slot sends whole transactions in commit order, from what was confirmed; after Postgres itself
//!   crashed, from an older point.

mod frame;
mod leaf;
mod session;
mod walsender;

pub use leaf::described;
pub use session::Session;
pub use walsender::{Frame, Walsender};

use crate::random::Random;
use limn_core::log::rope::SHARED_BYTES_MIN;
use limn_core::pg::{self, Column, QualifiedName, Relation, SnapshotBounds, oid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tables' oids.
pub const TABLES: [u32; 2] = [16_400, 16_500];
/// The columns of every table.
pub const COLUMNS: [(&str, u32); 3] = [("id", oid::INT4), ("n", oid::INT4), ("note", oid::TEXT)];
/// Keys are below.
const KEYS: u64 = 12;

/// A value as text; `None` is NULL.
pub type Cell = Option<String>;
/// The value of each column.
pub type Row = [Cell; COLUMNS.len()];
/// A row as core reads it.
#[derive(Debug)]
pub struct TableRow(pub Row);
/// A table's rows by key.
pub type Rows = BTreeMap<u64, Row>;
/// The rows of every table.
pub type Tables = [Rows; TABLES.len()];

/// The changes of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A row came.
    Insert(u64, Row),
    /// A row changed, perhaps its key too.
    Update(u64, Row, u64, Row),
    /// A row went.
    Delete(u64, Row),
    /// Every row went.
    Truncate,
}

/// A transaction that is in the WAL.
#[derive(Debug)]
pub struct Committed {
    /// The 64-bit id.
    pub xid: u64,
    /// Where its commit record starts.
    pub commit: u64,
    /// Where it ends.
    pub end: u64,
    /// Table and change, with the change's position in the WAL.
    pub changes: Vec<(usize, Change, u64)>,
}

#[derive(Debug, Default)]
struct Open {
    xid: u64,
    changes: Vec<(usize, Change, u64)>,
    /// What the transaction itself sees of the rows it wrote; they are locked.
    own: [BTreeMap<u64, Option<Row>>; TABLES.len()],
    truncated: [bool; TABLES.len()],
}

/// The database and its slot.
#[derive(Debug)]
pub struct Postgres {
    random: Random,
    /// The tables before the first transaction.
    first: Tables,
    tables: Tables,
    running: Vec<Open>,
    /// In the WAL, and not visible yet.
    committing: Vec<Open>,
    next_xid: u64,
    last_ended_xid: u64,
    wal: Vec<Committed>,
    wal_end: u64,
    confirmed: u64,
    /// `confirmed_flush` in the slot's file.
    confirmed_on_disk: u64,
}

impl Postgres {
    /// A database with some rows; now and then its transaction ids are about to wrap around.
    #[must_use]
    pub fn new(mut random: Random) -> Self {
        let next_xid = if random.once_in(4) { (1 << 32) - 8 } else { 800 };
        let mut postgres = Self {
            first: Default::default(),
            tables: Default::default(),
            running: Vec::new(),
            committing: Vec::new(),
            next_xid,
            last_ended_xid: next_xid - 1,
            wal: Vec::new(),
            wal_end: 1_000,
            confirmed: 1_000,
            confirmed_on_disk: 1_000,
            random,
        };
        for table in 0..TABLES.len() {
            for key in 0..postgres.random.below(KEYS) {
                let row = postgres.row(key);
                postgres.tables[table].insert(key, row);
            }
        }
        postgres.first = postgres.tables.clone();
        postgres
    }

    /// The tables before the first transaction.
    #[must_use]
    pub const fn first_tables(&self) -> &Tables {
        &self.first
    }

    /// A table as the catalog describes it.
    #[must_use]
    pub fn relation(table: usize) -> Arc<Relation> {
        let column = |(index, (name, type_oid)): (usize, &(&str, u32))| Column {
            not_null: index == 0,
            pk_index: (index == 0).then_some(0),
            ..Column::new(*name, *type_oid, if *type_oid == oid::TEXT { "text" } else { "int4" })
        };
        let columns = COLUMNS.iter().enumerate().map(column).collect();
        Arc::new(Relation::new(TABLES[table], QualifiedName::new("public", name(table)), columns))
    }

    /// Something happens in the database: says what.
    pub fn step(&mut self) -> &'static str {
        match self.random.below(12) {
            0..=1 if self.running.len() < 4 => {
                self.begin();
                "begin"
            }
            2..=6 if !self.running.is_empty() => {
                let index = self.random.index(self.running.len());
                self.write(index);
                "write"
            }
            7..=8 if !self.running.is_empty() => {
                let index = self.random.index(self.running.len());
                self.commit(index);
                "commit"
            }
            9 if !self.running.is_empty() && self.random.once_in(3) => {
                let index = self.random.index(self.running.len());
                let aborted = self.running.swap_remove(index);
                self.last_ended_xid = self.last_ended_xid.max(aborted.xid);
                "abort"
            }
            10..=11 if !self.committing.is_empty() => {
                let index = self.random.index(self.committing.len());
                self.show(index);
                "show"
            }
            _ => "rest",
        }
    }

    /// Every transaction that runs ends, and every commit is visible.
    pub fn settle(&mut self) {
        while !self.running.is_empty() {
            self.commit(0);
        }
        self.show_all();
    }

    /// Every commit in the WAL is visible.
    pub fn show_all(&mut self) {
        while !self.committing.is_empty() {
            self.show(0);
        }
    }

    /// Takes a snapshot: what Postgres says of it, and each table's rows in it.
    #[must_use]
    pub fn snapshot(&self) -> (SnapshotBounds, Tables) {
        let xmax = self.last_ended_xid + 1;
        let open = self.running.iter().chain(&self.committing).map(|open| open.xid);
        let mut xip: Vec<u64> = open.filter(|xid| *xid < xmax).collect();
        xip.sort_unstable();
        let bounds = SnapshotBounds { xmin: xip.first().copied().unwrap_or(xmax), xmax, xip };
        (bounds, self.tables.clone())
    }

    /// Where the WAL ends.
    #[must_use]
    pub const fn wal_end(&self) -> u64 {
        self.wal_end
    }

    /// Everything that was committed, in the order of the WAL.
    #[must_use]
    pub fn wal(&self) -> &[Committed] {
        &self.wal
    }

    /// The position that the slot was told last.
    #[must_use]
    pub const fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// The slot is told that everything before `lsn` is not needed any more.
    pub fn confirm(&mut self, lsn: u64) {
        self.confirmed = self.confirmed.max(lsn);
        if self.random.once_in(3) {
            self.confirmed_on_disk = self.confirmed;
        }
    }

    /// Postgres crashes: whatever ran is gone, and the slot is where its file says.
    pub fn crash(&mut self) {
        self.show_all();
        for open in self.running.drain(..) {
            self.last_ended_xid = self.last_ended_xid.max(open.xid);
        }
        self.confirmed = self.confirmed_on_disk;
    }

    fn begin(&mut self) {
        self.running.push(Open { xid: self.next_xid, ..Open::default() });
        self.next_xid += 1;
    }

    fn commit(&mut self, index: usize) {
        let open = self.running.swap_remove(index);
        if open.changes.is_empty() {
            self.last_ended_xid = self.last_ended_xid.max(open.xid);
            return;
        }
        let commit = self.advance();
        let end = self.advance();
        self.wal.push(Committed { xid: open.xid, commit, end, changes: open.changes.clone() });
        self.committing.push(open);
    }

    /// A commit becomes visible; its locks go.
    fn show(&mut self, index: usize) {
        let open = self.committing.swap_remove(index);
        for (table, change, _) in &open.changes {
            apply(&mut self.tables[*table], change);
        }
        self.last_ended_xid = self.last_ended_xid.max(open.xid);
    }

    /// The transaction writes a row, where nobody else has it locked.
    fn write(&mut self, index: usize) {
        let table = self.random.index(TABLES.len());
        if self.random.once_in(40) {
            self.truncate(index, table);
            return;
        }
        let (key, other) = (self.random.below(KEYS), self.random.below(KEYS));
        if self.is_locked(index, table, key) || self.is_locked(index, table, other) {
            return;
        }
        let change = match (self.sees(index, table, key), self.sees(index, table, other)) {
            (None, _) => Change::Insert(key, self.row(key)),
            (Some(old), _) if self.random.once_in(3) => Change::Delete(key, old),
            (Some(old), None) if self.random.once_in(2) => Change::Update(key, old, other, self.row(other)),
            (Some(old), _) => {
                let new = self.changed(&old);
                Change::Update(key, old, key, new)
            }
        };
        self.note(index, table, change);
    }

    fn truncate(&mut self, index: usize, table: usize) {
        let others =
            self.running.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, open)| open);
        if others.chain(&self.committing).any(|open| open.truncated[table] || !open.own[table].is_empty()) {
            return;
        }
        let mut keys: Vec<u64> = self.tables[table].keys().copied().collect();
        keys.extend(self.running[index].own[table].keys());
        let open = &mut self.running[index];
        open.truncated[table] = true;
        keys.into_iter().for_each(|key| drop(open.own[table].insert(key, None)));
        let at = self.advance();
        self.running[index].changes.push((table, Change::Truncate, at));
    }

    fn note(&mut self, index: usize, table: usize, change: Change) {
        let at = self.advance();
        let open = &mut self.running[index];
        let own = &mut open.own[table];
        match &change {
            Change::Insert(key, row) => drop(own.insert(*key, Some(row.clone()))),
            Change::Delete(key, _) => drop(own.insert(*key, None)),
            Change::Update(old, _, new, row) => {
                own.insert(*old, None);
                own.insert(*new, Some(row.clone()));
            }
            Change::Truncate => unreachable!("noted by truncate"),
        }
        open.changes.push((table, change, at));
    }

    fn is_locked(&self, index: usize, table: usize, key: u64) -> bool {
        let others =
            self.running.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, open)| open);
        others.chain(&self.committing).any(|open| open.truncated[table] || open.own[table].contains_key(&key))
    }

    fn sees(&self, index: usize, table: usize, key: u64) -> Option<Row> {
        let own = self.running[index].own[table].get(&key);
        own.cloned().unwrap_or_else(|| self.tables[table].get(&key).cloned())
    }

    fn row(&mut self, key: u64) -> Row {
        [Some(key.to_string()), self.n(), self.note_text()]
    }

    fn changed(&mut self, old: &Row) -> Row {
        let mut new = old.clone();
        match self.random.below(3) {
            0 => new[1] = self.n(),
            1 => new[2] = self.note_text(),
            _ => (new[1], new[2]) = (self.n(), self.note_text()),
        }
        new
    }

    fn n(&mut self) -> Option<String> {
        let n = self.random.below(9);
        (n < 8).then(|| n.to_string())
    }

    fn note_text(&mut self) -> Option<String> {
        const WORDS: [&str; 5] = ["a", "\"quoted\" and a comma,", "{\"a\":[1]}", "", "a/b\\c"];
        let word = self.random.index(WORDS.len() + 1);
        // One that is long enough for its bytes to be shared.
        let long = |word: &str| SHARED_BYTES_MIN / word.len().max(1) + 1;
        let times = self.random.index(40);
        WORDS.get(word).map(|word| word.repeat(if times == 0 { long(word) } else { 1 + times % 3 }))
    }

    fn advance(&mut self) -> u64 {
        let at = self.wal_end;
        self.wal_end += 8 + 8 * self.random.below(4);
        at
    }
}

impl pg::Row for TableRow {
    fn text(&self, column: usize) -> Option<&[u8]> {
        self.0.get(column)?.as_ref().map(String::as_bytes)
    }
}

/// Carries a change out.
pub fn apply(rows: &mut Rows, change: &Change) {
    match change {
        Change::Insert(key, row) => drop(rows.insert(*key, row.clone())),
        Change::Delete(key, _) => drop(rows.remove(key)),
        Change::Update(old, _, new, row) => {
            rows.remove(old);
            rows.insert(*new, row.clone());
        }
        Change::Truncate => rows.clear(),
    }
}

/// A table's name.
#[must_use]
pub const fn name(table: usize) -> &'static str {
    ["items", "others"][table]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_holds_what_it_says() {
        for seed in 0..50 {
            let mut postgres = Postgres::new(Random::new(seed));
            (0..300).for_each(|_| {
                postgres.step();
            });
            let (bounds, tables) = postgres.snapshot();
            let mut rows = postgres.first.clone();
            for transaction in &postgres.wal {
                let hidden = postgres.committing.iter().any(|open| open.xid == transaction.xid);
                assert_eq!(
                    !hidden,
                    bounds.contains(transaction.xid as u32),
                    "seed {seed}: {}",
                    transaction.xid
                );
                if !hidden {
                    transaction
                        .changes
                        .iter()
                        .for_each(|(table, change, _)| apply(&mut rows[*table], change));
                }
            }
            assert_eq!(rows, tables, "seed {seed}");
        }
    }

    #[test]
    fn commits_are_shown_in_another_order() {
        let mut postgres = Postgres::new(Random::new(3));
        let out_of_order = (0..2_000).any(|_| {
            postgres.step();
            let is_hidden = |xid: u64| postgres.committing.iter().any(|open| open.xid == xid);
            let hidden = postgres.wal.iter().position(|transaction| is_hidden(transaction.xid));
            hidden.is_some_and(|first| postgres.wal[first..].iter().any(|later| !is_hidden(later.xid)))
        });
        assert!(out_of_order);
    }
}
