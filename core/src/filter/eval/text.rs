//! Functions on texts, counting in characters, with Postgres's results at the edges.

use crate::filter::data_type::call::{Arguments, Outcome};
use crate::filter::data_type::value::Value;
use crate::filter::error::EvalError;
use crate::pg::Collation;

/// A result beyond this is refused: one row must not ask for the memory of many.
const MAX_BYTES: usize = 8 * 1024 * 1024;

const TOO_LARGE: EvalError = EvalError::Failed("requested length too large");

fn text(value: impl Into<String>) -> Outcome {
    Ok(Value::from_text(value.into()))
}

fn count(number: usize) -> Outcome {
    i64::try_from(number).map(Value::Int).map_err(|_| TOO_LARGE)
}

/// The lower case of a character under a collation.
pub(crate) fn lower_char(symbol: char, collation: Collation) -> char {
    if collation == Collation::C {
        return symbol.to_ascii_lowercase();
    }
    let mut lower = symbol.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(lower), None) => lower,
        // The one character whose simple mapping differs from its full one.
        _ if symbol == '\u{130}' => 'i',
        _ => symbol,
    }
}

fn upper_char(symbol: char, collation: Collation) -> char {
    if collation == Collation::C {
        return symbol.to_ascii_uppercase();
    }
    let mut upper = symbol.to_uppercase();
    if let (Some(upper), None) = (upper.next(), upper.next()) {
        return upper;
    }
    // The full mapping writes the iota subscript apart, the simple one takes the title case letter.
    let titled = match symbol {
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => 8,
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => 9,
        _ => 0,
    };
    char::from_u32(u32::from(symbol) + titled).unwrap_or(symbol)
}

pub(crate) fn lower(arguments: &Arguments<'_>) -> Outcome {
    let collation = arguments.collation;
    text(arguments.text(0)?.chars().map(|symbol| lower_char(symbol, collation)).collect::<String>())
}

pub(crate) fn upper(arguments: &Arguments<'_>) -> Outcome {
    let collation = arguments.collation;
    text(arguments.text(0)?.chars().map(|symbol| upper_char(symbol, collation)).collect::<String>())
}

pub(crate) fn length(arguments: &Arguments<'_>) -> Outcome {
    count(arguments.text(0)?.chars().count())
}

/// `length(bpchar)`
pub(crate) fn length_unpadded(arguments: &Arguments<'_>) -> Outcome {
    count(arguments.text(0)?.trim_end_matches(' ').chars().count())
}

pub(crate) fn octet_length(arguments: &Arguments<'_>) -> Outcome {
    match arguments.value(0)? {
        Value::Bytes(bytes) => count(bytes.len()),
        _ => count(arguments.text(0)?.len()),
    }
}

pub(crate) fn reverse(arguments: &Arguments<'_>) -> Outcome {
    text(arguments.text(0)?.chars().rev().collect::<String>())
}

pub(crate) fn ascii(arguments: &Arguments<'_>) -> Outcome {
    Ok(Value::Int(arguments.text(0)?.chars().next().map_or(0, |symbol| i64::from(u32::from(symbol)))))
}

/// `substring(text, start [, length])`: what lies before the first character counts for the length.
pub(crate) fn substring(arguments: &Arguments<'_>) -> Outcome {
    let (value, start) = (arguments.text(0)?, arguments.int(1)?);
    let end = match arguments.length() {
        2 => i64::MAX,
        _ => match arguments.int(2)? {
            negative if negative < 0 => {
                return Err(EvalError::Failed("negative substring length not allowed"));
            }
            length => start + length,
        },
    };
    let skipped = usize::try_from(start - 1).unwrap_or(0);
    let taken = end.saturating_sub(start.max(1)).max(0);
    let taken = usize::try_from(taken).unwrap_or(usize::MAX);
    text(value.chars().skip(skipped).take(taken).collect::<String>())
}

/// A negative count leaves out so many at the other end.
pub(crate) fn left(arguments: &Arguments<'_>) -> Outcome {
    let value = arguments.text(0)?;
    text(value.chars().take(kept(value, arguments.int(1)?)).collect::<String>())
}

