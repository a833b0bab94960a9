//! The net change of each key by a transaction, for tables in which two rows may hold one key for a while.
//!
//! Postgres checks a DEFERRABLE primary key at the end of the statement or of the transaction, and a table without
//! a primary key has nothing to check. `UPDATE t SET id = id + 1` then writes the new row 2 before the old row 2 has
//! left. A client that keeps one row per key would take the delete of the old row for one of the new.
//!
//! A transaction begins and ends with at most one row per key. So what it means for a key does not depend on the order
//! of its changes: each content that was removed once more than added was the row before, and each that was added once
//! more than removed is the row after. [`NetChanges`] counts that, and at the end of the transaction every key has one
//! change at most. It does so before filters are asked, so that all shapes of a table are served by one count.
//!
//! A transaction that needs more room than [`NET_BYTES_MAX`] is settled in between. The keys of what was settled are
//! remembered, and a further change of one of them is an error: its shapes start over.

use super::dependent::member::push_cell;
use super::held_row::HeldRow;
use super::row::Row;
use crate::log::item::ChangePosition;
use crate::pg::Relation;
use crate::pg::Row as _;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of rows that wait for the end of their transaction; beyond it they are settled at once.
pub const NET_BYTES_MAX: usize = 64 << 20;

/// Keys that were settled before the end of their transaction; beyond it the table's shapes start over.
pub const SETTLED_KEYS_MAX: usize = 4 << 20;

/// Bytes that a counted row takes beside its cells, about.
const ENTRY_BYTES: usize = size_of::<HeldRow>() + size_of::<Count>();

/// The open transaction's changes of one table.
#[derive(Debug, Default)]
pub(super) struct NetChanges {
    rows: HashMap<HeldRow, Count>,
    bytes: usize,
    /// Hashes of the keys that were settled in this transaction.
    settled: HashSet<u64>,
    /// What is known of each key, in order, from the moment it is being settled.
    due: VecDeque<NetChange>,
}

/// One key's change, or the two of a row that changed its key.
#[derive(Debug)]
pub(super) struct NetChange {
    pub(super) old: Option<HeldRow>,
    pub(super) new: Option<HeldRow>,
    pub(super) at: ChangePosition,
}

/// A key that was settled already has changed again, or too many were settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SettledTooEarly;

#[derive(Debug, Clone, Copy)]
struct Count {
    /// How many times the row was added, less how many times it was removed.
    added: i64,
    /// The last change that did either. The new row of a key change has an odd number.
    at: ChangePosition,
}

/// The net change of one key.
#[derive(Debug, Default)]
struct KeyChange {
    before: Option<(HeldRow, ChangePosition)>,
    after: Option<(HeldRow, ChangePosition)>,
}

impl NetChanges {
    /// Takes a change of a row.
    ///
    /// # Errors
    /// Where one of its keys was settled already.
    pub(super) fn push(
        &mut self,
        relation: &Relation,
        (old, new): (Option<&Row<'_>>, Option<&Row<'_>>),
        at: ChangePosition,
    ) -> Result<(), SettledTooEarly> {
        let key = key_positions(relation);
        if !self.settled.is_empty() {
            let is_settled = |row: &Row<'_>| self.settled.contains(&hash(&key_of(&key, row)));
            if [old, new].into_iter().flatten().any(is_settled) {
                return Err(SettledTooEarly);
            }
        }
        let changes_key = match (old, new) {
            (Some(old), Some(new)) => key_of(&key, old) != key_of(&key, new),
            _ => false,
        };
        if let Some(old) = old {
            self.count(HeldRow::of(old), -1, at);
        }
        if let Some(new) = new {
            let op = at.op + u64::from(changes_key);
            self.count(HeldRow::of(new), 1, ChangePosition { op, ..at });
        }
        Ok(())
    }

    /// Bytes that it takes.
    pub(super) const fn len_bytes(&self) -> usize {
        self.bytes
    }

