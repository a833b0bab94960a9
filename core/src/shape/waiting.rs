//! Shapes whose snapshot is being taken: transactions wait until it is known which ones it holds.

use crate::Lsn;
use crate::log::Fragment;
use crate::pg::SnapshotFilter;

/// Bytes that one shape may hold back; beyond it the shape is given up and asked for again.
pub const WAITING_BYTES_MAX: usize = 64 << 20;

/// Transactions held back for one shape, in commit order.
#[derive(Debug, Default)]
pub struct Waiting {
    transactions: Vec<WaitingTransaction>,
    bytes: usize,
}

#[derive(Debug)]
struct WaitingTransaction {
    xid: u32,
    items: Fragment,
}

/// More was held back than [`WAITING_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingOverflow;

impl Waiting {
    /// Holds items back, which have so many `bytes` and are appended by `push`.
    ///
    /// # Errors
    /// Where the limit is passed: the shape must be given up.
    pub fn hold(
        &mut self,
        tx: u64,
        xid: u32,
        bytes: usize,
        push: impl FnOnce(&mut Fragment),
    ) -> Result<(), WaitingOverflow> {
        if bytes == 0 {
            return Ok(());
        }
        self.bytes += bytes;
        if self.bytes > WAITING_BYTES_MAX {
            return Err(WaitingOverflow);
        }
        if self.transactions.last().is_none_or(|last| last.items.tx != tx) {
            self.transactions.push(WaitingTransaction { xid, items: Fragment::new(tx) });
        }
        let last = self.transactions.last_mut().expect("one was just pushed");
        push(&mut last.items);
        Ok(())
    }

    /// Drops the transaction `tx`, which was cut off and will be sent again.
    pub fn abandon(&mut self, tx: u64) {
        if let Some(last) = self.transactions.pop_if(|last| last.items.tx == tx) {
            self.bytes -= last.items.len_bytes();
        }
    }

    /// The transactions that the snapshot does not hold, in commit order.
    pub fn release(self, filter: &SnapshotFilter) -> impl Iterator<Item = Fragment> {
        let admitted = |waiting: &WaitingTransaction| filter.admits(waiting.xid, Lsn::new(waiting.items.tx));
        self.transactions.into_iter().filter(admitted).map(|waiting| waiting.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::SnapshotBounds;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn push(
        waiting: &mut Waiting,
        (tx, xid, op): (u64, u32, u64),
        item: &[u8],
    ) -> Result<(), WaitingOverflow> {
        waiting.hold(tx, xid, item.len(), |held| held.push(op, item, &[]))
    }

    #[test]
    fn only_what_the_snapshot_lacks_is_released() {
        let mut waiting = Waiting::default();
        push(&mut waiting, (100, 801, 0), b"a").unwrap();
        push(&mut waiting, (110, 803, 0), b"b").unwrap();
        push(&mut waiting, (110, 803, 2), b"c").unwrap();
        push(&mut waiting, (120, 804, 0), b"d").unwrap();
        let bounds = SnapshotBounds { xmin: 803, xmax: 805, xip: vec![803] };
        let released: Vec<_> = waiting
            .release(&SnapshotFilter { bounds, ends_at: 200 })
            .map(|fragment| (fragment.tx, fragment.items().len()))
            .collect();
        assert_eq!(released, [(110, 2)]);
    }

    #[test]
    fn what_was_cut_off_takes_no_room() {
        let mut waiting = Waiting::default();
        let item = vec![b'x'; WAITING_BYTES_MAX / 2];
        push(&mut waiting, (100, 801, 0), &item).unwrap();
        push(&mut waiting, (110, 802, 0), &item).unwrap();
        waiting.abandon(120);
        waiting.abandon(110);
        push(&mut waiting, (110, 802, 0), &item).unwrap();
        let bounds = SnapshotBounds { xmin: 1, xmax: 1, xip: vec![] };
        let filter = SnapshotFilter { bounds, ends_at: 200 };
        let released = waiting.release(&filter).map(|fragment| fragment.tx);
        assert_eq!(released.collect::<Vec<_>>(), [100, 110]);
    }

    #[test]
    fn the_limit_is_an_error() {
        let mut waiting = Waiting::default();
        let item = vec![b'x'; WAITING_BYTES_MAX / 2];
        assert!(push(&mut waiting, (1, 1, 0), &item).is_ok());
        assert!(push(&mut waiting, (1, 1, 2), &item).is_ok());
        assert_eq!(push(&mut waiting, (1, 1, 4), b"x"), Err(WaitingOverflow));
    }
}
