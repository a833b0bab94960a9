//! The transactions that committed last: which of them does a snapshot not see yet?

use super::snapshot::SnapshotBounds;
use crate::Offset;
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
    /// Remembers a transaction; one that is sent again after a reconnect is known already.
    pub fn handle_commit(&mut self, lsn: u64, xid: u32) {
        if self.commits.back().is_some_and(|(last, _)| *last >= lsn) {
            return;
        }
        if self.commits.len() == COMMITS_MAX {
            self.commits.pop_front();
        }
        self.commits.push_back((lsn, xid));
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
    fn the_oldest_are_forgotten() {
        let mut recent = RecentCommits::default();
        (1..=COMMITS_MAX as u64 + 1).for_each(|lsn| recent.handle_commit(lsn, 10));
        let nothing = SnapshotBounds { xmin: 1, xmax: 1, xip: vec![] };
        assert_eq!(recent.commits.len(), COMMITS_MAX);
        assert_eq!(recent.seen_up_to(Offset::new(9, 0), &nothing), Offset::new(1, 0));
    }
}
