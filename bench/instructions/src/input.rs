//! A table, its rows, and changes of them as pgoutput sends them. All of it follows from the seed.

use limn_core::pg::{Collation, Column, QualifiedName, Relation, Row, Typing, oid};
use std::sync::Arc;

/// The table's oid.
const ITEMS: u32 = 16384;
const SEED: u64 = 0x6c69_6d6e;
/// Different tenants that rows have.
const TENANTS: u64 = 12_000;

/// Name, type and type name of each column; the first one is the key.
const COLUMNS: [(&str, u32, &str); 8] = [
    ("id", oid::INT4, "int4"),
    ("tenant", oid::INT4, "int4"),
    ("amount", oid::INT4, "int4"),
    ("code", oid::TEXT, "text"),
    ("title", oid::TEXT, "text"),
    ("price", oid::NUMERIC, "numeric"),
    ("done", oid::BOOL, "bool"),
    ("changed", oid::TIMESTAMPTZ, "timestamptz"),
];

/// Numbers that follow from a seed.
#[derive(Debug)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(SEED)
    }
}

impl Random {
    /// The next one, below `limit`.
    pub const fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// A row's cells in the table's order.
#[derive(Debug, Clone)]
pub struct Cells(Vec<Option<String>>);

impl Row for Cells {
    fn text(&self, column: usize) -> Option<&[u8]> {
        self.0.get(column)?.as_deref().map(str::as_bytes)
    }
}

impl Cells {
    /// A row with this key.
    pub fn random(random: &mut Random, id: u64) -> Self {
        let n = random.below(TENANTS);
        let of_word = random.below(4) == 0;
        let title = if of_word {
            format!("A title with word{n}X in it")
        } else {
            format!("a title of some \"length\", number {n}, as they are")
        };
        let cells = [
            Some(id.to_string()),
            Some(n.to_string()),
            Some(random.below(TENANTS * 10).to_string()),
            (random.below(8) > 0).then(|| format!("p{n}.code")),
            Some(title),
            Some(format!("{}.{:02}", random.below(1_000_000), random.below(100))),
            Some(if random.below(2) == 0 { "t" } else { "f" }.to_owned()),
            (random.below(4) > 0).then(|| format!("2026-03-{:02} 12:30:45.5+00", 1 + random.below(28))),
        ];
        Self(cells.to_vec())
    }

    /// The same row after an update of a few columns.
    pub fn changed(&self, random: &mut Random, id: u64) -> Self {
        let other = Self::random(random, id);
        let of_both = |(old, new): (&Option<String>, Option<String>)| {
            if random.below(3) == 0 { new } else { old.clone() }
        };
        Self(self.0.iter().zip(other.0).map(of_both).collect())
    }

    /// As a tuple of pgoutput.
    fn push_tuple(&self, frame: &mut Vec<u8>) {
        frame.extend((self.0.len() as u16).to_be_bytes());
        for cell in &self.0 {
            let Some(text) = cell else {
                frame.push(b'n');
                continue;
            };
            frame.push(b't');
            frame.extend((text.len() as u32).to_be_bytes());
            frame.extend(text.as_bytes());
        }
    }
}

/// The table, as the catalog tells it.
pub fn relation() -> Arc<Relation> {
    let column = |(index, (name, type_oid, type_name)): (usize, (&str, u32, &str))| Column {
        not_null: index == 0,
        pk_index: (index == 0).then_some(0),
        typing: Typing { collation: Collation::C, ..Typing::default() },
        ..Column::new(name, type_oid, type_name)
    };
    let columns = COLUMNS.into_iter().enumerate().map(column).collect();
    Arc::new(Relation::new(ITEMS, QualifiedName::new("public", "items"), columns))
}

/// Frames that begin the transaction with this commit LSN, and describe the table.
pub fn begin(commit: u64) -> Vec<Vec<u8>> {
    let mut described =
        [b"R", &ITEMS.to_be_bytes()[..], b"public\0items\0f", &(COLUMNS.len() as u16).to_be_bytes()].concat();
    for (name, type_oid, _) in COLUMNS {
        described.push(1);
        described.extend(name.as_bytes());
        described.push(0);
        described.extend(type_oid.to_be_bytes());
        described.extend((-1_i32).to_be_bytes());
    }
    vec![[b"B", &commit.to_be_bytes()[..], &[0; 8], &900_u32.to_be_bytes()].concat(), described]
}

/// The frame that ends it.
pub fn commit(commit: u64) -> Vec<u8> {
    [b"C\0", &commit.to_be_bytes()[..], &(commit + 8).to_be_bytes(), &[0; 8]].concat()
}

/// Frames of so many inserts, updates and deletes, of which more than half are updates.
pub fn changes(count: usize) -> Vec<Vec<u8>> {
    let mut random = Random::default();
    let mut frames = Vec::new();
    for id in 1..=count as u64 {
        let row = Cells::random(&mut random, id);
        let mut frame = Vec::new();
        let kind = random.below(8);
        frame.push(match kind {
            0 | 1 => b'I',
            2 => b'D',
            _ => b'U',
        });
        frame.extend(ITEMS.to_be_bytes());
        if kind < 2 {
            frame.push(b'N');
            row.push_tuple(&mut frame);
        } else {
            frame.push(b'O');
            row.push_tuple(&mut frame);
        }
        if kind > 2 {
            frame.push(b'N');
            row.changed(&mut random, id).push_tuple(&mut frame);
        }
        frames.push(frame);
    }
    frames
}
