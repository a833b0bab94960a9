//! What must be true, whatever happens (the invariants of `ARCHITECTURE.md`).
//!
//! The judge remembers every byte that was ever served under a handle and where every offset stood, and compares
//! each later answer with it. It computes the rows of each shape from the model's WAL alone.

pub mod limits;
mod view;

use crate::client::{Client, Verdict, messages, position};
use crate::postgres::{Change, Postgres, TABLES, Tables, apply};
use crate::reply::Reply;
use crate::shapes::{KINDS, ShownRow};
use limn_core::log::Rope;
use limn_core::shape::DropCause;
use limn_core::store::Limits;
use limn_core::{Handle, Offset};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An act of the origin that the judge must know.
#[derive(Debug)]
pub enum Event {
    /// A shape's snapshot was taken.
    Snapshot(Handle, usize),
    /// A shape was dropped.
    Dropped(Handle, DropCause),
    /// A piece was handed to the commit log.
    Queued(Rope),
}

/// Everything that was ever said.
#[derive(Debug)]
pub struct Judge {
    limits: Limits,
    logs: BTreeMap<Handle, KnownLog>,
    /// Handles that may be gone.
    excused: BTreeSet<Handle>,
}

/// The judge's knowledge of one shape.
#[derive(Debug)]
struct KnownLog {
    kind: usize,
    database: Database,
    /// The snapshot's chunks by the offset before them.
    chunks: BTreeMap<Offset, (Vec<u8>, Offset)>,
    /// The change log as far as it was ever served.
    bytes: Vec<u8>,
    /// For each offset the position behind its item.
    ends: BTreeMap<Offset, usize>,
    /// The same of segments that compaction has written, by where each begins.
    compacted: BTreeMap<u64, BTreeMap<Offset, Vec<u8>>>,
    /// Closed chunks of the change log: the segment and the offset before, and the offset behind.
    closed: BTreeMap<(u64, Offset), Offset>,
    /// Those that the first process told of. A second one may show a move before the first knows that it is durable.
    closed_by_first: BTreeSet<(u64, Offset)>,
}

/// The tables after some of the WAL's transactions, as one shape shows them.
#[derive(Debug)]
struct Database {
    kind: usize,
    tables: Tables,
    /// How many transactions.
    applied: usize,
}

