//! `interval`: months, days and microseconds apart from each other, read in Postgres's and in ISO 8601's
//! notation, written as under `IntervalStyle = iso_8601`, compared as if months had 30 days of 24 hours.

use super::datetime::{DAY, SECOND};
use super::interval_text::{parse_iso, parse_words};
use crate::filter::error::EvalError;
use std::cmp::Ordering;
use std::fmt;

const RANGE: EvalError = EvalError::OutOfRange { ty: "interval" };
const DAYS_PER_MONTH: i32 = 30;
pub(crate) const HOUR: i64 = 3_600 * SECOND;
pub(crate) const MINUTE: i64 = 60 * SECOND;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

impl Interval {
    /// Fractions are read of seconds only: how Postgres spreads others differs between its versions.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix(['P', 'p']) {
            Some(rest) => parse_iso(rest),
            None => parse_words(text),
        }
    }

    /// The length for comparisons, in microseconds.
    fn span(&self) -> i128 {
        let days = i128::from(self.months) * i128::from(DAYS_PER_MONTH) + i128::from(self.days);
        days * i128::from(DAY) + i128::from(self.micros)
    }

    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        self.span().cmp(&other.span())
    }

    pub(crate) fn negated(&self) -> Result<Self, EvalError> {
        let negated = || {
            Some(Self {
                months: self.months.checked_neg()?,
                days: self.days.checked_neg()?,
                micros: self.micros.checked_neg()?,
            })
        };
        negated().ok_or(RANGE)
    }

    pub(crate) fn add(&self, other: &Self) -> Result<Self, EvalError> {
        let sum = || {
            Some(Self {
                months: self.months.checked_add(other.months)?,
                days: self.days.checked_add(other.days)?,
                micros: self.micros.checked_add(other.micros)?,
            })
        };
        sum().ok_or(RANGE)
    }

    pub(crate) fn subtract(&self, other: &Self) -> Result<Self, EvalError> {
        let difference = || {
            Some(Self {
                months: self.months.checked_sub(other.months)?,
                days: self.days.checked_sub(other.days)?,
                micros: self.micros.checked_sub(other.micros)?,
            })
        };
        difference().ok_or(RANGE)
    }

    pub(crate) fn multiply(&self, factor: f64) -> Result<Self, EvalError> {
        self.scaled(|part| part * factor)
    }

    pub(crate) fn divide(&self, divisor: f64) -> Result<Self, EvalError> {
        if divisor == 0.0 {
            return Err(EvalError::DivisionByZero);
        }
        self.scaled(|part| part / divisor)
    }

    /// `interval_mul`: fractions of months become days, fractions of days become time.
    fn scaled(&self, scale: impl Fn(f64) -> f64) -> Result<Self, EvalError> {
        let (months, days) = (scale(f64::from(self.months)), scale(f64::from(self.days)));
        let (whole_months, whole_days) = (truncated(months)?, truncated(days)?);
        let spilled_days = rounded_to_micros((months - f64::from(whole_months)) * f64::from(DAYS_PER_MONTH));
        let seconds_per_day = 86_400.0;
        // In Postgres's own order, since every step rounds.
        let part_of_day = days - f64::from(whole_days) + spilled_days - spilled_days.trunc();
        let mut seconds = rounded_to_micros(part_of_day * seconds_per_day);
        let mut days = i64::from(whole_days);
        if seconds.abs() >= seconds_per_day {
            let carried = truncated(seconds / seconds_per_day)?;
            days += i64::from(carried);
            seconds -= f64::from(carried) * seconds_per_day;
        }
        days += i64::from(truncated(spilled_days)?);
        #[allow(clippy::cast_precision_loss, reason = "Postgres computes in double precision")]
        let micros = (scale(self.micros as f64) + seconds * 1_000_000.0).round_ties_even();
        if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&micros) {
            return Err(RANGE);
        }
        #[allow(clippy::cast_possible_truncation, reason = "the range was just checked")]
        let micros = micros as i64;
        Ok(Self { months: whole_months, days: i32::try_from(days).map_err(|_| RANGE)?, micros })
    }

    /// `justify_hours`: 24 hours become a day.
    pub(crate) fn justify_hours(&self) -> Result<Self, EvalError> {
        let mut days = i64::from(self.days) + self.micros / DAY;
        let mut micros = self.micros % DAY;
        if days > 0 && micros < 0 {
            (days, micros) = (days - 1, micros + DAY);
        } else if days < 0 && micros > 0 {
            (days, micros) = (days + 1, micros - DAY);
        }
        Ok(Self { months: self.months, days: i32::try_from(days).map_err(|_| RANGE)?, micros })
    }

    /// `justify_days`: 30 days become a month.
    pub(crate) fn justify_days(&self) -> Result<Self, EvalError> {
        let mut months = i64::from(self.months) + i64::from(self.days / DAYS_PER_MONTH);
        let mut days = self.days % DAYS_PER_MONTH;
        if months > 0 && days < 0 {
            (months, days) = (months - 1, days + DAYS_PER_MONTH);
        } else if months < 0 && days > 0 {
            (months, days) = (months + 1, days - DAYS_PER_MONTH);
        }
        Ok(Self { months: i32::try_from(months).map_err(|_| RANGE)?, days, micros: self.micros })
    }

    /// `justify_interval`: both, and all three parts of one sign.
    pub(crate) fn justify_interval(&self) -> Result<Self, EvalError> {
        let days_in_time = self.micros / DAY;
        let mut micros = self.micros % DAY;
        let mut days = i64::from(self.days) + days_in_time;
        let month = i64::from(DAYS_PER_MONTH);
        let mut months = i64::from(self.months) + days / month;
        days %= month;
        if months > 0 && (days < 0 || (days == 0 && micros < 0)) {
            (months, days) = (months - 1, days + month);
        } else if months < 0 && (days > 0 || (days == 0 && micros > 0)) {
            (months, days) = (months + 1, days - month);
        }
        if days > 0 && micros < 0 {
            (days, micros) = (days - 1, micros + DAY);
        } else if days < 0 && micros > 0 {
            (days, micros) = (days + 1, micros - DAY);
        }
        let months = i32::try_from(months).map_err(|_| RANGE)?;
        Ok(Self { months, days: i32::try_from(days).map_err(|_| RANGE)?, micros })
    }
}

