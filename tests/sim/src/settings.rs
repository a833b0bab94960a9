//! The limits of a run.

use crate::random::Random;
use limn_core::store::{Limits, SnapshotLimits};
use limn_disk::SnapshotSizes;
use std::time::Duration;

/// Limits, small enough that a short run passes all of them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Those of a snapshot's pieces.
    pub sizes: SnapshotSizes,
    /// Those of the write path.
    pub limits: Limits,
    /// Those of the snapshots.
    pub snapshots: SnapshotLimits,
    /// The length at which a pack is full.
    pub pack_bytes_max: u64,
}

impl Settings {
    /// Limits for a run.
    #[must_use]
    pub const fn new(random: &mut Random) -> Self {
        let chunk_bytes_max = 200 + random.below(1_500);
        let limits = Limits {
            tail_bytes_max: 100 + random.below(2_000) as usize,
            fragment_bytes_max: 1 + random.below(600) as usize,
            pending_bytes_max: 100 + random.below(2_000) as usize,
            commit_file_bytes_max: 2_000 + random.below(12_000),
            tails_bytes_max: 300 + random.below(6_000) as usize,
            fragment_delivered_bytes_max: 1 + random.below(1_200) as usize,
        };
        let snapshots = SnapshotLimits {
            snapshots_max: 1 + random.below(3) as usize,
            batch_max: 1 + random.below(4) as usize,
            large_bytes: 100 + random.below(1_000),
            visible_wait: Duration::MAX,
        };
        let pack_bytes_max = 1 + random.below(2_000);
        let write_bytes = 1 + random.below(1_000) as usize;
        let sizes = SnapshotSizes { chunk_bytes_max, write_bytes };
        Self { sizes, limits, snapshots, pack_bytes_max }
    }
}
