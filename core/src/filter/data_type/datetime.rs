//! Dates and times: days and microseconds from 2000-01-01, as Postgres stores them, read from and written to
//! its text forms under `DateStyle = 'ISO, DMY'` and `TimeZone = UTC`. Of the input forms only those that are
//! plain calendar notation are read; names of months and zones are refused, and so is what reads the clock.

use crate::filter::error::EvalError;

/// A day number that stands for `infinity`; [`i32::MIN`] is `-infinity`.
pub(crate) const DATE_INFINITY: i32 = i32::MAX;
/// A timestamp that stands for `infinity`; [`i64::MIN`] is `-infinity`.
pub(crate) const TIMESTAMP_INFINITY: i64 = i64::MAX;
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const DAY: i64 = 86_400 * SECOND;

/// 1970-01-01 and 2000-01-01 are this many days apart.
pub(crate) const UNIX_EPOCH_DAYS: i64 = 10_957;
/// 4714-11-24 BC, the first day Postgres knows.
pub(crate) const MIN_DAYS: i64 = -2_451_545;
/// 5874898-01-01, the first day after the last.
pub(crate) const END_DATE_DAYS: i64 = 2_145_031_949;
/// 294277-01-01, the first day after the last timestamp.
const END_TIMESTAMP_DAYS: i64 = 106_751_983;
/// `MAX_TZDISP_HOUR`
const MAX_ZONE_HOURS: i64 = 15;

/// `date`: days. A time of day is read and dropped, as Postgres does.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    match special(text) {
        Some(i64::MIN) => Some(i32::MIN),
        Some(TIMESTAMP_INFINITY) => Some(DATE_INFINITY),
        Some(epoch) => i32::try_from(epoch / DAY).ok(),
        None => {
            let moment = Moment::parse(text)?;
            i32::try_from(moment.days).ok().filter(|_| moment.days < END_DATE_DAYS)
        }
    }
}

/// `time`: microseconds of the day, `24:00` included.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("allballs") {
        return Some(0);
    }
    let (time, zone) = parse_clock(text)?;
    time.filter(|_| zone.is_none())
}

/// `timestamp`: microseconds; a zone is dropped, as Postgres does.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    if let Some(value) = special(text) {
        return Some(value);
    }
    in_range(Moment::parse(text)?.local()?)
}

/// `timestamptz`: microseconds in UTC, which is also the zone where none is given.
pub(crate) fn parse_timestamptz(text: &str) -> Option<i64> {
    if let Some(value) = special(text) {
        return Some(value);
    }
    let moment = Moment::parse(text)?;
    in_range(moment.local()? - moment.zone.unwrap_or(0) * SECOND)
}

/// `date` as a timestamp at midnight.
pub(crate) fn date_to_timestamp(days: i32) -> Result<i64, EvalError> {
    match days {
        i32::MIN => Ok(i64::MIN),
        DATE_INFINITY => Ok(TIMESTAMP_INFINITY),
        _ => (i64::from(days).checked_mul(DAY).and_then(in_range))
            .ok_or(EvalError::OutOfRange { ty: "timestamp" }),
    }
}

/// The day of a timestamp.
pub(crate) fn timestamp_to_date(micros: i64) -> i32 {
    match micros {
        i64::MIN => i32::MIN,
        TIMESTAMP_INFINITY => DATE_INFINITY,
        _ => i32::try_from(micros.div_euclid(DAY)).unwrap_or(DATE_INFINITY),
    }
}

/// A date so many days later.
pub(crate) fn add_days(days: i32, count: i64) -> Result<i32, EvalError> {
    if matches!(days, i32::MIN | DATE_INFINITY) {
        return Ok(days);
    }
    let sum = i64::from(days) + count;
    i32::try_from(sum)
        .ok()
        .filter(|_| (MIN_DAYS..END_DATE_DAYS).contains(&sum))
        .ok_or(EvalError::OutOfRange { ty: "date" })
}

/// A date and a time of day.
pub(crate) fn at_time(days: i32, time: i64) -> Result<i64, EvalError> {
    let midnight = date_to_timestamp(days)?;
    if matches!(midnight, i64::MIN | TIMESTAMP_INFINITY) {
        return Ok(midnight);
    }
    midnight.checked_add(time).and_then(in_range).ok_or(EvalError::OutOfRange { ty: "timestamp" })
}

pub(crate) fn format_date(days: i32) -> String {
    match days {
        i32::MIN => "-infinity".to_owned(),
        DATE_INFINITY => "infinity".to_owned(),
        _ => {
            let (day, before_christ) = format_day(i64::from(days));
            day + before_christ
        }
    }
}

pub(crate) fn format_time(micros: i64) -> String {
    let (seconds, fraction) = (micros / SECOND, micros % SECOND);
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 {
        return clock;
    }
    let digits = format!("{fraction:06}");
    format!("{clock}.{}", digits.trim_end_matches('0'))
}