    /// Makes everything that was counted so far due. `is_over`: the transaction has ended.
    ///
    /// # Errors
    /// Where more keys were settled before their transaction's end than are remembered.
    pub(super) fn settle(&mut self, relation: &Relation, is_over: bool) -> Result<(), SettledTooEarly> {
        let key = key_positions(relation);
        let mut changes: HashMap<Box<[u8]>, KeyChange> = HashMap::new();
        for (row, count) in self.rows.drain() {
            let change = changes.entry(key_of(&key, &row.row())).or_default();
            let side = if count.added > 0 { &mut change.after } else { &mut change.before };
            // Equal rows without a primary key are one row to clients.
            if side.as_ref().is_none_or(|(_, known)| known.op < count.at.op) {
                *side = Some((row, count.at));
            }
        }
        if is_over {
            self.settled = HashSet::new();
        } else {
            self.settled.extend(changes.keys().map(|key| hash(key)));
        }
        self.due.extend(in_order(changes.into_values()));
        if self.settled.len() > SETTLED_KEYS_MAX {
            return Err(SettledTooEarly);
        }
        Ok(())
    }

    /// The next change that is due.
    pub(super) fn pop_due(&mut self) -> Option<NetChange> {
        let change = self.due.pop_front();
        if change.is_none() {
            (self.bytes, self.due) = (0, VecDeque::new());
        }
        change
    }

    fn count(&mut self, row: HeldRow, by: i64, at: ChangePosition) {
        let bytes = row.len_bytes() + ENTRY_BYTES;
        match self.rows.entry(row) {
            Entry::Vacant(entry) => {
                entry.insert(Count { added: by, at });
                self.bytes += bytes;
            }
            Entry::Occupied(entry) if entry.get().added + by == 0 => {
                entry.remove();
                self.bytes = self.bytes.saturating_sub(bytes);
            }
            Entry::Occupied(mut entry) => {
                let added = entry.get().added + by;
                entry.insert(Count { added, at });
            }
        }
    }
}

/// The changes in the order of the WAL. A row that took a key which nobody had, and gave up one that nobody took, is
/// told as what it is: a change of its key.
fn in_order(keys: impl Iterator<Item = KeyChange>) -> Vec<NetChange> {
    let (mut changes, mut came) = (Vec::new(), HashMap::new());
    for key in keys {
        match key {
            KeyChange { before: None, after: Some((new, at)) } => drop(came.insert(at.op, (new, at))),
            KeyChange { before, after } => changes.push((before, after)),
        }
    }
    let mut changes: Vec<NetChange> = changes
        .into_iter()
        .filter_map(|(before, after)| {
            let at = [&before, &after].into_iter().flatten().map(|(_, at)| *at).max_by_key(|at| at.op)?;
            let is_key_change = after.is_none() && at.op % 2 == 0;
            let after = after.or_else(|| if is_key_change { came.remove(&(at.op + 1)) } else { None });
            Some(NetChange { old: before.map(|(row, _)| row), new: after.map(|(row, _)| row), at })
        })
        .collect();
    changes.extend(came.into_values().map(|(new, at)| NetChange { old: None, new: Some(new), at }));
    changes.sort_unstable_by_key(|change| change.at.op);
    changes
}

/// The key, and the child that a row is in.
fn key_positions(relation: &Relation) -> Vec<usize> {
    let mut key = relation.key_columns();
    key.extend(relation.child_position());
    key
}

/// The key's cells.
fn key_of(key: &[usize], row: &Row<'_>) -> Box<[u8]> {
    let mut bytes = Vec::new();
    key.iter().for_each(|column| push_cell(&mut bytes, row.text(*column)));
    bytes.into()
}

