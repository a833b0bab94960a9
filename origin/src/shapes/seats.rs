//! Live requests that wait for news of a shape, each on a seat.
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

/// A live request that waits: what its reply takes that is not the same for all.
#[derive(Debug)]
pub struct Guest {
    /// The connection. Nobody but the holder of the guest writes to it.
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

/// What was sent to a guest.
#[derive(Debug, Clone)]
pub struct Served {
    /// What its socket has not taken yet.
    pub rest: Bytes,
    /// The length of the body.
    pub body_bytes: u64,
}

/// The seats of a shape that are taken.
#[derive(Debug, Default)]
pub struct Seats(Mutex<Option<Box<Room>>>);

/// In memory of its own: most shapes have none.
#[derive(Debug, Default)]
struct Room {
    /// In the order in which they were taken.
    seats: BTreeMap<u64, Arc<Seat>>,
    /// Somebody is about to serve those who sit here.
    is_due: bool,
}

/// A place where a request waits.
#[derive(Debug)]
pub struct Seat {
    number: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` once it was served or has left.
    guest: Option<Guest>,
    served: Option<Served>,
    is_called: bool,
    waker: Option<Waker>,
}

/// A seat that is left when this is dropped.
#[derive(Debug)]
pub struct Seated<'a> {
    seats: &'a Seats,
    seat: Arc<Seat>,
}

/// How a request left its seat.
#[derive(Debug)]
pub enum Left {
    /// It was served: nothing but the rest is to be written for it.
    Served(Served),
    /// It was not, and still has what it came with.
    Unserved(Guest),
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl Seats {
    /// Takes a seat. What has come before calls nobody: look again once it is taken.
    pub fn take(&self, guest: Guest) -> Seated<'_> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let state = State { guest: Some(guest), served: None, is_called: false, waker: None };
        let seat = Arc::new(Seat { number, state: Mutex::new(state) });
        self.room().get_or_insert_default().seats.insert(number, seat.clone());
        Seated { seats: self, seat }
    }

    /// True where somebody sits here and nobody is about to serve them; the caller is then.
    #[must_use]
    pub fn fall_due(&self) -> bool {
        let mut room = self.room();
        room.as_mut().is_some_and(|room| !mem::replace(&mut room.is_due, true))
    }

    /// Empties the room: all who sat in it, the first first.
    pub fn rise(&self) -> Vec<Arc<Seat>> {
        let room = self.room().take();
        room.map(|room| room.seats.into_values().collect()).unwrap_or_default()
    }

    fn remove(&self, number: u64) {
        let mut room = self.room();
        if let Some(taken) = room.as_mut() {
            taken.seats.remove(&number);
            if taken.seats.is_empty() {
                *room = None;
            }
        }
    }

    fn room(&self) -> MutexGuard<'_, Option<Box<Room>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The offset that was asked for; `None` where nobody sits here any more.
    #[must_use]
    pub fn after(&self) -> Option<Offset> {
        self.state().guest.as_ref().map(|guest| guest.after)
    }

    /// Serves who sits here; false where nobody does. The task is not woken by that: [`call`](Self::call) it.
    pub fn serve(&self, write: impl FnOnce(Guest) -> Served) -> bool {
        let mut state = self.state();
        let Some(guest) = state.guest.take() else { return false };
        state.served = Some(write(guest));
        true
    }

    /// Wakes the task of who sits, or sat, here.
    pub fn call(&self) {
        let waker = {
            let mut state = self.state();
            state.is_called = true;
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

impl Seated<'_> {
    /// Resolves once the guest was served or called.
    pub fn called(&self) -> impl Future<Output = ()> {
        poll_fn(|context| {
            let mut state = self.seat.state();
            if state.is_called || state.guest.is_none() {
                return Poll::Ready(());
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
    }

    /// Leaves the seat.
    #[must_use]
    pub fn leave(self) -> Left {
        let mut state = self.seat.state();
        let (guest, served) = (state.guest.take(), state.served.take());
        drop(state);
        match (guest, served) {
            (Some(guest), _) => Left::Unserved(guest),
            (None, served) => Left::Served(served.expect("a guest goes by being served or by leaving")),
        }
    }
}

impl Drop for Seated<'_> {
    fn drop(&mut self) {
        self.seats.remove(self.seat.number);
        self.seat.state().guest = None;
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

        fn guest(&self, tx: u64) -> Guest {
            Guest {
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
        let (house, seats) = (House::new(), Seats::default());
        let (first, second) = (seats.take(house.guest(7)), seats.take(house.guest(8)));
        assert_eq!(house.counts(), (2, 2));
        let seated = seats.rise();
        assert_eq!(
            seated.iter().filter_map(|seat| seat.after()).collect::<Vec<_>>(),
            [7, 8].map(|tx| Offset::new(tx, 0))
        );
        assert!(seats.rise().is_empty(), "each is served by one");
        for seat in &seated {
            assert!(seat.serve(|_guest| served("rest")) && !seat.serve(|_guest| served("twice")));
        }
        assert_eq!(house.counts(), (0, 0));
        for seated in [first, second] {
            seated.called().await;
            assert!(matches!(seated.leave(), Left::Served(Served { rest, .. }) if rest == "rest"));
        }
    }

    #[tokio::test]
    async fn who_leaves_first_is_not_served() {
        let (house, seats) = (House::new(), Seats::default());
        let (leaves, goes, stays) =
            (seats.take(house.guest(1)), seats.take(house.guest(2)), seats.take(house.guest(3)));
        drop(goes);
        assert_eq!(house.counts(), (2, 2));
        let seated = seats.rise();
        let Left::Unserved(guest) = leaves.leave() else { panic!("nobody has served it") };
        assert_eq!(guest.after, Offset::new(1, 0));
        let are_served: Vec<bool> = seated.iter().map(|seat| seat.serve(|_guest| served(""))).collect();
        assert_eq!(are_served, [false, true]);
        assert!(matches!(stays.leave(), Left::Served(_)));
    }

    #[tokio::test]
    async fn who_is_called_leaves_by_itself() {
        let (house, seats) = (House::new(), Seats::default());
        let seated = seats.take(house.guest(1));
        let mut called = Box::pin(seated.called());
        assert!(futures::poll!(called.as_mut()).is_pending());
        seats.rise().iter().for_each(|seat| seat.call());
        called.await;
        assert!(matches!(seated.leave(), Left::Unserved(_)));
        assert_eq!(house.counts(), (0, 0));
    }

    #[test]
    fn one_serves_those_who_sit_together() {
        let (house, seats) = (House::new(), Seats::default());
        assert!(!seats.fall_due(), "nobody sits here");
        let first = seats.take(house.guest(1));
        assert!(seats.fall_due() && !seats.fall_due());
        let late = seats.take(house.guest(1));
        assert_eq!(seats.rise().len(), 2);
        drop((first, late));
        let _next = seats.take(house.guest(2));
        assert!(seats.fall_due());
    }
}
