//! `numeric`: exact decimals with Postgres's display scales, rounding and special values.

use num_bigint::{BigInt, BigUint, Sign};
use std::cmp::Ordering;
use std::fmt;

use crate::filter::error::EvalError;

/// Exponents beyond this are refused: a few bytes would become a number of many digits.
const MAX_EXPONENT: i32 = 1_000;
/// Operands of more bits are not multiplied or divided, since both take quadratic time.
const MAX_OPERAND_BITS: u64 = 16_384;
/// `NUMERIC_MIN_SIG_DIGITS`: significant digits a quotient has at least.
const QUOTIENT_DIGITS: i64 = 16;
/// `NUMERIC_MAX_DISPLAY_SCALE`
const MAX_QUOTIENT_SCALE: i64 = 1_000;
/// `NUMERIC_DSCALE_MAX`
const MAX_SCALE: u32 = 16_383;

const RANGE: EvalError = EvalError::OutOfRange { ty: "numeric" };

/// A value of type `numeric`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Numeric {
    NegativeInfinity,
    /// `coefficient / 10^scale`, of which `scale` digits are shown.
    Finite {
        coefficient: BigInt,
        scale: u32,
    },
    Infinity,
    /// Equal to itself and greater than everything else.
    NaN,
}

impl Numeric {
    /// Reads Postgres's input form without blanks around it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, text.get(1..)?),
            b'+' => (false, text.get(1..)?),
            _ => (false, text),
        };
        if digits.eq_ignore_ascii_case("nan") && digits.len() == text.len() {
            return Some(Self::NaN);
        }
        if digits.eq_ignore_ascii_case("infinity") || digits.eq_ignore_ascii_case("inf") {
            return Some(if negative { Self::NegativeInfinity } else { Self::Infinity });
        }
        let (mantissa, exponent) = match digits.find(['e', 'E']) {
            Some(at) => (digits.get(..at)?, exponent(digits.get(at + 1..)?)?),
            None => (digits, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let joined = [whole, fraction].concat();
        if joined.is_empty() || !joined.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let scale = i32::try_from(fraction.len()).ok()? - exponent;
        let mut magnitude = BigUint::parse_bytes(joined.as_bytes(), 10)?;
        if scale < 0 {
            magnitude *= power(scale.unsigned_abs());
        }
        let scale = u32::try_from(scale.max(0)).ok().filter(|s| *s <= MAX_SCALE)?;
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        Some(Self::Finite { coefficient: BigInt::from_biguint(sign, magnitude), scale })
    }

    /// `coefficient / 10^scale`
    pub(crate) fn scaled(coefficient: impl Into<BigInt>, scale: u32) -> Self {
        Self::Finite { coefficient: coefficient.into(), scale }
    }

    /// The nearest `float8`.
    pub(crate) fn to_f64(&self) -> f64 {
        match self {
            Self::NegativeInfinity => f64::NEG_INFINITY,
            Self::Infinity => f64::INFINITY,
            Self::NaN => f64::NAN,
            Self::Finite { .. } => self.to_string().parse().unwrap_or(f64::NAN),
        }
    }

    /// Rounded half away from zero.
    pub(crate) fn to_i64(&self) -> Option<i64> {
        match self.rounded(0) {
            Self::Finite { coefficient, .. } => i64::try_from(&coefficient).ok(),
            _ => None,
        }
    }

    /// With exactly `scale` digits after the point, rounded half away from zero.
    pub(crate) fn rounded(&self, scale: u32) -> Self {
        let Self::Finite { coefficient, scale: from } = self else { return self.clone() };
        let coefficient = if scale >= *from {
            coefficient * BigInt::from(power(scale - from))
        } else {
            divide_rounding(coefficient, &BigInt::from(power(from - scale)))
        };
        Self::Finite { coefficient, scale }
    }

    /// `round(x, places)`; negative places round before the point.
    pub(crate) fn round(&self, places: i64) -> Self {
        self.at_places(places, |number, scale| number.rounded(scale))
    }

    /// `trunc(x, places)`
    pub(crate) fn truncate(&self, places: i64) -> Self {
        self.at_places(places, Self::truncated)
    }

    fn at_places(&self, places: i64, shorten: impl Fn(&Self, u32) -> Self) -> Self {
        let Self::Finite { coefficient, scale } = self else { return self.clone() };
        // More places than Postgres keeps change nothing.
        let places = places.clamp(-i64::from(MAX_SCALE), MAX_QUOTIENT_SCALE * 2);
        match u32::try_from(places) {
            Ok(places) => shorten(self, places),
            // Shift the point to where the rounding is, and back.
            Err(_) => {
                let shift = u32::try_from(-places).unwrap_or(0);
                let shifted = Self::Finite { coefficient: coefficient.clone(), scale: scale + shift };
                match shorten(&shifted, 0) {
                    Self::Finite { coefficient, .. } => {
                        Self::Finite { coefficient: coefficient * BigInt::from(power(shift)), scale: 0 }
                    }
                    special => special,
                }
            }
        }
    }

    /// With exactly `scale` digits after the point, the rest cut off.
    fn truncated(&self, scale: u32) -> Self {
        match self {
            Self::Finite { coefficient, scale: from } if scale < *from => {
                Self::Finite { coefficient: coefficient / BigInt::from(power(from - scale)), scale }
            }
            number => number.rounded(scale),
        }
    }

    /// `numeric(precision, scale)`
    pub(crate) fn fitted(&self, precision: u32, scale: u32) -> Result<Self, EvalError> {
        let rounded = self.rounded(scale);
        match &rounded {
            Self::Finite { coefficient, .. } if *coefficient.magnitude() >= power(precision) => Err(RANGE),
            Self::NegativeInfinity | Self::Infinity => Err(RANGE),
            _ => Ok(rounded),
        }
    }

    pub(crate) fn negated(&self) -> Self {
        match self {
            Self::NegativeInfinity => Self::Infinity,
            Self::Infinity => Self::NegativeInfinity,
            Self::NaN => Self::NaN,
            Self::Finite { coefficient, scale } => Self::Finite { coefficient: -coefficient, scale: *scale },
        }
    }

    pub(crate) fn add(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Finite { scale: a, .. }, Self::Finite { scale: b, .. }) => {
                let scale = (*a).max(*b);
                match (self.rounded(scale), other.rounded(scale)) {
                    (Self::Finite { coefficient: x, .. }, Self::Finite { coefficient: y, .. }) => {
                        Self::Finite { coefficient: x + y, scale }
                    }
                    _ => Self::NaN,
                }
            }
            (Self::NaN, _) | (_, Self::NaN) => Self::NaN,
            (Self::Infinity, Self::NegativeInfinity) | (Self::NegativeInfinity, Self::Infinity) => Self::NaN,
            (Self::Finite { .. }, special) | (special, _) => special.clone(),
        }
    }

    pub(crate) fn subtract(&self, other: &Self) -> Self {
        self.add(&other.negated())
    }

    pub(crate) fn multiply(&self, other: &Self) -> Result<Self, EvalError> {
        match (self, other) {
            (Self::Finite { coefficient: x, scale: a }, Self::Finite { coefficient: y, scale: b }) => {
                short(x)?;
                short(y)?;
                let product = Self::Finite { coefficient: x * y, scale: a + b };
                Ok(if a + b > MAX_SCALE { product.rounded(MAX_SCALE) } else { product })
            }
            (Self::NaN, _) | (_, Self::NaN) => Ok(Self::NaN),
            _ => Ok(match self.signum() * other.signum() {
                0 => Self::NaN,
                1 => Self::Infinity,
                _ => Self::NegativeInfinity,
            }),
        }
    }

    /// `/`, with as many digits as Postgres shows (`select_div_scale`).
    pub(crate) fn divide(&self, other: &Self) -> Result<Self, EvalError> {
        match (self, other) {
            (Self::NaN, _) | (_, Self::NaN) => Ok(Self::NaN),
            _ if other.signum() == 0 => Err(EvalError::DivisionByZero),
            (Self::Finite { coefficient: x, scale: a }, Self::Finite { coefficient: y, scale: b }) => {
                short(x)?;
                short(y)?;
                let scale = quotient_scale((x, *a), (y, *b));
                let dividend = x * BigInt::from(power((scale + b).saturating_sub(*a)));
                Ok(Self::Finite { coefficient: divide_rounding(&dividend, y), scale })
            }
            (Self::Finite { .. }, _) => Ok(Self::Finite { coefficient: BigInt::ZERO, scale: 0 }),
            (_, Self::Finite { .. }) => {
                Ok(if self.signum() == other.signum() { Self::Infinity } else { Self::NegativeInfinity })
            }
            _ => Ok(Self::NaN),
        }
    }

    /// `%`: the remainder has the dividend's sign.
    pub(crate) fn remainder(&self, other: &Self) -> Result<Self, EvalError> {
        match (self, other) {
            (Self::NaN, _) | (_, Self::NaN) => Ok(Self::NaN),
            _ if other.signum() == 0 => Err(EvalError::DivisionByZero),
            (Self::Finite { scale: a, .. }, Self::Finite { scale: b, .. }) => {
                let scale = (*a).max(*b);
                match (self.rounded(scale), other.rounded(scale)) {
                    (Self::Finite { coefficient: x, .. }, Self::Finite { coefficient: y, .. }) => {
                        short(&x)?;
                        short(&y)?;
                        Ok(Self::Finite { coefficient: x % y, scale })
                    }
                    _ => Ok(Self::NaN),
                }
            }
            (Self::Finite { .. }, _) => Ok(self.clone()),
            _ => Ok(Self::NaN),
        }
    }

    /// -1, 0 or 1; NaN counts as 1.
    pub(crate) fn signum(&self) -> i32 {
        match self {
            Self::NegativeInfinity => -1,
            Self::Infinity | Self::NaN => 1,
            Self::Finite { coefficient, .. } => match coefficient.sign() {
                Sign::Minus => -1,
                Sign::NoSign => 0,
                Sign::Plus => 1,
            },
        }
    }

    /// Postgres's total order: NaN above everything.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let rank = |number: &Self| match number {
            Self::NegativeInfinity => 0,
            Self::Finite { .. } => 1,
            Self::Infinity => 2,
            Self::NaN => 3,
        };
        let (Self::Finite { coefficient: x, scale: a }, Self::Finite { coefficient: y, scale: b }) =
            (self, other)
        else {
            return rank(self).cmp(&rank(other));
        };
        match a.cmp(b) {
            Ordering::Equal => x.cmp(y),
            Ordering::Less => (x * BigInt::from(power(b - a))).cmp(y),
            Ordering::Greater => x.cmp(&(y * BigInt::from(power(a - b)))),
        }
    }
}

