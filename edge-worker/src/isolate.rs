//! What the requests of one isolate share: values only, since a promise of one request may not be awaited by another.

use crate::timing::now_ms;
use limn_core::edge::{Breaker, Flights};
use std::cell::{Cell, RefCell};

thread_local! {
    static FLIGHTS: RefCell<Flights> = RefCell::default();
    /// By the origins' addresses, of which a deployment names a few.
    static BREAKERS: RefCell<Vec<(String, Breaker)>> = RefCell::default();
    static HAS_CACHE: Cell<bool> = const { Cell::new(true) };
}

/// A request to the origin that others wait for; it ends when this is dropped.
pub struct Flight(String);

impl Flight {
    /// Nothing where somebody else asks already.
    pub fn begin(copy_url: &str) -> Option<Self> {
        let began = FLIGHTS.with_borrow_mut(|flights| flights.begin(copy_url, now_ms()));
        began.then(|| Self(copy_url.to_owned()))
    }

    /// Whether somebody asks, and what comes will be found in a cache.
    pub fn is_under_way(copy_url: &str) -> bool {
        has_cache() && FLIGHTS.with_borrow(|flights| flights.is_under_way(copy_url, now_ms()))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        FLIGHTS.with_borrow_mut(|flights| flights.end(&self.0));
    }
}

/// Asks or tells the breaker of an origin; there always is one.
pub fn with_breaker<R>(origin_url: &str, act: impl FnOnce(&mut Breaker, u64) -> R) -> Option<R> {
    BREAKERS.with_borrow_mut(|breakers| {
        if !breakers.iter().any(|(url, _)| url == origin_url) {
            breakers.push((origin_url.to_owned(), Breaker::default()));
        }
        breakers.iter_mut().find(|(url, _)| url == origin_url).map(|(_, breaker)| act(breaker, now_ms()))
    })
}

/// Whether this runtime has a cache, as far as is known: workerd has none unless it is told of one.
pub fn has_cache() -> bool {
    HAS_CACHE.get()
}

/// Notes that there is none.
pub fn lacks_cache() {
    HAS_CACHE.set(false);
}
