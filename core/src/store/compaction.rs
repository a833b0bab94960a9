//! Compaction: when a shape's segment is written anew, and when the new one takes the place of the old one.
//!
//! A segment is compacted once it has twice the bytes that it had after the last time, so that each byte is written a
//! bounded number of times; only what is older than a tick, so that clients that keep up see every change. The new segment
//! is written while the old one grows ([`SegmentWork::Compact`]); then, while the shape's tail is not written, the rest is
//! copied and made durable ([`SegmentWork::Finish`]). It takes the place of the old one once the commit log has told
//! of it, durably. The old one goes a tick later: who has looked into it reads to the end.

use super::checkpoint::Checkpointing;
use super::effect::{Effect, SharedShape};
use super::file_work::SegmentWork;
use super::logs::Logs;
use super::tails::TailState;
use super::tracked::Tracked;
use crate::ShapeId;
use crate::journal::Ticket;
use crate::journal::record::{Record, ShapeCompacted};
use crate::log::ShapeLog;
use crate::log::compaction::{Compacted, Draft, Plan};
use std::collections::{BTreeMap, VecDeque};

/// Shapes that are known to have something to compact; others are noted when they grow again.
pub const CANDIDATES_MAX: usize = 1_024;
/// Segments below [`SMALL_SEGMENT_BYTES`] that are compacted between two ticks: each costs two syncs.
pub const SMALL_SEGMENTS_MAX: usize = 16;
/// A segment's length below which hardly anything is gained.
pub const SMALL_SEGMENT_BYTES: u64 = 64 << 10;

/// The compactions of all shapes, of which one is under way at a time.
#[derive(Debug)]
pub(super) struct Compactions<S> {
    /// Noted since the last tick.
    noted: BTreeMap<ShapeId, Plan>,
    /// Noted between the last tick and the one before.
    ageing: BTreeMap<ShapeId, Plan>,
    /// Noted before.
    due: BTreeMap<ShapeId, Plan>,
    stage: Stage,
    /// Segments whose successors have taken their places.
    retired: VecDeque<Retired<S>>,
    /// Small segments that may still be compacted before the next tick.
    small_left: usize,
    ticks: u64,
}

/// How far the compaction at hand is.
#[derive(Debug)]
enum Stage {
    Idle,
    Drafting(ShapeId, Plan),
    /// The draft waits for a moment at which the shape's segment holds whole transactions only.
    Drafted(ShapeId, Draft),
    /// With the bytes that are left of what was compacted.
    Finishing(ShapeId, Plan, u64),
    /// The new segment takes its place once this record of it is durable: a crash does not take back what readers saw.
    Recording(ShapeId, u64, Ticket, Compacted),
}

/// A segment that goes once everybody can know of its successor.
#[derive(Debug)]
struct Retired<S> {
    id: ShapeId,
    shape: S,
    generation: u64,
    /// The number of the tick before.
    tick: u64,
}

impl<S> Default for Compactions<S> {
    fn default() -> Self {
        Self {
            noted: BTreeMap::new(),
            ageing: BTreeMap::new(),
            due: BTreeMap::new(),
            stage: Stage::Idle,
            retired: VecDeque::new(),
            small_left: SMALL_SEGMENTS_MAX,
            ticks: 0,
        }
    }
}

impl<S> Compactions<S> {
    pub(super) fn candidates(&self) -> usize {
        self.noted.len() + self.ageing.len() + self.due.len()
    }

    fn note(&mut self, id: ShapeId, plan: Plan) {
        if self.candidates() < CANDIDATES_MAX {
            let noted = self.noted.entry(id).or_insert(plan);
            if noted.start != plan.start {
                // It was noted while its segment was being written anew.
                *noted = plan;
            }
        }
    }

    /// True while this shape's tail stays in memory, although it counts as being written.
    pub(super) fn holds_tail_of(&self, id: ShapeId) -> bool {
        matches!(&self.stage, Stage::Finishing(held, ..) | Stage::Recording(held, ..) if *held == id)
    }
}

impl<S: SharedShape + Clone> Logs<S> {
    /// A shape's segment has grown.
    pub(super) fn note_growth(&mut self, id: ShapeId) {
        let Some(plan) = self.shapes.get(&id).and_then(Tracked::plan_compaction) else { return };
        self.compactions.note(id, plan);
    }

    /// Some seconds are over: what was noted before the last tick is due, and retired segments go.
    pub(super) fn handle_compaction_tick(&mut self) {
        let compactions = &mut self.compactions;
        compactions.ticks += 1;
        compactions.small_left = SMALL_SEGMENTS_MAX;
        // What is due was noted a whole tick before: who is not further behind has seen each change.
        let noted = std::mem::take(&mut compactions.noted);
        let aged = std::mem::replace(&mut compactions.ageing, noted);
        compactions.due.extend(aged);
        let ticks = compactions.ticks;
        while let Some(Retired { shape, generation, .. }) =
            compactions.retired.pop_front_if(|retired| retired.tick + 1 < ticks)
        {
            self.effects.push_back(Effect::WorkOnSegment(SegmentWork::Remove { shape, generation }));
        }
        self.begin_compaction();
    }

    /// True while a shape's tail stays in memory, however long it gets, until a new segment has taken the old one's place.
    #[must_use]
    pub const fn is_tail_held(&self) -> bool {
        matches!(self.compactions.stage, Stage::Finishing(..) | Stage::Recording(..))
    }

