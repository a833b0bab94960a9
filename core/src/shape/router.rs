//! From the replication stream to shapes: which change belongs to which shape, and as what.
//!
//! One router knows all shapes. It is fed decoded messages in stream order and collects encoded items in
//! a [`Fragment`]; the caller takes the fragment whenever it is large enough, and at the commit.
//! Per change, each kind of place in the index is looked up once and each (format, outcome) is encoded once.
//!
//! Before it: [`store::Writer`](crate::store::Writer). Behind it: `table` finds the shapes that a change may concern, `routing`
//! judges the rows for each, `encode` makes the bytes; the fragment goes to [`store::Logs::append`](crate::store::Logs::append).

mod joins;
mod settle;
mod shape_tables;

use super::definition::Definition;
use super::dependent::{Dependent, DependentState, Level, LogEntry, Rounds, View, Watch};
use super::encode::Encoder;
use super::held_row::HeldRow;
use super::index::Candidates;
use super::postgres_judged::{ASKED_BYTES_MAX, Asked, RowsQuestion};
use super::rotation::RotationCause;
use super::routing::{self, Sinks, recycle};
use super::row::Row;
use super::table::{Joining, Seen, Table, Watcher};
use crate::filter::Clause;
use crate::log::Fragment;
use crate::log::item::ChangePosition;
use crate::pg::{Relation, SnapshotFilter};
use crate::pgoutput::{Message, OldTuple, Tuple};
use crate::{Lsn, ShapeId};
use joins::Joins;
use settle::Settling;
use shape_tables::ShapeTables;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Display;
use std::sync::Arc;

/// Finds the shapes of every change.
#[derive(Debug, Default)]
pub struct Router {
    /// By relation oid; more than one entry where the table's description changed between shapes.
    tables: HashMap<u32, Vec<Table>>,
    shapes: ShapeTables,
    /// Shapes with subqueries.
    rounds: Rounds,
    /// Changes that only Postgres can judge.
    asked: Asked,
    seen: HashMap<u32, Seen>,
    /// The tables above a partition or a child by INHERITS, as the catalog says.
    ancestors: HashMap<u32, Vec<u32>>,
    /// Those that are partitions: they have the very columns of the tables above.
    partitions: HashSet<u32>,
    open: Option<OpenTransaction>,
    /// A transaction that was read to its end, of which Postgres still has to judge rows.
    unjudged: Option<OpenTransaction>,
    /// The newest transaction that was routed to its end. A new connection repeats it, and some before.
    committed: u64,
    fragment: Fragment,
    rotations: Vec<(ShapeId, RotationCause)>,
    joins: Joins,
    settling: Settling,
    encoder: Encoder,
    candidates: Candidates,
    /// Spare room for the rows of a change: nothing is allocated per row.
    cells: [Vec<Option<&'static [u8]>>; 2],
}

/// A relation of the stream, as the catalog describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The tables above it, nearest first.
    pub ancestors: Vec<u32>,
    /// Whether it is a partition of them, or a child by INHERITS.
    pub is_partition: bool,
    /// [`Relation::key_always_unique`]
    pub key_always_unique: bool,
}

/// Of a relation that is gone: nothing more comes of it.
impl Default for Described {
    fn default() -> Self {
        Self { ancestors: Vec::new(), is_partition: false, key_always_unique: true }
    }
}

/// The part of a transaction that a message was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A transaction started.
    Began,
    /// Something inside it, or nothing of interest.
    Continued,
    /// It ended: everything routed since it began is one unit.
    Committed {
        /// The commit LSN: the `tx` of its offsets.
        commit: Lsn,
        /// The position to confirm once it is durable.
        end: Lsn,
        /// Its 32-bit id.
        xid: u32,
    },
}

/// The stream broke its own rules; the connection must be started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A change came before a begin.
    #[error("a change came outside a transaction")]
    OutsideTransaction,
    /// A tuple came before the description of its relation.
    #[error("a change of relation {oid} came before its description")]
    UnknownRelation {
        /// `pg_class.oid`
        oid: u32,
    },
}

#[derive(Debug, Clone, Copy)]
struct OpenTransaction {
    commit: u64,
    xid: u32,
    next_op: u64,
    /// True where every shape that may have it has it already. Its relation messages still count: on this
    /// connection they are not sent again.
    repeated: bool,
}

