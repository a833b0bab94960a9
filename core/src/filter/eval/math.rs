//! Functions on numbers, as far as every platform computes them to the last digit.

use super::arithmetic;
use crate::filter::data_type::call::{Arguments, Outcome};
use crate::filter::data_type::number::Numeric;
use crate::filter::data_type::operator::{Arithmetic, Unary};
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::Value;
use crate::filter::error::EvalError;

pub(crate) fn abs(arguments: &Arguments<'_>) -> Outcome {
    arithmetic::unary(Unary::Absolute, arguments.ty(0)?, arguments.value(0)?.clone())
}

pub(crate) fn modulo(arguments: &Arguments<'_>) -> Outcome {
    arithmetic::binary(Arithmetic::Remainder, arguments.ty(0)?, arguments.value(0)?, arguments.value(1)?)
}

pub(crate) fn ceil(arguments: &Arguments<'_>) -> Outcome {
    match arguments.value(0)? {
        Value::Numeric(number) => Ok(Value::numeric(toward(number, 1))),
        value => Ok(Value::Float(arithmetic::float(value)?.ceil())),
    }
}

pub(crate) fn floor(arguments: &Arguments<'_>) -> Outcome {
    match arguments.value(0)? {
        Value::Numeric(number) => Ok(Value::numeric(toward(number, -1))),
        value => Ok(Value::Float(arithmetic::float(value)?.floor())),
    }
}

/// A `numeric` is rounded half away from zero, a `float8` half to even.
pub(crate) fn round(arguments: &Arguments<'_>) -> Outcome {
    match arguments.value(0)? {
        Value::Numeric(number) => Ok(Value::numeric(number.round(places(arguments)?))),
        value => Ok(Value::Float(arithmetic::float(value)?.round_ties_even())),
    }
}

pub(crate) fn trunc(arguments: &Arguments<'_>) -> Outcome {
    match arguments.value(0)? {
        Value::Numeric(number) => Ok(Value::numeric(number.truncate(places(arguments)?))),
        value => Ok(Value::Float(arithmetic::float(value)?.trunc())),
    }
}

pub(crate) fn sign(arguments: &Arguments<'_>) -> Outcome {
    match arguments.value(0)? {
        Value::Numeric(number) if **number == Numeric::NaN => Ok(Value::numeric(Numeric::NaN)),
        Value::Numeric(number) => Ok(Value::numeric(Numeric::from(i64::from(number.signum())))),
        value => Ok(Value::Float(match arithmetic::float(value)? {
            positive if positive > 0.0 => 1.0,
            negative if negative < 0.0 => -1.0,
            _ => 0.0,
        })),
    }
}

pub(crate) fn sqrt(arguments: &Arguments<'_>) -> Outcome {
    arithmetic::unary(Unary::SquareRoot, &Type::Float8, arguments.value(0)?.clone())
}

/// `num_nulls(…)`
pub(crate) fn num_nulls(arguments: &Arguments<'_>) -> Outcome {
    counted(arguments.all().filter(|(value, _)| **value == Value::Null).count())
}

/// `num_nonnulls(…)`
pub(crate) fn num_nonnulls(arguments: &Arguments<'_>) -> Outcome {
    counted(arguments.all().filter(|(value, _)| **value != Value::Null).count())
}

fn counted(count: usize) -> Outcome {
    i64::try_from(count).map(Value::Int).map_err(|_| EvalError::OutOfRange { ty: "int4" })
}

fn places(arguments: &Arguments<'_>) -> Result<i64, EvalError> {
    if arguments.length() == 1 { Ok(0) } else { arguments.int(1) }
}

/// The next whole number in a direction.
fn toward(number: &Numeric, direction: i64) -> Numeric {
    let whole = number.truncate(0);
    let beyond = whole.compare(number);
    let falls_short = if direction > 0 { beyond.is_lt() } else { beyond.is_gt() };
    if falls_short { whole.add(&Numeric::from(direction)) } else { whole }
}
