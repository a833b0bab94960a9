//! Every shape's log, and what makes it durable, visible and confirmed.
//!
//! Before it: [`Writer`](super::Writer), which hands on what the router has encoded. Visible: [`Logs::commit`], and
//! [`Logs::set_visible_up_to`] for shapes with subqueries; readers see it by [`ShapeLog::read`]. Durable:
//! [`Logs::handle_synced`], behind [`Effect::CommitLog`]. Confirmed: [`Logs::confirmable`] alone says what Postgres may forget,
//! from [`FlushTracker`] and what single shapes still have to resolve; [`Writer::due_confirmation`](super::Writer::due_confirmation)
//! says when origin's `engine` tells it.

use super::checkpoint::Checkpointing;
use super::compaction::Compactions;
use super::effect::{Effect, SharedShape};
use super::file_work::{Piece, SegmentWork, TailWrite};
use super::limits::Limits;
use super::tails::{TailState, Tails};
use super::tracked::{Snapshot, Tracked};
use super::visibility::Visibility;
use crate::journal::record::{CreatedShape, Record, ShapeBound, ShapeJoined, SnapshotDone};
use crate::journal::tables::TableRef;
use crate::journal::{FlushTracker, Pending, RecentCommits, Tables, Ticket};
use crate::log::segment::SegmentAppend;
use crate::log::{Fragment, ShapeLog};
use crate::pg::snapshot::{SnapshotBounds, SnapshotFilter};
use crate::shape::DropCause;
use crate::shape::dependent::Move;
use crate::{Lsn, Offset, ShapeId};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Every shape's log, with what makes it durable.
///
/// Order of calls: [`handle_begin`](Self::handle_begin), [`append`](Self::append) for each fragment,
/// [`commit`](Self::commit) for each transaction; anything else in between. After each call,
/// [`poll_prompt_effect`](Self::poll_prompt_effect) and `poll_tail` until both give nothing; where no more input is at hand,
/// [`end_turn`](Self::end_turn) before.
#[derive(Debug)]
pub struct Logs<S> {
    pub(super) limits: Limits,
    pub(super) shapes: HashMap<ShapeId, Tracked<S>>,
    pub(super) pending: Pending,
    /// The tables that the commit log has described.
    pub(super) tables: Tables,
    /// The commit log's file, and the bytes behind its checkpoint: a large checkpoint alone calls for no other one.
    pub(super) file_number: u64,
    pub(super) file_bytes: u64,
    pub(super) tails: Tails,
    pub(super) checkpointing: Checkpointing,
    pub(super) compactions: Compactions<S>,
    /// The commit LSN of the last transaction that every shape shows.
    pub(super) processed: Lsn,
    pub(super) effects: VecDeque<Effect<S>>,
    /// Effects that wait until a ticket is durable.
    deferred: VecDeque<(Ticket, Effect<S>)>,
    durable: Ticket,
    flush: FlushTracker,
    recent: RecentCommits,
    /// Shapes that the open transaction has reached.
    touched: Vec<ShapeId>,
    /// Every transaction that commits before is in the logs, or held back for a move.
    position: Lsn,
    /// Shapes whose snapshot the stream has not come up to, by where it ends.
    joining: BTreeSet<(Lsn, ShapeId)>,
    /// Shapes whose log is not visible to its end.
    bounded: BTreeSet<ShapeId>,
    /// Shapes with subqueries whose views are not known yet, each with the LSN beyond which nothing may be confirmed: a
    /// transaction that comes after the shape was registered may start a move.
    viewless: BTreeMap<ShapeId, Lsn>,
    /// The bounds of shapes that were dropped, each with the ticket of that: until it is durable a crash brings the shape
    /// back, which then needs from Postgres what it has to resolve.
    departed: VecDeque<(Ticket, Lsn)>,
    /// Shapes that were dropped while their tail was being written, with the removal of their folder once it is due:
    /// nothing is written to a folder that goes.
    unflushed: BTreeMap<ShapeId, Option<Effect<S>>>,
    /// Scratch space for grouping.
    pairs: Vec<(ShapeId, u32)>,
}

