//! The order of two values that are not null.

use super::arithmetic;
use crate::filter::data_type::array::Array;
use crate::filter::data_type::datetime;
use crate::filter::data_type::operator::Order;
use crate::filter::data_type::value::{Value, trimmed};
use crate::filter::error::EvalError;
use std::cmp::Ordering;

/// In the order that the check chose.
pub(crate) fn ordered(order: Order, left: &Value<'_>, right: &Value<'_>) -> Result<Ordering, EvalError> {
    Ok(match (order, left, right) {
        (Order::Text { trim_left, trim_right }, Value::Text(a), Value::Text(b)) => {
            let a = if trim_left { trimmed(a) } else { a };
            a.cmp(if trim_right { trimmed(b) } else { b })
        }
        (Order::Float, a, b) => floats(arithmetic::float(a)?, arithmetic::float(b)?),
        (Order::Numeric, a, b) => arithmetic::numeric(a)?.compare(&*arithmetic::numeric(b)?),
        (Order::Array { padded }, Value::Array(a), Value::Array(b)) => a.compare(b, padded)?,
        (Order::Natural, a, b) => natural(a, b, false)?,
        (Order::Text { .. } | Order::Array { .. }, _, _) => {
            return Err(EvalError::WrongType { ty: "comparable value" });
        }
    })
}

/// Two values of the same type. `padded` texts lose their padding first.
pub(crate) fn natural(left: &Value<'_>, right: &Value<'_>, padded: bool) -> Result<Ordering, EvalError> {
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
        (Value::Date(_) | Value::Timestamp(_), Value::Date(_) | Value::Timestamp(_)) => {
            instant(left)?.cmp(&instant(right)?)
        }
        // Values of two types, which the check pairs nowhere; or of a type without an order, which it refuses.
        (
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Numeric(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Bytes(_)
            | Value::Uuid(_)
            | Value::Inet(_)
            | Value::Date(_)
            | Value::Time(_)
            | Value::Timetz(_)
            | Value::Timestamp(_)
            | Value::Interval(_)
            | Value::Json(_)
            | Value::Array(_)
            | Value::Opaque(_),
            _,
        ) => return Err(EvalError::WrongType { ty: "timestamp" }),
    })
}

/// NaN is equal to itself and greater than everything else; the two zeros are equal.
fn floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Microseconds, wide enough for every date.
pub(crate) fn instant(value: &Value<'_>) -> Result<i128, EvalError> {
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

impl Array {
    /// Elements first, then their number, then the shape. NULL stands behind every value.
    pub(crate) fn compare(&self, other: &Self, padded: bool) -> Result<Ordering, EvalError> {
        for (left, right) in self.elements.iter().zip(&other.elements) {
            let ordering = match (left, right) {
                (Value::Null, Value::Null) => Ordering::Equal,
                (Value::Null, _) => Ordering::Greater,
                (_, Value::Null) => Ordering::Less,
                (left, right) => natural(left, right, padded)?,
            };
            if ordering.is_ne() {
                return Ok(ordering);
            }
        }
        let lengths = |array: &Self| array.dimensions.iter().map(|d| d.length).collect::<Vec<_>>();
        let lowers = |array: &Self| array.dimensions.iter().map(|d| d.lower).collect::<Vec<_>>();
        Ok((self.elements.len().cmp(&other.elements.len()))
            .then_with(|| self.dimensions.len().cmp(&other.dimensions.len()))
            .then_with(|| lengths(self).cmp(&lengths(other)))
            .then_with(|| lowers(self).cmp(&lowers(other))))
    }

    /// `@>`: every element of `other` is one of ours; NULL is none.
    pub(crate) fn contains(&self, other: &Self, padded: bool) -> Result<bool, EvalError> {
        for wanted in &other.elements {
            if !self.holds(wanted, padded)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `&&`
    pub(crate) fn overlaps(&self, other: &Self, padded: bool) -> Result<bool, EvalError> {
        for wanted in &other.elements {
            if self.holds(wanted, padded)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn holds(&self, wanted: &Value<'_>, padded: bool) -> Result<bool, EvalError> {
        if *wanted == Value::Null {
            return Ok(false);
        }
        for element in self.elements.iter().filter(|element| **element != Value::Null) {
            if natural(element, wanted, padded)?.is_eq() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::data_type::operator::comparison;
    use crate::filter::data_type::ty::{SCALARS, Type};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// A text that the type reads.
    fn sample(ty: &Type) -> &'static str {
        match ty {
            Type::Bool => "t",
            Type::Int2
            | Type::Int4
            | Type::Int8
            | Type::Numeric
            | Type::Float4
            | Type::Float8
            | Type::Oid => "1",
            Type::Text | Type::Varchar | Type::Bpchar | Type::Name | Type::Char => "a",
            Type::Bytea => "\\x01",
            Type::Bit | Type::Varbit => "101",
            Type::Uuid => "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            Type::Inet | Type::Cidr => "10.0.0.0/8",
            Type::Date => "2024-02-29",
            Type::Time => "10:20:30",
            Type::Timetz => "10:20:30+01",
            Type::Timestamp => "2024-02-29 10:20:30",
            Type::Timestamptz => "2024-02-29 10:20:30+00",
            Type::Interval => "1 day",
            Type::Json | Type::Jsonb => "{}",
            Type::Enum(_) | Type::Array(_) | Type::Opaque { .. } => unreachable!("no scalar"),
        }
    }

    #[test]
    fn every_comparison_that_the_check_allows_is_evaluated() {
        for left in &SCALARS {
            for right in &SCALARS {
                let Some(order) = comparison(left, right) else { continue };
                let value = |ty: &Type| Value::parse(ty, sample(ty).as_bytes()).expect("its type reads it");
                assert!(ordered(order, &value(left), &value(right)).is_ok(), "{left:?} and {right:?}");
            }
        }
    }
}
