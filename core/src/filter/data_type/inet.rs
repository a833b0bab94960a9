//! `inet` and `cidr`: an address and the length of its network's prefix.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::cmp::Ordering;
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inet {
    v6: bool,
    prefix: u8,
    /// The address in its upper bits.
    bits: u128,
}

impl Inet {
    /// `a.b.c.d`, or an IPv6 address, perhaps with `/n`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let (v6, bits) = match address.parse::<Ipv4Addr>() {
            Ok(v4) => (false, u128::from(u32::from(v4)) << 96),
            Err(_) => (true, u128::from(address.parse::<Ipv6Addr>().ok()?)),
        };
        let width = if v6 { 128 } else { 32 };
        let prefix = match prefix {
            None => width,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
        };
        (prefix <= width).then_some(Self { v6, prefix, bits })
    }

    /// Whether no bit is set behind the prefix, which a `cidr` demands.
    pub(crate) fn is_network(&self) -> bool {
        masked(self.bits, self.prefix) == self.bits
    }

    /// With the length of the prefix even where it is the whole address.
    pub(crate) fn with_bits(self) -> String {
        format!("{}/{}", self.address(), self.prefix)
    }

    fn address(self) -> String {
        if !self.v6 {
            return Ipv4Addr::from((self.bits >> 96) as u32).to_string();
        }
        // Postgres shows what lies in the last 32 bits alone as an IPv4 address.
        match u32::try_from(self.bits) {
            Ok(low) if low > 0xffff => format!("::{}", Ipv4Addr::from(low)),
            _ => Ipv6Addr::from(self.bits).to_string(),
        }
    }

    /// IPv4 first, then by the common prefix, the shorter prefix, the whole address.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let common = self.prefix.min(other.prefix);
        (self.v6.cmp(&other.v6))
            .then_with(|| masked(self.bits, common).cmp(&masked(other.bits, common)))
            .then_with(|| self.prefix.cmp(&other.prefix))
            .then_with(|| self.bits.cmp(&other.bits))
    }
}

impl fmt::Display for Inet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address())?;
        let whole = if self.v6 { 128 } else { 32 };
        if self.prefix == whole { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

fn masked(bits: u128, prefix: u8) -> u128 {
    bits & !u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn inet(text: &str) -> Inet {
        Inet::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    // The expected texts are those of Postgres 15.
    #[test]
    fn text_round_trips() {
        for (text, shown) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("10.0.0.1/8", "10.0.0.1/8"),
            ("::1", "::1"),
            ("2001:DB8:0:0:1::/64", "2001:db8:0:0:1::/64"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("::1.2.3.4", "::1.2.3.4"),
        ] {
            assert_eq!(inet(text).to_string(), shown);
        }
        assert_eq!(inet("10.0.0.1").with_bits(), "10.0.0.1/32");
        for bad in ["10.0.0", "10.0.0.1/33", "::1/129", "10.0.0.1/", "x"] {
            assert_eq!(Inet::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn networks_before_their_addresses() {
        let sorted =
            ["0.0.0.0", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/24", "10.0.0.1", "11.0.0.0/8", "::/0", "::1"];
        for pair in sorted.windows(2) {
            assert_eq!(inet(pair[0]).compare(&inet(pair[1])), Ordering::Less, "{pair:?}");
        }
        assert!(inet("10.0.0.0/8").is_network() && !inet("10.0.0.1/8").is_network());
    }
}
