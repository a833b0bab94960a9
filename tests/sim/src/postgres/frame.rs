//! The model's changes as the frames of pgoutput, protocol version 1.

use super::leaf::{LEAVES, leaf_of, leaves_of};
use super::{COLUMNS, Change, Committed, Row};

/// From a transaction to the frames that a slot sends; `described` is what the connection was told already.
pub(super) fn frames(transaction: &Committed, described: &mut [bool; LEAVES.len()]) -> Vec<(u64, Vec<u8>)> {
    let mut frames = vec![(transaction.commit, begin(transaction))];
    for (table, change, at) in &transaction.changes {
        for leaf in leaves_touched(*table, change) {
            if !std::mem::replace(&mut described[leaf], true) {
                frames.push((*at, relation(leaf)));
            }
        }
        frames.extend(changes(*table, change).into_iter().map(|frame| (*at, frame)));
    }
    frames.push((transaction.commit, commit(transaction)));
    frames
}

/// The leaves that a change is of, each once.
fn leaves_touched(table: usize, change: &Change) -> Vec<usize> {
    let mut leaves = match change {
        Change::Insert(key, _) | Change::Delete(key, _) => vec![leaf_of(table, *key)],
        Change::Update(old, _, new, _) => vec![leaf_of(table, *old), leaf_of(table, *new)],
        Change::Truncate => leaves_of(table).collect(),
    };
    leaves.dedup();
    leaves
}

fn begin(transaction: &Committed) -> Vec<u8> {
    let xid = transaction.xid as u32;
    [&b"B"[..], &transaction.commit.to_be_bytes(), &[0; 8], &xid.to_be_bytes()].concat()
}

fn commit(transaction: &Committed) -> Vec<u8> {
    [&b"C\0"[..], &transaction.commit.to_be_bytes(), &transaction.end.to_be_bytes(), &[0; 8]].concat()
}

fn relation(leaf: usize) -> Vec<u8> {
    let leaf = &LEAVES[leaf];
    let mut frame = [&b"R"[..], &leaf.oid.to_be_bytes(), b"public\0", leaf.name.as_bytes()].concat();
    frame.extend_from_slice(b"\0f");
    frame.extend_from_slice(&(COLUMNS.len() as u16).to_be_bytes());
    for index in leaf.columns {
        let (column, type_oid) = COLUMNS[index];
        frame.push(1);
        frame.extend_from_slice(column.as_bytes());
        frame.push(0);
        frame.extend_from_slice(&type_oid.to_be_bytes());
        frame.extend_from_slice(&(-1_i32).to_be_bytes());
    }
    frame
}

/// A change as pgoutput tells it: a row that moves to another partition is deleted in one and inserted in the other.
fn changes(table: usize, change: &Change) -> Vec<Vec<u8>> {
    match change {
        Change::Insert(key, new) => vec![insert(leaf_of(table, *key), new)],
        Change::Delete(key, old) => vec![delete(leaf_of(table, *key), old)],
        Change::Update(old_key, old, new_key, new) => {
            let (from, to) = (leaf_of(table, *old_key), leaf_of(table, *new_key));
            match from == to {
                true => vec![update(from, old, new)],
                false => vec![delete(from, old), insert(to, new)],
            }
        }
        Change::Truncate => {
            let oids: Vec<[u8; 4]> = leaves_of(table).map(|leaf| LEAVES[leaf].oid.to_be_bytes()).collect();
            vec![[&b"T"[..], &(oids.len() as u32).to_be_bytes(), b"\0", &oids.concat()].concat()]
        }
    }
}

fn insert(leaf: usize, new: &Row) -> Vec<u8> {
    [&b"I"[..], &LEAVES[leaf].oid.to_be_bytes(), b"N", &tuple(leaf, new, None)].concat()
}

fn delete(leaf: usize, old: &Row) -> Vec<u8> {
    [&b"D"[..], &LEAVES[leaf].oid.to_be_bytes(), b"O", &tuple(leaf, old, None)].concat()
}

fn update(leaf: usize, old: &Row, new: &Row) -> Vec<u8> {
    let (before, after) = (tuple(leaf, old, None), tuple(leaf, new, Some(old)));
    [&b"U"[..], &LEAVES[leaf].oid.to_be_bytes(), b"O", &before, b"N", &after].concat()
}

/// A row; a long value that is what it was is left out, as Postgres does with TOAST.
fn tuple(leaf: usize, row: &Row, before: Option<&Row>) -> Vec<u8> {
    const TOAST_BYTES_MIN: usize = 8;
    let mut bytes = (row.len() as u16).to_be_bytes().to_vec();
    for index in LEAVES[leaf].columns {
        let cell = &row[index];
        let same = before.is_some_and(|before| before[index] == *cell);
        match cell {
            None => bytes.push(b'n'),
            Some(text) if same && text.len() >= TOAST_BYTES_MIN => bytes.push(b'u'),
            Some(text) => {
                bytes.push(b't');
                bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    bytes
}
