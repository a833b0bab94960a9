//! What clients find at a process: shapes, and the replies to requests.

use crate::fault::Faults;
use crate::faulty::Shape;
use crate::files::{Files, layout};
use crate::reply::Reply;
use crate::shapes::Kind;
use limn_core::journal::KeptShape;
use limn_core::log::reading::{Answer, Look, Mode, Next, Part, Reading, Refuse, Standing};
use limn_core::log::{Clock, ShapeLog};
use limn_core::store::{Followed, SharedShape};
use limn_core::{Handle, Lsn, Offset};
use limn_disk::{Files as _, FollowedFolder, read_log, stored_part};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// A second process on the same folder, which reads along. It never writes.
pub type Standby = FollowedFolder<Files, Front>;

/// The shapes that clients find, and how far replies may go.
#[derive(Debug)]
pub struct Front {
    files: Files,
    faults: Faults,
    /// In the order in which they came.
    pub shapes: Vec<Rc<Shape>>,
    /// The state of the process.
    pub standing: Standing,
    /// The LSN that replies may name.
    pub processed: Lsn,
}

impl Front {
    /// A front where nothing is found yet.
    #[must_use]
    pub fn new(files: &Files, standing: Standing, processed: Lsn, faults: Faults) -> Self {
        Self { files: files.clone(), faults, shapes: Vec::new(), standing, processed }
    }

    /// The newest shape of a kind.
    #[must_use]
    pub fn find(&self, kind: &'static Kind) -> Option<Handle> {
        let of_kind = self.shapes.iter().filter(|shape| std::ptr::eq(shape.kind, kind));
        of_kind.map(|shape| shape.handle).max()
    }

    /// The reply to a client's request.
    #[must_use]
    pub fn read(&self, (handle, kind): (Handle, &'static Kind), after: Offset) -> Reply {
        match self.shapes.iter().rfind(|shape| shape.handle == handle) {
            Some(shape) if !shape.is_readable.get() => Reply::Unavailable,
            Some(shape) => self.read_shape(shape, after).unwrap_or_else(|_| self.unreadable(handle)),
            // A process that makes no shapes has nothing to say of one that it does not know.
            None if self.standing == Standing::ReadOnly && self.find(kind).is_none() => Reply::Unavailable,
            None => Reply::MustRefetch,
        }
    }

    /// Of a shape whose files cannot be read: another process may have removed it, which is not known here yet.
    fn unreadable(&self, handle: Handle) -> Reply {
        let is_there =
            || self.files.list(&layout().shapes_dir()).unwrap_or_default().contains(&handle.to_string());
        match self.standing == Standing::ReadOnly && !is_there() {
            true => Reply::Unavailable,
            false => Reply::Unreadable,
        }
    }

    fn read_shape(&self, shape: &Rc<Shape>, after: Offset) -> io::Result<Reply> {
        let Self { files, standing, processed, .. } = self;
        let clock = Clock { processed: *processed, is_current: standing.is_current() };
        let read = Some(read_log(files, &layout(), shape, after, clock)?);
        let mut look = Look { now: Duration::ZERO, read, standing: *standing, is_stopping: false };
        let mut reading = Reading::new(Mode::CatchUp, Duration::ZERO, false);
        let mut next = reading.next(&look, false);
        while let Next::Wait(wait) = next {
            // Nothing happens meanwhile.
            look.now = wait.until;
            next = reading.next(&look, false);
        }
        let Next::Send(Answer::Part { part, offset, closed, up_to_date }) = next else {
            let is_out_of_bounds = next == Next::Refuse(Refuse::OutOfBounds);
            return Ok(if is_out_of_bounds { Reply::OutOfBounds } else { Reply::Unavailable });
        };
        let dir = || layout().shape_dir(shape.handle);
        let (file, tail) = shape.with_log(|log| stored_part(dir, log, &part));
        let mut bytes = file.map_or(Ok(Vec::new()), |(path, range)| files.part(&path, range))?;
        tail.append_to(&mut bytes);
        let (up_to_date, segment) = (up_to_date.map(Lsn::as_u64), shape.log().start().byte);
        Ok(match part {
            Part::Snapshot(_) => Reply::Snapshot { bytes, offset },
            _ => Reply::Changes { bytes, offset, closed, segment, up_to_date },
        })
    }
}

impl Followed for Front {
    type Shape = Rc<Shape>;

    fn add(&mut self, kept: KeptShape, log: ShapeLog) -> Option<Rc<Shape>> {
        Some(Shape::of_second(&kept, log, self.faults))
    }

    fn show(&mut self, shape: &Rc<Shape>) {
        if !shape.is_readable.replace(true) {
            self.shapes.push(shape.clone());
        }
    }

    fn publish(&mut self, processed: Lsn) {
        self.processed = self.processed.max(processed);
    }

    fn retire(&mut self, shape: Rc<Shape>) {
        self.shapes.retain(|shown| !Rc::ptr_eq(shown, &shape));
    }
}
