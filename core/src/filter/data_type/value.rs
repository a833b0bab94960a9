//! Values, and Postgres's text form of each type, read and written. The matches over [`Type`] or [`Value`] that
//! compare and parse name all variants: a new type does not compile before each of them is decided.

use super::array::Array;
use super::inet::Inet;
use super::interval::Interval;
use super::json::Json;
use super::number::Numeric;
use super::timetz::Timetz;
use super::ty::Type;
use super::{bytes, datetime, float};
use crate::filter::error::EvalError;
use crate::filter::syntax::lexer::cut_identifier;
use std::borrow::Cow;
use std::str;

/// A value; its type is known from the expression that gives it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// Every integer type, `oid`, the byte of a `"char"`, the position of an enum's label.
    Int(i64),
    Numeric(Cow<'a, Numeric>),
    /// A `float4` is kept as the `float8` of the same value.
    Float(f64),
    /// Every string type, a `bpchar` with its padding; the text of a `json`; the digits of bits.
    Text(Cow<'a, [u8]>),
    Bytes(Cow<'a, [u8]>),
    Uuid(u128),
    Inet(Inet),
    /// Days, see [`datetime`].
    Date(i32),
    /// Microseconds of the day.
    Time(i64),
    Timetz(Timetz),
    /// Microseconds; both timestamp types.
    Timestamp(i64),
    Interval(Interval),
    Json(Cow<'a, Json>),
    Array(Cow<'a, Array>),
    /// The text of a type core does not read.
    Opaque(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Reads Postgres's text form.
    pub(crate) fn parse(ty: &Type, bytes: &'a [u8]) -> Result<Self, EvalError> {
        let utf8 = || str::from_utf8(bytes).map_err(|_| ty.invalid());
        let trimmed = || utf8().map(|text| text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']));
        let value = match ty {
            Type::Text | Type::Varchar | Type::Bpchar | Type::Name | Type::Json => {
                Some(Self::Text(Cow::Borrowed(bytes)))
            }
            Type::Bit | Type::Varbit => {
                let are_bits = bytes.iter().all(|byte| matches!(byte, b'0' | b'1'));
                are_bits.then_some(Self::Text(Cow::Borrowed(bytes)))
            }
            Type::Bytea => bytes::parse(bytes).map(Self::bytes),
            Type::Char => Some(Self::Int(i64::from(bytes::parse_char(bytes)))),
            Type::Enum(of) => of.ordinal(bytes).map(Self::Int),
            Type::Opaque { .. } => Some(Self::Opaque(bytes)),
            Type::Array(element) => return Array::parse(element, utf8()?).map(Self::array),
            Type::Int2 | Type::Int4 | Type::Int8 | Type::Oid => {
                return ty.integer(trimmed()?.parse().map_err(|_| ty.invalid())?);
            }
            Type::Bool => parse_bool(trimmed()?).map(Self::Bool),
            Type::Numeric => Numeric::parse(trimmed()?).map(Self::numeric),
            Type::Float4 => float::parse_f32(trimmed()?).map(|number| Self::Float(f64::from(number))),
            Type::Float8 => float::parse_f64(trimmed()?).map(Self::Float),
            Type::Uuid => parse_uuid(trimmed()?).map(Self::Uuid),
            Type::Inet => Inet::parse(trimmed()?).map(Self::Inet),
            Type::Cidr => Inet::parse(trimmed()?).filter(Inet::is_network).map(Self::Inet),
            Type::Date => datetime::parse_date(trimmed()?).map(Self::Date),
            Type::Time => datetime::parse_time(trimmed()?).map(Self::Time),
            Type::Timetz => Timetz::parse(trimmed()?).map(Self::Timetz),
            Type::Timestamp => datetime::parse_timestamp(trimmed()?).map(Self::Timestamp),
            Type::Timestamptz => datetime::parse_timestamptz(trimmed()?).map(Self::Timestamp),
            Type::Interval => Interval::parse(trimmed()?).map(Self::Interval),
            Type::Jsonb => Json::parse(trimmed()?).map(|json| Self::Json(Cow::Owned(json))),
        };
        value.ok_or_else(|| ty.invalid())
    }

    /// A literal of a type, as Postgres's input function reads it.
    pub(crate) fn literal(ty: &Type, text: &str) -> Option<Value<'static>> {
        if text.contains('\0') || ty.is_opaque() {
            return None;
        }
        match ty {
            Type::Name => Some(Value::from_text(cut_identifier(text.to_owned()))),
            Type::Json => Json::parse(text).map(|_| Value::from_text(text.to_owned())),
            Type::Bit | Type::Varbit => bytes::parse_bits(text).map(Value::from_text),
            _ => Value::parse(ty, text.as_bytes()).ok().map(Value::into_owned),
        }
    }

    pub(crate) fn from_text(text: String) -> Value<'static> {
        Value::Text(Cow::Owned(text.into_bytes()))
    }

    pub(crate) fn bytes(bytes: Vec<u8>) -> Self {
        Self::Bytes(Cow::Owned(bytes))
    }

    pub(crate) fn numeric(number: Numeric) -> Self {
        Self::Numeric(Cow::Owned(number))
    }

    pub(crate) fn array(array: Array) -> Self {
        Self::Array(Cow::Owned(array))
    }

    pub(crate) fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null | Value::Opaque(_) => Value::Null,
            Value::Bool(value) => Value::Bool(value),
            Value::Int(value) => Value::Int(value),
            Value::Numeric(value) => Value::Numeric(Cow::Owned(value.into_owned())),
            Value::Float(value) => Value::Float(value),
            Value::Text(value) => Value::Text(Cow::Owned(value.into_owned())),
            Value::Bytes(value) => Value::Bytes(Cow::Owned(value.into_owned())),
            Value::Uuid(value) => Value::Uuid(value),
            Value::Inet(value) => Value::Inet(value),
            Value::Date(value) => Value::Date(value),
            Value::Time(value) => Value::Time(value),
            Value::Timetz(value) => Value::Timetz(value),
            Value::Timestamp(value) => Value::Timestamp(value),
            Value::Interval(value) => Value::Interval(value),
            Value::Json(value) => Value::Json(Cow::Owned(value.into_owned())),
            Value::Array(value) => Value::Array(Cow::Owned(value.into_owned())),
        }
    }

    /// The same value without a copy.
    pub(crate) fn borrowed(&'a self) -> Value<'a> {
        match self {
            Value::Numeric(value) => Value::Numeric(Cow::Borrowed(value)),
            Value::Text(value) => Value::Text(Cow::Borrowed(value)),
            Value::Bytes(value) => Value::Bytes(Cow::Borrowed(value)),
            Value::Json(value) => Value::Json(Cow::Borrowed(value)),
            Value::Array(value) => Value::Array(Cow::Borrowed(value)),
            other => other.clone(),
        }
    }

    /// The result of `::text` for a value of type `ty`. It differs from [`Value::output`] for a few types.
    pub(crate) fn text(self, ty: &Type) -> Cow<'a, [u8]> {
        match self {
            Value::Text(text) if *ty == Type::Bpchar => trim_padding(text),
            Value::Bool(value) => Cow::Borrowed(if value { b"true" } else { b"false" }),
            Value::Inet(value) => Cow::Owned(value.with_bits().into_bytes()),
            value => value.output(ty),
        }
    }

    /// Postgres's output form of a value of type `ty`.
    pub(crate) fn output(self, ty: &Type) -> Cow<'a, [u8]> {
        let text = match self {
            Value::Text(text) => return text,
            Value::Opaque(text) => return Cow::Borrowed(text),
            Value::Bool(value) => return Cow::Borrowed(if value { b"t" } else { b"f" }),
            Value::Null => String::new(),
            Value::Int(value) => match ty {
                Type::Enum(of) => of.label(value).to_owned(),
                Type::Char => return Cow::Owned(bytes::format_char(value)),
                _ => value.to_string(),
            },
            Value::Numeric(value) => value.to_string(),
            Value::Float(value) if *ty == Type::Float4 => float::format_f32(value),
            Value::Float(value) => float::format_f64(value),
            Value::Bytes(value) => bytes::format(&value),
            Value::Uuid(value) => format_uuid(value),
            Value::Inet(value) if *ty == Type::Cidr => value.with_bits(),
            Value::Inet(value) => value.to_string(),
            Value::Date(value) => datetime::format_date(value),
            Value::Time(value) => datetime::format_time(value),
            Value::Timetz(value) => value.to_string(),
            Value::Timestamp(value) => {
                datetime::format_timestamp(value, if *ty == Type::Timestamptz { "+00" } else { "" })
            }
            Value::Interval(value) => value.to_string(),
            Value::Json(value) => value.to_string(),
            Value::Array(value) => value.output(ty.element().unwrap_or(&Type::Text)),
        };
        Cow::Owned(text.into_bytes())
    }
}

/// Without the trailing blanks of a `bpchar`.
pub(crate) fn trim_padding(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(trimmed(text)),
        Cow::Owned(mut text) => {
            text.truncate(trimmed(&text).len());
            Cow::Owned(text)
        }
    }
}

