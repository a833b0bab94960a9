//! Shapes with subqueries by what makes a row of their own table belong to them, so that a change of it is judged by
//! those alone that it may concern.
//!
//! A row belongs to such a shape where all terms of a disjunct are true. Of each disjunct one term is looked up: what the
//! filters beside the subqueries demand of the row, or a subquery that must return its value. The latter follows the
//! shape's view. A shape that holds changes back sees all of them, since it is not known yet by which view they are judged.

use super::member::push_cell;
use super::view::{View, ViewChange};
use crate::ShapeId;
use crate::filter::{Access, Condition, Equal, Filter, Position, SubqueryFilter};
use crate::pg::{Relation, Row as _};
use crate::shape::index::{Candidates, Find, Index, Side, Values};
use crate::shape::row::Row;
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The shapes of every table.
#[derive(Debug, Default)]
pub(super) struct OuterTables(HashMap<u32, Vec<(Arc<Relation>, OuterIndex)>>);

/// The shapes of one table.
#[derive(Debug, Default)]
pub(super) struct OuterIndex {
    /// By filters beside the subqueries.
    rows: Index,
    /// By members of their views.
    members: BTreeMap<Look, Values>,
    /// Those that nothing finds.
    scanned: BTreeSet<ShapeId>,
    /// Those that hold changes back.
    holding: BTreeSet<ShapeId>,
    /// Room for a value.
    value: Vec<u8>,
}

/// A value of a row that must be a member of a subquery's result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Look {
    /// The subquery's number in the shape's clause.
    dependency: usize,
    /// The columns that make the value, and how their texts become those of members.
    columns: Vec<(usize, Equal)>,
}

/// The places and the looks by which the rows of a shape are found.
struct Finding<'a> {
    access: Access<'a>,
    looks: BTreeSet<Look>,
}

impl OuterTables {
    /// The index of a table; made where there is none.
    pub(super) fn entry(&mut self, relation: &Arc<Relation>) -> &mut OuterIndex {
        let tables = self.0.entry(relation.oid).or_default();
        let known = tables.iter().position(|(known, _)| known == relation);
        let index = known.unwrap_or_else(|| {
            tables.push((Arc::clone(relation), OuterIndex::default()));
            tables.len() - 1
        });
        &mut tables.get_mut(index).expect("the index was just found").1
    }

    /// The index of a table that has shapes with subqueries.
    pub(super) fn get_mut(&mut self, relation: &Arc<Relation>) -> Option<&mut OuterIndex> {
        let tables = self.0.get_mut(&relation.oid)?;
        tables.iter_mut().find(|(known, _)| known == relation).map(|(_, index)| index)
    }

    /// Removes a shape.
    pub(super) fn remove(
        &mut self,
        relation: &Arc<Relation>,
        id: ShapeId,
        filter: &SubqueryFilter,
        views: &[View],
    ) {
        let Some(tables) = self.0.get_mut(&relation.oid) else { return };
        for (_, index) in tables.iter_mut().filter(|(known, _)| known == relation) {
            index.remove(id, filter, views);
        }
        tables.retain(|(_, index)| !index.is_empty());
        if tables.is_empty() {
            self.0.remove(&relation.oid);
        }
    }
}

impl OuterIndex {
    /// Adds a shape with its views, as one that holds changes back.
    pub(super) fn insert(&mut self, id: ShapeId, filter: &SubqueryFilter, views: &[View]) {
        self.holding.insert(id);
        let Some(finding) = Finding::of(filter) else {
            self.scanned.insert(id);
            return;
        };
        self.rows.insert(id, &finding.access);
        for look in finding.looks {
            let members = views.get(look.dependency).into_iter().flat_map(View::members);
            let values = self.members.entry(look).or_default();
            members.for_each(|member| values.insert(member.borrow(), id));
        }
    }

    fn remove(&mut self, id: ShapeId, filter: &SubqueryFilter, views: &[View]) {
        self.holding.remove(&id);
        self.scanned.remove(&id);
        let Some(finding) = Finding::of(filter) else { return };
        self.rows.remove(id, &finding.access);
        for look in finding.looks {
            let Some(values) = self.members.get_mut(&look) else { continue };
            let members = views.get(look.dependency).into_iter().flat_map(View::members);
            members.for_each(|member| values.remove(member.borrow(), id));
            if values.is_empty() {
                self.members.remove(&look);
            }
        }
    }