impl Judge {
    /// A judge who has seen nothing yet. The origin's limits are these.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, logs: BTreeMap::new(), excused: BTreeSet::new() }
    }

    /// Notes what happened in the origin.
    ///
    /// # Errors
    /// Where it should not have happened.
    pub fn handle_event(&mut self, event: Event, postgres: &Postgres) -> Verdict {
        match event {
            Event::Queued(piece) => limits::check_piece(&piece, &self.limits)?,
            Event::Dropped(handle, DropCause::Truncated) => {
                let kind = self.logs.get(&handle).map(|known| known.kind);
                let is_truncated = |table: usize| {
                    let changes = postgres.wal().iter().flat_map(|transaction| &transaction.changes);
                    changes.into_iter().any(|(at, change, _)| *at == table && *change == Change::Truncate)
                };
                let is_read = |table: &usize| kind.is_none_or(|kind| KINDS[kind].reads(*table));
                if !(0..TABLES.len()).filter(is_read).any(is_truncated) {
                    return Err(format!("{handle} rotated for a TRUNCATE that nobody made"));
                }
                self.excuse(handle);
            }
            Event::Dropped(handle, DropCause::CreationFailed | DropCause::Deleted) => self.excuse(handle),
            Event::Dropped(handle, cause) => return Err(format!("{handle} was dropped: {cause:?}")),
            Event::Snapshot(handle, kind) => {
                let known = KnownLog::new(kind, postgres);
                if self.logs.insert(handle, known).is_some() {
                    return Err(format!("handle {handle} was given twice"));
                }
            }
        }
        Ok(())
    }

    /// The shape may be gone from now on.
    pub fn excuse(&mut self, handle: Handle) {
        self.excused.insert(handle);
    }

    /// The handles that were ever served, each with its kind of shape.
    #[must_use]
    pub fn handles(&self) -> Vec<(Handle, usize)> {
        self.logs.iter().map(|(handle, known)| (*handle, known.kind)).collect()
    }

    /// Every offset that was ever told of a shape.
    #[must_use]
    pub fn offsets(&self, handle: Handle) -> Vec<Offset> {
        let known = self.logs.get(&handle);
        known.into_iter().flat_map(KnownLog::offsets).collect()
    }

    /// Compares an answer with everything that was said before.
    ///
    /// # Errors
    /// Where it contradicts.
    pub fn check_reply(&mut self, handle: Handle, after: Offset, reply: &Reply) -> Verdict {
        self.check(handle, after, reply, false)
    }

    /// The same for a second process, which may be behind the first one.
    ///
    /// # Errors
    /// Where it contradicts.
    pub fn check_reply_of_second(&mut self, handle: Handle, after: Offset, reply: &Reply) -> Verdict {
        self.check(handle, after, reply, true)
    }

    fn check(&mut self, handle: Handle, after: Offset, reply: &Reply, may_lag: bool) -> Verdict {
        let context = |what: String| format!("{handle} after {after}: {what}");
        match reply {
            Reply::Unavailable => return Ok(()),
            Reply::MustRefetch if self.excused.contains(&handle) => return Ok(()),
            Reply::MustRefetch => return Err(context("the shape is gone without a reason".to_owned())),
            Reply::OutOfBounds => return Err(context("an offset that was served is unknown".to_owned())),
            Reply::Unreadable => return Err(context("the shape's files lack what was written".to_owned())),
            Reply::Snapshot { .. } | Reply::Changes { .. } => {}
        }
        let known =
            self.logs.get_mut(&handle).ok_or_else(|| context("it never had a snapshot".to_owned()))?;
        let mut check = || match reply {
            Reply::Snapshot { bytes, offset } => known.check_chunk(after, bytes, *offset),
            Reply::Changes { bytes, offset, closed, segment, up_to_date } => {
                match segment {
                    0 => known.check_changes(after, bytes, *offset)?,
                    _ => known.check_compacted(*segment, after, bytes, *offset)?,
                }
                let place = (*segment, after);
                if *closed && !may_lag {
                    known.closed_by_first.insert(place);
                }
                known.check_closed(place, *offset, *closed, up_to_date.is_some() && !may_lag)
            }
            _ => Ok(()),
        };
        check().map_err(context)
    }

    /// Compares a client that was told that it is up to date with the database.
    ///
    /// # Errors
    /// Where its rows are others.
    pub fn check_client(&mut self, client: &Client, postgres: &Postgres) -> Verdict {
        let (Some(handle), Some(lsn)) = (client.handle, client.up_to_date) else { return Ok(()) };
        let known = self.logs.get_mut(&handle).ok_or("a client of an unknown shape")?;
        let seen = postgres.wal().partition_point(|transaction| transaction.commit <= lsn);
        if seen < known.database.applied {
            return Err(format!("{handle}: global_last_seen_lsn falls back to {lsn}"));
        }
        check_rows(client, (handle, lsn), &known.database.rows_at(lsn, postgres))
    }

    /// The same for a client of a second process, which may name an older LSN after it was started again.
    ///
    /// # Errors
    /// Where its rows are others.
    pub fn check_client_of_second(&self, client: &Client, postgres: &Postgres) -> Verdict {
        let (Some(handle), Some(lsn)) = (client.handle, client.up_to_date) else { return Ok(()) };
        let known = self.logs.get(&handle).ok_or("a client of an unknown shape")?;
        check_rows(client, (handle, lsn), &Database::new(known.kind, postgres).rows_at(lsn, postgres))
    }
}

fn check_rows(
    client: &Client,
    (handle, lsn): (Handle, u64),
    expected: &BTreeMap<Option<String>, ShownRow>,
) -> Verdict {
    let rows = client.rows().map(|(_, row)| (row["id"].clone(), row.clone()));
    let shown: BTreeMap<Option<String>, ShownRow> = rows.collect();
    if shown == *expected && shown.len() == client.rows().count() {
        return Ok(());
    }
    Err(format!("{handle} at {lsn}: the client has {shown:?}, the database {expected:?}"))
}

impl Database {
    fn new(kind: usize, postgres: &Postgres) -> Self {
        Self { kind, tables: postgres.first_tables().clone(), applied: 0 }
    }

    /// The shape's rows, by their id, after every transaction that commits up to `lsn`, and no other.
    fn rows_at(&mut self, lsn: u64, postgres: &Postgres) -> BTreeMap<Option<String>, ShownRow> {
        let kind = &KINDS[self.kind];
        while let Some(transaction) = postgres.wal().get(self.applied).filter(|next| next.commit <= lsn) {
            transaction.changes.iter().for_each(|(table, change, _)| apply(&mut self.tables[*table], change));
            self.applied += 1;
        }
        let rows = self.tables[kind.table].values().filter(|row| (kind.holds)(row, &self.tables));
        rows.map(|row| (row[0].clone(), kind.shown(row))).collect()
    }
}

impl KnownLog {
    fn new(kind: usize, postgres: &Postgres) -> Self {
        Self {
            kind,
            database: Database::new(kind, postgres),
            chunks: BTreeMap::new(),
            bytes: Vec::new(),
            ends: BTreeMap::new(),
            compacted: BTreeMap::new(),
            closed: BTreeMap::new(),
            closed_by_first: BTreeSet::new(),
        }
    }

