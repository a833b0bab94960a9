//! Positions in a shape log, as clients see them.

use std::fmt;
use std::str::FromStr;

/// A position in a shape log: `-1`, `<tx>_<op>` or `<tx>_inf` on the wire (protocol §3.1).
///
/// `tx` is 0 for the snapshot (`0_n` ends its chunk `n`, `0_inf` ends all of it) and the commit LSN
/// afterwards. The derived order is the protocol's: `-1 < 0_0 < 0_1 < 0_inf < 1_0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offset {
    /// Before everything (`-1`).
    Start,
    /// After item `op` of `tx`.
    At {
        /// Commit LSN, or 0 inside the snapshot.
        tx: u64,
        /// Position inside the transaction.
        op: Op,
    },
}

/// The second half of an [`Offset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// After the item with this number.
    Number(u64),
    /// After every item of the transaction.
    Infinity,
}

/// The text is no offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid offset `{0}`: expected `-1`, `<tx>_<op>` or `<tx>_inf`")]
pub struct ParseOffsetError(String);

impl Offset {
    /// The end of whatever snapshot there is, before the first change (`0_inf`).
    pub const SNAPSHOT_END: Self = Self::At { tx: 0, op: Op::Infinity };

    /// The position after change `op` of the transaction that committed at `tx`.
    #[must_use]
    pub const fn new(tx: u64, op: u64) -> Self {
        Self::At { tx, op: Op::Number(op) }
    }

    /// The end of snapshot chunk `index` (`0_index`).
    #[must_use]
    pub const fn snapshot_chunk(index: u64) -> Self {
        Self::new(0, index)
    }

    /// The commit LSN, or 0 for positions before the first change.
    #[must_use]
    pub const fn tx(self) -> u64 {
        match self {
            Self::Start => 0,
            Self::At { tx, .. } => tx,
        }
    }

    /// True for `-1` and for every `0_…`: positions that name a part of the snapshot.
    #[must_use]
    pub const fn is_virtual(self) -> bool {
        self.tx() == 0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("-1"),
            Self::At { tx, op: Op::Number(op) } => write!(f, "{tx}_{op}"),
            Self::At { tx, op: Op::Infinity } => write!(f, "{tx}_inf"),
        }
    }
}

impl FromStr for Offset {
    type Err = ParseOffsetError;

    /// Accepts what Electric accepts: leading zeros, and `-1_0` for `-1`; no sign, no blank.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            if text == "-1" || text == "-1_0" {
                return Some(Self::Start);
            }
            let (tx, op) = text.split_once('_')?;
            let op = if op == "inf" { Op::Infinity } else { Op::Number(digits(op)?) };
            Some(Self::At { tx: digits(tx)?, op })
        };
        parse().ok_or_else(|| ParseOffsetError(text.to_owned()))
    }
}

fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn order_is_the_protocols() {
        let ordered = ["-1", "0_0", "0_1", "0_inf", "1_0", "1_2", "1_inf", "2_0"];
        let parsed: Vec<Offset> = ordered.iter().map(|text| text.parse().unwrap()).collect();
        assert!(parsed.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn text_round_trips() {
        for text in ["-1", "0_0", "0_inf", "29360128_4", "18446744073709551615_inf"] {
            assert_eq!(text.parse::<Offset>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn leading_zeros_are_accepted_and_dropped() {
        assert_eq!("0_02".parse(), Ok(Offset::new(0, 2)));
        assert_eq!("-1_0".parse(), Ok(Offset::Start));
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in ["", "10", "1_2_3", "1_2 ", " 1_2", "0_-1", "1_1.5", "-2", "0_INF", "_", "1_", "now"] {
            assert!(text.parse::<Offset>().is_err(), "{text}");
        }
    }
}