    /// Begins the next compaction that is due, where none is under way.
    fn begin_compaction(&mut self) {
        while let Stage::Idle = self.compactions.stage
            && let Some((id, plan)) = self.compactions.due.pop_first()
        {
            let Some(tracked) = self.shapes.get(&id) else { continue };
            let compactions = &mut self.compactions;
            if tracked.shape.with_log(|log| log.start()) != plan.start {
                continue;
            }
            if compactions.retired.iter().any(|retired| retired.id == id) {
                compactions.note(id, plan);
                continue;
            }
            if plan.len_bytes() < SMALL_SEGMENT_BYTES {
                let Some(left) = compactions.small_left.checked_sub(1) else {
                    compactions.note(id, plan);
                    continue;
                };
                compactions.small_left = left;
            }
            compactions.stage = Stage::Drafting(id, plan);
            let shape = tracked.shape.clone();
            let stops = shape.with_log(|log| log.chunk_ends_before(plan.cut));
            self.effects.push_back(Effect::WorkOnSegment(SegmentWork::Compact { id, shape, plan, stops }));
        }
    }

    /// The draft that [`SegmentWork::Compact`] asked for is written; `None` where that failed, and nothing is left of it.
    pub fn handle_drafted(&mut self, id: ShapeId, draft: Option<Draft>) {
        let Stage::Drafting(drafting, plan) = self.compactions.stage else { return };
        if drafting != id {
            return;
        }
        match draft {
            Some(draft) if draft.is_worthwhile() => self.compactions.stage = Stage::Drafted(id, draft),
            unworthy => {
                if let (Some(draft), Some(tracked)) = (unworthy, self.shapes.get(&id)) {
                    let (shape, generation) = (tracked.shape.clone(), draft.start().generation);
                    self.effects.push_back(Effect::WorkOnSegment(SegmentWork::Remove { shape, generation }));
                }
                self.end_compaction(id, plan.len_bytes());
            }
        }
    }

    /// Has the draft finished, where its shape's segment and the commit log allow that now. To be called between
    /// transactions: until the commit log has their ends, a restart would not believe what they brought.
    pub(super) fn continue_compaction(&mut self) {
        let Stage::Drafted(id, draft) = &self.compactions.stage else { return };
        let (id, plan, bytes) = (*id, draft.plan, draft.bytes);
        let Some(tracked) = self.shapes.get_mut(&id) else {
            // Its folder goes, and the draft with it.
            self.compactions.stage = Stage::Idle;
            return self.begin_compaction();
        };
        // A checkpoint believes the segment that was there when it was written, and has just that one synced.
        let is_free = self.checkpointing == Checkpointing::Idle
            && matches!(tracked.tail, TailState::Empty | TailState::Filled);
        let Some(end) = tracked.shape.with_log(|log| log.whole_segment()).filter(|_| is_free) else { return };
        self.tails.hold(id, &mut tracked.tail, end.byte);
        let shape = tracked.shape.clone();
        let stage = std::mem::replace(&mut self.compactions.stage, Stage::Finishing(id, plan, bytes));
        if let Stage::Drafted(_, draft) = stage {
            self.effects.push_back(Effect::WorkOnSegment(SegmentWork::Finish { id, shape, draft, end }));
        }
    }

    /// The new segment that [`SegmentWork::Finish`] asked for is durable; `None` where that failed, and nothing is left
    /// of it.
    pub fn handle_compacted(&mut self, id: ShapeId, compacted: Option<Compacted>) {
        let Stage::Finishing(finishing, plan, left_bytes) = self.compactions.stage else { return };
        if finishing != id {
            return;
        }
        match compacted.filter(|_| self.shapes.contains_key(&id)) {
            Some(segment) => {
                let record = ShapeCompacted { id, segment: segment.clone() };
                let ticket = self.record(&Record::Compacted(record));
                self.compactions.stage = Stage::Recording(id, left_bytes, ticket, segment);
            }
            None => self.release(id, plan.len_bytes(), |_| ()),
        }
    }

    /// The commit log is durable up to here: a segment whose record it has takes its place.
    pub(super) fn handle_compaction_synced(&mut self) {
        let Stage::Recording(id, left_bytes, ticket, segment) = &self.compactions.stage else { return };
        if *ticket > self.durable() {
            return;
        }
        let (id, left_bytes, segment) = (*id, *left_bytes, segment.clone());
        if let Some(tracked) = self.shapes.get(&id) {
            let (shape, tick) = (tracked.shape.clone(), self.compactions.ticks);
            let generation = shape.with_log(|log| log.start().generation);
            self.compactions.retired.push_back(Retired { id, shape, generation, tick });
        }
        self.release(id, left_bytes, |log| log.handle_compacted(&segment));
    }

    /// A shape's tail is written again, and its compaction has come to its end.
    fn release(&mut self, id: ShapeId, compacted_bytes: u64, change: impl FnOnce(&mut ShapeLog)) {
        if let Some(tracked) = self.shapes.get_mut(&id) {
            self.tails.end(&mut tracked.tail);
            tracked.change(&mut self.tails, change);
        }
        self.end_compaction(id, compacted_bytes);
        self.keep_limits();
    }

    /// A compaction has come to its end, and so many bytes are known to be as few as can be.
    fn end_compaction(&mut self, id: ShapeId, compacted_bytes: u64) {
        if let Some(tracked) = self.shapes.get_mut(&id) {
            tracked.compacted_bytes = compacted_bytes;
        }
        self.compactions.stage = Stage::Idle;
        self.note_growth(id);
        self.begin_compaction();
    }
}

impl<S: SharedShape> Tracked<S> {
    /// The compaction of the segment, where there is enough to be gained.
    fn plan_compaction(&self) -> Option<Plan> {
        let plan = self.shape.with_log(|log| log.plan_compaction()).filter(|_| self.is_compactable)?;
        let items = plan.cut.item - plan.start.item;
        (items > 1 && plan.len_bytes() >= 2 * self.compacted_bytes).then_some(plan)
    }
}
