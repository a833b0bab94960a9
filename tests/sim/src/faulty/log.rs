//! A shape's log.

use crate::fault::{Fault, Faults};
use limn_core::log::ShapeLog;
use std::cell::{Ref, RefCell};

/// A shape's log.
#[derive(Debug)]
pub struct Log {
    log: RefCell<ShapeLog>,
    shows_all: bool,
}

impl Log {
    /// A log of the process that writes.
    #[must_use]
    pub fn of_first(log: ShapeLog, faults: Faults) -> Self {
        Self { log: RefCell::new(log), shows_all: faults.has(Fault::PublishesFragments) }
    }

    /// A log of a process that reads along.
    #[must_use]
    pub fn of_second(mut log: ShapeLog, faults: Faults) -> Self {
        if faults.has(Fault::SecondJoinsEarly) {
            log.handle_joined();
        }
        Self { log: RefCell::new(log), shows_all: faults.has(Fault::SecondShowsItemsFirst) }
    }

    /// The log, to read it.
    pub fn get(&self) -> Ref<'_, ShapeLog> {
        self.log.borrow()
    }

    /// Changes the log.
    pub fn change<T>(&self, change: impl FnOnce(&mut ShapeLog) -> T) -> T {
        let outcome = change(&mut self.log.borrow_mut());
        if self.shows_all {
            self.log.borrow_mut().commit();
        }
        outcome
    }
}
