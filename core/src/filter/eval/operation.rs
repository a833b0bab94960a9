//! Operators and array functions with a meaning of their own, apart from comparison and arithmetic.

use crate::filter::data_type::array::Array;
use crate::filter::data_type::calendar;
use crate::filter::data_type::json::{self, Json};
use crate::filter::data_type::value::Value;
use crate::filter::error::EvalError;
use std::borrow::Cow;
use std::str;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    /// `@>`, `<@`, `&&` of arrays; elements of `bpchar[]` lose their padding first.
    ArrayContains {
        padded: bool,
    },
    ArrayContained {
        padded: bool,
    },
    ArrayOverlaps {
        padded: bool,
    },
    /// `array || array`, not strict as the two that follow.
    ArrayConcat,
    ArrayAppend,
    ArrayPrepend,
    ArrayLength,
    ArrayLower,
    ArrayUpper,
    ArrayDimensions,
    Cardinality,
    /// `->`, `->>`, `#>`, `#>>`
    JsonGet,
    JsonGetText,
    JsonPath,
    JsonPathText,
    /// `@>`, `<@`, `?`, `?|`, `?&` of `jsonb`.
    JsonContains,
    JsonContained,
    JsonHas,
    JsonHasAny,
    JsonHasAll,
    /// `^@`
    StartsWith,
    /// `AT TIME ZONE`: microseconds that the zone lies east, and whether the result is the zone's own time.
    AtZone {
        east: i64,
        to_local: bool,
    },
}

/// How an operator is written.
pub(crate) enum Spelling {
    Infix(&'static str),
    Function(&'static str),
}

impl Operator {
    pub(crate) fn spelling(self) -> Spelling {
        use Spelling::{Function, Infix};
        match self {
            Self::ArrayContains { .. } | Self::JsonContains => Infix("@>"),
            Self::ArrayContained { .. } | Self::JsonContained => Infix("<@"),
            Self::ArrayOverlaps { .. } => Infix("&&"),
            Self::ArrayConcat => Function("array_cat"),
            Self::ArrayAppend => Function("array_append"),
            Self::ArrayPrepend => Function("array_prepend"),
            Self::ArrayLength => Function("array_length"),
            Self::ArrayLower => Function("array_lower"),
            Self::ArrayUpper => Function("array_upper"),
            Self::ArrayDimensions => Function("array_ndims"),
            Self::Cardinality => Function("cardinality"),
            Self::JsonGet => Infix("->"),
            Self::JsonGetText => Infix("->>"),
            Self::JsonPath => Infix("#>"),
            Self::JsonPathText => Infix("#>>"),
            Self::JsonHas => Infix("?"),
            Self::JsonHasAny => Infix("?|"),
            Self::JsonHasAll => Infix("?&"),
            Self::StartsWith => Infix("^@"),
            Self::AtZone { .. } => Infix("AT TIME ZONE"),
        }
    }

    /// NULL for any NULL.
    fn is_strict(self) -> bool {
        !matches!(self, Self::ArrayConcat | Self::ArrayAppend | Self::ArrayPrepend)
    }

    pub(crate) fn apply<'v>(self, mut operands: Vec<Value<'v>>) -> Result<Value<'v>, EvalError> {
        if self.is_strict() && operands.contains(&Value::Null) {
            return Ok(Value::Null);
        }
        let second = operands.pop();
        match (self, operands.pop(), second) {
            (_, None, Some(only)) => self.of_one(&only),
            (_, Some(left), Some(right)) => self.of_two(left, right),
            _ => Err(EvalError::WrongType { ty: "operand" }),
        }
    }

