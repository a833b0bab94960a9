//! Which shapes there are, by everything that a request may know of them.

use crate::shape::Shape;
use limn_core::Handle;
use limn_core::protocol::request::DefinitionRequest;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Spellings of definitions that are remembered; beyond it they are looked up in the catalog again.
const SPELLINGS_MAX: usize = 200_000;

/// More microseconds than a process gives handles before one of them is durable.
const UNRECORDED_US: u64 = 1_000_000;

/// All shapes that can be found.
#[derive(Debug, Default)]
pub struct Registry {
    maps: Mutex<Maps>,
    last_handle_us: AtomicU64,
}

#[derive(Debug, Default)]
struct Maps {
    by_handle: HashMap<Handle, Arc<Shape>>,
    by_identity: HashMap<String, Arc<Shape>>,
    /// As spelled: spares known clients the catalog.
    by_spelling: HashMap<String, Arc<Shape>>,
}

impl Registry {
    /// The living shape that this spelling of a definition led to before.
    #[must_use]
    pub fn by_spelling(&self, request: &DefinitionRequest) -> Option<Arc<Shape>> {
        let maps = self.maps();
        maps.by_spelling.get(&spelling(request)).filter(|shape| shape.is_alive()).cloned()
    }

    /// The living shape of this handle.
    #[must_use]
    pub fn by_handle(&self, handle: Handle) -> Option<Arc<Shape>> {
        self.maps().by_handle.get(&handle).filter(|shape| shape.is_alive()).cloned()
    }

    /// The living shape with this identity.
    #[must_use]
    pub fn by_identity(&self, identity: &str) -> Option<Arc<Shape>> {
        self.maps().by_identity.get(identity).filter(|shape| shape.is_alive()).cloned()
    }

    /// The living shape with this identity, or else the one that `make` gives; true where it was made.
    pub fn find_or_insert(&self, identity: &str, make: impl FnOnce() -> Arc<Shape>) -> (Arc<Shape>, bool) {
        let mut maps = self.maps();
        if let Some(shape) = maps.by_identity.get(identity).filter(|shape| shape.is_alive()) {
            return (shape.clone(), false);
        }
        let shape = make();
        maps.insert(&shape);
        (shape, true)
    }

    /// Adds a shape that a restart found.
    pub fn insert(&self, shape: &Arc<Shape>) {
        self.maps().insert(shape);
    }

    /// Remembers that a spelling leads to a shape.
    pub fn remember(&self, request: &DefinitionRequest, shape: &Arc<Shape>) {
        let mut maps = self.maps();
        if maps.by_spelling.len() >= SPELLINGS_MAX {
            maps.by_spelling.clear();
        }
        maps.by_spelling.insert(spelling(request), shape.clone());
    }

    /// Removes a shape, unless another has taken its place.
    pub fn remove(&self, shape: &Shape) {
        let is_it = |known: &Arc<Shape>| std::ptr::eq(known.as_ref(), shape);
        let mut maps = self.maps();
        if maps.by_handle.get(&shape.handle).is_some_and(is_it) {
            maps.by_handle.remove(&shape.handle);
        }
        if maps.by_identity.get(&shape.identity).is_some_and(is_it) {
            maps.by_identity.remove(&shape.identity);
        }
        maps.by_spelling.retain(|_, known| !is_it(known));
    }

    /// Every living shape.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Shape>> {
        self.maps().by_handle.values().filter(|shape| shape.is_alive()).cloned().collect()
    }

    /// How many shapes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.maps().by_handle.len()
    }

    /// True where there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Handles up to this time were given by a process before. Its last ones may not have become durable: they are
    /// passed over, since the clock may have gone back.
    pub fn reserve_handles(&self, last_us: u64) {
        self.last_handle_us.fetch_max(last_us.saturating_add(UNRECORDED_US), Ordering::Relaxed);
    }

    /// The newest time that a handle carries.
    #[must_use]
    pub fn last_handle_us(&self) -> u64 {
        self.last_handle_us.load(Ordering::Relaxed)
    }

    /// A time in microseconds that no handle of this folder carries yet.
    #[must_use]
    pub fn next_handle_us(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let next = |last: u64| Some(now.max(last + 1));
        match self.last_handle_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(last) | Err(last) => now.max(last + 1),
        }
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    fn insert(&mut self, shape: &Arc<Shape>) {
        self.by_handle.insert(shape.handle, shape.clone());
        self.by_identity.insert(shape.identity.clone(), shape.clone());
    }
}

fn spelling(request: &DefinitionRequest) -> String {
    serde_json::to_string(request).expect("a definition is plain data")
}
