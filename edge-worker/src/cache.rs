//! The platform's Cache API: one data centre's copies, by address. A cache that fails is an empty one.

use worker::{Cache, Response};

/// The copy at an address.
pub async fn find(copy_url: &str) -> Option<Response> {
    match Cache::default().get(copy_url, false).await {
        Ok(copy) => copy,
        Err(error) => {
            worker::console_warn!("the cache was not read: {error}");
            None
        }
    }
}

/// Keeps a copy. Its body is the client's own, read a second time: where it breaks off, nothing is kept.
pub async fn keep(copy_url: String, copy: Response) {
    if let Err(error) = Cache::default().put(copy_url, copy).await {
        worker::console_warn!("a reply was not kept: {error}");
    }
}