impl From<i64> for Numeric {
    fn from(value: i64) -> Self {
        Self::Finite { coefficient: BigInt::from(value), scale: 0 }
    }
}

/// Postgres's output form.
impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (coefficient, scale) = match self {
            Self::NegativeInfinity => return f.write_str("-Infinity"),
            Self::Infinity => return f.write_str("Infinity"),
            Self::NaN => return f.write_str("NaN"),
            Self::Finite { coefficient, scale } => (coefficient, usize::try_from(*scale).unwrap_or(0)),
        };
        if coefficient.sign() == Sign::Minus {
            f.write_str("-")?;
        }
        let digits = format!("{:0>width$}", coefficient.magnitude().to_string(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        f.write_str(whole)?;
        if scale > 0 { write!(f, ".{fraction}") } else { Ok(()) }
    }
}

fn exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|e: &i32| e.abs() <= MAX_EXPONENT)
}

fn power(exponent: u32) -> BigUint {
    BigUint::from(10_u8).pow(exponent)
}

fn short(operand: &BigInt) -> Result<(), EvalError> {
    if operand.bits() > MAX_OPERAND_BITS { Err(EvalError::NumericTooLong) } else { Ok(()) }
}

/// Half away from zero.
fn divide_rounding(dividend: &BigInt, divisor: &BigInt) -> BigInt {
    let negative = (dividend.sign() == Sign::Minus) != (divisor.sign() == Sign::Minus);
    let (x, y) = (dividend.magnitude(), divisor.magnitude());
    let quotient = x / y;
    let remainder = x - &quotient * y;
    let rounded = if remainder * 2_u8 >= *y { quotient + 1_u8 } else { quotient };
    BigInt::from_biguint(if negative { Sign::Minus } else { Sign::Plus }, rounded)
}