/// `zone` is what follows the time: nothing, or `+00`.
pub(crate) fn format_timestamp(micros: i64, zone: &str) -> String {
    match micros {
        i64::MIN => "-infinity".to_owned(),
        TIMESTAMP_INFINITY => "infinity".to_owned(),
        _ => {
            let (day, before_christ) = format_day(micros.div_euclid(DAY));
            format!("{day} {}{zone}{before_christ}", format_time(micros.rem_euclid(DAY)))
        }
    }
}

fn special(text: &str) -> Option<i64> {
    match text.to_ascii_lowercase().as_str() {
        "infinity" | "+infinity" => Some(TIMESTAMP_INFINITY),
        "-infinity" => Some(i64::MIN),
        "epoch" => Some(-UNIX_EPOCH_DAYS * DAY),
        _ => None,
    }
}

pub(crate) fn in_range(micros: i64) -> Option<i64> {
    (MIN_DAYS * DAY..END_TIMESTAMP_DAYS * DAY).contains(&micros).then_some(micros)
}

/// A day, perhaps with a time of day and a zone's seconds east of UTC.
struct Moment {
    days: i64,
    time: Option<i64>,
    zone: Option<i64>,
}

impl Moment {
    fn parse(text: &str) -> Option<Self> {
        let (text, before_christ) = match text.to_ascii_lowercase().as_str() {
            lower if lower.ends_with(" bc") => (text.get(..text.len() - 3)?.trim_end(), true),
            lower if lower.ends_with(" ad") => (text.get(..text.len() - 3)?.trim_end(), false),
            _ => (text, false),
        };
        let (day, rest) = match text.find([' ', 'T', 't']) {
            Some(at) => (text.get(..at)?, text.get(at + 1..)?.trim_start()),
            None => (text, ""),
        };
        let days = parse_day(day, before_christ)?;
        let (time, zone) = if rest.is_empty() { (None, None) } else { parse_clock(rest)? };
        Some(Self { days, time, zone })
    }

    fn local(&self) -> Option<i64> {
        self.days.checked_mul(DAY)?.checked_add(self.time.unwrap_or(0))
    }
}

/// `2026-01-31`, `20260131` or `31/01/2026`, as days.
fn parse_day(text: &str, before_christ: bool) -> Option<i64> {
    let parts: Vec<&str> = text.split(['-', '/']).collect();
    let dashes = !text.contains('/');
    let (year, month, day) = match *parts.as_slice() {
        [date] if date.len() == 8 && date.is_ascii() => (date.get(..4)?, date.get(4..6)?, date.get(6..)?),
        [year, month, day] if dashes && year.len() >= 4 => (year, month, day),
        [day, month, year] if !text.contains('-') && year.len() == 4 => (year, month, day),
        _ => return None,
    };
    let year = number(year, 7)?;
    let (month, day) = (number(month, 2)?, number(day, 2)?);
    // There is no year 0: 1 BC stands before 1 AD.
    let year = if before_christ { 1 - year } else { year };
    if (year <= 0) != before_christ
        || !(1..=12).contains(&month)
        || !(1..=month_days(year, month)).contains(&day)
    {
        return None;
    }
    Some(days_from_civil(year, month, day)).filter(|days| *days >= MIN_DAYS)
}

/// A time of day and a zone: `10:00`, `10:00:00.5`, `10:00 PM`, `10:00:00+05:30`, `10:00Z`.
pub(crate) fn parse_clock(text: &str) -> Option<(Option<i64>, Option<i64>)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.').unwrap_or(text.len());
    let (clock, mut rest) = (text.get(..end)?, text.get(end..)?.trim_start());
    let mut half = None;
    if let Some(word @ ("am" | "pm")) = rest.get(..2).map(str::to_ascii_lowercase).as_deref() {
        half = Some(word == "pm");
        rest = rest.get(2..)?.trim_start();
    }
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, digits)) => (clock, parse_fraction(digits)?),
        None => (clock, 0),
    };
    let parts: Vec<i64> = clock.split(':').map(|part| number(part, 2)).collect::<Option<_>>()?;
    let (hour, minute, second) = match *parts.as_slice() {
        [hour, minute] if !text.get(..end)?.contains('.') => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let hour = match half {
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
        None => hour,
    };
    let micros = ((hour * 60 + minute) * 60 + second) * SECOND + fraction;
    if minute > 59 || second > 59 || micros > DAY {
        return None;
    }
    let zone = if rest.is_empty() { None } else { Some(parse_zone(rest)?) };
    Some((Some(micros), zone))
}

/// Digits after the point, rounded to microseconds the way Postgres does, by way of a `float8`.
fn parse_fraction(digits: &str) -> Option<i64> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction: f64 = format!("0.{digits}0").parse().ok()?;
    #[allow(clippy::cast_possible_truncation, reason = "a number of 0 to 1,000,000")]
    Some((fraction * 1_000_000.0).round_ties_even() as i64)
}

