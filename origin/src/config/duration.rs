//! Durations as options take them: `500ms`, `30s`, `10m`; a bare number is milliseconds.

use std::time::Duration;

/// Units with their length in milliseconds. Longer names come before those they end with.
const UNITS: [(&str, u64); 6] =
    [("msec", 1), ("ms", 1), ("sec", 1_000), ("min", 60_000), ("s", 1_000), ("m", 60_000)];

/// Parses a duration.
///
/// # Errors
/// The form that is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = UNITS.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)));
    let (number, unit_ms) = split.unwrap_or((text, 1));
    let number: u64 =
        number.trim().parse().map_err(|_| "expected such as `500ms`, `30s`, `10m`, or milliseconds")?;
    let ms = number.checked_mul(unit_ms).ok_or("too long")?;
    Ok(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_understood_and_a_bare_number_is_milliseconds() {
        for (text, ms) in [
            ("0", 0),
            ("20000", 20_000),
            ("5ms", 5),
            ("5msec", 5),
            ("5s", 5_000),
            (" 5 sec ", 5_000),
            ("5m", 300_000),
            ("5min", 300_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-5s", "1.5s", "5h", "5 s s", "18446744073709551615m"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