    fn check_chunk(&mut self, after: Offset, bytes: &[u8], offset: Offset) -> Verdict {
        let chunk = (bytes.to_vec(), offset);
        match self.chunks.get(&after) {
            Some(before) if *before != chunk => Err("a chunk of the snapshot has changed".to_owned()),
            Some(_) => Ok(()),
            None => {
                messages(bytes)?;
                self.chunks.insert(after, chunk);
                Ok(())
            }
        }
    }

    fn check_changes(&mut self, after: Offset, bytes: &[u8], offset: Offset) -> Verdict {
        let start = match self.ends.get(&after) {
            _ if after.is_virtual() => 0,
            Some(end) => *end,
            // Told by a segment that a crash has taken back.
            None if self.offsets().any(|told| told == after) => return Ok(()),
            None => return Err("nobody was told it".to_owned()),
        };
        let end = start + bytes.len();
        let overlap = self.bytes.len().min(end);
        if self.bytes[start..overlap] != bytes[..overlap - start] {
            let (then, now) = (&self.bytes[start..overlap], &bytes[..overlap - start]);
            return Err(format!(
                "other bytes than before: {} instead of {}",
                String::from_utf8_lossy(now),
                String::from_utf8_lossy(then)
            ));
        }
        if end > self.bytes.len() {
            let new = bytes[overlap - start..].to_vec();
            self.grow(&new)?;
        }
        if bytes.is_empty() {
            return Ok(());
        }
        // A move's items carry no position. The reply's offset is that of its last item.
        let is_behind = self.ends.range(..offset).next_back().is_none_or(|(_, before)| *before < end);
        let is_before = self.ends.range(offset..).next().is_none_or(|(_, behind)| *behind > end);
        if is_behind && is_before {
            self.ends.insert(offset, end);
        }
        match self.ends.get(&offset) == Some(&end) {
            true => Ok(()),
            false => Err(format!("{offset} is not the offset of its last item")),
        }
    }

    /// The same for a segment that compaction has written: what is behind an offset is always the same, or longer.
    fn check_compacted(&mut self, segment: u64, after: Offset, bytes: &[u8], offset: Offset) -> Verdict {
        let last = messages(bytes)?.last().and_then(|message| position(&message["headers"]));
        if last.is_some_and(|(tx, op)| Offset::new(tx, op) != offset) {
            return Err(format!("{offset} is not the offset of its last item"));
        }
        let known = self.compacted.entry(segment).or_default();
        known.entry(offset).or_default();
        let before = known.entry(after).or_default();
        let overlap = before.len().min(bytes.len());
        if before[..overlap] != bytes[..overlap] {
            let [then, now] = [&before[..], bytes].map(String::from_utf8_lossy);
            return Err(format!("other bytes than before: {now} instead of {then}"));
        }
        if before.len() < bytes.len() {
            *before = bytes.to_vec();
        }
        Ok(())
    }

    /// Every offset that was ever told.
    fn offsets(&self) -> impl Iterator<Item = Offset> {
        let compacted = self.compacted.values().flat_map(BTreeMap::keys);
        self.chunks.keys().chain(self.ends.keys()).chain(compacted).copied()
    }

    /// A closed chunk ends where it ended. After a crash the log may end with it or inside it for a while, but then
    /// nothing says that the chunk is closed, or the reader up to date.
    fn check_closed(
        &mut self,
        place: (u64, Offset),
        offset: Offset,
        closed: bool,
        up_to_date: bool,
    ) -> Verdict {
        match self.closed.get(&place) {
            Some(before) if offset > *before || closed && offset != *before => {
                Err(format!("a closed chunk ended at {before} and ends at {offset} now"))
            }
            Some(_) if up_to_date && self.closed_by_first.contains(&place) => {
                Err("what followed a closed chunk is gone".to_owned())
            }
            None if closed => {
                self.closed.insert(place, offset);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Learns items that nobody had seen.
    fn grow(&mut self, new: &[u8]) -> Verdict {
        let mut rest = new;
        while let Some(length) = item_length(rest) {
            let (item, behind) = rest.split_at(length);
            let message = messages(item)?.pop().ok_or("an empty item")?;
            self.bytes.extend_from_slice(item);
            if let Some((tx, op)) = position(&message["headers"]) {
                let offset = Offset::new(tx, op);
                if self.ends.last_key_value().is_some_and(|(last, _)| *last >= offset) {
                    return Err(format!("offset {offset} does not increase"));
                }
                self.ends.insert(offset, self.bytes.len());
            } else if !is_of_move(&message) {
                return Err(format!("an item without a position: {message}"));
            }
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err("an item is cut off".to_owned()) }
    }
}

/// True for an event, a row and the end of a move.
fn is_of_move(message: &Value) -> bool {
    let headers = &message["headers"];
    headers["event"].is_string() || headers["is_move_in"] == true || headers["control"] == "snapshot-end"
}

/// The length of the first item with its comma: up to where its braces are closed.
fn item_length(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0_u32, false, false);
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b'{' if !in_text => depth += 1,
            b'}' if !in_text => {
                depth -= 1;
                if depth == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}
