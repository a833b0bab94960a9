//! Operators on numbers and dates, with Postgres's result types and failures.

use crate::filter::data_type::interval::Interval;
use crate::filter::data_type::number::Numeric;
use crate::filter::data_type::operator::{Arithmetic, Unary};
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::Value;
use crate::filter::data_type::{calendar, datetime, float};
use crate::filter::error::EvalError;
use std::borrow::Cow;

const WRONG_TYPE: EvalError = EvalError::WrongType { ty: "number" };

/// `left op right`, neither being null, of the result type `ty`.
pub(crate) fn binary(
    op: Arithmetic,
    ty: &Type,
    left: &Value<'_>,
    right: &Value<'_>,
) -> Result<Value<'static>, EvalError> {
    match (left, right) {
        (Value::Interval(a), b) => with_interval(op, a, b, true),
        (a, Value::Interval(b)) => with_interval(op, b, a, false),
        (Value::Time(a), Value::Time(b)) => {
            Ok(Value::Interval(Interval { micros: a - b, ..Interval::default() }))
        }
        _ if *ty == Type::Interval => {
            Ok(Value::Interval(calendar::difference(timestamp(left)?, timestamp(right)?)?))
        }
        (Value::Date(_), _) | (_, Value::Date(_)) => dates(op, left, right),
        (Value::Int(a), Value::Int(b)) if ty.is_integer() => ty.integer(integers(op, ty, *a, *b)?),
        _ if *ty == Type::Numeric => numerics(op, &*numeric(left)?, &*numeric(right)?),
        _ if *ty == Type::Float4 => floats4(op, float(left)?, float(right)?),
        _ => floats(op, float(left)?, float(right)?).map(Value::Float),
    }
}

/// `op operand`, not null, of the result type `ty`.
pub(crate) fn unary(op: Unary, ty: &Type, operand: Value<'_>) -> Result<Value<'static>, EvalError> {
    let range = EvalError::OutOfRange { ty: ty.static_name() };
    match (op, operand) {
        (Unary::SquareRoot, operand) => {
            let operand = float(&operand)?;
            if operand < 0.0 { Err(EvalError::NegativeRoot) } else { Ok(Value::Float(operand.sqrt())) }
        }
        (Unary::Minus, Value::Int(value)) => ty.integer(value.checked_neg().ok_or(range)?),
        (Unary::Absolute, Value::Int(value)) => ty.integer(value.checked_abs().ok_or(range)?),
        (Unary::BitNot, Value::Int(value)) => Ok(Value::Int(!value)),
        (Unary::Minus, Value::Interval(value)) => value.negated().map(Value::Interval),
        (Unary::Minus, Value::Float(value)) => Ok(Value::Float(-value)),
        (Unary::Absolute, Value::Float(value)) => Ok(Value::Float(value.abs())),
        (Unary::Minus, Value::Numeric(value)) => Ok(Value::Numeric(Cow::Owned(value.negated()))),
        (Unary::Absolute, Value::Numeric(value)) => {
            let negative = value.signum() < 0;
            Ok(Value::Numeric(Cow::Owned(if negative { value.negated() } else { value.into_owned() })))
        }
        _ => Err(WRONG_TYPE),
    }
}

/// Any number as `numeric`; floats are never converted that way.
pub(crate) fn numeric<'v>(value: &'v Value<'_>) -> Result<Cow<'v, Numeric>, EvalError> {
    match value {
        Value::Numeric(number) => Ok(Cow::Borrowed(number)),
        Value::Int(number) => Ok(Cow::Owned(Numeric::from(*number))),
        _ => Err(WRONG_TYPE),
    }
}

/// Any number as `float8`.
pub(crate) fn float(value: &Value<'_>) -> Result<f64, EvalError> {
    match value {
        Value::Float(number) => Ok(*number),
        #[allow(clippy::cast_precision_loss, reason = "rounding is the meaning of the conversion")]
        Value::Int(number) => Ok(*number as f64),
        Value::Numeric(number) => match number.to_f64() {
            overflow if overflow.is_infinite() && matches!(**number, Numeric::Finite { .. }) => {
                Err(EvalError::OutOfRange { ty: "float8" })
            }
            number => Ok(number),
        },
        _ => Err(WRONG_TYPE),
    }
}

fn integers(op: Arithmetic, ty: &Type, a: i64, b: i64) -> Result<i64, EvalError> {
    let result = match op {
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Subtract => a.checked_sub(b),
        Arithmetic::Multiply => a.checked_mul(b),
        Arithmetic::Divide | Arithmetic::Remainder if b == 0 => return Err(EvalError::DivisionByZero),
        Arithmetic::Divide => a.checked_div(b),
        Arithmetic::Remainder => Some(a.wrapping_rem(b)),
        Arithmetic::BitAnd => Some(a & b),
        Arithmetic::BitOr => Some(a | b),
        Arithmetic::BitXor => Some(a ^ b),
        Arithmetic::ShiftLeft | Arithmetic::ShiftRight => Some(shifted(op, ty, a, b)?),
    };
    result.ok_or(EvalError::OutOfRange { ty: ty.static_name() })
}

/// Bits that leave the type are lost. How far a shift beyond the width goes depends on the processor.
fn shifted(op: Arithmetic, ty: &Type, a: i64, by: i64) -> Result<i64, EvalError> {
    let width = match ty {
        Type::Int2 => 16,
        Type::Int4 => 32,
        _ => 64,
    };
    if !(0..width).contains(&by) {
        return Err(EvalError::Failed("shift beyond the width of the type"));
    }
    let wide = if op == Arithmetic::ShiftLeft { a << by } else { a >> by };
    // The sign bit of the type moves to the top and back.
    Ok(wide << (64 - width) >> (64 - width))
}

/// An interval and something else; `first` tells whether the interval stands on the left.
fn with_interval(
    op: Arithmetic,
    interval: &Interval,
    other: &Value<'_>,
    first: bool,
) -> Result<Value<'static>, EvalError> {
    let value = match (op, other) {
        (Arithmetic::Add, Value::Interval(other)) => Value::Interval(interval.add(other)?),
        (Arithmetic::Subtract, Value::Interval(other)) => Value::Interval(interval.subtract(other)?),
        (Arithmetic::Multiply, factor) => Value::Interval(interval.multiply(float(factor)?)?),
        (Arithmetic::Divide, divisor) if first => Value::Interval(interval.divide(float(divisor)?)?),
        (Arithmetic::Add, Value::Time(time)) => Value::Time(calendar::add_to_time(*time, interval.micros)),
        (Arithmetic::Subtract, Value::Time(time)) => {
            Value::Time(calendar::add_to_time(*time, interval.micros.checked_neg().ok_or(WRONG_TYPE)?))
        }
        (Arithmetic::Add, moment) => Value::Timestamp(calendar::add(timestamp(moment)?, interval)?),
        (Arithmetic::Subtract, moment) => {
            Value::Timestamp(calendar::add(timestamp(moment)?, &interval.negated()?)?)
        }
        _ => return Err(WRONG_TYPE),
    };
    Ok(value)
}

