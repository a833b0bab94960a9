//! The chunks of a change log: where a reply may end before the log does.

use serde::{Deserialize, Serialize};

/// The end of a closed chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkEnd {
    /// Commit LSN of the chunk's last item.
    pub tx: u64,
    /// Operation of the chunk's last item.
    pub op: u64,
    /// Byte position behind it.
    pub end: u64,
}

/// One finished item: its offset, and the byte position behind it.
pub type Mark = ChunkEnd;

/// The chunks of a change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks {
    bytes_max: u64,
    /// The ends of closed ones, oldest first.
    closed: Vec<ChunkEnd>,
    /// Item bytes in the open one.
    open_bytes: u64,
}

impl Chunks {
    /// No chunk; each closes at `bytes_max` item bytes.
    #[must_use]
    pub const fn new(bytes_max: u64) -> Self {
        Self::restore(bytes_max, Vec::new(), 0)
    }

    /// Chunks that are known.
    #[must_use]
    pub const fn restore(bytes_max: u64, closed: Vec<ChunkEnd>, open_bytes: u64) -> Self {
        Self { bytes_max, closed, open_bytes }
    }

    /// An item of `bytes` without its comma comes, which may fill the open chunk.
    pub fn push(&mut self, item: ChunkEnd, bytes: u64) {
        self.open_bytes += bytes;
        if self.open_bytes >= self.bytes_max {
            self.close(item);
        }
    }

    /// An item of `bytes` without its comma comes, at which no chunk may end.
    pub const fn grow(&mut self, bytes: u64) {
        self.open_bytes += bytes;
    }

    /// The open chunk ends here, however long it is.
    pub fn close(&mut self, end: ChunkEnd) {
        self.closed.push(end);
        self.open_bytes = 0;
    }

    /// Item bytes at which a chunk closes.
    #[must_use]
    pub const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// The ends of closed chunks, oldest first.
    #[must_use]
    pub fn closed(&self) -> &[ChunkEnd] {
        &self.closed
    }

    /// Item bytes in the open chunk.
    #[must_use]
    pub const fn open_bytes(&self) -> u64 {
        self.open_bytes
    }
}
