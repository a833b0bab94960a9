//! When two texts of one type are equal values: what decides membership in the result of a subquery.

use super::data_type::ty::Type;
use crate::pg::{Collation, Column};
use std::borrow::Cow;

/// How the texts of equal values of a type are brought to one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Equal {
    /// Equal values have equal texts.
    Text,
    /// `1.50` is `1.5`.
    Numeric,
    /// `-0` is `0`.
    Float,
    /// A `bpchar` is what it is without the blanks at its end.
    Padded,
}

/// Why values of a column cannot be told by their texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unequal {
    Type(String),
    Collation,
}

impl Equal {
    pub(super) fn of(column: &Column) -> Result<Self, Unequal> {
        let ty = Type::of_column(column);
        let scalar = ty.element().unwrap_or(&ty);
        if scalar.is_string() && column.typing.collation == Collation::Nondeterministic {
            return Err(Unequal::Collation);
        }
        let equal = Self::of_type(scalar).filter(|equal| scalar == &ty || *equal == Self::Text);
        equal.ok_or_else(|| Unequal::Type(ty.name().into_owned()))
    }

    fn of_type(ty: &Type) -> Option<Self> {
        match ty {
            Type::Bool | Type::Int2 | Type::Int4 | Type::Int8 | Type::Oid | Type::Uuid | Type::Bytea => {
                Some(Self::Text)
            }
            Type::Text | Type::Varchar | Type::Name | Type::Char | Type::Enum(_) => Some(Self::Text),
            Type::Date | Type::Time | Type::Timestamp | Type::Timestamptz => Some(Self::Text),
            Type::Numeric => Some(Self::Numeric),
            Type::Float4 | Type::Float8 => Some(Self::Float),
            Type::Bpchar => Some(Self::Padded),
            Type::Array(_)
            | Type::Bit
            | Type::Varbit
            | Type::Inet
            | Type::Cidr
            | Type::Timetz
            | Type::Interval
            | Type::Json
            | Type::Jsonb
            | Type::Opaque { .. } => None,
        }
    }

    /// The one text of all values that are equal to this one.
    #[must_use]
    pub fn key(self, text: &[u8]) -> Cow<'_, [u8]> {
        Cow::Borrowed(match self {
            Self::Text => text,
            Self::Numeric if text.contains(&b'.') => {
                let text = without_trailing(text, b'0');
                text.strip_suffix(b".").unwrap_or(text)
            }
            Self::Numeric => text,
            Self::Float if text == b"-0" => b"0",
            Self::Float => text,
            Self::Padded => without_trailing(text, b' '),
        })
    }
}

fn without_trailing(text: &[u8], byte: u8) -> &[u8] {
    let kept = text.iter().rposition(|b| *b != byte).map_or(0, |last| last + 1);
    text.get(..kept).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn equal_values_have_one_key() {
        for (equal, text, key) in [
            (Equal::Text, "1.50 ", "1.50 "),
            (Equal::Numeric, "1.50", "1.5"),
            (Equal::Numeric, "-100.00", "-100"),
            (Equal::Numeric, "100", "100"),
            (Equal::Numeric, "0.00", "0"),
            (Equal::Numeric, "NaN", "NaN"),
            (Equal::Float, "-0", "0"),
            (Equal::Float, "-0.5", "-0.5"),
            (Equal::Padded, "a b  ", "a b"),
            (Equal::Padded, "  ", ""),
        ] {
            assert_eq!(equal.key(text.as_bytes()), key.as_bytes(), "{equal:?} {text}");
        }
    }
}