    fn of_one(self, operand: &Value<'_>) -> Result<Value<'static>, EvalError> {
        let Value::Array(array) = operand else { return Err(EvalError::WrongType { ty: "array" }) };
        match self {
            Self::Cardinality => integer(array.elements.len()),
            _ if array.dimensions.is_empty() => Ok(Value::Null),
            _ => integer(array.dimensions.len()),
        }
    }

    fn of_two<'v>(self, left: Value<'v>, right: Value<'v>) -> Result<Value<'v>, EvalError> {
        let json =
            |value: Option<&Json>| value.cloned().map_or(Value::Null, |json| Value::Json(Cow::Owned(json)));
        Ok(match (self, left, right) {
            (Self::ArrayContains { padded }, Value::Array(a), Value::Array(b)) => {
                Value::Bool(a.contains(&b, padded)?)
            }
            (Self::ArrayContained { padded }, Value::Array(a), Value::Array(b)) => {
                Value::Bool(b.contains(&a, padded)?)
            }
            (Self::ArrayOverlaps { padded }, Value::Array(a), Value::Array(b)) => {
                Value::Bool(a.overlaps(&b, padded)?)
            }
            (Self::ArrayConcat, Value::Null, other) | (Self::ArrayConcat, other, Value::Null) => other,
            (Self::ArrayConcat, Value::Array(a), Value::Array(b)) => {
                Value::array(a.into_owned().concat(b.into_owned())?)
            }
            (Self::ArrayAppend, array, element) => extended(array, element, false)?,
            (Self::ArrayPrepend, element, array) => extended(array, element, true)?,
            (Self::ArrayLength | Self::ArrayLower | Self::ArrayUpper, Value::Array(array), Value::Int(n)) => {
                let at = usize::try_from(n - 1).ok();
                match (self, at.and_then(|at| array.dimensions.get(at))) {
                    (_, None) => Value::Null,
                    (Self::ArrayLength, Some(dimension)) => integer(dimension.length)?,
                    (Self::ArrayLower, Some(dimension)) => Value::Int(i64::from(dimension.lower)),
                    (_, Some(dimension)) => Value::Int(dimension.upper()),
                }
            }
            (Self::JsonGet, Value::Json(document), key) => json(got(&document, &key)?),
            (Self::JsonGetText, Value::Json(document), key) => texted(got(&document, &key)?),
            (Self::JsonPath, Value::Json(document), path) => json(walked(&document, &path)?),
            (Self::JsonPathText, Value::Json(document), path) => texted(walked(&document, &path)?),
            (
                Self::JsonGet | Self::JsonGetText | Self::JsonPath | Self::JsonPathText,
                Value::Text(text),
                by,
            ) => self.of_json_text(&text, &by)?,
            (Self::JsonContains, Value::Json(a), Value::Json(b)) => Value::Bool(a.contains(&b)),
            (Self::JsonContained, Value::Json(a), Value::Json(b)) => Value::Bool(b.contains(&a)),
            (Self::JsonHas, Value::Json(document), Value::Text(key)) => {
                Value::Bool(document.has(utf8(&key)?))
            }
            (Self::JsonHasAny, Value::Json(document), Value::Array(keys)) => {
                Value::Bool(texts(&keys)?.iter().any(|key| document.has(key)))
            }
            (Self::JsonHasAll, Value::Json(document), Value::Array(keys)) => {
                Value::Bool(texts(&keys)?.iter().all(|key| document.has(key)))
            }
            (Self::StartsWith, Value::Text(text), Value::Text(start)) => {
                Value::Bool(text.starts_with(&start))
            }
            (Self::AtZone { east, to_local }, Value::Timestamp(micros), _) => {
                Value::Timestamp(calendar::shift(micros, if to_local { east } else { -east })?)
            }
            _ => return Err(EvalError::WrongType { ty: "operand" }),
        })
    }

    /// The same four on a `json`, whose parts stay as they are written.
    fn of_json_text(self, text: &[u8], by: &Value<'_>) -> Result<Value<'static>, EvalError> {
        let text = utf8(text)?;
        let mut part = Some(text.trim_matches([' ', '\t', '\n', '\r']));
        match by {
            Value::Text(key) => part = json::text_member(text, utf8(key)?)?,
            Value::Int(index) => part = json::text_at(text, *index)?,
            Value::Array(path) => {
                let Some(path) = steps(path)? else { return Ok(Value::Null) };
                for step in path {
                    let Some(inner) = part else { break };
                    part = json::text_step(inner, step)?;
                }
            }
            _ => return Err(EvalError::WrongType { ty: "json path" }),
        }
        let Some(part) = part else { return Ok(Value::Null) };
        if matches!(self, Self::JsonGet | Self::JsonPath) {
            return Ok(Value::from_text(part.to_owned()));
        }
        let plain = json::part_text(part).ok_or(EvalError::InvalidValue { ty: "json" })?;
        Ok(plain.map_or(Value::Null, Value::from_text))
    }
}

fn integer(number: usize) -> Result<Value<'static>, EvalError> {
    i64::try_from(number).map(Value::Int).map_err(|_| EvalError::OutOfRange { ty: "int4" })
}

fn utf8(text: &[u8]) -> Result<&str, EvalError> {
    str::from_utf8(text).map_err(|_| EvalError::InvalidValue { ty: "text" })
}

fn extended<'v>(array: Value<'v>, element: Value<'v>, front: bool) -> Result<Value<'v>, EvalError> {
    match array {
        Value::Array(array) => Ok(Value::array(array.into_owned().with(element.into_owned(), front)?)),
        Value::Null => Ok(Value::array(Array::new(vec![element.into_owned()]))),
        _ => Err(EvalError::WrongType { ty: "array" }),
    }
}

fn got<'j>(document: &'j Json, key: &Value<'_>) -> Result<Option<&'j Json>, EvalError> {
    match key {
        Value::Text(key) => Ok(document.member(utf8(key)?)),
        Value::Int(index) => Ok(document.at(*index)),
        _ => Err(EvalError::WrongType { ty: "json key" }),
    }
}

fn walked<'j>(document: &'j Json, path: &Value<'_>) -> Result<Option<&'j Json>, EvalError> {
    let Value::Array(path) = path else { return Err(EvalError::WrongType { ty: "json path" }) };
    let Some(path) = steps(path)? else { return Ok(None) };
    Ok(path.into_iter().try_fold(document, Json::step))
}

/// The steps of a path; a NULL among them leads nowhere.
fn steps(path: &Array) -> Result<Option<Vec<&str>>, EvalError> {
    let texts = texts(path)?;
    Ok((texts.len() == path.elements.len()).then_some(texts))
}

/// The elements that are not NULL.
fn texts(array: &Array) -> Result<Vec<&str>, EvalError> {
    let known = array.elements.iter().filter_map(|element| match element {
        Value::Text(text) => Some(utf8(text)),
        _ => None,
    });
    known.collect()
}

fn texted<'v>(value: Option<&Json>) -> Value<'v> {
    value.cloned().and_then(Json::into_text).map_or(Value::Null, Value::from_text)
}
