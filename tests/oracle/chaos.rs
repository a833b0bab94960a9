//! The same clients and writers while things break: what is promised must hold behind every fault.

use crate::circumstance::{self, Circumstance, Outcome};
use crate::crowd::Crowd;
use crate::fault::{CRASHES, Fault, LOSSES, Victim};
use crate::follow;
use crate::removals::{OWN_CAUSES, causes, durable, without_colours};
use crate::run::{Crashes, Outline, Plan, Run};
use crate::subscription::Subscription;
use crate::violation::{Kind, Violation};
use limn_tests::{Cluster, Limn, Proxy, Random, Shim};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long faults happen to one server.
const RUN_TIME: Duration = Duration::from_secs(30);
/// The longest quiet between two of them.
const QUIET_MS_MAX: u64 = 1500;
/// Causes that a change of a table has; a question may name a column that has just gone.
const CAUSES_OF_CHANGES: [&str; 3] = ["truncate", "schema_changed", "refused_by_postgres"];
/// Behind a loss, how long a table's place is not known to be wrong.
const NOTICED_WITHIN: Duration = Duration::from_secs(6);
/// Lines of the server's log in a report.
const LINES_SHOWN: usize = 60;
/// The cause of a handle that a crash took, of whose snapshot the server had not said that it is durable.
const NOT_DURABLE: &str = "snapshot not durable";
/// The same where it had.
const UNEXPLAINED: &str = "no cause";

/// What a run has beside plain transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hardship {
    /// Faults behind which every client goes on.
    Crashes,
    /// The same, while tables are truncated and altered.
    CrashesAndChanges,
    /// Postgres loses something.
    Losses,
}

impl Hardship {
    const fn of(seed: u64) -> Self {
        match seed % 4 {
            0 => Self::Losses,
            2 => Self::CrashesAndChanges,
            _ => Self::Crashes,
        }
    }

    const fn faults(self) -> &'static [Fault] {
        match self {
            Self::Crashes | Self::CrashesAndChanges => CRASHES,
            Self::Losses => LOSSES,
        }
    }

    /// Whether a shape may start over for this cause.
    fn allows(self, cause: &str) -> bool {
        match self {
            Self::Losses => true,
            _ if [NOT_DURABLE, "creation_failed"].contains(&cause) || OWN_CAUSES.contains(&cause) => true,
            Self::CrashesAndChanges => CAUSES_OF_CHANGES.contains(&cause),
            Self::Crashes => false,
        }
    }
}

/// What happened in some runs.
#[derive(Debug, Default)]
pub struct Report {
    /// What was judged.
    pub outline: Outline,
    /// What the application went through, and refusals.
    pub world: Outcome,
    /// How often each fault happened.
    pub faults: BTreeMap<Fault, u64>,
    /// Handles given up, by what the runs had and by cause.
    pub rotations: BTreeMap<Hardship, BTreeMap<String, u64>>,
    /// Ends of the server in runs with nothing but crashes.
    pub crashes: u64,
    /// Clients that held an offset before one and went on behind it.
    pub went_on: u64,
    /// Clients that had to start over.
    pub started_over: u64,
    /// Shapes of [`Crowd`].
    pub crowd: u64,
}

/// Runs one seed under faults; `crowd` is how many plain shapes its server has besides.
pub async fn run(seed: u64, crowd: u32, circumstances: BTreeSet<Circumstance>) -> Result<Report, Violation> {
    let mut random = Random::new(seed);
    let cluster = Cluster::start(&[]).await;
    let hardship = Hardship::of(seed);
    let plan = Plan {
        circumstances,
        has_faults: true,
        is_calm: hardship != Hardship::CrashesAndChanges,
        transactions_max: u64::MAX,
    };
    let (run, options) = Run::prepare(&cluster, seed, plan, &mut random).await;
    let proxy = Proxy::start(cluster.port()).await;
    let mut server = run.server(&run.database.through(proxy.port()), &options);
    let shim = Shim::new();
    if let Some(shim) = &shim {
        server.set_variables(shim.variables(server.storage()));
    }
    server.resume().await;
    let client = server.client();
    circumstance::begin(&run, &mut random).await;
    let mut crowd = if crowd > 0 { Some(Crowd::join(&run, &server, crowd).await?) } else { None };
    let writing = crowd.as_ref().map(|crowd| crowd.write(&run, Random::new(seed)));
    let sessions = run.applications(&mut random);
    let events = circumstance::play(run.clone(), client.clone(), Random::new(random.below(u64::MAX)));
    let mut victim = Victim { cluster, server, proxy, shim };
    let history = RefCell::new(Vec::new());
    let mut choices = Random::new(random.below(u64::MAX));
    let suffering = suffer(&mut victim, hardship.faults(), &run, &mut choices, &history);
    let followed = follow::follow(&run, &client, &mut random, async {
        tokio::join!(suffering, events);
    });
    let followed = followed.await;
    run.finish();
    drop(sessions);
    if let Some(writing) = writing {
        writing.await.expect("the writer ends with the run");
    }
    let converged = match followed {
        Ok((clients, copies)) => {
            converge(&run, &victim.server, copies, crowd.as_mut()).await.map(|()| clients)
        }
        Err(violation) => Err(violation),
    };
    let history = history.into_inner();
    match converged {
        Ok(clients) => report(&run, &victim.server, hardship, clients, &history, crowd.as_ref()).await,
        Err(mut violation) => {
            violation.text += &explained(&history, &victim.server.output());
            Err(violation)
        }
    }
}