pub(crate) fn right(arguments: &Arguments<'_>) -> Outcome {
    let value = arguments.text(0)?;
    let skipped = value.chars().count().saturating_sub(kept(value, arguments.int(1)?));
    text(value.chars().skip(skipped).collect::<String>())
}

fn kept(value: &str, wanted: i64) -> usize {
    match usize::try_from(wanted) {
        Ok(wanted) => wanted,
        Err(_) => {
            let left_out = usize::try_from(wanted.unsigned_abs()).unwrap_or(usize::MAX);
            value.chars().count().saturating_sub(left_out)
        }
    }
}

pub(crate) fn btrim(arguments: &Arguments<'_>) -> Outcome {
    let set = trim_set(arguments)?;
    text(arguments.text(0)?.trim_matches(|symbol| set.contains(symbol)))
}

pub(crate) fn ltrim(arguments: &Arguments<'_>) -> Outcome {
    let set = trim_set(arguments)?;
    text(arguments.text(0)?.trim_start_matches(|symbol| set.contains(symbol)))
}

pub(crate) fn rtrim(arguments: &Arguments<'_>) -> Outcome {
    let set = trim_set(arguments)?;
    text(arguments.text(0)?.trim_end_matches(|symbol| set.contains(symbol)))
}

fn trim_set<'c>(arguments: &'c Arguments<'_>) -> Result<&'c str, EvalError> {
    if arguments.length() == 1 { Ok(" ") } else { arguments.text(1) }
}

pub(crate) fn replace(arguments: &Arguments<'_>) -> Outcome {
    let (value, from, to) = (arguments.text(0)?, arguments.text(1)?, arguments.text(2)?);
    if from.is_empty() {
        return text(value);
    }
    let found = value.matches(from).count();
    let grown = to.len().saturating_sub(from.len()).saturating_mul(found);
    if value.len().saturating_add(grown) > MAX_BYTES {
        return Err(TOO_LARGE);
    }
    text(value.replace(from, to))
}

/// `position(sub in text)` and `strpos(text, sub)`: from 1, 0 where there is none.
pub(crate) fn position(arguments: &Arguments<'_>) -> Outcome {
    let (value, wanted) = (arguments.text(0)?, arguments.text(1)?);
    match value.find(wanted) {
        Some(at) => count(value.get(..at).unwrap_or_default().chars().count() + 1),
        None => count(0),
    }
}

pub(crate) fn starts_with(arguments: &Arguments<'_>) -> Outcome {
    Ok(Value::Bool(arguments.text(0)?.starts_with(arguments.text(1)?)))
}

pub(crate) fn split_part(arguments: &Arguments<'_>) -> Outcome {
    let (value, separator, field) = (arguments.text(0)?, arguments.text(1)?, arguments.int(2)?);
    if field == 0 {
        return Err(EvalError::Failed("field position must not be zero"));
    }
    let fields: Vec<&str> = if separator.is_empty() { vec![value] } else { value.split(separator).collect() };
    let length = i64::try_from(fields.len()).map_err(|_| TOO_LARGE)?;
    let at = if field > 0 { field - 1 } else { length + field };
    text(usize::try_from(at).ok().and_then(|at| fields.get(at).copied()).unwrap_or_default())
}

pub(crate) fn repeat(arguments: &Arguments<'_>) -> Outcome {
    let (value, times) = (arguments.text(0)?, usize::try_from(arguments.int(1)?).unwrap_or(0));
    if value.len().saturating_mul(times) > MAX_BYTES {
        return Err(TOO_LARGE);
    }
    text(value.repeat(times))
}

pub(crate) fn lpad(arguments: &Arguments<'_>) -> Outcome {
    let (value, padding) = padded(arguments)?;
    text(padding + value.as_str())
}

pub(crate) fn rpad(arguments: &Arguments<'_>) -> Outcome {
    let (value, padding) = padded(arguments)?;
    text(value + padding.as_str())
}

