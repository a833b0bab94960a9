//! The arguments and the result of a function call, for the functions of all types.

use super::ty::Type;
use super::value::Value;
use crate::filter::error::EvalError;
use crate::pg::Collation;
use std::str;

pub(crate) type Outcome = Result<Value<'static>, EvalError>;

/// The arguments of a call: `types[i]` is the type of `values[i]`.
pub(crate) struct Arguments<'c> {
    pub values: &'c [Value<'c>],
    pub types: &'c [&'c Type],
    pub collation: Collation,
}

impl<'c> Arguments<'c> {
    pub(crate) fn length(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn value(&self, index: usize) -> Result<&'c Value<'c>, EvalError> {
        self.values.get(index).ok_or(EvalError::WrongType { ty: "argument" })
    }

    pub(crate) fn ty(&self, index: usize) -> Result<&'c Type, EvalError> {
        self.types.get(index).copied().ok_or(EvalError::WrongType { ty: "argument" })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&'c Value<'c>, &'c Type)> {
        self.values.iter().zip(self.types.iter().copied())
    }

    pub(crate) fn text(&self, index: usize) -> Result<&'c str, EvalError> {
        match self.value(index)? {
            Value::Text(text) => str::from_utf8(text).map_err(|_| EvalError::InvalidValue { ty: "text" }),
            _ => Err(EvalError::WrongType { ty: "text" }),
        }
    }

    pub(crate) fn int(&self, index: usize) -> Result<i64, EvalError> {
        match self.value(index)? {
            Value::Int(number) => Ok(*number),
            _ => Err(EvalError::WrongType { ty: "int4" }),
        }
    }
}
