//! Transactions that a shape cannot take yet: their rows are kept as they came.

use super::member::Member;
use crate::shape::held_row::HeldRow;
use std::collections::BTreeSet;

/// Bytes that one shape may hold back; beyond it the shape starts over.
pub const HELD_BYTES_MAX: usize = 64 << 20;
/// Members that are asked about one by one; beyond it the whole subquery is run again.
const AFFECTED_MEMBERS_MAX: usize = 10_000;

/// A transaction's changes of rows and members that concern one shape, not judged yet.
#[derive(Debug)]
pub(super) struct HeldTransaction {
    pub(super) commit: u64,
    pub(super) xid: u32,
    /// Behind the last operation number of the transaction; known at its commit.
    pub(super) ops: u64,
    pub(super) changes: Vec<HeldChange>,
    pub(super) affected: Affected,
}

/// A change of a row of the shape's own table.
#[derive(Debug)]
pub(super) struct HeldChange {
    pub(super) op: u64,
    pub(super) old: Option<HeldRow>,
    pub(super) new: Option<HeldRow>,
}

impl HeldTransaction {
    pub(super) fn new(commit: u64, xid: u32, dependencies: usize) -> Self {
        Self { commit, xid, ops: 0, changes: Vec::new(), affected: Affected::new(dependencies) }
    }
}

impl HeldChange {
    pub(super) fn len_bytes(&self) -> usize {
        let rows = [&self.old, &self.new].into_iter().flatten();
        size_of::<Self>() + rows.map(HeldRow::len_bytes).sum::<usize>()
    }
}

/// Members of each subquery that may have come or gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Affected(pub(super) Vec<AffectedMembers>);

/// Members of one subquery that may have come or gone.
#[derive(Debug, Clone, Default)]
pub(super) struct AffectedMembers {
    pub(super) members: BTreeSet<Member>,
    /// Any member may have come or gone.
    pub(super) whole: bool,
}

impl Affected {
    pub(super) fn new(dependencies: usize) -> Self {
        Self(vec![AffectedMembers::default(); dependencies])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|affected| !affected.is_some())
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            theirs.members.into_iter().for_each(|member| mine.push(member));
            if theirs.whole {
                mine.set_whole();
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.iter_mut().for_each(|affected| *affected = AffectedMembers::default());
    }
}

impl AffectedMembers {
    pub(super) fn is_some(&self) -> bool {
        self.whole || !self.members.is_empty()
    }

    pub(super) fn push(&mut self, member: Member) {
        if self.whole {
            return;
        }
        self.members.insert(member);
        if self.members.len() > AFFECTED_MEMBERS_MAX {
            self.set_whole();
        }
    }

    pub(super) fn set_whole(&mut self) {
        self.members.clear();
        self.whole = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn beyond_the_limit_the_whole_subquery_is_asked_again() {
        let mut affected = AffectedMembers::default();
        let member = |n: usize| Member::new([Some(n.to_string().as_bytes())]);
        (0..AFFECTED_MEMBERS_MAX).for_each(|n| affected.push(member(n)));
        affected.push(member(0));
        assert_eq!((affected.whole, affected.members.len()), (false, AFFECTED_MEMBERS_MAX));
        affected.push(member(AFFECTED_MEMBERS_MAX));
        assert_eq!((affected.whole, affected.members.len()), (true, 0));
    }
}
