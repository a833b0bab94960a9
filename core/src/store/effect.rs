//! The effects that the write path hands to its driver, and the trait by which it sees a shape.
//!
//! They come from [`Writer`](super::Writer) and [`Logs`](super::Logs); origin's `engine::executor` and the simulation carry them
//! out.

use super::file_work::{Piece, SegmentSync, SegmentWork, TailWrite};
use crate::journal::record::CreatedShape;
use crate::log::ShapeLog;
use crate::shape::dependent::RoundRequest;
use crate::shape::{Definition, DropCause, RotationCause};
use crate::{Handle, Lsn, ShapeId};
use std::ops::Deref;

/// An action for the owner of files, readers and connection, to be carried out in the order in which
/// [`Writer::poll_effect`](super::Writer::poll_effect) gives them. What is done with files is
/// [reported back](super::Report).
#[derive(Debug)]
pub enum Effect<S> {
    /// Queue this for the commit log's writer.
    CommitLog(Piece),
    /// Write a tail to its segment.
    WriteTail(TailWrite<S>),
    /// Make the files of some shapes durable.
    SyncSegments(SegmentSync<S>),
    /// Do something with a shape's files, behind all such work that was asked for before.
    WorkOnSegment(SegmentWork<S>),
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

/// What names a shape, and says what it holds.
#[derive(Debug, Clone, Copy)]
pub struct ShapeIdentity<'a> {
    /// Its number in the commit log.
    pub id: ShapeId,
    /// Its name on the wire, and that of its folder.
    pub handle: Handle,
    /// What it holds.
    pub definition: &'a Definition,
}

/// A shape that tells what it is.
pub trait NamedShape: SharedShape {
    /// What names it.
    fn identity(&self) -> ShapeIdentity<'_>;

    /// Lets readers have what its log has of its snapshot by now.
    fn show_snapshot(&self);
}

impl<P: Deref<Target: NamedShape>> NamedShape for P {
    fn identity(&self) -> ShapeIdentity<'_> {
        self.deref().identity()
    }

    fn show_snapshot(&self) {
        self.deref().show_snapshot();
    }
}
