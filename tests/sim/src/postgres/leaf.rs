//! Where rows lie: the first table is one by itself, the second is partitioned by its key. The stream speaks of
//! partitions only; the catalog says whose they are.

use super::{COLUMNS, TABLES};
use limn_core::shape::Described;

/// A table that holds rows.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) oid: u32,
    pub(super) name: &'static str,
    /// Its columns in its own order, which need not be that of the table above.
    pub(super) columns: [usize; COLUMNS.len()],
    table: usize,
}

/// All of them.
pub(super) const LEAVES: [Leaf; 3] = [
    Leaf { oid: TABLES[0], name: "items", columns: [0, 1, 2], table: 0 },
    Leaf { oid: TABLES[1] + 1, name: "others_even", columns: [0, 1, 2], table: 1 },
    Leaf { oid: TABLES[1] + 2, name: "others_odd", columns: [2, 0, 1], table: 1 },
];

/// The leaf that holds the row of a key.
pub(super) fn leaf_of(table: usize, key: u64) -> usize {
    let leaves: Vec<usize> = leaves_of(table).collect();
    leaves[key as usize % leaves.len()]
}

/// The leaves of a table.
pub(super) fn leaves_of(table: usize) -> impl Iterator<Item = usize> {
    LEAVES.iter().enumerate().filter(move |(_, leaf)| leaf.table == table).map(|(index, _)| index)
}

/// What the catalog says of a relation of the stream.
#[must_use]
pub fn described(oid: u32) -> Described {
    let leaf = LEAVES.iter().find(|leaf| leaf.oid == oid && leaf.oid != TABLES[leaf.table]);
    let ancestors: Vec<u32> = leaf.map(|leaf| TABLES[leaf.table]).into_iter().collect();
    Described { is_partition: !ancestors.is_empty(), ancestors, key_always_unique: true }
}
