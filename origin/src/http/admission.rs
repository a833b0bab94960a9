//! How many requests may be under way (protocol §9.4): beyond it the answer is 503, never growth.
//!
//! Requests that may start a snapshot are counted apart from those of clients that already follow a
//! shape, so that a crowd of new clients does not lock out the old ones. Their places become free soon, so the crowd
//! waits for them for some seconds, in its order; that of clients that follow a shape may be parked for long.

use super::Server;
use limn_core::protocol::reply::{Reply, Unavailable};
use limn_core::protocol::route::Method;
use serde::Deserialize;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a request that may start a snapshot waits for a place, and how many may.
const ADMISSION_WAIT: Duration = Duration::from_secs(5);
const ADMISSION_WAITING_MAX: usize = 10_000;

/// The limits, `{"initial":300,"existing":10000}` in configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionLimits {
    /// Requests without a handle that is known here.
    pub initial: usize,
    /// Requests with one.
    pub existing: usize,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self { initial: 300, existing: 10_000 }
    }
}

impl FromStr for AdmissionLimits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        serde_json::from_str(text)
            .map_err(|error| format!("expected such as {{\"initial\":300,\"existing\":10000}}: {error}"))
    }
}

/// Counts the requests under way.
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    initial: Arc<Semaphore>,
    /// Places to wait for one of those.
    waiting: Arc<Semaphore>,
    existing: Arc<Semaphore>,
}

/// A counted request; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Admitted {
    permit: OwnedSemaphorePermit,
    is_initial: bool,
}

impl Admitted {
    /// Its place, for a request that has come where it stays.
    pub(super) fn into_place(self) -> OwnedSemaphorePermit {
        self.permit
    }
}

impl Admission {
    /// An empty house with these limits.
    #[must_use]
    pub fn new(limits: AdmissionLimits) -> Self {
        let semaphore = |limit: usize| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        let waiting = semaphore(ADMISSION_WAITING_MAX);
        Self { limits, initial: semaphore(limits.initial), waiting, existing: semaphore(limits.existing) }
    }

    /// Counts a request in, once there is room, or refuses it.
    pub(super) async fn admit(&self, is_initial: bool) -> Result<Admitted, Refused> {
        let (permit, kind, limit) = match is_initial {
            true => (self.initial_place().await, "initial", self.limits.initial),
            false => (self.existing.clone().try_acquire_owned().ok(), "existing", self.limits.existing),
        };
        let permit = permit.ok_or(Refused { kind, limit })?;
        Ok(Admitted { permit, is_initial })
    }

    async fn initial_place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.initial.clone().try_acquire_owned() {
            return Some(permit);
        }
        let _waiting = self.waiting.clone().try_acquire_owned().ok()?;
        timeout(ADMISSION_WAIT, self.initial.clone().acquire_owned()).await.ok()?.ok()
    }

    /// The shape is there: the request counts among the others from now on, where there is room.
    pub(super) fn settle(&self, admitted: &mut Admitted) {
        if admitted.is_initial
            && let Ok(permit) = self.existing.clone().try_acquire_owned()
        {
            (admitted.permit, admitted.is_initial) = (permit, false);
        }
    }
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    kind: &'static str,
    limit: usize,
}

impl Refused {
    pub(super) fn into_reply(self, server: &Server, method: Method) -> Reply {
        let Self { kind, limit } = self;
        server.metrics.refused(kind);
        let message = format!("Concurrent {kind} request limit exceeded (limit: {limit}), please retry");
        // Spread, so that those who were refused together do not come back together.
        let retry_after_s = 6 + server.next_unique() % 5;
        let state = Unavailable {
            code: Some("concurrent_request_limit_exceeded"),
            known: true,
            ..Unavailable::new(message, retry_after_s)
        };
        Reply::unavailable(&server.settings.cache, method, &state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_json() {
        let limits: AdmissionLimits = r#"{"initial":1}"#.parse().unwrap();
        assert_eq!(limits, AdmissionLimits { initial: 1, existing: 10_000 });
        assert!("300".parse::<AdmissionLimits>().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_kinds_do_not_lock_each_other_out() {
        let admission = Admission::new(AdmissionLimits { initial: 1, existing: 1 });
        let mut first = admission.admit(true).await.unwrap();
        assert_eq!(admission.admit(true).await.unwrap_err(), Refused { kind: "initial", limit: 1 });
        admission.settle(&mut first);
        let second = admission.admit(true).await.unwrap();
        assert_eq!(admission.admit(false).await.unwrap_err(), Refused { kind: "existing", limit: 1 });
        drop((first, second));
        assert!(admission.admit(false).await.is_ok() && admission.admit(true).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn first_requests_wait_for_a_place_in_their_order() {
        let admission = Arc::new(Admission::new(AdmissionLimits { initial: 1, existing: 1 }));
        let first = admission.admit(true).await.unwrap();
        let (told, mut admitted) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..3 {
            let (admission, told) = (admission.clone(), told.clone());
            tokio::spawn(async move {
                let place = admission.admit(true).await;
                told.send((number, place.is_ok())).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        for number in 0..3 {
            assert_eq!(admitted.recv().await, Some((number, true)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_places_to_wait_a_first_request_is_refused_at_once() {
        let admission = Admission::new(AdmissionLimits { initial: 0, existing: 1 });
        let all = u32::try_from(ADMISSION_WAITING_MAX).unwrap();
        let _crowd = admission.waiting.clone().try_acquire_many_owned(all).unwrap();
        let begun = tokio::time::Instant::now();
        assert!(admission.admit(true).await.is_err());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
