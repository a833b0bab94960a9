//! Shapes by an interval of keys: those whose clause demands a range, or texts that begin alike.
//!
//! A treap, ordered by the intervals' beginnings, in which each node knows the furthest end below it: whoever looks for
//! the intervals around a key skips what ends before it. Adding and removing takes logarithmic time.

use super::values::Key;
use crate::ShapeId;
use std::cmp::Ordering;

/// Intervals, each of a shape.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    nodes: Vec<Node>,
    root: Link,
    /// Nodes without an interval.
    free: Vec<u32>,
    /// The number of intervals ever made, of which priorities are computed.
    made: u64,
}

/// A node's place in `nodes`.
type Link = Option<u32>;

#[derive(Debug)]
struct Node {
    low: Key,
    high: End,
    id: ShapeId,
    priority: u32,
    left: Link,
    right: Link,
    /// The node at or below this one whose interval ends furthest.
    furthest: u32,
}

/// The end of an interval; the open end lies behind every other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    At(Key),
    Open,
}

/// The bounds and the shape that identify an interval.
type Name<'a> = (&'a [u8], &'a End, ShapeId);

impl Intervals {
    pub(super) fn insert(&mut self, low: &[u8], high: Option<&[u8]>, id: ShapeId) {
        let high = End::from(high);
        if self.find((low, &high, id)).is_some() {
            return;
        }
        let (before, behind) = self.split(self.root, (low, &high, id));
        self.made += 1;
        let node = Node {
            low: Key::from(low),
            high,
            id,
            priority: mixed(self.made),
            left: None,
            right: None,
            furthest: 0,
        };
        let at = self.place(node);
        self.update(at);
        let joined = self.merge(before, Some(at));
        self.root = self.merge(joined, behind);
    }

    pub(super) fn remove(&mut self, low: &[u8], high: Option<&[u8]>, id: ShapeId) {
        let high = End::from(high);
        let name = (low, &high, id);
        let Some(found) = self.find(name) else { return };
        let mut above = Vec::new();
        let mut at = self.root;
        while let Some(link) = at.filter(|link| *link != found) {
            above.push(link);
            at = self.towards(link, name);
        }
        let (left, right) = self.node(found).map_or((None, None), |node| (node.left, node.right));
        let below = self.merge(left, right);
        match above.last() {
            None => self.root = below,
            Some(parent) => {
                if let Some(parent) = self.node_mut(*parent) {
                    let is_left = parent.left == Some(found);
                    *(if is_left { &mut parent.left } else { &mut parent.right }) = below;
                }
            }
        }
        above.iter().rev().for_each(|link| self.update(*link));
        self.free.push(found);
        if self.root.is_none() {
            *self = Self { made: self.made, ..Self::default() };
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Calls `each` with the shapes whose interval is around a position.
    pub(super) fn around(&self, position: &[u8], each: &mut impl FnMut(ShapeId)) {
        self.around_below(self.root, position, each);
    }

    pub(super) fn all(&self, each: &mut impl FnMut(ShapeId)) {
        let mut open: Vec<u32> = self.root.into_iter().collect();
        while let Some(node) = open.pop().and_then(|link| self.node(link)) {
            each(node.id);
            open.extend(node.left.into_iter().chain(node.right));
        }
    }

    fn around_below(&self, link: Link, position: &[u8], each: &mut impl FnMut(ShapeId)) {
        let Some(node) = link.and_then(|link| self.node(link)) else { return };
        if self.node(node.furthest).is_none_or(|furthest| !furthest.high.is_behind(position)) {
            return;
        }
        self.around_below(node.left, position, each);
        if node.low.as_bytes() <= position {
            if node.high.is_behind(position) {
                each(node.id);
            }
            self.around_below(node.right, position, each);
        }
    }

    fn node(&self, link: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(link).ok()?)
    }

    fn node_mut(&mut self, link: u32) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(link).ok()?)
    }

    fn place(&mut self, node: Node) -> u32 {
        if let Some(free) = self.free.pop()
            && let Some(room) = self.node_mut(free)
        {
            *room = node;
            return free;
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).expect("shapes have 32-bit numbers, and few intervals each")
    }

    fn find(&self, name: Name<'_>) -> Link {
        let mut at = self.root;
        while let Some(link) = at {
            if self.node(link)?.name().cmp(&name).is_eq() {
                return at;
            }
            at = self.towards(link, name);
        }
        None
    }

    /// The next node on the way to an interval.
    fn towards(&self, link: u32, name: Name<'_>) -> Link {
        let node = self.node(link)?;
        if node.name().cmp(&name) == Ordering::Greater { node.left } else { node.right }
    }

    /// Finds the furthest end at and below a node anew.
    fn update(&mut self, link: u32) {
        let Some(node) = self.node(link) else { return };
        let below = [node.left, node.right].into_iter().flatten().filter_map(|below| self.node(below));
        let furthest = below.map(|below| below.furthest).chain([link]);
        let furthest = furthest.max_by_key(|link| self.node(*link).map(|node| &node.high)).unwrap_or(link);
        if let Some(node) = self.node_mut(link) {
            node.furthest = furthest;
        }
    }

    /// Parts a tree into what comes before an interval and what comes behind it.
    fn split(&mut self, link: Link, name: Name<'_>) -> (Link, Link) {
        let Some((at, node)) = link.and_then(|link| Some((link, self.node(link)?))) else {
            return (None, None);
        };
        if node.name().cmp(&name).is_lt() {
            let (before, behind) = self.split(node.right, name);
            self.set(at, |node| node.right = before);
            (link, behind)
        } else {
            let (before, behind) = self.split(node.left, name);
            self.set(at, |node| node.left = behind);
            (before, link)
        }
    }

    /// Joins two trees, of which one comes before the other.
    fn merge(&mut self, before: Link, behind: Link) -> Link {
        let (Some(first), Some(second)) = (before, behind) else { return before.or(behind) };
        let (Some(left), Some(right)) = (self.node(first), self.node(second)) else { return None };
        if left.priority > right.priority {
            let joined = self.merge(left.right, behind);
            self.set(first, |node| node.right = joined);
            before
        } else {
            let joined = self.merge(before, right.left);
            self.set(second, |node| node.left = joined);
            behind
        }
    }

    fn set(&mut self, link: u32, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.node_mut(link) {
            change(node);
        }
        self.update(link);
    }
}

