//! Shapes whose filter has subqueries: what belongs to them depends on rows of other tables.
//!
//! Such a shape keeps, for each subquery, a [`View`]: the members that it believes the subquery to return. Its own
//! table's changes are judged by the views. A change of an inner table that may alter a subquery's result does not
//! alter a view by itself; it starts a *move* (ARCHITECTURE.md draws these steps):
//!
//! 1. From its transaction on, the shape holds everything back.
//! 2. A repeatable-read snapshot is opened.
//! 3. The stream is read up to the snapshot's position.
//! 4. The transactions that the snapshot holds are applied under the old views. Then the shape's log is what the
//!    snapshot shows of its own table, and what is still missing is what the subqueries changed.
//! 5. Inside the snapshot Postgres is asked which of the affected members there are, and for the rows that
//!    their values bring in. The answers become one piece of the log: the events, the rows, a snapshot-end.
//! 6. What was held back beyond the snapshot follows, under the new views; it may start the next move.
//!
//! All shapes whose move is due share the snapshot of steps 2 to 5, which is a *round*: [`Rounds`] drives it, `moves` is one
//! shape's part in it.
//!
//! So after each move the log is exactly the shape's SQL at the snapshot (invariant 7), and readers see nothing of
//! what lies between (invariant 6). A move is not a function of the WAL: it is durable, with the views it leads
//! to, before it is visible. A crash before that repeats it, since Postgres is not told of its transactions yet.

mod held;
mod items;
mod judge;
pub mod member;
mod moves;
mod outer;
mod questions;
mod rounds;
mod tagger;
#[cfg(test)]
mod tests;
pub mod view;

pub use member::Member;
pub use moves::Move;
pub use rounds::{ANSWER_BYTES_MAX, LogEntry, RoundOutcome, RoundRequest, Rounds};
pub use tagger::{MemberReader, Tagger};
pub use view::{MEMBERS_MAX, View, ViewChange};

use super::rotation::RotationCause;
use crate::filter::{Clause, Dependency, Filter, SubqueryFilter};
use crate::log::Fragment;
use crate::log::item::{ChangePosition, ItemFormat};
use crate::pg::{Relation, Row, SnapshotFilter};
use crate::shape::Definition;
use crate::shape::held_row::HeldRow;
use crate::{Lsn, ShapeId};
use held::{Affected, AffectedMembers, HELD_BYTES_MAX, HeldChange, HeldTransaction};
use items::Change;
use judge::{Active, Judge};
use moves::Unresolved;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// The state of such a shape that a restart needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependentState {
    /// Transactions up to this commit LSN are in the log, with everything that followed from them.
    pub consumed: u64,
    /// The members of each subquery.
    pub views: Vec<View>,
    /// The commit LSN up to which the log is visible; `None` where it is to its end.
    // The name that folders of older versions have.
    #[serde(rename = "whole_up_to", with = "crate::lsn::stored_bound")]
    pub visible_up_to: Option<Lsn>,
}

/// Of a shape without subqueries.
impl Default for DependentState {
    fn default() -> Self {
        Self { consumed: 0, views: Vec::new(), visible_up_to: None }
    }
}

impl DependentState {
    /// True of a shape without subqueries.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Takes a move over.
    pub fn apply(&mut self, made: &Move) {
        self.views.iter_mut().zip(&made.changes).for_each(|(view, change)| view.apply(change));
        (self.consumed, self.visible_up_to) = (made.consumed, made.visible_up_to);
    }
}

/// The machine of one shape.
#[derive(Debug)]
pub(super) struct Dependent {
    id: ShapeId,
    relation: Arc<Relation>,
    judge: Judge,
    format: ItemFormat,
    /// The columns that are shown or judged, ascending.
    columns: Vec<usize>,
    views: Vec<View>,
    stage: Stage,
    joining: Option<SnapshotFilter>,
    consumed: u64,
    /// The last transaction that was applied or is held: what comes again is skipped.
    seen: u64,
    held: VecDeque<HeldTransaction>,
    held_bytes: usize,
    /// Members that the open transaction may have changed in the subqueries, while the shape follows directly.
    affected: Affected,
    unresolved: Option<Unresolved>,
}

/// How a shape takes transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its snapshot is being taken: everything is held.
    Waiting,
    /// As they come.
    Following,
    /// A move is due or under way: everything is held.
    Moving,
}

/// Which table's rows a shape sees, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Its own table.
    Outer,
    /// The table of the subquery with this number.
    Inner(usize),
    /// A table below the subquery with this number.
    Deeper(usize),
}

/// A table that a shape must see.
pub(super) struct Watch {
    pub(super) level: Level,
    /// As the shape knows it.
    pub(super) relation: Arc<Relation>,
    /// The columns that the shape uses.
    pub(super) columns: Vec<usize>,
    /// The filter of the subquery, where the row alone decides.
    pub(super) filter: Option<Arc<Filter>>,
}

