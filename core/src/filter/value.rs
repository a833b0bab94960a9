//! Types and values: which columns core understands, and Postgres's text form of each type, read and written.
//! A later type needs an arm in [`Type`], in [`Value::parse`] and in [`Value::text`].

use super::error::EvalError;
use super::lexer::cut_identifier;
use super::number::Numeric;
use super::{datetime, float};
use crate::pg::{Column, oid};
use std::borrow::Cow;
use std::str;

/// Oids from here on belong to types that users made (`FirstNormalObjectId`).
const FIRST_USER_OID: u32 = 16_384;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric,
    Float4,
    Float8,
    Text,
    Varchar,
    Bpchar,
    Name,
    Uuid,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    /// A type of which core knows only whether a value is null.
    Opaque {
        name: String,
        /// Perhaps composite, so that `IS NULL` asks for its fields.
        user_defined: bool,
    },
}

impl Type {
    pub(super) fn of_column(column: &Column) -> Self {
        let array = column.element_oid != column.type_oid;
        let known = match column.type_oid {
            oid::BOOL => Self::Bool,
            oid::INT2 => Self::Int2,
            oid::INT4 => Self::Int4,
            oid::INT8 => Self::Int8,
            oid::NUMERIC => Self::Numeric,
            oid::FLOAT4 => Self::Float4,
            oid::FLOAT8 => Self::Float8,
            oid::TEXT => Self::Text,
            oid::VARCHAR => Self::Varchar,
            oid::BPCHAR => Self::Bpchar,
            oid::NAME => Self::Name,
            oid::UUID => Self::Uuid,
            oid::DATE => Self::Date,
            oid::TIME => Self::Time,
            oid::TIMESTAMP => Self::Timestamp,
            oid::TIMESTAMPTZ => Self::Timestamptz,
            type_oid => {
                return Self::Opaque {
                    name: format!("{}{}", column.type_name, if array { "[]" } else { "" }),
                    user_defined: type_oid >= FIRST_USER_OID && !array,
                };
            }
        };
        if array {
            Self::Opaque { name: format!("{}[]", column.type_name), user_defined: false }
        } else {
            known
        }
    }

    /// By the catalog's name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            "numeric" => Self::Numeric,
            "float4" => Self::Float4,
            "float8" => Self::Float8,
            "text" => Self::Text,
            "varchar" => Self::Varchar,
            "bpchar" => Self::Bpchar,
            "name" => Self::Name,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::Timestamptz,
            _ => return None,
        })
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Opaque { name, .. } => name,
            known => known.static_name(),
        }
    }

    pub(super) fn static_name(&self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int2 => "int2",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Numeric => "numeric",
            Self::Float4 => "float4",
            Self::Float8 => "float8",
            Self::Text => "text",
            Self::Varchar => "varchar",
            Self::Bpchar => "bpchar",
            Self::Name => "name",
            Self::Uuid => "uuid",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamptz",
            Self::Opaque { .. } => "a type core does not read",
        }
    }

    pub(super) fn is_integer(&self) -> bool {
        matches!(self, Self::Int2 | Self::Int4 | Self::Int8)
    }

    pub(super) fn is_float(&self) -> bool {
        matches!(self, Self::Float4 | Self::Float8)
    }

    pub(super) fn is_number(&self) -> bool {
        self.is_integer() || self.is_float() || *self == Self::Numeric
    }

    /// The types of Postgres's string category.
    pub(super) fn is_string(&self) -> bool {
        matches!(self, Self::Text | Self::Varchar | Self::Bpchar | Self::Name)
    }

    fn invalid(&self) -> EvalError {
        EvalError::InvalidValue { ty: self.static_name() }
    }

    /// An integer of this type, unless it is too large for it.
    pub(super) fn integer(&self, value: i64) -> Result<Value<'static>, EvalError> {
        let fits = match self {
            Self::Int2 => i16::try_from(value).is_ok(),
            Self::Int4 => i32::try_from(value).is_ok(),
            _ => true,
        };
        if fits { Ok(Value::Int(value)) } else { Err(EvalError::OutOfRange { ty: self.static_name() }) }
    }
}