/// The quotient's estimated weight, in Postgres's groups of four digits, decides how many digits it shows.
fn quotient_scale(dividend: (&BigInt, u32), divisor: (&BigInt, u32)) -> u32 {
    let (weight_a, first_a) = leading_group(dividend.0, dividend.1);
    let (weight_b, first_b) = leading_group(divisor.0, divisor.1);
    let weight = weight_a - weight_b - i64::from(first_a <= first_b);
    let scale = (QUOTIENT_DIGITS - weight * 4).max(i64::from(dividend.1)).max(i64::from(divisor.1));
    u32::try_from(scale.clamp(0, MAX_QUOTIENT_SCALE)).unwrap_or(0)
}

/// The position and the value of the first non-zero group of four digits, groups being aligned at the point.
fn leading_group(coefficient: &BigInt, scale: u32) -> (i64, u32) {
    if coefficient.sign() == Sign::NoSign {
        return (0, 0);
    }
    let digits = coefficient.magnitude().to_string();
    let exponent = i64::try_from(digits.len()).unwrap_or(i64::MAX) - 1 - i64::from(scale);
    let weight = exponent.div_euclid(4);
    let length = usize::try_from(exponent.rem_euclid(4) + 1).unwrap_or(1);
    let group: String = digits.chars().chain(std::iter::repeat('0')).take(length).collect();
    (weight, group.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn n(text: &str) -> Numeric {
        Numeric::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn text_round_trips() {
        for (text, shown) in [
            ("1.50", "1.50"),
            ("-0.1", "-0.1"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1e5", "100000"),
            ("1.5e-3", "0.0015"),
            ("-0", "0"),
            ("nan", "NaN"),
            ("-inf", "-Infinity"),
        ] {
            assert_eq!(n(text).to_string(), shown);
        }
        for bad in ["", "-", ".", "1e", "1e9999999", "1 2", "0x1", "1_0", "-nan"] {
            assert_eq!(Numeric::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn order_is_total() {
        let sorted = ["-inf", "-2", "-1.5", "0", "0.10", "1e2", "inf", "nan"].map(n);
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(a.compare(b), i.cmp(&j));
            }
        }
        assert_eq!(n("1.50").compare(&n("1.5")), Ordering::Equal);
    }

    // The expected texts are those of Postgres 15.
    #[test]
    fn quotients_show_postgres_digits() {
        for (a, b, shown) in [
            ("1", "3", "0.33333333333333333333"),
            ("2", "3", "0.66666666666666666667"),
            ("1.5", "2", "0.75000000000000000000"),
            ("10000", "3", "3333.3333333333333333"),
            ("1", "30000", "0.000033333333333333333333"),
            ("-7", "2.00", "-3.5000000000000000"),
        ] {
            assert_eq!(n(a).divide(&n(b)).expect("divides").to_string(), shown, "{a} / {b}");
        }
        assert_eq!(n("1").divide(&n("0")), Err(EvalError::DivisionByZero));
        assert_eq!(n("-7.5").remainder(&n("2")).expect("divides").to_string(), "-1.5");
    }

    #[test]
    fn rounds_half_away_from_zero() {
        assert_eq!(n("2.5").to_i64(), Some(3));
        assert_eq!(n("-2.5").to_i64(), Some(-3));
        assert_eq!(n("1.005").rounded(2).to_string(), "1.01");
        assert_eq!(n("999.99").fitted(4, 1), Err(RANGE));
        assert_eq!(n("9223372036854775807.5").to_i64(), None);
    }

    #[test]
    fn specials_follow_ieee() {
        let (inf, zero) = (n("inf"), n("0"));
        assert_eq!(inf.subtract(&inf), Numeric::NaN);
        assert_eq!(inf.multiply(&zero), Ok(Numeric::NaN));
        assert_eq!(inf.multiply(&n("-2")), Ok(Numeric::NegativeInfinity));
        assert_eq!(n("5").divide(&inf).expect("divides").to_string(), "0");
    }
}