impl Router {
    /// Adds a shape whose snapshot is about to be taken: its changes wait until
    /// [`handle_snapshot`](Self::handle_snapshot).
    /// `salt` tells the tags of its rows from those of other shapes.
    pub fn add_waiting(&mut self, id: ShapeId, definition: &Definition, salt: &str) {
        match &definition.filter {
            Some(Clause::Subqueries(filter)) => {
                self.add_dependent(id, definition, Dependent::new(id, definition, filter, salt));
            }
            _ => self.add(id, definition, Joining::Waiting(Box::default())),
        }
    }

    /// Makes room for so many further shapes.
    pub(crate) fn reserve(&mut self, shapes: usize) {
        self.shapes.reserve(shapes);
    }

    /// Adds a shape with a durable snapshot, as after a restart. `state` is what was kept of its subqueries.
    pub fn add_restored(
        &mut self,
        id: ShapeId,
        definition: &Definition,
        salt: impl Display,
        filter: impl Into<Arc<SnapshotFilter>>,
        state: DependentState,
    ) {
        let filter = filter.into();
        match &definition.filter {
            Some(Clause::Subqueries(subqueries)) => {
                let dependent = Dependent::new(id, definition, subqueries, &salt.to_string());
                let filter = Arc::unwrap_or_clone(filter);
                self.add_dependent(id, definition, dependent.restore(filter, state));
            }
            _ => self.add(id, definition, Joining::Filtering(filter)),
        }
    }

    /// Removes a shape. What was routed to it in the open transaction stays in the fragment.
    pub fn remove(&mut self, id: ShapeId) {
        self.rounds.remove(id);
        self.asked.take(id);
        self.forget_join(id);
        for oid in self.shapes.remove(id) {
            let Some(tables) = self.tables.get_mut(&oid) else { continue };
            tables.iter_mut().for_each(|table| table.remove(id));
            tables.retain(|table| !table.is_unused());
            if tables.is_empty() {
                self.tables.remove(&oid);
            }
        }
        self.end_judged();
    }

    /// The snapshot of a waiting shape is known: returns the complete transactions that it lacks, in
    /// commit order. Those of the open transaction go on with the open fragment.
    /// For a shape with subqueries, [`handle_dependent_snapshot`](Self::handle_dependent_snapshot) comes instead.
    pub fn handle_snapshot(&mut self, id: ShapeId, filter: &SnapshotFilter) -> Vec<Fragment> {
        let Some(route) = self.route_mut(id) else { return Vec::new() };
        let Joining::Waiting(waiting) =
            std::mem::replace(&mut route.joining, Joining::Filtering(Arc::new(filter.clone())))
        else {
            return Vec::new();
        };
        self.begin_join(filter.ends_at, id);
        let open = self.open_commit();
        let mut complete = Vec::new();
        for transaction in waiting.release(filter) {
            if Some(transaction.tx) == open {
                transaction.items().for_each(|item| self.fragment.push_item(&item, &[id]));
            } else {
                let mut own = Fragment::new(transaction.tx);
                transaction.items().for_each(|item| own.push_item(&item, &[id]));
                complete.push(own);
            }
        }
        complete
    }

    /// The snapshot of a waiting shape with subqueries is known, and `views`, what the subqueries return in it.
    /// Transactions that it lacks come by [`take_log_entries`](Self::take_log_entries).
    pub fn handle_dependent_snapshot(&mut self, id: ShapeId, filter: &SnapshotFilter, views: Vec<View>) {
        let open = self.open_commit();
        self.rounds.handle_snapshot(id, filter, views, open, &mut self.fragment);
    }

    /// Shapes with subqueries: what they need of Postgres.
    pub const fn rounds(&mut self) -> &mut Rounds {
        &mut self.rounds
    }

    /// Takes the answers to a round's questions, in their order.
    pub fn handle_answers(&mut self, answers: &[Vec<u8>]) {
        let open = self.open_commit();
        self.rounds.handle_answers(answers, open, &mut self.fragment);
    }

    /// True where Postgres has to judge changes before the stream goes on: many wait, or their transaction is
    /// complete, and [`fragment`](Self::fragment) lacks what they mean.
    #[must_use]
    pub fn has_questions(&self) -> bool {
        !self.asked.is_empty() && (self.open.is_none() || self.asked.len_bytes() > ASKED_BYTES_MAX)
    }

    /// Questions about rows that Postgres is to judge. Each is answered by [`handle_judged`](Self::handle_judged).
    #[must_use]
    pub fn questions(&self) -> Vec<RowsQuestion> {
        let question = |id: ShapeId| {
            let tables = self.tables.get(&self.shapes.own(id)?).into_iter().flatten();
            let (filter, sql) = tables.filter_map(|table| table.postgres_filter(id)).next()?;
            Some(self.asked.question(id, filter, sql))
        };
        self.asked.ids().into_iter().filter_map(question).collect()
    }

