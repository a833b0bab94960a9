//! Work that many wait for is done once: whoever asks for the same thing meanwhile gets the same result.

use futures::future::{BoxFuture, FutureExt, Shared};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The result of work under way, for everybody who waits for it.
pub(super) type Flight<T> = Shared<BoxFuture<'static, Result<T, CutOff>>>;

/// The work ended without a result: by a panic, or with the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was cut off")]
pub(super) struct CutOff;

/// Work under way, by what was asked for. Each piece runs in a task of its own, so that it does not end with whoever
/// asked first.
#[derive(Debug)]
pub(super) struct Flights<K, T>(Arc<Mutex<HashMap<K, Flight<T>>>>);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// The work that is under way for `key`, or else the new one that `start` gives.
    pub(super) fn join<F>(&self, key: K, start: impl FnOnce() -> F) -> Flight<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut flights = lock(&self.0);
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let (landing, work) = (Landing(Arc::clone(&self.0), key.clone()), start());
        let task = tokio::spawn(async move {
            let _landing = landing;
            work.await
        });
        let flight = task.map(|ended| ended.map_err(|_| CutOff)).boxed().shared();
        flights.insert(key, flight.clone());
        flight
    }
}

/// Forgets a flight when its task ends, however it does.
struct Landing<K: Eq + Hash, T>(Arc<Mutex<HashMap<K, Flight<T>>>>, K);

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        lock(&self.0).remove(&self.1);
    }
}

fn lock<K, T>(flights: &Mutex<HashMap<K, Flight<T>>>) -> MutexGuard<'_, HashMap<K, Flight<T>>> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_crowd_shares_one_run() {
        let flights = Flights::<&str, u32>::default();
        let (land, landed) = oneshot::channel();
        let first = flights.join("a", || async { landed.await.unwrap_or(0) });
        let second = flights.join("a", || async { panic!("the first one is under way") });
        land.send(7).expect("the work waits");
        assert_eq!(tokio::join!(first, second), (Ok(7), Ok(7)));
        assert_eq!(flights.join("a", || async { 8 }).await, Ok(8), "it has ended");
    }

    #[tokio::test]
    async fn one_key_does_not_wait_for_another() {
        let flights = Flights::<&str, u32>::default();
        let _never = flights.join("a", std::future::pending);
        assert_eq!(flights.join("b", || async { 1 }).await, Ok(1));
    }

    #[tokio::test]
    async fn a_panic_is_told_to_all_and_the_next_one_tries_again() {
        let flights = Flights::<&str, u32>::default();
        let flight = flights.join("a", || async { panic!("on purpose") });
        assert_eq!(tokio::join!(flight.clone(), flight), (Err(CutOff), Err(CutOff)));
        assert_eq!(flights.join("a", || async { 2 }).await, Ok(2));
    }
}
