//! Who may keep a reply and for how long: cache headers, entity tags, the live cursor (protocol §5.3, §5.4, §6.2).
//!
//! Before it: [`LogReply`](super::reply::LogReply) says what kind of reply it is. Behind it: caches, our edge worker among
//! them, which decides by [`CopyLife::of`](super::copy_class::CopyLife::of) what it keeps of what is allowed here.

use super::coding::Coding;
use super::header;
use super::request::RequestOffset;
use super::route::Method;
use crate::{Handle, Offset};

/// Ages that an operator can choose, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachePolicy {
    /// How long a non-live reply is fresh.
    pub max_age_s: u64,
    /// How long after that it may be served while it is fetched anew.
    pub stale_age_s: u64,
    /// How long a stream of events lasts.
    pub sse_timeout_s: u64,
}

/// The kinds of replies, as caches have to treat them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// A part of a log, or a 304 in its place.
    Log {
        /// The offset that was asked for.
        offset: RequestOffset,
        /// Whether the request was live, and how.
        live: Live,
        /// Whether the part changes no more, but by a compaction, which leaves a client with the same rows.
        closed: bool,
    },
    /// Rows that were read from the database for this one request.
    Subset,
    /// A 409.
    MustRefetch {
        /// Whether it names the handle to go on with.
        has_handle: bool,
    },
    /// Any other refusal or failure of the shape route.
    Failure,
    /// A reply that depends on nothing in the shape: no route, no secret.
    Unrouted,
}

/// How a request waits for changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// Not at all.
    No,
    /// With the reply.
    LongPoll,
    /// With a stream.
    Events,
}

/// The headers of a policy decision, ready to send.
type Headers = Vec<(&'static str, String)>;

const NO_STORE: &str = "no-store";
/// What an HTTP server says that has no opinion; Electric's does.
const UNROUTED: &str = "max-age=0, private, must-revalidate";

impl Default for CachePolicy {
    fn default() -> Self {
        Self { max_age_s: 60, stale_age_s: 300, sse_timeout_s: 60 }
    }
}

impl CachePolicy {
    /// The cache headers of a reply.
    #[must_use]
    pub fn headers(&self, method: Method, kind: ReplyKind) -> Headers {
        let mut headers = vec![(header::CACHE_CONTROL, self.cache_control(method, kind))];
        if kind == ReplyKind::Failure && method.is_read() {
            headers.push((header::SURROGATE_CONTROL, NO_STORE.to_owned()));
        }
        headers.push((header::CLOUDFLARE_CACHE_CONTROL, edge_cache_control(method, kind).to_owned()));
        headers
    }

    /// `cache-control`, byte for byte as clients and their proxies know it from Electric.
    #[must_use]
    pub fn cache_control(&self, method: Method, kind: ReplyKind) -> String {
        match kind {
            ReplyKind::Unrouted => UNROUTED.to_owned(),
            ReplyKind::Subset => "no-cache".to_owned(),
            _ if !method.is_read() => "no-cache".to_owned(),
            ReplyKind::MustRefetch { has_handle: true } => "public, max-age=60, must-revalidate".to_owned(),
            ReplyKind::MustRefetch { has_handle: false } => "public, max-age=1, must-revalidate".to_owned(),
            ReplyKind::Failure => NO_STORE.to_owned(),
            ReplyKind::Log { offset, .. } if offset.is_start() => {
                "public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746".to_owned()
            }
            ReplyKind::Log { live: Live::Events, .. } => {
                format!("public, max-age={}", self.sse_timeout_s.saturating_sub(1))
            }
            ReplyKind::Log { live: Live::LongPoll, .. } => {
                "public, max-age=5, stale-while-revalidate=5".to_owned()
            }
            ReplyKind::Log { live: Live::No, .. } => {
                format!("public, max-age={}, stale-while-revalidate={}", self.max_age_s, self.stale_age_s)
            }
        }
    }
}

/// The policy for caches that we know to follow it: short where a reply can go out of date, long where it cannot. A CDN
/// keeps all that it allows; our own worker by class (`CopyLife::of`).
fn edge_cache_control(method: Method, kind: ReplyKind) -> &'static str {
    match kind {
        _ if !method.is_read() => NO_STORE,
        ReplyKind::Subset
        | ReplyKind::Failure
        | ReplyKind::Unrouted
        | ReplyKind::MustRefetch { has_handle: false } => NO_STORE,
        ReplyKind::MustRefetch { has_handle: true } => "public, max-age=10, stale-if-error=0",
        // A pointer to the newest handle: a stale one costs a 409 and one more request.
        ReplyKind::Log { offset, .. } if offset.is_start() => {
            "public, max-age=60, stale-while-revalidate=3600, stale-if-error=3600"
        }
        ReplyKind::Log { offset: RequestOffset::Now, .. } => "public, max-age=1",
        ReplyKind::Log { live: Live::Events, .. } => NO_STORE,
        ReplyKind::Log { live: Live::LongPoll, .. } => "public, max-age=5, stale-if-error=0",
        ReplyKind::Log { live: Live::No, closed: true, .. } => {
            "public, max-age=2592000, stale-if-error=31536000, immutable"
        }
        ReplyKind::Log { live: Live::No, closed: false, .. } => {
            "public, max-age=1, stale-while-revalidate=5, stale-if-error=60"
        }
    }
}

