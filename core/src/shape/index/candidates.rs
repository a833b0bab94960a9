//! The shapes that a change is routed to, each once.

use crate::ShapeId;

/// Scratch space for the shapes that were found.
#[derive(Debug, Default)]
pub(in crate::shape) struct Candidates {
    found: Vec<Candidate>,
}

/// A shape that a change may concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shape) struct Candidate {
    pub(in crate::shape) id: ShapeId,
    /// The finds of its old and its new row.
    finds: [Find; 2],
}

/// The result of looking for a row at the places of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(in crate::shape) enum Find {
    /// It was not: it does not satisfy the clause.
    #[default]
    None,
    /// It stands there: where the places are exact, it satisfies the clause.
    There,
    /// It cannot be told: the clause decides.
    Unknown,
}

/// The old row of a change, or the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shape) enum Side {
    Old,
    New,
}

impl Candidate {
    /// The find of the old row.
    pub(in crate::shape) const fn old_find(&self) -> Find {
        self.finds[0]
    }

    /// The find of the new row.
    pub(in crate::shape) const fn new_find(&self) -> Find {
        self.finds[1]
    }
}

impl Candidates {
    pub(in crate::shape) fn clear(&mut self) {
        self.found.clear();
    }

    /// Adds a shape whose clause decides on both rows, and which is added nowhere else.
    pub(in crate::shape) fn push_unknown(&mut self, id: ShapeId) {
        self.found.push(Candidate { id, finds: [Find::Unknown; 2] });
    }

    /// Adds a shape at whose places a row was found.
    pub(in crate::shape) fn push(&mut self, id: ShapeId, side: Side, find: Find) {
        let finds = match side {
            Side::Old => [find, Find::None],
            Side::New => [Find::None, find],
        };
        self.found.push(Candidate { id, finds });
    }

    /// Makes one candidate of those of one shape.
    pub(super) fn merge(&mut self) {
        self.found.sort_unstable_by_key(|candidate| candidate.id);
        self.found.dedup_by(|next, kept| {
            let is_same = next.id == kept.id;
            if is_same {
                for (kept, next) in kept.finds.iter_mut().zip(next.finds) {
                    *kept = next.max(*kept);
                }
            }
            is_same
        });
    }

    pub(in crate::shape) fn iter(&self) -> impl Iterator<Item = Candidate> {
        self.found.iter().copied()
    }
}
