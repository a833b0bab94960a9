//! A second process on the same folder: it reads along, as `limn_origin::standby` does.

use super::request::read_shape;
use super::{Shape, layout};
use crate::fault::Faults;
use crate::faulty::Log;
use crate::files::Files;
use crate::reply::Reply;
use crate::settings::Settings;
use limn_core::journal::replay::AddedShape;
use limn_core::log::reading::Standing;
use limn_core::log::shape_log::PackPlace;
use limn_core::store::{Followed, Follower};
use limn_core::{Handle, Lsn, Offset};
use limn_disk::{Files as _, RecoveryError, Tail, segment};
use std::io;

/// The process. It never writes.
#[derive(Debug)]
pub struct Standby {
    tail: Tail<Files>,
    follower: Follower<Shape>,
    held: Held,
}

/// The files and the position by which the other process's shapes are read.
#[derive(Debug)]
struct Held {
    files: Files,
    processed: Lsn,
    faults: Faults,
}

impl Standby {
    /// A process that has read nothing.
    pub fn new(files: &Files, settings: &Settings, faults: Faults) -> Self {
        let held = Held { files: files.clone(), processed: Lsn::ZERO, faults };
        let follower = Follower::new(settings.chunk_bytes_max, settings.limits.tail_bytes_max);
        Self { tail: Tail::new(files.clone(), layout()), follower, held }
    }

    /// Takes up what the folder holds now.
    pub fn follow(&mut self) -> Result<(), RecoveryError> {
        self.tail.follow(&mut self.follower, &mut self.held)
    }

    /// The newest shape of a kind that can be read.
    pub fn find(&self, kind: usize) -> Option<Handle> {
        self.readable().filter(|shape| shape.kind == kind).map(|shape| shape.handle).max()
    }

    /// The reply to a client's request.
    pub fn read(&self, (handle, kind): (Handle, usize), after: Offset) -> Reply {
        match self.readable().find(|shape| shape.handle == handle) {
            Some(shape) => {
                let standing = (Standing::ReadOnly, self.held.processed);
                let shapes = self.held.files.list(&layout().shapes_dir()).unwrap_or_default();
                let is_there = shapes.contains(&handle.to_string());
                // The other process may have removed it, which is not known here yet.
                let unreadable = if is_there { Reply::Unreadable } else { Reply::Unavailable };
                read_shape(&self.held.files, shape, after, standing).unwrap_or(unreadable)
            }
            // It makes no shapes, so it has nothing to say of one that it does not know.
            None if self.find(kind).is_none() => Reply::Unavailable,
            None => Reply::MustRefetch,
        }
    }

    fn readable(&self) -> impl Iterator<Item = &Shape> {
        self.follower.shapes().filter(|shape| shape.is_readable.get())
    }
}

impl Followed for Held {
    type Shape = Shape;
    type Error = io::Error;

    fn add(&mut self, shape: AddedShape) -> Option<Shape> {
        let AddedShape { created, handle, log, .. } = shape;
        Some(Shape::new(created.created(), handle, Log::of_second(log, self.faults), false))
    }

    fn release_tail(&mut self, shape: &Shape) -> io::Result<()> {
        shape.log.change(|log| segment::release_tail(&self.files, &shape.dir(), log))
    }

    fn has_snapshot(&mut self, shape: &Shape, pack: Option<PackPlace>, content: &[u8]) -> io::Result<bool> {
        segment::has_snapshot(&self.files, &shape.dir(), pack, content)
    }

    fn show(&mut self, shape: &Shape) {
        shape.is_readable.set(true);
    }

    fn publish(&mut self, processed: Lsn) {
        self.processed = processed;
    }
}