impl Watch {
    fn new(level: Level, dependency: &Dependency) -> Self {
        let filter = match (&dependency.filter, level) {
            (Some(Clause::Plain(filter)), Level::Inner(_)) => Some(Arc::clone(filter)),
            _ => None,
        };
        Self { level, relation: Arc::clone(&dependency.relation), columns: dependency.used_columns(), filter }
    }
}

impl Dependent {
    /// A shape whose snapshot is about to be taken. `salt` tells its tags from those of others.
    pub(super) fn new(
        id: ShapeId,
        definition: &Definition,
        filter: &Arc<SubqueryFilter>,
        salt: &str,
    ) -> Self {
        let projection = &definition.projection.columns;
        let mut columns: Vec<usize> = projection.iter().chain(filter.columns()).copied().collect();
        columns.extend(definition.relation.key_columns());
        columns.sort_unstable();
        columns.dedup();
        let dependencies = filter.dependencies().len();
        Self {
            id,
            relation: Arc::clone(&definition.relation),
            format: ItemFormat::new(&definition.relation, projection, definition.replica),
            judge: Judge::new(Arc::clone(filter), salt),
            columns,
            views: vec![View::default(); dependencies],
            stage: Stage::Waiting,
            joining: None,
            consumed: 0,
            seen: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            affected: Affected::new(dependencies),
            unresolved: None,
        }
    }

    /// A shape with a durable snapshot.
    pub(super) fn restore(mut self, filter: SnapshotFilter, state: DependentState) -> Self {
        (self.joining, self.stage) = (Some(filter), Stage::Following);
        (self.consumed, self.views) = (state.consumed, state.views);
        self
    }

    /// Takes the description of its table that others use, which is equal to its own.
    pub(super) fn share_relation(&mut self, relation: &Arc<Relation>) {
        self.relation = Arc::clone(relation);
    }

    /// True while changes of its own table are held back.
    pub(super) fn is_holding(&self) -> bool {
        self.stage != Stage::Following
    }

    /// The state that a restart needs.
    pub(super) fn state(&self) -> DependentState {
        let (consumed, views) = (self.consumed, self.views.clone());
        DependentState { consumed, views, visible_up_to: self.visible_up_to() }
    }

    /// The tables whose changes it must see.
    pub(super) fn tables(&self) -> Vec<Watch> {
        let (relation, columns) = (Arc::clone(&self.relation), self.columns.clone());
        let own = Watch { level: Level::Outer, relation, columns, filter: None };
        let mut tables = vec![own];
        for (index, dependency) in self.judge.filter.dependencies().iter().enumerate() {
            tables.push(Watch::new(Level::Inner(index), dependency));
            push_deeper(dependency, index, &mut tables);
        }
        tables
    }

    /// Takes a change of a row of one of its tables.
    pub(super) fn handle_change<R: Row>(
        &mut self,
        level: Level,
        (old, new): (Option<&R>, Option<&R>),
        at: ChangePosition,
        fragment: &mut Fragment,
    ) -> Result<(), RotationCause> {
        if !self.lacks(at) {
            return Ok(());
        }
        match level {
            Level::Outer if self.stage == Stage::Following => {
                let id = self.id;
                self.apply(old, new, at, |op, bytes| fragment.push(op, bytes, &[id]))
            }
            Level::Outer => self.hold(old, new, at),
            Level::Inner(index) => {
                self.note_inner(index, old, new, at);
                Ok(())
            }
            Level::Deeper(index) => {
                self.affected_members(index, at).set_whole();
                Ok(())
            }
        }
    }

    /// The open transaction is complete. True where a move is due since.
    pub(super) fn handle_commit(&mut self, commit: u64, xid: u32, ops: u64) -> bool {
        self.seen = self.seen.max(commit);
        if self.stage == Stage::Following {
            if self.affected.is_empty() {
                return false;
            }
            let affected = std::mem::replace(&mut self.affected, Affected::new(self.views.len()));
            self.unresolved =
                Some(Unresolved::of(HeldTransaction { commit, xid, ops, changes: Vec::new(), affected }));
            self.stage = Stage::Moving;
            return true;
        }
        if let Some(open) = self.held.back_mut().filter(|open| open.commit == commit) {
            open.ops = ops;
        }
        false
    }

    /// The open transaction will come again.
    pub(super) fn abandon(&mut self, commit: u64) {
        self.affected.clear();
        if self.seen < commit
            && let Some(open) = self.held.pop_back_if(|open| open.commit == commit)
        {
            let bytes = open.changes.iter().map(HeldChange::len_bytes).sum::<usize>();
            self.held_bytes = self.held_bytes.saturating_sub(bytes);
        }
    }

    /// The commit LSN up to which the log is visible; `None` where it is to its end.
    pub(super) fn visible_up_to(&self) -> Option<Lsn> {
        self.moves_since().map(|first| Lsn::new(first.saturating_sub(1)))
    }

    /// The first transaction that the log does not show yet, while something is held.
    fn moves_since(&self) -> Option<u64> {
        let unresolved = self.unresolved.as_ref().map(|unresolved| unresolved.first);
        let held = || self.held.front().map(|held| held.commit);
        (self.stage == Stage::Moving).then(|| unresolved.or_else(held)).flatten()
    }

