//! Three-valued evaluation of a checked clause over one row in text format. Integers and texts are compared
//! without an allocation.

pub(super) mod arithmetic;
mod array;
pub(super) mod cast;
pub(super) mod compare;
pub(super) mod expr;
pub(super) mod function;
pub(super) mod like;
mod math;
pub(super) mod operation;
pub(super) mod text;

use super::data_type::call::Arguments;
use super::data_type::operator::{Comparison, Order};
use super::data_type::ty::Type;
use super::data_type::value::Value;
use super::error::EvalError;
use super::syntax::ast::Truth;
use crate::pg::{Collation, Row};
use array::{array, quantified, subscript};
use compare::ordered;
use expr::{Constants, Expr};
use function::Function;
use like::Pattern;
use std::cmp::Ordering;
use std::str;

/// The clause's truth.
pub(crate) fn truth<R: Row + ?Sized>(expr: &Expr, row: &R) -> Result<Option<bool>, EvalError> {
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
        Expr::CompareRows { op, orders, left, right } => {
            for (order, (left, right)) in orders.iter().zip(left.iter().zip(right)) {
                let (left, right) = (value(left, row)?, value(right, row)?);
                if left == Value::Null || right == Value::Null {
                    return Ok(None);
                }
                let ordering = ordered(*order, &left, &right)?;
                if ordering.is_ne() {
                    return Ok(Some(op.holds(ordering)));
                }
            }
            Ok(Some(op.holds(Ordering::Equal)))
        }
        Expr::Distinct { order, left, right, negated } => {
            let distinct = match (value(left, row)?, value(right, row)?, order) {
                (Value::Null, Value::Null, _) => false,
                (Value::Null, _, _) | (_, Value::Null, _) | (_, _, None) => true,
                (left, right, Some(order)) => ordered(*order, &left, &right)?.is_ne(),
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
            let bound = |bound: &(Expr, Order), op: Comparison| {
                compare_nullable(bound.1, &operand, &value(&bound.0, row)?, op)
            };
            let within = |low: &(Expr, Order), high: &(Expr, Order)| {
                both(bound(low, Comparison::GreaterOrEqual), || bound(high, Comparison::LessOrEqual))
            };
            let inverted = |truth: Result<Option<bool>, EvalError>| truth.map(|truth| truth.map(|t| !t));
            let mut found = within(low, high);
            if *symmetric {
                // The one or the other is neither not the one nor not the other.
                found = inverted(both(inverted(found), || inverted(within(high, low))));
            }
            Ok(found?.map(|found| found != *negated))
        }
        Expr::Like { .. } => like(expr, row),
        Expr::Quantified { .. } => quantified(expr, row),
        _ => match value(expr, row)? {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(value)),
            _ => Err(EvalError::WrongType { ty: "bool" }),
        },
    }
}

/// The value of an expression of any type.
pub(crate) fn value<'r, R: Row + ?Sized>(expr: &'r Expr, row: &'r R) -> Result<Value<'r>, EvalError> {
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
        Expr::Operation { op, operands, .. } => op.apply(values(operands, row)?)?,
        Expr::Call { function, arguments, collation } => call(function, arguments, *collation, row)?,
        Expr::Case { arms, otherwise, .. } => return case(arms, otherwise.as_deref(), row),
        Expr::Coalesce { terms, .. } => return coalesce(terms, row),
        Expr::Extreme { greatest, order, terms, .. } => return extreme(*greatest, *order, terms, row),
        Expr::NullIf { order, left, right } => {
            let (left, right) = (value(left, row)?, value(right, row)?);
            match compare_nullable(*order, &left, &right, Comparison::Equal)? {
                Some(true) => Value::Null,
                _ => left,
            }
        }
        Expr::Array { elements, nested, .. } => array(values(elements, row)?, *nested)?,
        Expr::Subscript { array, subscripts, .. } => subscript(value(array, row)?, subscripts, row)?,
        _ => truth(expr, row)?.map_or(Value::Null, Value::Bool),
    })
}

fn values<'r, R: Row + ?Sized>(exprs: &'r [Expr], row: &'r R) -> Result<Vec<Value<'r>>, EvalError> {
    exprs.iter().map(|expr| value(expr, row)).collect()
}

fn call<'r, R: Row + ?Sized>(
    function: &Function,
    arguments: &'r [Expr],
    collation: Collation,
    row: &'r R,
) -> Result<Value<'r>, EvalError> {
    let values = values(arguments, row)?;
    if function.strict && values.contains(&Value::Null) {
        return Ok(Value::Null);
    }
    let types: Vec<&Type> = arguments.iter().map(Expr::ty).collect();
    let call = function.call.ok_or(EvalError::WrongType { ty: "function" })?;
    call(&Arguments { values: &values, types: &types, collation })
}

fn case<'r, R: Row + ?Sized>(
    arms: &'r [(Expr, Expr)],
    otherwise: Option<&'r Expr>,
    row: &'r R,
) -> Result<Value<'r>, EvalError> {
    for (condition, result) in arms {
        if truth(condition, row)? == Some(true) {
            return value(result, row);
        }
    }
    otherwise.map_or(Ok(Value::Null), |otherwise| value(otherwise, row))
}