impl<S: SharedShape + Clone> Logs<S> {
    /// Logs without shapes, whose commit log goes on in file `file_number`, where `tables` are described. `processed` is the
    /// commit LSN of the last transaction that a restart found.
    #[must_use]
    pub fn new(limits: Limits, file_number: u64, tables: Tables, processed: Lsn) -> Self {
        Self {
            limits,
            shapes: HashMap::new(),
            pending: Pending::default(),
            tables,
            file_number,
            file_bytes: 0,
            tails: Tails::new(&limits),
            checkpointing: Checkpointing::Idle,
            compactions: Compactions::default(),
            processed,
            effects: VecDeque::new(),
            deferred: VecDeque::new(),
            durable: Ticket::ZERO,
            flush: FlushTracker::default(),
            recent: RecentCommits::default(),
            touched: Vec::new(),
            position: Lsn::ZERO,
            joining: BTreeSet::new(),
            bounded: BTreeSet::new(),
            viewless: BTreeMap::new(),
            departed: VecDeque::new(),
            unflushed: BTreeMap::new(),
            pairs: Vec::new(),
        }
    }

    /// The next effect to carry out but for tails that are to be written; `None` where none is due.
    pub fn poll_prompt_effect(&mut self) -> Option<Effect<S>> {
        self.effects.pop_front()
    }

    /// Makes room for so many further shapes.
    pub(super) fn reserve(&mut self, shapes: usize) {
        self.shapes.reserve(shapes);
    }

    /// Adds a shape that a restart found, whose log is visible up to a commit LSN or to its end. `is_joined`: the commit
    /// log says that the stream had come up to its snapshot.
    pub fn restore(
        &mut self,
        id: ShapeId,
        (shape, tells_each_change): (S, bool),
        filter: impl Into<Arc<SnapshotFilter>>,
        visible_up_to: Option<Lsn>,
        is_joined: bool,
    ) {
        let filter = filter.into();
        if !is_joined {
            self.joining.insert((Lsn::new(filter.ends_at), id));
        }
        let visibility = Visibility::new(visible_up_to);
        if !visibility.is_unbounded() {
            self.bounded.insert(id);
        }
        let mut tracked = Tracked::new(id, shape, Snapshot::Done(filter), visibility);
        (tracked.is_joined, tracked.is_compactable) = (is_joined, !tells_each_change);
        self.shapes.insert(id, tracked);
        self.note_growth(id);
    }

    /// Adds a new shape, from whose registration on its changes are kept.
    pub fn register(&mut self, id: ShapeId, shape: S, has_subqueries: bool) {
        self.record_created(shape.created());
        if has_subqueries {
            self.viewless.insert(id, self.flush.confirmable().max(self.processed));
        }
        let snapshot = Snapshot::Awaited { registered_at: Lsn::new(self.recent.newest()) };
        let mut tracked = Tracked::new(id, shape, snapshot, Visibility::default());
        tracked.is_compactable = !has_subqueries;
        self.shapes.insert(id, tracked);
    }

    /// The shape's log is never compacted.
    pub(super) fn keep_each_change(&mut self, id: ShapeId) {
        if let Some(tracked) = self.shapes.get_mut(&id) {
            tracked.is_compactable = false;
        }
    }

    fn record_created(&mut self, created: CreatedShape) {
        let created = created.map_tables(|relation| {
            let (number, described) = self.tables.refer(&relation);
            if let Some(table) = described {
                self.record(&Record::Table(Box::new(table)));
            }
            Some(TableRef::Number(number))
        });
        if let Some(created) = created {
            self.record(&Record::Created(Box::new(created)));
        }
    }

    /// Drops a shape. Its files go once that is durable: until then a crash brings the shape back.
    pub fn remove(&mut self, id: ShapeId, cause: DropCause) {
        let Some(tracked) = self.shapes.remove(&id) else { return };
        let ticket = self.record(&Record::Removed(id));
        if matches!(tracked.tail, TailState::Writing(_)) && !self.compactions.holds_tail_of(id) {
            self.unflushed.insert(id, None);
        }
        self.tails.forget(id, tracked.tail, tracked.shape.with_log(|log| log.tail_bytes()));
        self.bounded.remove(&id);
        self.viewless.remove(&id);
        self.departed.extend(tracked.visibility.up_to().map(|up_to| (ticket, up_to)));
        let shape = tracked.shape;
        self.deferred.push_back((
            ticket,
            Effect::WorkOnSegment(SegmentWork::RemoveFolder { id, shape: shape.clone() }),
        ));
        self.effects.push_back(Effect::Dropped { shape, cause });
    }