/// The text, cut to the length, and what fills it up.
fn padded(arguments: &Arguments<'_>) -> Result<(String, String), EvalError> {
    let wanted = usize::try_from(arguments.int(1)?).unwrap_or(0);
    if wanted > MAX_BYTES / 4 {
        return Err(TOO_LARGE);
    }
    let fill = if arguments.length() == 2 { " " } else { arguments.text(2)? };
    let value: String = arguments.text(0)?.chars().take(wanted).collect();
    let missing = wanted - value.chars().count();
    Ok((value, if fill.is_empty() { String::new() } else { fill.chars().cycle().take(missing).collect() }))
}

/// `concat(…)`: NULLs are left out, every value in its output form.
pub(crate) fn concat(arguments: &Arguments<'_>) -> Outcome {
    joined(arguments, 0, b"")
}

/// `concat_ws(separator, …)`
pub(crate) fn concat_ws(arguments: &Arguments<'_>) -> Outcome {
    match arguments.value(0)? {
        Value::Null => Ok(Value::Null),
        _ => joined(arguments, 1, arguments.text(0)?.as_bytes()),
    }
}

fn joined(arguments: &Arguments<'_>, from: usize, separator: &[u8]) -> Outcome {
    let mut all = Vec::new();
    let mut first = true;
    for (value, ty) in arguments.all().skip(from).filter(|(value, _)| **value != Value::Null) {
        if !std::mem::take(&mut first) {
            all.extend_from_slice(separator);
        }
        all.extend_from_slice(&value.borrowed().output(ty));
    }
    Ok(Value::Text(all.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn call(function: fn(&Arguments<'_>) -> Outcome, values: &[Value<'static>]) -> Value<'static> {
        let types = vec![crate::filter::data_type::ty::Type::Text; values.len()];
        let types: Vec<_> = types.iter().collect();
        let arguments = Arguments { values, types: &types, collation: Collation::CodePoint };
        function(&arguments).expect("a result")
    }

    fn t(value: &str) -> Value<'static> {
        Value::from_text(value.to_owned())
    }

    const fn n(value: i64) -> Value<'static> {
        Value::Int(value)
    }

    // The expected values are those of Postgres 15.
    #[test]
    fn edges_are_those_of_postgres() {
        assert_eq!(call(substring, &[t("hello"), n(-1), n(4)]), t("he"));
        assert_eq!(call(substring, &[t("hello"), n(2)]), t("ello"));
        assert_eq!(call(left, &[t("häl"), n(-1)]), t("hä"));
        assert_eq!(call(right, &[t("hello"), n(-2)]), t("llo"));
        assert_eq!(call(right, &[t("hello"), n(2)]), t("lo"));
        assert_eq!(call(split_part, &[t("a,b,c"), t(","), n(-1)]), t("c"));
        assert_eq!(call(split_part, &[t("a,b"), t(""), n(1)]), t("a,b"));
        assert_eq!(call(lpad, &[t("hi"), n(5), t("xy")]), t("xyxhi"));
        assert_eq!(call(rpad, &[t("hello"), n(2)]), t("he"));
        assert_eq!(call(position, &[t("äbc"), t("b")]), n(2));
        assert_eq!(call(concat_ws, &[t(","), t("a"), Value::Null, t("b")]), t("a,b"));
        assert_eq!(call(btrim, &[t("xxaxx"), t("x")]), t("a"));
    }

    #[test]
    fn case_is_mapped_character_by_character() {
        assert_eq!(call(upper, &[t("àß\u{1f80}")]), t("Àß\u{1f88}"));
        assert_eq!(call(lower, &[t("ÀÉ\u{130}")]), t("àéi"));
        assert_eq!(lower_char('À', Collation::C), 'À');
    }

    #[test]
    fn no_row_asks_for_much_memory() {
        let types = [&crate::filter::data_type::ty::Type::Text; 2];
        let values = [t("abc"), n(i64::from(i32::MAX))];
        let arguments = Arguments { values: &values, types: &types, collation: Collation::C };
        assert_eq!(repeat(&arguments), Err(TOO_LARGE));
        assert_eq!(lpad(&arguments), Err(TOO_LARGE));
    }
}