/// The entity tag of a log reply, quotes included, with its
/// [`segment_start`](super::reply::LogReply::segment_start).
///
/// `unique` is a number that grows with every reply; it is given where the reply holds no change (a timeout,
/// `now`), so that the tag never matches again.
#[must_use]
pub fn etag(
    handle: Handle,
    requested: RequestOffset,
    (offset, segment_start): (Offset, u64),
    unique: Option<u64>,
) -> String {
    match (unique, segment_start) {
        (None, 0) => format!("\"{handle}:{requested}:{offset}\""),
        (None, _) => format!("\"{handle}:{requested}:{offset};{segment_start}\""),
        (Some(unique), _) => format!("\"{handle}:{requested}:{offset}:{unique}\""),
    }
}

/// The entity tag of the same reply in another coding: its bytes are others (RFC 9110 §8.8.3.3).
#[must_use]
pub fn coded_etag(etag: &str, coding: Coding) -> String {
    format!("{};{}\"", etag.trim_end_matches('"'), coding.as_str())
}

/// The entity tag of a 409 that names a handle.
#[must_use]
pub fn must_refetch_etag(handle: Handle) -> String {
    format!("\"{handle}::\"")
}

/// True where `if-none-match` lists the tag. Quotes do not matter; `*` and weak tags match nothing.
#[must_use]
pub fn lists_etag(if_none_match: &str, etag: &str) -> bool {
    let wanted = etag.trim_matches('"');
    if_none_match.split(',').any(|listed| listed.trim().trim_matches('"') == wanted)
}

/// 2024-10-09T00:00:00Z, where cursors begin, in seconds since 1970.
const CURSOR_EPOCH_S: u64 = 1_728_432_000;
/// The furthest that a cursor jumps ahead of the one it replaces.
const CURSOR_STEP_MAX: u64 = 3600;

