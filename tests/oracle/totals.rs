//! What some seeds came to, for people.

use crate::chaos::Report;
use crate::circumstance::Circumstance;
use crate::run::Outline;
use crate::violation::{Kind, Violation};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Instant;

/// Everything so far.
#[derive(Debug)]
pub struct Totals {
    started: Instant,
    with_faults: bool,
    seeds: u64,
    report: Report,
    /// The seeds that failed, with what their databases had.
    failed: Vec<(u64, String, Violation)>,
}

impl Totals {
    /// Nothing yet.
    pub fn new(with_faults: bool) -> Self {
        Self { started: Instant::now(), with_faults, seeds: 0, report: Report::default(), failed: Vec::new() }
    }

    /// A seed has ended.
    pub fn add(
        &mut self,
        seed: u64,
        circumstances: &BTreeSet<Circumstance>,
        outcome: Result<Report, Violation>,
    ) {
        self.seeds += 1;
        match outcome {
            Ok(report) => self.report += report,
            Err(violation) => {
                let names: Vec<String> = circumstances.iter().map(ToString::to_string).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(",") };
                self.failed.push((seed, names, violation));
            }
        }
    }

    /// Whether one failed.
    pub const fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// All of it in one line.
    pub fn line(&self) -> String {
        let Outline { counts, aborted, shapes, clients } = self.report.outline;
        let per_minute = self.seeds as f64 * 60.0 / self.started.elapsed().as_secs_f64();
        let (seeds, failed) = (self.seeds, self.failed.len());
        format!(
            "{seeds} seeds ({per_minute:.1} a minute), {failed} failed: {} transactions, {aborted} rolled back, \
             {shapes} shapes, {clients} clients, {} changes, {} rotations, {} checks",
            counts.transactions, counts.changes, counts.rotations, counts.checks
        )
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.line())?;
        let counts = self.report.outline.counts;
        writeln!(f, "of the checks, {} of rows that began ahead of the stream", counts.ahead)?;
        writeln!(f, "{}", self.report.world)?;
        if self.with_faults {
            writeln!(f, "{}", self.report)?;
        }
        if counts.forgiven > 0 {
            writeln!(f, "violations while a loss could not be known: {}", counts.forgiven)?;
        }
        let kinds = [
            Kind::Lost,
            Kind::Duplicated,
            Kind::Stale,
            Kind::Torn,
            Kind::Rotated,
            Kind::Refused,
            Kind::Harmed,
            Kind::Unsaid,
            Kind::Stuck,
        ];
        let of = |kind| self.failed.iter().filter(|(_, _, violation)| violation.kind == kind).count();
        let each: Vec<String> = kinds
            .iter()
            .map(|kind| format!("{} {}", format!("{kind:?}").to_lowercase(), of(*kind)))
            .collect();
        writeln!(f, "{}", each.join(", "))?;
        for (seed, names, violation) in &self.failed {
            let again = if self.with_faults {
                format!("chaos --minutes 1 --seed {seed}")
            } else {
                format!("oracle --seed {seed} --times 10")
            };
            writeln!(f, "seed {seed} ({names}): {violation}\n  again: cargo x {again} --with {names}")?;
        }
        Ok(())
    }
}
