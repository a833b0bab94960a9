//! Three-valued evaluation of a checked clause over one row in text format. Integers and texts are compared
//! without an allocation.

use super::Row;
use super::ast::Truth;
use super::error::EvalError;
use super::expr::{Comparison, Constants, Expr, Order};
use super::like::Pattern;
use super::value::{Type, Value, trimmed};
use super::{arithmetic, cast, datetime};
use std::cmp::Ordering;
use std::str;

/// The clause's truth.
pub(super) fn truth<R: Row + ?Sized>(expr: &Expr, row: &R) -> Result<Option<bool>, EvalError> {
    match expr {
        Expr::And(terms) => all(terms, row),
        Expr::Or(terms) => any(terms, row),
        Expr::Not(operand) => Ok(truth(operand, row)?.map(|value| !value)),
        Expr::IsNull { operand, negated } => is_null(operand, row, *negated).map(Some),
        Expr::IsTruth { operand, truth: wanted, negated } => {
            let value = truth(operand, row)?;
            let holds = match wanted {
                Truth::True => value == Some(true),
                Truth::False => value == Some(false),
                Truth::Unknown => value.is_none(),
            };
            Ok(Some(holds != *negated))
        }
        Expr::Compare { op, order, left, right } => {
            compare_nullable(*order, &value(left, row)?, &value(right, row)?, *op)
        }
        Expr::Distinct { order, left, right, negated } => {
            let distinct = match (value(left, row)?, value(right, row)?, order) {
                (Value::Null, Value::Null, _) => false,
                (Value::Null, _, _) | (_, Value::Null, _) | (_, _, None) => true,
                (left, right, Some(order)) => compare(*order, &left, &right)?.is_ne(),
            };
            Ok(Some(distinct != *negated))
        }
        Expr::In { operand, list, constants, negated } => {
            let operand = value(operand, row)?;
            let found = match constants {
                Some(constants) => search(constants, &operand)?,
                None => any_equal(&operand, list, row)?,
            };
            Ok(found.map(|found| found != *negated))
        }
        Expr::Between { operand, low, high, symmetric, negated } => {
            let operand = value(operand, row)?;
            let (low, high) = ((value(&low.0, row)?, low.1), (value(&high.0, row)?, high.1));
            let mut within = between(&operand, &low, &high)?;
            if *symmetric && within != Some(true) {
                within = or(within, between(&operand, &high, &low)?);
            }
            Ok(within.map(|within| within != *negated))
        }
        Expr::Like { .. } => like(expr, row),
        _ => match value(expr, row)? {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(value)),
            _ => Err(EvalError::WrongType { ty: "bool" }),
        },
    }
}

/// The value of an expression of any type.
pub(super) fn value<'r, R: Row + ?Sized>(expr: &'r Expr, row: &'r R) -> Result<Value<'r>, EvalError> {
    Ok(match expr {
        Expr::Const { value, .. } => value.borrowed(),
        Expr::Column { index, ty, .. } => match row.text(*index) {
            Some(text) => Value::parse(ty, text)?,
            None => Value::Null,
        },
        Expr::Arithmetic { op, ty, left, right } => match (value(left, row)?, value(right, row)?) {
            (Value::Null, _) | (_, Value::Null) => Value::Null,
            (left, right) => arithmetic::binary(*op, ty, &left, &right)?,
        },
        Expr::Unary { op, ty, operand } => match value(operand, row)? {
            Value::Null => Value::Null,
            operand => arithmetic::unary(*op, ty, operand)?,
        },
        Expr::Concat { left, right } => match (value(left, row)?, value(right, row)?) {
            (Value::Null, _) | (_, Value::Null) => Value::Null,
            (left, right) => {
                let mut text = left.text(&Type::Text).into_owned();
                text.extend_from_slice(&right.text(&Type::Text));
                Value::Text(text.into())
            }
        },
        Expr::Cast { operand, ty, modifiers } => match value(operand, row)? {
            Value::Null => Value::Null,
            inner => cast::apply(inner, operand.ty(), ty, modifiers)?,
        },
        _ => truth(expr, row)?.map_or(Value::Null, Value::Bool),
    })
}

