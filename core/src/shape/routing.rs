//! What a change is for one shape, and where it goes.

use super::asked::Asked;
use super::encode::{Encoder, Outcome};
use super::id::ShapeId;
use super::router::RotationCause;
use super::table::{Joining, Route, RouteFilter, Row, Table};
use crate::Lsn;
use crate::log::item::ChangePosition;
use crate::pgoutput::{Cell, Tuple};

type Rows<'a> = (Option<&'a Row<'a>>, Option<&'a Row<'a>>);

/// Decides what a change is for one shape and has it encoded, or puts it among what Postgres is asked.
pub(super) fn route(
    table: &mut Table,
    id: ShapeId,
    (old, new): Rows<'_>,
    at: ChangePosition,
    encoder: &mut Encoder,
    asked: &mut Asked,
) -> Result<(), RotationCause> {
    let Some(route) = table.routes.get(&id) else { return Ok(()) };
    let judge = |row: Option<&Row<'_>>| {
        let judged = match (&route.filter, row) {
            (_, None) => Ok(Some(false)),
            (RouteFilter::Core(filter), Some(row)) => filter.evaluate(row),
            (RouteFilter::All | RouteFilter::Postgres(_), Some(_)) => Ok(Some(true)),
        };
        judged.map(|truth| truth == Some(true)).map_err(RotationCause::Unjudgeable)
    };
    if matches!(route.filter, RouteFilter::Postgres(_)) {
        asked.push(id, old, new, at);
        return Ok(());
    }
    let belongs = if route.admits(at) { [judge(old)?, judge(new)?] } else { [false, false] };
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
    let format = table.formats.get(route.format).expect("routes name formats of their table");
    let items = encoder.encode(route.format, &format.items, outcome, at);
    match &mut route.joining {
        Joining::Waiting(waiting) => encoder.items(items).try_for_each(|(op, bytes)| {
            waiting.push(at.lsn, at.xid, op, bytes).map_err(|_| RotationCause::SnapshotOverrun)
        }),
        Joining::Filtering(_) | Joining::Done => {
            encoder.target(items, id);
            Ok(())
        }
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
}

/// An empty vector with the room of another, whose contents lived elsewhere (collecting in place keeps
/// the allocation).
pub(super) fn recycle<'a>(mut cells: Vec<Option<&[u8]>>) -> Vec<Option<&'a [u8]>> {
    cells.clear();
    cells.into_iter().map(|_| None).collect()
}
