//! The index finds what evaluation of every shape finds: clauses of all families and their combinations, over changes of
//! rows, while shapes come and go. `LIMN_INDEX_CASES`, where it is set when the test is built, says how many changes.

mod clauses;
mod families;

use super::{Candidates, Find, Index};
use crate::ShapeId;
use crate::filter::{Access, Clause, Filter};
use crate::pg::{QualifiedName, Relation};
use crate::pgoutput::decode;
use crate::protocol::request::{LogMode, Replica};
use crate::shape::dependent::DependentState;
use crate::shape::row::Row;
use crate::shape::tests::{TABLE, begin, delete, describe, insert, nothing_running, update};
use crate::shape::{Definition, Projection, Router};
use clauses::{KINDS, Random, clause, columns};
use std::collections::BTreeMap;
use std::sync::Arc;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const CASES: usize = 2_500;
const SHAPES: usize = 120;
const LEVELS: usize = 3;

/// Said when the test is built: core reads no environment.
fn cases() -> usize {
    option_env!("LIMN_INDEX_CASES").and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

type Cells = Vec<Option<&'static str>>;

fn relation() -> Arc<Relation> {
    Arc::new(Relation::new(TABLE, QualifiedName::new("public", "t"), columns()))
}

fn definition(relation: &Arc<Relation>, clause: Clause) -> Definition {
    Definition {
        relation: Arc::clone(relation),
        projection: Arc::new(Projection { columns: (0..KINDS.len()).collect(), all: true }),
        filter: Some(clause),
        replica: Replica::Default,
        log_mode: LogMode::Full,
    }
}

/// What the shapes' filters say of a change, by evaluation.
fn expected(
    shapes: &BTreeMap<ShapeId, Arc<Filter>>,
    old: Option<&Cells>,
    new: Option<&Cells>,
) -> Vec<(ShapeId, &'static str)> {
    let belongs = |filter: &Filter, cells: Option<&Cells>| {
        let Some(cells) = cells else { return false };
        let row = row(cells);
        filter.evaluate(&row).unwrap_or_else(|error| panic!("{}: {error}", filter.sql())) == Some(true)
    };
    let operation = |filter: &Filter| match (belongs(filter, old), belongs(filter, new)) {
        (false, false) => None,
        (false, true) => Some("insert"),
        (true, false) => Some("delete"),
        (true, true) => Some("update"),
    };
    shapes.iter().filter_map(|(id, filter)| Some((*id, operation(filter)?))).collect()
}

fn restored(filter: &Filter, relation: &Relation) -> Arc<Filter> {
    Arc::new(Filter::restore(filter.sql(), &relation.columns).expect("it was written by core"))
}

/// A shape leaves the index by its clause read again.
fn assert_text_leads_to_the_same_places(filter: &Filter, relation: &Relation) {
    let (mut index, again) = (Index::default(), restored(filter, relation));
    let is_exact = |filter: &Filter| filter.access().map(|access| access.exact);
    assert_eq!(is_exact(filter), is_exact(&again), "{}", filter.sql());
    if let (Some(access), Some(again)) = (filter.access(), again.access()) {
        index.insert(ShapeId(1), &access);
        index.remove(ShapeId(1), &again);
        assert!(index.is_empty(), "{}", filter.sql());
    }
}

fn row(cells: &Cells) -> Row<'static> {
    Row { cells: cells.iter().map(|cell| cell.map(str::as_bytes)).collect() }
}

/// What the router made of the change.
fn routed(router: &mut Router) -> Vec<(ShapeId, &'static str)> {
    let mut routed = Vec::new();
    for item in router.fragment().items() {
        let text = String::from_utf8_lossy(item.bytes);
        let operation = ["insert", "update", "delete"]
            .into_iter()
            .find(|operation| text.contains(&format!("\"operation\":\"{operation}\"")));
        routed.extend(item.targets.iter().map(|id| (*id, operation.unwrap_or("?"))));
    }
    router.clear_fragment();
    routed.sort_unstable();
    routed
}

fn cells(random: &mut Random) -> Cells {
    let cell = |(index, kind): (usize, &clauses::Kind)| {
        (index == 0 || random.below(8) > 0).then(|| random.of(kind.4))
    };
    KINDS.iter().enumerate().map(cell).collect()
}

