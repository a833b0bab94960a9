//! How long a request waited for what, as the value of `Server-Timing`.

use std::cell::Cell;
use worker::Date;

/// The milliseconds of one request, as far as the platform's clock goes: it stands still while nothing is awaited.
#[derive(Default)]
pub struct Timing {
    cache_ms: Cell<Option<u64>>,
    origin_ms: Cell<Option<u64>>,
}

/// The platform's clock, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    Date::now().as_millis()
}

impl Timing {
    /// Notes that a look into the cache that began then is over.
    pub fn looked(&self, began_ms: u64) {
        self.cache_ms.set(Some(now_ms().saturating_sub(began_ms)));
    }

    /// Notes that the head of the origin's reply is there, or will not be.
    pub fn asked(&self, began_ms: u64) {
        self.origin_ms.set(Some(now_ms().saturating_sub(began_ms)));
    }

    /// Both, where they were waited for.
    pub fn value(&self) -> Option<String> {
        match (self.cache_ms.get(), self.origin_ms.get()) {
            (Some(cache_ms), Some(origin_ms)) => {
                Some(format!("cache;dur={cache_ms}, origin;dur={origin_ms}"))
            }
            (Some(cache_ms), None) => Some(format!("cache;dur={cache_ms}")),
            (None, Some(origin_ms)) => Some(format!("origin;dur={origin_ms}")),
            (None, None) => None,
        }
    }
}
