//! Turns a change of a row into the operation that each shape sees, and encodes it once.
//!
//! Before it: [`Router`](super::Router) has found the table, and `table` the candidates. Behind it: `encode`.

use super::dependent::{Level, Rounds};
use super::encode::{Encoder, Outcome};
use super::index::{Candidate, Candidates, Find, Side};
use super::postgres_judged::Asked;
use super::rotation::RotationCause;
use super::row::Row;
use super::table::{Joining, Route, RouteFilter, Table, read};
use crate::log::Fragment;
use crate::log::item::ChangePosition;
use crate::pgoutput::{Cell, Tuple};
use crate::{Lsn, ShapeId};
use std::collections::BTreeSet;

pub(super) type Rows<'a> = (Option<&'a Row<'a>>, Option<&'a Row<'a>>);

/// Where routed changes go.
pub(super) struct Sinks<'a> {
    pub(super) encoder: &'a mut Encoder,
    pub(super) asked: &'a mut Asked,
    pub(super) rounds: &'a mut Rounds,
    pub(super) fragment: &'a mut Fragment,
    /// Shapes that cannot follow the change.
    pub(super) lost: &'a mut Vec<(ShapeId, RotationCause)>,
    /// Scratch space.
    pub(super) candidates: &'a mut Candidates,
}

impl Sinks<'_> {
    /// Hands a change to every shape whose own table it is a change of.
    pub(super) fn deliver(&mut self, table: &mut Table, rows: Rows<'_>, at: ChangePosition) {
        table.candidates(rows.0, rows.1, self.candidates);
        for candidate in self.candidates.iter() {
            if let Err(cause) = route(table, candidate, rows, at, self.encoder, self.asked) {
                self.lost.push((candidate.id, cause));
            }
        }
        self.encoder.drain_into(self.fragment);
        self.rounds.find_outer(&table.relation, rows.0, rows.1, self.candidates);
        for candidate in self.candidates.iter() {
            if let Err(cause) = self.rounds.handle_change(candidate.id, Level::Outer, rows, at, self.fragment)
            {
                self.lost.push((candidate.id, cause));
            }
        }
    }

    /// Hands a change to the shapes whose subqueries read the table.
    pub(super) fn deliver_inner(&mut self, table: &mut Table, rows: Rows<'_>, at: ChangePosition) {
        table.inner_candidates(rows.0, rows.1, self.candidates);
        let inner = self.candidates.iter().flat_map(|candidate| table.inner_of(candidate.id));
        for watcher in inner.filter(|watcher| watcher.is_concerned(rows.0, rows.1)) {
            if let Err(cause) = self.rounds.handle_change(watcher.id, watcher.level, rows, at, self.fragment)
            {
                self.lost.push((watcher.id, cause));
            }
        }
    }
}

/// Decides what a change is for one shape and has it encoded, or puts it among what Postgres is asked.
pub(super) fn route(
    table: &mut Table,
    candidate: Candidate,
    (old, new): Rows<'_>,
    at: ChangePosition,
    encoder: &mut Encoder,
    asked: &mut Asked,
) -> Result<(), RotationCause> {
    let id = candidate.id;
    let Some(route) = table.routes.get(&id) else { return Ok(()) };
    let filters = &mut table.filters;
    let mut judge = |row: Option<&Row<'_>>, side: Side, find: Find| {
        let judged = match (&route.filter, row, find) {
            (_, None, _) | (_, _, Find::None) => Ok(Some(false)),
            (RouteFilter::Index(_), Some(_), Find::There) => Ok(Some(true)),
            (RouteFilter::Index(text), Some(row), Find::Unknown) => read(text, &table.relation).evaluate(row),
            (RouteFilter::Core(index), Some(row), _) => filters.evaluate(*index, side, row),
            (RouteFilter::All | RouteFilter::Postgres(_), Some(_), _) => Ok(Some(true)),
        };
        judged.map(|truth| truth == Some(true)).map_err(RotationCause::Unjudgeable)
    };
    if matches!(route.filter, RouteFilter::Postgres(_)) {
        asked.push(id, old, new, at);
        return Ok(());
    }
    let belongs = if route.admits(at) {
        [judge(old, Side::Old, candidate.old_find())?, judge(new, Side::New, candidate.new_find())?]
    } else {
        [false, false]
    };
    place(table, id, (old, new), belongs, at, encoder)
}