    /// A shape's views have changed.
    pub(super) fn apply(&mut self, id: ShapeId, filter: &SubqueryFilter, changes: &[ViewChange]) {
        if changes.iter().all(ViewChange::is_empty) {
            return;
        }
        for look in Finding::of(filter).map(|finding| finding.looks).unwrap_or_default() {
            let Some(change) = changes.get(look.dependency) else { continue };
            let values = self.members.entry(look).or_default();
            change.leave.iter().for_each(|member| values.remove(member.borrow(), id));
            change.enter.iter().for_each(|member| values.insert(member.borrow(), id));
        }
    }

    /// A shape begins to hold changes back, or ceases to.
    pub(super) fn set_holding(&mut self, id: ShapeId, holds: bool) {
        if holds {
            self.holding.insert(id);
        } else {
            self.holding.remove(&id);
        }
    }

    /// Collects the shapes that a change may concern, each once.
    pub(super) fn find(&mut self, old: Option<&Row<'_>>, new: Option<&Row<'_>>, out: &mut Candidates) {
        out.clear();
        for (look, values) in &self.members {
            for (side, row) in [(Side::Old, old), (Side::New, new)] {
                if row.is_some_and(|row| look.read(row, &mut self.value)) {
                    values.get(&self.value).for_each(|id| out.push(id, side, Find::There));
                }
            }
        }
        self.scanned.iter().chain(&self.holding).for_each(|id| out.push_unknown(*id));
        self.rows.find(old, new, out);
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.members.is_empty() && self.scanned.is_empty() && self.holding.is_empty()
    }
}

impl Look {
    /// Reads a row's value, as a member would be; false where a part of it is NULL, which is in no result.
    fn read(&self, row: &Row<'_>, out: &mut Vec<u8>) -> bool {
        out.clear();
        self.columns.iter().all(|(column, equal)| {
            let text = row.text(*column);
            text.inspect(|text| push_cell(out, Some(&equal.key(text)))).is_some()
        })
    }
}

impl<'a> Finding<'a> {
    /// `None` where a disjunct has no term that can be looked up.
    fn of(filter: &'a SubqueryFilter) -> Option<Self> {
        let (mut accesses, mut looks) = (Vec::new(), BTreeSet::new());
        for disjunct in filter.disjuncts() {
            let terms = filter.positions().get(disjunct.clone()).unwrap_or_default();
            let plain = Filter::access_of_all(terms.iter().filter_map(|term| match &term.condition {
                Condition::Plain(filter) => Some(&**filter),
                Condition::Member { .. } => None,
            }));
            let look = || terms.iter().find_map(|term| look(filter, term));
            match plain {
                Some(plain) if plain.is_selective() => accesses.push(plain),
                plain => match look() {
                    Some(look) => _ = looks.insert(look),
                    None => accesses.push(plain?),
                },
            }
        }
        let access = Access::any(accesses.into_iter().map(Some))?;
        Some(Self { access, looks })
    }
}

/// The look-up for a term that demands a member of a subquery's result.
fn look(filter: &SubqueryFilter, term: &Position) -> Option<Look> {
    let Condition::Member { dependency, columns } = &term.condition else { return None };
    let equalities = &filter.dependencies().get(*dependency)?.equalities;
    let equal = |place| equalities.get(place).copied().unwrap_or(Equal::Text);
    let columns = columns.iter().enumerate().map(|(place, column)| (*column, equal(place))).collect();
    (!term.negated).then_some(Look { dependency: *dependency, columns })
}

