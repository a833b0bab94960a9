//! The writer: from the messages of the replication stream to the effects that make shapes durable and visible.
//!
//! Before it: origin's `engine`, which decodes frames of the stream. Behind it: its [`Router`] says which shapes a change
//! belongs to, its [`Logs`] what is written, shown and confirmed; the effects go back to `engine`, whose `executor` carries
//! them out.

use super::effect::{Effect, NamedShape, ShapeIdentity, SharedShape};
use super::file_work::Report;
use super::limits::Limits;
use super::logs::Logs;
use crate::journal::Tables;
use crate::journal::record::{Record, ShapePartitions, ShapeViews, SnapshotDone};
use crate::journal::recovery::MadeShape;
use crate::pg::SnapshotFilter;
use crate::pgoutput::Message;
use crate::shape::dependent::{DependentState, LogEntry, RoundOutcome, View};
use crate::shape::postgres_judged::RowsQuestion;
use crate::shape::{Definition, Described, DropCause, RouteError, Router, Step};
use crate::{Lsn, ShapeId};
use std::fmt::Display;
use std::sync::Arc;

/// Everything that decides what happens to a change: which shapes it belongs to, what is written, shown and confirmed.
///
/// Order of calls: [`handle_connected`](Self::handle_connected), then [`handle_message`](Self::handle_message) for each
/// message of the stream, as often as it asks for; [`handle_keepalive`](Self::handle_keepalive) in between;
/// [`handle_disconnect`](Self::handle_disconnect) where the stream ends. Everything else at any time. After each call
/// [`poll_effect`](Self::poll_effect) until it gives nothing; where no more input is at hand,
/// [`end_turn`](Self::end_turn) before.
#[derive(Debug)]
pub struct Writer<S> {
    limits: Limits,
    router: Router,
    logs: Logs<S>,
    stage: Stage,
    stream: Stream,
    /// How far the stream has come.
    received: Lsn,
    /// What was confirmed to Postgres last; `None` where nothing was since the last tick, or on this connection.
    confirmed: Option<Lsn>,
    /// The newest time that a handle carries, as the last tick told.
    last_handle_us: u64,
}

/// The result of handing a message to the writer.
#[derive(Debug)]
#[must_use]
pub enum Progress {
    /// It was taken.
    Done,
    /// It was taken in part: carry out the effects, have Postgres answer the questions in their order where there are
    /// some, then call with the same message again.
    Again(Vec<Question>),
}

/// A question that Postgres has to answer before a message is taken.
#[derive(Debug)]
pub enum Question {
    /// Asks for the catalog's description of a relation. To be answered by [`Writer::handle_described`].
    Relation {
        /// `pg_class.oid`
        oid: u32,
        /// The 32-bit id of the transaction that left the relation as the answer shall show it, where one is open.
        xid: Option<u32>,
    },
    /// Which of these rows satisfy their shape's clause? To be answered by [`Writer::handle_judged`].
    Rows(RowsQuestion),
}

/// How far the message at hand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not begun.
    New,
    /// The catalog has said what relation it describes.
    Described,
    /// A piece of what waited for the end of its transaction was routed; its rows are judged next.
    Settled,
    /// It was routed; its rows are judged next.
    Routed(Step),
}

/// The stream from Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// There is none.
    Away,
    /// Rows that were served before may be missing until the stream comes to this position.
    CatchingUp(Lsn),
    /// Everything that was served before is there.
    CaughtUp,
}

impl<S: SharedShape + Clone> Writer<S> {
    /// A writer without shapes, whose commit log goes on in file `file_number`, where `tables` are described. `processed`
    /// is the commit LSN of the last transaction that a restart found.
    #[must_use]
    pub fn new(limits: Limits, file_number: u64, tables: Tables, processed: Lsn) -> Self {
        Self {
            limits,
            router: Router::default(),
            logs: Logs::new(limits, file_number, tables, processed),
            stage: Stage::New,
            stream: Stream::Away,
            received: Lsn::ZERO,
            confirmed: None,
            last_handle_us: 0,
        }
    }

    /// Takes the next effect to carry out; `None` where nothing is due.
    pub fn poll_effect(&mut self) -> Option<Effect<S>> {
        self.poll_prompt_effect().or_else(|| self.logs.poll_tail())
    }

    /// The same, but for tails that are to be written: these can wait, until
    /// [too much is in memory](Logs::are_tails_full).
    pub fn poll_prompt_effect(&mut self) -> Option<Effect<S>> {
        if let Some(effect) = self.logs.poll_prompt_effect() {
            return Some(effect);
        }
        if let Stream::CatchingUp(end) = self.stream
            && end <= self.received
        {
            self.stream = Stream::CaughtUp;
            return Some(Effect::CaughtUp);
        }
        None
    }

