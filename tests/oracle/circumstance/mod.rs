//! What the databases of other people have: each seed draws some of it, and it decides which refusals are right.

pub mod application;
mod changing_types;
mod hold;
mod publications;
mod role;
mod row_security;
mod standing;
mod stray;
mod table;

use crate::run::Run;
use crate::schema::{Schema, Table};
use limn_tests::{Client, Random};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use role::login;
pub use standing::{Outcome, Verdict, World};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(30);

/// Within this time a server must have noticed what no stream tells.
pub const NOTICED_WITHIN: Duration = Duration::from_secs(6);

/// One thing that a database may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Circumstance {
    /// A table whose key is DEFERRABLE: whole ranges of keys are shifted and swapped.
    Deferrable,
    /// A parent and a child by INHERITS whose keys are equal.
    Inherits,
    /// Generated columns, STORED and, where Postgres knows them, VIRTUAL.
    Generated,
    /// Enums, domains and composites that change.
    Types,
    /// Other publications, with lists of columns, filters and schemas.
    Publications,
    /// Unlogged and foreign partitions and children that come and go.
    Strays,
    /// The server's role owns the tables, has few rights otherwise, and settings of its own.
    Role,
    /// The same, and row-level security.
    RowSecurity,
    /// Tables are published by hand, and partitions come without an identity.
    Manual,
    /// A transaction of another database that does not end.
    OtherDatabase,
    /// Prepared transactions.
    Prepared,
    /// Somebody reads all tables for seconds.
    Dump,
}

use Circumstance::{
    Deferrable, Dump, Generated, Inherits, Manual, OtherDatabase, Prepared, Publications, Role, RowSecurity,
    Strays, Types,
};

const ALL: &[Circumstance] = &[
    Deferrable,
    Inherits,
    Generated,
    Types,
    Publications,
    Strays,
    Role,
    RowSecurity,
    Manual,
    OtherDatabase,
    Prepared,
    Dump,
];

/// Those that stay as they are, so that a crash of Postgres in the middle changes nothing about them.
const STEADY: &[Circumstance] = &[Deferrable, Inherits, Generated, Publications, Role, RowSecurity, Dump];

/// A seed of so many has nothing of all this.
const PLAIN_ONE_OF: u64 = 4;

/// The choices of a seed that are about its world have a sequence of their own.
const SALT: u64 = 0x776f_726c_6473;

impl Circumstance {
    /// What a seed draws.
    pub fn draw(seed: u64, with_faults: bool) -> BTreeSet<Self> {
        let mut random = Random::new(seed ^ SALT);
        if random.below(PLAIN_ONE_OF) == 0 {
            return BTreeSet::new();
        }
        let choices = if with_faults { STEADY } else { ALL };
        (0..1 + random.below(3)).map(|_| *random.choice(choices)).collect()
    }

    /// Whether other seeds must not share its Postgres: it holds what new slots wait for.
    pub fn needs_cluster(circumstances: &BTreeSet<Self>) -> bool {
        circumstances.contains(&OtherDatabase) || circumstances.contains(&Prepared)
    }
}

/// Adds the tables that the circumstances are about.
pub fn extend(schema: &mut Schema, world: &World, random: &mut Random) {
    let mut tables = Vec::new();
    for circumstance in &world.circumstances {
        match circumstance {
            Deferrable => tables.push(table::deferrable(random)),
            Inherits => tables.push(table::family(random)),
            Generated => tables.push(table::derived(world, random)),
            Types => tables.extend([changing_types::table(), changing_types::settled()]),
            _ if tables.iter().any(|table: &Table| table.name == "sorted") => {}
            Strays | Manual => tables.extend([table::sorted(), table::kept()]),
            _ => {}
        }
    }
    for table in tables {
        schema.add(table);
    }
}

/// Statements that make what is there before the server starts.
pub fn ddl(run: &Run, random: &mut Random) -> String {
    let mut ddl = String::new();
    if run.world.has(Strays) {
        ddl += stray::DEFINITIONS;
    }
    if run.world.has(Role) || run.world.has(RowSecurity) {
        ddl += &role::ddl(run, random);
    }
    // It belongs to that role.
    if run.world.has(Manual) {
        ddl += &publications::by_hand(run);
    }
    ddl
}

/// Lets happen what has begun before the first client asks; the server runs.
pub async fn begin(run: &Arc<Run>, random: &mut Random) {
    if run.world.has(Generated) {
        table::stand(run);
    }
    if run.world.has(OtherDatabase) {
        hold::other_database(run).await;
    }
    if run.world.has(Publications) {
        publications::begin(run, random).await;
    }
    if run.world.has(RowSecurity) {
        row_security::begin(run, random).await;
    }
}

/// Lets happen what comes and goes; returns when all of it has gone.
pub async fn play(run: Arc<Run>, client: Client, mut random: Random) {
    let mut next = || Random::new(random.below(u64::MAX));
    let (one, two, three, four, five, six) = (next(), next(), next(), next(), next(), next());
    let has = |circumstance| run.world.has(circumstance);
    // Whether a publication came or went just before a crash of Postgres, its session could not tell.
    let publications_change = has(Publications) && !run.has_faults;
    tokio::join!(
        only_if(publications_change, publications::play(&run, one)),
        only_if(has(Strays) || has(Manual), stray::play(&run, two)),
        only_if(has(Types), changing_types::play(&run, &client, three)),
        only_if(has(RowSecurity), row_security::play(&run)),
        only_if(has(Prepared), hold::prepared(&run, four)),
        only_if(has(Dump), hold::dumps(&run, five)),
        only_if(publications_change, publications::warn(&run, &client, six)),
    );
    run.world.finish();
}

async fn only_if(holds: bool, future: impl Future<Output = ()>) {
    if holds {
        future.await;
    }
}

impl fmt::Display for Circumstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Deferrable => "deferrable",
            Inherits => "inherits",
            Generated => "generated",
            Types => "types",
            Publications => "publications",
            Strays => "strays",
            Role => "role",
            RowSecurity => "row-security",
            Manual => "manual",
            OtherDatabase => "other-database",
            Prepared => "prepared",
            Dump => "dump",
        })
    }
}

impl std::str::FromStr for Circumstance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || ALL.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let found = ALL.iter().find(|circumstance| circumstance.to_string() == text);
        found.copied().ok_or_else(|| format!("`{text}` is none of {}", known()))
    }
}
