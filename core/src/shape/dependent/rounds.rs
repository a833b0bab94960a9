//! All shapes with subqueries, and the rounds in which their moves are made.
//!
//! One round is under way at a time; every shape whose move is due takes part, so that a change which concerns a
//! thousand shapes costs one snapshot. Order of calls: while [`poll_request`](Rounds::poll_request) gives
//! something, it is carried out in the round's session, and answered by `handle_opened`, `handle_answers`, or
//! `handle_failed`; [`handle_position`](Rounds::handle_position) between transactions. What goes into logs
//! comes out of [`take_log_entries`](Rounds::take_log_entries), in order.
//!
//! Before it: the router, with the changes of tables that subqueries read. Behind it: `moves` says what one shape applies,
//! asks and makes of the answers; origin's `engine::move_session` holds the round's session.

use super::moves::{Advance, Move};
use super::outer::OuterTables;
use super::view::View;
use super::{Dependent, DependentState, Level};
use crate::log::Fragment;
use crate::log::item::ChangePosition;
use crate::pg::{Relation, Row, SnapshotBounds, SnapshotFilter};
use crate::shape;
use crate::shape::index::Candidates;
use crate::shape::rotation::RotationCause;
use crate::{Lsn, ShapeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Bytes of all answers to one request; beyond it the shape that asks for too much starts over.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The machine.
#[derive(Debug, Default)]
pub struct Rounds {
    shapes: HashMap<ShapeId, Dependent>,
    /// The shapes by what a row of their own table must be.
    outer: OuterTables,
    /// Shapes that the open transaction concerns.
    touched: BTreeSet<ShapeId>,
    /// Shapes whose move is due.
    due: BTreeSet<ShapeId>,
    round: Round,
    request: Option<RoundRequest>,
    log_entries: Vec<LogEntry>,
    rotations: Vec<(ShapeId, RotationCause)>,
}

/// A round's request to Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoundRequest {
    /// A repeatable-read snapshot, in a session that stays with the round. These tables are locked before it is taken:
    /// what TRUNCATE leaves looks empty to a snapshot from before it.
    Open(Vec<Arc<Relation>>),
    /// The results of these queries inside the snapshot, as COPY gives them.
    Ask(Vec<String>),
    /// Nothing more: the snapshot can go.
    Close,
}

/// The outcome of a [`RoundRequest`]. [`RoundRequest::Close`] has no outcome: nobody waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoundOutcome {
    /// The snapshot is open, and holds these transactions.
    Opened(SnapshotFilter),
    /// The answers to the questions, in their order.
    Answered(Vec<Vec<u8>>),
    /// The session is closed. Where Postgres refused a question: its number, and why.
    Failed(Option<(usize, RotationCause)>),
}

/// Items that go into logs beside the stream's own fragments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEntry {
    /// A whole transaction that shapes had held back.
    Transaction(Fragment),
    /// A move.
    Move(Move),
    /// A shape's log is visible up to this commit LSN only: beyond it something is held back. `None` where nothing
    /// is.
    Bound(ShapeId, Option<Lsn>),
}

#[derive(Debug, Default)]
enum Round {
    #[default]
    Idle,
    /// For these shapes, whose tables are locked.
    Opening(BTreeSet<ShapeId>),
    /// The stream has to come up to the snapshot.
    Reading(SnapshotFilter, BTreeSet<ShapeId>),
    /// Which members there are: a shape and its subquery's number for each question.
    Members(SnapshotBounds, Vec<(ShapeId, usize)>),
    /// Which rows come: a shape for each question.
    Rows(SnapshotBounds, Vec<ShapeId>),
}

impl Rounds {
    pub(in crate::shape) fn insert(&mut self, id: ShapeId, dependent: Dependent) {
        let outer = self.outer.entry(&dependent.relation);
        outer.insert(id, &dependent.judge.filter, &dependent.views);
        outer.set_holding(id, dependent.is_holding());
        self.shapes.insert(id, dependent);
    }

    pub(in crate::shape) fn remove(&mut self, id: ShapeId) -> Option<Dependent> {
        self.touched.remove(&id);
        self.due.remove(&id);
        let dependent = self.shapes.remove(&id)?;
        self.outer.remove(&dependent.relation, id, &dependent.judge.filter, &dependent.views);
        Some(dependent)
    }

    /// The state of a shape with subqueries that a restart needs.
    #[must_use]
    pub fn state(&self, id: ShapeId) -> Option<DependentState> {
        self.shapes.get(&id).map(Dependent::state)
    }

    /// Takes out the items that came for logs since the last call.
    pub fn take_log_entries(&mut self) -> Vec<LogEntry> {
        std::mem::take(&mut self.log_entries)
    }

    pub(in crate::shape) fn take_rotations(&mut self) -> Vec<(ShapeId, RotationCause)> {
        std::mem::take(&mut self.rotations)
    }

