//! A bounded piece of one transaction: encoded items, and the shapes each belongs to.

use crate::ShapeId;
use std::ops::Range;

/// Items in the order of the WAL, each encoded once and listed with its shapes.
///
/// One buffer holds all bytes and one list all targets: nothing is allocated per item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The transaction's commit LSN.
    pub tx: u64,
    bytes: Vec<u8>,
    targets: Vec<ShapeId>,
    items: Vec<Slot>,
    delivered_bytes: usize,
}

/// One item of a [`Fragment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentItem<'a> {
    /// The item's operation number.
    pub op: u64,
    /// Its wire bytes.
    pub bytes: &'a [u8],
    /// The shapes whose logs it goes to.
    pub targets: &'a [ShapeId],
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    op: u64,
    bytes: Range<usize>,
    targets: Range<usize>,
}

impl Fragment {
    /// An empty fragment of the transaction that commits at `tx`.
    #[must_use]
    pub fn new(tx: u64) -> Self {
        Self { tx, ..Self::default() }
    }

    /// Empties the fragment for transaction `tx` and keeps its buffers.
    pub fn reset(&mut self, tx: u64) {
        self.tx = tx;
        self.bytes.clear();
        self.targets.clear();
        self.items.clear();
        self.delivered_bytes = 0;
    }

    /// Adds an item.
    pub fn push(&mut self, op: u64, bytes: &[u8], targets: &[ShapeId]) {
        let slot = Slot {
            op,
            bytes: self.bytes.len()..self.bytes.len() + bytes.len(),
            targets: self.targets.len()..self.targets.len() + targets.len(),
        };
        self.delivered_bytes += bytes.len() * targets.len();
        self.bytes.extend_from_slice(bytes);
        self.targets.extend_from_slice(targets);
        self.items.push(slot);
    }

    /// The items in order.
    pub fn items(&self) -> impl ExactSizeIterator<Item = FragmentItem<'_>> {
        self.items.iter().map(|slot| FragmentItem {
            op: slot.op,
            bytes: self.bytes.get(slot.bytes.clone()).expect("slots lie inside the buffer"),
            targets: self.targets.get(slot.targets.clone()).expect("slots lie inside the list"),
        })
    }

    /// Every pair of a shape and an item of its, ordered by shape and then by position: all of one
    /// shape's items stand together. `pairs` is scratch space, kept between calls.
    pub fn by_shape<'a>(&'a self, pairs: &'a mut Vec<(ShapeId, u32)>) -> impl Iterator<Item = ShapeItem<'a>> {
        pairs.clear();
        for (index, item) in self.items().enumerate() {
            let index = u32::try_from(index).expect("a fragment is bounded");
            pairs.extend(item.targets.iter().map(|&shape| (shape, index)));
        }
        pairs.sort_unstable();
        pairs.iter().map(|&(shape, index)| {
            let slot = self.items.get(index as usize).expect("indexes come from the list");
            let bytes = self.bytes.get(slot.bytes.clone()).expect("slots lie inside the buffer");
            ShapeItem { shape, op: slot.op, bytes }
        })
    }

    /// True where there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of all items.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that its items add to logs: those of each item, once for every shape that it goes to.
    #[must_use]
    pub const fn delivered_bytes(&self) -> usize {
        self.delivered_bytes
    }
}

/// One item as one shape receives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapeItem<'a> {
    /// The shape.
    pub shape: ShapeId,
    /// The item's operation number.
    pub op: u64,
    /// Its wire bytes.
    pub bytes: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn items_are_grouped_by_shape_in_order() {
        let mut fragment = Fragment::new(9);
        fragment.push(0, b"a", &[ShapeId(2), ShapeId(1)]);
        fragment.push(2, b"b", &[ShapeId(1)]);
        fragment.push(4, b"c", &[]);
        let mut pairs = Vec::new();
        let grouped: Vec<_> =
            fragment.by_shape(&mut pairs).map(|item| (item.shape.0, item.op, item.bytes)).collect();
        assert_eq!(grouped, [(1, 0, &b"a"[..]), (1, 2, b"b"), (2, 0, b"a")]);
        assert_eq!((fragment.len_bytes(), fragment.delivered_bytes()), (3, 3), "`a` twice, `c` never");
        assert!(!fragment.is_empty());
        fragment.reset(10);
        assert_eq!((fragment.len_bytes(), fragment.delivered_bytes(), fragment.tx), (0, 0, 10));
        assert!(fragment.is_empty());
    }
}
