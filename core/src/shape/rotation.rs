//! Why the router drops a shape: its clients get a 409 and resync.

use crate::filter::EvalError;

/// Why the router dropped a shape, with what it knows about it: [`DropCause`](super::DropCause) is the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotationCause {
    /// The table was emptied.
    Truncated,
    /// The table is no longer what the shape's definition saw.
    SchemaChanged,
    /// A change came without its old row: the replica identity is no longer FULL.
    IdentityLost,
    /// A row could not be judged by the filter.
    Unjudgeable(EvalError),
    /// More changes had to be held back than may be, for its snapshot or for a move.
    HeldOverrun,
    /// A transaction was too large to say at its end which row holds a key.
    TransactionOverrun,
    /// A subquery's results changed by more than a move may bring.
    MoveOverrun,
    /// A NULL came into the results of a `NOT IN`, or left them: no event can say what that means.
    NullMember,
    /// Postgres refused a question about the shape.
    Refused(String),
}
