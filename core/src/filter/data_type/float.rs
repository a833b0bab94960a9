//! `float4` and `float8`: Postgres's input words, its shortest output form, and arithmetic that fails where
//! Postgres's fails.

use crate::filter::error::EvalError;

const RANGE: EvalError = EvalError::OutOfRange { ty: "float8" };

pub(crate) fn parse_f64(text: &str) -> Option<f64> {
    if let Some(special) = special(text) {
        return Some(special);
    }
    let value: f64 = plain(text)?.parse().ok()?;
    in_range(text, value.is_infinite(), value == 0.0).then_some(value)
}

pub(crate) fn parse_f32(text: &str) -> Option<f32> {
    if let Some(special) = special(text) {
        #[allow(clippy::cast_possible_truncation, reason = "infinities and NaN convert exactly")]
        return Some(special as f32);
    }
    let value: f32 = plain(text)?.parse().ok()?;
    in_range(text, value.is_infinite(), value == 0.0).then_some(value)
}

/// `float8` to `float4`; what becomes infinite or zero is out of range.
pub(crate) fn narrowed(value: f64) -> Result<f32, EvalError> {
    #[allow(clippy::cast_possible_truncation, reason = "rounding is the meaning of the cast")]
    let narrow = value as f32;
    let lost = (narrow.is_infinite() && value.is_finite()) || (narrow == 0.0 && value != 0.0);
    if lost { Err(EvalError::OutOfRange { ty: "float4" }) } else { Ok(narrow) }
}

/// Rounded half to even, as a cast to an integer does.
pub(crate) fn to_i64(value: f64) -> Option<i64> {
    let rounded = value.round_ties_even();
    // -2^63 is a float8, 2^63 - 1 is not.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded);
    #[allow(clippy::cast_possible_truncation, reason = "the range was just checked")]
    fits.then_some(rounded as i64)
}

/// The result of an operation on finite operands that is infinite, or zero by underflow, is out of range.
pub(crate) fn checked(result: f64, finite: bool, may_be_zero: bool) -> Result<f64, EvalError> {
    if (result.is_infinite() && finite) || (result == 0.0 && !may_be_zero) { Err(RANGE) } else { Ok(result) }
}

pub(crate) fn format_f64(value: f64) -> String {
    format(&format!("{value:e}"), value, 15)
}

/// A `float4` that is kept as `float8`.
pub(crate) fn format_f32(value: f64) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "the value came from a float4")]
    let narrow = value as f32;
    format(&format!("{narrow:e}"), value, 6)
}

/// Shortest digits, without an exponent where it is at least -4 and below `limit`.
fn format(scientific: &str, value: f64, limit: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..limit).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits = mantissa.replace('.', "");
    let point = exponent + 1;
    let Ok(whole) = usize::try_from(point) else {
        let zeros = usize::try_from(-point).unwrap_or(0);
        return format!("{sign}0.{}{digits}", "0".repeat(zeros));
    };
    if whole == 0 {
        return format!("{sign}0.{digits}");
    }
    if whole >= digits.len() {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    let (integral, fraction) = digits.split_at(whole);
    format!("{sign}{integral}.{fraction}")
}

fn special(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "nan" => Some(f64::NAN),
        "infinity" | "+infinity" | "inf" | "+inf" => Some(f64::INFINITY),
        "-infinity" | "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Only decimal notation: Rust reads words that Postgres does not.
fn plain(text: &str) -> Option<&str> {
    text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)).then_some(text)
}

/// A text with a non-zero digit that reads as zero or as infinity is out of range.
fn in_range(text: &str, infinite: bool, zero: bool) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let written_zero = !mantissa.bytes().any(|b| matches!(b, b'1'..=b'9'));
    !infinite && (!zero || written_zero)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    // The expected texts are those of Postgres 15 with `extra_float_digits = 1`.
    #[test]
    fn shortest_output() {
        for (value, text) in [
            (4.0, "4"),
            (-2.5, "-2.5"),
            (0.1, "0.1"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.0, "0"),
            (-0.0, "-0"),
            (123_456.789, "123456.789"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(format_f64(value), text);
        }
        assert_eq!(format_f32(f64::from(0.1_f32)), "0.1");
        assert_eq!(format_f32(1e6), "1e+06");
        assert_eq!(format_f32(123_456.0), "123456");
    }

    #[test]
    fn input_words_and_limits() {
        assert_eq!(parse_f64("1e5"), Some(1e5));
        assert_eq!(parse_f64("-inf"), Some(f64::NEG_INFINITY));
        for bad in ["1e400", "1e-400", "infin", "0x10", "", "1 2", "e5"] {
            assert_eq!(parse_f64(bad), None, "{bad}");
        }
        assert_eq!(parse_f64("0e-400"), Some(0.0));
        assert!(narrowed(1e300).is_err());
        assert_eq!(to_i64(2.5), Some(2));
        assert_eq!(to_i64(9.3e18), None);
    }
}
