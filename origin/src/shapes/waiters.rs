//! Live requests that wait for news of a shape.
//!
//! Who makes the reply writes it to the sockets of all of them at once, before any of their tasks runs: such a task has
//! nothing left to do but to go on to its client's next request.

use crate::observe::Counted;
use bytes::Bytes;
use limn_core::Offset;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// A live request, as far as its reply is not the same for all.
#[derive(Debug)]
pub struct LiveRequest {
    /// The connection. Nobody but the holder of this writes to it.
    pub socket: Weak<TcpStream>,
    /// The offset that was asked for.
    pub after: Offset,
    /// The cursor that was asked with.
    pub cursor: Option<Box<str>>,
    /// The lines of the head that depend on the caller; many share them.
    pub lines: Arc<[u8]>,
    /// The request's id, where the caller gave one.
    pub request_id: Option<Box<str>>,
    /// Its place among the requests under way.
    pub place: OwnedSemaphorePermit,
    /// Counts it among those that wait.
    pub parked: Counted,
}

/// What was sent to a client.
#[derive(Debug, Clone)]
pub struct Served {
    /// What its socket has not taken yet.
    pub rest: Bytes,
    /// The length of the body.
    pub body_bytes: u64,
}

/// The live requests that wait for a shape.
#[derive(Debug, Default)]
pub struct Waiters(Mutex<Option<Box<Parked>>>);

/// In memory of its own: most shapes have none.
#[derive(Debug, Default)]
struct Parked {
    /// In the order in which they came.
    waiters: BTreeMap<u64, Arc<Waiter>>,
    /// Somebody is about to serve them.
    is_due: bool,
}