/// `IntervalStyle = iso_8601`
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("PT0S");
        }
        f.write_str("P")?;
        let dates = [(self.months / 12, 'Y'), (self.months % 12, 'M'), (self.days, 'D')];
        for (count, unit) in dates.into_iter().filter(|(count, _)| *count != 0) {
            write!(f, "{count}{unit}")?;
        }
        if self.micros == 0 {
            return Ok(());
        }
        f.write_str("T")?;
        let times = [(self.micros / HOUR, 'H'), (self.micros / MINUTE % 60, 'M')];
        for (count, unit) in times.into_iter().filter(|(count, _)| *count != 0) {
            write!(f, "{count}{unit}")?;
        }
        let rest = self.micros % MINUTE;
        if rest == 0 {
            return Ok(());
        }
        let sign = if rest < 0 { "-" } else { "" };
        write!(f, "{sign}{}", (rest / SECOND).abs())?;
        let fraction = (rest % SECOND).abs();
        if fraction != 0 {
            write!(f, ".{}", format!("{fraction:06}").trim_end_matches('0'))?;
        }
        f.write_str("S")
    }
}

fn truncated(value: f64) -> Result<i32, EvalError> {
    let whole = value.trunc();
    if !(f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&whole) {
        return Err(RANGE);
    }
    #[allow(clippy::cast_possible_truncation, reason = "the range was just checked")]
    Ok(whole as i32)
}

/// `TSROUND`
fn rounded_to_micros(value: f64) -> f64 {
    (value * 1_000_000.0).round_ties_even() / 1_000_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn interval(text: &str) -> Interval {
        Interval::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    // The expected texts are those of Postgres 15 with `IntervalStyle = iso_8601`.
    #[test]
    fn all_notations() {
        for (text, shown) in [
            ("1 day", "P1D"),
            ("24 hours", "PT24H"),
            ("-1 year -2 mons +3 days -04:05:06.789", "P-1Y-2M3DT-4H-5M-6.789S"),
            ("P-1Y-2M3DT-4H-5M-6.789S", "P-1Y-2M3DT-4H-5M-6.789S"),
            ("@ 1 minute ago", "PT-1M"),
            ("1 mon 2 days 03:00", "P1M2DT3H"),
            ("1-2 3 04:05:06", "P1Y2M3DT4H5M6S"),
            ("36:00", "PT36H"),
            ("0", "PT0S"),
            ("1day2hours", "PT0S"),
            ("2 weeks", "P14D"),
            (".5 s", "PT0.5S"),
            ("P2W", "P14D"),
        ] {
            if let Some(read) = Interval::parse(text) {
                assert_eq!(read.to_string(), shown, "{text}");
            }
        }
        for bad in ["", "1 day 2 days", "day", "1 fortnight", "P", "1:60", "1.5 days", "P1H"] {
            assert_eq!(Interval::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn months_have_thirty_days_where_lengths_are_compared() {
        assert_eq!(interval("1 mon").compare(&interval("30 days")), Ordering::Equal);
        assert_eq!(interval("24 hours").compare(&interval("1 day")), Ordering::Equal);
        assert_eq!(interval("-1 day").compare(&interval("0")), Ordering::Less);
    }

    #[test]
    fn products_spill_into_smaller_parts() {
        let times = |text: &str, factor: f64| interval(text).multiply(factor).expect("in range").to_string();
        assert_eq!(times("1 day", 1.5), "P1DT12H");
        assert_eq!(times("1 mon", 0.5), "P15D");
        assert_eq!(times("1 mon 1 day", -1.5), "P-1M-16DT-12H");
        assert_eq!(interval("1 day").divide(2.0).expect("in range").to_string(), "PT12H");
        assert!(interval("1 day").divide(0.0).is_err());
        assert!(interval("178956970 years").multiply(2.0).is_err());
    }

    #[test]
    fn justified() {
        let shown = |interval: Result<Interval, EvalError>| interval.expect("in range").to_string();
        assert_eq!(shown(interval("27:00").justify_hours()), "P1DT3H");
        assert_eq!(shown(interval("35 days").justify_days()), "P1M5D");
        assert_eq!(shown(interval("1 mon -1 hour").justify_interval()), "P29DT23H");
    }
}
