//! Everything that the write path has done with files, and what is reported back of it. `limn_disk` carries it out.

use crate::ShapeId;
use crate::journal::Ticket;
use crate::log::Rope;
use crate::log::compaction::{Compacted, Cut, Draft, Plan};
use crate::log::segment::SegmentAppend;
use crate::log::shape_log::ChunkEnd;

/// A request to the commit log's writer, which carries them out in their order.
#[derive(Debug)]
pub enum Piece {
    /// Write these records. [`Report::Synced`] is due once they are durable, and everything before.
    Append {
        /// The piece's number.
        ticket: Ticket,
        /// Frames of the commit log.
        bytes: Rope,
    },
    /// Start a new file with this checkpoint. The older files stay.
    StartFile {
        /// The file's number.
        number: u64,
        /// The checkpoint's ticket, to be reported like that of any other piece.
        ticket: Ticket,
        /// The file's first frame.
        checkpoint: Rope,
    },
    /// Delete the files before this one, once everything that was queued before is durable.
    DeleteBefore {
        /// The oldest file that stays.
        number: u64,
    },
}

/// Bytes to be written to a shape's segment, without a sync; then [`Report::Flushed`].
#[derive(Debug)]
pub struct TailWrite<S> {
    /// The shape's number.
    pub id: ShapeId,
    /// The shape.
    pub shape: S,
    /// The bytes, and their place in the segment.
    pub append: SegmentAppend,
}

/// Shapes whose files are to be made durable; then [`Report::SegmentsSynced`].
#[derive(Debug)]
pub struct SegmentSync<S> {
    /// The commit log file whose checkpoint believes them.
    pub file: u64,
    /// The shapes.
    pub shapes: Vec<S>,
}

/// Something to be done with a shape's files, one after the other, in the order in which it was asked for.
#[derive(Debug)]
pub enum SegmentWork<S> {
    /// Compact the segment as planned; then [`Report::Drafted`]. It may grow meanwhile.
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
    /// Take up into a draft what the segment holds up to `end`, and make it durable; then [`Report::Compacted`]. The
    /// segment does not grow meanwhile.
    Finish {
        /// The shape's number.
        id: ShapeId,
        /// The shape.
        shape: S,
        /// The draft.
        draft: Draft,
        /// The segment's end.
        end: Cut,
    },
    /// Delete the segment of a generation.
    Remove {
        /// The shape.
        shape: S,
        /// The generation.
        generation: u64,
    },
    /// Delete the files of a shape that was dropped. None of its tails is being written any more.
    RemoveFolder {
        /// The shape's number.
        id: ShapeId,
        /// The shape.
        shape: S,
    },
}

impl<S> SegmentWork<S> {
    /// The shape that it is about.
    pub const fn shape(&self) -> &S {
        match self {
            Self::Compact { shape, .. }
            | Self::Finish { shape, .. }
            | Self::Remove { shape, .. }
            | Self::RemoveFolder { shape, .. } => shape,
        }
    }
}

/// The outcome of what was done with files.
#[derive(Debug)]
pub enum Report {
    /// Everything up to and including this ticket is durable.
    Synced(Ticket),
    /// A [`TailWrite`] of this shape is in its segment.
    Flushed(ShapeId),
    /// The files that a [`SegmentSync`] named are durable, up to the beginning of this commit log file.
    SegmentsSynced(u64),
    /// A draft is written; `None` where that failed, and nothing is left of it.
    Drafted(ShapeId, Option<Draft>),
    /// A compacted segment is durable; `None` where that failed, and nothing is left of it.
    Compacted(ShapeId, Option<Compacted>),
}
