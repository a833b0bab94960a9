//! Snapshots that no transaction is in any more: what says which ones they hold is forgotten.

use super::super::table::{Joining, Route};
use super::Router;
use crate::{Lsn, ShapeId};
use std::collections::{BTreeMap, BTreeSet};

/// Shapes that are joined at one commit: after a start there are many.
const JOINED_PER_COMMIT: usize = 64;

/// Shapes by the position beyond which nothing is in their snapshot.
#[derive(Debug, Default)]
pub(super) struct Joins(BTreeMap<u64, BTreeSet<ShapeId>>);

impl Joins {
    fn remove(&mut self, ends_at: u64, id: ShapeId) {
        let Some(ids) = self.0.get_mut(&ends_at) else { return };
        ids.remove(&id);
        if ids.is_empty() {
            self.0.remove(&ends_at);
        }
    }
}

impl Router {
    /// A shape's snapshot is known, and transactions that it holds may still come, up to `ends_at`.
    pub(super) fn begin_join(&mut self, ends_at: u64, id: ShapeId) {
        self.joins.0.entry(ends_at).or_default().insert(id);
    }

    /// A shape goes.
    pub(super) fn forget_join(&mut self, id: ShapeId) {
        if let Some(ends_at) = self.ends_at(id) {
            self.joins.remove(ends_at, id);
        }
    }

    /// Every transaction up to `committed` was routed.
    pub(super) fn end_joins(&mut self, committed: u64) {
        for _ in 0..JOINED_PER_COMMIT {
            let first = self.joins.0.first_key_value().filter(|(ends_at, _)| **ends_at < committed);
            let Some((ends_at, Some(id))) = first.map(|(ends_at, ids)| (*ends_at, ids.first().copied()))
            else {
                return;
            };
            self.joins.remove(ends_at, id);
            let Some(route) = self.route_mut(id) else { continue };
            if matches!(&route.joining, Joining::Filtering(filter) if filter.is_over(Lsn::new(committed))) {
                route.joining = Joining::Done;
            }
        }
    }

    fn ends_at(&mut self, id: ShapeId) -> Option<u64> {
        self.route_mut(id)?.joining.ends_at()
    }

    pub(super) fn route_mut(&mut self, id: ShapeId) -> Option<&mut Route> {
        let own = self.shapes.own(id)?;
        self.tables.get_mut(&own)?.iter_mut().find_map(|table| table.routes.get_mut(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{COLUMNS, begin, commit, describe, feed, insert, router};
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn joined(router: &mut Router) -> usize {
        let ids = (0..200).map(ShapeId);
        ids.filter(|id| router.route_mut(*id).is_some_and(|route| matches!(route.joining, Joining::Done)))
            .count()
    }

    /// Though no change concerns them; and none waits for the others.
    #[test]
    fn shapes_are_joined_by_commits_behind_their_snapshots() {
        let mut router = router(&["where=n%3D5"; 200]);
        let transaction = |router: &mut Router, lsn| {
            feed(router, &begin(lsn, 900));
            feed(router, &describe(&COLUMNS));
            feed(router, &insert(&[Some("1"), Some("4"), None]));
            feed(router, &commit(lsn));
            joined(router)
        };
        assert_eq!(transaction(&mut router, 50), 0, "the snapshots may hold what commits here");
        assert_eq!(transaction(&mut router, 51), JOINED_PER_COMMIT);
        router.remove(ShapeId(199));
        let counts = [52, 53, 54].map(|lsn| transaction(&mut router, lsn));
        assert_eq!(counts, [2 * JOINED_PER_COMMIT, 3 * JOINED_PER_COMMIT, 199]);
        assert!(router.joins.0.is_empty());
    }
}
