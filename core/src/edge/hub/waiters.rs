//! Those who wait at a hub, in the order in which they came.

use super::{Ask, Wait};
use crate::Offset;

/// Names somebody who waits.
pub type WaiterId = u64;

/// A long poll without changes is answered between this time and half as much again, as the origin would: clients
/// that came together are not sent away together.
pub const POLL_MS: u64 = 20_000;
/// A long poll is answered at the latest now, whatever the origin says: clients and proxies give up at 45 s.
pub const POLL_MS_MAX: u64 = 42_000;
/// While the origin does not answer, so much time is left for it to come back.
pub const PATIENCE_MS: u64 = 5_000;
/// An event stream ends between this time and a tenth more.
pub const EVENTS_MS: u64 = 900_000;
/// Without a change, an event stream is written to so often: the platform tells in no other way that a client has gone.
pub const KEEP_ALIVE_MS: u64 = 20_000;

/// Somebody who waits.
#[derive(Debug, Clone, Copy)]
pub struct Waiter {
    /// Its name.
    pub id: WaiterId,
    /// It has seen the log up to here.
    pub offset: Offset,
    /// For what it waits.
    pub wait: Wait,
    /// Over how many hubs the asking side spread its requests.
    pub shards: u32,
    /// Since when it waits.
    pub since_ms: u64,
    /// When it is to be answered, or sent a sign of life.
    pub due_ms: u64,
    /// Its time is over, and only the origin's word that nothing has changed is missing.
    pub is_overdue: bool,
    /// When a stream ends.
    pub ends_ms: u64,
    random: u64,
}

/// All who wait.
#[derive(Debug, Default)]
pub struct Waiters {
    /// By their names, which grow.
    all: Vec<Waiter>,
    next_id: WaiterId,
}

impl Waiter {
    /// Somebody who comes now.
    #[must_use]
    pub const fn new(id: WaiterId, now_ms: u64, ask: Ask) -> Self {
        let Ask { offset, wait, shards, random } = ask;
        let (due_ms, ends_ms) = match wait {
            Wait::Poll => (now_ms + POLL_MS + random % (POLL_MS / 2), u64::MAX),
            // Its own clients wait for what it is told.
            Wait::Hub => (now_ms + POLL_MS / 2, u64::MAX),
            Wait::Events => (now_ms + KEEP_ALIVE_MS, now_ms + EVENTS_MS + random % (EVENTS_MS / 10)),
        };
        Self { id, offset, wait, shards, since_ms: now_ms, due_ms, is_overdue: false, ends_ms, random }
    }

    /// Up to so much, another time for each.
    #[must_use]
    pub const fn within(&self, span_ms: u64) -> u64 {
        self.random % span_ms
    }

    /// Until when a poll is answered at the latest.
    #[must_use]
    pub const fn last_ms(&self) -> u64 {
        self.since_ms + POLL_MS_MAX
    }

    /// Upstream fails: it has some seconds left to come back.
    pub fn hurry(&mut self, now_ms: u64) {
        self.due_ms = self.due_ms.min(now_ms + PATIENCE_MS / 5 + self.within(PATIENCE_MS));
    }

    /// A stream was written to.
    pub fn was_written_to(&mut self, now_ms: u64) {
        self.due_ms = self.ends_ms.min(now_ms + KEEP_ALIVE_MS);
    }
}

impl Waiters {
    /// The name for the next who comes.
    pub const fn name(&mut self) -> WaiterId {
        self.next_id += 1;
        self.next_id
    }

    /// Somebody with the newest name waits.
    pub fn add(&mut self, waiter: Waiter) {
        self.all.push(waiter);
    }

    /// Somebody does not wait any more.
    pub fn remove(&mut self, id: WaiterId) {
        if let Ok(at) = self.all.binary_search_by_key(&id, |waiter| waiter.id) {
            self.all.remove(at);
        }
    }

    /// Looks at all, and keeps those for whom `keeps` is true.
    pub fn retain(&mut self, keeps: impl FnMut(&mut Waiter) -> bool) {
        self.all.retain_mut(keeps);
    }

    /// Changes all.
    pub fn for_each(&mut self, change: impl FnMut(&mut Waiter)) {
        self.all.iter_mut().for_each(change);
    }

    /// The first time at which one is due.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        self.all.iter().map(|waiter| waiter.due_ms).min()
    }

    /// The number of clients that are spread over so many hubs; hubs that ask this one are few, and are left out.
    #[must_use]
    pub fn clients(&self, shards: u32) -> usize {
        self.all.iter().filter(|waiter| waiter.wait != Wait::Hub && waiter.shards == shards).count()
    }

    /// The number of those who wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.all.len()
    }

    /// True where nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
