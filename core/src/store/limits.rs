//! How much the write path keeps in memory, and in one file. `docs/operate.md` tells what each limit means to those
//! who run a server.

use crate::log::Fragment;

/// Bytes that one shape's tail gathers before it goes to the segment.
pub const TAIL_BYTES_MAX: usize = 64 << 10;
/// Bytes of all tails together beyond which all of them go to their segments.
pub const TAILS_BYTES_MAX: usize = 24 << 20;
/// Bytes of records that are gathered before they are handed to the commit log, even within a turn.
pub const PENDING_BYTES_MAX: usize = 1 << 20;
/// Length of a commit log file, behind its checkpoint, beyond which a new one is started.
pub const COMMIT_FILE_BYTES_MAX: u64 = 64 << 20;
/// Bytes of encoded items beyond which a part of a transaction is handed on.
pub const FRAGMENT_BYTES_MAX: usize = 256 << 10;
/// The same, where each item counts once for every shape that it goes to: so much may be appended to tails at once.
pub const FRAGMENT_DELIVERED_BYTES_MAX: usize = 16 << 20;

/// The limits of a write path: those above, or smaller ones that a short test reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// [`TAIL_BYTES_MAX`]
    pub tail_bytes_max: usize,
    /// [`TAILS_BYTES_MAX`]
    pub tails_bytes_max: usize,
    /// [`PENDING_BYTES_MAX`]
    pub pending_bytes_max: usize,
    /// [`COMMIT_FILE_BYTES_MAX`]
    pub commit_file_bytes_max: u64,
    /// [`FRAGMENT_BYTES_MAX`]
    pub fragment_bytes_max: usize,
    /// [`FRAGMENT_DELIVERED_BYTES_MAX`]
    pub fragment_delivered_bytes_max: usize,
}

impl Limits {
    /// True where a part of a transaction is large enough to be handed on.
    #[must_use]
    pub fn is_full(&self, fragment: &Fragment) -> bool {
        fragment.len_bytes() >= self.fragment_bytes_max
            || fragment.delivered_bytes() >= self.fragment_delivered_bytes_max
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tail_bytes_max: TAIL_BYTES_MAX,
            tails_bytes_max: TAILS_BYTES_MAX,
            pending_bytes_max: PENDING_BYTES_MAX,
            commit_file_bytes_max: COMMIT_FILE_BYTES_MAX,
            fragment_bytes_max: FRAGMENT_BYTES_MAX,
            fragment_delivered_bytes_max: FRAGMENT_DELIVERED_BYTES_MAX,
        }
    }
}
