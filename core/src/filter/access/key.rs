//! Values as bytes in which an index finds them.
//!
//! ```text
//! Integer, Instant   big endian, the sign turned over
//! Bool               one byte
//! Uuid               16 bytes
//! Float              its bits, so that they compare as Postgres orders floats
//! Numeric            rank, exponent, digits without zeros at the end, 0; a negative one turned over
//! Text, Trimmed      the bytes, 0 as 0 255; then 0 0
//! ```
//!
//! Two keys of one form compare as [`ordered`](crate::filter::eval::compare::ordered) compares their values, and none
//! begins with another one: so a list of keys is a key, and a bound can stand right before or right behind a key.

use crate::filter::data_type::number::Numeric;
use crate::filter::data_type::operator::Order;
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::{Value, trimmed};
use crate::filter::error::EvalError;
use crate::filter::eval::{arithmetic, compare};
use num_bigint::Sign;

/// The way in which the values of a type become keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Form {
    Bool,
    Integer,
    /// Points in time of any type.
    Instant,
    Float,
    Numeric,
    Uuid,
    Text,
    /// A text without the blanks at its end.
    Trimmed,
    /// The text of an enum's label, which stays what it is when the enum gets more of them.
    Label,
}

impl Form {
    /// That of a type's values where they are compared in an order; `trim` says whether their padding counts. `None`
    /// where equal values can have several keys, or their order is not that of any.
    pub(super) fn new(ty: &Type, order: Order, trim: bool) -> Option<Self> {
        let text = if trim { Self::Trimmed } else { Self::Text };
        match order {
            Order::Numeric => Some(Self::Numeric),
            Order::Float => Some(Self::Float),
            Order::Text { .. } => Some(text),
            Order::Array { .. } => None,
            Order::Natural => match ty {
                Type::Bool => Some(Self::Bool),
                Type::Int2
                | Type::Int4
                | Type::Int8
                | Type::Oid
                | Type::Char
                | Type::Enum(_)
                | Type::Time => Some(Self::Integer),
                Type::Numeric => Some(Self::Numeric),
                Type::Float4 | Type::Float8 => Some(Self::Float),
                Type::Uuid => Some(Self::Uuid),
                Type::Date | Type::Timestamp | Type::Timestamptz => Some(Self::Instant),
                Type::Text | Type::Varchar | Type::Bpchar | Type::Name => Some(text),
                Type::Bytea | Type::Bit | Type::Varbit => Some(Self::Text),
                Type::Inet
                | Type::Cidr
                | Type::Timetz
                | Type::Interval
                | Type::Json
                | Type::Jsonb
                | Type::Array(_)
                | Type::Opaque { .. } => None,
            },
        }
    }

    /// Appends the key of a value that is not null.
    pub(super) fn push(self, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), EvalError> {
        match (self, value) {
            (Self::Bool, Value::Bool(value)) => out.push(u8::from(*value)),
            (Self::Integer, Value::Int(value) | Value::Time(value)) => {
                out.extend_from_slice(&(value.cast_unsigned() ^ 1 << 63).to_be_bytes());
            }
            (Self::Instant, Value::Date(_) | Value::Timestamp(_)) => {
                let instant = compare::instant(value)?.cast_unsigned() ^ 1 << 127;
                out.extend_from_slice(&instant.to_be_bytes());
            }
            (Self::Float, value) => {
                out.extend_from_slice(&float_bits(arithmetic::float(value)?).to_be_bytes());
            }
            (Self::Numeric, value) => push_numeric(&*arithmetic::numeric(value)?, out),
            (Self::Uuid, Value::Uuid(value)) => out.extend_from_slice(&value.to_be_bytes()),
            (Self::Text | Self::Label, Value::Text(text)) => push_text(text, out),
            (Self::Text, Value::Bytes(bytes)) => push_text(bytes, out),
            (Self::Trimmed, Value::Text(text)) => push_text(trimmed(text), out),
            _ => return Err(EvalError::WrongType { ty: "comparable value" }),
        }
        Ok(())
    }
}

/// Appends the key of a text.
pub(super) fn push_text(text: &[u8], out: &mut Vec<u8>) {
    push_prefix(text, out);
    out.extend_from_slice(&[0, 0]);
}

/// Appends what the keys of all texts begin with that begin with this one.
pub(super) fn push_prefix(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(0, rest) {
        let (head, tail) = rest.split_at(at + 1);
        out.extend_from_slice(head);
        out.push(255);
        rest = tail;
    }
    out.extend_from_slice(rest);
}

/// The bound behind all keys that begin with these bytes; `None` where nothing lies there.
pub(super) fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut bound = prefix.to_vec();
    while let Some(last) = bound.pop() {
        if let Some(next) = last.checked_add(1) {
            bound.push(next);
            return Some(bound);
        }
    }
    None
}