    /// False where the shape has the transaction already: it came before, or the shape's snapshot holds it.
    pub(super) fn lacks(&mut self, at: ChangePosition) -> bool {
        if at.lsn <= self.consumed.max(self.seen) {
            return false;
        }
        let Some(filter) = &self.joining else { return true };
        if filter.is_over(Lsn::new(at.lsn)) {
            self.joining = None;
            return true;
        }
        filter.admits(at.xid, Lsn::new(at.lsn))
    }

    /// Judges a change of the shape's own table under the present views, and encodes what it means.
    fn apply<R: Row>(
        &self,
        old: Option<&R>,
        new: Option<&R>,
        at: ChangePosition,
        each: impl FnMut(u64, &[u8]),
    ) -> Result<(), RotationCause> {
        let before = self.belonging(old)?;
        let after = self.belonging(new)?;
        let change = match (before, after) {
            (None, None) => return Ok(()),
            (None, Some((new, active))) => Change::Insert(new, active),
            (Some((old, active)), None) => Change::Delete(old, active),
            (Some((old, _)), Some((new, active))) => Change::Update { old, new, active },
        };
        items::encode(&self.judge, &self.format, &change, at, each);
        Ok(())
    }

    fn belonging<'a, R: Row>(&self, row: Option<&'a R>) -> Result<Option<(&'a R, Active)>, RotationCause> {
        let Some(row) = row else { return Ok(None) };
        let active = self.judge.active(&self.views, row).map_err(RotationCause::Unjudgeable)?;
        Ok(self.judge.includes(active).then_some((row, active)))
    }

    fn hold(
        &mut self,
        old: Option<&impl Row>,
        new: Option<&impl Row>,
        at: ChangePosition,
    ) -> Result<(), RotationCause> {
        // A child's oid stands behind the columns.
        let width = self.relation.columns.len() + 1;
        let change = HeldChange {
            op: at.op,
            old: old.map(|row| HeldRow::new(width, row)),
            new: new.map(|row| HeldRow::new(width, row)),
        };
        self.held_bytes += change.len_bytes();
        if self.held_bytes > HELD_BYTES_MAX {
            return Err(RotationCause::HeldOverrun);
        }
        self.open_held(at).changes.push(change);
        Ok(())
    }

    /// Notes the members by which a change of a subquery's table may alter its result.
    fn note_inner(
        &mut self,
        index: usize,
        old: Option<&impl Row>,
        new: Option<&impl Row>,
        at: ChangePosition,
    ) {
        let Some(dependency) = self.judge.filter.dependencies().get(index) else { return };
        let before = old.filter(|row| may_return(dependency, *row)).map(|row| member_of(dependency, row));
        let after = new.filter(|row| may_return(dependency, *row)).map(|row| member_of(dependency, row));
        // A subquery inside decides by other columns too: the same member may come or go by them.
        let is_plain = !matches!(dependency.filter, Some(Clause::Subqueries(_)));
        if is_plain && before == after {
            return;
        }
        for member in [before, after].into_iter().flatten() {
            self.affected_members(index, at).push(member);
        }
    }

    fn affected_members(&mut self, index: usize, at: ChangePosition) -> &mut AffectedMembers {
        let affected = match self.stage {
            Stage::Following => &mut self.affected,
            Stage::Waiting | Stage::Moving => &mut self.open_held(at).affected,
        };
        affected.0.get_mut(index).expect("there is one for each dependency")
    }

    fn open_held(&mut self, at: ChangePosition) -> &mut HeldTransaction {
        if self.held.back().is_none_or(|last| last.commit != at.lsn) {
            self.held.push_back(HeldTransaction::new(at.lsn, at.xid, self.views.len()));
        }
        self.held.back_mut().expect("one was just pushed")
    }
}

fn push_deeper(dependency: &Dependency, index: usize, tables: &mut Vec<Watch>) {
    let Some(Clause::Subqueries(inner)) = &dependency.filter else { return };
    for below in inner.dependencies() {
        tables.push(Watch::new(Level::Deeper(index), below));
        push_deeper(below, index, tables);
    }
}

/// Whether a subquery may return a row of its table: where its filter cannot tell, Postgres is asked.
fn may_return(dependency: &Dependency, row: &impl Row) -> bool {
    match &dependency.filter {
        Some(Clause::Plain(filter)) => !matches!(filter.evaluate(row), Ok(Some(false) | None)),
        _ => true,
    }
}

/// The member that a row of the subquery's table would be.
pub(super) fn member_of(dependency: &Dependency, row: &impl Row) -> Member {
    let texts = dependency.columns.iter().enumerate().map(|(index, column)| {
        let text = row.text(*column);
        text.map(|text| dependency.key(index, text))
    });
    let texts: Vec<_> = texts.collect();
    Member::new(texts.iter().map(Option::as_deref))
}