/// The cursor after `incoming`.
///
/// All clients that poll in one window of `long_poll_timeout_s` get the same one, and so share a URL that a
/// cache can collapse; but a client never gets a cursor that is not greater than its own, or a cached live
/// reply would be replayed to it for ever. `random` is any number.
#[must_use]
pub fn next_cursor(now_s: u64, long_poll_timeout_s: u64, incoming: Option<&str>, random: u64) -> u64 {
    if long_poll_timeout_s == 0 {
        return 0;
    }
    let elapsed_s = now_s.saturating_sub(CURSOR_EPOCH_S);
    let next = elapsed_s.div_ceil(long_poll_timeout_s).saturating_mul(long_poll_timeout_s);
    let incoming = incoming.and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    if next > incoming { next } else { incoming.saturating_add(1 + random % CURSOR_STEP_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const START: RequestOffset = RequestOffset::At(Offset::Start);
    const LATER: RequestOffset = RequestOffset::At(Offset::SNAPSHOT_END);

    fn log(offset: RequestOffset, live: Live) -> ReplyKind {
        ReplyKind::Log { offset, live, closed: false }
    }

    fn control(method: Method, kind: ReplyKind) -> String {
        CachePolicy::default().cache_control(method, kind)
    }

    #[test]
    fn cache_control_is_decided_in_the_order_of_the_protocol() {
        let get = |reply| control(Method::Get, reply);
        assert_eq!(control(Method::Post, log(START, Live::No)), "no-cache");
        assert_eq!(control(Method::Delete, ReplyKind::Failure), "no-cache");
        assert_eq!(control(Method::Delete, ReplyKind::Unrouted), "max-age=0, private, must-revalidate");
        assert_eq!(get(ReplyKind::MustRefetch { has_handle: true }), "public, max-age=60, must-revalidate");
        assert_eq!(get(ReplyKind::MustRefetch { has_handle: false }), "public, max-age=1, must-revalidate");
        assert_eq!(get(ReplyKind::Failure), "no-store");
        let initial = "public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746";
        assert_eq!(get(log(START, Live::No)), initial);
        assert_eq!(control(Method::Head, log(START, Live::No)), initial);
        assert_eq!(get(log(LATER, Live::Events)), "public, max-age=59");
        assert_eq!(get(log(LATER, Live::LongPoll)), "public, max-age=5, stale-while-revalidate=5");
        assert_eq!(get(log(LATER, Live::No)), "public, max-age=60, stale-while-revalidate=300");
        assert_eq!(get(log(RequestOffset::Now, Live::No)), "public, max-age=60, stale-while-revalidate=300");
    }

    #[test]
    fn ages_are_configurable() {
        let policy = CachePolicy { max_age_s: 1, stale_age_s: 2, sse_timeout_s: 30 };
        let control = |live| policy.cache_control(Method::Get, log(LATER, live));
        assert_eq!(control(Live::No), "public, max-age=1, stale-while-revalidate=2");
        assert_eq!(control(Live::Events), "public, max-age=29");
    }

    #[test]
    fn surrogates_are_told_of_failed_reads_only() {
        let names = |method, reply| -> Vec<&str> {
            CachePolicy::default().headers(method, reply).iter().map(|(name, _)| *name).collect()
        };
        let all = ["cache-control", "surrogate-control", "cloudflare-cdn-cache-control"];
        assert_eq!(names(Method::Get, ReplyKind::Failure), all);
        assert_eq!(names(Method::Post, ReplyKind::Failure), [all[0], all[2]]);
        assert_eq!(names(Method::Get, ReplyKind::MustRefetch { has_handle: false }), [all[0], all[2]]);
    }

    #[test]
    fn the_edge_keeps_only_closed_chunks_for_long() {
        let closed = ReplyKind::Log { offset: LATER, live: Live::No, closed: true };
        assert!(edge_cache_control(Method::Get, closed).contains("immutable"));
        for reply in [log(LATER, Live::No), log(START, Live::No), log(RequestOffset::Now, Live::No)] {
            assert!(!edge_cache_control(Method::Get, reply).contains("immutable"));
        }
        for reply in
            [ReplyKind::Failure, ReplyKind::MustRefetch { has_handle: false }, log(LATER, Live::Events)]
        {
            assert_eq!(edge_cache_control(Method::Get, reply), "no-store");
        }
        assert_eq!(edge_cache_control(Method::Post, closed), "no-store");
    }

    #[test]
    fn tags_name_handle_and_offsets() {
        let handle = Handle::new(28_831_107, 1_795_393_123_742_605);
        assert_eq!(
            etag(handle, START, (Offset::snapshot_chunk(0), 0), None),
            "\"28831107-1795393123742605:-1:0_0\""
        );
        assert_eq!(
            etag(handle, RequestOffset::Now, (Offset::new(542_292_208, 0), 0), Some(7)),
            "\"28831107-1795393123742605:now:542292208_0:7\""
        );
        let tag = etag(handle, START, (Offset::snapshot_chunk(0), 0), None);
        assert_eq!(coded_etag(&tag, Coding::Gzip), "\"28831107-1795393123742605:-1:0_0;gzip\"");
        assert_eq!(must_refetch_etag(handle), "\"28831107-1795393123742605::\"");
    }

    #[test]
    fn a_listed_tag_matches_with_or_without_quotes() {
        let tag = "\"1007-1:-1:0_0\"";
        for listed in [tag, "1007-1:-1:0_0", "\"foo\", \"1007-1:-1:0_0\" ,\"bar\""] {
            assert!(lists_etag(listed, tag), "{listed}");
        }
        for listed in ["", "*", "W/\"1007-1:-1:0_0\"", "\"foo\",\"bar\"", "\"1007-1:-1:0_1\""] {
            assert!(!lists_etag(listed, tag), "{listed}");
        }
    }

    #[test]
    fn cursors_are_shared_in_a_window_and_always_grow() {
        let now_s = 1_795_393_123;
        let shared = next_cursor(now_s, 20, None, 0);
        assert_eq!(shared, 66_961_140);
        assert_eq!(next_cursor(now_s + 17, 20, None, 5), shared);
        assert_eq!(next_cursor(now_s + 18, 20, None, 5), shared + 20);
        for incoming in ["garbage", "", "-5", "1.5", "3"] {
            assert_eq!(next_cursor(now_s, 20, Some(incoming), 9), shared, "{incoming}");
        }
        let jump = |random| next_cursor(now_s, 20, Some("66961140"), random) - shared;
        assert_eq!((jump(0), jump(CURSOR_STEP_MAX - 1), jump(CURSOR_STEP_MAX)), (1, CURSOR_STEP_MAX, 1));
        assert!((1..=CURSOR_STEP_MAX).contains(&jump(u64::MAX)));
        assert_eq!(next_cursor(now_s, 0, Some("7"), 1), 0);
    }

    #[test]
    fn a_chain_of_cursors_never_repeats() {
        let mut cursor = 0;
        for step in 0..200_u64 {
            let next = next_cursor(1_795_393_123 + step, 20, Some(&cursor.to_string()), step * 977);
            assert!(next > cursor);
            cursor = next;
        }
    }
}
