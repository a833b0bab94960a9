//! Shapes by a key: those whose clause demands one value of a column, of several, or of an array's elements.

use crate::ShapeId;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};

/// A key; a short one takes no memory of its own.
#[derive(Debug, Clone)]
pub(super) struct Key(Bytes);

#[derive(Debug, Clone)]
enum Bytes {
    Short(u8, [u8; SHORT_BYTES]),
    Long(Box<[u8]>),
}

/// As many as an enum has room for that holds a `Box` too.
const SHORT_BYTES: usize = 22;

/// Shapes that stand in one place; mostly there is one.
#[derive(Debug)]
pub(super) enum Ids {
    One(ShapeId),
    #[allow(
        clippy::box_collection,
        reason = "there are many of these, and few of them hold more than one shape"
    )]
    Many(Box<BTreeSet<ShapeId>>),
}

/// Shapes by key.
#[derive(Debug, Default)]
pub(in crate::shape) struct Values(HashMap<Key, Ids>);

impl Values {
    pub(in crate::shape) fn insert(&mut self, key: &[u8], id: ShapeId) {
        match self.0.get_mut(key) {
            Some(ids) => ids.insert(id),
            None => _ = self.0.insert(Key::from(key), Ids::One(id)),
        }
    }

    pub(in crate::shape) fn remove(&mut self, key: &[u8], id: ShapeId) {
        if self.0.get_mut(key).is_some_and(|ids| ids.remove(id)) {
            self.0.remove(key);
        }
    }

    pub(in crate::shape) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::shape) fn get(&self, key: &[u8]) -> impl Iterator<Item = ShapeId> {
        self.0.get(key).into_iter().flat_map(Ids::iter)
    }

    pub(in crate::shape) fn all(&self) -> impl Iterator<Item = ShapeId> {
        self.0.values().flat_map(Ids::iter)
    }
}

impl Ids {
    pub(super) fn insert(&mut self, id: ShapeId) {
        match self {
            Self::One(known) if *known == id => {}
            Self::One(known) => *self = Self::Many(Box::new(BTreeSet::from([*known, id]))),
            Self::Many(ids) => _ = ids.insert(id),
        }
    }

    /// True where none is left, and this one is to be forgotten.
    pub(super) fn remove(&mut self, id: ShapeId) -> bool {
        match self {
            Self::One(known) => *known == id,
            Self::Many(ids) => {
                ids.remove(&id);
                if let (Some(only), 1) = (ids.first().copied(), ids.len()) {
                    *self = Self::One(only);
                }
                false
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ShapeId> {
        let (one, many) = match self {
            Self::One(id) => (Some(*id), None),
            Self::Many(ids) => (None, Some(ids.iter().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

impl Key {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Bytes::Long(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT_BYTES];
        Self(match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(bytes);
                Bytes::Short(length, short)
            }
            _ => Bytes::Long(bytes.into()),
        })
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn found(values: &Values, key: &[u8]) -> Vec<u32> {
        values.get(key).map(|id| id.0).collect()
    }

    #[test]
    fn shapes_of_one_key_come_and_go() {
        let mut values = Values::default();
        let long = [7; 100];
        for key in [&b"a"[..], b"", &long] {
            values.insert(key, ShapeId(2));
            values.insert(key, ShapeId(2));
            assert_eq!(found(&values, key), [2]);
            values.insert(key, ShapeId(1));
            values.insert(key, ShapeId(3));
            assert_eq!(found(&values, key), [1, 2, 3]);
            values.remove(key, ShapeId(4));
            values.remove(key, ShapeId(2));
            values.remove(key, ShapeId(1));
            values.remove(key, ShapeId(1));
            assert_eq!(found(&values, key), [3]);
            values.remove(key, ShapeId(3));
            assert!(found(&values, key).is_empty() && values.is_empty());
        }
    }

    /// With 40 bytes, and the room that a hash table leaves free, a shape costs well below 100 here.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn an_entry_is_small() {
        assert_eq!((size_of::<Key>(), size_of::<Ids>()), (24, 16));
    }
}
