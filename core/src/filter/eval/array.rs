//! Arrays in the evaluation: ARRAY[…], subscripts, ANY and ALL.

use super::super::error::EvalError;
use super::expr::{Expr, Subscript, Test};
use super::like::Pattern;
use super::{compare_nullable, search, utf8, value};
use crate::filter::data_type::array::{Array, Dimension};
use crate::filter::data_type::value::Value;
use crate::pg::{Collation, Row};

pub(super) fn array<'r>(elements: Vec<Value<'r>>, nested: bool) -> Result<Value<'r>, EvalError> {
    if !nested {
        return Ok(Value::array(Array::new(elements.into_iter().map(Value::into_owned).collect())));
    }
    const UNEQUAL: EvalError =
        EvalError::Failed("multidimensional arrays must have array expressions with matching dimensions");
    let (length, mut inner, mut all) = (elements.len(), Vec::new(), Vec::new());
    let is_empty = |element: &Value<'_>| match element {
        Value::Array(array) => array.dimensions.is_empty(),
        _ => true,
    };
    // Arrays without elements and NULLs may stand only beside their like.
    if elements.iter().all(is_empty) {
        return Ok(Value::array(Array::new(Vec::new())));
    }
    for element in elements {
        let Value::Array(array) = element else { return Err(UNEQUAL) };
        let Array { dimensions, elements } = array.into_owned();
        if dimensions.is_empty() || (!inner.is_empty() && inner != dimensions) {
            return Err(UNEQUAL);
        }
        inner = dimensions;
        all.extend(elements);
    }
    let dimensions = [vec![Dimension { lower: 1, length }], inner].concat();
    Ok(Value::array(Array { dimensions, elements: all }))
}

pub(super) fn subscript<'r, R: Row + ?Sized>(
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

/// ANY and ALL over the elements of an array.
pub(super) fn quantified<R: Row + ?Sized>(expr: &Expr, row: &R) -> Result<Option<bool>, EvalError> {
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