    /// The numbers of all shapes, ascending.
    #[must_use]
    pub fn ids(&self) -> Vec<ShapeId> {
        let mut ids: Vec<ShapeId> = self.shapes.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// How many shapes there are.
    #[must_use]
    pub fn shape_count(&self) -> usize {
        self.shapes.len()
    }

    /// A shape that is not dropped.
    #[must_use]
    pub fn shape(&self, id: ShapeId) -> Option<&S> {
        self.shapes.get(&id).map(|tracked| &tracked.shape)
    }

    /// The stream starts where Postgres was told last.
    pub fn handle_connected(&mut self, confirmed: Lsn) {
        self.flush = FlushTracker::new(confirmed);
        // What was confirmed ends there: the next transaction may commit at that very position.
        self.publish(Lsn::new(confirmed.as_u64().saturating_sub(1)), Vec::new());
    }

    /// The stream comes from another history, whose positions mean something else; there are no shapes of the old one.
    pub fn handle_other_history(&mut self) {
        self.recent = RecentCommits::default();
        self.processed = Lsn::ZERO;
    }

    /// The open transaction will be sent again from its beginning.
    pub fn handle_disconnect(&mut self) {
        for id in self.touched.drain(..) {
            if let Some(tracked) = self.shapes.get_mut(&id) {
                tracked.is_touched = false;
            }
        }
    }

    /// A transaction begins.
    pub fn handle_begin(&mut self, commit: Lsn, xid: u32) {
        self.recent.handle_commit(commit.as_u64(), xid);
        self.flush.handle_begin();
    }

    /// Appends a fragment of the open transaction.
    pub fn append(&mut self, fragment: &Fragment) {
        if fragment.is_empty() {
            return;
        }
        self.pending.push_items(fragment);
        let mut pairs = std::mem::take(&mut self.pairs);
        let mut items = fragment.by_shape(&mut pairs).peekable();
        while let Some(first) = items.next() {
            let Some(tracked) = self.shapes.get_mut(&first.shape) else { continue };
            let is_invisible = tracked.change(&mut self.tails, |log| {
                let mut is_invisible = log.append_item(fragment.tx, first.op, first.bytes, first.shared);
                while let Some(item) = items.next_if(|item| item.shape == first.shape) {
                    is_invisible |= log.append_item(fragment.tx, item.op, item.bytes, item.shared);
                }
                is_invisible
            });
            // What a new connection repeats may be visible already, before a transaction that is cut off.
            if is_invisible && !tracked.is_touched {
                tracked.is_touched = true;
                self.touched.push(first.shape);
            }
        }
        drop(items);
        self.pairs = pairs;
        self.keep_limits();
    }

    /// Ends the open transaction, whose end is confirmable once it is durable: its items become visible, all of them at
    /// once per shape.
    pub fn commit(&mut self, commit: Lsn, end: Lsn) {
        if !self.touched.is_empty() {
            self.pending.push_commit(commit);
        }
        // A transaction that is sent again adds nothing, but what it added before may still be unsynced.
        let ticket = self.pending.last_ticket();
        self.flush.handle_commit(end, (ticket > self.durable).then_some(ticket));
        let mut grown = Vec::new();
        for id in self.touched.drain(..) {
            let Some(tracked) = self.shapes.get_mut(&id) else { continue };
            tracked.is_touched = false;
            if tracked.change(&mut self.tails, ShapeLog::commit) {
                grown.push(tracked.shape.clone());
            }
        }
        self.publish(commit, grown);
        self.keep_limits();
    }

    /// Appends a whole transaction that one shape had held back.
    pub fn backfill(&mut self, fragment: Fragment) {
        let Some(id) = fragment.items().find_map(|item| item.targets.first().copied()) else { return };
        let Some(tracked) = self.shapes.get_mut(&id) else { return };
        append_all(tracked, &mut self.tails, &fragment);
        tracked.change(&mut self.tails, ShapeLog::commit);
        let shape = tracked.shape.clone();
        self.effects.push_back(Effect::Wake { shape });
        self.record(&Record::Backfill(fragment));
        self.keep_limits();
    }

    /// Appends a move: visible once it is durable, together with the views that it leads to.
    pub fn append_move(&mut self, made: Move) {
        let id = made.id;
        let Some(tracked) = self.shapes.get_mut(&id) else { return };
        append_all(tracked, &mut self.tails, &made.items);
        tracked.change(&mut self.tails, ShapeLog::end_move);
        let ticket = self.pending.push(&Record::Move(made));
        tracked.visibility.handle_move(ticket);
        self.bounded.insert(id);
        self.keep_limits();
    }

    /// A shape's log is complete up to this commit LSN only, or to its end. What becomes visible by it does so once
    /// that is durable: another process may read along.
    pub fn set_visible_up_to(&mut self, id: ShapeId, up_to: Option<Lsn>) {
        let Some(tracked) = self.shapes.get_mut(&id) else { return };
        if tracked.visibility.is_unbounded() && up_to.is_none() {
            return;
        }
        let ticket = self.pending.push(&Record::Bound(ShapeBound { id, up_to }));
        tracked.visibility.set(up_to, ticket);
        self.bounded.insert(id);
        self.show(id);
    }

    /// True where a snapshot holds every transaction that was read before the shape was registered, of which the shape
    /// gets none from the stream. Postgres tells the stream of a commit a moment before it shows it to a snapshot, with
    /// synchronous replication a long one.
    #[must_use]
    pub fn is_snapshot_complete(&self, id: ShapeId, bounds: &SnapshotBounds) -> bool {
        match self.shapes.get(&id).map(|tracked| &tracked.snapshot) {
            Some(Snapshot::Awaited { registered_at }) => self.recent.are_in(registered_at.as_u64(), bounds),
            _ => true,
        }
    }

    /// True where a snapshot holds every transaction that the logs show.
    #[must_use]
    pub fn are_logs_in(&self, bounds: &SnapshotBounds) -> bool {
        let end = Offset::new(self.processed.as_u64(), 0);
        self.recent.seen_up_to(end, bounds) == end
    }

    /// A shape's snapshot was taken: once the stream has come to `ends_at`, the shape is as far as all others.
    pub fn handle_snapshot_taken(&mut self, id: ShapeId, ends_at: Lsn) {
        if let Some(tracked) = self.shapes.get_mut(&id) {
            tracked.snapshot = Snapshot::Taken;
            self.joining.insert((ends_at, id));
        }
    }

    /// The views of a shape's subqueries are known: from now on the shape's visible bound says what it has to resolve.
    pub fn handle_views(&mut self, id: ShapeId) {
        self.viewless.remove(&id);
    }

    /// A shape's snapshot is written to its end; where its file is not durable, its record holds it until the next
    /// checkpoint has the file synced.
    pub fn handle_snapshot_done(&mut self, done: SnapshotDone) {
        let Some(tracked) = self.shapes.get_mut(&done.id) else { return };
        tracked.has_grown |= done.content.is_some();
        tracked.snapshot = Snapshot::Done(Arc::new(done.filter.clone()));
        let shape = tracked.shape.clone();
        let ticket = self.record(&Record::SnapshotDone(done));
        self.deferred.push_back((ticket, Effect::SnapshotDurable { shape }));
    }

    /// Every transaction that commits before `position` was read; between transactions only.
    pub fn handle_position(&mut self, position: Lsn) {
        self.position = self.position.max(position);
        self.join();
    }

    /// Lets shapes join whose log shows everything up to the end of their snapshot. One that holds transactions back for
    /// a move waits: its snapshot may hold a transaction that committed behind the first of these, and then its rows are
    /// those of no LSN.
    fn join(&mut self) {
        let reached = self.joining.iter().take_while(|(ends_at, _)| *ends_at <= self.position);
        for (ends_at, id) in reached.copied().collect::<Vec<_>>() {
            let tracked = self.shapes.get_mut(&id);
            let up_to = tracked.as_ref().and_then(|tracked| tracked.visibility.up_to());
            if up_to.is_some_and(|up_to| up_to < ends_at) {
                continue;
            }
            self.joining.remove(&(ends_at, id));
            let Some(tracked) = tracked else { continue };
            tracked.is_joined = true;
            self.effects.push_back(Effect::Joined { shape: tracked.shape.clone() });
            self.record(&Record::Joined(ShapeJoined { id, processed: self.processed.as_u64() }));
        }
    }

    /// Postgres says where its WAL ends, having sent everything before.
    pub fn handle_keepalive(&mut self, wal_end: Lsn) {
        self.flush.handle_keepalive(wal_end);
    }

    /// Everything up to and including `ticket` is durable.
    pub fn handle_synced(&mut self, ticket: Ticket) {
        self.durable = self.durable.max(ticket);
        self.flush.handle_synced(ticket);
        while let Some((_, effect)) = self.deferred.pop_front_if(|(waits_for, _)| *waits_for <= ticket) {
            match &effect {
                Effect::WorkOnSegment(SegmentWork::RemoveFolder { id, .. })
                    if self.unflushed.contains_key(id) =>
                {
                    self.unflushed.insert(*id, Some(effect));
                }
                _ => self.effects.push_back(effect),
            }
        }
        self.handle_compaction_synced();
        while self.departed.pop_front_if(|(waits_for, _)| *waits_for <= ticket).is_some() {}
        for id in self.bounded.clone() {
            self.show(id);
        }
        self.join();
    }

    /// The LSN that may be confirmed to Postgres, the least of: what is durable; what shapes show of which a move is
    /// pending; what shapes had shown that were dropped, until that is durable; and where the stream was when shapes came
    /// whose views are not known yet.
    #[must_use]
    pub fn confirmable(&self) -> Lsn {
        let bounds = self.bounded.iter().filter_map(|id| self.shapes.get(id)?.visibility.up_to());
        let departed = self.departed.iter().map(|(_, up_to)| *up_to);
        let bounds = bounds.chain(self.viewless.values().copied()).chain(departed);
        bounds.fold(self.flush.confirmable(), Lsn::min)
    }

    /// The newest ticket that is durable.
    pub(super) const fn durable(&self) -> Ticket {
        self.durable
    }

    /// Records something that concerns no log, and returns its ticket.
    pub fn record(&mut self, record: &Record) -> Ticket {
        self.pending.push(record)
    }

    /// Wakes the readers of every shape.
    pub fn wake_all(&mut self) {
        for id in self.ids() {
            let wake = self.shape(id).cloned().map(|shape| Effect::Wake { shape });
            self.effects.extend(wake);
        }
    }

    /// Has every tail written that holds something.
    pub fn flush_tails(&mut self) {
        for id in self.tails.take_filled() {
            if let Some(tracked) = self.shapes.get_mut(&id) {
                self.tails.request(id, &mut tracked.tail);
            }
        }
    }

    /// True where all tails together hold so much that they must be written before more comes.
    #[must_use]
    pub const fn are_tails_full(&self) -> bool {
        self.tails.are_full()
    }

    /// Bytes of all tails together.
    #[must_use]
    pub const fn tails_bytes(&self) -> usize {
        self.tails.len_bytes()
    }

    /// The bytes of the shape's last [`Effect::WriteTail`] are in its segment.
    pub fn handle_flushed(&mut self, id: ShapeId) {
        let Some(tracked) = self.shapes.get_mut(&id) else {
            self.effects.extend(self.unflushed.remove(&id).flatten());
            return;
        };
        if let Some(end) = self.tails.end(&mut tracked.tail) {
            tracked.change(&mut self.tails, |log| log.handle_flushed_to(end));
            self.note_growth(id);
        }
        // Items that came while the bytes were written may exceed the limits.
        self.keep_limits();
    }

    /// No more input is at hand: what is pending is handed to the commit log.
    pub fn end_turn(&mut self) {
        if let Some((ticket, bytes)) = self.pending.take() {
            self.file_bytes += bytes.len() as u64;
            self.effects.push_back(Effect::CommitLog(Piece::Append { ticket, bytes }));
        }
    }

    /// The next tail to be written.
    pub(super) fn poll_tail(&mut self) -> Option<Effect<S>> {
        while let Some(id) = self.tails.pop() {
            let Some(tracked) = self.shapes.get_mut(&id) else { continue };
            let Some(append) = tracked.shape.with_log(|log| SegmentAppend::of(log)) else {
                // Its only item may yet turn out to be its transaction's last.
                self.tails.fill(id, &mut tracked.tail);
                continue;
            };
            self.tails.begin(&mut tracked.tail, append.end());
            tracked.has_grown = true;
            return Some(Effect::WriteTail(TailWrite { id, shape: tracked.shape.clone(), append }));
        }
        None
    }

    /// Lets readers see what is complete and durable.
    fn show(&mut self, id: ShapeId) {
        let Some(tracked) = self.shapes.get_mut(&id) else { return };
        tracked.visibility.handle_synced(self.durable);
        if tracked.visibility.is_unbounded() {
            self.bounded.remove(&id);
        }
        let (up_to, processed) = (tracked.visibility.up_to(), self.processed);
        tracked.change(&mut self.tails, |log| log.set_visible_up_to(up_to, processed));
        let shape = tracked.shape.clone();
        self.effects.push_back(Effect::Wake { shape });
    }

    fn publish(&mut self, processed: Lsn, grown: Vec<S>) {
        self.processed = self.processed.max(processed);
        self.effects.push_back(Effect::Publish { processed: self.processed, grown });
    }

    /// Hands on what has become too much.
    pub(super) fn keep_limits(&mut self) {
        if self.tails.are_full() {
            self.flush_tails();
        }
        if self.pending.len_bytes() > self.limits.pending_bytes_max {
            self.end_turn();
        }
    }
}

fn append_all<S: SharedShape>(tracked: &mut Tracked<S>, tails: &mut Tails, fragment: &Fragment) {
    tracked.change(tails, |log| {
        for item in fragment.items() {
            log.append_item(fragment.tx, item.op, item.bytes, item.shared);
        }
    });
}