pub(crate) fn trimmed(text: &[u8]) -> &[u8] {
    let padding = text.iter().rev().take_while(|b| **b == b' ').count();
    text.get(..text.len() - padding).unwrap_or_default()
}

/// Any unambiguous beginning of the words Postgres knows.
fn parse_bool(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let begins = |word: &str, least: usize| lower.len() >= least && word.starts_with(&lower);
    if begins("true", 1) || begins("yes", 1) || lower == "on" || lower == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || lower == "0" {
        Some(false)
    } else {
        None
    }
}

/// 32 hex digits, a hyphen allowed after each group of four, perhaps in braces.
fn parse_uuid(text: &str) -> Option<u128> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let (mut value, mut digits, mut hyphen) = (0_u128, 0, true);
    for symbol in inner.chars() {
        if symbol == '-' {
            if hyphen || digits % 4 != 0 || digits == 32 {
                return None;
            }
            hyphen = true;
            continue;
        }
        value = value << 4 | u128::from(symbol.to_digit(16)?);
        digits += 1;
        hyphen = false;
        if digits > 32 {
            return None;
        }
    }
    (digits == 32).then_some(value)
}

fn format_uuid(value: u128) -> String {
    let hex = format!("{value:032x}");
    let mut text = String::with_capacity(36);
    for (i, symbol) in hex.chars().enumerate() {
        if matches!(i, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(symbol);
    }
    text
}

impl Type {
    /// An integer of this type, unless it is too large for it.
    pub(crate) fn integer(&self, value: i64) -> Result<Value<'static>, EvalError> {
        let fits = match self {
            Self::Int2 => i16::try_from(value).is_ok(),
            Self::Int4 => i32::try_from(value).is_ok(),
            Self::Oid => u32::try_from(value).is_ok(),
            _ => true,
        };
        if fits { Ok(Value::Int(value)) } else { Err(self.out_of_range()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn shown(ty: &Type, text: &str) -> Option<String> {
        let value = Value::literal(ty, text)?;
        String::from_utf8(value.text(ty).into_owned()).ok()
    }

    #[test]
    fn literals_come_back_in_postgres_form() {
        for (ty, text, expected) in [
            (Type::Bool, "TRUE", Some("true")),
            (Type::Bool, "of", Some("false")),
            (Type::Bool, "o", None),
            (Type::Int4, " +10 ", Some("10")),
            (Type::Int4, "1_0", None),
            (Type::Int4, "3000000000", None),
            (Type::Int4, "\u{661}\u{660}", None),
            (Type::Int2, "-32768", Some("-32768")),
            (Type::Numeric, "1.50", Some("1.50")),
            (Type::Uuid, "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
            (Type::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", None),
            (Type::Bpchar, "ab  ", Some("ab")),
            (Type::Text, "a\0b", None),
        ] {
            assert_eq!(shown(&ty, text).as_deref(), expected, "{text} as {}", ty.name());
        }
    }
}