/// A date as the timestamp of its midnight.
fn timestamp(value: &Value<'_>) -> Result<i64, EvalError> {
    match value {
        Value::Timestamp(micros) => Ok(*micros),
        Value::Date(days) => datetime::date_to_timestamp(*days),
        _ => Err(WRONG_TYPE),
    }
}

fn numerics(op: Arithmetic, a: &Numeric, b: &Numeric) -> Result<Value<'static>, EvalError> {
    let result = match op {
        Arithmetic::Add => a.add(b),
        Arithmetic::Subtract => a.subtract(b),
        Arithmetic::Multiply => a.multiply(b)?,
        Arithmetic::Divide => a.divide(b)?,
        Arithmetic::Remainder => a.remainder(b)?,
        _ => return Err(WRONG_TYPE),
    };
    Ok(Value::Numeric(Cow::Owned(result)))
}

fn floats(op: Arithmetic, a: f64, b: f64) -> Result<f64, EvalError> {
    let finite = a.is_finite() && b.is_finite();
    match op {
        Arithmetic::Add => float::checked(a + b, finite, true),
        Arithmetic::Subtract => float::checked(a - b, finite, true),
        Arithmetic::Multiply => float::checked(a * b, finite, a == 0.0 || b == 0.0),
        Arithmetic::Divide if b == 0.0 && !a.is_nan() => Err(EvalError::DivisionByZero),
        Arithmetic::Divide => float::checked(a / b, finite, a == 0.0 || b.is_infinite()),
        _ => Err(WRONG_TYPE),
    }
}

/// A sum, product or quotient of two `float4` rounded first to `float8` and then to `float4` is the correctly
/// rounded `float4` (53 >= 2 * 24 + 2 bits).
fn floats4(op: Arithmetic, a: f64, b: f64) -> Result<Value<'static>, EvalError> {
    let wide = floats(op, a, b)?;
    Ok(Value::Float(f64::from(float::narrowed(wide)?)))
}

fn dates(op: Arithmetic, left: &Value<'_>, right: &Value<'_>) -> Result<Value<'static>, EvalError> {
    let infinite = |days: i32| days == i32::MIN || days == datetime::DATE_INFINITY;
    match (op, left, right) {
        (Arithmetic::Add, Value::Date(days), Value::Int(count))
        | (Arithmetic::Add, Value::Int(count), Value::Date(days)) => {
            datetime::add_days(*days, *count).map(Value::Date)
        }
        (Arithmetic::Subtract, Value::Date(days), Value::Int(count)) => {
            datetime::add_days(*days, -count).map(Value::Date)
        }
        (Arithmetic::Subtract, Value::Date(a), Value::Date(b)) if infinite(*a) || infinite(*b) => {
            Err(EvalError::InfiniteDates)
        }
        (Arithmetic::Subtract, Value::Date(a), Value::Date(b)) => {
            Type::Int4.integer(i64::from(*a) - i64::from(*b))
        }
        (Arithmetic::Add, Value::Date(days), Value::Time(time))
        | (Arithmetic::Add, Value::Time(time), Value::Date(days)) => {
            datetime::at_time(*days, *time).map(Value::Timestamp)
        }
        _ => Err(WRONG_TYPE),
    }
}
