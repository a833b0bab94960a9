//! One shape's part of a move: what it applies, what it asks, and what it makes of the answers.
//!
//! Before it: `rounds`, which has the questions of all shapes asked in one snapshot. Behind it: a [`Move`] goes to
//! [`store::Logs::append_move`](crate::store::Logs::append_move), which shows it once it is durable.

use super::held::{Affected, HeldTransaction};
use super::member::{COLUMNS_MAX, Member};
use super::tagger::MemberReader;
use super::view::{MEMBERS_MAX, View, ViewChange};
use super::{Dependent, Stage, items, questions};
use crate::filter::{Condition, Dependency, EvalError};
use crate::log::Fragment;
use crate::log::item::ChangePosition;
use crate::pg::copy::{CopyDecoder, CopyError, ProjectedRow};
use crate::pg::{SnapshotBounds, SnapshotFilter};
use crate::protocol::message;
use crate::shape::held_row::HeldRow;
use crate::shape::rotation::RotationCause;
use crate::{Lsn, ShapeId};
use std::borrow::Borrow;
use std::collections::BTreeSet;

/// Subqueries whose results may have changed, by transactions whose own rows are applied.
#[derive(Debug)]
pub(super) struct Unresolved {
    pub(super) affected: Affected,
    /// The transactions that changed them.
    pub(super) xids: Vec<u32>,
    /// The last transaction that is applied, and the number behind its last operation: the move's place in the log.
    pub(super) lsn: u64,
    pub(super) ops: u64,
    /// The first of the transactions.
    pub(super) first: u64,
    /// The changes that follow from the answers so far.
    pub(super) resolution: Option<Resolution>,
}

/// The changes of a move. Values are listed with the position of the filter that they satisfy or no longer do.
#[derive(Debug, Default)]
pub(super) struct Resolution {
    changes: Vec<ViewChange>,
    leaving: Vec<(usize, Member)>,
    entering: Vec<(usize, Member)>,
}

/// A move as it goes into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The shape.
    pub id: ShapeId,
    /// Transactions up to this commit LSN are in the log then, with everything that followed from them.
    pub consumed: u64,
    /// How the shape's views change, one entry for each subquery.
    pub changes: Vec<ViewChange>,
    /// Events, rows and the snapshot-end; may be empty where no client can see the change.
    pub items: Fragment,
    /// The commit LSN up to which the log is visible once it has what was held back behind the move; `None` where that is its
    /// end.
    pub visible_up_to: Option<Lsn>,
}

/// The result of applying a snapshot to a shape's move.
pub(super) enum Advance {
    /// It cannot be used: it lacks a transaction that it should hold. The next one will do.
    Again,
    /// These transactions are in the log now; the subqueries can be asked.
    Ready(Vec<Fragment>),
}

impl Dependent {
    /// The shape's snapshot is known, with the results of its subqueries.
    pub(in crate::shape) fn handle_snapshot(&mut self, filter: &SnapshotFilter, views: Vec<View>) {
        if self.stage != Stage::Waiting {
            return;
        }
        self.held.retain(|held| filter.admits(held.xid, Lsn::new(held.commit)));
        (self.joining, self.views, self.stage) = (Some(filter.clone()), views, Stage::Moving);
    }

    /// Applies the transactions that the snapshot holds.
    pub(super) fn advance(&mut self, bounds: &SnapshotBounds) -> Result<Advance, RotationCause> {
        let Some(unresolved) = &self.unresolved else { return Ok(Advance::Again) };
        let visible = self.held.iter().take_while(|held| bounds.contains(held.xid)).count();
        let out_of_order = self.held.iter().skip(visible).any(|held| bounds.contains(held.xid));
        if out_of_order || !unresolved.xids.iter().all(|xid| bounds.contains(*xid)) {
            return Ok(Advance::Again);
        }
        let mut fragments = Vec::new();
        for held in self.held.drain(..visible).collect::<Vec<_>>() {
            fragments.extend(self.apply_held(&held)?);
            let unresolved = self.unresolved.as_mut().expect("it was there before");
            (unresolved.lsn, unresolved.ops) = (held.commit, held.ops);
            if !held.affected.is_empty() {
                unresolved.xids.push(held.xid);
                unresolved.affected.merge(held.affected);
            }
        }
        Ok(Advance::Ready(fragments))
    }

    /// The questions about subqueries, each with the number of its subquery.
    pub(super) fn questions(&self) -> Vec<(usize, String)> {
        let Some(unresolved) = &self.unresolved else { return Vec::new() };
        let dependencies = self.judge.filter.dependencies().iter().zip(&unresolved.affected.0).enumerate();
        let asked = dependencies.filter(|(_, (_, affected))| affected.is_some());
        asked
            .map(|(index, (dependency, affected))| (index, questions::members(dependency, affected)))
            .collect()
    }