    /// The logs of all shapes.
    #[must_use]
    pub const fn logs(&self) -> &Logs<S> {
        &self.logs
    }

    /// How far the stream has come: what Postgres is told to have been received.
    #[must_use]
    pub fn received(&self) -> Lsn {
        self.received.max(self.logs.confirmable())
    }

    /// The position to confirm to Postgres now: where it has changed, or none was confirmed since the last tick or on this
    /// connection. Then call [`handle_confirmed`](Self::handle_confirmed).
    #[must_use]
    pub fn due_confirmation(&self) -> Option<Lsn> {
        let confirmable = self.logs.confirmable();
        (self.stream != Stream::Away && self.confirmed != Some(confirmable)).then_some(confirmable)
    }

    /// Postgres was told that it may forget what comes before this position.
    pub const fn handle_confirmed(&mut self, confirmed: Lsn) {
        self.confirmed = Some(confirmed);
    }

    /// Makes room for so many further shapes.
    pub fn reserve(&mut self, shapes: usize) {
        self.logs.reserve(shapes);
        self.router.reserve(shapes);
    }

    /// Adds a shape that a restart found.
    pub fn restore(&mut self, made: MadeShape<S>) {
        let MadeShape { shape, definition, id, handle, filter, is_joined, dependent } = made;
        self.add_restored(id, (shape, &definition), handle, (filter, is_joined), dependent);
    }

    /// Adds a shape that a restart found: its snapshot's filter, whether the stream had come up to that, and what was kept
    /// of its subqueries. `salt` tells the tags of its rows from those of others.
    pub(super) fn add_restored(
        &mut self,
        id: ShapeId,
        (shape, definition): (S, &Definition),
        salt: impl Display,
        (filter, is_joined): (impl Into<Arc<SnapshotFilter>>, bool),
        state: DependentState,
    ) {
        let filter = filter.into();
        let visible_up_to = state.visible_up_to;
        let shape = (shape, definition.tells_each_change());
        self.logs.restore(id, shape, Arc::clone(&filter), visible_up_to, is_joined);
        self.router.add_restored(id, definition, salt, filter, state);
    }

    /// Adds a new shape, from now on its changes are kept.
    pub(super) fn register(&mut self, shape: S)
    where
        S: NamedShape,
    {
        let ShapeIdentity { id, handle, definition } = shape.identity();
        self.router.add_waiting(id, definition, &handle.to_string());
        let has_subqueries = !definition.subqueries().is_empty();
        let tells_each_change = definition.tells_each_change();
        self.logs.register(id, shape, has_subqueries);
        if tells_each_change {
            self.logs.keep_each_change(id);
        }
    }

    /// Drops a shape.
    pub fn remove(&mut self, id: ShapeId, cause: DropCause) {
        self.router.remove(id);
        self.logs.remove(id, cause);
    }

    /// The tables below one that a shape reads are others now.
    pub fn handle_partitions(&mut self, now: ShapePartitions) {
        if self.logs.shape(now.id).is_some() {
            self.logs.record(&Record::Partitions(now));
        }
    }

    /// The stream starts where Postgres was told last; it ends at `wal_end` now, up to where it may repeat what was
    /// served before.
    pub fn handle_connected(&mut self, confirmed: Lsn, wal_end: Lsn) {
        self.handle_disconnect();
        self.logs.handle_connected(confirmed);
        (self.received, self.stream) = (confirmed, Stream::CatchingUp(wal_end));
        self.confirmed = None;
        self.logs.handle_position(confirmed);
    }

    /// Nothing connects the stream with what is stored: every shape starts over.
    pub fn handle_other_history(&mut self, cause: DropCause) {
        for id in self.logs.ids() {
            self.remove(id, cause);
        }
        self.router.handle_other_history();
        self.logs.handle_other_history();
    }

    /// The stream has ended: an open transaction will be sent again from its beginning.
    pub fn handle_disconnect(&mut self) {
        (self.stage, self.stream) = (Stage::New, Stream::Away);
        self.router.handle_disconnect();
        self.logs.handle_disconnect();
    }