#[cfg(test)]
mod tests {
    use super::super::member::Member;
    use super::super::tests::definition;
    use super::*;
    use crate::filter::Clause;
    use crate::shape::dependent::judge::Judge;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const CLAUSES: [&str; 10] = [
        "parent IN (SELECT id FROM q WHERE on)",
        "parent NOT IN (SELECT id FROM q WHERE on)",
        "parent IN (SELECT id FROM q) AND note = 'a'",
        "parent IN (SELECT id FROM q) AND note > 'a'",
        "parent IN (SELECT id FROM q) OR id IN (SELECT id FROM q)",
        "parent IN (SELECT id FROM q) OR parent IN (SELECT id FROM q WHERE on)",
        "(parent, id) IN (SELECT id, id FROM q) OR note IS NULL",
        "parent IN (SELECT id FROM q) OR note <> 'a'",
        "NOT (parent IN (SELECT id FROM q) OR note = 'b')",
        "note = 'a' AND parent NOT IN (SELECT id FROM q)",
    ];
    const NUMBERS: [Option<&str>; 5] = [None, Some("1"), Some("2"), Some("3"), Some("4")];
    const NOTES: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("c")];

    struct Shape {
        judge: Judge,
        views: Vec<View>,
        holds: bool,
    }

    /// Numbers that look random.
    struct Random(u64);

    impl Random {
        fn of<T: Copy>(&mut self, list: &[T]) -> T {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            list[(self.0 >> 33) as usize % list.len()]
        }

        fn member(&mut self, columns: usize) -> Member {
            let cells: Vec<_> = (0..columns).map(|_| self.of(&NUMBERS)).collect();
            Member::new(cells.iter().map(|cell| cell.map(str::as_bytes)))
        }

        fn row(&mut self) -> Option<Row<'static>> {
            let cells = [self.of(&NUMBERS), self.of(&NUMBERS), self.of(&NOTES)];
            self.of(&[true, true, false])
                .then(|| Row { cells: cells.map(|cell| cell.map(str::as_bytes)).into() })
        }
    }

    fn shape(random: &mut Random) -> Shape {
        let Some(Clause::Subqueries(filter)) = definition(random.of(&CLAUSES)).filter else {
            panic!("each has a subquery")
        };
        let view = |columns: usize| (0..random.of(&[0, 1, 3])).map(|_| random.member(columns)).collect();
        let views =
            filter.dependencies().iter().map(|dependency| dependency.columns.len()).map(view).collect();
        Shape { judge: Judge::new(filter, ""), views, holds: random.of(&[true, false, false]) }
    }

    fn change(random: &mut Random, index: &mut OuterIndex, id: ShapeId, shape: &mut Shape) {
        let mut changes = Vec::new();
        for (view, dependency) in shape.views.iter_mut().zip(shape.judge.filter.dependencies()) {
            let coming = random.member(dependency.columns.len());
            let enter = if view.has(&coming) { Vec::new() } else { vec![coming] };
            let leave = view.members().filter(|_| random.of(&[true, false])).cloned().collect();
            changes.push(ViewChange { enter, leave });
            view.apply(&changes[changes.len() - 1]);
        }
        index.apply(id, &shape.judge.filter, &changes);
        shape.holds = random.of(&[true, false, false]);
        index.set_holding(id, shape.holds);
    }

    #[test]
    fn every_shape_is_found_to_which_a_row_belongs() {
        let (mut random, mut index) = (Random(1), OuterIndex::default());
        let (mut shapes, mut out) = (BTreeMap::<ShapeId, Shape>::new(), Candidates::default());
        let (mut found, mut looked) = (0, 0);
        for round in 0..4_000 {
            let id = ShapeId(random.of(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]));
            match (shapes.get_mut(&id), random.of(&[true, false, false])) {
                (Some(shape), false) => change(&mut random, &mut index, id, shape),
                (Some(shape), true) => {
                    index.remove(id, &shape.judge.filter, &shape.views);
                    shapes.remove(&id);
                }
                (None, _) => {
                    let shape = shape(&mut random);
                    index.insert(id, &shape.judge.filter, &shape.views);
                    index.set_holding(id, shape.holds);
                    shapes.insert(id, shape);
                }
            }
            let (old, new) = (random.row(), random.row());
            index.find(old.as_ref(), new.as_ref(), &mut out);
            let ids: Vec<ShapeId> = out.iter().map(|candidate| candidate.id).collect();
            assert!(ids.is_sorted_by(|one, next| one < next), "each once: {ids:?}");
            for (id, shape) in &shapes {
                let belongs = [&old, &new].into_iter().flatten().any(|row| {
                    let active = shape.judge.active(&shape.views, row).expect("these clauses never fail");
                    shape.judge.includes(active)
                });
                let is_found = ids.contains(id);
                assert!(
                    is_found || !(belongs || shape.holds),
                    "{} in round {round}",
                    shape.judge.filter.sql()
                );
                (found, looked) = (found + usize::from(is_found), looked + 1);
            }
            assert!(ids.iter().all(|id| shapes.contains_key(id)), "{ids:?}");
        }
        assert!(found * 4 < looked * 3, "{found} of {looked}");
        shapes.iter().for_each(|(id, shape)| index.remove(*id, &shape.judge.filter, &shape.views));
        assert!(index.is_empty());
    }
}
