//! How long a client waits before it asks again (protocol §10.1).

use super::exchange::Moment;

const DELAY_MS_FIRST: u64 = 1_000;
const DELAY_MS_MAX: u64 = 32_000;
/// A server that asks for more is not believed: the client looks again at least once an hour.
const RETRY_AFTER_MS_MAX: u64 = 3_600_000;

/// Exponential delays with full jitter, so that a server that comes back is not met by everybody at once.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    not_before_ms: u64,
}

impl Retry {
    /// Notes a failure; the next request waits for a random part of the delay, and at least for what
    /// the server asked.
    pub(super) fn failed(&mut self, moment: Moment, retry_after: Option<&str>) {
        let delay_ms = DELAY_MS_FIRST.saturating_mul(1 << self.failures.min(10)).min(DELAY_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        let floor_ms = retry_after.and_then(|text| retry_after_ms(text, moment.now_ms)).unwrap_or(0);
        let wait_ms = (moment.random % (delay_ms + 1)).max(floor_ms.min(RETRY_AFTER_MS_MAX));
        self.not_before_ms = moment.now_ms.saturating_add(wait_ms);
    }

    /// Notes that the server answers as it should.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Forgets the wait but not the failures before it: somebody asked to look now.
    pub(super) fn hurry(&mut self) {
        self.not_before_ms = 0;
    }

    /// The time before which no request may be sent, when that is still to come.
    pub(super) fn wait_until_ms(&self, now_ms: u64) -> Option<u64> {
        (self.not_before_ms > now_ms).then_some(self.not_before_ms)
    }

    /// True after a failure, until a request succeeds.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

/// `retry-after` in either form of RFC 9110 §10.2.3: seconds, or a date (only the one that servers may send).
fn retry_after_ms(text: &str, now_ms: u64) -> Option<u64> {
    match text.trim().parse::<u64>() {
        Ok(seconds) => Some(seconds.saturating_mul(1_000)),
        Err(_) => Some(http_date_ms(text.trim())?.saturating_sub(now_ms)),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` in milliseconds since 1970.
fn http_date_ms(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.strip_suffix(" GMT")?.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month_name = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000)
}

/// Days of the Gregorian calendar; the year is taken to begin in March, so that a leap day is its last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_month = (153 * month + 2) / 5;
    year * 365 + year / 4 - year / 100 + year / 400 + days_before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn delays_double_up_to_their_limit() {
        let mut retry = Retry::default();
        // The largest draw that every delay up to the limit reduces to the delay itself.
        for delay_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000] {
            retry.failed(Moment { now_ms: 500, random: delay_ms }, None);
            assert_eq!(retry.wait_until_ms(500), Some(500 + delay_ms));
        }
        retry.succeeded();
        assert_eq!((retry.wait_until_ms(0), retry.is_failing()), (None, false));
    }

    #[test]
    fn the_server_sets_a_floor() {
        let mut retry = Retry::default();
        retry.failed(Moment { now_ms: 0, random: 0 }, Some("5"));
        assert_eq!(retry.wait_until_ms(0), Some(5_000));
        retry.failed(Moment { now_ms: 0, random: 0 }, Some("9999999999999"));
        assert_eq!(retry.wait_until_ms(0), Some(RETRY_AFTER_MS_MAX));
        retry.hurry();
        assert_eq!((retry.wait_until_ms(0), retry.is_failing()), (None, true));
    }

    #[test]
    fn dates_are_read() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Mon, 23 Nov 2026 01:02:03 GMT", 1_795_395_723),
        ] {
            assert_eq!(http_date_ms(text), Some(seconds * 1_000), "{text}");
        }
        assert_eq!(retry_after_ms("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_770_000), Some(7_000));
        for text in
            ["", "soon", "Sun, 06 Nov 1994", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 1:2:3 GMT"]
        {
            assert_eq!(http_date_ms(text), None, "{text}");
        }
    }
}