    /// Takes a message of the stream, which `wal_start` is the position of.
    ///
    /// # Errors
    /// Where the stream breaks its rules: it must be started again.
    pub fn handle_message(&mut self, message: &Message<'_>, wal_start: Lsn) -> Result<Progress, RouteError> {
        let stage = std::mem::replace(&mut self.stage, Stage::New);
        let step = match (stage, message) {
            (Stage::New, Message::Relation(relation)) => {
                self.stage = Stage::Described;
                let (oid, xid) = (relation.oid, self.router.open_xid());
                return Ok(Progress::Again(vec![Question::Relation { oid, xid }]));
            }
            (Stage::Routed(step), _) => {
                // What the transaction's end means for shapes with subqueries is known only now.
                self.take_log_entries();
                step
            }
            (Stage::New | Stage::Described | Stage::Settled, _) => {
                if stage == Stage::Settled {
                    self.append();
                }
                if self.settle(matches!(message, Message::Commit(_))) {
                    self.stage = Stage::Settled;
                    return Ok(Progress::Again(self.questions()));
                }
                if let Message::Begin(begin) = message {
                    let (commit, xid) = (begin.final_lsn, begin.xid);
                    self.logs.handle_begin(commit, xid);
                    self.logs.effects.push_back(Effect::Began { commit, xid });
                }
                let step = self.router.handle_message(message)?;
                self.take_log_entries();
                let questions = self.questions();
                if !questions.is_empty() {
                    self.stage = Stage::Routed(step);
                    return Ok(Progress::Again(questions));
                }
                step
            }
        };
        self.finish(step);
        self.received = self.received.max(wal_start);
        Ok(Progress::Done)
    }

    /// Takes the catalog's description of a relation, as [`Question::Relation`] asked.
    pub fn handle_described(&mut self, oid: u32, described: Described) {
        self.router.handle_described(oid, described);
    }

    /// Which of the rows of a [`Question::Rows`] satisfy the shape's clause, in their order; or why Postgres
    /// cannot tell, with which the shape is dropped.
    pub fn handle_judged(&mut self, id: ShapeId, answers: Result<&[bool], String>) {
        match answers {
            Ok(answers) => self.router.handle_judged(id, answers),
            Err(reason) => self.router.handle_refused(id, reason),
        }
    }

    /// Postgres says where its WAL ends, having sent everything before.
    pub fn handle_keepalive(&mut self, wal_end: Lsn) {
        self.logs.handle_keepalive(wal_end);
        self.handle_position(wal_end);
    }

    /// A shape's snapshot was taken, in which its subqueries return `views`. False where the snapshot lacks a
    /// transaction that the shape will not get otherwise: another one must be taken.
    pub(super) fn handle_snapshot_taken(
        &mut self,
        id: ShapeId,
        filter: &SnapshotFilter,
        views: Vec<View>,
    ) -> bool {
        if !self.logs.is_snapshot_complete(id, &filter.bounds) {
            return false;
        }
        self.logs.handle_snapshot_taken(id, Lsn::new(filter.ends_at));
        if views.is_empty() {
            for transaction in self.router.handle_snapshot(id, filter) {
                self.logs.backfill(transaction);
            }
        } else {
            self.logs.record(&Record::Views(ShapeViews { id, views: views.clone() }));
            self.router.handle_dependent_snapshot(id, filter, views);
            self.take_log_entries();
            self.logs.handle_views(id);
        }
        // Behind what the views hold back: a shape joins by what it shows.
        if !self.router.in_transaction() {
            self.logs.handle_position(self.received);
        }
        true
    }

    /// A shape's snapshot, which holds these transactions, is written to its end. `content` are its bytes where the
    /// commit log makes them durable; `None` where its file was synced.
    pub(super) fn handle_snapshot_written(
        &mut self,
        id: ShapeId,
        filter: SnapshotFilter,
        content: Option<Vec<u8>>,
    ) {
        if let Some(shape) = self.logs.shape(id) {
            let progress = shape.with_log(|log| log.snapshot());
            self.logs.handle_snapshot_done(SnapshotDone { id, filter, progress, content });
        }
    }

    /// Takes what came of a round's request. A snapshot must hold every transaction that was read, since what a move does
    /// not bring has to be in the logs already.
    pub fn handle_round(&mut self, outcome: RoundOutcome) {
        match outcome {
            RoundOutcome::Opened(filter) => {
                let is_complete = self.logs.are_logs_in(&filter.bounds);
                self.router.rounds().handle_opened(filter, is_complete);
                self.advance_round();
            }
            RoundOutcome::Answered(answers) => self.router.handle_answers(&answers),
            RoundOutcome::Failed(refused) => self.router.rounds().handle_failed(refused),
        }
        self.take_log_entries();
    }