    /// The answers to [`questions`](Self::questions), as COPY gives them. Gives the question about rows, where
    /// some may come.
    pub(super) fn handle_members(
        &mut self,
        answers: &[(usize, &[u8])],
    ) -> Result<Option<String>, RotationCause> {
        let mut changes = vec![ViewChange::default(); self.views.len()];
        for (index, answer) in answers {
            let present = read_members(answer, &self.judge.filter.dependencies()[*index])?;
            changes[*index] = self.change(*index, present);
        }
        if changes.iter().zip(&self.views).any(|(change, view)| view.len() + change.enter.len() > MEMBERS_MAX)
        {
            return Err(RotationCause::MoveOverrun);
        }
        let resolution = self.resolve(changes)?;
        let rows = (!resolution.entering.is_empty()).then(|| {
            questions::rows(&self.relation, &self.judge.filter, &self.read_columns(), &resolution.entering)
        });
        if let Some(unresolved) = &mut self.unresolved {
            unresolved.resolution = Some(resolution);
        }
        Ok(rows)
    }

    /// The answer about rows, empty where none was asked for: the move is complete. `None` where none was under way.
    pub(super) fn handle_rows(
        &mut self,
        answer: &[u8],
        bounds: &SnapshotBounds,
    ) -> Result<Option<Move>, RotationCause> {
        let Some(unresolved) = self.unresolved.take() else { return Ok(None) };
        let Some(Resolution { changes, leaving, entering }) = unresolved.resolution else { return Ok(None) };
        self.consumed = unresolved.lsn;
        if changes.iter().all(ViewChange::is_empty) {
            // Written down all the same: sent again after a crash, these transactions would hold the shape back anew,
            // behind the LSN that clients were told.
            let items = Fragment::new(unresolved.lsn);
            return Ok(Some(self.made(changes, items)));
        }
        let mut items =
            MoveItems { fragment: Fragment::new(unresolved.lsn), op: unresolved.ops, id: self.id };
        for (name, patterns) in [("move-out", &leaving), ("move-in", &entering)] {
            if !patterns.is_empty() {
                items.push(&items::event(&self.judge, name, patterns, &unresolved.xids));
            }
        }
        let before = self.rows(answer, |dependent, row| dependent.judge.active(&dependent.views, row))?;
        self.views.iter_mut().zip(&changes).for_each(|(view, change)| view.apply(change));
        let mut before = before.into_iter();
        let rows = self.rows(answer, |dependent, row| {
            let active = dependent.judge.active(&dependent.views, row)?;
            // What the move-out leaves in the shape has been there, and stays.
            let stayed = before.next().is_some_and(|before| dependent.judge.includes(before.and(active)));
            let comes = dependent.judge.includes(active) && !stayed;
            Ok(comes.then(|| items::moved_in(&dependent.judge, &dependent.format, row, active)))
        });
        let rows = match rows {
            Ok(rows) => rows,
            Err(cause) => {
                // A move that is not made leaves the views as they were.
                self.views.iter_mut().zip(&changes).for_each(|(view, change)| view.apply(&change.reversed()));
                return Err(cause);
            }
        };
        let mut came = false;
        for row in rows.into_iter().flatten() {
            items.push(&row);
            came = true;
        }
        if came {
            items.push(&message::snapshot_end(bounds));
        }
        Ok(Some(self.made(changes, items.fragment)))
    }

    /// The move that has been made; what follows it is still to be applied.
    const fn made(&self, changes: Vec<ViewChange>, items: Fragment) -> Move {
        Move { id: self.id, consumed: self.consumed, changes, items, visible_up_to: None }
    }

    /// The round came to nothing: what it asked is asked again in the next.
    pub(super) fn forget_answers(&mut self) {
        if let Some(unresolved) = &mut self.unresolved {
            unresolved.resolution = None;
        }
    }

    /// Applies what is held, up to the next transaction that may change a subquery. `open` is the transaction
    /// that is being read: its items go into `fragment`.
    pub(in crate::shape) fn resume(
        &mut self,
        open: Option<u64>,
        fragment: &mut Fragment,
    ) -> Result<Vec<Fragment>, RotationCause> {
        let mut complete = Vec::new();
        if self.stage != Stage::Moving || self.unresolved.is_some() {
            return Ok(complete);
        }
        while let Some(held) = self.held.pop_front() {
            if Some(held.commit) == open {
                let own = self.apply_held(&held)?;
                own.iter().flat_map(Fragment::items).for_each(|item| {
                    fragment.push_item(&item, item.targets);
                });
                self.affected = held.affected;
                continue;
            }
            complete.extend(self.apply_held(&held)?);
            if !held.affected.is_empty() {
                self.unresolved = Some(Unresolved::of(held));
                return Ok(complete);
            }
        }
        self.stage = Stage::Following;
        Ok(complete)
    }

    /// A held transaction's items under the present views; nothing where it has none.
    fn apply_held(&mut self, held: &HeldTransaction) -> Result<Option<Fragment>, RotationCause> {
        let mut fragment = Fragment::new(held.commit);
        for change in &held.changes {
            self.held_bytes = self.held_bytes.saturating_sub(change.len_bytes());
            let at = ChangePosition { lsn: held.commit, op: change.op, xid: held.xid };
            let (old, new) = (change.old.as_ref().map(HeldRow::row), change.new.as_ref().map(HeldRow::row));
            self.apply(old.as_ref(), new.as_ref(), at, |op, bytes| fragment.push(op, bytes, &[self.id]))?;
        }
        Ok((!fragment.is_empty()).then_some(fragment))
    }