/// False where one term is, even where another one fails: Postgres evaluates the terms of AND in an order of
/// its own, and a false one decides without the others.
fn all<R: Row + ?Sized>(terms: &[Expr], row: &R) -> Result<Option<bool>, EvalError> {
    let mut result = Ok(Some(true));
    for term in terms {
        match truth(term, row) {
            Ok(Some(false)) => return Ok(Some(false)),
            Ok(Some(true)) => {}
            Ok(None) => result = result.map(|_| None),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

/// From left to right, up to the first term that is true.
fn any<R: Row + ?Sized>(terms: &[Expr], row: &R) -> Result<Option<bool>, EvalError> {
    let mut result = Some(false);
    for term in terms {
        match truth(term, row)? {
            Some(true) => return Ok(Some(true)),
            Some(false) => {}
            None => result = None,
        }
    }
    Ok(result)
}

fn or(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    or(a.map(|a| !a), b.map(|b| !b)).map(|neither| !neither)
}

/// `IS [NOT] NULL`. A composite value is null when all its fields are, and not null when none is.
fn is_null<R: Row + ?Sized>(operand: &Expr, row: &R, negated: bool) -> Result<bool, EvalError> {
    let value = value(operand, row)?;
    if let (Value::Opaque(text), Type::Opaque { user_defined: true, .. }) = (&value, operand.ty()) {
        return if has_empty_field(text) { Err(EvalError::AmbiguousComposite) } else { Ok(negated) };
    }
    Ok((value == Value::Null) != negated)
}

/// Whether a text reads as a composite value with a null field. Only the catalog tells such a value from a
/// range or an enum label of the same spelling.
fn has_empty_field(text: &[u8]) -> bool {
    let Some(fields) = text.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b")")) else { return false };
    let (mut quoted, mut escaped, mut empty) = (false, false, true);
    for byte in fields {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted && empty => return true,
            b',' if !quoted => {
                empty = true;
                continue;
            }
            _ => {}
        }
        empty = false;
    }
    empty
}

fn compare_nullable(
    order: Order,
    left: &Value<'_>,
    right: &Value<'_>,
    op: Comparison,
) -> Result<Option<bool>, EvalError> {
    match (left, right) {
        (Value::Null, _) | (_, Value::Null) => Ok(None),
        _ => Ok(Some(op.holds(compare(order, left, right)?))),
    }
}

fn between(
    operand: &Value<'_>,
    low: &(Value<'_>, Order),
    high: &(Value<'_>, Order),
) -> Result<Option<bool>, EvalError> {
    let above = compare_nullable(low.1, operand, &low.0, Comparison::GreaterOrEqual)?;
    if above == Some(false) {
        return Ok(above);
    }
    Ok(and(above, compare_nullable(high.1, operand, &high.0, Comparison::LessOrEqual)?))
}

fn any_equal<R: Row + ?Sized>(
    operand: &Value<'_>,
    list: &[(Expr, Order)],
    row: &R,
) -> Result<Option<bool>, EvalError> {
    let mut result = Some(false);
    for (element, order) in list {
        match compare_nullable(*order, operand, &value(element, row)?, Comparison::Equal)? {
            Some(true) => return Ok(Some(true)),
            Some(false) => {}
            None => result = None,
        }
    }
    Ok(result)
}

fn search(constants: &Constants, operand: &Value<'_>) -> Result<Option<bool>, EvalError> {
    if *operand == Value::Null {
        return Ok(None);
    }
    let mut failure = None;
    let found = constants.sorted.binary_search_by(|constant| {
        compare(constants.order, operand, constant).map_or_else(
            |error| {
                failure = Some(error);
                Ordering::Equal
            },
            Ordering::reverse,
        )
    });
    match (failure, found) {
        (Some(error), _) => Err(error),
        (None, Ok(_)) => Ok(Some(true)),
        (None, Err(_)) => Ok(if constants.has_null { None } else { Some(false) }),
    }
}

/// Compares two values that are not null.
pub(super) fn compare(order: Order, left: &Value<'_>, right: &Value<'_>) -> Result<Ordering, EvalError> {
    Ok(match (order, left, right) {
        (Order::Int, Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Order::Text { trim_left, trim_right }, Value::Text(a), Value::Text(b)) => {
            let a = if trim_left { trimmed(a) } else { a };
            a.cmp(if trim_right { trimmed(b) } else { b })
        }
        (Order::Bool, Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Order::Uuid, Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        (Order::Time, Value::Time(a), Value::Time(b)) => a.cmp(b),
        (Order::Instant, a, b) => instant(a)?.cmp(&instant(b)?),
        (Order::Float, a, b) => compare_floats(arithmetic::float(a)?, arithmetic::float(b)?),
        (Order::Numeric, a, b) => arithmetic::numeric(a)?.compare(&*arithmetic::numeric(b)?),
        _ => return Err(EvalError::WrongType { ty: "comparable value" }),
    })
}

/// NaN is equal to itself and greater than everything else; the two zeros are equal.
fn compare_floats(a: f64, b: f64) -> Ordering {
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

fn like<R: Row + ?Sized>(expr: &Expr, row: &R) -> Result<Option<bool>, EvalError> {
    let Expr::Like { operand, pattern, escape, compiled, fold_case, negated } = expr else {
        return Err(EvalError::WrongType { ty: "pattern match" });
    };
    let invalid = EvalError::InvalidValue { ty: "text" };
    let Value::Text(text) = value(operand, row)? else { return Ok(None) };
    let text = str::from_utf8(&text).map_err(|_| invalid)?;
    let matches = match compiled {
        Some(pattern) => pattern.matches(text),
        None => {
            let Value::Text(pattern) = value(pattern, row)? else { return Ok(None) };
            let pattern = str::from_utf8(&pattern).map_err(|_| invalid)?;
            let pattern =
                Pattern::new(pattern, *escape, *fold_case).ok_or(EvalError::PatternEndsWithEscape)?;
            pattern.matches(text)
        }
    };
    Ok(Some(matches != *negated))
}
