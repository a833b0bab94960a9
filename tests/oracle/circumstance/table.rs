//! Tables that only some seeds have.

use super::Circumstance;
use super::standing::{Standing, World};
use crate::kind::{BOOLEAN_KEY, DISTINCT};
use crate::run::Run;
use crate::schema::{Column, Table, Writes, text_key};
use limn_tests::Random;

/// The table with generated columns.
const DERIVED: &str = "derived";

/// The column that is generated.
const MADE: &str = "made";

/// A table whose key is checked at the end of a statement or of the transaction; of one column, of two, or in partitions.
pub fn deferrable(random: &mut Random) -> Table {
    let mut columns = vec![Column::new("id", DISTINCT, true), Column::new("v", text_key(), false)];
    let mut partitions = Vec::new();
    match random.below(3) {
        0 => columns.push(Column::new("part", BOOLEAN_KEY, true)),
        1 => {
            columns.push(Column::new("region", text_key(), true));
            partitions = (0..2).map(|number| format!("shifted_{number}")).collect();
        }
        _ => {}
    }
    let when = *random.choice(&["DEFERRABLE INITIALLY IMMEDIATE", "DEFERRABLE INITIALLY DEFERRED"]);
    Table { deferrable: Some(when), partitions, ..Table::of("shifted", columns) }
}

/// A parent and a child that give the same keys.
pub fn family(random: &mut Random) -> Table {
    let mut columns = vec![Column::new("id", DISTINCT, true), Column::new("v", text_key(), false)];
    if random.below(2) == 0 {
        columns.push(Column::new("flag", BOOLEAN_KEY, true));
    }
    Table { children: vec!["family_child".to_owned()], ..Table::of("family", columns) }
}

/// A table with a generated column of either kind.
pub fn derived(world: &World, random: &mut Random) -> Table {
    let kinds: &[&str] = match world.version {
        18.. => &["GENERATED ALWAYS AS (n % 5) STORED", "GENERATED ALWAYS AS (n % 5) VIRTUAL"],
        _ => &["GENERATED ALWAYS AS (n % 5) STORED"],
    };
    let made = Column { generated: Some(*random.choice(kinds)), ..Column::new(MADE, DISTINCT, false) };
    let columns = vec![
        Column::new("id", DISTINCT, true),
        made,
        Column::new("n", DISTINCT, false),
        Column::new("v", text_key(), false),
    ];
    // A publication that somebody makes by hand leaves generated columns out: from 18 on Postgres then refuses updates
    // where the identity is FULL.
    let is_left_out = world.version >= 18 && world.has(Circumstance::Manual);
    let writes = if is_left_out { Writes::Inserts } else { Writes::All };
    Table { writes, ..Table::of(DERIVED, columns) }
}

/// What the stream does not carry may be refused: the column itself, or the table where no update could be written with it.
pub fn stand(run: &Run) {
    let schema = &run.schema;
    let number = schema.number(DERIVED).expect("it was added");
    let column = schema.tables[number].columns.iter().find(|column| column.name == MADE).expect("it has one");
    let is_virtual = column.generated.is_some_and(|how| how.ends_with("VIRTUAL"));
    let is_manual = run.world.has(Circumstance::Manual);
    let is_carried = run.world.version >= 18 && !is_virtual && !is_manual;
    let mut standing = Standing::new("a generated column", [number], &["generated", MADE]);
    standing.column = (!is_virtual || is_manual).then(|| MADE.to_owned());
    if !is_carried {
        run.world.begin(standing);
    }
}

/// A table in partitions, to which others come.
pub fn sorted() -> Table {
    let columns = vec![
        Column::new("region", text_key(), true),
        Column::new("number", DISTINCT, true),
        Column::new("v", text_key(), false),
    ];
    Table { partitions: vec!["sorted_0".to_owned(), "sorted_1".to_owned()], ..Table::of("sorted", columns) }
}

/// A table of its own, to which children come.
pub fn kept() -> Table {
    Table::of("kept", vec![Column::new("id", DISTINCT, true), Column::new("v", text_key(), false)])
}
