//! Core's writer.

use crate::fault::{Fault, Faults};
use crate::postgres::described;
use limn_core::Lsn;
use limn_core::journal::Record;
use limn_core::journal::record::read_frame;
use limn_core::log::{Rope, ShapeLog};
use limn_core::shape::Described;
use limn_core::store::{
    self, Effect, NamedShape, NewShapes, NewShapesAnswer, Piece, Question, Report, SegmentWork,
};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

/// Core's writer, some of whose inputs and effects a planted bug changes.
#[derive(Debug)]
pub struct Writer<S> {
    writer: store::Writer<S>,
    faults: Faults,
    /// Effects that a bug adds.
    added: VecDeque<Effect<S>>,
}

impl<S> Deref for Writer<S> {
    type Target = store::Writer<S>;

    fn deref(&self) -> &Self::Target {
        &self.writer
    }
}

impl<S> DerefMut for Writer<S> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.writer
    }
}

impl<S: NamedShape + Clone> Writer<S> {
    /// The writer, with a bug or without.
    #[must_use]
    pub const fn new(writer: store::Writer<S>, faults: Faults) -> Self {
        Self { writer, faults, added: VecDeque::new() }
    }

    /// [`store::Writer::handle_connected`]
    pub fn handle_connected(&mut self, confirmed: Lsn, wal_end: Lsn) {
        self.writer.handle_connected(confirmed, wal_end);
        self.added.extend(self.faults.has(Fault::ActiveTooEarly).then_some(Effect::CaughtUp));
    }

    /// Has the model's catalog answer a question.
    ///
    /// # Panics
    /// If it is about a clause that core cannot judge: no shape has one.
    pub fn ask(&mut self, question: &Question) {
        let Question::Relation { oid, .. } = question else { unreachable!("core judges every clause") };
        let forgets = self.faults.has(Fault::ForgetsPartitions);
        self.writer.handle_described(*oid, if forgets { Described::default() } else { described(*oid) });
    }

    /// [`store::Writer::handle_new_shapes`]
    pub fn handle_new_shapes(&mut self, mut new: NewShapes<S>) -> NewShapesAnswer {
        match (self.faults.0, &mut new) {
            (Some(Fault::ForgetsToJoin), NewShapes::Register(shapes)) => {
                shapes.iter().for_each(|shape| shape.with_log(ShapeLog::handle_joined));
            }
            (Some(Fault::ForgetsSmallSnapshots), NewShapes::Written { content, .. }) => *content = None,
            _ => {}
        }
        let mut believed = new.clone();
        let answer = self.writer.handle_new_shapes(new);
        match &mut believed {
            NewShapes::Taken { filter, .. }
                if answer == NewShapesAnswer::Incomplete && self.faults.has(Fault::TakesSnapshotTooEarly) =>
            {
                // As if it held everything that was read.
                filter.bounds.xip.clear();
                self.writer.handle_new_shapes(believed)
            }
            _ => answer,
        }
    }

    /// [`store::Writer::poll_effect`]
    pub fn poll_effect(&mut self) -> Option<Effect<S>> {
        let mut effect = self.added.pop_front().or_else(|| self.writer.poll_effect())?;
        let Some(fault) = self.faults.0 else { return Some(effect) };
        match (fault, &mut effect) {
            (Fault::ConfirmsBeforeSync, Effect::CommitLog(Piece::Append { ticket, .. })) => {
                self.writer.handle_report(Report::Synced(*ticket));
            }
            (fault, Effect::CommitLog(Piece::Append { bytes, .. })) => {
                *bytes = without(bytes, |record| fault.forgets(record));
            }
            (Fault::SegmentsNotSynced, Effect::SyncSegments(sync)) => sync.shapes.clear(),
            (Fault::ReportsTailsFirst, Effect::WriteTail(write)) => {
                self.writer.handle_report(Report::Flushed(write.id));
            }
            (Fault::RemovesSegmentFirst, Effect::WorkOnSegment(SegmentWork::Finish { shape, draft, .. })) => {
                let (shape, generation) = (shape.clone(), draft.plan.start.generation);
                self.added.push_back(Effect::WorkOnSegment(SegmentWork::Remove { shape, generation }));
            }
            (Fault::ProcessedTooEarly, Effect::Began { commit, .. }) => {
                self.added.push_back(Effect::Publish { processed: *commit, grown: Vec::new() });
            }
            (Fault::RemovesFilesFirst, Effect::Dropped { shape, .. }) => {
                let (id, shape) = (shape.identity().id, shape.clone());
                self.added.push_back(Effect::WorkOnSegment(SegmentWork::RemoveFolder { id, shape }));
            }
            _ => {}
        }
        Some(effect)
    }
}

impl Fault {
    /// True for the records that this bug does not write down.
    const fn forgets(self, record: &Record) -> bool {
        matches!(
            (self, record),
            (Self::ForgetsRemovals, Record::Removed(_))
                | (Self::ForgetsBackfills, Record::Backfill(_))
                | (Self::ForgetsMoves, Record::Move(_))
                | (Self::ForgetsBounds, Record::Bound(_))
                | (Self::ForgetsCompactions, Record::Compacted(_))
        )
    }
}

/// The frames of a piece, but for those of some records.
fn without(bytes: &Rope, forgets: impl Fn(&Record) -> bool) -> Rope {
    let (bytes, mut kept) = (bytes.to_vec(), Rope::new());
    let mut rest = &bytes[..];
    while let Some((payload, length)) = read_frame(rest) {
        if !Record::decode(payload).is_ok_and(|record| forgets(&record)) {
            kept.extend_from_slice(&rest[..length]);
        }
        rest = &rest[length..];
    }
    kept
}
