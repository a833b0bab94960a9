//! A bounded piece of one transaction: encoded items, and the shapes each belongs to.

use super::rope::SHARED_BYTES_MIN;
use crate::ShapeId;
use bytes::Bytes;
use std::ops::Range;

/// Items in the order of the WAL, each encoded once and listed with its shapes.
///
/// One buffer holds the bytes of all short items and one list all targets: nothing is allocated for such an item. A long
/// one ([`SHARED_BYTES_MIN`]) has memory of its own, which whoever takes it shares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The transaction's commit LSN.
    pub tx: u64,
    bytes: Vec<u8>,
    /// The long items.
    shared: Vec<Bytes>,
    len_bytes: usize,
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
    /// The same where they can be shared: a long item.
    pub shared: Option<&'a Bytes>,
    /// The shapes whose logs it goes to.
    pub targets: &'a [ShapeId],
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    op: u64,
    place: Place,
    targets: Range<usize>,
}

/// The place of an item's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In the buffer.
    Own(Range<usize>),
    /// In the list of long items.
    Shared(usize),
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
        self.shared.clear();
        self.len_bytes = 0;
        self.targets.clear();
        self.items.clear();
        self.delivered_bytes = 0;
    }

    /// Adds an item, whose bytes are copied.
    pub fn push(&mut self, op: u64, bytes: &[u8], targets: &[ShapeId]) {
        if bytes.len() >= SHARED_BYTES_MIN {
            return self.push_shared(op, Bytes::copy_from_slice(bytes), targets);
        }
        let place = Place::Own(self.bytes.len()..self.bytes.len() + bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.push_slot(op, place, bytes.len(), targets);
    }

    /// Adds a long item without a copy of its bytes.
    pub fn push_shared(&mut self, op: u64, bytes: Bytes, targets: &[ShapeId]) {
        let (place, length) = (Place::Shared(self.shared.len()), bytes.len());
        self.shared.push(bytes);
        self.push_slot(op, place, length, targets);
    }

    /// Adds an item of another fragment.
    pub fn push_item(&mut self, item: &FragmentItem<'_>, targets: &[ShapeId]) {
        match item.shared {
            Some(bytes) => self.push_shared(item.op, bytes.clone(), targets),
            None => self.push(item.op, item.bytes, targets),
        }
    }

    fn push_slot(&mut self, op: u64, place: Place, length: usize, targets: &[ShapeId]) {
        let slot = Slot { op, place, targets: self.targets.len()..self.targets.len() + targets.len() };
        self.len_bytes += length;
        self.delivered_bytes += length * targets.len();
        self.targets.extend_from_slice(targets);
        self.items.push(slot);
    }

    /// The items in order.
    pub fn items(&self) -> impl ExactSizeIterator<Item = FragmentItem<'_>> {
        self.items.iter().map(|slot| {
            let (bytes, shared) = self.bytes_at(&slot.place);
            let targets = self.targets.get(slot.targets.clone()).expect("slots lie inside the list");
            FragmentItem { op: slot.op, bytes, shared, targets }
        })
    }

    fn bytes_at(&self, place: &Place) -> (&[u8], Option<&Bytes>) {
        match place {
            Place::Own(range) => (self.bytes.get(range.clone()).expect("slots lie inside the buffer"), None),
            Place::Shared(index) => {
                let bytes = self.shared.get(*index).expect("indexes come from the list");
                (bytes, Some(bytes))
            }
        }
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
            let (bytes, shared) = self.bytes_at(&slot.place);
            ShapeItem { shape, op: slot.op, bytes, shared }
        })
    }

    /// True where there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of all items.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.len_bytes
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
    /// The same where they can be shared: a long item.
    pub shared: Option<&'a Bytes>,
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

    #[test]
    fn a_long_item_is_in_memory_once() {
        let long = vec![b'x'; SHARED_BYTES_MIN];
        let mut fragment = Fragment::new(9);
        fragment.push(0, &long[1..], &[ShapeId(1)]);
        fragment.push(2, &long, &[ShapeId(1), ShapeId(2)]);
        let mut other = Fragment::new(9);
        fragment.items().for_each(|item| other.push_item(&item, &[ShapeId(3)]));
        assert_eq!(
            (other.len_bytes(), other.delivered_bytes()),
            (2 * SHARED_BYTES_MIN - 1, 2 * SHARED_BYTES_MIN - 1)
        );
        let places = |fragment: &Fragment| -> Vec<_> {
            fragment.by_shape(&mut Vec::new()).map(|item| item.bytes.as_ptr()).collect()
        };
        let (of_one, of_other) = (places(&fragment), places(&other));
        assert_eq!((of_one[1], of_one[1]), (of_one[2], of_other[1]));
        assert_ne!(of_one[0], of_other[0], "a short one is copied");
    }
}