    /// Postgres has judged the rows of a question, in their order.
    pub fn handle_judged(&mut self, id: ShapeId, answers: &[bool]) {
        let mut answers = answers.iter().copied();
        for change in self.asked.take(id) {
            let belongs = [&change.old, &change.new].map(|row| row.is_some() && answers.next() == Some(true));
            let tables = self.shapes.own(id).and_then(|own| self.tables.get_mut(&own));
            let table = tables.into_iter().flatten().find(|table| table.routes.contains_key(&id));
            let Some(table) = table else { continue };
            let (old, new) = (change.old.as_ref().map(HeldRow::row), change.new.as_ref().map(HeldRow::row));
            let rows = (old.as_ref(), new.as_ref());
            let placed = routing::place(table, id, rows, belongs, change.at, &mut self.encoder);
            self.encoder.drain_into(&mut self.fragment);
            if let Err(cause) = placed {
                self.rotate(id, cause);
            }
        }
        self.end_judged();
    }

    /// Postgres cannot judge a shape's rows: it has to go.
    pub fn handle_refused(&mut self, id: ShapeId, reason: String) {
        self.rotate(id, RotationCause::Refused(reason));
    }

    /// Items that go into logs beside the fragment, in order; to be taken before the fragment is.
    pub fn take_log_entries(&mut self) -> Vec<LogEntry> {
        self.rounds.take_log_entries()
    }

    /// Takes the next message of the stream.
    ///
    /// # Errors
    /// Where the stream breaks its rules.
    pub fn handle_message(&mut self, message: &Message<'_>) -> Result<Step, RouteError> {
        match message {
            Message::Begin(begin) => {
                let commit = begin.final_lsn.as_u64();
                let repeated = commit <= self.committed;
                self.open = Some(OpenTransaction { commit, xid: begin.xid, next_op: 0, repeated });
                self.fragment.reset(commit);
                return Ok(Step::Began);
            }
            Message::Commit(commit) => {
                self.settle_all();
                let open = self.open.take().ok_or(RouteError::OutsideTransaction)?;
                self.unjudged = Some(open);
                self.end_judged();
                return Ok(Step::Committed { commit: commit.lsn, end: commit.end_lsn, xid: open.xid });
            }
            Message::Relation(relation) => self.handle_relation(relation.oid, Seen::from(relation)),
            _ if self.open.is_some_and(|open| open.repeated) => {}
            Message::Insert { relation, new } => self.handle_change(*relation, None, Some(*new))?,
            Message::Update { relation, old, new } => match old {
                Some(OldTuple::Full(old)) => self.handle_change(*relation, Some(*old), Some(*new))?,
                Some(OldTuple::Key(_)) | None => {
                    self.rotate_tables(*relation, &RotationCause::IdentityLost)?;
                }
            },
            Message::Delete { relation, old } => match old {
                OldTuple::Full(old) => self.handle_change(*relation, Some(*old), None)?,
                OldTuple::Key(_) => self.rotate_tables(*relation, &RotationCause::IdentityLost)?,
            },
            Message::Truncate { relations } => {
                for relation in relations {
                    self.rotate_tables(*relation, &RotationCause::Truncated)?;
                }
            }
            Message::Origin | Message::Type | Message::Logical => {}
        }
        Ok(Step::Continued)
    }

    /// Takes the catalog's description of a relation, which the stream lacks: to be asked for every relation message, before it
    /// is handled.
    pub fn handle_described(&mut self, oid: u32, described: Described) {
        let Described { ancestors, is_partition, key_always_unique } = described;
        let followers =
            std::iter::once((oid, true)).chain(ancestors.iter().map(|above| (*above, is_partition)));
        let mut changed = Vec::new();
        for (follower, is_whole) in followers {
            for table in self.tables.get_mut(&follower).into_iter().flatten() {
                // Their keys would not say which rows are the child's.
                if !is_whole && !table.relation.has_children {
                    changed.extend(table.own_shapes());
                }
                // From here on: until now its keys were unique, and so they are at this point of a transaction.
                table.has_double_keys |= !(key_always_unique && is_whole);
            }
        }
        changed.into_iter().for_each(|id| self.rotate(id, RotationCause::SchemaChanged));
        if is_partition {
            self.partitions.insert(oid);
        } else {
            self.partitions.remove(&oid);
        }
        if ancestors.is_empty() {
            self.ancestors.remove(&oid);
        } else {
            self.ancestors.insert(oid, ancestors);
        }
    }

