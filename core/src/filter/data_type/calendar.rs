//! Arithmetic and functions on dates and times that need the calendar: months of different lengths, fields,
//! rounding down, zones at a fixed distance from UTC.

use super::call::{Arguments, Outcome};
use super::datetime::{
    self, DATE_INFINITY, DAY, SECOND, TIMESTAMP_INFINITY, civil, days_from_civil, month_days,
};
use super::interval::Interval;
use super::number::Numeric;
use super::value::Value;
use crate::filter::error::EvalError;

const RANGE: EvalError = EvalError::OutOfRange { ty: "timestamp" };
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// A timestamp an interval later: first the months, the day cut to the month's length, then days, then time.
pub(crate) fn add(micros: i64, interval: &Interval) -> Result<i64, EvalError> {
    if is_infinite(micros) {
        return Ok(micros);
    }
    let (mut days, time) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let step = |days: i64| days.checked_mul(DAY).and_then(|at| datetime::in_range(at + time)).ok_or(RANGE);
    if interval.months != 0 {
        let (year, month, day) = civil(days);
        let months = year * 12 + month - 1 + i64::from(interval.months);
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        days = days_from_civil(year, month, day.min(month_days(year, month)));
        step(days)?;
    }
    days += i64::from(interval.days);
    step(days)?.checked_add(interval.micros).and_then(datetime::in_range).ok_or(RANGE)
}

/// `a - b`: days and a time, no months.
pub(crate) fn difference(a: i64, b: i64) -> Result<Interval, EvalError> {
    if is_infinite(a) || is_infinite(b) {
        return Err(EvalError::Failed("cannot subtract infinite timestamps"));
    }
    Interval {
        micros: a.checked_sub(b).ok_or(EvalError::OutOfRange { ty: "interval" })?,
        ..Interval::default()
    }
    .justify_hours()
}

/// A time of day an interval later; only its time counts.
pub(crate) fn add_to_time(time: i64, micros: i64) -> i64 {
    (i128::from(time) + i128::from(micros)).rem_euclid(i128::from(DAY)).try_into().unwrap_or(0)
}

/// Microseconds that a zone lies east of UTC, where it lies there at all times. In names of this form `+` is
/// west, as POSIX has it.
pub(crate) fn fixed_zone(name: &str) -> Option<i64> {
    if ["utc", "gmt", "z", "zulu", "etc/utc"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return Some(0);
    }
    let (sign, digits) = match name.as_bytes().first()? {
        b'+' => (-1, name.get(1..)?),
        b'-' => (1, name.get(1..)?),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "00"));
    let plain = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !plain(hours) || !plain(minutes) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 15 && minutes <= 59).then_some(sign * (hours * HOUR + minutes * MINUTE))
}

/// Moves a timestamp between UTC and the time of a zone.
pub(crate) fn shift(micros: i64, by: i64) -> Result<i64, EvalError> {
    if is_infinite(micros) {
        return Ok(micros);
    }
    micros.checked_add(by).and_then(datetime::in_range).ok_or(RANGE)
}

fn is_infinite(micros: i64) -> bool {
    matches!(micros, i64::MIN | TIMESTAMP_INFINITY)
}

fn interval(arguments: &Arguments<'_>) -> Result<Interval, EvalError> {
    match arguments.value(0)? {
        Value::Interval(interval) => Ok(*interval),
        _ => Err(EvalError::WrongType { ty: "interval" }),
    }
}

pub(crate) fn justify_days(arguments: &Arguments<'_>) -> Outcome {
    interval(arguments)?.justify_days().map(Value::Interval)
}

pub(crate) fn justify_hours(arguments: &Arguments<'_>) -> Outcome {
    interval(arguments)?.justify_hours().map(Value::Interval)
}

pub(crate) fn justify_interval(arguments: &Arguments<'_>) -> Outcome {
    interval(arguments)?.justify_interval().map(Value::Interval)
}