    /// How a view changes where `present` are those of its affected members that the subquery returns.
    fn change(&self, index: usize, present: BTreeSet<Member>) -> ViewChange {
        let view = &self.views[index];
        let affected = self.unresolved.as_ref().and_then(|unresolved| unresolved.affected.0.get(index));
        let leave: Vec<Member> = match affected {
            Some(affected) if !affected.whole => {
                let absent = affected.members.difference(&present);
                absent.filter(|member| view.has(member)).cloned().collect()
            }
            _ => view.members().filter(|member| !present.contains(*member)).cloned().collect(),
        };
        ViewChange { enter: present.into_iter().filter(|member| !view.has(member)).collect(), leave }
    }

    /// Which values come to satisfy the filter's positions, and which cease to.
    fn resolve(&mut self, changes: Vec<ViewChange>) -> Result<Resolution, RotationCause> {
        let values = self.affected(&changes)?;
        let judge = |views: &[View]| -> Vec<bool> {
            values
                .iter()
                .map(|(position, value)| self.judge.is_true(views, *position, value.borrow()))
                .collect()
        };
        let before = judge(&self.views);
        let mut views = std::mem::take(&mut self.views);
        views.iter_mut().zip(&changes).for_each(|(view, change)| view.apply(change));
        let after = judge(&views);
        views.iter_mut().zip(&changes).for_each(|(view, change)| view.apply(&change.reversed()));
        self.views = views;
        let mut resolution = Resolution { changes, ..Resolution::default() };
        for (pattern, (before, after)) in values.into_iter().zip(before.into_iter().zip(after)) {
            match (before, after) {
                (true, false) => resolution.leaving.push(pattern),
                (false, true) => resolution.entering.push(pattern),
                _ => {}
            }
        }
        Ok(resolution)
    }

    /// The values whose truth at a position may change with the members. A NULL in a member leaves the truth of
    /// `NOT IN` open for values that nobody can list.
    fn affected(&self, changes: &[ViewChange]) -> Result<BTreeSet<(usize, Member)>, RotationCause> {
        let mut values = BTreeSet::new();
        for (position, part) in self.judge.filter.positions().iter().enumerate() {
            let Condition::Member { dependency, columns } = &part.condition else { continue };
            let Some(change) = changes.get(*dependency) else { continue };
            for member in change.enter.iter().chain(&change.leave) {
                match (part.negated, member.has_null()) {
                    (true, true) => return Err(RotationCause::NullMember),
                    (true, false) if columns.len() > COLUMNS_MAX => return Err(RotationCause::NullMember),
                    (true, false) => values.extend(member.with_nulls().map(|value| (position, value))),
                    (false, true) => {}
                    (false, false) => {
                        values.insert((position, member.clone()));
                    }
                }
            }
        }
        Ok(values)
    }

    /// The columns that an answer about rows holds: those of the shape, then the child's oid where the table has children.
    fn read_columns(&self) -> Vec<usize> {
        self.columns.iter().copied().chain(self.relation.child_position()).collect()
    }

    /// Calls `each` with every row of an answer about rows.
    fn rows<T>(
        &self,
        answer: &[u8],
        mut each: impl FnMut(&Self, &ProjectedRow<'_>) -> Result<T, EvalError>,
    ) -> Result<Vec<T>, RotationCause> {
        let places = ProjectedRow::places(&self.read_columns(), self.relation.columns.len() + 1);
        let mut decoder = CopyDecoder::new();
        decoder.push(answer);
        let mut rows = Vec::new();
        while let Some(row) = decoder.next_row()? {
            let row = ProjectedRow { row, places: &places };
            rows.push(each(self, &row).map_err(RotationCause::Unjudgeable)?);
        }
        decoder.finish()?;
        Ok(rows)
    }
}

impl Unresolved {
    pub(super) fn of(held: HeldTransaction) -> Self {
        Self {
            affected: held.affected,
            xids: vec![held.xid],
            lsn: held.commit,
            ops: held.ops,
            first: held.commit,
            resolution: None,
        }
    }
}

/// A move's items on their way: each takes the next operation number.
struct MoveItems {
    fragment: Fragment,
    op: u64,
    id: ShapeId,
}

impl MoveItems {
    fn push(&mut self, bytes: &[u8]) {
        self.fragment.push(self.op, bytes, &[self.id]);
        self.op += 1;
    }
}

fn read_members(answer: &[u8], dependency: &Dependency) -> Result<BTreeSet<Member>, RotationCause> {
    let mut members = BTreeSet::new();
    let mut reader = MemberReader::new(dependency);
    reader.push(answer, |member| {
        members.insert(member);
    })?;
    reader.finish()?;
    Ok(members)
}

impl From<CopyError> for RotationCause {
    fn from(error: CopyError) -> Self {
        Self::Refused(error.to_string())
    }
}
