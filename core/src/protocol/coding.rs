//! Content codings, and which one a client is sent (RFC 9110 §12.5.3).

/// A form in which a body is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 8878
    Zstd,
    /// RFC 7932
    Brotli,
    /// RFC 1952
    Gzip,
}

/// The weight of a coding that a client accepts without saying more.
const FULL: u32 = 1_000;

impl Coding {
    /// All of them, the best one first: fast to unpack, then small.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// The name in `content-encoding`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The coding that a client prefers by its `accept-encoding`, of those with the greatest weight the best one; `None`
    /// where it is the body as it is, or where nothing that can be sent is accepted.
    #[must_use]
    pub fn preferred(accept_encoding: &str) -> Option<Self> {
        let weight = |name: &str| weight_of(accept_encoding, name);
        let any = weight("*");
        // Whoever does not speak of the body as it is accepts it, but prefers what is named.
        let plain = weight("identity").unwrap_or(0);
        let weighed = Self::ALL.into_iter().filter_map(|coding| {
            let named = weight(coding.as_str());
            let alias = (coding == Self::Gzip).then(|| weight("x-gzip")).flatten();
            Some((coding, named.or(alias).or(any)?))
        });
        let best = weighed.rev().max_by_key(|(_, weight)| *weight);
        best.filter(|(_, weight)| *weight > 0 && *weight >= plain).map(|(coding, _)| coding)
    }
}

/// The weight in thousandths that a list gives to a name, the last time that it has it.
fn weight_of(list: &str, name: &str) -> Option<u32> {
    list.split(',').rev().find_map(|element| {
        let (listed, parameters) = element.split_once(';').unwrap_or((element, ""));
        if !listed.trim().eq_ignore_ascii_case(name) {
            return None;
        }
        Some(parameters.split(';').find_map(quality).unwrap_or(FULL))
    })
}

/// The value of `q=`; one that cannot be read accepts nothing.
fn quality(parameter: &str) -> Option<u32> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, decimals) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let is_number = decimals.len() <= 3 && decimals.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number {
        return Some(0);
    }
    let digits = decimals.bytes().chain(*b"000").take(3);
    let thousandths = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match whole {
        "0" => thousandths,
        "1" if thousandths == 0 => FULL,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_greatest_weight_decides_and_then_the_best_coding() {
        let table = [
            ("", None),
            ("identity", None),
            ("deflate, compress", None),
            ("gzip", Some(Coding::Gzip)),
            ("X-GZIP", Some(Coding::Gzip)),
            ("br", Some(Coding::Brotli)),
            ("zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("*", Some(Coding::Zstd)),
            ("*;q=0", None),
            ("zstd;q=0, *", Some(Coding::Brotli)),
            ("gzip;q=0.5, br;q=0.501", Some(Coding::Brotli)),
            ("gzip;q=1.0, br;q=0.9, zstd;q=0", Some(Coding::Gzip)),
            ("gzip; Q=0.5 ,identity; q=0.5", Some(Coding::Gzip)),
            ("gzip;q=0.4, identity;q=0.5", None),
            ("gzip;q=0.5, identity", None),
            ("identity;q=0, gzip;q=0.1", Some(Coding::Gzip)),
            ("identity;q=0", None),
            ("gzip;q=0", None),
            ("gzip, gzip;q=0", None),
        ];
        for (accepted, expected) in table {
            assert_eq!(Coding::preferred(accepted), expected, "{accepted:?}");
        }
    }

    #[test]
    fn a_weight_that_cannot_be_read_accepts_nothing() {
        for weight in ["2", "1.1", "-1", "0.1234", "0.x", "", "x", ".5"] {
            assert_eq!(Coding::preferred(&format!("gzip;q={weight}")), None, "{weight}");
        }
        assert_eq!(Coding::preferred("gzip;level=9"), Some(Coding::Gzip));
    }
}