/// The row with some other values.
fn changed(random: &mut Random, old: &Cells) -> Cells {
    let other = cells(random);
    let mut new = old.clone();
    for (cell, other) in new.iter_mut().zip(other) {
        if random.below(4) == 0 {
            *cell = other;
        }
    }
    if new == *old {
        new[1] = if old[1] == Some("1") { Some("2") } else { Some("1") };
    }
    new
}

/// How many clauses there were of each kind.
#[derive(Debug, Default)]
struct Counts {
    exact: usize,
    inexact: usize,
    scanned: usize,
    beyond_core: usize,
    found: usize,
}

impl Counts {
    /// A clause that core evaluates.
    fn next(&mut self, random: &mut Random, relation: &Relation) -> Arc<Filter> {
        loop {
            let text = clause(random, LEVELS);
            match Clause::parse(&text, &BTreeMap::new(), relation, &[]) {
                Ok(Clause::Plain(filter)) => {
                    match filter.access() {
                        Some(Access { exact: true, .. }) => self.exact += 1,
                        Some(_) => self.inexact += 1,
                        None => self.scanned += 1,
                    }
                    return filter;
                }
                Ok(_) => self.beyond_core += 1,
                Err(error) => {
                    assert!(!error.to_string().contains("syntax"), "{text}: {error}");
                    self.beyond_core += 1;
                }
            }
        }
    }
}

#[test]
fn the_index_finds_what_evaluation_finds() {
    let cases = cases();
    let relation = relation();
    let (mut router, mut counts) = (Router::default(), Counts::default());
    let mut shapes = BTreeMap::<ShapeId, Arc<Filter>>::new();
    let mut random = Random(20_240_229);
    let described: Vec<(&str, u32)> = KINDS.iter().map(|kind| (kind.0, kind.1)).collect();
    let feed = |router: &mut Router, frame: &[u8]| {
        router.handle_message(&decode(frame).expect("a frame")).expect("the stream keeps its rules");
    };
    feed(&mut router, &begin(100, 900));
    feed(&mut router, &describe(&described));
    for case in 0..cases {
        // One comes and one goes; at times many do.
        let coming = if case % 500 == 0 { SHAPES } else { 1 };
        for number in 0..coming {
            let filter = match shapes.values().next() {
                // A clause that another shape has too, read anew.
                Some(known) if random.below(8) == 0 => restored(known, &relation),
                _ => counts.next(&mut random, &relation),
            };
            let id = ShapeId(u32::try_from(case * 2 + number + 1).expect("few cases"));
            if shapes.insert(id, Arc::clone(&filter)).is_some() {
                router.remove(id);
            }
            assert_text_leads_to_the_same_places(&filter, &relation);
            let definition = definition(&relation, Clause::Plain(filter));
            let definition = if id.0.is_multiple_of(2) { definition.at_rest() } else { definition };
            router.add_restored(id, &definition, "", nothing_running(), DependentState::default());
        }
        while shapes.len() > SHAPES || (case % 500 == 499 && shapes.len() > 3) {
            let keys: Vec<ShapeId> = shapes.keys().copied().collect();
            let going = random.of(&keys);
            shapes.remove(&going);
            router.remove(going);
        }
        let old = cells(&mut random);
        let new = changed(&mut random, &old);
        let (old, new, frame) = match random.below(4) {
            0 => (None, Some(&new), insert(&new)),
            1 => (Some(&old), None, delete(&old)),
            _ => (Some(&old), Some(&new), update(&old, &new)),
        };
        feed(&mut router, &frame);
        let expected = expected(&shapes, old, new);
        let routed = routed(&mut router);
        counts.found += expected.len();
        if routed != expected {
            let differs = expected
                .iter()
                .chain(&routed)
                .filter(|one| !(expected.contains(one) && routed.contains(one)));
            let clauses: Vec<_> = differs.map(|(id, what)| (what, shapes[id].sql())).collect();
            panic!("case {case}: {old:?} to {new:?}: expected {expected:?}, routed {routed:?}: {clauses:#?}");
        }
        assert_eq!(router.take_rotations(), [], "case {case}");
    }
    let all = counts.exact + counts.inexact + counts.scanned;
    assert!(counts.found > cases * 5 && counts.scanned * 2 < all && counts.exact * 4 > all, "{counts:?}");
}
