//! The transactions that committed last: which of them does a snapshot not see yet?

use crate::Offset;
use crate::pg::SnapshotBounds;
use std::collections::VecDeque;

/// How many transactions are remembered: some seconds of a busy database.
const COMMITS_MAX: usize = 8_192;

/// The transactions that were read from the WAL last.
///
/// Postgres sends us a commit a moment before it shows the transaction to other sessions; with synchronous
/// replication the moment lasts as long as the standby takes. So a snapshot that is taken now may lack what a log
/// already holds.
#[derive(Debug, Clone, Default)]
pub struct RecentCommits {
    /// Commit LSN and 32-bit id, in WAL order.
    commits: VecDeque<(u64, u32)>,
}

impl RecentCommits {
    /// Remembers a transaction, from its begin on; one that is sent again after a reconnect is known already.
    pub fn handle_commit(&mut self, lsn: u64, xid: u32) {
        if self.commits.back().is_some_and(|(last, _)| *last >= lsn) {
            return;
        }
        if self.commits.len() == COMMITS_MAX {
            self.commits.pop_front();
        }
        self.commits.push_back((lsn, xid));
    }

    /// The commit LSN of the newest transaction; 0 where there was none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.commits.back().map_or(0, |(lsn, _)| *lsn)
    }

    /// True where the snapshot sees every transaction up to the commit LSN `up_to`.
    ///
    /// A shape gets the changes that are read after it is registered; what was read before must be in its
    /// snapshot. So a snapshot that does not see all that had been read by then is of no use to the shape.
    #[must_use]
    pub fn are_in(&self, up_to: u64, snapshot: &SnapshotBounds) -> bool {
        let mut read_before = self.commits.iter().take_while(|(lsn, _)| *lsn <= up_to);
        read_before.all(|(_, xid)| snapshot.contains(*xid))
    }

    /// How far a log that ends at `end` goes without a transaction that the snapshot lacks: `end`, or a position
    /// before the first such transaction. `end` must have been noted before the snapshot was taken.
    #[must_use]
    pub fn seen_up_to(&self, end: Offset, snapshot: &SnapshotBounds) -> Offset {
        let mut until_end = self.commits.iter().take_while(|(lsn, _)| *lsn <= end.tx());
        match until_end.find(|(_, xid)| !snapshot.contains(*xid)) {
            Some((lsn, _)) => end.min(Offset::new(lsn.saturating_sub(1), 0)),
            None => end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_log_is_cut_before_what_the_snapshot_lacks() {
        let mut recent = RecentCommits::default();
        for (lsn, xid) in [(100, 7), (200, 5), (300, 8), (200, 5), (400, 9)] {
            recent.handle_commit(lsn, xid);
        }
        let snapshot = |xmin, xmax, xip: &[u64]| SnapshotBounds { xmin, xmax, xip: xip.to_vec() };
        let end = Offset::new(300, 4);
        assert_eq!(recent.seen_up_to(end, &snapshot(9, 9, &[])), end);
        assert_eq!(recent.seen_up_to(end, &snapshot(9, 10, &[9])), end, "it is behind the end");
        assert_eq!(recent.seen_up_to(end, &snapshot(5, 9, &[5])), Offset::new(199, 0));
        assert_eq!(recent.seen_up_to(end, &snapshot(8, 8, &[])), Offset::new(299, 0));
        assert_eq!(recent.seen_up_to(Offset::SNAPSHOT_END, &snapshot(1, 1, &[])), Offset::SNAPSHOT_END);
    }

    #[test]
    fn a_snapshot_must_see_what_was_read_before() {
        let mut recent = RecentCommits::default();
        assert_eq!(recent.newest(), 0);
        recent.handle_commit(100, 7);
        recent.handle_commit(200, 5);
        assert_eq!(recent.newest(), 200);
        let lacks_5 = SnapshotBounds { xmin: 5, xmax: 9, xip: vec![5] };
        assert!(recent.are_in(100, &lacks_5));
        assert!(recent.are_in(199, &lacks_5));
        assert!(!recent.are_in(200, &lacks_5));
        assert!(recent.are_in(u64::MAX, &SnapshotBounds { xip: vec![], ..lacks_5 }));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut recent = RecentCommits::default();
        (1..=COMMITS_MAX as u64 + 1).for_each(|lsn| recent.handle_commit(lsn, 10));
        let nothing = SnapshotBounds { xmin: 1, xmax: 1, xip: vec![] };
        assert_eq!(recent.commits.len(), COMMITS_MAX);
        assert_eq!(recent.seen_up_to(Offset::new(9, 0), &nothing), Offset::new(1, 0));
    }
}
