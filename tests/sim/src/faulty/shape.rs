//! A shape as a process holds it.

use crate::fault::{Fault, Faults};
use crate::shapes::{KINDS, Kind};
use limn_core::Handle;
use limn_core::journal::KeptShape;
use limn_core::journal::record::CreatedShape;
use limn_core::log::ShapeLog;
use limn_core::store::{NamedShape, ShapeIdentity, SharedShape};
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

/// A shape as a process holds it.
#[derive(Debug)]
pub struct Shape {
    /// What it was created as.
    pub created: CreatedShape,
    /// Its handle.
    pub handle: Handle,
    /// What it is a shape of.
    pub kind: &'static Kind,
    log: RefCell<ShapeLog>,
    /// True where a bug shows each change at once.
    shows_all: bool,
    /// True once clients can read it.
    pub is_readable: Cell<bool>,
    /// True once its snapshot survives a crash.
    pub is_durable: Cell<bool>,
}

impl Shape {
    /// A shape of the process that writes. `is_there`: a start found it.
    #[must_use]
    pub fn of_first(
        created: CreatedShape,
        (handle, log): (Handle, ShapeLog),
        is_there: bool,
        faults: Faults,
    ) -> Rc<Self> {
        Self::new(created, (handle, log), is_there, faults.has(Fault::PublishesFragments))
    }

    /// A shape of a process that reads along.
    #[must_use]
    pub fn of_second(kept: &KeptShape, mut log: ShapeLog, faults: Faults) -> Rc<Self> {
        if faults.has(Fault::SecondJoinsEarly) {
            log.handle_joined();
        }
        Self::new(kept.created(), (kept.handle, log), false, faults.has(Fault::SecondShowsItemsFirst))
    }

    fn new(
        created: CreatedShape,
        (handle, log): (Handle, ShapeLog),
        is_there: bool,
        shows_all: bool,
    ) -> Rc<Self> {
        let kind = KINDS.iter().find(|kind| kind.request == created.request);
        let kind = kind.expect("only known kinds are asked for");
        let (is_readable, is_durable) = (Cell::new(is_there), Cell::new(is_there));
        Rc::new(Self { created, handle, kind, log: RefCell::new(log), shows_all, is_readable, is_durable })
    }

    /// Its log, to read it.
    pub fn log(&self) -> Ref<'_, ShapeLog> {
        self.log.borrow()
    }
}

impl SharedShape for Shape {
    fn with_log<T>(&self, change: impl FnOnce(&mut ShapeLog) -> T) -> T {
        let outcome = change(&mut self.log.borrow_mut());
        if self.shows_all {
            self.log.borrow_mut().commit();
        }
        outcome
    }

    fn created(&self) -> CreatedShape {
        self.created.clone()
    }
}

impl NamedShape for Shape {
    fn identity(&self) -> ShapeIdentity<'_> {
        ShapeIdentity { id: self.created.id, handle: self.handle, definition: &self.kind.definition }
    }

    fn show_snapshot(&self) {
        self.is_readable.set(true);
    }
}