fn coalesce<'r, R: Row + ?Sized>(terms: &'r [Expr], row: &'r R) -> Result<Value<'r>, EvalError> {
    for term in terms {
        match value(term, row)? {
            Value::Null => {}
            found => return Ok(found),
        }
    }
    Ok(Value::Null)
}

/// NULLs are left out.
fn extreme<'r, R: Row + ?Sized>(
    greatest: bool,
    order: Order,
    terms: &'r [Expr],
    row: &'r R,
) -> Result<Value<'r>, EvalError> {
    let better = if greatest { Ordering::Greater } else { Ordering::Less };
    let mut best = Value::Null;
    for term in terms {
        let value = value(term, row)?;
        if best == Value::Null || (value != Value::Null && ordered(order, &value, &best)? == better) {
            best = value;
        }
    }
    Ok(best)
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

/// True where one term is, even where another one fails: Postgres may know it before it comes to the other.
fn any<R: Row + ?Sized>(terms: &[Expr], row: &R) -> Result<Option<bool>, EvalError> {
    let mut result = Ok(Some(false));
    for term in terms {
        match truth(term, row) {
            Ok(Some(true)) => return Ok(Some(true)),
            Ok(Some(false)) => {}
            Ok(None) => result = result.map(|_| None),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

/// AND of two, as [`all`] has it.
fn both(
    first: Result<Option<bool>, EvalError>,
    second: impl FnOnce() -> Result<Option<bool>, EvalError>,
) -> Result<Option<bool>, EvalError> {
    if first == Ok(Some(false)) {
        return first;
    }
    match (first, second()) {
        (_, Ok(Some(false))) => Ok(Some(false)),
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(Some(true)), Ok(Some(true))) => Ok(Some(true)),
        _ => Ok(None),
    }
}

/// `IS [NOT] NULL`. A composite value is null when all its fields are, and not null when none is.
fn is_null<R: Row + ?Sized>(operand: &Expr, row: &R, negated: bool) -> Result<bool, EvalError> {
    let value = value(operand, row)?;
    if let (Value::Opaque(text), Type::Opaque { composite: true, .. }) = (&value, operand.ty()) {
        let (null, filled) = fields(text);
        return Ok(if negated { !null } else { !filled });
    }
    Ok((value == Value::Null) != negated)
}

/// Whether a row's text has fields that are null, and fields that are not.
fn fields(text: &[u8]) -> (bool, bool) {
    let inner = text.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b")")).unwrap_or(text);
    let (mut quoted, mut escaped, mut empty) = (false, false, true);
    let (mut null, mut filled) = (false, false);
    for byte in inner.iter().chain(b",") {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                null |= empty;
                filled |= !empty;
                empty = true;
                continue;
            }
            _ => {}
        }
        empty = false;
    }
    (null, filled)
}

fn compare_nullable(
    order: Order,
    left: &Value<'_>,
    right: &Value<'_>,
    op: Comparison,
) -> Result<Option<bool>, EvalError> {
    match (left, right) {
        (Value::Null, _) | (_, Value::Null) => Ok(None),
        _ => Ok(Some(op.holds(ordered(order, left, right)?))),
    }
}

fn any_equal<R: Row + ?Sized>(
    operand: &Value<'_>,
    list: &[(Expr, Order)],
    row: &R,
) -> Result<Option<bool>, EvalError> {
    let mut result = Ok(Some(false));
    for (element, order) in list {
        let equal = value(element, row)
            .and_then(|element| compare_nullable(*order, operand, &element, Comparison::Equal));
        match equal {
            Ok(Some(true)) => return Ok(Some(true)),
            Ok(Some(false)) => {}
            Ok(None) => result = result.map(|_| None),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

fn search(constants: &Constants, operand: &Value<'_>) -> Result<Option<bool>, EvalError> {
    if *operand == Value::Null {
        return Ok(None);
    }
    let mut failure = None;
    let found = constants.sorted.binary_search_by(|constant| {
        ordered(constants.order, operand, constant).map_or_else(
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

fn utf8(text: &[u8]) -> Result<&str, EvalError> {
    str::from_utf8(text).map_err(|_| EvalError::InvalidValue { ty: "text" })
}

fn like<R: Row + ?Sized>(expr: &Expr, row: &R) -> Result<Option<bool>, EvalError> {
    let Expr::Like { operand, pattern, escape, compiled, fold_case, negated } = expr else {
        return Err(EvalError::WrongType { ty: "pattern match" });
    };
    let Value::Text(text) = value(operand, row)? else { return Ok(None) };
    let text = utf8(&text)?;
    let matches = match compiled {
        Some(pattern) => pattern.matches(text),
        None => {
            let Value::Text(pattern) = value(pattern, row)? else { return Ok(None) };
            let pattern =
                Pattern::new(utf8(&pattern)?, *escape, *fold_case).ok_or(EvalError::PatternEndsWithEscape)?;
            pattern.matches(text)
        }
    };
    Ok(Some(matches != *negated))
}