impl Node {
    fn name(&self) -> Name<'_> {
        (self.low.as_bytes(), &self.high, self.id)
    }
}

impl End {
    fn is_behind(&self, position: &[u8]) -> bool {
        match self {
            Self::At(key) => key.as_bytes() > position,
            Self::Open => true,
        }
    }
}

impl From<Option<&[u8]>> for End {
    fn from(high: Option<&[u8]>) -> Self {
        high.map_or(Self::Open, |high| Self::At(Key::from(high)))
    }
}

/// A number that looks random (the last step of SplitMix64).
fn mixed(number: u64) -> u32 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from((number ^ number >> 31) >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn around(intervals: &Intervals, position: &[u8]) -> Vec<ShapeId> {
        let mut found = Vec::new();
        intervals.around(position, &mut |id| found.push(id));
        found.sort_unstable();
        found
    }

    /// A beginning, an end, the shape.
    type Known = (Vec<u8>, Option<Vec<u8>>, ShapeId);

    #[test]
    fn intervals_come_and_go_as_in_a_list() {
        let (mut intervals, mut list) = (Intervals::default(), BTreeSet::<Known>::new());
        let mut state = 7;
        let mut next = |below: u8| {
            state += 1;
            u8::try_from(mixed(state) % u32::from(below)).unwrap_or_default()
        };
        let mut found = 0;
        for round in 0..4_000 {
            let low = if next(5) == 0 { Vec::new() } else { vec![next(40), next(3)] };
            let high = (next(5) > 0).then(|| vec![next(40), next(3)]);
            let id = ShapeId(u32::from(next(50)));
            // Long times of growth and of decline.
            if next(10) < if round / 400 % 2 == 0 { 8 } else { 2 } {
                intervals.insert(&low, high.as_deref(), id);
                list.insert((low, high, id));
            } else if let Some(known) = list.range((low, high, id)..).next().cloned() {
                intervals.remove(&known.0, known.1.as_deref(), known.2);
                list.remove(&known);
            }
            let position = [next(40), 1];
            let is_around = |(low, high, _): &&Known| {
                low.as_slice() <= &position[..]
                    && high.as_ref().is_none_or(|high| high.as_slice() > &position[..])
            };
            let mut expected: Vec<ShapeId> = list.iter().filter(is_around).map(|known| known.2).collect();
            expected.sort_unstable();
            found += expected.len();
            assert_eq!(around(&intervals, &position), expected, "in round {round}");
        }
        assert!(found > 1_000, "{found}");
        for (low, high, id) in list {
            intervals.remove(&low, high.as_deref(), id);
        }
        assert!(intervals.is_empty() && intervals.nodes.is_empty());
    }

    /// In time that does not grow with the square, also where all begin or end alike.
    #[test]
    fn many_intervals_are_made_and_removed_in_time() {
        let mut intervals = Intervals::default();
        let count = 20_000_u32;
        let bound = |n: u32| n.to_be_bytes();
        for n in 0..count {
            intervals.insert(&bound(n), Some(&bound(n + 2)), ShapeId(n));
            intervals.insert(&[], Some(&bound(0)), ShapeId(n));
        }
        for n in 1..count {
            assert_eq!(around(&intervals, &bound(n)), [ShapeId(n - 1), ShapeId(n)]);
        }
        for n in 0..count {
            intervals.remove(&bound(n), Some(&bound(n + 2)), ShapeId(n));
            intervals.remove(&[], Some(&bound(0)), ShapeId(n));
        }
        assert!(intervals.is_empty());
    }
}
