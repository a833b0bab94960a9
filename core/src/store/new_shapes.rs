//! What the writer is told of new shapes while their snapshots are taken.

use super::effect::NamedShape;
use super::writer::Writer;
use crate::pg::SnapshotFilter;
use crate::shape::dependent::View;

/// Something that the writer has to know of new shapes. [`Snapshots`](super::Snapshots) says when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewShapes<S> {
    /// From now on, keep the changes of these.
    Register(Vec<S>),
    /// A shape's snapshot was taken.
    Taken {
        /// The shape.
        shape: S,
        /// The transactions that the snapshot holds.
        filter: SnapshotFilter,
        /// What the shape's subqueries return in it.
        views: Vec<View>,
    },
    /// A shape's snapshot is written to its end.
    Written {
        /// The shape.
        shape: S,
        /// The transactions that the snapshot holds.
        filter: SnapshotFilter,
        /// The bytes of a snapshot that the commit log makes durable; `None` where its file was synced.
        content: Option<Vec<u8>>,
    },
}

/// The writer's answer to [`NewShapes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewShapesAnswer {
    /// It knows that now.
    Noted,
    /// The snapshot lacks a transaction that the shape will not get otherwise: another one must be taken.
    Incomplete,
    /// The shape was dropped meanwhile.
    Gone,
}

impl<S> NewShapes<S> {
    /// The same for shapes that are held in another way.
    pub fn map<U>(self, held: impl Fn(S) -> U) -> NewShapes<U> {
        match self {
            Self::Register(shapes) => NewShapes::Register(shapes.into_iter().map(held).collect()),
            Self::Taken { shape, filter, views } => NewShapes::Taken { shape: held(shape), filter, views },
            Self::Written { shape, filter, content } => {
                NewShapes::Written { shape: held(shape), filter, content }
            }
        }
    }
}

impl<S: NamedShape + Clone> Writer<S> {
    /// Takes what is known of new shapes.
    pub fn handle_new_shapes(&mut self, new: NewShapes<S>) -> NewShapesAnswer {
        match new {
            NewShapes::Register(shapes) => shapes.into_iter().for_each(|shape| self.register(shape)),
            NewShapes::Taken { shape, filter, views } => {
                let id = shape.identity().id;
                if self.logs().shape(id).is_none() {
                    return NewShapesAnswer::Gone;
                }
                if !self.handle_snapshot_taken(id, &filter, views) {
                    return NewShapesAnswer::Incomplete;
                }
            }
            NewShapes::Written { shape, filter, content } => {
                self.handle_snapshot_written(shape.identity().id, filter, content);
            }
        }
        NewShapesAnswer::Noted
    }
}
