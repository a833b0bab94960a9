//! Which shapes share a snapshot.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// The limits of [`Snapshots`](super::Snapshots).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotLimits {
    /// Snapshots that may be open.
    pub snapshots_max: usize,
    /// Shapes that one of them may serve.
    pub batch_max: usize,
    /// Bytes of one shape's rows beyond which the shapes that share its snapshot wait for another one instead.
    pub large_bytes: u64,
    /// The time for which a shape gets another snapshot where the last one lacked a transaction that it needs.
    pub visible_wait: Duration,
}

/// Shapes that wait for a snapshot, in the order in which they came. One snapshot serves all that wait for the same
/// tables when it is begun: `T` says which, `S` is the shape.
///
/// Of the same tables only one snapshot is being begun at a time, so that those who come meanwhile share the next one,
/// the more the longer that takes. It is then copied from while the next one is begun.
///
/// Order of calls: [`push`](Self::push); after each call [`poll`](Self::poll) until it gives nothing; for each batch
/// [`handle_begun`](Self::handle_begun), and [`handle_end`](Self::handle_end) whatever comes of it. A batch says by
/// [`Batch::poll`] whose rows are to be copied next; what it does not serve is to be [given back](Self::give_back).
#[derive(Debug)]
pub struct SnapshotQueue<T, S> {
    limits: SnapshotLimits,
    waiting: VecDeque<Group<T, S>>,
    beginning: BTreeSet<T>,
    open: usize,
}

#[derive(Debug)]
struct Group<T, S> {
    tables: T,
    shapes: VecDeque<S>,
}

/// The shapes of one snapshot.
#[derive(Debug)]
pub struct Batch<T, S> {
    large_bytes: u64,
    tables: T,
    shapes: VecDeque<S>,
}

impl<T: Clone + Ord, S> SnapshotQueue<T, S> {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: SnapshotLimits) -> Self {
        Self { limits, waiting: VecDeque::new(), beginning: BTreeSet::new(), open: 0 }
    }

    /// A shape waits.
    pub fn push(&mut self, tables: T, shape: S) {
        match self.waiting.iter_mut().find(|group| group.tables == tables) {
            Some(group) => group.shapes.push_back(shape),
            None => self.waiting.push_back(Group { tables, shapes: [shape].into() }),
        }
    }

    /// Shapes that their snapshot did not serve wait again, before all others; where there are none, nobody's place changes.
    pub fn give_back(
        &mut self,
        tables: T,
        shapes: impl IntoIterator<Item = S, IntoIter: DoubleEndedIterator>,
    ) {
        let mut shapes = shapes.into_iter().rev().peekable();
        if shapes.peek().is_none() {
            return;
        }
        let position = self.waiting.iter().position(|group| group.tables == tables);
        let mut group = position
            .and_then(|position| self.waiting.remove(position))
            .unwrap_or(Group { tables, shapes: VecDeque::new() });
        shapes.for_each(|shape| group.shapes.push_front(shape));
        self.waiting.push_front(group);
    }

    /// The shapes for which a snapshot is to be begun now.
    pub fn poll(&mut self) -> Option<Batch<T, S>> {
        if self.open >= self.limits.snapshots_max {
            return None;
        }
        let position = self.waiting.iter().position(|group| !self.beginning.contains(&group.tables))?;
        let mut group = self.waiting.remove(position)?;
        let rest = group.shapes.split_off(group.shapes.len().min(self.limits.batch_max));
        let tables = group.tables;
        if !rest.is_empty() {
            // Behind the others, which have waited as long.
            self.waiting.push_back(Group { tables: tables.clone(), shapes: rest });
        }
        self.open += 1;
        self.beginning.insert(tables.clone());
        Some(Batch { large_bytes: self.limits.large_bytes, tables, shapes: group.shapes })
    }

    /// A snapshot of these tables was begun: the next one may be.
    pub fn handle_begun(&mut self, tables: &T) {
        self.beginning.remove(tables);
    }

    /// A snapshot is over. `was_begun`: as [`handle_begun`](Self::handle_begun) was told.
    pub fn handle_end(&mut self, tables: &T, was_begun: bool) {
        self.open -= 1;
        if !was_begun {
            self.beginning.remove(tables);
        }
    }

    /// True where nobody waits, and no snapshot is open.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open == 0 && self.waiting.is_empty()
    }

    /// The shapes that wait.
    pub fn iter(&self) -> impl Iterator<Item = &S> {
        self.waiting.iter().flat_map(|group| &group.shapes)
    }
}

impl<T: Clone, S> Batch<T, S> {
    /// The tables that the snapshot is of.
    #[must_use]
    pub const fn tables(&self) -> &T {
        &self.tables
    }

    /// The shapes that are still to be served.
    pub fn iter(&self) -> impl Iterator<Item = &S> {
        self.shapes.iter()
    }

