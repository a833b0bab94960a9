//! The maps in which shapes are found. They keep no names: what a request says is compared with what the shape itself
//! knows, so that a shape costs each of them some bytes.

use crate::shapes::Shape;
use hashbrown::HashTable;
use limn_core::Handle;
use limn_core::protocol::request::DefinitionRequest;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Spellings that are remembered, beside that by which each shape was first asked for; beyond it they are looked up in the
/// catalog again.
pub(super) const SPELLINGS_MAX: usize = 200_000;

#[derive(Debug, Default)]
pub(super) struct Maps {
    hasher: RandomState,
    /// By the hash of the handle.
    by_handle: HashTable<Arc<Shape>>,
    /// By the hash of the identity.
    by_identity: HashTable<(u64, Arc<Shape>)>,
    /// By the hash of the spelling: spares known clients the catalog.
    by_spelling: HashTable<Spelling>,
    /// The hashes of the spellings that lead to a shape: they go with it, without a search among all. Shapes that nobody
    /// has asked for since a start have none.
    spellings: HashMap<Handle, Vec<u64>>,
    /// The number of those that are not the first of their shape.
    other_spellings: usize,
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
        self.of_handle(handle).filter(|shape| shape.is_alive()).cloned()
    }

    /// Every shape, alive or not.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Shape>> {
        self.by_handle.iter()
    }

    /// Makes room for so many further shapes.
    pub(super) fn reserve(&mut self, shapes: usize) {
        let Self { hasher, by_handle, by_identity, .. } = self;
        by_handle.reserve(shapes, |shape| hasher.hash_one(shape.handle));
        by_identity.reserve(shapes, |(hash, _)| *hash);
    }

    pub(super) fn len(&self) -> usize {
        self.by_handle.len()
    }

    fn of_handle(&self, handle: Handle) -> Option<&Arc<Shape>> {
        self.by_handle.find(self.hasher.hash_one(handle), |shape| shape.handle == handle)
    }

    fn remove_handle(&mut self, handle: Handle) {
        let hash = self.hasher.hash_one(handle);
        if let Ok(entry) = self.by_handle.find_entry(hash, |shape| shape.handle == handle) {
            entry.remove();
        }
    }

    pub(super) fn by_identity(&self, identity: &str) -> Option<Arc<Shape>> {
        let hash = self.hasher.hash_one(identity);
        let is_it = |(known, shape): &(u64, Arc<Shape>)| *known == hash && shape.identity() == identity;
        let (_, shape) = self.by_identity.find(hash, is_it)?;
        shape.is_alive().then(|| shape.clone())
    }

    pub(super) fn by_spelling(&self, request: &DefinitionRequest) -> Option<Arc<Shape>> {
        let spelling = request.request_key();
        let is_it = |known: &Spelling| {
            let shape = self.of_handle(known.handle);
            shape.is_some_and(|shape| shape.is_alive() && known.is(&spelling, request, shape))
        };
        let found = self.by_spelling.find(self.hasher.hash_one(&spelling), is_it)?;
        self.by_handle(found.handle)
    }

    /// Adds a shape. One that takes another's place under the same handle, as after a takeover, is found by the other's
    /// spellings too.
    pub(super) fn insert(&mut self, shape: &Arc<Shape>) {
        self.remove_handle(shape.handle);
        let Self { hasher, by_handle, .. } = &mut *self;
        let hash = hasher.hash_one(shape.handle);
        by_handle.insert_unique(hash, shape.clone(), |shape| hasher.hash_one(shape.handle));
        let identity = shape.identity();
        let hash = self.hasher.hash_one(&identity);
        let is_it = |(known, shape): &(u64, Arc<Shape>)| *known == hash && shape.identity() == identity;
        if let Ok(entry) = self.by_identity.find_entry(hash, is_it) {
            entry.remove();
        }
        self.by_identity.insert_unique(hash, (hash, shape.clone()), |(hash, _)| *hash);
    }

    /// Lets a spelling lead to a shape that is here.
    pub(super) fn remember(&mut self, request: &DefinitionRequest, shape: &Shape) {
        if self.other_spellings >= SPELLINGS_MAX {
            self.forget_other_spellings();
        }
        if self.of_handle(shape.handle).is_none() {
            return;
        }
        let spelling = request.request_key();
        let (handle, hash) = (shape.handle, self.hasher.hash_one(&spelling));
        let is_it = |known: &Spelling| known.handle == handle && known.is(&spelling, request, shape);
        if self.by_spelling.find(hash, is_it).is_some() {
            return;
        }
        self.spellings.entry(handle).or_default().push(hash);
        let other = (!shape.is_asked_by(request)).then(|| spelling.into());
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
        if self.of_handle(shape.handle).is_some_and(is_it) {
            self.remove_handle(shape.handle);
            for hash in self.spellings.remove(&shape.handle).unwrap_or_default() {
                let of_shape = |known: &Spelling| known.hash == hash && known.handle == shape.handle;
                if let Ok(entry) = self.by_spelling.find_entry(hash, of_shape) {
                    self.other_spellings -= usize::from(entry.remove().0.other.is_some());
                }
            }
        }
    }

    fn forget_other_spellings(&mut self) {
        let Self { spellings, by_spelling, other_spellings, .. } = self;
        by_spelling.retain(|known| known.other.is_none());
        spellings.clear();
        for known in by_spelling.iter() {
            spellings.entry(known.handle).or_default().push(known.hash);
        }
        *other_spellings = 0;
    }

    #[cfg(test)]
    pub(super) fn spelling_count(&self) -> usize {
        self.by_spelling.len()
    }
}

impl Spelling {
    /// True where it is that of a request, if it leads to `shape`.
    fn is(&self, spelling: &str, request: &DefinitionRequest, shape: &Shape) -> bool {
        self.other.as_deref().map_or_else(|| shape.is_asked_by(request), |other| other == spelling)
    }
}
