//! A second process on the same folder: it reads along, as `limn_origin::standby` does.

use super::{Reply, Shape, layout, read_shape};
use crate::fault::{Fault, Faults};
use crate::files::Files;
use crate::settings::Settings;
use limn_core::journal::replay::{AddedShape, Event, Policy, Replay};
use limn_core::log::reading::Standing;
use limn_core::{Handle, Lsn, Offset, ShapeId};
use limn_disk::{Files as _, Reached, RecoveryError, Tail, segment};
use std::collections::BTreeMap;
use std::io;

/// The process. It never writes.
#[derive(Debug)]
pub struct Standby {
    chunk_bytes_max: u64,
    tail: Tail<Files>,
    replay: Replay,
    held: Held,
}

/// The other process's shapes, as far as its commit log tells.
#[derive(Debug)]
struct Held {
    files: Files,
    shapes: BTreeMap<ShapeId, Shape>,
    processed: Lsn,
    tail_bytes_max: usize,
    faults: Faults,
}

impl Standby {
    /// A process that has read nothing.
    #[must_use]
    pub fn new(files: &Files, settings: &Settings, faults: Faults) -> Self {
        let tail_bytes_max = settings.limits.tail_bytes_max;
        let (files, shapes) = (files.clone(), BTreeMap::new());
        Self {
            chunk_bytes_max: settings.chunk_bytes_max,
            tail: Tail::new(files.clone(), layout()),
            replay: Replay::new(Policy::AsItComes, settings.chunk_bytes_max),
            held: Held { files, shapes, processed: Lsn::ZERO, tail_bytes_max, faults },
        }
    }

    /// Takes up what the folder holds now.
    ///
    /// # Errors
    /// Where a file that is there cannot be read, or the disk fails.
    pub fn follow(&mut self) -> Result<(), RecoveryError> {
        let Self { chunk_bytes_max, tail, replay, held } = self;
        for shape in held.shapes.values() {
            // What the index does not tell now it may tell later.
            let _ = segment::release_tail(&held.files, &shape.dir, &mut shape.log.borrow_mut());
        }
        while tail.read(|record| replay.handle_record(record, |event| held.handle_event(event)))?
            == Reached::Gap
        {
            *replay = Replay::new(Policy::AsItComes, *chunk_bytes_max);
            held.shapes.clear();
        }
        Ok(())
    }

    /// The newest shape of a kind that can be read.
    #[must_use]
    pub fn find(&self, kind: usize) -> Option<Handle> {
        let shapes = self.held.shapes.values().filter(|shape| shape.kind == kind && shape.is_readable.get());
        shapes.map(|shape| shape.handle).max()
    }

    /// The reply to a client's request.
    #[must_use]
    pub fn read(&self, (handle, kind): (Handle, usize), after: Offset) -> Reply {
        let mut shapes = self.held.shapes.values().filter(|shape| shape.is_readable.get());
        match shapes.find(|shape| shape.handle == handle) {
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
}

impl Held {
    fn handle_event(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Added(shape) => self.add(*shape),
            Event::Log(id, change) => {
                if let Some(shape) = self.shapes.get(&id) {
                    change.apply(&mut shape.log.borrow_mut());
                    if self.faults.has(Fault::SecondShowsItemsFirst) {
                        shape.log.borrow_mut().commit();
                    }
                    if shape.log.borrow().tail_bytes() > self.tail_bytes_max {
                        segment::release_tail(&self.files, &shape.dir, &mut shape.log.borrow_mut())?;
                    }
                }
            }
            Event::Readable(id, _) => {
                self.shapes.get(&id).into_iter().for_each(|shape| shape.is_readable.set(true));
            }
            Event::Bound { id, up_to, processed } => {
                if let Some(shape) = self.shapes.get(&id) {
                    shape.log.borrow_mut().set_visible_up_to(up_to, processed);
                }
            }
            Event::Removed(id) => drop(self.shapes.remove(&id)),
            Event::Processed(processed) => self.processed = processed,
            // No shape of the model has partitions that it learns of later, no move is made here, and a snapshot's bytes
            // are in its file.
            Event::Partitions(_) | Event::Views(_) | Event::Moved(_) | Event::Snapshot { .. } => {}
        }
        Ok(())
    }

    fn add(&mut self, shape: AddedShape) {
        let AddedShape { created, handle, mut log, .. } = shape;
        if self.faults.has(Fault::SecondJoinsEarly) {
            log.handle_joined();
        }
        self.shapes.insert(created.id, Shape::new(created, handle, log, self.faults));
    }
}