/// `make_date(year, month, day)`; negative years are before Christ.
pub(crate) fn make_date(arguments: &Arguments<'_>) -> Outcome {
    let (year, month, day) = (arguments.int(0)?, arguments.int(1)?, arguments.int(2)?);
    let civil_year = if year < 0 { year + 1 } else { year };
    if year == 0 || !(1..=12).contains(&month) || !(1..=month_days(civil_year, month)).contains(&day) {
        return Err(EvalError::Failed("date field value out of range"));
    }
    let days = days_from_civil(civil_year, month, day);
    let range = EvalError::OutOfRange { ty: "date" };
    let valid = (datetime::MIN_DAYS..datetime::END_DATE_DAYS).contains(&days);
    i32::try_from(days).ok().filter(|_| valid).map(Value::Date).ok_or(range)
}

/// The fields of `extract` and `date_part` that core reads; those of the clock are not a date's.
pub(crate) fn is_field(name: &str, of_date: bool) -> bool {
    matches!(name, "year" | "quarter" | "month" | "week" | "day" | "dow" | "isodow" | "doy" | "epoch")
        || (!of_date && matches!(name, "hour" | "minute" | "second"))
}

/// The units that `date_trunc` can round down to here.
pub(crate) fn is_precision(name: &str) -> bool {
    matches!(name, "year" | "quarter" | "month" | "week" | "day" | "hour" | "minute" | "second")
}

/// `extract(field FROM x)`
pub(crate) fn extract(arguments: &Arguments<'_>) -> Outcome {
    Ok(field(arguments)?.map_or(Value::Null, Value::numeric))
}

/// The same as a `float8`.
pub(crate) fn date_part(arguments: &Arguments<'_>) -> Outcome {
    Ok(field(arguments)?.map_or(Value::Null, |number| Value::Float(number.to_f64())))
}

fn field(arguments: &Arguments<'_>) -> Result<Option<Numeric>, EvalError> {
    let name = arguments.text(0)?;
    let (days, time) = match arguments.value(1)? {
        Value::Date(i32::MIN) | Value::Timestamp(i64::MIN) => {
            return Ok(is_endless(name).then_some(Numeric::NegativeInfinity));
        }
        Value::Date(DATE_INFINITY) | Value::Timestamp(TIMESTAMP_INFINITY) => {
            return Ok(is_endless(name).then_some(Numeric::Infinity));
        }
        Value::Date(days) => (i64::from(*days), None),
        Value::Timestamp(micros) => (micros.div_euclid(DAY), Some(micros.rem_euclid(DAY))),
        _ => return Err(EvalError::WrongType { ty: "timestamp" }),
    };
    let (year, month, day) = civil(days);
    let clock = time.unwrap_or(0);
    Ok(Some(Numeric::from(match name {
        // There is no year 0.
        "year" => year - i64::from(year <= 0),
        "quarter" => (month - 1) / 3 + 1,
        "month" => month,
        "week" => iso_week(days),
        "day" => day,
        "dow" => (days + 6).rem_euclid(7),
        "isodow" => (days + 5).rem_euclid(7) + 1,
        "doy" => days - days_from_civil(year, 1, 1) + 1,
        "hour" => clock / HOUR,
        "minute" => clock / MINUTE % 60,
        "second" => return Ok(Some(Numeric::scaled(clock % MINUTE, 6))),
        "epoch" => match time {
            None => (days + datetime::UNIX_EPOCH_DAYS) * (DAY / SECOND),
            Some(clock) => {
                let since = (i128::from(days) + i128::from(datetime::UNIX_EPOCH_DAYS)) * i128::from(DAY);
                return Ok(Some(Numeric::scaled(since + i128::from(clock), 6)));
            }
        },
        _ => return Err(EvalError::Failed("unit not recognized")),
    })))
}

/// The fields that grow without end are infinite for infinite values; the others are NULL.
fn is_endless(name: &str) -> bool {
    matches!(name, "year" | "epoch")
}

/// Weeks begin on Monday; the first one of a year holds its 4 January.
fn iso_week(days: i64) -> i64 {
    let thursday = days - (days + 5).rem_euclid(7) + 3;
    let (year, ..) = civil(thursday);
    (thursday - days_from_civil(year, 1, 1)) / 7 + 1
}