/// Encodes a change of which it is known whether the old and the new row belong to the shape.
pub(super) fn place(
    table: &mut Table,
    id: ShapeId,
    (old, new): Rows<'_>,
    [before, after]: [bool; 2],
    at: ChangePosition,
    encoder: &mut Encoder,
) -> Result<(), RotationCause> {
    let Some(route) = table.routes.get_mut(&id) else { return Ok(()) };
    if !route.join(at) {
        return Ok(());
    }
    let outcome = match (old.filter(|_| before), new.filter(|_| after)) {
        (None, None) => return Ok(()),
        (None, Some(new)) => Outcome::Insert(new),
        (Some(old), None) => Outcome::Delete(old),
        (Some(old), Some(new)) => Outcome::Update(old, new),
    };
    let place = route.format.place();
    let format = table.formats.get(place).expect("routes name formats of their table");
    let items = encoder.encode(place, &format.items, outcome, at);
    match &mut route.joining {
        Joining::Waiting(waiting) => {
            let bytes = encoder.len_bytes(items);
            let held = waiting.hold(at.lsn, at.xid, bytes, |held| encoder.push_into(held, items, &[]));
            held.map_err(|_| RotationCause::HeldOverrun)
        }
        Joining::Filtering(_) | Joining::Done => {
            encoder.target(items, id);
            Ok(())
        }
    }
}

impl Table {
    /// The shapes whose snapshot does not hold a change of the table, of those to which the table is what is `wanted`.
    pub(super) fn lacking(
        &self,
        at: ChangePosition,
        rounds: &mut Rounds,
        wanted: impl Fn(Level) -> bool,
    ) -> BTreeSet<ShapeId> {
        let routes = self.routes.iter().filter(|(_, route)| route.admits(at)).map(|(id, _)| *id);
        let watchers = self.watchers().filter(|watcher| wanted(watcher.level)).map(|watcher| watcher.id);
        routes.chain(watchers.filter(|id| rounds.lacks(*id, at))).collect()
    }
}

impl Route {
    /// False where the shape's snapshot holds the transaction already.
    pub(super) fn admits(&self, at: ChangePosition) -> bool {
        match &self.joining {
            Joining::Filtering(filter) => filter.admits(at.xid, Lsn::new(at.lsn)),
            Joining::Waiting(_) | Joining::Done => true,
        }
    }

    /// The same, and the filter goes once nothing can be in the snapshot any more.
    fn join(&mut self, at: ChangePosition) -> bool {
        let admits = self.admits(at);
        if matches!(&self.joining, Joining::Filtering(filter) if filter.is_over(Lsn::new(at.lsn))) {
            self.joining = Joining::Done;
        }
        admits
    }
}

impl<'a> Row<'a> {
    /// The tuple's cells at their positions in the relation; large values that did not change come from the
    /// old row.
    pub(super) fn new(
        tuple: Tuple<'a>,
        old: Option<&Self>,
        positions: &[Option<usize>],
        mut cells: Vec<Option<&'a [u8]>>,
    ) -> Self {
        let width = positions.iter().flatten().max().map_or(0, |last| last + 1);
        cells.resize(width, None);
        for (cell, position) in tuple.iter().zip(positions) {
            let Some(position) = *position else { continue };
            let value = match cell {
                Cell::Null => None,
                Cell::Text(text) => Some(text),
                Cell::UnchangedToast => old.and_then(|old| old.cells.get(position).copied().flatten()),
            };
            if let Some(slot) = cells.get_mut(position) {
                *slot = value;
            }
        }
        Self { cells }
    }

    /// The same of a table's child, whose oid stands at a position behind the columns.
    pub(super) fn of_child(mut self, child: Option<(usize, &'a [u8])>) -> Self {
        if let Some((position, oid)) = child {
            self.cells.resize(position, None);
            self.cells.push(Some(oid));
        }
        self
    }
}

/// An empty vector with the room of another, whose contents lived elsewhere (collecting in place keeps
/// the allocation).
pub(super) fn recycle<'a>(mut cells: Vec<Option<&[u8]>>) -> Vec<Option<&'a [u8]>> {
    cells.clear();
    cells.into_iter().map(|_| None).collect()
}
