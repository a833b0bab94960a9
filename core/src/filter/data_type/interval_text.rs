//! The notations of intervals: Postgres's words, SQL's years and months, ISO 8601.

use super::datetime::SECOND;
use super::interval::{HOUR, Interval, MINUTE};

/// Adds up parts while it watches that none is given twice.
#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    micros: i128,
    seen: Vec<&'static str>,
}

impl Sum {
    /// `fraction` is in microseconds and belongs to seconds only.
    fn add(&mut self, unit: &'static str, count: i64, fraction: i64) -> Option<()> {
        if self.seen.contains(&unit) || (fraction != 0 && unit != "second") {
            return None;
        }
        self.seen.push(unit);
        let months = |factor: i64| count.checked_mul(factor);
        match unit {
            "millennium" => self.months = self.months.checked_add(months(12_000)?)?,
            "century" => self.months = self.months.checked_add(months(1_200)?)?,
            "decade" => self.months = self.months.checked_add(months(120)?)?,
            "year" => self.months = self.months.checked_add(months(12)?)?,
            "month" => self.months = self.months.checked_add(count)?,
            "week" => self.days = self.days.checked_add(count.checked_mul(7)?)?,
            "day" => self.days = self.days.checked_add(count)?,
            "hour" => self.micros += i128::from(count) * i128::from(HOUR),
            "minute" => self.micros += i128::from(count) * i128::from(MINUTE),
            "second" => self.micros += i128::from(count) * i128::from(SECOND) + i128::from(fraction),
            "millisecond" => self.micros += i128::from(count) * 1_000,
            _ => self.micros += i128::from(count),
        }
        Some(())
    }

    fn finish(self, negated: bool) -> Option<Interval> {
        let sign = if negated { -1 } else { 1 };
        Some(Interval {
            months: i32::try_from(self.months * sign).ok()?,
            days: i32::try_from(self.days * sign).ok()?,
            micros: i64::try_from(self.micros * i128::from(sign)).ok()?,
        })
    }
}

/// After the `P`.
pub(crate) fn parse_iso(text: &str) -> Option<Interval> {
    let mut sum = Sum::default();
    let (mut rest, mut in_time) = (text, false);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(['T', 't']).filter(|_| !in_time) {
            (rest, in_time) = (after, true);
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (count, fraction) = parse_count(rest.get(..end)?)?;
        let unit = match (rest.as_bytes().get(end)?.to_ascii_uppercase(), in_time) {
            (b'Y', false) => "year",
            (b'M', false) => "month",
            (b'W', false) => "week",
            (b'D', false) => "day",
            (b'H', true) => "hour",
            (b'M', true) => "minute",
            (b'S', true) => "second",
            _ => return None,
        };
        sum.add(unit, count, fraction)?;
        rest = rest.get(end + 1..)?;
    }
    if sum.seen.is_empty() { None } else { sum.finish(false) }
}

/// `1 year 2 mons -3 days 04:05:06`, `@ 1 minute ago`, `1-2 3 04:05`
pub(crate) fn parse_words(text: &str) -> Option<Interval> {
    let tokens = split(text);
    let mut tokens = tokens.as_slice();
    if let Some(("@", rest)) = tokens.split_first().map(|(first, rest)| (*first, rest)) {
        tokens = rest;
    }
    let mut negated = false;
    if let Some((last, rest)) = tokens.split_last()
        && last.eq_ignore_ascii_case("ago")
    {
        (negated, tokens) = (true, rest);
    }
    let mut sum = Sum::default();
    while let Some((token, rest)) = tokens.split_first() {
        tokens = rest;
        if token.contains(':') {
            add_clock(&mut sum, token)?;
            continue;
        }
        if let Some((years, months)) = token.get(1..).and_then(|tail| tail.split_once('-')) {
            add_years(&mut sum, token, years.len() + 1, months)?;
            continue;
        }
        let (count, fraction) = parse_count(token)?;
        let unit = match tokens.split_first() {
            Some((word, rest)) if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                tokens = rest;
                unit(word)?
            }
            // A bare number counts days before a time of day and seconds at the end.
            Some((next, _)) if next.contains(':') => "day",
            None => "second",
            Some(_) => return None,
        };
        sum.add(unit, count, fraction)?;
    }
    if sum.seen.is_empty() { None } else { sum.finish(negated) }
}

/// At blanks, and between digits and letters.
fn split(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for word in text.split_ascii_whitespace() {
        let letters = |c: char| c.is_ascii_alphabetic();
        match word.find(letters).filter(|at| *at > 0) {
            Some(at) => tokens.extend([word.get(..at), word.get(at..)].into_iter().flatten()),
            None => tokens.push(word),
        }
    }
    tokens
}

/// `-04:05:06.789`
fn add_clock(sum: &mut Sum, token: &str) -> Option<()> {
    let (sign, clock) = match token.as_bytes().first()? {
        b'-' => (-1, token.get(1..)?),
        b'+' => (1, token.get(1..)?),
        _ => (1, token),
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let (hours, minutes, seconds) = match *parts.as_slice() {
        [hours, minutes] => (hours, minutes, "0"),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return None,
    };
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i64>().ok())?;
    let (hours, minutes) = (plain(hours)?, plain(minutes)?);
    if seconds.starts_with(['+', '-']) {
        return None;
    }
    let (seconds, fraction) = parse_count(seconds)?;
    if minutes > 59 || seconds > 59 {
        return None;
    }
    sum.add("hour", sign * hours, 0)?;
    sum.add("minute", sign * minutes, 0)?;
    sum.add("second", sign * seconds, sign * fraction)
}

/// `1-2`: years and months of one sign.
fn add_years(sum: &mut Sum, token: &str, at: usize, months: &str) -> Option<()> {
    let (years, _) = parse_count(token.get(..at)?)?;
    let months: i64 = months.bytes().all(|b| b.is_ascii_digit()).then(|| months.parse().ok())??;
    if months > 11 {
        return None;
    }
    let negative = token.starts_with('-');
    sum.add("year", years, 0)?;
    sum.add("month", if negative { -months } else { months }, 0)
}

/// A count, and its fraction in microseconds.
fn parse_count(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = text.starts_with('-');
    let digits = whole.strip_prefix(['+', '-']).unwrap_or(whole);
    let numeric = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if (digits.is_empty() && fraction.is_empty())
        || !numeric(digits)
        || !numeric(fraction)
        || fraction.len() > 6
    {
        return None;
    }
    let count: i64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    Some(if negative { (-count, -micros) } else { (count, micros) })
}

fn unit(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecon" | "microsecond" | "microseconds" => {
            "microsecond"
        }
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecon" | "millisecond" | "milliseconds" => {
            "millisecond"
        }
        "s" | "sec" | "secs" | "second" | "seconds" => "second",
        "m" | "min" | "mins" | "minute" | "minutes" => "minute",
        "h" | "hr" | "hrs" | "hour" | "hours" => "hour",
        "d" | "day" | "days" => "day",
        "w" | "week" | "weeks" => "week",
        "mon" | "mons" | "month" | "months" => "month",
        "y" | "yr" | "yrs" | "year" | "years" => "year",
        "dec" | "decs" | "decade" | "decades" => "decade",
        "c" | "cent" | "century" | "centuries" => "century",
        "mil" | "mils" | "millennia" | "millennium" => "millennium",
        _ => return None,
    })
}