/// Seconds east of UTC: `Z`, `UTC`, `+05`, `-05:30`, `+0530`, `+05:30:15`.
fn parse_zone(text: &str) -> Option<i64> {
    if ["z", "utc", "gmt"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let offset = text.get(1..)?;
    let parts: Vec<&str> = match offset.len() {
        4 if !offset.contains(':') => vec![offset.get(..2)?, offset.get(2..)?],
        _ => offset.split(':').collect(),
    };
    let fields: Vec<i64> = parts.iter().map(|part| number(part, 2)).collect::<Option<_>>()?;
    let (hours, minutes, seconds) = match *fields.as_slice() {
        [hours] => (hours, 0, 0),
        [hours, minutes] => (hours, minutes, 0),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return None,
    };
    let valid = hours <= MAX_ZONE_HOURS && minutes <= 59 && seconds <= 59;
    valid.then_some(sign * ((hours * 60 + minutes) * 60 + seconds))
}

fn number(text: &str, limit: usize) -> Option<i64> {
    let valid = !text.is_empty() && text.len() <= limit && text.bytes().all(|b| b.is_ascii_digit());
    if valid { text.parse().ok() } else { None }
}

pub(crate) fn month_days(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Proleptic Gregorian, years before 1 counted downwards; days from 2000-01-01. Years begin in March here, so
/// that the leap day is the last.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    // 730,425 days lie between 0000-03-01 and 2000-01-01.
    era * 146_097 + day_of_era - 730_425
}

/// The opposite of [`days_from_civil`]: year, month, day.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 730_425;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + i64::from(month >= 10);
    (year, if month < 10 { month + 3 } else { month - 9 }, day)
}

/// `yyyy-mm-dd`, and the suffix of years before Christ.
fn format_day(days: i64) -> (String, &'static str) {
    let (year, month, day) = civil(days);
    let (year, suffix) = if year <= 0 { (1 - year, " BC") } else { (year, "") };
    (format!("{year:04}-{month:02}-{day:02}"), suffix)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn days_count_from_the_year_2000() {
        assert_eq!(parse_date("2000-01-01"), Some(0));
        assert_eq!(parse_date("epoch"), Some(-10_957));
        assert_eq!(parse_date("2000-02-29"), Some(59));
        assert_eq!(parse_date("31/01/2000"), Some(30));
        assert_eq!(parse_date("20000131"), Some(30));
        assert_eq!(parse_date("4714-11-24 BC"), Some(-2_451_545));
        assert_eq!(parse_date("5874897-12-31"), Some(2_145_031_948));
        for bad in
            ["1900-02-29", "0000-01-01", "4714-11-23 BC", "5874898-01-01", "26-1-1", "today", "", "-1-1-1"]
        {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates_round_trip() {
        for text in ["0044-03-15 BC", "0001-12-31 BC", "0001-01-01", "1999-12-31", "12026-02-28", "-infinity"]
        {
            assert_eq!(format_date(parse_date(text).expect(text)), text);
        }
        for days in (-2_451_545..=2_451_545).step_by(997) {
            assert_eq!(parse_date(&format_date(days)), Some(days));
        }
    }

    #[test]
    fn times_of_day() {
        for (text, shown) in [
            ("10:00", "10:00:00"),
            ("1:02:03", "01:02:03"),
            ("1:02:03 PM", "13:02:03"),
            ("12:00 AM", "00:00:00"),
            ("10:00:00.1234567", "10:00:00.123457"),
            ("24:00", "24:00:00"),
        ] {
            assert_eq!(format_time(parse_time(text).expect(text)), shown);
        }
        for bad in ["24:00:01", "10", "10:60", "13:00 PM", "10:00:00+02", "10:00.5", ""] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn timestamps_and_zones() {
        let utc = |text: &str| format_timestamp(parse_timestamptz(text).expect(text), "+00");
        assert_eq!(utc("2026-01-31 11:00+01"), "2026-01-31 10:00:00+00");
        assert_eq!(utc("2026-01-31T10:00:00Z"), "2026-01-31 10:00:00+00");
        assert_eq!(utc("2026-01-31 10:00:00-05:30"), "2026-01-31 15:30:00+00");
        assert_eq!(utc("2026-01-31"), "2026-01-31 00:00:00+00");
        assert_eq!(utc("0044-03-15 12:00:00+00 BC"), "0044-03-15 12:00:00+00 BC");
        assert_eq!(parse_timestamptz("2026-01-31 10:00 America/New_York"), None);
        assert_eq!(parse_timestamptz("now"), None);
        assert_eq!(parse_timestamp("294277-01-01"), None);
        let wall = parse_timestamp("2026-01-31 10:00:00.5+05").expect("reads");
        assert_eq!(format_timestamp(wall, ""), "2026-01-31 10:00:00.5");
    }

    #[test]
    fn infinity_stays() {
        assert_eq!(add_days(DATE_INFINITY, 1), Ok(DATE_INFINITY));
        assert_eq!(date_to_timestamp(i32::MIN), Ok(i64::MIN));
        assert_eq!(timestamp_to_date(TIMESTAMP_INFINITY), DATE_INFINITY);
        assert!(add_days(2_145_031_948, 1).is_err());
        assert!(date_to_timestamp(2_145_031_948).is_err());
    }
}
