//! A random schema: tables with keys of every form, without a key, and in partitions.

use crate::kind::{DEFINITIONS, DISTINCT, KEY_KINDS, KINDS, Kind};
use limn_tests::Random;
use std::fmt::Write as _;

/// The tables of one seed.
#[derive(Debug)]
pub struct Schema {
    /// The last one is the wide table of big transactions, where there is one.
    pub tables: Vec<Table>,
}

/// One table.
#[derive(Debug)]
pub struct Table {
    /// As SQL and the parameter `table` spell it.
    pub name: String,
    /// Those of the key come anywhere among them.
    pub columns: Vec<Column>,
    /// How its rows are told apart.
    pub identity: Identity,
    /// Partitions of any level.
    pub partitions: Vec<String>,
    /// Children by INHERITS, whose keys are their own.
    pub children: Vec<String>,
    /// When its key is checked, where that is not with each row.
    pub deferrable: Option<&'static str>,
    /// Whether it holds the rows of big transactions.
    pub is_big: bool,
    /// What the writers do with it.
    pub writes: Writes,
}

/// What the writers do with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// Statements of every kind.
    All,
    /// They only add rows, or truncate it: Postgres would refuse an UPDATE or a DELETE.
    Inserts,
    /// Nothing: nothing in the stream leads the server to a change of its types.
    Nothing,
}

/// One column.
#[derive(Debug)]
pub struct Column {
    /// As SQL spells it.
    pub name: String,
    /// Its type.
    pub kind: &'static Kind,
    /// Whether it tells rows apart.
    pub is_key: bool,
    /// What Postgres makes its value of, where nobody writes it.
    pub generated: Option<&'static str>,
}

/// How rows are told apart.
#[derive(Debug, PartialEq, Eq)]
pub enum Identity {
    /// By a primary key.
    Key,
    /// By a column that no constraint holds distinct; only the writers do.
    Writers,
}

/// Names of tables; the second schema is created with them.
const NAMES: [&str; 5] = ["item", "other.\"Part/1\"", "\"Odd.Name\"", "note", "other.line"];

impl Schema {
    /// A schema with or without a table for big transactions.
    pub fn random(random: &mut Random, big: bool) -> Self {
        let count = 2 + index(random, 3);
        let mut tables: Vec<Table> =
            NAMES.iter().take(count).map(|name| Table::random(name, random)).collect();
        if big {
            tables.push(Table::big());
        }
        Self { tables }
    }

    /// Adds a table, before that of big transactions.
    pub fn add(&mut self, table: Table) {
        let at = self.tables.iter().position(|table| table.is_big).unwrap_or(self.tables.len());
        self.tables.insert(at, table);
    }

    /// The tables that only some seeds have.
    pub fn only_here(&self) -> Vec<usize> {
        let is_common = |table: &Table| NAMES.contains(&table.name.as_str()) || table.is_big;
        (0..self.tables.len()).filter(|&number| !is_common(&self.tables[number])).collect()
    }

    /// The number of a table.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|table| table.name == name)
    }

    /// The statements that make it. With `identities`, half of the tables have FULL; the server sets that of the others.
    pub fn ddl(&self, identities: bool, random: &mut Random) -> String {
        let mut ddl = format!("CREATE SCHEMA other; CREATE EXTENSION pg_walinspect; {DEFINITIONS};");
        for table in &self.tables {
            ddl += &table.ddl();
            if random.below(2) == 0 && identities {
                ddl += &table.full_identity();
            }
        }
        ddl
    }
}

impl Table {
    fn random(name: &str, random: &mut Random) -> Self {
        let mut columns: Vec<Column> = (0..3 + random.below(6))
            .map(|number| Column {
                name: column_name(number, random),
                kind: random.choice(KINDS),
                is_key: false,
                generated: None,
            })
            .collect();
        let form = random.below(10);
        let (identity, partitioned) = match form {
            0 | 1 => (Identity::Writers, false),
            2..=4 => (Identity::Key, true),
            _ => (Identity::Key, false),
        };
        let mut keys = match (&identity, partitioned, random.below(2)) {
            (Identity::Writers, ..) => vec![("u", DISTINCT)],
            // Partitions are made of both.
            (_, true, _) => vec![("region", text_key()), ("number", DISTINCT)],
            (_, _, 0) => vec![("id", random.choice(&KEY_KINDS[..5]))],
            _ => vec![("k1", random.choice(KEY_KINDS)), ("\"K 2\"", random.choice(&KEY_KINDS[..4]))],
        };
        for (name, kind) in keys.drain(..) {
            let at = index(random, columns.len() + 1);
            columns.insert(at, Column::new(name, kind, true));
        }
        let partitions = if partitioned { partitions(name, random) } else { Vec::new() };
        Self { identity, partitions, ..Self::of(name, columns) }
    }

