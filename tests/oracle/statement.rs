//! Random statements. Some of them fail, because others were there first: that is what savepoints are for.

use crate::kind::KINDS;
use crate::schema::{Column, Identity, Table, Writes, index};
use crate::shape::clause;
use crate::state::EXTRA;
use limn_tests::Random;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers for rows that no key holds distinct.
static DISTINCT: AtomicU64 = AtomicU64::new(1);

/// How many rows a statement on small tables changes at most.
const ROWS_MAX: u64 = 4;

/// Inserts `rows` rows, leaving out those whose key is taken.
pub fn insert(table: &Table, rows: u64, random: &mut Random) -> String {
    let rows: Vec<String> = (0..rows).map(|_| row(table, random)).collect();
    let columns: Vec<&str> = table.written().map(|column| column.name.as_str()).collect();
    let into = match table.children.as_slice() {
        children @ [_, ..] if random.below(2) == 0 => random.choice(children),
        _ => &table.name,
    };
    let into = format!("INSERT INTO {into} ({}) VALUES {}", columns.join(", "), rows.join(", "));
    match &table.identity {
        Identity::Key if table.deferrable.is_none() => into + " ON CONFLICT DO NOTHING",
        // The rows that are there already keep them out.
        _ => into,
    }
}

/// A change of some rows of a small table.
pub fn change(table: &Table, random: &mut Random) -> String {
    if table.writes == Writes::Inserts {
        let rows = 1 + random.below(ROWS_MAX);
        return insert(table, rows, random);
    }
    if table.deferrable.is_some() && random.below(3) == 0 {
        return shift_keys(table, random);
    }
    match random.below(20) {
        0..=6 => {
            let rows = 1 + random.below(ROWS_MAX);
            insert(table, rows, random)
        }
        7 if table.identity == Identity::Key && table.deferrable.is_none() => upsert(table, random),
        8..=12 => format!(
            "UPDATE {} SET {} WHERE {}",
            table.name,
            assignments(table, random),
            some_rows(table, random)
        ),
        13 => format!(
            "UPDATE {} SET {} WHERE {}",
            table.name,
            assignments(table, random),
            clause(table, 1, random)
        ),
        14 | 15 => move_key(table, random),
        16 => {
            // Nothing changes.
            let columns: Vec<&Column> = table.written().collect();
            let column = &random.choice(&columns).name;
            format!("UPDATE {} SET {column} = {column} WHERE {}", table.name, some_rows(table, random))
        }
        17 if !table.partitions.is_empty() => {
            let partition = random.choice(&table.partitions);
            format!("DELETE FROM {partition} WHERE {}", some_rows(table, random))
        }
        _ => format!("DELETE FROM {} WHERE {}", table.name, some_rows(table, random)),
    }
}

/// A statement on the table of big transactions.
pub fn big_change(table: &Table, random: &mut Random) -> String {
    let name = &table.name;
    match random.below(6) {
        0..=2 => {
            let (from, count) = (random.below(20) * 1000, 10_000 + random.below(40_001));
            format!(
                "INSERT INTO {name} (id, n, t) SELECT i, i % 97, 'row ' || i FROM generate_series({from}, {from} + {count}) i
                 ON CONFLICT DO NOTHING"
            )
        }
        3 => format!("UPDATE {name} SET n = n + 1 WHERE id % {} = 0", 2 + random.below(3)),
        4 => format!("UPDATE {name} SET id = -id - 1 WHERE id % 50 = 0 AND id > 0"),
        _ => format!("DELETE FROM {name} WHERE id % {} <> 0", 3 + random.below(40)),
    }
}

/// Ends what the table has of big transactions, else every later one is slower.
pub fn shrink(table: &Table) -> String {
    format!("DELETE FROM {} WHERE id % 1000 <> 0", table.name)
}

/// `TRUNCATE` of the table or of one of its partitions.
pub fn truncate(table: &Table, random: &mut Random) -> String {
    match table.partitions.as_slice() {
        partitions @ [_, ..] if random.below(2) == 0 => format!("TRUNCATE {}", random.choice(partitions)),
        _ => format!("TRUNCATE {}", table.name),
    }
}

