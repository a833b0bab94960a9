//! Explicit casts between the types core knows.

use super::arithmetic;
use crate::filter::data_type::array::Array;
use crate::filter::data_type::interval::Interval;
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::Value;
use crate::filter::data_type::{datetime, float};
use crate::filter::error::EvalError;
use std::borrow::Cow;
use std::str;

/// Casts a value that is not null. Which pairs exist is decided by [`crate::filter::data_type::operator::cast`].
pub(crate) fn apply<'a>(
    value: Value<'a>,
    from: &Type,
    to: &Type,
    modifiers: &[i32],
) -> Result<Value<'a>, EvalError> {
    if let (Type::Array(from), Type::Array(to), Value::Array(array)) = (from, to, &value) {
        return elements(array, from, to, modifiers);
    }
    let cast = if to.is_string() || (*to == Type::Json && *from == Type::Jsonb) {
        to_string(value, from, to)
    } else if let Value::Text(text) = &value {
        // The input functions of all these types ignore padding, so a `bpchar` needs no special care.
        Value::parse(to, text)?.into_owned()
    } else if let Value::Opaque(text) = value {
        Value::parse(to, text)?
    } else {
        convert(value, to)?
    };
    modified(cast, to, modifiers)
}

fn elements<'a>(array: &Array, from: &Type, to: &Type, modifiers: &[i32]) -> Result<Value<'a>, EvalError> {
    let cast = |element: &Value<'static>| match element {
        Value::Null => Ok(Value::Null),
        element => apply(element.borrowed(), from, to, modifiers).map(Value::into_owned),
    };
    let elements = array.elements.iter().map(cast).collect::<Result<_, _>>()?;
    Ok(Value::array(Array { dimensions: array.dimensions.clone(), elements }))
}

/// A `bpchar` loses its padding on its way to another string type.
fn to_string<'a>(value: Value<'a>, from: &Type, to: &Type) -> Value<'a> {
    if from == to {
        return value;
    }
    let text = value.text(from);
    if *to != Type::Name {
        return Value::Text(text);
    }
    match str::from_utf8(&text).ok().and_then(|text| Value::literal(&Type::Name, text)) {
        Some(name) => name,
        None => Value::Text(text),
    }
}

fn convert<'a>(value: Value<'a>, to: &Type) -> Result<Value<'a>, EvalError> {
    let range = EvalError::OutOfRange { ty: to.static_name() };
    Ok(match (to, &value) {
        (Type::Bool, Value::Int(number)) => Value::Bool(*number != 0),
        (ty, Value::Bool(value)) if ty.is_integer() => Value::Int(i64::from(*value)),
        (ty, Value::Int(number)) if ty.is_integer() => ty.integer(*number)?,
        (ty, Value::Numeric(number)) if ty.is_integer() => ty.integer(number.to_i64().ok_or(range)?)?,
        (ty, Value::Float(number)) if ty.is_integer() => ty.integer(float::to_i64(*number).ok_or(range)?)?,
        (Type::Numeric, number) => Value::Numeric(Cow::Owned(arithmetic::numeric(number)?.into_owned())),
        (Type::Float8, number) => Value::Float(arithmetic::float(number)?),
        (Type::Float4, Value::Numeric(number)) => {
            let single = float::parse_f32(&number.to_string()).ok_or(range)?;
            Value::Float(f64::from(single))
        }
        // Directly, since rounding twice could differ.
        #[allow(clippy::cast_precision_loss, reason = "rounding is the meaning of the conversion")]
        (Type::Float4, Value::Int(number)) => Value::Float(f64::from(*number as f32)),
        (Type::Float4, Value::Float(number)) => Value::Float(f64::from(float::narrowed(*number)?)),
        (Type::Timestamp | Type::Timestamptz, Value::Date(days)) => {
            Value::Timestamp(datetime::date_to_timestamp(*days)?)
        }
        (Type::Date, Value::Timestamp(micros)) => Value::Date(datetime::timestamp_to_date(*micros)),
        (Type::Time, Value::Timestamp(i64::MIN | datetime::TIMESTAMP_INFINITY)) => Value::Null,
        (Type::Interval, Value::Time(micros)) => {
            Value::Interval(Interval { micros: *micros, ..Interval::default() })
        }
        (Type::Oid, Value::Int(number)) => Value::Int(*number & 0xffff_ffff),
        (Type::Time, Value::Timestamp(micros)) => Value::Time(micros.rem_euclid(datetime::DAY)),
        _ => value,
    })
}