/// A live request that waits, as those who wake or serve it see it.
#[derive(Debug)]
pub struct Waiter {
    number: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` once it was served or waits no longer.
    request: Option<LiveRequest>,
    served: Option<Served>,
    is_woken: bool,
    waker: Option<Waker>,
}

/// The wait of a live request: it waits no longer when this is dropped.
#[derive(Debug)]
pub struct Waiting<'a> {
    waiters: &'a Waiters,
    waiter: Arc<Waiter>,
}

/// How a wait ended.
#[derive(Debug)]
pub enum Waited {
    /// It was served: nothing but the rest is to be written for it.
    Served(Served),
    /// It was not: here it is again.
    Unserved(LiveRequest),
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl Waiters {
    /// Has a request wait. What has come before wakes nobody: look again once it waits.
    pub fn take(&self, request: LiveRequest) -> Waiting<'_> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let state = State { request: Some(request), served: None, is_woken: false, waker: None };
        let waiter = Arc::new(Waiter { number, state: Mutex::new(state) });
        self.parked().get_or_insert_default().waiters.insert(number, waiter.clone());
        Waiting { waiters: self, waiter }
    }

    /// True where somebody waits and nobody is about to serve them; the caller is then.
    #[must_use]
    pub fn mark_due(&self) -> bool {
        let mut parked = self.parked();
        parked.as_mut().is_some_and(|parked| !mem::replace(&mut parked.is_due, true))
    }

    /// Takes all who wait, the first first.
    pub fn take_all(&self) -> Vec<Arc<Waiter>> {
        let parked = self.parked().take();
        parked.map(|parked| parked.waiters.into_values().collect()).unwrap_or_default()
    }

    fn remove(&self, number: u64) {
        let mut parked = self.parked();
        if let Some(taken) = parked.as_mut() {
            taken.waiters.remove(&number);
            if taken.waiters.is_empty() {
                *parked = None;
            }
        }
    }

    fn parked(&self) -> MutexGuard<'_, Option<Box<Parked>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// The offset that was asked for; `None` where it waits no longer.
    #[must_use]
    pub fn after(&self) -> Option<Offset> {
        self.state().request.as_ref().map(|request| request.after)
    }

    /// Serves the request; false where it waits no longer. Its task is not woken by that: [`wake`](Self::wake) it.
    pub fn serve(&self, write: impl FnOnce(LiveRequest) -> Served) -> bool {
        let mut state = self.state();
        let Some(request) = state.request.take() else { return false };
        state.served = Some(write(request));
        true
    }

    /// Wakes the request's task.
    pub fn wake(&self) {
        let waker = {
            let mut state = self.state();
            state.is_woken = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// Resolves once the request was served or woken.
    pub fn woken(&self) -> impl Future<Output = ()> {
        poll_fn(|context| {
            let mut state = self.waiter.state();
            if state.is_woken || state.request.is_none() {
                return Poll::Ready(());
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
    }

    /// Ends the wait.
    #[must_use]
    pub fn finish(self) -> Waited {
        let mut state = self.waiter.state();
        let (request, served) = (state.request.take(), state.served.take());
        drop(state);
        match (request, served) {
            (Some(request), _) => Waited::Unserved(request),
            (None, served) => {
                Waited::Served(served.expect("a request goes by being served or by ending its wait"))
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiters.remove(self.waiter.number);
        self.waiter.state().request = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::gauge::Gauge;
    use tokio::sync::Semaphore;

    struct House {
        places: Arc<Semaphore>,
        parked: Gauge,
    }

    impl House {
        fn new() -> Self {
            Self { places: Arc::new(Semaphore::new(10)), parked: Gauge::default() }
        }

        fn request(&self, tx: u64) -> LiveRequest {
            LiveRequest {
                socket: Weak::new(),
                after: Offset::new(tx, 0),
                cursor: None,
                lines: Arc::default(),
                request_id: None,
                place: self.places.clone().try_acquire_owned().unwrap(),
                parked: Counted::new(&self.parked),
            }
        }

        /// The places that are taken, and the requests that wait.
        fn counts(&self) -> (usize, i64) {
            (10 - self.places.available_permits(), self.parked.get())
        }
    }

    fn served(text: &'static str) -> Served {
        Served { rest: Bytes::from_static(text.as_bytes()), body_bytes: 1 }
    }

    #[tokio::test]
    async fn a_guest_is_served_once_and_counts_no_more_then() {
        let (house, waiters) = (House::new(), Waiters::default());
        let (first, second) = (waiters.take(house.request(7)), waiters.take(house.request(8)));
        assert_eq!(house.counts(), (2, 2));
        let waiting = waiters.take_all();
        assert_eq!(
            waiting.iter().filter_map(|waiter| waiter.after()).collect::<Vec<_>>(),
            [7, 8].map(|tx| Offset::new(tx, 0))
        );
        assert!(waiters.take_all().is_empty(), "each is served by one");
        for waiter in &waiting {
            assert!(waiter.serve(|_guest| served("rest")) && !waiter.serve(|_guest| served("twice")));
        }
        assert_eq!(house.counts(), (0, 0));
        for waiting in [first, second] {
            waiting.woken().await;
            assert!(matches!(waiting.finish(), Waited::Served(Served { rest, .. }) if rest == "rest"));
        }
    }

    #[tokio::test]
    async fn who_leaves_first_is_not_served() {
        let (house, waiters) = (House::new(), Waiters::default());
        let (leaves, goes, stays) =
            (waiters.take(house.request(1)), waiters.take(house.request(2)), waiters.take(house.request(3)));
        drop(goes);
        assert_eq!(house.counts(), (2, 2));
        let waiting = waiters.take_all();
        let Waited::Unserved(request) = leaves.finish() else { panic!("nobody has served it") };
        assert_eq!(request.after, Offset::new(1, 0));
        let are_served: Vec<bool> = waiting.iter().map(|waiter| waiter.serve(|_guest| served(""))).collect();
        assert_eq!(are_served, [false, true]);
        assert!(matches!(stays.finish(), Waited::Served(_)));
    }

    #[tokio::test]
    async fn who_is_called_leaves_by_itself() {
        let (house, waiters) = (House::new(), Waiters::default());
        let waiting = waiters.take(house.request(1));
        let mut called = Box::pin(waiting.woken());
        assert!(futures::poll!(called.as_mut()).is_pending());
        waiters.take_all().iter().for_each(|waiter| waiter.wake());
        called.await;
        assert!(matches!(waiting.finish(), Waited::Unserved(_)));
        assert_eq!(house.counts(), (0, 0));
    }

    #[test]
    fn one_serves_those_who_sit_together() {
        let (house, waiters) = (House::new(), Waiters::default());
        assert!(!waiters.mark_due(), "nobody waits");
        let first = waiters.take(house.request(1));
        assert!(waiters.mark_due() && !waiters.mark_due());
        let late = waiters.take(house.request(1));
        assert_eq!(waiters.take_all().len(), 2);
        drop((first, late));
        let _next = waiters.take(house.request(2));
        assert!(waiters.mark_due());
    }
}