/// Adds a column of a new name.
pub fn add_column(table: &Table, random: &mut Random) -> String {
    let (name, kind) = (DISTINCT.fetch_add(1, Ordering::Relaxed), random.choice(KINDS));
    let default = match random.below(2) {
        0 => format!(" DEFAULT {}", kind.constant(false, random)),
        _ => String::new(),
    };
    format!("ALTER TABLE {} ADD COLUMN {EXTRA}{name} {}{default}", table.name, kind.sql)
}

fn row(table: &Table, random: &mut Random) -> String {
    let cells: Vec<String> = table.written().map(|column| cell(table, column, random)).collect();
    format!("({})", cells.join(", "))
}

fn cell(table: &Table, column: &Column, random: &mut Random) -> String {
    match (column.is_key, &table.identity) {
        (false, _) => column.kind.nullable(random),
        (true, Identity::Writers) => DISTINCT.fetch_add(1, Ordering::Relaxed).to_string(),
        (true, Identity::Key) if column.name == "region" => region(random),
        (true, Identity::Key) => column.kind.key_value(random),
    }
}

/// Spread over the partitions.
fn region(random: &mut Random) -> String {
    (*random.choice(&["'eu'", "'a/b'", "'us'", "'ap'", "''"])).to_owned()
}

fn upsert(table: &Table, random: &mut Random) -> String {
    let others: Vec<&str> =
        table.written().filter(|column| !column.is_key).map(|column| column.name.as_str()).collect();
    let column = random.choice(&others);
    let insert = insert(table, 1, random).replace(" ON CONFLICT DO NOTHING", "");
    format!("{insert} ON CONFLICT ({}) DO UPDATE SET {column} = excluded.{column}", table.key_list())
}

fn assignments(table: &Table, random: &mut Random) -> String {
    let others: Vec<&Column> = table.written().filter(|column| !column.is_key).collect();
    let first = index(random, others.len());
    let count = 1 + index(random, 2.min(others.len()));
    let chosen = (0..count).map(|next| others[(first + next) % others.len()]);
    let set = chosen.map(|column| format!("{} = {}", column.name, column.kind.nullable(random)));
    // A column may be set only once.
    let mut set: Vec<String> = set.collect();
    set.dedup_by(|a, b| a.split(" = ").next() == b.split(" = ").next());
    set.join(", ")
}

/// Gives one row another key; it fails where that is taken.
fn move_key(table: &Table, random: &mut Random) -> String {
    let key = table.key();
    let column = random.choice(&key);
    let value = cell(table, column, random);
    format!("UPDATE {} SET {} = {value} WHERE {}", table.name, column.name, rows_by_key(table, 1, random))
}

/// Moves all keys, swaps two, or lets two rows hold one for a while.
fn shift_keys(table: &Table, random: &mut Random) -> String {
    let (name, one, two) = (&table.name, random.below(6), random.below(6));
    let key = table.key();
    let number =
        &key.iter().find(|column| column.kind.sql == "int4").expect("deferrable keys have a number").name;
    match random.below(4) {
        0 => format!("UPDATE {name} SET {number} = {number} + 1"),
        1 => format!("UPDATE {name} SET {number} = {number} - 1 WHERE {number} > {one}"),
        2 => format!(
            "UPDATE {name} SET {number} = CASE {number} WHEN {one} THEN {two} ELSE {one} END WHERE {number} IN ({one}, {two})"
        ),
        _ => format!("UPDATE {name} SET {number} = {one} - {number}"),
    }
}

fn some_rows(table: &Table, random: &mut Random) -> String {
    let rows = 1 + random.below(ROWS_MAX - 1);
    rows_by_key(table, rows, random)
}

fn rows_by_key(table: &Table, rows: u64, random: &mut Random) -> String {
    let (keys, salt) = (table.key_list(), random.below(1000));
    format!(
        "({keys}) IN (SELECT {keys} FROM {} ORDER BY md5(concat({salt}, {keys})) LIMIT {rows})",
        table.name
    )
}
