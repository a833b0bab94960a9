//! The replies that a client gets.

use limn_core::Offset;

/// The answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A whole chunk of the snapshot.
    Snapshot {
        /// Its bytes, each message behind a comma.
        bytes: Vec<u8>,
        /// Where the reader is after it.
        offset: Offset,
    },
    /// Items of the log, perhaps none.
    Changes {
        /// Their bytes, each item behind a comma.
        bytes: Vec<u8>,
        /// Where the reader is after them.
        offset: Offset,
        /// True where they can never change.
        closed: bool,
        /// Where the segment begins that they are from, or would be.
        segment: u64,
        /// What `global_last_seen_lsn` says, where the reply says that nothing follows.
        up_to_date: Option<u64>,
    },
    /// The shape is no more.
    MustRefetch,
    /// Not now: the client shall ask again.
    Unavailable,
    /// Nothing was ever there, says the server that has caught up.
    OutOfBounds,
    /// The shape's files do not hold what the process believes.
    Unreadable,
}
