//! Figures of several runs, and their median.

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Less is better.
    Milliseconds,
    /// The same.
    Microseconds,
    /// The same.
    Bytes,
    /// The same; things that are counted.
    Count,
    /// More is better.
    PerSecond,
    /// The same; seconds in which a processor worked for the process that is measured.
    PerProcessorSecond,
}

impl Unit {
    /// As it stands in a heading.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "in milliseconds",
            Self::Microseconds => "in microseconds",
            Self::Bytes => "in bytes",
            Self::Count => "counted",
            Self::PerSecond => "per second",
            Self::PerProcessorSecond => "per second of processor time",
        }
    }
}

/// The figures of one subject.
#[derive(Debug, Default)]
pub struct Figures {
    figures: Vec<f64>,
    memory: Vec<Memory>,
}

/// Of a process, where the system tells it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// The most that it has had at one time, in kB.
    pub peak_kb: Option<u64>,
    /// The part of that which came by the measured work, where the process was idle before.
    pub above_idle_kb: Option<u64>,
}

impl Figures {
    /// Adds that of a run.
    pub fn add(&mut self, figure: f64, memory: Memory) {
        self.figures.push(figure);
        self.memory.push(memory);
    }

    /// The middle one, 0 where there is none.
    pub fn median(&self) -> f64 {
        let mut sorted = self.figures.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// Those of all runs, in their order.
    pub fn values(&self) -> &[f64] {
        &self.figures
    }

    /// The most memory that the process had in any run.
    pub fn peak_mb(&self) -> Option<f64> {
        self.most_mb(|memory| memory.peak_kb)
    }

    /// The same, without what it had while it was idle.
    pub fn above_idle_mb(&self) -> Option<f64> {
        self.most_mb(|memory| memory.above_idle_kb)
    }

    fn most_mb(&self, of: fn(&Memory) -> Option<u64>) -> Option<f64> {
        self.memory.iter().filter_map(of).max().map(|kb| kb as f64 / 1024.0)
    }

    /// Prints a line: the median, the least, the most, how many times as good as `base`, the most memory.
    pub fn print(&self, name: &str, unit: Unit, base: Option<f64>) {
        let least = self.figures.iter().copied().min_by(f64::total_cmp);
        let most = self.figures.iter().copied().max_by(f64::total_cmp);
        let (Some(least), Some(most)) = (least, most) else { return };
        let median = self.median();
        let speed = base.map(|base| match unit {
            Unit::Milliseconds | Unit::Microseconds | Unit::Bytes | Unit::Count => base / median,
            Unit::PerSecond | Unit::PerProcessorSecond => median / base,
        });
        let speed = speed.map(|times| format!("{times:.2} times as good as the first")).unwrap_or_default();
        let megabytes =
            |most: Option<f64>, what| most.map(|mb| format!("{mb:.1} MB {what}")).unwrap_or_default();
        let peak = megabytes(self.peak_mb(), "at most");
        let above_idle = megabytes(self.above_idle_mb(), "above idle");
        println!("  {name:<24} {median:>10.1}  ({least:.1} to {most:.1})  {speed}  {peak}  {above_idle}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_what_was_measured() {
        let mut figures = Figures::default();
        assert!(figures.median().abs() < f64::EPSILON);
        [5.0, 1.0, 3.0].into_iter().for_each(|figure| figures.add(figure, Memory::default()));
        assert!((figures.median() - 3.0).abs() < f64::EPSILON);
    }
}