fn hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::{Column, QualifiedName, oid};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// `CREATE TABLE t (id text PRIMARY KEY DEFERRABLE, v text)`
    fn relation() -> Relation {
        let column = |name: &str, pk_index| Column {
            not_null: true,
            pk_index,
            ..Column::new(name, oid::TEXT, "text")
        };
        Relation {
            key_always_unique: false,
            ..Relation::new(
                1,
                QualifiedName::new("public", "t"),
                vec![column("id", Some(0)), column("v", None)],
            )
        }
    }

    fn row(text: &'static str) -> Row<'static> {
        Row { cells: text.split('=').map(|cell| Some(cell.as_bytes())).collect() }
    }

    /// Each change is `old>new`, either of which may be empty.
    fn push(net: &mut NetChanges, changes: &[&'static str]) -> Result<(), SettledTooEarly> {
        changes.iter().zip((0..).step_by(2)).try_for_each(|(change, op)| {
            let (old, new) = change.split_once('>').unwrap();
            let side = |text: &'static str| (!text.is_empty()).then(|| row(text));
            let (old, new) = (side(old), side(new));
            let at = ChangePosition { lsn: 100, op, xid: 7 };
            net.push(&relation(), (old.as_ref(), new.as_ref()), at)
        })
    }

    fn text(row: Option<&HeldRow>) -> String {
        let row = row.map(HeldRow::row);
        let cells = row.iter().flat_map(|row| &row.cells);
        cells.map(|cell| String::from_utf8_lossy(cell.unwrap_or_default())).collect::<Vec<_>>().join("=")
    }

    /// What is due, as `op:old>new`.
    fn due(net: &mut NetChanges) -> Vec<String> {
        let changes = std::iter::from_fn(|| net.pop_due());
        let shown = |change: NetChange| {
            format!("{}:{}>{}", change.at.op, text(change.old.as_ref()), text(change.new.as_ref()))
        };
        changes.map(shown).collect()
    }

    fn settled(changes: &[&'static str]) -> Vec<String> {
        let mut net = NetChanges::default();
        push(&mut net, changes).unwrap();
        net.settle(&relation(), true).unwrap();
        due(&mut net)
    }

    #[test]
    fn keys_that_move_on_leave_one_row_each() {
        assert_eq!(
            settled(&["1=a>2=a", "2=b>3=b", "3=c>4=c"]),
            ["0:1=a>", "2:2=b>2=a", "4:3=c>3=b", "5:>4=c"]
        );
        assert_eq!(settled(&["1=a>2=a", "2=b>1=b"]), ["2:2=b>2=a", "3:1=a>1=b"]);
    }

    #[test]
    fn the_order_of_changes_does_not_count() {
        assert_eq!(settled(&[">1=new", "1=old>"]), ["2:1=old>1=new"]);
        assert_eq!(settled(&["1=old>", ">1=new"]), ["2:1=old>1=new"]);
        assert_eq!(
            settled(&[">1=x", "1=x>"]),
            [""; 0],
            "whichever of two equal rows goes, one stays or none"
        );
        assert_eq!(settled(&["1=a>2=a", "2=b>1=b", "2=a>1=a", "1=b>2=b"]), [""; 0]);
    }

    #[test]
    fn what_concerns_one_key_once_stays_as_it_came() {
        assert_eq!(
            settled(&[">1=a", "2=b>2=c", "3=d>", "4=e>5=e"]),
            ["0:>1=a", "2:2=b>2=c", "4:3=d>", "6:4=e>5=e"]
        );
        assert_eq!(settled(&["4=e>5=e", "5=e>6=f"]), ["0:4=e>", "3:>6=f"]);
    }

    #[test]
    fn equal_rows_are_one_to_clients() {
        assert_eq!(settled(&[">1=a", ">1=a"]), ["2:>1=a"]);
        assert_eq!(settled(&["1=a>", "1=a>", ">1=a"]), ["4:1=a>"]);
    }

    #[test]
    fn a_key_that_was_settled_too_early_is_an_error() {
        let mut net = NetChanges::default();
        push(&mut net, &[">1=a", ">2=b", "2=b>"]).unwrap();
        net.settle(&relation(), false).unwrap();
        assert_eq!(due(&mut net), ["0:>1=a"]);
        assert_eq!(net.len_bytes(), 0);
        assert_eq!(push(&mut net, &[">2=c", "3=x>"]), Ok(()));
        assert_eq!(push(&mut net, &["1=b>"]), Err(SettledTooEarly));
        net.settle(&relation(), true).unwrap();
        assert_eq!(due(&mut net).len(), 2);
        assert_eq!(push(&mut net, &["1=b>"]), Ok(()), "another transaction");
    }

    #[test]
    fn what_cancels_out_takes_no_room() {
        let mut net = NetChanges::default();
        push(&mut net, &[">1=a"]).unwrap();
        let bytes = net.len_bytes();
        assert!(bytes > 2);
        push(&mut net, &["2=b>", ">2=b", "1=a>"]).unwrap();
        assert_eq!(net.len_bytes(), 0);
    }
}
