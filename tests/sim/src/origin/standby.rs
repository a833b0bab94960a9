//! A second process on the same folder: it reads along, as `limn_origin::standby` does.

use super::{Faults, Reply, Settings, Shape, commit_log, read_shape, recovery, segment};
use crate::disk::{Disk, DiskError};
use crate::fault::Fault;
use limn_core::journal::replay::{AddedShape, Event, Policy, Replay};
use limn_core::log::reading::Standing;
use limn_core::{Handle, Lsn, Offset, ShapeId};
use std::collections::BTreeMap;
use std::convert::Infallible;

/// The process. It never writes.
#[derive(Debug)]
pub struct Standby {
    settings: Settings,
    replay: Replay,
    held: Held,
    /// The file that is being read, and how many of its bytes were.
    current: Option<(u64, usize)>,
}

/// The other process's shapes, as far as its commit log tells.
#[derive(Debug)]
struct Held {
    shapes: BTreeMap<ShapeId, Shape>,
    processed: Lsn,
    tail_bytes_max: usize,
    faults: Faults,
}

impl Standby {
    /// A process that has read nothing.
    #[must_use]
    pub fn new(settings: &Settings, faults: Faults) -> Self {
        let tail_bytes_max = settings.limits.tail_bytes_max;
        Self {
            replay: Replay::new(Policy::AsItComes, settings.chunk_bytes_max),
            held: Held { shapes: BTreeMap::new(), processed: Lsn::ZERO, tail_bytes_max, faults },
            settings: settings.clone(),
            current: None,
        }
    }

    /// Takes up what the folder holds now.
    ///
    /// # Errors
    /// Where a file that is there cannot be read.
    pub fn follow(&mut self, disk: &Disk) -> Result<(), DiskError> {
        self.held.shapes.values().for_each(|shape| shape.release_tail(disk));
        while !self.read_files(disk)? {
            *self = Self::new(&self.settings, self.held.faults);
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
    pub fn read(&self, disk: &Disk, (handle, kind): (Handle, usize), after: Offset) -> Reply {
        let mut shapes = self.held.shapes.values().filter(|shape| shape.is_readable.get());
        match shapes.find(|shape| shape.handle == handle) {
            Some(shape) => {
                let standing = (Standing::ReadOnly, self.held.processed);
                let is_there = disk.folders("shapes").contains(&segment::folder(handle));
                // The other process may have removed it, which is not known here yet.
                let unreadable = if is_there { Reply::Unreadable } else { Reply::Unavailable };
                read_shape(disk, shape, after, standing).unwrap_or(unreadable)
            }
            // It makes no shapes, so it has nothing to say of one that it does not know.
            None if self.find(kind).is_none() => Reply::Unavailable,
            None => Reply::MustRefetch,
        }
    }

    /// Reads each file from where it stands. False where one went before it was read.
    fn read_files(&mut self, disk: &Disk) -> Result<bool, DiskError> {
        let files = commit_log::files(disk);
        if self.current.is_some_and(|(current, _)| !files.iter().any(|(number, _)| *number == current)) {
            return Ok(false);
        }
        for (number, path) in files {
            let at = match self.current {
                Some((current, _)) if number < current => continue,
                Some((current, _)) if number > current + 1 => return Ok(false),
                Some((current, at)) if number == current => at,
                _ => 0,
            };
            let unread = disk.read(&path)?.get(at..).unwrap_or_default();
            let (records, length) = recovery::read_records(unread, self.held.faults);
            for record in records {
                let Ok(()) = self.replay.handle_record(record, |event| self.held.handle_event(disk, event));
            }
            self.current = Some((number, at + length));
        }
        Ok(true)
    }
}

impl Held {
    fn handle_event(&mut self, disk: &Disk, event: Event<'_>) -> Result<(), Infallible> {
        match event {
            Event::Added(shape) => self.add(*shape),
            Event::Log(id, change) => {
                if let Some(shape) = self.shapes.get(&id) {
                    change.apply(&mut shape.log.borrow_mut());
                    if self.faults.has(Fault::SecondShowsItemsFirst) {
                        shape.log.borrow_mut().commit();
                    }
                    if shape.log.borrow().tail_bytes() > self.tail_bytes_max {
                        shape.release_tail(disk);
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
            // No shape of the model has partitions that it learns of later, and no move is made here.
            Event::Partitions(_) | Event::Views(_) | Event::Moved(_) => {}
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

impl Shape {
    /// Forgets the finished items of the tail where the segment has them.
    fn release_tail(&self, disk: &Disk) {
        let mut log = self.log.borrow_mut();
        let (_, marks) = log.flushable();
        let Some(last) = marks.last().copied() else { return };
        let number = log.flushed_items() + marks.len() as u64 - 1;
        if segment::entry(disk, self.handle, number) == Some(last) {
            log.handle_flushed();
        }
    }
}
