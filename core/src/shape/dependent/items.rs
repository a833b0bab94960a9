//! The messages of shapes with subqueries: items with tags, and the events of a move (protocol §4.8).

use super::judge::{Active, Judge, Tags};
use super::member::Member;
use crate::log::item::{ChangePosition, ITEM_SUFFIX, ItemFormat};
use crate::pg::Row;
use std::borrow::Borrow;

/// A change of a row, as one shape sees it.
pub(super) enum Change<'a, R> {
    Insert(&'a R, Active),
    Update { old: &'a R, new: &'a R, active: Active },
    Delete(&'a R, Active),
}

/// Encodes a change and hands each of its items on as (operation number, bytes).
pub(super) fn encode<R: Row>(
    judge: &Judge,
    format: &ItemFormat,
    change: &Change<'_, R>,
    at: ChangePosition,
    mut each: impl FnMut(u64, &[u8]),
) {
    let mut out = Vec::new();
    match *change {
        Change::Insert(new, active) => {
            format.push_insert(&mut out, new, at);
            splice(judge, &mut out, &judge.tags(new), active, None);
        }
        Change::Delete(old, active) => {
            format.push_delete(&mut out, old, at);
            splice(judge, &mut out, &judge.tags(old), active, None);
        }
        Change::Update { old, new, active } if format.key_differs(old, new) => {
            let (before, after) = (judge.tags(old), judge.tags(new));
            format.push_delete_of_key_change(&mut out, old, new, at);
            let both = after.iter().chain(before.without(&after));
            splice_tags(judge, &mut out, both, active, None::<std::iter::Empty<&str>>);
            each(at.op, &out);
            out.clear();
            format.push_insert_of_key_change(&mut out, old, new, at);
            splice(judge, &mut out, &after, active, None);
            each(at.op + 1, &out);
            return;
        }
        Change::Update { old, new, active } => {
            let (before, after) = (judge.tags(old), judge.tags(new));
            format.push_update_anyway(&mut out, old, new, at);
            splice(judge, &mut out, &after, active, Some(&before));
        }
    }
    each(at.op, &out);
}

/// Puts tags and conditions into an item, behind its other headers.
pub(super) fn splice(judge: &Judge, out: &mut Vec<u8>, tags: &Tags, active: Active, before: Option<&Tags>) {
    splice_tags(judge, out, tags.iter(), active, before.map(|before| before.without(tags)));
}

fn splice_tags<'a, 'b>(
    judge: &Judge,
    out: &mut Vec<u8>,
    tags: impl Iterator<Item = &'a str>,
    active: Active,
    removed: Option<impl Iterator<Item = &'b str>>,
) {
    out.truncate(out.len() - ITEM_SUFFIX.len());
    out.extend_from_slice(b",\"tags\":");
    push_list(out, tags);
    out.extend_from_slice(b",\"active_conditions\":[");
    for position in 0..judge.filter.positions().len() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(if active.has(position) { b"true" } else { b"false" });
    }
    out.push(b']');
    if let Some(removed) = removed {
        out.extend_from_slice(b",\"removed_tags\":");
        push_list(out, removed);
    }
    out.extend_from_slice(ITEM_SUFFIX);
}

/// Tags are hexadecimal digits and slashes: nothing in them needs an escape.
fn push_list<'a>(out: &mut Vec<u8>, tags: impl Iterator<Item = &'a str>) {
    out.push(b'[');
    for (index, tag) in tags.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(tag.as_bytes());
        out.push(b'"');
    }
    out.push(b']');
}

/// The event by which rows with these values enter or leave.
pub(super) fn event(judge: &Judge, name: &str, patterns: &[(usize, Member)], txids: &[u32]) -> Vec<u8> {
    let pattern = |(position, value): &(usize, Member)| {
        let mut hash = String::new();
        judge.push_hash(value.borrow(), &mut hash);
        format!("{{\"pos\":{position},\"value\":\"{hash}\"}}")
    };
    let patterns: Vec<String> = patterns.iter().map(pattern).collect();
    let txids: Vec<String> = txids.iter().map(u32::to_string).collect();
    let (patterns, txids) = (patterns.join(","), txids.join(","));
    format!("{{\"headers\":{{\"event\":\"{name}\",\"patterns\":[{patterns}],\"txids\":[{txids}]}}}}")
        .into_bytes()
}

/// A row that came with a move, as of the move's snapshot.
pub(super) fn moved_in(judge: &Judge, format: &ItemFormat, row: &impl Row, active: Active) -> Vec<u8> {
    let mut out = Vec::new();
    format.push_moved_row(&mut out, row);
    splice(judge, &mut out, &judge.tags(row), active, None);
    out
}
