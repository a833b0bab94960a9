//! Shapes that have grown while live requests wait for them: somebody serves these.

use crate::shapes::Shape;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The shapes whose requests nobody has served yet: each once at most.
#[derive(Debug, Default)]
pub struct Grown {
    shapes: Mutex<VecDeque<Arc<Shape>>>,
    came: Notify,
}

impl Grown {
    /// Tells everyone who waits for these shapes that they have grown.
    pub fn push(&self, grown: Vec<Arc<Shape>>) {
        let due: Vec<Arc<Shape>> = grown.into_iter().filter(|shape| shape.grow()).collect();
        if !due.is_empty() {
            self.shapes().extend(due);
            self.came.notify_waiters();
        }
    }

    /// The shape that waits longest.
    pub fn pop(&self) -> Option<Arc<Shape>> {
        self.shapes().pop_front()
    }

    /// Resolves at the next [`push`](Self::push) after the call (once polled or enabled), or where there is work to
    /// share.
    pub fn came(&self) -> Notified<'_> {
        self.came.notified()
    }

    /// There is work to share.
    pub fn share(&self) {
        self.came.notify_waiters();
    }

    fn shapes(&self) -> MutexGuard<'_, VecDeque<Arc<Shape>>> {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