    /// The same, to change what the owner notes of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut S> {
        self.shapes.iter_mut()
    }

    /// The shape whose rows are to be copied next; `None` behind the last one.
    pub fn poll(&mut self) -> Option<S> {
        self.shapes.pop_front()
    }

    /// The snapshot of the shape at hand has this many bytes by now. Returns the shapes that shall not wait for the end
    /// of a large one.
    #[must_use]
    pub fn handle_written(&mut self, bytes: u64) -> VecDeque<S> {
        if bytes > self.large_bytes { self.take() } else { VecDeque::new() }
    }

    /// The shapes that are still to be served, where the snapshot is of no use any more.
    pub fn take(&mut self) -> VecDeque<S> {
        std::mem::take(&mut self.shapes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    type Queue = SnapshotQueue<&'static str, u32>;

    fn queue(waiting: &[(&'static str, u32)]) -> Queue {
        let mut queue = Queue::new(SnapshotLimits {
            snapshots_max: 2,
            batch_max: 3,
            large_bytes: 100,
            visible_wait: Duration::ZERO,
        });
        waiting.iter().for_each(|(tables, shape)| queue.push(tables, *shape));
        queue
    }

    fn polled(queue: &mut Queue) -> Option<(&'static str, Vec<u32>)> {
        queue.poll().map(|mut batch| (batch.tables, batch.take().into()))
    }

    #[test]
    fn shapes_of_the_same_tables_share_a_snapshot() {
        let mut queue = queue(&[("a", 1), ("b", 2), ("a", 3)]);
        assert!(!queue.is_idle());
        assert_eq!(polled(&mut queue), Some(("a", vec![1, 3])));
        assert_eq!(polled(&mut queue), Some(("b", vec![2])));
        assert_eq!(queue.iter().count(), 0);
        queue.handle_end(&"a", false);
        assert!(!queue.is_idle(), "a snapshot is open");
        queue.handle_end(&"b", false);
        assert!(queue.is_idle());
    }

    #[test]
    fn who_comes_while_a_snapshot_is_begun_shares_the_next_one() {
        let mut queue = queue(&[("a", 1)]);
        assert_eq!(polled(&mut queue), Some(("a", vec![1])));
        queue.push("a", 2);
        assert_eq!(polled(&mut queue), None, "the first one is being begun");
        queue.push("a", 3);
        queue.handle_begun(&"a");
        assert_eq!(polled(&mut queue), Some(("a", vec![2, 3])), "beside the first one");
        queue.push("a", 4);
        // The first one must not end what the second one has to say.
        queue.handle_end(&"a", true);
        assert_eq!(polled(&mut queue), None, "the second one is being begun");
        queue.handle_end(&"a", false);
        assert_eq!(polled(&mut queue), Some(("a", vec![4])));
    }

    #[test]
    fn no_more_snapshots_are_open_than_may_be() {
        let mut queue = queue(&[("a", 1), ("b", 2), ("c", 3)]);
        assert!(queue.poll().is_some() && queue.poll().is_some());
        assert_eq!(polled(&mut queue), None);
        queue.handle_end(&"b", false);
        assert_eq!(polled(&mut queue), Some(("c", vec![3])));
    }

    #[test]
    fn a_long_queue_for_one_table_does_not_hold_others_up() {
        let mut queue = queue(&[("a", 1), ("a", 2), ("a", 3), ("a", 4), ("b", 5)]);
        assert_eq!(polled(&mut queue), Some(("a", vec![1, 2, 3])));
        queue.handle_end(&"a", false);
        assert_eq!(polled(&mut queue), Some(("b", vec![5])));
        assert_eq!(polled(&mut queue), Some(("a", vec![4])));
    }

    #[test]
    fn what_is_given_back_comes_first_in_its_order() {
        let mut queue = queue(&[("b", 4), ("a", 3)]);
        queue.give_back("a", [1, 2]);
        queue.give_back("b", []);
        queue.give_back("c", []);
        assert_eq!(polled(&mut queue), Some(("a", vec![1, 2, 3])));
        assert_eq!(polled(&mut queue), Some(("b", vec![4])));
        queue.handle_end(&"a", false);
        assert_eq!(polled(&mut queue), None);
    }

    #[test]
    fn behind_a_large_snapshot_nobody_waits() {
        let mut queue = queue(&[("a", 1), ("a", 2), ("a", 3)]);
        let mut batch = queue.poll().unwrap();
        assert_eq!((batch.poll(), batch.tables()), (Some(1), &"a"));
        assert!(batch.handle_written(100).is_empty());
        assert_eq!(batch.iter().collect::<Vec<_>>(), [&2, &3]);
        assert_eq!(batch.handle_written(101), [2, 3]);
        assert_eq!(batch.poll(), None);
    }
}