/// `varchar(n)` cuts, `char(n)` cuts or pads, `numeric(p, s)` rounds.
fn modified<'a>(value: Value<'a>, to: &Type, modifiers: &[i32]) -> Result<Value<'a>, EvalError> {
    let size = |i: usize| modifiers.get(i).and_then(|n| u32::try_from(*n).ok());
    match (value, size(0)) {
        (Value::Text(text), Some(length)) => {
            let invalid = EvalError::InvalidValue { ty: "text" };
            let text = str::from_utf8(&text).map_err(|_| invalid)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let mut cut: String = text.chars().take(length).collect();
            if *to == Type::Bpchar {
                let missing = length - cut.chars().count();
                cut.extend(std::iter::repeat_n(' ', missing));
            }
            Ok(Value::from_text(cut))
        }
        (Value::Numeric(number), Some(precision)) => {
            Ok(Value::Numeric(Cow::Owned(number.fitted(precision, size(1).unwrap_or(0))?)))
        }
        (value, _) => Ok(value),
    }
}

/// The largest length of `char(n)` and `varchar(n)`.
const MAX_LENGTH: i32 = 10_485_760;
/// A `char(n)` of more would make every row's value that long.
const MAX_PADDED_LENGTH: i32 = 1_000;
/// The largest precision of `numeric(p, s)`.
const MAX_PRECISION: i32 = 1_000;

/// Whether a type may have these modifiers.
pub(crate) fn accepts_modifiers(ty: &Type, modifiers: &[i32]) -> bool {
    match (ty.element().unwrap_or(ty), modifiers) {
        (_, []) => true,
        (Type::Varchar, [length]) => (1..=MAX_LENGTH).contains(length),
        (Type::Bpchar, [length]) => (1..=MAX_PADDED_LENGTH).contains(length),
        (Type::Numeric, [precision]) => (1..=MAX_PRECISION).contains(precision),
        (Type::Numeric, [precision, scale]) => {
            (1..=MAX_PRECISION).contains(precision) && (0..=*precision).contains(scale)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::data_type::value::trimmed;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn cast(text: &str, from: &Type, to: &Type, modifiers: &[i32]) -> Result<String, EvalError> {
        let value = Value::parse(from, text.as_bytes())?;
        let cast = apply(value, from, to, modifiers)?;
        Ok(match cast {
            Value::Text(text) => String::from_utf8_lossy(&text).into_owned(),
            other => String::from_utf8_lossy(&other.text(to)).into_owned(),
        })
    }

    #[test]
    fn casts_as_postgres_does() {
        for (text, from, to, modifiers, expected) in [
            ("t", Type::Bool, Type::Text, &[][..], "true"),
            ("2.5", Type::Numeric, Type::Int4, &[], "3"),
            ("2.5", Type::Float8, Type::Int4, &[], "2"),
            ("abc", Type::Text, Type::Varchar, &[2], "ab"),
            ("ä", Type::Text, Type::Bpchar, &[3], "ä  "),
            ("ab   ", Type::Bpchar, Type::Text, &[], "ab"),
            ("ab   ", Type::Bpchar, Type::Varchar, &[4], "ab"),
            (" 12 ", Type::Text, Type::Int4, &[], "12"),
            ("2026-01-31 10:00:00+00", Type::Timestamptz, Type::Date, &[], "2026-01-31"),
            ("1.005", Type::Numeric, Type::Numeric, &[3, 2], "1.01"),
            ("0.1", Type::Numeric, Type::Float4, &[], "0.1"),
            ("16777217", Type::Int4, Type::Float4, &[], "1.6777216e+07"),
        ] {
            assert_eq!(cast(text, &from, &to, modifiers).as_deref(), Ok(expected), "{text}");
        }
        assert!(cast("3000000000", &Type::Int8, &Type::Int4, &[]).is_err());
        assert!(cast("x", &Type::Text, &Type::Int4, &[]).is_err());
    }

    #[test]
    fn padding_is_all_that_is_trimmed() {
        assert_eq!(trimmed(b"a b  "), b"a b");
        assert_eq!(trimmed(b"   "), b"");
    }
}
