//! JSON: documents as `jsonb` keeps them, with numbers of any precision, and the text of `json`, of which parts
//! are cut out as they were written.

use super::json_scanner::Scanner;
use super::number::Numeric;
use crate::filter::error::EvalError;
use std::cmp::Ordering;
use std::fmt;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Numeric),
    String(String),
    Array(Vec<Json>),
    /// Sorted as Postgres does, shorter keys first; of equal keys the last one stays.
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut scanner = Scanner { text, at: 0 };
        let value = scanner.value(0)?;
        scanner.skip_blanks();
        (scanner.at == text.len()).then_some(value)
    }

    /// `=`: numbers by value, whatever digits they show.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.compare(b).is_eq(),
            (Self::Array(a), Self::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b))
            }
            (Self::Object(a), Self::Object(b)) => {
                let pairs = || a.iter().zip(b);
                a.len() == b.len() && pairs().all(|(a, b)| a.0 == b.0 && a.1.equals(&b.1))
            }
            (a, b) => a == b,
        }
    }

    /// `@>`
    pub(crate) fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            // An array may contain a value that stands for itself.
            (Self::Array(elements), scalar) if scalar.is_scalar() => {
                elements.iter().any(|e| e.equals(scalar))
            }
            (a, b) if a.is_scalar() => a.equals(b),
            (a, b) => a.contains_part(b),
        }
    }

    fn contains_part(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(_), Self::Object(wanted)) => wanted.iter().all(|(key, wanted)| {
                self.member(key).is_some_and(|value| {
                    if wanted.is_scalar() { value.equals(wanted) } else { value.contains_part(wanted) }
                })
            }),
            (Self::Array(elements), Self::Array(wanted)) => wanted.iter().all(|wanted| {
                elements
                    .iter()
                    .any(|e| if wanted.is_scalar() { e.equals(wanted) } else { e.contains_part(wanted) })
            }),
            _ => false,
        }
    }

    /// `?`: a key of an object, a string of an array, a string itself.
    pub(crate) fn has(&self, key: &str) -> bool {
        let is_key = |value: &Self| matches!(value, Self::String(text) if text == key);
        match self {
            Self::Object(_) => self.member(key).is_some(),
            Self::Array(elements) => elements.iter().any(is_key),
            scalar => is_key(scalar),
        }
    }

    fn is_scalar(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// `-> 'key'`
    pub(crate) fn member(&self, key: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        let at = members.binary_search_by(|(known, _)| key_order(known, key)).ok()?;
        members.get(at).map(|(_, value)| value)
    }

    /// `-> index`, from the end where it is negative. A value that stands for itself counts as an array of it.
    pub(crate) fn at(&self, index: i64) -> Option<&Self> {
        match self {
            Self::Array(elements) => elements.get(position(index, elements.len())?),
            Self::Object(_) => None,
            scalar => matches!(index, 0 | -1).then_some(scalar),
        }
    }

    /// One step of a path: a key, or an index in decimal notation.
    pub(crate) fn step(&self, step: &str) -> Option<&Self> {
        match self {
            Self::Array(_) => self.at(path_index(step)?),
            _ => self.member(step),
        }
    }

    /// The result of `->>`: a string without its quotes, nothing for null.
    pub(crate) fn into_text(self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::String(text) => Some(text),
            value => Some(value.to_string()),
        }
    }
}

/// `jsonb`'s output form.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::String(text) => write_string(f, text),
            Self::Array(elements) => {
                for (i, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if i == 0 { "[" } else { ", " })?;
                }
                f.write_str(if elements.is_empty() { "[]" } else { "]" })
            }
            Self::Object(members) => {
                for (i, (key, value)) in members.iter().enumerate() {
                    f.write_str(if i == 0 { "{" } else { ", " })?;
                    write_string(f, key)?;
                    write!(f, ": {value}")?;
                }
                f.write_str(if members.is_empty() { "{}" } else { "}" })
            }
        }
    }
}

fn write_string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write;
    f.write_char('"')?;
    for symbol in text.chars() {
        match symbol {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\x08' => f.write_str("\\b")?,
            '\x0c' => f.write_str("\\f")?,
            control if control < ' ' => write!(f, "\\u{:04x}", u32::from(control))?,
            plain => f.write_char(plain)?,
        }
    }
    f.write_char('"')
}

pub(crate) fn key_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn position(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if index < 0 { index + length } else { index }).ok()
}

/// An index as `strtol` reads it.
fn path_index(step: &str) -> Option<i64> {
    let digits = step.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    digits.parse::<i32>().ok().map(i64::from)
}

/// The part of a `json` text under a key.
pub(crate) fn text_member<'t>(text: &'t str, key: &str) -> Result<Option<&'t str>, EvalError> {
    let mut found = None;
    each_part(text, |name, part| {
        if name == Some(key) {
            found = Some(part);
        }
    })?;
    Ok(found)
}

