//! What holds at the moment, and so which refusals are right: a reply has to name what it is refused for.

use super::Circumstance;
use super::application::Application;
use super::row_security::Forced;
use crate::shape::Shape;
use crate::violation::Violation;
use limn_tests::Sql;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For so long a refusal may go on after its reason has gone.
const GONE_FOR_MAX: Duration = Duration::from_secs(10);

/// The circumstances of a seed, and what came of them.
#[derive(Debug)]
pub struct World {
    /// What was drawn.
    pub circumstances: BTreeSet<Circumstance>,
    /// What the application went through.
    pub application: Application,
    /// The major version of Postgres.
    pub version: u32,
    /// Tables with policies.
    pub forced: Forced,
    standings: Mutex<Vec<Standing>>,
    refusals: Mutex<BTreeMap<String, u64>>,
    broken: Mutex<Option<Violation>>,
    sessions: Mutex<Vec<Sql>>,
    expects_harm: AtomicBool,
    over: AtomicBool,
}

/// A reason to refuse.
#[derive(Debug, Clone)]
pub struct Standing {
    /// As totals name it.
    pub cause: &'static str,
    /// The tables whose shapes may be refused.
    pub tables: BTreeSet<usize>,
    /// A reply names one of these.
    pub words: Vec<String>,
    /// Where only shapes that read a column are concerned.
    pub column: Option<String>,
    ended: Option<Instant>,
}

/// The number of a standing.
#[derive(Debug, Clone, Copy)]
pub struct StandingId(usize);

/// Whether a refusal is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its reason passes.
    Passing,
    /// Its reason holds until the end.
    Lasting,
    /// It has none.
    Unjustified,
}

impl Standing {
    /// A reason that any shape of the tables has.
    pub fn new(cause: &'static str, tables: impl IntoIterator<Item = usize>, words: &[&str]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Self { cause, tables: tables.into_iter().collect(), words, column: None, ended: None }
    }

    fn justifies(&self, shape: &Shape, text: &str) -> bool {
        let reads = |column: &String| !shape.query.contains("&columns=") || shape.query.contains(column);
        shape.tables.iter().any(|table| self.tables.contains(table))
            && self.words.iter().any(|word| text.contains(word.as_str()))
            && self.column.as_ref().is_none_or(reads)
            && self.ended.is_none_or(|ended| ended.elapsed() < GONE_FOR_MAX)
    }
}

impl World {
    /// A world in which nothing holds yet.
    pub fn new(circumstances: BTreeSet<Circumstance>, version: u32) -> Self {
        Self {
            circumstances,
            application: Application::default(),
            version,
            forced: Forced::default(),
            standings: Mutex::default(),
            refusals: Mutex::default(),
            broken: Mutex::default(),
            sessions: Mutex::default(),
            expects_harm: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Whether it was drawn.
    pub fn has(&self, circumstance: Circumstance) -> bool {
        self.circumstances.contains(&circumstance)
    }

    /// From now on, refusals may have this reason.
    pub fn begin(&self, standing: Standing) -> StandingId {
        let mut standings = lock(&self.standings);
        standings.push(standing);
        StandingId(standings.len() - 1)
    }

    /// The reason has gone.
    pub fn end(&self, standing: StandingId) {
        lock(&self.standings)[standing.0].ended = Some(Instant::now());
    }

    /// Judges the refusal of a shape by what it says; a right one is counted.
    pub fn judge(&self, shape: &Shape, text: &str) -> Verdict {
        let standings = lock(&self.standings);
        let mut found = standings.iter().filter(|standing| standing.justifies(shape, text));
        let Some(first) = found.next() else { return Verdict::Unjustified };
        *lock(&self.refusals).entry(first.cause.to_owned()).or_default() += 1;
        let lasts = first.ended.is_none() || found.any(|standing| standing.ended.is_none());
        if lasts { Verdict::Lasting } else { Verdict::Passing }
    }

    /// Counts a refusal that needs no reason, because it passes.
    pub fn note_away(&self, text: &str) {
        let cause = if text.contains("lock") { "a lock" } else { "away" };
        *lock(&self.refusals).entry(cause.to_owned()).or_default() += 1;
    }

    /// What held and holds, for a report.
    pub fn told(&self) -> String {
        let told = |standing: &Standing| {
            let Standing { cause, tables, words, ended, .. } = standing;
            let gone = ended.map(|ended| format!(", gone for {} ms", ended.elapsed().as_millis()));
            format!("{cause} {words:?} of tables {tables:?}{}", gone.unwrap_or_default())
        };
        lock(&self.standings).iter().map(told).collect::<Vec<_>>().join("; ")
    }

    /// Something that must never happen has happened.
    pub fn note_violation(&self, violation: Violation) {
        lock(&self.broken).get_or_insert(violation);
    }

    /// What must never happen and did.
    pub fn violation(&self) -> Option<Violation> {
        lock(&self.broken).clone()
    }

    /// Keeps a session, with its transaction, until the end.
    pub fn keep(&self, session: Sql) {
        lock(&self.sessions).push(session);
    }

    /// While somebody else has made a publication that no table with its whole old rows bears, writes fail whatever the server does.
    pub fn expect_harm(&self, expects: bool) {
        self.expects_harm.store(expects, Ordering::Relaxed);
    }

    /// Whether writes fail whatever the server does.
    pub fn expects_harm(&self) -> bool {
        self.expects_harm.load(Ordering::Relaxed)
    }

    /// All that comes and goes has gone.
    pub fn finish(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether all that comes and goes has gone.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// What came of it.
    pub fn outcome(&self) -> Outcome {
        let (failed_writes, longest_wait_ms) = self.application.counts();
        Outcome { failed_writes, longest_wait_ms, refusals: lock(&self.refusals).clone() }
    }
}

/// What came of the circumstances of some seeds.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// Statements of the application that failed by the server's doing.
    pub failed_writes: u64,
    /// The longest that one waited for a lock behind the server.
    pub longest_wait_ms: u64,
    /// Refusals by their reason.
    pub refusals: BTreeMap<String, u64>,
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.failed_writes += other.failed_writes;
        self.longest_wait_ms = self.longest_wait_ms.max(other.longest_wait_ms);
        other
            .refusals
            .into_iter()
            .for_each(|(cause, count)| *self.refusals.entry(cause).or_default() += count);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> =
            self.refusals.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
        let refusals = if each.is_empty() { "none".to_owned() } else { each.join(", ") };
        let Self { failed_writes, longest_wait_ms, .. } = self;
        write!(
            f,
            "failed writes of the application: {failed_writes}; longest wait of the application behind limn: \
             {longest_wait_ms} ms\nrefusals: {refusals}"
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
