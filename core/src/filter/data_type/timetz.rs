//! `timetz`: a time of day with its own offset from UTC.

use super::datetime;
use std::cmp::Ordering;
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timetz {
    /// Microseconds of the day, as shown.
    micros: i64,
    /// Seconds east of UTC.
    zone: i64,
}

impl Timetz {
    /// Without an offset the time is in UTC, the session's zone.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (micros, zone) = datetime::parse_clock(text)?;
        Some(Self { micros: micros?, zone: zone.unwrap_or(0) })
    }

    /// By the moment in UTC; of equal moments the more eastern comes first.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let moment = |time: &Self| time.micros - time.zone * datetime::SECOND;
        moment(self).cmp(&moment(other)).then_with(|| other.zone.cmp(&self.zone))
    }
}

impl fmt::Display for Timetz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, zone) = if self.zone < 0 { ('-', -self.zone) } else { ('+', self.zone) };
        write!(f, "{}{sign}{:02}", datetime::format_time(self.micros), zone / 3600)?;
        let (minutes, seconds) = (zone / 60 % 60, zone % 60);
        if minutes != 0 || seconds != 0 {
            write!(f, ":{minutes:02}")?;
        }
        if seconds == 0 { Ok(()) } else { write!(f, ":{seconds:02}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn time(text: &str) -> Timetz {
        Timetz::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn equal_only_in_the_same_zone() {
        assert_eq!(time("10:00+00").compare(&time("11:00+01")), Ordering::Greater);
        assert_eq!(time("10:00").compare(&time("10:00+00")), Ordering::Equal);
        assert_eq!(time("23:59+05").compare(&time("19:00+00")), Ordering::Less);
        assert_eq!(time("1:02:03.5-05:30").to_string(), "01:02:03.5-05:30");
        assert_eq!(time("24:00:00+00").to_string(), "24:00:00+00");
    }
}
