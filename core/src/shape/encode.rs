//! Each change encoded once per (format, outcome), whatever the number of shapes.
//!
//! Before it: `routing`, which knows what a change is to each shape. Behind it: [`ItemFormat`] makes the bytes; the [`Fragment`]
//! goes by way of [`Router`](super::Router) to [`store::Logs::append`](crate::store::Logs::append).

use super::row::Row;
use crate::ShapeId;
use crate::log::Fragment;
use crate::log::item::{ChangePosition, ItemFormat};
use crate::log::rope::SHARED_BYTES_MIN;
use bytes::Bytes;
use std::ops::Range;

/// A change of a row, as one shape sees it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome<'a> {
    /// The row comes.
    Insert(&'a Row<'a>),
    /// The row stays and changes, perhaps its key too.
    Update(&'a Row<'a>, &'a Row<'a>),
    /// The row goes.
    Delete(&'a Row<'a>),
}

/// The items of one change. Buffers are kept from change to change.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    encoded: Vec<Encoded>,
    /// How many of `encoded` belong to the current change; the rest are spare buffers.
    used: usize,
}

/// Names what one [`Encoder::encode`] gave, until the encoder is drained.
#[derive(Debug, Clone, Copy)]
pub(super) struct EncodedIndex(usize);

#[derive(Debug, Default)]
struct Encoded {
    format: usize,
    kind: Option<Kind>,
    /// The items' bytes; long ones are in `shared` instead, so that the fragment takes them without a copy.
    bytes: Vec<u8>,
    shared: Bytes,
    /// One item, or the two halves of a key change; an empty range is no item.
    first: (u64, Range<usize>),
    second: (u64, Range<usize>),
    targets: Vec<ShapeId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Insert,
    Update,
    Delete,
}

impl Encoder {
    /// The items for an outcome in a format: encoded now, or earlier for another shape.
    pub(super) fn encode(
        &mut self,
        format: usize,
        items: &ItemFormat,
        outcome: Outcome<'_>,
        at: ChangePosition,
    ) -> EncodedIndex {
        let kind = Some(outcome.kind());
        let current = self.encoded.get(..self.used).unwrap_or_default();
        if let Some(known) = current.iter().position(|e| e.format == format && e.kind == kind) {
            return EncodedIndex(known);
        }
        if self.used == self.encoded.len() {
            self.encoded.push(Encoded::default());
        }
        let entry = self.encoded.get_mut(self.used).expect("one was just pushed");
        let (first, second) = push(items, outcome, at, &mut entry.bytes);
        if entry.bytes.len() >= SHARED_BYTES_MIN {
            entry.bytes.shrink_to_fit();
            entry.shared = Bytes::from(std::mem::take(&mut entry.bytes));
        }
        (entry.format, entry.kind, entry.first, entry.second) = (format, kind, first, second);
        self.used += 1;
        EncodedIndex(self.used - 1)
    }

    /// Appends the items to a fragment.
    pub(super) fn push_into(&self, fragment: &mut Fragment, index: EncodedIndex, targets: &[ShapeId]) {
        if let Some(entry) = self.encoded.get(index.0) {
            entry.push_into(fragment, targets);
        }
    }

    /// Bytes of the items.
    pub(super) fn len_bytes(&self, index: EncodedIndex) -> usize {
        self.encoded.get(index.0).map_or(0, |entry| entry.first.1.len() + entry.second.1.len())
    }

    /// Sends the items to a shape.
    pub(super) fn target(&mut self, index: EncodedIndex, shape: ShapeId) {
        if let Some(entry) = self.encoded.get_mut(index.0) {
            entry.targets.push(shape);
        }
    }

    /// Moves everything that has a target into the fragment, and is empty again.
    pub(super) fn drain_into(&mut self, fragment: &mut Fragment) {
        for entry in self.encoded.get_mut(..self.used).unwrap_or_default() {
            if !entry.targets.is_empty() {
                entry.push_into(fragment, &entry.targets);
            }
            entry.targets.clear();
            entry.bytes.clear();
            entry.shared = Bytes::new();
        }
        self.used = 0;
    }
}

impl Encoded {
    fn push_into(&self, fragment: &mut Fragment, targets: &[ShapeId]) {
        for (op, range) in [&self.first, &self.second] {
            if self.shared.is_empty() {
                let bytes = self.bytes.get(range.clone()).filter(|bytes| !bytes.is_empty());
                bytes.into_iter().for_each(|bytes| fragment.push(*op, bytes, targets));
            } else if range.len() >= SHARED_BYTES_MIN {
                fragment.push_shared(*op, self.shared.slice(range.clone()), targets);
            } else if let Some(bytes) = self.shared.get(range.clone()).filter(|bytes| !bytes.is_empty()) {
                // One that is short, beside a long one, must not hold on to the memory of both.
                fragment.push(*op, bytes, targets);
            }
        }
    }
}

impl Outcome<'_> {
    const fn kind(&self) -> Kind {
        match self {
            Self::Insert(_) => Kind::Insert,
            Self::Update(..) => Kind::Update,
            Self::Delete(_) => Kind::Delete,
        }
    }
}

type Item = (u64, Range<usize>);

fn push(items: &ItemFormat, outcome: Outcome<'_>, at: ChangePosition, out: &mut Vec<u8>) -> (Item, Item) {
    let start = out.len();
    match outcome {
        Outcome::Insert(new) => items.push_insert(out, new, at),
        Outcome::Delete(old) => items.push_delete(out, old, at),
        Outcome::Update(old, new) if items.key_differs(old, new) => {
            items.push_delete_of_key_change(out, old, new, at);
            let middle = out.len();
            items.push_insert_of_key_change(out, old, new, at);
            return ((at.op, start..middle), (at.op + 1, middle..out.len()));
        }
        // Nothing is pushed where no selected column changed.
        Outcome::Update(old, new) => {
            items.push_update(out, old, new, at);
        }
    }
    ((at.op, start..out.len()), (0, 0..0))
}