    /// A shape's snapshot is known, with its subqueries' results. `open` is the commit LSN of the transaction that
    /// is being read, whose items go into `fragment`.
    pub(in crate::shape) fn handle_snapshot(
        &mut self,
        id: ShapeId,
        filter: &SnapshotFilter,
        views: Vec<View>,
        open: Option<u64>,
        fragment: &mut Fragment,
    ) {
        if let Some(dependent) = self.shapes.get_mut(&id) {
            dependent.handle_snapshot(filter, views);
            self.outer.entry(&dependent.relation).insert(id, &dependent.judge.filter, &dependent.views);
            self.resume(id, open, fragment);
        }
    }

    pub(in crate::shape) fn handle_change<R: Row>(
        &mut self,
        id: ShapeId,
        level: Level,
        rows: (Option<&R>, Option<&R>),
        at: ChangePosition,
        fragment: &mut Fragment,
    ) -> Result<(), RotationCause> {
        let Some(dependent) = self.shapes.get_mut(&id) else { return Ok(()) };
        self.touched.insert(id);
        dependent.handle_change(level, rows, at, fragment)
    }

    /// Collects the shapes that a change of their own table may concern.
    pub(in crate::shape) fn find_outer(
        &mut self,
        relation: &Arc<Relation>,
        old: Option<&shape::row::Row<'_>>,
        new: Option<&shape::row::Row<'_>>,
        out: &mut Candidates,
    ) {
        match self.outer.get_mut(relation) {
            Some(outer) => outer.find(old, new, out),
            None => out.clear(),
        }
    }

    /// False where the shape has the transaction already.
    pub(in crate::shape) fn lacks(&mut self, id: ShapeId, at: ChangePosition) -> bool {
        self.shapes.get_mut(&id).is_some_and(|dependent| dependent.lacks(at))
    }

    pub(in crate::shape) fn handle_commit(&mut self, commit: u64, xid: u32, ops: u64) {
        for id in std::mem::take(&mut self.touched) {
            let Some(dependent) = self.shapes.get_mut(&id) else { continue };
            if dependent.handle_commit(commit, xid, ops) {
                self.outer.entry(&dependent.relation).set_holding(id, true);
                self.due.insert(id);
                self.log_entries.push(LogEntry::Bound(id, dependent.visible_up_to()));
            }
        }
    }

    /// The transaction that was being read will come again.
    pub(in crate::shape) fn handle_disconnect(&mut self, open: u64) {
        for id in std::mem::take(&mut self.touched) {
            if let Some(dependent) = self.shapes.get_mut(&id) {
                dependent.abandon(open);
            }
        }
    }

    /// The round's next request to Postgres; `None` while it waits for an answer.
    pub fn poll_request(&mut self) -> Option<RoundRequest> {
        if matches!(self.round, Round::Idle) && !self.due.is_empty() && self.request.is_none() {
            self.round = Round::Opening(self.due.clone());
            self.request = Some(self.opening(&self.due));
        }
        self.request.take()
    }

    /// The snapshot is open. `is_complete` says that it holds every transaction that was read so far; where it does
    /// not, another one is asked for.
    pub fn handle_opened(&mut self, filter: SnapshotFilter, is_complete: bool) {
        match std::mem::take(&mut self.round) {
            Round::Opening(shapes) if is_complete => self.round = Round::Reading(filter, shapes),
            Round::Opening(shapes) => {
                self.request = Some(self.opening(&shapes));
                self.round = Round::Opening(shapes);
            }
            other => self.round = other,
        }
    }

    fn opening(&self, shapes: &BTreeSet<ShapeId>) -> RoundRequest {
        let shapes = shapes.iter().filter_map(|id| self.shapes.get(id));
        let tables: BTreeMap<u32, _> =
            shapes.flat_map(Dependent::tables).map(|watch| (watch.relation.oid, watch.relation)).collect();
        RoundRequest::Open(tables.into_values().collect())
    }

    /// Every transaction that commits before `position` was read; call between transactions only.
    pub fn handle_position(&mut self, position: Lsn) {
        let Round::Reading(filter, shapes) = &self.round else { return };
        if position.as_u64() < filter.ends_at {
            return;
        }
        let (bounds, ready) = (filter.bounds.clone(), shapes.intersection(&self.due).copied());
        let ready: Vec<ShapeId> = ready.collect();
        let (mut asked, mut questions) = (Vec::new(), Vec::new());
        for id in ready {
            let Some(dependent) = self.shapes.get_mut(&id) else { continue };
            match dependent.advance(&bounds) {
                Ok(Advance::Again) => {}
                Ok(Advance::Ready(fragments)) => {
                    self.log_entries.extend(fragments.into_iter().map(LogEntry::Transaction));
                    for (dependency, sql) in dependent.questions() {
                        asked.push((id, dependency));
                        questions.push(sql);
                    }
                }
                Err(cause) => self.rotations.push((id, cause)),
            }
        }
        if questions.is_empty() {
            return self.close();
        }
        self.round = Round::Members(bounds, asked);
        self.request = Some(RoundRequest::Ask(questions));
    }

