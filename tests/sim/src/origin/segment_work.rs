//! The thread that works on segments, as `limn_origin::engine::segment_work` does.

use super::{Origin, Shape};
use limn_core::ShapeId;
use limn_core::log::compaction::{Cut, Draft, Plan};
use limn_core::log::shape_log::ChunkEnd;
use limn_disk::{compaction, segment};
use std::io;
use std::rc::Rc;

/// Something to be done with a shape's files, in the order in which it was asked for.
#[derive(Debug)]
pub enum SegmentWork {
    Compact(ShapeId, Rc<Shape>, Plan, Vec<ChunkEnd>),
    Finish(ShapeId, Rc<Shape>, Draft, Cut),
    Remove(Rc<Shape>, u64),
    RemoveFolder(Rc<Shape>),
}

impl Origin {
    /// The thread takes its next step. Where that fails, the shape's old segment stays.
    pub fn work_on_segments(&mut self) -> io::Result<()> {
        let files = self.files.clone();
        match self.segment_work.pop_front() {
            Some(SegmentWork::Compact(id, shape, plan, stops)) => {
                let begun = compaction::begin(&files, &shape.dir(), plan, stops, || true);
                let draft = self.surviving(begun)?;
                self.writer.handle_drafted(id, draft);
            }
            Some(SegmentWork::Finish(id, shape, draft, end)) => {
                let compacted = self.surviving(compaction::finish(&files, &shape.dir(), draft, end))?;
                self.writer.handle_compacted(id, compacted);
            }
            Some(SegmentWork::Remove(shape, generation)) => {
                self.surviving(segment::remove(&files, &shape.dir(), generation))?;
            }
            Some(SegmentWork::RemoveFolder(shape)) => {
                let place = shape.log.get().pack();
                place.map_or(Ok(()), |place| self.packs.release(place))?;
                segment::remove_dir(&files, &shape.dir())?;
            }
            None => {}
        }
        self.execute()
    }

    /// What was done, unless the power is off.
    fn surviving<T>(&self, outcome: io::Result<T>) -> io::Result<Option<T>> {
        match outcome {
            Err(error) if self.files.disk().is_off() => Err(error),
            outcome => Ok(outcome.ok()),
        }
    }
}
