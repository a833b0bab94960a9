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
    /// Whether it holds the rows of big transactions.
    pub is_big: bool,
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

    /// The statements that make it.
    pub fn ddl(&self, random: &mut Random) -> String {
        let mut ddl = format!("CREATE SCHEMA other; CREATE EXTENSION pg_walinspect; {DEFINITIONS};");
        for table in &self.tables {
            ddl += &table.ddl(random);
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
            columns.insert(at, Column { name: name.to_owned(), kind, is_key: true });
        }
        let partitions = if partitioned { partitions(name, random) } else { Vec::new() };
        Self { name: name.to_owned(), columns, identity, partitions, is_big: false }
    }

    fn big() -> Self {
        let column = |name: &str, kind: &'static Kind, is_key| Column { name: name.to_owned(), kind, is_key };
        let columns =
            vec![column("id", DISTINCT, true), column("n", DISTINCT, false), column("t", text_key(), false)];
        let identity = Identity::Key;
        Self { name: "big".to_owned(), columns, identity, partitions: Vec::new(), is_big: true }
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

    fn ddl(&self, random: &mut Random) -> String {
        let column = |column: &Column| {
            let not_null = if column.is_key { " NOT NULL" } else { "" };
            format!("{} {}{not_null}", column.name, column.kind.sql)
        };
        let mut parts: Vec<String> = self.columns.iter().map(column).collect();
        if self.identity == Identity::Key {
            parts.push(format!("PRIMARY KEY ({})", self.key_list()));
        }
        let by = if self.partitions.is_empty() { "" } else { " PARTITION BY LIST (region)" };
        let mut ddl = format!("CREATE TABLE {} ({}){by};", self.name, parts.join(", "));
        for (number, partition) in self.partitions.iter().enumerate() {
            ddl += &self.partition_ddl(number, partition);
        }
        // The server sets the identity of the others.
        if random.below(2) == 0 {
            for table in std::iter::once(&self.name).chain(&self.partitions) {
                let _ = write!(ddl, "ALTER TABLE {table} REPLICA IDENTITY FULL;");
            }
        }
        ddl
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

/// One level of partitions or two.
fn partitions(name: &str, random: &mut Random) -> Vec<String> {
    let count = *random.choice(&[2, 4]);
    (0..count).map(|number| format!("\"{}_{number}\"", name.replace(['"', '.'], ""))).collect()
}

fn text_key() -> &'static Kind {
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
