//! pgoutput: a frame is refused, or every row in it can be walked to its end.

use limn_core::pgoutput::{COLUMNS_MAX, Cell, Message, OldTuple, Tuple, decode};

/// `frame` is the payload of one XLogData message.
pub fn check(frame: &[u8]) {
    let Ok(message) = decode(frame) else { return };
    match message {
        Message::Insert { new, .. } => walk(new, frame),
        Message::Update { old, new, .. } => {
            old.into_iter().for_each(|old| walk_old(old, frame));
            walk(new, frame);
        }
        Message::Delete { old, .. } => walk_old(old, frame),
        Message::Relation(relation) => assert!(relation.columns.len() <= COLUMNS_MAX),
        Message::Truncate { relations } => assert!(relations.len() * 4 <= frame.len()),
        Message::Begin(_) | Message::Commit(_) | Message::Origin | Message::Type | Message::Logical => {}
    }
}

fn walk_old(old: OldTuple<'_>, frame: &[u8]) {
    let (OldTuple::Full(tuple) | OldTuple::Key(tuple)) = old;
    walk(tuple, frame);
}

/// As many cells come as were announced, and together they are not longer than the frame.
fn walk(tuple: Tuple<'_>, frame: &[u8]) {
    assert_eq!(tuple.iter().count(), tuple.len());
    let text_bytes: usize =
        tuple.iter().map(|cell| if let Cell::Text(text) = cell { text.len() } else { 0 }).sum();
    assert!(text_bytes < frame.len());
}
