//! The writers and clients of a run, from its first transaction until every client has seen the last one.

use crate::run::{Run, TRANSACTIONS};
use crate::schema::index;
use crate::subscription::{Outcome, Subscription};
use crate::violation::{Kind, Violation};
use crate::writer;
use limn_tests::{Client, Limn, Random};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};

/// Clients of a seed, at least.
const CLIENTS_MIN: u64 = 5;
const WRITERS: u64 = 4;
/// How long a client that has not seen the last transaction may stay where it is.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
/// How long a client listens to one stream of events.
const LISTEN_MAX: Duration = Duration::from_millis(300);
/// How long a client waits after no answer.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a client waits after a refusal. `retry-after` says a second and more; without any pause the lookups of refused
/// requests take a slow machine's whole time.
const PAUSE_REFUSED: Duration = Duration::from_millis(200);

/// Lets writers and clients run until the writers are done and `meanwhile` is over: how many clients there were, and their copies.
pub async fn follow(
    run: &Arc<Run>,
    client: &Client,
    random: &mut Random,
    meanwhile: impl Future<Output = ()>,
) -> Result<(u64, Vec<Subscription>), Violation> {
    let mut next = || Random::new(random.below(u64::MAX));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        writers.spawn(writer::write(run.clone(), next()));
    }
    let clients = CLIENTS_MIN + next().below(3);
    let mut following = JoinSet::new();
    for shape in clients_shapes(clients, run.shapes.len(), &mut next()) {
        following.spawn(subscribe(run.clone(), client.clone(), shape, next()));
    }
    let mut copies = Vec::new();
    let mut meanwhile = Box::pin(meanwhile);
    let mut is_over = false;
    loop {
        tokio::select! {
            () = &mut meanwhile, if !is_over => is_over = true,
            Some(written) = writers.join_next() => written.expect("it wrote"),
            Some(copy) = following.join_next() => copies.push(copy.unwrap_or_else(|error| stuck(&error))?),
            else => return Ok((clients, copies)),
        }
        if writers.is_empty() {
            run.finish();
        }
    }
}

/// Which shapes are followed: each by one client, some by several.
fn clients_shapes(clients: u64, shapes: usize, random: &mut Random) -> Vec<usize> {
    let more = (0..clients + random.below(clients)).map(|_| index(random, shapes));
    (0..shapes).chain(more.collect::<Vec<_>>()).collect()
}

/// A panic in a client's task.
fn stuck<T>(error: &JoinError) -> Result<T, Violation> {
    Err(Violation { kind: Kind::Stuck, text: error.to_string() })
}

/// One client's copy of a shape, until the writers are done.
async fn subscribe(
    run: Arc<Run>,
    client: Client,
    shape: usize,
    mut random: Random,
) -> Result<Subscription, Violation> {
    let joins_at = random.below(TRANSACTIONS * 3 / 4) * random.below(2);
    while run.committed.load(Ordering::Relaxed) < joins_at && !run.is_done() {
        sleep(PAUSE).await;
    }
    let mut copy = Subscription::new(client, run.clone(), shape);
    let mut crashes = run.crashes.count.load(Ordering::Relaxed);
    while !run.is_done() {
        let (held, before) = (copy.holds_an_offset(), run.crashes.count.load(Ordering::Relaxed));
        match act(&mut copy, &mut random).await? {
            Some(Outcome::Away) => sleep(PAUSE).await,
            Some(Outcome::Refused | Outcome::RefusedForGood) => sleep(PAUSE_REFUSED).await,
            Some(outcome) if before != crashes => {
                crashes = before;
                note_crash(&run, held, outcome);
            }
            _ => {}
        }
    }
    Ok(copy)
}

/// The first answer behind a crash.
fn note_crash(run: &Run, held_an_offset: bool, outcome: Outcome) {
    let crashes = &run.crashes;
    match (held_an_offset, outcome) {
        (true, Outcome::Read) => crashes.went_on.fetch_add(1, Ordering::Relaxed),
        (true, Outcome::Rotated) => crashes.started_over.fetch_add(1, Ordering::Relaxed),
        _ => 0,
    };
}

/// What a client does next; `None` where that is no request, or one whose answer it does not read.
async fn act(copy: &mut Subscription, random: &mut Random) -> Result<Option<Outcome>, Violation> {
    let outcome = match random.below(100) {
        0..=2 => {
            copy.forget();
            return Ok(None);
        }
        3..=5 => {
            copy.abandon().await;
            return Ok(None);
        }
        6..=12 => {
            sleep(Duration::from_millis(random.below(300))).await;
            return Ok(None);
        }
        13..=24 => copy.listen(1 + random.below(40), Instant::now() + LISTEN_MAX).await?,
        25..=44 => copy.read(false).await?,
        _ => copy.read(true).await?,
    };
    Ok(Some(outcome))
}

/// Every copy, and a new one of each shape, reaches the last transaction.
pub async fn converge(run: &Arc<Run>, server: &Limn, mut copies: Vec<Subscription>) -> Result<(), Violation> {
    let sql = run.connect("").await;
    let lsn = server.barrier(&sql).await;
    for shape in 0..run.shapes.len() {
        copies.push(Subscription::new(server.client(), run.clone(), shape));
    }
    let mut reading = JoinSet::new();
    for copy in copies {
        reading.spawn(catch_up(copy, lsn));
    }
    while let Some(read) = reading.join_next().await {
        read.unwrap_or_else(|error| stuck(&error))?;
    }
    Ok(())
}

async fn catch_up(mut copy: Subscription, lsn: u64) -> Result<(), Violation> {
    let (mut since, mut place) = (Instant::now(), String::new());
    while copy.seen_lsn().is_none_or(|seen| seen < lsn) {
        let outcome = copy.read(false).await?;
        if outcome == Outcome::RefusedForGood {
            return Ok(());
        }
        if matches!(outcome, Outcome::Away | Outcome::Refused) || copy.seen_lsn().is_some() {
            sleep(PAUSE).await;
        }
        if copy.place() != place {
            (since, place) = (Instant::now(), copy.place());
        } else if since.elapsed() > STANDSTILL_MAX {
            return Err(Violation { kind: Kind::Stuck, text: format!("{place} does not reach {lsn}") });
        }
    }
    Ok(())
}