/// NaN behind everything, one zero.
fn float_bits(number: f64) -> u64 {
    if number.is_nan() {
        return u64::MAX;
    }
    let bits = if number == 0.0 { 0 } else { number.to_bits() };
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn push_numeric(number: &Numeric, out: &mut Vec<u8>) {
    let (coefficient, scale) = match number {
        Numeric::NegativeInfinity => return out.push(0),
        Numeric::Infinity => return out.push(4),
        Numeric::NaN => return out.push(5),
        Numeric::Finite { coefficient, scale } => (coefficient, *scale),
    };
    let start = out.len() + 1;
    match coefficient.sign() {
        Sign::NoSign => return out.push(2),
        Sign::Minus => out.push(1),
        Sign::Plus => out.push(3),
    }
    let digits = coefficient.magnitude().to_string();
    let exponent = i64::try_from(digits.len()).unwrap_or(i64::MAX) - i64::from(scale);
    out.extend_from_slice(&(exponent.cast_unsigned() ^ 1 << 63).to_be_bytes());
    out.extend_from_slice(digits.trim_end_matches('0').as_bytes());
    out.push(0);
    if coefficient.sign() == Sign::Minus {
        out.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::data_type::operator::comparison;
    use crate::filter::eval::compare::ordered;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Texts of a type, with equal ones among them.
    const TEXTS: &[(Type, &[&str])] = &[
        (Type::Bool, &["t", "f"]),
        (Type::Int8, &["-9223372036854775808", "-1", "0", "1", "256", "9223372036854775807"]),
        (
            Type::Numeric,
            &[
                "-Infinity",
                "-100",
                "-100.5",
                "-99.99",
                "-1.0",
                "-1",
                "-0.01",
                "-0.010",
                "0",
                "0.00",
                "0.001",
                "0.01",
                "0.1",
                "1",
                "1.0",
                "1.50",
                "1.5",
                "9",
                "10",
                "10.0",
                "100",
                "123456789012345678901234567890",
                "Infinity",
                "NaN",
            ],
        ),
        (
            Type::Float8,
            &["-Infinity", "-1e300", "-1", "-1e-300", "-0", "0", "5e-324", "1", "1e300", "Infinity", "NaN"],
        ),
        (Type::Text, &["", "a", "a ", "ab", "b", "A", "é", "\u{10ffff}"]),
        (Type::Bpchar, &["a", "a  ", "ab", "ab ", " ", ""]),
        (Type::Bytea, &["\\x", "\\x00", "\\x0000", "\\x00ff", "\\x0001", "\\x01", "\\xff", "\\xff00"]),
        (Type::Uuid, &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"]),
        (Type::Date, &["-infinity", "0001-01-01 BC", "2024-02-29", "5874897-12-31", "infinity"]),
        (
            Type::Timestamptz,
            &[
                "-infinity",
                "2024-02-29 10:20:30+00",
                "2024-02-29 11:20:30+01",
                "2024-02-29 10:20:30.000001+00",
            ],
        ),
        (Type::Timestamp, &["2024-02-29 00:00:00", "2024-02-28 23:59:59.999999", "infinity"]),
        (Type::Time, &["00:00:00", "24:00:00", "10:20:30"]),
        (Type::Varbit, &["", "0", "1", "01", "10"]),
    ];

    fn key(form: Form, value: &Value<'_>) -> Vec<u8> {
        let mut key = Vec::new();
        form.push(value, &mut key).expect("a form that the type has");
        key
    }

    #[test]
    fn keys_compare_as_values_do_and_none_begins_with_another() {
        let all = || TEXTS.iter().flat_map(|(ty, texts)| texts.iter().map(move |text| (ty, *text)));
        let mut compared = 0;
        for (left_type, left_text) in all() {
            for (right_type, right_text) in all() {
                let Some(order) = comparison(left_type, right_type) else { continue };
                let trims = match order {
                    Order::Text { trim_left, trim_right } => [trim_left, trim_right],
                    _ => [false, false],
                };
                let value = |ty: &Type, text: &'static str| Value::parse(ty, text.as_bytes()).expect(text);
                let (left, right) = (value(left_type, left_text), value(right_type, right_text));
                let form = |ty, trim| Form::new(ty, order, trim).expect("a form");
                let left_key = key(form(left_type, trims[0]), &left);
                let right_key = key(form(right_type, trims[1]), &right);
                let expected = ordered(order, &left, &right).expect("they compare");
                assert_eq!(left_key.cmp(&right_key), expected, "{left_text} and {right_text}");
                assert!(
                    expected.is_eq() || !left_key.starts_with(&right_key),
                    "{left_text} and {right_text}"
                );
                compared += 1;
            }
        }
        assert!(compared > 1_000, "{compared}");
    }

    #[test]
    fn types_whose_equal_values_have_several_texts_beyond_core_have_no_form() {
        for ty in [Type::Interval, Type::Timetz, Type::Inet, Type::Jsonb, Type::Int4.array()] {
            assert_eq!(Form::new(&ty, Order::Natural, false), None, "{ty:?}");
        }
    }

    #[test]
    fn prefixes_end_where_no_text_begins_with_them() {
        let (mut low, mut other) = (Vec::new(), Vec::new());
        push_prefix(b"a\0", &mut low);
        push_text(b"a\0b", &mut other);
        assert!(other > low && Some(other) < behind(&low));
        assert_eq!(behind(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(behind(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!((behind(b"\xff"), behind(b"")), (None, None));
    }
}