/// A value; its type is known from the expression that gives it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Numeric(Cow<'a, Numeric>),
    /// A `float4` is kept as the `float8` of the same value.
    Float(f64),
    /// Every string type; a `bpchar` keeps its padding.
    Text(Cow<'a, [u8]>),
    Uuid(u128),
    /// Days, see [`datetime`].
    Date(i32),
    /// Microseconds of the day.
    Time(i64),
    /// Microseconds; both timestamp types.
    Timestamp(i64),
    /// The text of a type core does not read.
    Opaque(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Reads Postgres's text form.
    pub(super) fn parse(ty: &Type, bytes: &'a [u8]) -> Result<Self, EvalError> {
        match ty {
            Type::Text | Type::Varchar | Type::Bpchar | Type::Name => {
                return Ok(Self::Text(Cow::Borrowed(bytes)));
            }
            Type::Opaque { .. } => return Ok(Self::Opaque(bytes)),
            _ => {}
        }
        let text = str::from_utf8(bytes)
            .map_err(|_| ty.invalid())?
            .trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
        let value = match ty {
            Type::Bool => parse_bool(text).map(Self::Bool),
            Type::Int2 | Type::Int4 | Type::Int8 => {
                let value = text.parse::<i64>().map_err(|_| ty.invalid())?;
                return ty.integer(value);
            }
            Type::Numeric => Numeric::parse(text).map(|number| Self::Numeric(Cow::Owned(number))),
            Type::Float4 => float::parse_f32(text).map(|number| Self::Float(f64::from(number))),
            Type::Float8 => float::parse_f64(text).map(Self::Float),
            Type::Uuid => parse_uuid(text).map(Self::Uuid),
            Type::Date => datetime::parse_date(text).map(Self::Date),
            Type::Time => datetime::parse_time(text).map(Self::Time),
            Type::Timestamp => datetime::parse_timestamp(text).map(Self::Timestamp),
            Type::Timestamptz => datetime::parse_timestamptz(text).map(Self::Timestamp),
            Type::Text | Type::Varchar | Type::Bpchar | Type::Name | Type::Opaque { .. } => None,
        };
        value.ok_or_else(|| ty.invalid())
    }

    /// A literal of a type, as Postgres's input function reads it.
    pub(super) fn literal(ty: &Type, text: &str) -> Option<Value<'static>> {
        if text.contains('\0') || matches!(ty, Type::Opaque { .. }) {
            return None;
        }
        if *ty == Type::Name {
            return Some(Value::from_text(cut_identifier(text.to_owned())));
        }
        Value::parse(ty, text.as_bytes()).ok().map(Value::into_owned)
    }

    pub(super) fn from_text(text: String) -> Value<'static> {
        Value::Text(Cow::Owned(text.into_bytes()))
    }

    pub(super) fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null | Value::Opaque(_) => Value::Null,
            Value::Bool(value) => Value::Bool(value),
            Value::Int(value) => Value::Int(value),
            Value::Numeric(value) => Value::Numeric(Cow::Owned(value.into_owned())),
            Value::Float(value) => Value::Float(value),
            Value::Text(value) => Value::Text(Cow::Owned(value.into_owned())),
            Value::Uuid(value) => Value::Uuid(value),
            Value::Date(value) => Value::Date(value),
            Value::Time(value) => Value::Time(value),
            Value::Timestamp(value) => Value::Timestamp(value),
        }
    }

    /// The same value without a copy.
    pub(super) fn borrowed(&'a self) -> Value<'a> {
        match self {
            Value::Numeric(value) => Value::Numeric(Cow::Borrowed(value)),
            Value::Text(value) => Value::Text(Cow::Borrowed(value)),
            other => other.clone(),
        }
    }

    /// What `::text` gives for a value of type `ty`.
    pub(super) fn text(self, ty: &Type) -> Cow<'a, [u8]> {
        let text = match self {
            Value::Text(text) if *ty == Type::Bpchar => return trim_padding(text),
            Value::Text(text) => return text,
            Value::Opaque(text) => return Cow::Borrowed(text),
            Value::Null => String::new(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Numeric(value) => value.to_string(),
            Value::Float(value) if *ty == Type::Float4 => float::format_f32(value),
            Value::Float(value) => float::format_f64(value),
            Value::Uuid(value) => format_uuid(value),
            Value::Date(value) => datetime::format_date(value),
            Value::Time(value) => datetime::format_time(value),
            Value::Timestamp(value) => {
                datetime::format_timestamp(value, if *ty == Type::Timestamptz { "+00" } else { "" })
            }
        };
        Cow::Owned(text.into_bytes())
    }
}

/// Without the trailing blanks of a `bpchar`.
pub(super) fn trim_padding(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(trimmed(text)),
        Cow::Owned(mut text) => {
            text.truncate(trimmed(&text).len());
            Cow::Owned(text)
        }
    }
}

pub(super) fn trimmed(text: &[u8]) -> &[u8] {
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