/// The part of a `json` text at an index.
pub(crate) fn text_at(text: &str, index: i64) -> Result<Option<&str>, EvalError> {
    let mut parts = Vec::new();
    each_part(text, |name, part| parts.extend(name.is_none().then_some(part)))?;
    Ok(position(index, parts.len()).and_then(|at| parts.get(at).copied()))
}

/// One step of a path through a `json` text.
pub(crate) fn text_step<'t>(text: &'t str, step: &str) -> Result<Option<&'t str>, EvalError> {
    match text.trim_start().as_bytes().first() {
        Some(b'[') => path_index(step).map_or(Ok(None), |index| text_at(text, index)),
        _ => text_member(text, step),
    }
}

/// The result of `->>` for a part of a `json` text.
pub(crate) fn part_text(part: &str) -> Option<Option<String>> {
    match part.as_bytes().first() {
        Some(b'"') => Scanner { text: part, at: 0 }.string().map(Some),
        _ => Some((part != "null").then(|| part.to_owned())),
    }
}

/// Calls back with key and text of every part, where the text is an object or an array.
fn each_part<'t>(text: &'t str, part: impl FnMut(Option<&str>, &'t str)) -> Result<(), EvalError> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.skip_blanks();
    let end = match scanner.peek() {
        b'{' => b'}',
        b'[' => b']',
        _ => return Ok(()),
    };
    scanner.at += 1;
    scanner.each_part(end, part).ok_or(EvalError::InvalidValue { ty: "json" })
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn json(text: &str) -> Json {
        Json::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn output_is_that_of_jsonb() {
        for (text, shown) in [
            (r#" {"bb":1,"a":[1,  2.50,{}], "a" : true}"#, r#"{"a": true, "bb": 1}"#),
            (r#"[1e3,-0.10,[]]"#, "[1000, -0.10, []]"),
            (r#""\u00e9\ud83d\ude00\n\u0001\/""#, "\"é😀\\n\\u0001/\""),
            ("null", "null"),
        ] {
            assert_eq!(json(text).to_string(), shown);
        }
        for bad in
            ["", "{", "[1,]", "01", "1.", "{'a':1}", "\"\\u0000\"", "\"\\ud800\"", "nul", "1 2", "\"\n\""]
        {
            assert_eq!(Json::parse(bad), None, "{bad}");
        }
        assert_eq!(Json::parse(&"[".repeat(100_000)), None);
    }

    /// Inserted one by one in falling order, the keys would be moved some 20,000,000,000 times.
    #[test]
    fn an_object_of_many_keys_is_read_in_time_that_grows_with_its_length() {
        let members: Vec<_> = (0..200_000).rev().map(|key| format!(r#""{key:06}":{key}"#)).collect();
        let object = json(&format!("{{{}}}", members.join(",")));
        assert_eq!(object.member("000007"), Some(&json("7")));
        assert_eq!(json(r#"{"a":1,"b":2,"a":3,"a":4}"#).to_string(), r#"{"a": 4, "b": 2}"#);
    }

    #[test]
    fn containment() {
        for (whole, part, expected) in [
            (r#"{"a":1,"b":[1,2,{"c":3,"d":4}]}"#, r#"{"b":[{"c":3.0},1]}"#, true),
            ("[1,2]", "1", true),
            ("1", "[1]", false),
            ("1", "1.0", true),
            ("[[1,2]]", "[1]", false),
            ("[[1,2]]", "[[2]]", true),
            (r#"{"a":[1]}"#, r#"{"a":1}"#, false),
            ("{}", "[]", false),
            ("[]", "[]", true),
        ] {
            assert_eq!(json(whole).contains(&json(part)), expected, "{whole} @> {part}");
        }
    }

    #[test]
    fn navigation() {
        let document = json(r#"{"a":[10,"x",null],"b":"y"}"#);
        assert_eq!(document.step("a").and_then(|a| a.step("-2")), Some(&json("\"x\"")));
        assert_eq!(document.step("a").and_then(|a| a.step("x")), None);
        assert_eq!(json("null").into_text(), None);
        assert!(
            document.has("b") && json("[\"k\"]").has("k") && json("\"k\"").has("k") && !json("1").has("1")
        );
    }

    #[test]
    fn parts_of_a_text_stay_as_written() {
        let text = r#" {"a" : {"x":[1 , 2]} , "b":"\u0061" ,"a": 1.50 } "#;
        assert_eq!(text_member(text, "a"), Ok(Some("1.50")));
        assert_eq!(text_member(text, "b"), Ok(Some(r#""\u0061""#)));
        assert_eq!(text_member(text, "c"), Ok(None));
        assert_eq!(text_at("[ 1, [2 ,3] ]", -1), Ok(Some("[2 ,3]")));
        assert_eq!(text_at(text, 0), Ok(None));
        assert_eq!(text_step("[[5]]", "0"), Ok(Some("[5]")));
        assert_eq!(text_member("5", "a"), Ok(None));
        assert!(text_member(r#"{"a":"\u0000"}"#, "a").is_err());
        assert_eq!(part_text(r#""\u0061""#), Some(Some("a".to_owned())));
        assert_eq!(part_text("null"), Some(None));
    }
}