    /// The items routed since the transaction began or the fragment was last emptied.
    #[must_use]
    pub const fn fragment(&self) -> &Fragment {
        &self.fragment
    }

    /// Ends a transaction that was read to its end, once nothing of it is to be judged. Before that, a new connection
    /// has to bring it again: its changes are in no fragment.
    fn end_judged(&mut self) {
        if let Some(ended) = self.unjudged.take_if(|_| self.asked.is_empty()) {
            self.rounds.handle_commit(ended.commit, ended.xid, ended.next_op);
            self.committed = self.committed.max(ended.commit);
            self.end_joins(self.committed);
        }
    }

    /// The fragment was taken care of.
    pub fn clear_fragment(&mut self) {
        let tx = self.fragment.tx;
        self.fragment.reset(tx);
    }

    /// The shapes that have to go since this was last asked. They are removed from the router already.
    pub fn take_rotations(&mut self) -> Vec<(ShapeId, RotationCause)> {
        self.rounds.take_rotations().into_iter().for_each(|(id, cause)| self.rotate(id, cause));
        std::mem::take(&mut self.rotations)
    }

    /// The stream starts anew: an open transaction will be sent again from its beginning, and every
    /// relation will be described again.
    pub fn handle_disconnect(&mut self) {
        let (open, unjudged) = (self.open.take(), self.unjudged.take());
        if let Some(open) = open.or(unjudged).filter(|open| !open.repeated) {
            self.rounds.handle_disconnect(open.commit);
            let routes = self.tables.values_mut().flatten().flat_map(|table| table.routes.values_mut());
            for route in routes {
                if let Joining::Waiting(waiting) = &mut route.joining {
                    waiting.abandon(open.commit);
                }
            }
        }
        self.asked.clear();
        self.forget_counted();
        self.fragment.reset(0);
        self.seen.clear();
    }

    /// The stream comes from another history, whose positions mean something else; there are no shapes of the old one.
    pub fn handle_other_history(&mut self) {
        self.handle_disconnect();
        self.committed = 0;
    }

    /// The 32-bit id of the transaction that is being read.
    #[must_use]
    pub fn open_xid(&self) -> Option<u32> {
        self.open.map(|open| open.xid)
    }

    /// True between a begin and its commit.
    #[must_use]
    pub const fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// The commit LSN of the transaction that is being read, unless it is a repeated one, which is complete already.
    fn open_commit(&self) -> Option<u64> {
        self.open.filter(|open| !open.repeated).map(|open| open.commit)
    }

    fn add(&mut self, id: ShapeId, definition: &Definition, joining: Joining) {
        let oid = definition.relation.oid;
        let ends_at = joining.ends_at();
        self.table(&definition.relation).add(id, definition, joining);
        self.shapes.insert(id, oid, Box::default());
        if let Some(ends_at) = ends_at {
            self.begin_join(ends_at, id);
        }
    }

    fn add_dependent(&mut self, id: ShapeId, definition: &Definition, mut dependent: Dependent) {
        // So that its table is found by the pointer.
        dependent.share_relation(&self.table(&definition.relation).relation);
        let watched = dependent.tables();
        let oids = watched.iter().map(|watch| watch.relation.oid).collect();
        self.shapes.insert(id, definition.relation.oid, oids);
        for watch in watched {
            let all_columns = watch.level == Level::Outer && definition.projection.all;
            let Watch { level, relation, columns, filter } = watch;
            let watcher = Watcher { id, level, columns, all_columns, filter };
            self.table(&relation).watch(watcher);
        }
        self.rounds.insert(id, dependent);
    }

    /// The table as this description shows it.
    fn table(&mut self, relation: &Arc<Relation>) -> &mut Table {
        let oid = relation.oid;
        let tables = self.tables.entry(oid).or_default();
        let known = tables.iter().position(|table| table.relation == *relation);
        let index = known.unwrap_or_else(|| {
            let mut table = Table::new(Arc::clone(relation));
            for (other, seen) in &self.seen {
                let is_partition = self.ancestors.get(other).is_some_and(|above| above.contains(&oid));
                if *other == oid || is_partition {
                    table.learn_positions(*other, seen);
                }
            }
            tables.push(table);
            tables.len() - 1
        });
        tables.get_mut(index).expect("the index was just found")
    }