    /// A table with a key, in one piece.
    pub fn of(name: &str, columns: Vec<Column>) -> Self {
        Self {
            name: name.to_owned(),
            columns,
            identity: Identity::Key,
            partitions: Vec::new(),
            children: Vec::new(),
            deferrable: None,
            is_big: false,
            writes: Writes::All,
        }
    }

    fn big() -> Self {
        let columns = vec![
            Column::new("id", DISTINCT, true),
            Column::new("n", DISTINCT, false),
            Column::new("t", text_key(), false),
        ];
        Self { is_big: true, ..Self::of("big", columns) }
    }

    /// The table, its partitions and its children.
    pub fn tree(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.name).chain(&self.partitions).chain(&self.children)
    }

    /// Those of them that hold rows.
    pub fn leaves(&self) -> Vec<&String> {
        let is_divided = |&(number, _): &(usize, &String)| match self.partitions.len() {
            0 => false,
            count => number == 0 || number == 2 && count > 2,
        };
        self.tree().enumerate().filter(|one| !is_divided(one)).map(|(_, name)| name).collect()
    }

    /// The columns that statements write.
    pub fn written(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.generated.is_none())
    }

    /// The columns that tell rows apart, in the key's order.
    pub fn key(&self) -> Vec<&Column> {
        let mut key: Vec<&Column> = self.columns.iter().filter(|column| column.is_key).collect();
        // Not the order of the columns.
        key.sort_by(|a, b| b.name.cmp(&a.name));
        key
    }

    /// Their names with commas between them.
    pub fn key_list(&self) -> String {
        self.key().iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn ddl(&self) -> String {
        let column = |column: &Column| {
            let not_null = if column.is_key { " NOT NULL" } else { "" };
            format!("{} {}{not_null} {}", column.name, column.kind.sql, column.generated.unwrap_or_default())
        };
        let mut parts: Vec<String> = self.columns.iter().map(column).collect();
        let key = format!("PRIMARY KEY ({}) {}", self.key_list(), self.deferrable.unwrap_or_default());
        if self.identity == Identity::Key {
            parts.push(key.clone());
        }
        let by = if self.partitions.is_empty() { "" } else { " PARTITION BY LIST (region)" };
        let mut ddl = format!("CREATE TABLE {} ({}){by};", self.name, parts.join(", "));
        for (number, partition) in self.partitions.iter().enumerate() {
            ddl += &self.partition_ddl(number, partition);
        }
        for child in &self.children {
            let _ = write!(ddl, "CREATE TABLE {child} ({key}) INHERITS ({});", self.name);
        }
        ddl
    }

    /// Statements that let it write its old rows whole.
    pub fn full_identity(&self) -> String {
        let tree = self.tree().map(|table| format!("ALTER TABLE ONLY {table} REPLICA IDENTITY FULL;"));
        tree.collect()
    }

    /// The first takes two regions, the second the rest; those behind them are parts of the second.
    fn partition_ddl(&self, number: usize, partition: &str) -> String {
        let below = if self.partitions.len() > 2 { " PARTITION BY HASH (number)" } else { "" };
        match number {
            0 => format!("CREATE TABLE {partition} PARTITION OF {} FOR VALUES IN ('eu', 'a/b');", self.name),
            1 => format!("CREATE TABLE {partition} PARTITION OF {} DEFAULT{below};", self.name),
            part => format!(
                "CREATE TABLE {partition} PARTITION OF {} FOR VALUES WITH (MODULUS 2, REMAINDER {});",
                self.partitions[1],
                part - 2
            ),
        }
    }
}

impl Column {
    /// A column that statements write.
    pub fn new(name: &str, kind: &'static Kind, is_key: bool) -> Self {
        Self { name: name.to_owned(), kind, is_key, generated: None }
    }
}

/// One level of partitions or two.
fn partitions(name: &str, random: &mut Random) -> Vec<String> {
    let count = *random.choice(&[2, 4]);
    (0..count).map(|number| format!("\"{}_{number}\"", name.replace(['"', '.'], ""))).collect()
}

/// Texts that tell rows apart.
pub fn text_key() -> &'static Kind {
    KEY_KINDS.iter().find(|kind| kind.sql == "text").expect("texts are keys")
}

fn column_name(number: u64, random: &mut Random) -> String {
    match random.below(8) {
        0 => format!("\"Col {number}\""),
        1 => format!("\"c/{number}\""),
        _ => format!("c{number}"),
    }
}

/// A number below `limit`, as an index.
pub fn index(random: &mut Random, limit: usize) -> usize {
    usize::try_from(random.below(limit as u64)).expect("it is below a length")
}