    /// The results of the round's questions, in their order. `open` and `fragment` as in `handle_snapshot`.
    pub(in crate::shape) fn handle_answers(
        &mut self,
        answers: &[Vec<u8>],
        open: Option<u64>,
        fragment: &mut Fragment,
    ) {
        match std::mem::take(&mut self.round) {
            Round::Members(bounds, asked) => self.handle_members(bounds, &asked, answers, open, fragment),
            Round::Rows(bounds, asked) => {
                for (id, answer) in asked.into_iter().zip(answers) {
                    self.finish(id, answer, &bounds, open, fragment);
                }
                self.close();
            }
            other => self.round = other,
        }
    }

    /// The round came to nothing. Where Postgres refused a question, its number and the reason are given: that shape
    /// starts over. The others ask again.
    pub fn handle_failed(&mut self, refused: Option<(usize, RotationCause)>) {
        let asked: Vec<ShapeId> = match std::mem::take(&mut self.round) {
            Round::Members(_, asked) => asked.into_iter().map(|(id, _)| id).collect(),
            Round::Rows(_, asked) => asked,
            Round::Idle | Round::Opening(_) | Round::Reading(..) => Vec::new(),
        };
        self.request = None;
        self.shapes.values_mut().for_each(Dependent::forget_answers);
        if let Some((number, cause)) = refused
            && let Some(id) = asked.get(number)
        {
            self.rotations.push((*id, cause));
        }
    }

    fn handle_members(
        &mut self,
        bounds: SnapshotBounds,
        asked: &[(ShapeId, usize)],
        answers: &[Vec<u8>],
        open: Option<u64>,
        fragment: &mut Fragment,
    ) {
        let answers: Vec<_> = asked.iter().zip(answers).collect();
        let (mut waiting, mut questions) = (Vec::new(), Vec::new());
        for own in answers.chunk_by(|((left, _), _), ((right, _), _)| left == right) {
            let Some(&(&(id, _), _)) = own.first() else { continue };
            let Some(dependent) = self.shapes.get_mut(&id) else { continue };
            let own: Vec<(usize, &[u8])> =
                own.iter().map(|((_, index), answer)| (*index, &answer[..])).collect();
            match dependent.handle_members(&own) {
                Ok(Some(sql)) => {
                    waiting.push(id);
                    questions.push(sql);
                }
                Ok(None) => self.finish(id, &[], &bounds, open, fragment),
                Err(cause) => self.rotations.push((id, cause)),
            }
        }
        if questions.is_empty() {
            return self.close();
        }
        self.round = Round::Rows(bounds, waiting);
        self.request = Some(RoundRequest::Ask(questions));
    }

    /// Completes a shape's move, and lets follow what was held behind it.
    fn finish(
        &mut self,
        id: ShapeId,
        rows: &[u8],
        bounds: &SnapshotBounds,
        open: Option<u64>,
        fragment: &mut Fragment,
    ) {
        let Some(dependent) = self.shapes.get_mut(&id) else { return };
        match dependent.handle_rows(rows, bounds) {
            Ok(made) => {
                if let Some(made) = &made {
                    let outer = self.outer.entry(&dependent.relation);
                    outer.apply(id, &dependent.judge.filter, &made.changes);
                }
                let place = self.log_entries.len();
                self.log_entries.extend(made.map(LogEntry::Move));
                self.resume(id, open, fragment);
                let visible_up_to = self.shapes.get(&id).and_then(Dependent::visible_up_to);
                if let Some(LogEntry::Move(made)) = self.log_entries.get_mut(place) {
                    made.visible_up_to = visible_up_to;
                }
            }
            Err(cause) => self.rotations.push((id, cause)),
        }
    }

    fn resume(&mut self, id: ShapeId, open: Option<u64>, fragment: &mut Fragment) {
        let Some(dependent) = self.shapes.get_mut(&id) else { return };
        match dependent.resume(open, fragment) {
            Ok(fragments) => self.log_entries.extend(fragments.into_iter().map(LogEntry::Transaction)),
            Err(cause) => return self.rotations.push((id, cause)),
        }
        self.outer.entry(&dependent.relation).set_holding(id, dependent.is_holding());
        let visible_up_to = dependent.visible_up_to();
        if visible_up_to.is_none() {
            self.due.remove(&id);
        } else {
            self.due.insert(id);
        }
        self.log_entries.push(LogEntry::Bound(id, visible_up_to));
    }

    fn close(&mut self) {
        self.round = Round::Idle;
        self.request = Some(RoundRequest::Close);
    }
}
