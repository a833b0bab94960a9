//! The clauses that a table's shapes are judged by, each once: shapes with the same clause share its truth of a row.

use super::index::Side;
use super::row::Row;
use crate::filter::{EvalError, Filter};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The clauses of a table.
#[derive(Debug, Default)]
pub(super) struct Filters {
    places: HashMap<Text, FilterIndex>,
    slots: Vec<Option<Slot>>,
    /// Slots without a clause.
    free: Vec<FilterIndex>,
    /// The number of the change that is looked at.
    change: u64,
}

/// A clause's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FilterIndex(u32);

#[derive(Debug)]
struct Slot {
    filter: Arc<Filter>,
    shapes: u32,
    /// Its last result, kept for a clause that several shapes have.
    said: Option<Box<Said>>,
}

/// A clause's result for the rows of a change.
#[derive(Debug)]
struct Said {
    change: u64,
    truths: [Option<Truth>; 2],
}

type Truth = Result<Option<bool>, EvalError>;

/// A clause by its canonical text. The shapes of one table read the same columns by the same text.
#[derive(Debug)]
struct Text(Arc<Filter>);

impl Filters {
    /// Adds a shape's clause.
    pub(super) fn take(&mut self, filter: &Arc<Filter>) -> FilterIndex {
        if let Some(index) = self.places.get(filter.sql()).copied()
            && let Some(slot) = self.slot_mut(index)
        {
            slot.shapes += 1;
            slot.said.get_or_insert_with(|| Box::new(Said { change: 0, truths: [None, None] }));
            return index;
        }
        let slot = Some(Slot { filter: Arc::clone(filter), shapes: 1, said: None });
        let index = match self.free.pop() {
            Some(free) => {
                if let Some(room) = self.slots.get_mut(free.0 as usize) {
                    *room = slot;
                }
                free
            }
            None => {
                self.slots.push(slot);
                FilterIndex(u32::try_from(self.slots.len() - 1).expect("shapes have 32-bit numbers"))
            }
        };
        self.places.insert(Text(Arc::clone(filter)), index);
        index
    }

    /// Forgets a shape's clause; gives it back.
    pub(super) fn give_back(&mut self, index: FilterIndex) -> Option<Arc<Filter>> {
        let slot = self.slot_mut(index)?;
        slot.shapes -= 1;
        let filter = Arc::clone(&slot.filter);
        if slot.shapes == 0 {
            self.places.remove(filter.sql());
            *self.slots.get_mut(index.0 as usize)? = None;
            self.free.push(index);
        }
        Some(filter)
    }

    /// The clause.
    pub(super) fn get(&self, index: FilterIndex) -> Option<&Filter> {
        self.slots.get(index.0 as usize)?.as_ref().map(|slot| &*slot.filter)
    }

    /// Another change comes.
    pub(super) const fn begin_change(&mut self) {
        self.change += 1;
    }

    /// The truth of a row of the change.
    pub(super) fn evaluate(&mut self, index: FilterIndex, side: Side, row: &Row<'_>) -> Truth {
        let change = self.change;
        let Some(Slot { filter, said, .. }) = self.slot_mut(index) else { return Ok(None) };
        let Some(said) = said else { return filter.evaluate(row) };
        if said.change != change {
            **said = Said { change, truths: [None, None] };
        }
        let [old, new] = &mut said.truths;
        let truth = match side {
            Side::Old => old,
            Side::New => new,
        };
        *truth.get_or_insert_with(|| filter.evaluate(row))
    }

    fn slot_mut(&mut self, index: FilterIndex) -> Option<&mut Slot> {
        self.slots.get_mut(index.0 as usize)?.as_mut()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.0.sql()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.0.sql() == other.0.sql()
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.sql().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{COLUMNS, relation};
    use super::*;
    use std::collections::BTreeMap;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn filter(text: &str) -> Arc<Filter> {
        Arc::new(Filter::parse(text, &BTreeMap::new(), &relation().columns).expect(text))
    }

    fn row(n: &str) -> Row<'_> {
        Row { cells: COLUMNS.iter().map(|(name, _)| (*name == "n").then_some(n.as_bytes())).collect() }
    }

    #[test]
    fn a_clause_is_evaluated_once_for_all_that_have_it() {
        let mut filters = Filters::default();
        let (one, same) = (filters.take(&filter("n <> 1")), filters.take(&filter("1 <> n")));
        let alike = filters.take(&filter("n<>1"));
        assert!(one == alike && one != same);
        filters.begin_change();
        assert_eq!(filters.evaluate(one, Side::Old, &row("1")), Ok(Some(false)));
        assert_eq!(filters.evaluate(one, Side::New, &row("2")), Ok(Some(true)));
        // A row that is not of this change shows that nothing was evaluated again.
        assert_eq!(filters.evaluate(alike, Side::Old, &row("2")), Ok(Some(false)));
        assert_eq!(filters.evaluate(alike, Side::New, &row("1")), Ok(Some(true)));
        assert_eq!(filters.evaluate(same, Side::New, &row("1")), Ok(Some(false)));
        filters.begin_change();
        assert_eq!(filters.evaluate(alike, Side::Old, &row("2")), Ok(Some(true)));
    }

    #[test]
    fn a_clause_goes_with_its_last_shape() {
        let mut filters = Filters::default();
        let clause = filter("n <> 1");
        let index = filters.take(&clause);
        filters.take(&clause);
        assert!(filters.give_back(index).is_some() && filters.get(index).is_some());
        assert!(filters.give_back(index).is_some() && filters.get(index).is_none());
        assert!(filters.give_back(index).is_none() && filters.places.is_empty());
        assert_eq!(filters.take(&filter("n <> 2")), index, "its place is used again");
    }
}
