//! Tails: the newest bytes of each log, which are in memory until they are written to the shape's segment.
//!
//! A tail is written where it is long, where all tails together are, at each tick, and for a checkpoint.

use super::limits::Limits;
use crate::ShapeId;
use std::collections::{BTreeSet, VecDeque};

/// Where the newest bytes of a log are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TailState {
    /// In the segment.
    Empty,
    /// In memory.
    Filled,
    /// In memory, and about to be written.
    Queued,
    /// Being written, up to this byte of the change log; what came since is in memory.
    Writing(u64),
}

/// All tails together.
#[derive(Debug)]
pub(super) struct Tails {
    tail_bytes_max: usize,
    tails_bytes_max: usize,
    /// Bytes in memory, those that are being written included.
    bytes: usize,
    /// Shapes whose tail is [`TailState::Filled`]: few, of perhaps a million shapes.
    filled: BTreeSet<ShapeId>,
    /// Shapes whose tail is to be written.
    queue: VecDeque<ShapeId>,
    /// How many are being written.
    writing: usize,
}

impl Tails {
    pub(super) const fn new(limits: &Limits) -> Self {
        let (tail_bytes_max, tails_bytes_max) = (limits.tail_bytes_max, limits.tails_bytes_max);
        Self {
            tail_bytes_max,
            tails_bytes_max,
            bytes: 0,
            filled: BTreeSet::new(),
            queue: VecDeque::new(),
            writing: 0,
        }
    }

    /// A tail's length has changed.
    pub(super) fn handle_change(&mut self, id: ShapeId, tail: &mut TailState, before: usize, after: usize) {
        self.bytes = (self.bytes + after).saturating_sub(before);
        if *tail == TailState::Empty && after > 0 {
            self.fill(id, tail);
        }
        if after > self.tail_bytes_max {
            self.request(id, tail);
        }
    }

    /// A tail holds something that stays in memory for now.
    pub(super) fn fill(&mut self, id: ShapeId, tail: &mut TailState) {
        *tail = TailState::Filled;
        self.filled.insert(id);
    }

    /// Has a tail written where it holds something and is not on its way.
    pub(super) fn request(&mut self, id: ShapeId, tail: &mut TailState) {
        if *tail == TailState::Filled {
            *tail = TailState::Queued;
            self.filled.remove(&id);
            self.queue.push_back(id);
        }
    }

    /// The shapes whose tail holds something and is not on its way, ascending. Each has to be requested.
    pub(super) fn take_filled(&mut self) -> BTreeSet<ShapeId> {
        std::mem::take(&mut self.filled)
    }

    /// True where all tails together hold too much.
    pub(super) const fn are_full(&self) -> bool {
        self.bytes > self.tails_bytes_max
    }

    /// Bytes in memory.
    pub(super) const fn len_bytes(&self) -> usize {
        self.bytes
    }

    /// True while tails are being written, or about to be.
    pub(super) fn are_on_their_way(&self) -> bool {
        self.writing > 0 || !self.queue.is_empty()
    }

    /// The next shape whose tail is to be written.
    pub(super) fn pop(&mut self) -> Option<ShapeId> {
        self.queue.pop_front()
    }

    /// A tail is being written from now on, up to byte `end` of its change log.
    pub(super) const fn begin(&mut self, tail: &mut TailState, end: u64) {
        *tail = TailState::Writing(end);
        self.writing += 1;
    }

    /// A tail is not to be written for now: as if all up to byte `end` of the change log, which is its segment's end, were
    /// being written.
    pub(super) fn hold(&mut self, id: ShapeId, tail: &mut TailState, end: u64) {
        self.filled.remove(&id);
        self.begin(tail, end);
    }

    /// A tail was written; gives the byte of the change log up to which it was.
    pub(super) const fn end(&mut self, tail: &mut TailState) -> Option<u64> {
        let TailState::Writing(end) = *tail else { return None };
        *tail = TailState::Empty;
        self.writing -= 1;
        Some(end)
    }

    /// A shape goes with its tail, of which nothing is reported any more.
    pub(super) fn forget(&mut self, id: ShapeId, mut tail: TailState, bytes: usize) {
        self.filled.remove(&id);
        self.end(&mut tail);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_tail_is_on_its_way_from_the_request_to_the_report() {
        let limits = Limits { tail_bytes_max: 10, tails_bytes_max: 100, ..Limits::default() };
        let (mut tails, mut tail, id) = (Tails::new(&limits), TailState::Empty, ShapeId(1));
        tails.handle_change(id, &mut tail, 0, 10);
        assert_eq!((tail, tails.are_on_their_way()), (TailState::Filled, false));
        tails.handle_change(id, &mut tail, 10, 11);
        assert_eq!((tail, tails.are_on_their_way()), (TailState::Queued, true));
        assert_eq!((tails.pop(), tails.pop()), (Some(id), None));
        tails.begin(&mut tail, 11);
        assert!(tails.are_on_their_way());
        assert_eq!((tails.end(&mut tail), tails.end(&mut tail)), (Some(11), None));
        assert!(!tails.are_on_their_way());
    }

    #[test]
    fn tails_are_full_beyond_their_limit() {
        let limits = Limits { tail_bytes_max: 1_000, tails_bytes_max: 100, ..Limits::default() };
        let (mut tails, mut states) = (Tails::new(&limits), [TailState::Empty; 2]);
        for (id, state) in (1..).zip(&mut states) {
            tails.handle_change(ShapeId(id), state, 0, 50);
        }
        assert_eq!((tails.len_bytes(), tails.are_full()), (100, false));
        tails.handle_change(ShapeId(1), &mut states[0], 50, 51);
        assert!(tails.are_full());
        tails.forget(ShapeId(1), states[0], 51);
        assert_eq!((tails.len_bytes(), tails.are_full()), (50, false));
        assert_eq!(tails.take_filled(), BTreeSet::from([ShapeId(2)]));
    }
}
