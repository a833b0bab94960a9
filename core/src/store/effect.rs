//! The effects that the write path hands to its driver, and the trait by which it sees a shape.
//!
//! They come from [`Writer`](super::Writer) and [`Logs`](super::Logs); origin's `engine::executor` and the simulation carry them
//! out.

use crate::Lsn;
use crate::ShapeId;
use crate::journal::Ticket;
use crate::journal::record::CreatedShape;
use crate::log::compaction::{Cut, Draft, Plan};
use crate::log::segment::SegmentAppend;
use crate::log::shape_log::ChunkEnd;
use crate::log::{Rope, ShapeLog};
use crate::shape::dependent::RoundRequest;
use crate::shape::{DropCause, RotationCause};
use std::ops::Deref;

/// An action for the owner of files, readers and connection, to be carried out in the order in which
/// [`Writer::poll_effect`](super::Writer::poll_effect) gives them; what has to be reported back says so.
#[derive(Debug)]
pub enum Effect<S> {
    /// Write these records to the commit log. `handle_synced` is due once they are durable, and everything before.
    Append {
        /// The piece's number.
        ticket: Ticket,
        /// Frames of the commit log.
        bytes: Rope,
    },
    /// Start a new file of the commit log with this checkpoint. The older files stay.
    StartFile {
        /// The file's number.
        number: u64,
        /// The checkpoint's ticket, to be reported like that of any other piece.
        ticket: Ticket,
        /// The file's first frame.
        checkpoint: Rope,
    },
    /// Make the files of these shapes durable, then call `handle_segments_synced`.
    SyncSegments {
        /// The commit log file whose checkpoint believes them.
        file: u64,
        /// The shapes.
        shapes: Vec<S>,
    },
    /// Delete the files of the commit log before this one, once everything that was appended is durable.
    DeleteFilesBefore {
        /// The oldest file that stays.
        file: u64,
    },
    /// Write to a shape's segment, without a sync, then call `handle_flushed`.
    WriteTail {
        /// The shape's number.
        id: ShapeId,
        /// The shape.
        shape: S,
        /// The bytes, and their place in the segment.
        append: SegmentAppend,
    },
    /// Compact a shape's segment as planned, then call `handle_drafted`. It may grow meanwhile.
    Compact {
        /// The shape's number.
        id: ShapeId,
        /// The shape.
        shape: S,
        /// The plan.
        plan: Plan,
        /// The ends of the segment's closed chunks up to there.
        stops: Vec<ChunkEnd>,
    },
    /// Take up into a draft what the shape's segment holds up to `end`, and make it durable, then call
    /// `handle_compacted`. The segment does not grow meanwhile.
    FinishCompaction {
        /// The shape's number.
        id: ShapeId,
        /// The shape.
        shape: S,
        /// The draft.
        draft: Draft,
        /// The segment's end.
        end: Cut,
    },
    /// Delete the segment of a generation, before anything else is done with the shape's segments.
    RemoveSegment {
        /// The shape.
        shape: S,
        /// The generation.
        generation: u64,
    },
    /// Delete the files of a shape that was dropped.
    RemoveFolder {
        /// The shape.
        shape: S,
    },
    /// Every shape shows the transactions up to `processed`: raise the LSN that replies may name, then wake the readers
    /// of these shapes.
    Publish {
        /// A commit LSN.
        processed: Lsn,
        /// Shapes that show more than before.
        grown: Vec<S>,
    },
    /// The stream has come up to a shape's snapshot: call [`ShapeLog::handle_joined`], then wake its readers. To be
    /// carried out after the [`Publish`](Self::Publish) before it: until replies may name that LSN, the shape's rows are
    /// newer than the LSN that a reply would name.
    Joined {
        /// The shape.
        shape: S,
    },
    /// Wake a shape's readers.
    Wake {
        /// The shape.
        shape: S,
    },
    /// A shape's snapshot survives a crash from now on.
    SnapshotDurable {
        /// The shape.
        shape: S,
    },
    /// A transaction begins: its commit is to be known before a reader can see it.
    Began {
        /// The commit LSN.
        commit: Lsn,
        /// Its 32-bit id.
        xid: u32,
    },
    /// A shape with subqueries has moved: readers see it once that is durable.
    Moved,
    /// Carry out the next step of a round in which shapes with subqueries move.
    Round(RoundRequest),
    /// Everything that was served before is there again: the end of a log may be called up to date.
    CaughtUp,
    /// The stream says something that a shape cannot follow, with which it is dropped next.
    Rotated {
        /// The shape.
        shape: S,
        /// Why, in detail.
        cause: RotationCause,
    },
    /// A shape was dropped: it must not be found any more, and its readers must be told.
    Dropped {
        /// The shape.
        shape: S,
        /// Why.
        cause: DropCause,
    },
}

/// A shape as its owner holds it.
pub trait SharedShape {
    /// Runs `change` on the shape's log, which is locked as long where others read it.
    fn with_log<T>(&self, change: impl FnOnce(&mut ShapeLog) -> T) -> T;

    /// The shape's identity, as the commit log keeps it.
    fn created(&self) -> CreatedShape;
}

impl<P: Deref<Target: SharedShape>> SharedShape for P {
    fn with_log<T>(&self, change: impl FnOnce(&mut ShapeLog) -> T) -> T {
        self.deref().with_log(change)
    }

    fn created(&self) -> CreatedShape {
        self.deref().created()
    }
}