pub(crate) fn date_trunc(arguments: &Arguments<'_>) -> Outcome {
    let (precision, Value::Timestamp(micros)) = (arguments.text(0)?, arguments.value(1)?) else {
        return Err(EvalError::WrongType { ty: "timestamp" });
    };
    if is_infinite(*micros) {
        return Ok(Value::Timestamp(*micros));
    }
    let days = micros.div_euclid(DAY);
    let (year, month, _) = civil(days);
    let truncated = match precision {
        "year" => days_from_civil(year, 1, 1) * DAY,
        "quarter" => days_from_civil(year, (month - 1) / 3 * 3 + 1, 1) * DAY,
        "month" => days_from_civil(year, month, 1) * DAY,
        "week" => (days - (days + 5).rem_euclid(7)) * DAY,
        "day" => days * DAY,
        "hour" => micros - micros.rem_euclid(HOUR),
        "minute" => micros - micros.rem_euclid(MINUTE),
        "second" => micros - micros.rem_euclid(SECOND),
        _ => return Err(EvalError::Failed("unit not recognized")),
    };
    datetime::in_range(truncated).map(Value::Timestamp).ok_or(RANGE)
}

#[cfg(test)]
mod tests {
    use super::super::ty::Type;
    use super::*;
    use crate::pg::Collation;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn timestamp(text: &str) -> i64 {
        datetime::parse_timestamp(text).unwrap_or_else(|| panic!("{text}"))
    }

    fn call(function: fn(&Arguments<'_>) -> Outcome, name: &str, value: Value<'static>) -> String {
        let values = [Value::from_text(name.to_owned()), value];
        let types = [&Type::Text, &Type::Timestamp];
        let result = function(&Arguments { values: &values, types: &types, collation: Collation::C });
        String::from_utf8_lossy(&result.expect(name).output(&Type::Timestamp)).into_owned()
    }

    // The expected values are those of Postgres 15.
    #[test]
    fn months_are_cut_to_their_length() {
        let plus = |text: &str, interval: &str| {
            let interval = Interval::parse(interval).expect("reads");
            datetime::format_timestamp(add(timestamp(text), &interval).expect("in range"), "")
        };
        assert_eq!(plus("2026-01-31 10:00", "1 mon"), "2026-02-28 10:00:00");
        assert_eq!(plus("2024-02-29", "-1 year"), "2023-02-28 00:00:00");
        assert_eq!(plus("2026-01-31", "1 mon 1 day 25:00"), "2026-03-02 01:00:00");
        assert_eq!(plus("0001-01-15", "-1 mon"), "0001-12-15 00:00:00 BC");
        assert_eq!(plus("infinity", "1 mon"), "infinity");
        assert!(add(timestamp("294276-12-31"), &Interval { days: 1, ..Interval::default() }).is_err());
    }

    #[test]
    fn fields() {
        for (name, expected) in [
            ("year", "2026"),
            ("quarter", "1"),
            ("week", "5"),
            ("dow", "6"),
            ("isodow", "6"),
            ("doy", "31"),
            ("hour", "10"),
            ("second", "3.500000"),
            ("epoch", "1769853723.500000"),
        ] {
            let value = Value::Timestamp(timestamp("2026-01-31 10:02:03.5"));
            assert_eq!(call(extract, name, value), expected, "{name}");
        }
        assert_eq!(call(extract, "year", Value::Date(DATE_INFINITY)), "Infinity");
        assert_eq!(call(extract, "day", Value::Date(DATE_INFINITY)), "");
        assert_eq!(call(extract, "year", Value::Timestamp(timestamp("0044-03-15 BC"))), "-44");
        assert_eq!(call(extract, "week", Value::Timestamp(timestamp("2021-01-03"))), "53");
    }

    #[test]
    fn rounding_down() {
        let value = || Value::Timestamp(timestamp("2026-08-19 10:02:03.5"));
        for (name, expected) in [
            ("year", "2026-01-01 00:00:00"),
            ("quarter", "2026-07-01 00:00:00"),
            ("week", "2026-08-17 00:00:00"),
            ("hour", "2026-08-19 10:00:00"),
            ("second", "2026-08-19 10:02:03"),
        ] {
            assert_eq!(call(date_trunc, name, value()), expected, "{name}");
        }
    }

    #[test]
    fn zones_at_a_fixed_distance() {
        assert_eq!((fixed_zone("UTC"), fixed_zone("+05")), (Some(0), Some(-5 * HOUR)));
        assert_eq!(fixed_zone("-05:30"), Some(5 * HOUR + 30 * MINUTE));
        assert_eq!(fixed_zone("Europe/Berlin"), None);
        assert_eq!(add_to_time(0, -HOUR), 23 * HOUR);
    }
}
