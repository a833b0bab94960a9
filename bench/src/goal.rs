//! The figures that each scenario is to reach.

use crate::figures::Figures;

/// A bound on the figures of a scenario.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// The median is at most this.
    AtMost(f64),
    /// The median is at least this.
    AtLeast(f64),
    /// The median is at most so many times the floor's.
    TimesFloorAtMost(f64),
    /// The median is at least so many times the floor's.
    TimesFloorAtLeast(f64),
    /// The process has at most so many MB at any time.
    PeakMb(f64),
    /// The same, without those that it had while it was idle.
    AboveIdleMb(f64),
}

/// A goal beside the figure that counts for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The goal, in words.
    pub goal: String,
    /// The measured figure; `None` where there is none.
    pub measured: Option<String>,
    /// True where the figure meets the goal.
    pub is_met: bool,
}

impl Goal {
    /// Holds the figures against the goal.
    pub fn judge(self, figures: &Figures, floor: &Figures) -> Verdict {
        let times_floor = (floor.median() > 0.0).then(|| figures.median() / floor.median());
        let (words, measured, is_met): (_, _, fn(f64, f64) -> bool) = match self {
            Self::AtMost(bound) => (format!("at most {bound}"), Some(figures.median()), at_most),
            Self::AtLeast(bound) => (format!("at least {bound}"), Some(figures.median()), at_least),
            Self::TimesFloorAtMost(bound) => (format!("at most {bound} × the floor"), times_floor, at_most),
            Self::TimesFloorAtLeast(bound) => {
                (format!("at least {bound} × the floor"), times_floor, at_least)
            }
            Self::PeakMb(bound) => (format!("at most {bound} MB"), figures.peak_mb(), at_most),
            Self::AboveIdleMb(bound) => {
                (format!("at most {bound} MB above idle"), figures.above_idle_mb(), at_most)
            }
        };
        Verdict {
            goal: words,
            measured: measured.map(|measured| self.shown(measured)),
            is_met: measured.is_some_and(|measured| is_met(measured, self.bound())),
        }
    }

    /// The bound on the figures themselves, given the floor's median.
    pub fn line(self, floor: f64) -> Option<f64> {
        match self {
            Self::AtMost(bound) | Self::AtLeast(bound) => Some(bound),
            Self::TimesFloorAtMost(times) | Self::TimesFloorAtLeast(times) => {
                (floor > 0.0).then_some(times * floor)
            }
            Self::PeakMb(_) | Self::AboveIdleMb(_) => None,
        }
    }

    const fn bound(self) -> f64 {
        match self {
            Self::AtMost(bound)
            | Self::AtLeast(bound)
            | Self::TimesFloorAtMost(bound)
            | Self::TimesFloorAtLeast(bound)
            | Self::PeakMb(bound)
            | Self::AboveIdleMb(bound) => bound,
        }
    }

    fn shown(self, measured: f64) -> String {
        match self {
            Self::AtMost(_) | Self::AtLeast(_) => format!("{measured:.1}"),
            Self::TimesFloorAtMost(_) | Self::TimesFloorAtLeast(_) => format!("{measured:.2} × the floor"),
            Self::PeakMb(_) => format!("{measured:.1} MB"),
            Self::AboveIdleMb(_) => format!("{measured:.1} MB above idle"),
        }
    }
}

fn at_most(measured: f64, bound: f64) -> bool {
    measured <= bound
}

fn at_least(measured: f64, bound: f64) -> bool {
    measured >= bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Memory;

    fn figures(figure: f64, peak_kb: u64) -> Figures {
        let mut figures = Figures::default();
        figures.add(figure, Memory { peak_kb: Some(peak_kb), above_idle_kb: None });
        figures
    }

    #[test]
    fn a_goal_is_met_at_its_bound_and_missed_behind_it() {
        let (subject, floor) = (figures(30.0, 20 << 10), figures(20.0, 0));
        for (goal, is_met) in [
            (Goal::AtMost(30.0), true),
            (Goal::AtMost(29.0), false),
            (Goal::AtLeast(30.0), true),
            (Goal::AtLeast(31.0), false),
            (Goal::TimesFloorAtMost(1.5), true),
            (Goal::TimesFloorAtMost(1.4), false),
            (Goal::TimesFloorAtLeast(1.5), true),
            (Goal::TimesFloorAtLeast(1.6), false),
            (Goal::PeakMb(20.0), true),
            (Goal::PeakMb(19.0), false),
        ] {
            assert_eq!(goal.judge(&subject, &floor).is_met, is_met, "{goal:?}");
        }
    }

    #[test]
    fn what_could_not_be_measured_is_not_met() {
        for goal in [Goal::TimesFloorAtMost(9.0), Goal::AboveIdleMb(9.0)] {
            let verdict = goal.judge(&figures(1.0, 1), &Figures::default());
            assert_eq!((verdict.measured, verdict.is_met), (None, false), "{goal:?}");
        }
    }
}
