//! The maps in which shapes are found. They keep no names: what a request says is compared with what the shape itself
//! knows, so that a shape costs each of them some bytes.

use crate::shapes::Shape;
use hashbrown::HashTable;
use limn_core::Handle;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Spellings that are remembered, beside that by which each shape was first asked for; beyond it they are looked up in the
/// catalog again.
pub(super) const SPELLINGS_MAX: usize = 200_000;

#[derive(Debug, Default)]
pub(super) struct Maps {
    hasher: RandomState,
    pub(super) by_handle: HashMap<Handle, Known>,
    /// By the hash of the identity.
    by_identity: HashTable<(u64, Arc<Shape>)>,
    /// By the hash of the spelling: spares known clients the catalog.
    by_spelling: HashTable<Spelling>,
    /// The number of those that are not the first of their shape.
    other_spellings: usize,
}

/// A shape, and the spellings that lead to it: they go with it, without a search among all.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) shape: Arc<Shape>,
    /// The hashes of its spellings.
    spellings: Vec<u64>,
}

/// A spelling that leads to a shape.
#[derive(Debug)]
struct Spelling {
    hash: u64,
    handle: Handle,
    /// `None` where it is the shape's own.
    other: Option<Box<str>>,
}

impl Maps {
    pub(super) fn by_handle(&self, handle: Handle) -> Option<Arc<Shape>> {
        self.by_handle.get(&handle).map(|known| &known.shape).filter(|shape| shape.is_alive()).cloned()
    }

    pub(super) fn by_identity(&self, identity: &str) -> Option<Arc<Shape>> {
        let hash = self.hasher.hash_one(identity);
        let (_, shape) = self.by_identity.find(hash, |(_, shape)| shape.identity() == identity)?;
        shape.is_alive().then(|| shape.clone())
    }

    pub(super) fn by_spelling(&self, spelling: &str) -> Option<Arc<Shape>> {
        let is_it = |known: &Spelling| {
            let shape = self.by_handle.get(&known.handle).map(|known| &known.shape);
            shape.is_some_and(|shape| shape.is_alive() && known.is(spelling, shape))
        };
        let found = self.by_spelling.find(self.hasher.hash_one(spelling), is_it)?;
        self.by_handle(found.handle)
    }

    /// Adds a shape. One that takes another's place under the same handle, as after a takeover, is found by the other's
    /// spellings too.
    pub(super) fn insert(&mut self, shape: &Arc<Shape>) {
        let replaced = self.by_handle.remove(&shape.handle);
        let spellings = replaced.map(|known| known.spellings).unwrap_or_default();
        self.by_handle.insert(shape.handle, Known { shape: shape.clone(), spellings });
        let identity = shape.identity();
        let hash = self.hasher.hash_one(&identity);
        if let Ok(entry) = self.by_identity.find_entry(hash, |(_, known)| known.identity() == identity) {
            entry.remove();
        }
        self.by_identity.insert_unique(hash, (hash, shape.clone()), |(hash, _)| *hash);
    }

    /// Lets a spelling lead to a shape that is here.
    pub(super) fn remember(&mut self, spelling: &str, shape: &Shape) {
        if self.other_spellings >= SPELLINGS_MAX {
            self.forget_other_spellings();
        }
        let Some(known) = self.by_handle.get_mut(&shape.handle) else { return };
        let (handle, hash) = (shape.handle, self.hasher.hash_one(spelling));
        let is_it = |known: &Spelling| known.handle == handle && known.is(spelling, shape);
        if self.by_spelling.find(hash, is_it).is_some() {
            return;
        }
        known.spellings.push(hash);
        let other = (*shape.spelling != *spelling).then(|| spelling.into());
        self.other_spellings += usize::from(other.is_some());
        self.by_spelling.insert_unique(hash, Spelling { hash, handle, other }, |known| known.hash);
    }

    /// Removes a shape, unless another has taken its place.
    pub(super) fn remove(&mut self, shape: &Shape) {
        let is_it = |known: &Arc<Shape>| std::ptr::eq(known.as_ref(), shape);
        let hash = self.hasher.hash_one(shape.identity());
        if let Ok(entry) = self.by_identity.find_entry(hash, |(_, known)| is_it(known)) {
            entry.remove();
        }
        if self.by_handle.get(&shape.handle).is_some_and(|known| is_it(&known.shape))
            && let Some(known) = self.by_handle.remove(&shape.handle)
        {
            for hash in known.spellings {
                let of_shape = |known: &Spelling| known.hash == hash && known.handle == shape.handle;
                if let Ok(entry) = self.by_spelling.find_entry(hash, of_shape) {
                    self.other_spellings -= usize::from(entry.remove().0.other.is_some());
                }
            }
        }
    }

    fn forget_other_spellings(&mut self) {
        let Self { by_handle, by_spelling, other_spellings, .. } = self;
        by_spelling.retain(|known| known.other.is_none());
        by_handle.values_mut().for_each(|known| known.spellings.clear());
        for known in by_spelling.iter() {
            if let Some(shape) = by_handle.get_mut(&known.handle) {
                shape.spellings.push(known.hash);
            }
        }
        *other_spellings = 0;
    }

    #[cfg(test)]
    pub(super) fn spellings(&self) -> usize {
        self.by_spelling.len()
    }
}

impl Spelling {
    /// True where it is this one, if it leads to `shape`.
    fn is(&self, spelling: &str, shape: &Shape) -> bool {
        self.other.as_deref().unwrap_or(&shape.spelling) == spelling
    }
}