    fn handle_relation(&mut self, oid: u32, seen: Seen) {
        let mut changed = Vec::new();
        for table in self.tables.get_mut(&oid).into_iter().flatten() {
            changed.append(&mut table.handle_relation(&seen));
        }
        for above in self.ancestors.get(&oid).into_iter().flatten() {
            let tables = self.tables.get_mut(above).into_iter().flatten();
            for table in tables {
                changed.append(&mut table.handle_child(oid, &seen, self.partitions.contains(&oid)));
            }
        }
        self.seen.insert(oid, seen);
        changed.into_iter().for_each(|id| self.rotate(id, RotationCause::SchemaChanged));
    }

    /// A change that no row can be followed by: rotates the shapes of its relation, and of the tables that it is a
    /// partition of, but for those whose snapshot holds it.
    fn rotate_tables(&mut self, oid: u32, cause: &RotationCause) -> Result<(), RouteError> {
        let at = self.next_position()?;
        let followers: Vec<u32> = self.followers(oid).collect();
        let mut lost = BTreeSet::new();
        for table in followers.iter().filter_map(|follower| self.tables.get(follower)).flatten() {
            lost.extend(table.lacking(at, &mut self.rounds, |_| true));
        }
        lost.into_iter().for_each(|id| self.rotate(id, cause.clone()));
        Ok(())
    }

    fn rotate(&mut self, id: ShapeId, cause: RotationCause) {
        self.remove(id);
        self.rotations.push((id, cause));
    }

    fn next_position(&mut self) -> Result<ChangePosition, RouteError> {
        let open = self.open.as_mut().ok_or(RouteError::OutsideTransaction)?;
        let op = open.next_op;
        open.next_op += 2;
        Ok(ChangePosition { lsn: open.commit, op, xid: open.xid })
    }

    fn handle_change(
        &mut self,
        oid: u32,
        old: Option<Tuple<'_>>,
        new: Option<Tuple<'_>>,
    ) -> Result<(), RouteError> {
        let at = self.next_position()?;
        let mut lost = Vec::new();
        for above in 0.. {
            let follower = match above {
                0 => Some(oid),
                _ => self.ancestors.get(&oid).and_then(|oids| oids.get(above - 1)).copied(),
            };
            let Some(follower) = follower else { break };
            self.route_to(follower, oid, old, new, at, &mut lost)?;
        }
        lost.into_iter().for_each(|(id, cause)| self.rotate(id, cause));
        Ok(())
    }

    /// Routes a change of relation `oid` to the shapes of table `follower`.
    fn route_to(
        &mut self,
        follower: u32,
        oid: u32,
        old: Option<Tuple<'_>>,
        new: Option<Tuple<'_>>,
        at: ChangePosition,
        lost: &mut Vec<(ShapeId, RotationCause)>,
    ) -> Result<(), RouteError> {
        let child_oid = if follower == oid { String::new() } else { oid.to_string() };
        for table in self.tables.get_mut(&follower).into_iter().flatten() {
            let Some(positions) = table.positions.get(&oid) else {
                return Err(RouteError::UnknownRelation { oid });
            };
            let [old_cells, new_cells] = std::mem::take(&mut self.cells);
            let child = table.relation.child_position().filter(|_| follower != oid);
            let child = child.map(|position| (position, child_oid.as_bytes()));
            let old = old.map(|old| Row::new(old, None, positions, recycle(old_cells)).of_child(child));
            let new =
                new.map(|new| Row::new(new, old.as_ref(), positions, recycle(new_cells)).of_child(child));
            let rows = (old.as_ref(), new.as_ref());
            let mut sinks = Sinks {
                encoder: &mut self.encoder,
                asked: &mut self.asked,
                rounds: &mut self.rounds,
                fragment: &mut self.fragment,
                lost: &mut *lost,
                candidates: &mut self.candidates,
            };
            // Subqueries ask which rows there are, not under which key: their tables' changes are never counted.
            sinks.deliver_inner(table, rows, at);
            if !table.is_netted() {
                sinks.deliver(table, rows, at);
            } else if let Err(cause) = Self::count_change(&mut self.settling, (follower, table), rows, at) {
                let lacking = table.lacking(at, &mut self.rounds, |level| level == Level::Outer);
                lost.extend(lacking.into_iter().map(|id| (id, cause.clone())));
            }
            self.cells = [old, new].map(|row| row.map_or_else(Vec::new, |row| recycle(row.cells)));
        }
        Ok(())
    }

    /// The tables whose shapes a change of relation `oid` may concern.
    fn followers(&self, oid: u32) -> impl Iterator<Item = u32> {
        std::iter::once(oid).chain(self.ancestors.get(&oid).into_iter().flatten().copied())
    }
}
