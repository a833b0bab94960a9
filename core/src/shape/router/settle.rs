//! The end of a transaction for tables in which two rows may hold one key inside it ([`net`](super::super::net)).

use super::super::held_row::HeldRow;
use super::super::net::{NET_BYTES_MAX, NetChanges};
use super::super::routing::Sinks;
use super::super::row::Row;
use super::super::table::Table;
use super::{ChangePosition, Router};
use crate::ShapeId;
use crate::log::Fragment;
use crate::shape::dependent::Level;
use crate::shape::rotation::RotationCause;

/// The tables whose changes wait for the end of the open transaction.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// Those that the transaction has changed.
    tables: Vec<u32>,
    /// Bytes that wait in all of them.
    bytes: usize,
    /// Those whose changes are being routed now.
    due: Vec<u32>,
}

impl Router {
    /// Routes the changes that waited for the end of their transaction: `is_over` says that its commit comes next. To
    /// be called before each message, and again while it gives true: then the fragment is full, as `is_full` says, or
    /// Postgres [has to judge](Self::has_questions) changes first.
    pub fn settle(&mut self, is_over: bool, is_full: impl Fn(&Fragment) -> bool) -> bool {
        self.settle_until(is_over, |router| is_full(&router.fragment) || router.has_questions())
    }

    /// The same at once.
    pub(super) fn settle_all(&mut self) {
        self.settle_until(true, |_| false);
    }

    /// Counts a change of a table.
    pub(super) fn count_change(
        settling: &mut Settling,
        (oid, table): (u32, &mut Table),
        rows: (Option<&Row<'_>>, Option<&Row<'_>>),
        at: ChangePosition,
    ) -> Result<(), RotationCause> {
        if !settling.tables.contains(&oid) {
            settling.tables.push(oid);
        }
        let before = table.net.len_bytes();
        let counted = table.net.push(&table.relation, rows, at);
        settling.bytes = (settling.bytes + table.net.len_bytes()).saturating_sub(before);
        counted.map_err(|_| RotationCause::TransactionOverrun)
    }

    /// The open transaction will come again.
    pub(super) fn forget_counted(&mut self) {
        for oid in std::mem::take(&mut self.settling).tables {
            let tables = self.tables.get_mut(&oid).into_iter().flatten();
            tables.for_each(|table| table.net = NetChanges::default());
        }
    }

    fn settle_until(&mut self, is_over: bool, is_full: impl Fn(&Self) -> bool) -> bool {
        if self.settling.due.is_empty() {
            if self.settling.tables.is_empty() || !is_over && self.settling.bytes <= NET_BYTES_MAX {
                return false;
            }
            self.make_due(is_over);
        }
        while self.route_due() {
            if is_full(self) {
                return true;
            }
        }
        self.settling.bytes = 0;
        if is_over {
            self.settling.tables.clear();
        }
        false
    }

    fn make_due(&mut self, is_over: bool) {
        let Some(open) = self.open else { return };
        let at = ChangePosition { lsn: open.commit, op: open.next_op, xid: open.xid };
        self.settling.due.clone_from(&self.settling.tables);
        let mut lost = Vec::new();
        for oid in &self.settling.due {
            for table in self.tables.get_mut(oid).into_iter().flatten() {
                if table.net.settle(&table.relation, is_over).is_err() {
                    table.net = NetChanges::default();
                    lost.extend(table.lacking(at, &mut self.rounds, |level| level == Level::Outer));
                }
            }
        }
        lost.into_iter().for_each(|id: ShapeId| self.rotate(id, RotationCause::TransactionOverrun));
    }

    /// Routes the next change that is due; false where there is none.
    fn route_due(&mut self) -> bool {
        while let Some(&oid) = self.settling.due.last() {
            let mut lost = Vec::new();
            let mut sinks = Sinks {
                encoder: &mut self.encoder,
                asked: &mut self.asked,
                rounds: &mut self.rounds,
                fragment: &mut self.fragment,
                lost: &mut lost,
                candidates: &mut self.candidates,
            };
            let mut tables = self.tables.get_mut(&oid).into_iter().flatten();
            let next = tables.find_map(|table| table.net.pop_due().map(|change| (table, change)));
            let Some((table, change)) = next else {
                self.settling.due.pop();
                continue;
            };
            let (old, new) = (change.old.as_ref().map(HeldRow::row), change.new.as_ref().map(HeldRow::row));
            sinks.deliver(table, (old.as_ref(), new.as_ref()), change.at);
            lost.into_iter().for_each(|(id, cause)| self.rotate(id, cause));
            return true;
        }
        false
    }
}
