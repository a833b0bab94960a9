//! Three-valued evaluation of a checked clause over one row in text format. Integers and texts are compared
//! without an allocation.

use super::Row;
use super::array::{Array, Dimension};
use super::ast::Truth;
use super::compare::ordered;
use super::error::EvalError;
use super::expr::{Comparison, Constants, Expr, Order, Subscript, Test};
use super::function::{Arguments, Function};
use super::like::Pattern;
use super::ty::Type;
use super::value::Value;
use super::{arithmetic, cast};
use crate::pg::Collation;
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
            let (low, high) = ((value(&low.0, row)?, low.1), (value(&high.0, row)?, high.1));
            let mut within = between(&operand, &low, &high)?;
            if *symmetric && within != Some(true) {
                within = or(within, between(&operand, &high, &low)?);
            }
            Ok(within.map(|within| within != *negated))
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

fn array<'r>(elements: Vec<Value<'r>>, nested: bool) -> Result<Value<'r>, EvalError> {
    if !nested {
        return Ok(Value::array(Array::new(elements.into_iter().map(Value::into_owned).collect())));
    }
    const UNEQUAL: EvalError =
        EvalError::Failed("multidimensional arrays must have array expressions with matching dimensions");
    let length = elements.len();
    let (mut inner, mut all) = (None, Vec::new());
    for element in elements {
        let Value::Array(array) = element else { return Err(UNEQUAL) };
        let Array { dimensions, elements } = array.into_owned();
        if inner.as_ref().is_some_and(|inner| *inner != dimensions) {
            return Err(UNEQUAL);
        }
        inner = Some(dimensions);
        all.extend(elements);
    }
    let inner = inner.unwrap_or_default();
    let outer = Dimension { lower: 1, length };
    let dimensions = if inner.is_empty() { inner } else { [vec![outer], inner].concat() };
    Ok(Value::array(Array { dimensions, elements: all }))
}

fn subscript<'r, R: Row + ?Sized>(
    array: Value<'r>,
    subscripts: &'r [Subscript],
    row: &'r R,
) -> Result<Value<'r>, EvalError> {
    let Value::Array(array) = array else { return Ok(Value::Null) };
    // The outer `None` is a subscript that is NULL.
    let index = |expr: &'r Expr| match value(expr, row)? {
        Value::Int(index) => Ok(Some(index)),
        _ => Ok(None),
    };
    let is_slice = subscripts.iter().any(|subscript| matches!(subscript, Subscript::Slice(..)));
    let (mut indexes, mut bounds) = (Vec::new(), Vec::new());
    for subscript in subscripts {
        let (lower, upper) = match subscript {
            Subscript::Index(at) => match index(at)? {
                Some(at) => (if is_slice { Some(1) } else { Some(at) }, Some(at)),
                None => return Ok(Value::Null),
            },
            Subscript::Slice(lower, upper) => {
                let bound = |bound: &'r Option<Expr>| match bound {
                    None => Ok(Some(None)),
                    Some(expr) => index(expr).map(|index| index.map(Some)),
                };
                let (Some(lower), Some(upper)) = (bound(lower)?, bound(upper)?) else {
                    return Ok(Value::Null);
                };
                (lower, upper)
            }
        };
        indexes.extend(upper);
        bounds.push((lower, upper));
    }
    Ok(if is_slice { Value::array(array.slice(&bounds)) } else { array.element(&indexes) })
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

/// ANY and ALL over the elements of an array.
fn quantified<R: Row + ?Sized>(expr: &Expr, row: &R) -> Result<Option<bool>, EvalError> {
    let Expr::Quantified { test, left, array, all, constants } = expr else {
        return Err(EvalError::WrongType { ty: "array" });
    };
    let left = value(left, row)?;
    if let Some(constants) = constants {
        if constants.sorted.is_empty() && !constants.has_null {
            return Ok(Some(*all));
        }
        return Ok(search(constants, &left)?.map(|found| found != *all));
    }
    let Value::Array(array) = value(array, row)? else { return Ok(None) };
    let mut result = Some(*all);
    for element in &array.elements {
        let holds = match test {
            Test::Compare(op, order) => compare_nullable(*order, &left, element, *op)?,
            Test::Like(fold_case, negated) => {
                like_element(&left, element, *fold_case)?.map(|m| m != *negated)
            }
        };
        match holds {
            None => result = None,
            Some(holds) if holds != *all => return Ok(Some(holds)),
            Some(_) => {}
        }
    }
    Ok(result)
}

fn like_element(
    left: &Value<'_>,
    pattern: &Value<'_>,
    fold_case: Option<Collation>,
) -> Result<Option<bool>, EvalError> {
    let (Value::Text(text), Value::Text(pattern)) = (left, pattern) else { return Ok(None) };
    let text = utf8(text)?;
    let pattern =
        Pattern::new(utf8(pattern)?, Some('\\'), fold_case).ok_or(EvalError::PatternEndsWithEscape)?;
    Ok(Some(pattern.matches(text)))
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
