//! What must never happen.

use std::fmt;

/// A promise that was not kept.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which one.
    pub kind: Kind,
    /// How it showed.
    pub text: String,
}

/// The promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A row or a change is missing.
    Lost,
    /// A row or a change came twice, or should not be there.
    Duplicated,
    /// Told to be up to date with the rows of another moment.
    Stale,
    /// A part of a transaction, another order, or a message that does not fit.
    Torn,
    /// A handle was given up without a cause.
    Rotated,
    /// An answer that no client may get.
    Refused,
    /// A write of the application that the server made fail, or a long wait behind it.
    Harmed,
    /// Something that the server must tell people and does not.
    Unsaid,
    /// No end.
    Stuck,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}
