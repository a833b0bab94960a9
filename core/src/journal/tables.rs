//! The tables of a commit log: each is described once, and named by its number from then on. Shapes of one table share
//! its description, on the disk and in memory.

use crate::pg::Relation;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A table as a record names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TableRef {
    /// By the number of a description that came before.
    Number(u32),
    /// By its description, as older versions did.
    Described(Box<Relation>),
}

/// The description of a table, and its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTable {
    /// The number by which later records name it.
    pub number: u32,
    /// The table.
    pub relation: Relation,
}

/// Tables that were described.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    by_number: BTreeMap<u32, Arc<Relation>>,
    /// The numbers of each `pg_class.oid`: a table that was altered is another one.
    by_oid: BTreeSet<(u32, u32)>,
    next: u32,
}

impl Tables {
    /// The number of a table; and, where it has none yet, the description that has to be written before the number is
    /// used.
    pub fn refer(&mut self, relation: &Arc<Relation>) -> (u32, Option<StoredTable>) {
        if let Some(number) = self.number(relation) {
            return (number, None);
        }
        let number = self.next;
        self.add(number, Arc::clone(relation));
        (number, Some(StoredTable { number, relation: relation.as_ref().clone() }))
    }

    /// The number of a table that has one.
    #[must_use]
    pub fn number(&self, relation: &Arc<Relation>) -> Option<u32> {
        let numbers = self.by_oid.range((relation.oid, 0)..=(relation.oid, u32::MAX));
        let is_it = |number: &u32| {
            let known = self.by_number.get(number);
            known.is_some_and(|known| Arc::ptr_eq(known, relation) || known == relation)
        };
        numbers.map(|(_, number)| *number).find(is_it)
    }

    /// Takes a description from a record.
    pub fn handle_stored(&mut self, StoredTable { number, relation }: StoredTable) {
        if let Some(before) = self.by_number.remove(&number) {
            self.by_oid.remove(&(before.oid, number));
        }
        self.add(number, Arc::new(relation));
    }

    /// The table that a record names; `None` where no record has described it.
    pub fn resolve(&mut self, named: TableRef) -> Option<Arc<Relation>> {
        let number = match named {
            TableRef::Number(number) => number,
            TableRef::Described(relation) => self.refer(&Arc::new(*relation)).0,
        };
        self.by_number.get(&number).cloned()
    }

    /// Forgets the tables that nobody else holds.
    pub fn forget_unused(&mut self) {
        let Self { by_number, by_oid, .. } = self;
        by_number.retain(|number, relation| {
            let is_used = Arc::strong_count(relation) > 1;
            if !is_used {
                by_oid.remove(&(relation.oid, *number));
            }
            is_used
        });
    }

    /// All of them, as a record describes them.
    pub fn stored(&self) -> impl Iterator<Item = StoredTable> {
        let stored = |(number, relation): (&u32, &Arc<Relation>)| StoredTable {
            number: *number,
            relation: relation.as_ref().clone(),
        };
        self.by_number.iter().map(stored)
    }

    fn add(&mut self, number: u32, relation: Arc<Relation>) {
        self.by_oid.insert((relation.oid, number));
        self.by_number.insert(number, relation);
        self.next = self.next.max(number + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::{Column, QualifiedName, oid};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn relation(oid: u32, columns: usize) -> Relation {
        let column = |index| Column::new(format!("c{index}"), oid::TEXT, "text");
        Relation::new(oid, QualifiedName::new("public", "t"), (0..columns).map(column).collect())
    }

    #[test]
    fn a_table_is_described_once() {
        let mut tables = Tables::default();
        let first = Arc::new(relation(1, 1));
        let (number, described) = tables.refer(&first);
        assert_eq!(described, Some(StoredTable { number, relation: relation(1, 1) }));
        assert_eq!(tables.refer(&Arc::new(relation(1, 1))), (number, None), "an equal one is the same");
        let (altered, described) = tables.refer(&Arc::new(relation(1, 2)));
        assert!(described.is_some() && altered != number);
        assert_ne!(tables.refer(&Arc::new(relation(2, 1))).0, number);
    }

    #[test]
    fn the_reader_has_the_tables_of_the_writer_and_one_copy_of_each() {
        let (mut writer, mut reader) = (Tables::default(), Tables::default());
        let (number, described) = writer.refer(&Arc::new(relation(1, 1)));
        reader.handle_stored(described.unwrap());
        let read = reader.resolve(TableRef::Number(number)).unwrap();
        assert_eq!(*read, relation(1, 1));
        let of_older_version = reader.resolve(TableRef::Described(Box::new(relation(1, 1)))).unwrap();
        assert!(Arc::ptr_eq(&read, &of_older_version));
        assert_eq!(reader.resolve(TableRef::Number(number + 1)), None);
    }

    #[test]
    fn a_number_that_is_described_anew_means_the_new_table() {
        let mut tables = Tables::default();
        let before = tables.resolve(TableRef::Described(Box::new(relation(1, 1)))).unwrap();
        let number = tables.number(&before).unwrap();
        tables.handle_stored(StoredTable { number, relation: relation(2, 1) });
        assert_eq!(tables.number(&before), None);
        assert_eq!(*tables.resolve(TableRef::Number(number)).unwrap(), relation(2, 1));
    }

    #[test]
    fn an_unused_table_is_forgotten_and_its_number_is_not_given_again() {
        let mut tables = Tables::default();
        let (kept, gone) = (Arc::new(relation(1, 1)), Arc::new(relation(2, 1)));
        let numbers = [&kept, &gone].map(|relation| tables.refer(relation).0);
        drop(gone);
        tables.forget_unused();
        let stored: Vec<u32> = tables.stored().map(|table| table.number).collect();
        assert_eq!(stored, [numbers[0]]);
        let (again, described) = tables.refer(&Arc::new(relation(2, 1)));
        assert!(described.is_some() && !numbers.contains(&again));
    }

    #[test]
    fn a_record_names_a_table_by_number_or_by_description() {
        let text = |named: &TableRef| serde_json::to_string(named).unwrap();
        let described = TableRef::Described(Box::new(relation(7, 2)));
        assert_eq!(text(&TableRef::Number(7)), "7");
        assert_eq!(text(&described), serde_json::to_string(&relation(7, 2)).unwrap());
        for named in [TableRef::Number(7), described] {
            assert_eq!(serde_json::from_str::<TableRef>(&text(&named)).unwrap(), named);
        }
    }
}
