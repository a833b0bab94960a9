//! The order of two values that are not null.

use super::error::EvalError;
use super::expr::Order;
use super::value::{Value, trimmed};
use super::{arithmetic, datetime};
use std::cmp::Ordering;

/// In the order that the check chose.
pub(super) fn ordered(order: Order, left: &Value<'_>, right: &Value<'_>) -> Result<Ordering, EvalError> {
    Ok(match (order, left, right) {
        (Order::Text { trim_left, trim_right }, Value::Text(a), Value::Text(b)) => {
            let a = if trim_left { trimmed(a) } else { a };
            a.cmp(if trim_right { trimmed(b) } else { b })
        }
        (Order::Float, a, b) => floats(arithmetic::float(a)?, arithmetic::float(b)?),
        (Order::Numeric, a, b) => arithmetic::numeric(a)?.compare(&*arithmetic::numeric(b)?),
        (Order::Array { padded }, Value::Array(a), Value::Array(b)) => a.compare(b, padded)?,
        (Order::Natural, a, b) => natural(a, b, false)?,
        _ => return Err(EvalError::WrongType { ty: "comparable value" }),
    })
}

/// Two values of the same type. `padded` texts lose their padding first.
pub(super) fn natural(left: &Value<'_>, right: &Value<'_>, padded: bool) -> Result<Ordering, EvalError> {
    Ok(match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) if padded => trimmed(a).cmp(trimmed(b)),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Numeric(a), Value::Numeric(b)) => a.compare(b),
        (Value::Float(a), Value::Float(b)) => floats(*a, *b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        (Value::Inet(a), Value::Inet(b)) => a.compare(b),
        (Value::Time(a), Value::Time(b)) => a.cmp(b),
        (Value::Timetz(a), Value::Timetz(b)) => a.compare(b),
        (Value::Interval(a), Value::Interval(b)) => a.compare(b),
        (Value::Json(a), Value::Json(b)) if a.equals(b) => Ordering::Equal,
        // Only equality is asked of documents.
        (Value::Json(_), Value::Json(_)) => Ordering::Less,
        (Value::Array(a), Value::Array(b)) => a.compare(b, padded)?,
        (a, b) => instant(a)?.cmp(&instant(b)?),
    })
}

/// NaN is equal to itself and greater than everything else; the two zeros are equal.
fn floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Microseconds, wide enough for every date.
fn instant(value: &Value<'_>) -> Result<i128, EvalError> {
    match value {
        Value::Date(i32::MIN) | Value::Timestamp(i64::MIN) => Ok(i128::MIN),
        Value::Date(datetime::DATE_INFINITY) | Value::Timestamp(datetime::TIMESTAMP_INFINITY) => {
            Ok(i128::MAX)
        }
        Value::Date(days) => Ok(i128::from(*days) * i128::from(datetime::DAY)),
        Value::Timestamp(micros) => Ok(i128::from(*micros)),
        _ => Err(EvalError::WrongType { ty: "timestamp" }),
    }
}
