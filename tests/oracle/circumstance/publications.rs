//! Publications of other people: some of them bear no table that writes its whole old rows.

use super::PAUSE;
use super::standing::Standing;
use crate::run::Run;
use crate::schema::{Identity, Table, index};
use crate::violation::{Kind, Violation};
use limn_tests::{Client, Random, Request, Sql};
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long one of them is there.
const THERE_FOR: Duration = Duration::from_secs(3);
/// How many come during a run.
const COUNT: usize = 3;
/// Within this time the server must warn of one that came too late to refuse for.
const WARNED_WITHIN: Duration = Duration::from_secs(15);

/// Publishes every table by hand, as somebody does who gives the server no right to.
pub fn by_hand(run: &Run) -> String {
    let mut ddl = String::new();
    let barrier = "limn_barrier".to_owned();
    let _ = write!(ddl, "CREATE TABLE IF NOT EXISTS {barrier} (id serial PRIMARY KEY);");
    let _ = write!(ddl, "ALTER TABLE {barrier} REPLICA IDENTITY FULL;");
    let mut tables = vec![barrier];
    for table in &run.schema.tables {
        ddl += &table.full_identity();
        // Children by INHERITS come with their parent.
        tables.push(table.name.clone());
    }
    let name = run.publication();
    let _ = write!(ddl, "CREATE PUBLICATION {name} FOR TABLE {};", tables.join(", "));
    if let Some(role) = super::login(run) {
        let _ = write!(ddl, "ALTER PUBLICATION {name} OWNER TO {role};");
    }
    ddl
}

/// One that is there when the first client asks.
pub async fn begin(run: &Run, random: &mut Random) {
    let sql = run.connect("").await;
    if random.below(2) == 0 {
        // It takes tables that come later, too; and nothing that an identity could be in the way of.
        sql.execute("CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert, truncate')").await;
    }
}

/// Lets them come and go.
pub async fn play(run: &Run, mut random: Random) {
    let sql = run.connect("SET lock_timeout = '300ms'").await;
    for number in 0..COUNT {
        let Some((table, publication)) = make(run, &sql, number, &mut random).await else { continue };
        sleep(THERE_FOR).await;
        drop_it(run, &sql, &publication).await;
        if let Some(standing) = table {
            run.world.end(standing);
        }
    }
}

/// Makes one of a table that has not its whole old rows published yet, or one that does no harm.
async fn make(
    run: &Run,
    sql: &Sql,
    number: usize,
    random: &mut Random,
) -> Option<(Option<super::standing::StandingId>, String)> {
    let tables: Vec<usize> =
        (0..run.schema.tables.len()).filter(|&number| is_simple(&run.schema.tables[number])).collect();
    let table_number = *tables.get(index(random, tables.len().max(1)))?;
    let table = &run.schema.tables[table_number];
    // A list or a filter is for tables that hold rows.
    let target = random.choice(&table.leaves()).to_string();
    let name = format!("warehouse_{number}");
    // Whoever alters the identity meanwhile waits.
    let lock: String = table
        .tree()
        .map(|table| format!("LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE;"))
        .collect();
    while sql.try_execute(&format!("BEGIN; {lock}")).await.is_err() {
        let _ = sql.try_execute("ROLLBACK").await;
        if run.is_done() {
            return None;
        }
        sleep(PAUSE).await;
    }
    let bears_full = !is_full(sql, table).await && random.below(4) > 0;
    let (what, standing) = if bears_full {
        let words = [name.as_str()];
        let standing = Standing::new("another publication", [table_number], &words);
        (list_or_filter(table, random), Some(run.world.begin(standing)))
    } else {
        (format!("({}) WITH (publish = 'insert')", table.key_list()), None)
    };
    sql.execute(&format!("CREATE PUBLICATION {name} FOR TABLE {target} {what}; COMMIT")).await;
    Some((standing, name))
}

async fn drop_it(run: &Run, sql: &Sql, name: &str) {
    while sql.try_execute(&format!("DROP PUBLICATION {name}")).await.is_err() && !run.is_done() {
        sleep(PAUSE).await;
    }
}

/// Whether its key is its identity.
fn is_simple(table: &Table) -> bool {
    table.identity == Identity::Key && table.deferrable.is_none() && !table.is_big
}

fn list_or_filter(table: &Table, random: &mut Random) -> String {
    let keys = table.key_list();
    let first = table.key()[0].name.clone();
    match random.below(3) {
        0 => format!("WHERE ({first} IS NOT NULL)"),
        1 => format!("({keys}) WHERE ({first} IS NOT NULL)"),
        _ => format!("({keys})"),
    }
}

async fn is_full(sql: &Sql, table: &Table) -> bool {
    is_any_full(sql, table.tree().map(String::as_str)).await
}

async fn is_any_full(sql: &Sql, tables: impl Iterator<Item = &str>) -> bool {
    let tree: Vec<String> = tables.map(|table| format!("{}::regclass", crate::kind::quoted(table))).collect();
    let full =
        format!("SELECT 1 AS one FROM pg_class WHERE oid IN ({}) AND relreplident = 'f'", tree.join(", "));
    !sql.rows(&full).await.is_empty()
}

/// One that comes when the server has the whole old rows already: writes fail whoever is to blame, and the server
/// has to say so.
pub async fn warn(run: &Run, client: &Client, mut random: Random) {
    if run.is_done() {
        return;
    }
    let sql = run.connect("SET lock_timeout = '300ms'").await;
    sleep(THERE_FOR * u32::try_from(COUNT).expect("it is small")).await;
    let mut found = None;
    for table in run.schema.tables.iter().filter(|table| is_simple(table)) {
        // The partition itself: while a tree is published, others may have their identity before it.
        let listed = std::iter::once(table.leaves()[0].as_str());
        if is_any_full(&sql, listed).await && (found.is_none() || random.below(2) == 0) {
            found = Some(table);
        }
    }
    let Some(table) = found else { return };
    run.world.expect_harm(true);
    let create = format!("CREATE PUBLICATION late FOR TABLE {} ({})", table.leaves()[0], table.key_list());
    while sql.try_execute(&create).await.is_err() && !run.is_done() {
        sleep(PAUSE).await;
    }
    let number = run.schema.number(&table.name).expect("it is there");
    let standing = run.world.begin(Standing::new("another publication", [number], &["late"]));
    let started = Instant::now();
    let health = Request { method: "GET", target: "/v1/health", ..Request::default() };
    loop {
        let told = client.try_send(&health).await.map(|response| response.text()).unwrap_or_default();
        if told.contains("late") {
            break;
        }
        if started.elapsed() > WARNED_WITHIN {
            let text = format!("health says nothing of the publication `late` of {}: {told}", table.name);
            run.world.note_violation(Violation { kind: Kind::Unsaid, text });
            run.finish();
            break;
        }
        sleep(PAUSE).await;
    }
    drop_it(run, &sql, "late").await;
    run.world.end(standing);
    // Statements that had failed by then are told of a moment later.
    sleep(Duration::from_secs(1)).await;
    run.world.expect_harm(false);
}
