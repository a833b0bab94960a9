//! The model's changes as the frames of pgoutput, protocol version 1.

use super::{COLUMNS, Change, Committed, Row, TABLES, name};

/// From a transaction to the frames that a slot sends; `described` is what the connection was told already.
pub(super) fn frames(transaction: &Committed, described: &mut [bool; TABLES.len()]) -> Vec<(u64, Vec<u8>)> {
    let mut frames = vec![(transaction.commit, begin(transaction))];
    for (table, change, at) in &transaction.changes {
        if !std::mem::replace(&mut described[*table], true) {
            frames.push((*at, relation(*table)));
        }
        frames.push((*at, self::change(*table, change)));
    }
    frames.push((transaction.commit, commit(transaction)));
    frames
}

fn begin(transaction: &Committed) -> Vec<u8> {
    let xid = transaction.xid as u32;
    [&b"B"[..], &transaction.commit.to_be_bytes(), &[0; 8], &xid.to_be_bytes()].concat()
}

fn commit(transaction: &Committed) -> Vec<u8> {
    [&b"C\0"[..], &transaction.commit.to_be_bytes(), &transaction.end.to_be_bytes(), &[0; 8]].concat()
}

fn relation(table: usize) -> Vec<u8> {
    let mut frame = [&b"R"[..], &TABLES[table].to_be_bytes(), b"public\0", name(table).as_bytes()].concat();
    frame.extend_from_slice(b"\0f");
    frame.extend_from_slice(&(COLUMNS.len() as u16).to_be_bytes());
    for (column, type_oid) in COLUMNS {
        frame.push(1);
        frame.extend_from_slice(column.as_bytes());
        frame.push(0);
        frame.extend_from_slice(&type_oid.to_be_bytes());
        frame.extend_from_slice(&(-1_i32).to_be_bytes());
    }
    frame
}

fn change(table: usize, change: &Change) -> Vec<u8> {
    let oid = TABLES[table].to_be_bytes();
    match change {
        Change::Insert(_, new) => [&b"I"[..], &oid, b"N", &tuple(new, None)].concat(),
        Change::Delete(_, old) => [&b"D"[..], &oid, b"O", &tuple(old, None)].concat(),
        Change::Update(_, old, _, new) => {
            [&b"U"[..], &oid, b"O", &tuple(old, None), b"N", &tuple(new, Some(old))].concat()
        }
        Change::Truncate => [&b"T"[..], &1_u32.to_be_bytes(), b"\0", &oid].concat(),
    }
}

/// A row; a long value that is what it was is left out, as Postgres does with TOAST.
fn tuple(row: &Row, before: Option<&Row>) -> Vec<u8> {
    const TOAST_BYTES_MIN: usize = 8;
    let mut bytes = (row.len() as u16).to_be_bytes().to_vec();
    for (index, cell) in row.iter().enumerate() {
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