    /// Takes what came of an effect.
    pub fn handle_report(&mut self, report: Report) {
        match report {
            // A tail or a segment that a checkpoint waits for is none the further by it.
            Report::Synced(ticket) => return self.logs.handle_synced(ticket),
            Report::Flushed(id) => self.logs.handle_flushed(id),
            Report::SegmentsSynced(file) => self.logs.handle_segments_synced(file),
            Report::Drafted(id, draft) => self.logs.handle_drafted(id, draft),
            Report::Compacted(id, compacted) => self.logs.handle_compacted(id, compacted),
        }
        self.continue_work();
    }

    /// Wakes the readers of every shape.
    pub fn wake_all(&mut self) {
        self.logs.wake_all();
    }

    /// Some seconds are over: tails are written, a checkpoint is begun where it is time for one, and Postgres hears from us.
    pub fn handle_tick(&mut self, last_handle_us: u64) {
        (self.last_handle_us, self.confirmed) = (last_handle_us, None);
        self.logs.flush_tails();
        self.logs.handle_compaction_tick();
        if self.is_consistent() {
            self.logs.begin_checkpoint();
        }
        self.continue_work();
    }

    /// No more input is at hand: what is pending is handed to the commit log, and a round goes on.
    pub fn end_turn(&mut self) {
        while let Some(request) = self.router.rounds().poll_request() {
            self.logs.effects.push_back(Effect::Round(request));
        }
        if self.is_consistent() {
            self.logs.continue_compaction();
        }
        self.logs.end_turn();
    }

    /// Routes a piece of what waited for the end of its transaction; `is_over`: its commit comes next. False where
    /// nothing waits.
    fn settle(&mut self, is_over: bool) -> bool {
        let limits = self.limits;
        let is_piece = self.router.settle(is_over, |fragment| limits.is_full(fragment));
        if is_piece {
            self.take_log_entries();
        }
        is_piece
    }

    /// The rows that core cannot judge, once they are due.
    fn questions(&self) -> Vec<Question> {
        match self.router.has_questions() {
            true => self.router.questions().into_iter().map(Question::Rows).collect(),
            false => Vec::new(),
        }
    }

    /// Hands on what a message led to.
    fn finish(&mut self, step: Step) {
        if matches!(step, Step::Committed { .. }) || self.limits.is_full(self.router.fragment()) {
            self.append();
        }
        self.remove_rotated();
        if let Step::Committed { commit, end, .. } = step {
            self.logs.commit(commit, end);
            self.handle_position(end);
        }
    }

    fn append(&mut self) {
        self.logs.append(self.router.fragment());
        self.router.clear_fragment();
        self.remove_rotated();
    }

    /// The stream has come this far.
    fn handle_position(&mut self, position: Lsn) {
        self.received = self.received.max(position);
        self.logs.handle_position(self.received);
        self.advance_round();
    }

    fn advance_round(&mut self) {
        if !self.router.in_transaction() {
            self.router.rounds().handle_position(self.received);
        }
        self.take_log_entries();
    }

    /// Appends what comes beside the stream's fragments, before the fragment is, whose items come behind.
    fn take_log_entries(&mut self) {
        for entry in self.router.take_log_entries() {
            match entry {
                LogEntry::Transaction(fragment) => self.logs.backfill(fragment),
                LogEntry::Move(made) => {
                    let changes_views = made.changes.iter().any(|change| !change.is_empty());
                    self.logs.append_move(made);
                    self.logs.effects.extend(changes_views.then_some(Effect::Moved));
                }
                LogEntry::Bound(id, up_to) => self.logs.set_visible_up_to(id, up_to),
            }
        }
        self.remove_rotated();
    }

    fn remove_rotated(&mut self) {
        for (id, cause) in self.router.take_rotations() {
            if let Some(shape) = self.logs.shape(id).cloned() {
                self.logs.effects.push_back(Effect::Rotated { shape, cause: cause.clone() });
            }
            self.logs.remove(id, DropCause::from(&cause));
        }
    }

    /// True where the logs end with a whole transaction: while the stream is not caught up, one that was cut off may
    /// lie half in them.
    fn is_consistent(&self) -> bool {
        self.stream == Stream::CaughtUp && !self.router.in_transaction() && self.stage == Stage::New
    }

    /// Goes on with a checkpoint and a compaction, where these have to wait for whole transactions.
    fn continue_work(&mut self) {
        if self.is_consistent() {
            let rounds = self.router.rounds();
            self.logs.continue_checkpoint(self.last_handle_us, |id| rounds.state(id));
            self.logs.continue_compaction();
        }
    }
}
