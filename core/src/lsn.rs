//! Log sequence numbers: positions in Postgres's write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A byte position in the write-ahead log (the Postgres documentation, *pg_lsn Type*).
///
/// Postgres prints it as `16/B374D848`; the wire protocol prints it as one decimal number
/// ([`Lsn::as_u64`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

/// The text was not of the form `X/Y` with two hexadecimal numbers of at most 32 bits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid LSN `{0}`: expected two hexadecimal numbers such as `16/B374D848`")]
pub struct ParseLsnError(String);

impl Lsn {
    /// The position before everything: Postgres never writes a record here.
    pub const ZERO: Self = Self(0);

    /// A position from its 64-bit form, as pgoutput sends it.
    #[must_use]
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    /// The 64-bit form.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (high, low) = text.split_once('/')?;
            Some((half(high)? << 32) | half(low)?)
        };
        parse().map(Self).ok_or_else(|| ParseLsnError(text.to_owned()))
    }
}

/// A bound as it is stored: a position, or `u64::MAX` where there is none. For `#[serde(with)]`.
pub(crate) mod stored_bound {
    use super::Lsn;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bound: &Option<Lsn>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(bound.map_or(u64::MAX, Lsn::as_u64))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Lsn>, D::Error> {
        let position = u64::deserialize(deserializer)?;
        Ok((position != u64::MAX).then_some(Lsn::new(position)))
    }
}

fn half(text: &str) -> Option<u64> {
    let plain = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn prints_as_postgres_does() {
        assert_eq!(Lsn::new(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!(Lsn::ZERO.to_string(), "0/0");
    }

    #[test]
    fn text_round_trips() {
        for position in [0, 1, 0xFFFF_FFFF, 0x1_0000_0000, u64::MAX] {
            assert_eq!(Lsn::new(position).to_string().parse(), Ok(Lsn::new(position)));
        }
    }

    #[test]
    fn refuses_what_is_not_two_numbers() {
        for text in ["", "/", "1", "1/", "/1", "g/1", "1/2/3", "+1/2", "123456789/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }
}
