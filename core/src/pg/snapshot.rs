//! Joining a snapshot and the write-ahead log: which transactions the snapshot already holds.

use crate::Lsn;
use serde::{Deserialize, Serialize};

/// The result of `pg_current_snapshot()` inside the snapshot's transaction: 64-bit transaction ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotBounds {
    /// Every transaction below is visible (or rolled back).
    pub xmin: u64,
    /// No transaction at or above is visible.
    pub xmax: u64,
    /// Transactions between the two that were still running.
    pub xip: Vec<u64>,
}

/// Decides for each replicated transaction whether a snapshot already contains it.
///
/// Commit order in the WAL and visibility order differ, so a transaction may come after one that is
/// not visible and still be visible itself. The filter therefore stays until commits lie beyond
/// `ends_at`, the WAL insert position noted *after* the snapshot was taken: whatever commits later
/// cannot be visible.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotFilter {
    /// The transactions that the snapshot sees.
    pub bounds: SnapshotBounds,
    /// `pg_current_wal_insert_lsn()` after the snapshot was taken, in its 64-bit form.
    pub ends_at: u64,
}

impl SnapshotBounds {
    /// True where the snapshot contains the transaction with this 32-bit id.
    ///
    /// pgoutput sends ids without their epoch: the id is widened to the value nearest to `xmax`, the
    /// way Postgres compares ids (chapter *Routine Vacuuming*, transaction id wraparound).
    #[must_use]
    pub fn contains(&self, xid: u32) -> bool {
        let xid = widen(xid, self.xmax);
        xid < self.xmin || (xid < self.xmax && !self.xip.contains(&xid))
    }
}

impl SnapshotFilter {
    /// True where the transaction belongs into the log: the snapshot does not contain it.
    #[must_use]
    pub fn admits(&self, xid: u32, commit: Lsn) -> bool {
        self.is_over(commit) || !self.bounds.contains(xid)
    }

    /// True once no transaction that commits at or after `commit` can be in the snapshot.
    #[must_use]
    pub const fn is_over(&self, commit: Lsn) -> bool {
        commit.as_u64() > self.ends_at
    }
}

/// The 64-bit id nearest to `near` whose low half is `xid`.
fn widen(xid: u32, near: u64) -> u64 {
    let distance = xid.wrapping_sub(near as u32).cast_signed();
    near.saturating_add_signed(i64::from(distance))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn bounds() -> SnapshotBounds {
        SnapshotBounds { xmin: 800, xmax: 806, xip: vec![803] }
    }

    #[test]
    fn running_and_future_transactions_are_not_contained() {
        let visible: Vec<u32> = (798..809).filter(|xid| bounds().contains(*xid)).collect();
        assert_eq!(visible, [798, 799, 800, 801, 802, 804, 805]);
    }

    #[test]
    fn ids_are_compared_across_the_epoch() {
        let epoch = 1 << 32;
        let around = SnapshotBounds { xmin: epoch - 2, xmax: epoch + 3, xip: vec![epoch + 1] };
        assert!(around.contains(u32::MAX - 5));
        assert!(around.contains(u32::MAX));
        assert!(around.contains(0));
        assert!(!around.contains(1));
        assert!(around.contains(2));
        assert!(!around.contains(3));
    }

    #[test]
    fn the_filter_ends_beyond_the_position_noted_after_the_snapshot() {
        let filter = SnapshotFilter { bounds: bounds(), ends_at: 100 };
        assert!(!filter.admits(801, Lsn::new(100)));
        assert!(filter.admits(803, Lsn::new(90)));
        // The same id may come round again once the snapshot is long past.
        assert!(filter.admits(801, Lsn::new(101)));
    }
}