async fn converge(
    run: &Arc<Run>,
    server: &Limn,
    copies: Vec<Subscription>,
    crowd: Option<&mut Crowd>,
) -> Result<(), Violation> {
    follow::converge(run, server, copies).await?;
    match crowd {
        Some(crowd) => crowd.converge(run, server).await,
        None => Ok(()),
    }
}

/// When what happened, and the last that the server said, for a report.
fn explained(history: &[Event], output: &str) -> String {
    let mut text = "\n  faults:".to_owned();
    for Event { at, fault, .. } in history {
        let _ = write!(text, " {:.1} s {fault:?},", at.as_secs_f64());
    }
    let plain = without_colours(output);
    let lines: Vec<&str> = plain.lines().rev().take(LINES_SHOWN).collect();
    for line in lines.iter().rev() {
        let _ = write!(text, "\n  | {line}");
    }
    text
}

/// A fault that was tried.
#[derive(Debug)]
struct Event {
    at: Duration,
    fault: Fault,
    happened: bool,
}

async fn suffer(
    victim: &mut Victim,
    kinds: &[Fault],
    run: &Arc<Run>,
    random: &mut Random,
    history: &RefCell<Vec<Event>>,
) {
    let started = Instant::now();
    while started.elapsed() < RUN_TIME {
        sleep(Duration::from_millis(random.below(QUIET_MS_MAX))).await;
        let fault = *random.choice(kinds);
        let is_loss = LOSSES.contains(&fault);
        if is_loss {
            run.reference.lock().await.forgive(true);
        }
        history.borrow_mut().push(Event { at: started.elapsed(), fault, happened: false });
        let happened = victim.suffer(fault, run, random).await;
        history.borrow_mut().last_mut().expect("it was just added").happened = happened;
        if is_loss {
            sleep(NOTICED_WITHIN).await;
            run.reference.lock().await.forgive(false);
        }
    }
    run.finish();
}

async fn report(
    run: &Run,
    server: &Limn,
    hardship: Hardship,
    clients: u64,
    history: &[Event],
    crowd: Option<&Crowd>,
) -> Result<Report, Violation> {
    let output = server.output();
    let (causes, durable) = (causes(&output), durable(&output));
    let mut rotations = BTreeMap::new();
    let past = run.reference.lock().await.past_handles();
    for handle in past.into_iter().chain(crowd.into_iter().flat_map(Crowd::past_handles)) {
        let unsaid = if durable.contains(&handle) { UNEXPLAINED } else { NOT_DURABLE };
        let cause = causes.get(&handle).map_or(unsaid, String::as_str);
        *rotations.entry(cause.to_owned()).or_default() += 1;
    }
    if let Some(cause) = rotations.keys().find(|cause| !hardship.allows(cause)) {
        return Err(Violation {
            kind: Kind::Rotated,
            text: format!("a crash let shapes start over: {cause}"),
        });
    }
    let mut report =
        Report { outline: run.outline(clients).await, world: run.world.outcome(), ..Report::default() };
    for Event { fault, .. } in history.iter().filter(|event| event.happened) {
        *report.faults.entry(*fault).or_default() += 1;
    }
    report.rotations.insert(hardship, rotations);
    report.crowd = crowd.map_or(0, |crowd| crowd.len() as u64);
    if hardship == Hardship::Crashes {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Crashes { count: crashes, went_on, started_over, .. } = &run.crashes;
        (report.crashes, report.went_on, report.started_over) =
            (count(crashes), count(went_on), count(started_over));
    }
    Ok(report)
}

impl std::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        let add = |into: &mut BTreeMap<String, u64>, from: BTreeMap<String, u64>| {
            from.into_iter().for_each(|(cause, count)| *into.entry(cause).or_default() += count);
        };
        self.outline = self.outline + other.outline;
        self.world += other.world;
        other.faults.into_iter().for_each(|(fault, count)| *self.faults.entry(fault).or_default() += count);
        for (hardship, rotations) in other.rotations {
            add(self.rotations.entry(hardship).or_default(), rotations);
        }
        self.crashes += other.crashes;
        self.went_on += other.went_on;
        self.started_over += other.started_over;
        self.crowd += other.crowd;
    }
}

impl fmt::Display for Hardship {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crashes => "crashes",
            Self::CrashesAndChanges => "crashes while tables are truncated and altered",
            Self::Losses => "something lost",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<String, u64>| {
            let each: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            if each.is_empty() { "none".to_owned() } else { each.join(", ") }
        };
        let faults = self.faults.iter().map(|(fault, count)| (format!("{fault:?}"), *count)).collect();
        writeln!(f, "faults: {}", list(&faults))?;
        for (hardship, rotations) in &self.rotations {
            writeln!(f, "handles given up, {hardship}: {}", list(rotations))?;
        }
        if self.crowd > 0 {
            writeln!(
                f,
                "plain shapes beside these: {}, each judged at the end by a client that went on and a new one",
                self.crowd
            )?;
        }
        let Self { crashes, went_on, started_over, .. } = self;
        write!(
            f,
            "{crashes} ends of the server, nothing else: {went_on} clients with an offset went on, {started_over} started over"
        )
    }
}
