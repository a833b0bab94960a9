//! Row-level security: who may not see all rows is to be refused, and never shown fewer.

use super::standing::{Standing, StandingId};
use super::{NOTICED_WITHIN, role};
use crate::run::Run;
use crate::schema::index;
use crate::shape::clause;
use limn_tests::Random;
use tokio::sync::Mutex;
use tokio::time::sleep;

/// The tables whose policies hold for their owner too, while they do.
#[derive(Debug, Default)]
pub struct Forced(Mutex<Vec<(usize, Option<StandingId>)>>);

/// Words by which a refusal says what it is about.
const WORDS: &[&str] = &["row-level security", "row security", "BYPASSRLS"];

/// Gives tables a policy; from then on their owner has to keep it too, unless the role need not.
pub async fn begin(run: &Run, random: &mut Random) {
    let sql = run.connect("").await;
    let bypasses = random.below(3) == 0;
    if bypasses {
        sql.execute(&format!("ALTER ROLE {} BYPASSRLS", role::login(run).expect("it was drawn"))).await;
    }
    for _ in 0..1 + random.below(2) {
        let number = index(random, run.schema.tables.len());
        let table = &run.schema.tables[number];
        let is_new = run.world.forced.0.lock().await.iter().all(|(known, _)| *known != number);
        if !is_new {
            continue;
        }
        let policy = if random.below(2) == 0 { "false".to_owned() } else { clause(table, 1, random) };
        let is_forced = random.below(3) > 0;
        for one in table.tree() {
            let force = if is_forced { "FORCE" } else { "NO FORCE" };
            sql.execute(&format!(
                "CREATE POLICY hidden ON {one} USING ({policy}); ALTER TABLE {one} ENABLE ROW LEVEL SECURITY, {force} ROW LEVEL SECURITY"
            ))
            .await;
        }
        let refuses = is_forced && !bypasses;
        let standing = refuses.then(|| run.world.begin(Standing::new("row-level security", [number], WORDS)));
        run.world.forced.0.lock().await.push((number, standing));
    }
}

/// After a while the owner need not keep it any more; in the end all is shown.
pub async fn play(run: &Run) {
    sleep(NOTICED_WITHIN / 2).await;
    for (number, standing) in run.world.forced.0.lock().await.iter() {
        for table in run.schema.tables[*number].tree() {
            let relax = format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY");
            // A session of its own for each attempt: a crash of Postgres takes sessions along.
            let attempt = async || run.connect("SET lock_timeout = '300ms'").await.try_execute(&relax).await;
            while attempt().await.is_err() && !run.is_done() {
                sleep(super::PAUSE).await;
            }
        }
        if let Some(standing) = standing {
            run.world.end(*standing);
        }
    }
}
