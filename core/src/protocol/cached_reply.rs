//! The copies that the edge keeps of the origin's replies: for how long, and for whom. A copy carries its own
//! lifetime in `cache-control`; the origin's value travels beside it and is what clients see.
//!
//! Before it: [`cache_key`](super::cache_key) gives a request its class and its key; the origin's [`cache`](super::cache) says
//! how long caches may keep its reply. The edge worker's `entry` asks [`accepts_cached`] and [`may_serve`] before it looks
//! into its cache, and [`ttl_s`] behind the origin's reply.

use super::cache_key::{EdgeRequest, RequestClass};
use super::header;
use crate::Handle;
use std::fmt;

/// How long the answer to `offset=-1` is kept where the origin does not say.
const FALLBACK_POINTER_TTL_S: u32 = 5;
/// How long a closed chunk is kept where the origin does not say. A copy is good for ever; a cache may
/// still drop it earlier.
const FALLBACK_CLOSED_TTL_S: u32 = 365 * 24 * 60 * 60;
/// Where a stored copy keeps the origin's `cache-control`.
const ORIGIN_CACHE_CONTROL: &str = "limn-origin-cache-control";

/// The headers of a reply, in order.
pub type HeaderList = Vec<(String, String)>;

/// Where a reply came from, as the value of `Cache-Status` (RFC 9211).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// From the cache.
    Hit,
    /// From the origin, because nothing was stored.
    Miss {
        /// Whether the reply is kept for the next.
        stored: bool,
    },
    /// From the origin, because the request refused what is stored.
    Refresh {
        /// Whether the reply is kept for the next.
        stored: bool,
    },
    /// From the live hub, which asks the origin once for all.
    Collapsed,
    /// From the origin, as every request of its class.
    Bypass,
    /// Made at the edge; the text says as what.
    Made(&'static str),
}

/// Whether a request may be answered from the cache at all, before anything is looked up.
#[must_use]
pub fn accepts_cached(request: &EdgeRequest) -> bool {
    let dead = request.expired_handle().is_some() && request.expired_handle() == request.handle();
    !request.has_cache_buster() && !dead
}

/// Whether the stored reply of that handle answers the request.
///
/// A chunk must be of the handle that was asked for. A pointer must not lead back: a client that names a
/// handle, because it has expired or because it was told of it, is only given that successor or a newer one.
#[must_use]
pub fn may_serve(request: &EdgeRequest, stored_handle: Option<&str>) -> bool {
    let Some(stored) = stored_handle else {
        return false;
    };
    if request.class() != RequestClass::Pointer {
        return request.handle() == Some(stored);
    }
    let told = request.handle().is_none_or(|handle| stored == handle || is_newer(stored, handle));
    told && request.expired_handle().is_none_or(|handle| is_newer(stored, handle))
}

/// For how many seconds the reply to `request` may be kept; nothing where it may not.
#[must_use]
pub fn ttl_s(request: &EdgeRequest, status: u16, reply: impl Fn(&str) -> Option<String>) -> Option<u32> {
    let handle = reply(header::HANDLE)?;
    if status != 200 || reply("set-cookie").is_some() {
        return None;
    }
    let fallback_s = match request.class() {
        RequestClass::Pointer if request.expired_handle() != Some(&handle) => FALLBACK_POINTER_TTL_S,
        RequestClass::Log if request.handle() == Some(&handle) && is_closed(&reply) => FALLBACK_CLOSED_TTL_S,
        _ => return None,
    };
    let policy = reply(header::CLOUDFLARE_CACHE_CONTROL);
    if policy.as_deref().or(reply(header::CACHE_CONTROL).as_deref()).is_some_and(forbids_storing) {
        return None;
    }
    let ttl_s = policy.as_deref().and_then(max_age_s).unwrap_or(fallback_s);
    (ttl_s > 0).then_some(ttl_s)
}

/// The headers of the copy that goes into the cache.
#[must_use]
pub fn stored_headers(reply: &[(String, String)], ttl_s: u32) -> HeaderList {
    let mut headers: HeaderList = reply.iter().filter(|(name, _)| is_kept(name)).cloned().collect();
    for (name, value) in reply {
        if name.eq_ignore_ascii_case(header::CACHE_CONTROL) {
            headers.push((ORIGIN_CACHE_CONTROL.to_owned(), value.clone()));
        }
    }
    headers.push((header::CACHE_CONTROL.to_owned(), format!("public, s-maxage={ttl_s}")));
    headers
}

/// The headers that a client sees of a stored copy: the origin's. What the cache added of its own is left
/// out; `age` too, since a copy of a closed chunk is as good as a new one.
#[must_use]
pub fn served_headers(stored: &[(String, String)]) -> HeaderList {
    let mut headers: HeaderList = stored.iter().filter(|(name, _)| is_kept(name)).cloned().collect();
    for (name, value) in stored {
        if name.eq_ignore_ascii_case(ORIGIN_CACHE_CONTROL) {
            headers.push((header::CACHE_CONTROL.to_owned(), value.clone()));
        }
    }
    headers
}

/// The headers that a client sees of a reply that passes through: without those that concern one hop, this
/// edge only, or another client's origin.
#[must_use]
pub fn passed_headers(reply: &[(String, String)]) -> HeaderList {
    const DROPPED: [&str; 6] = [
        header::CONNECTION,
        "keep-alive",
        "transfer-encoding",
        "upgrade",
        "trailer",
        header::CLOUDFLARE_CACHE_CONTROL,
    ];
    let is_passed = |name: &str| {
        let name = name.to_ascii_lowercase();
        !name.starts_with("access-control-") && !DROPPED.contains(&name.as_str())
    };
    reply.iter().filter(|(name, _)| is_passed(name)).cloned().collect()
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("limn-edge; ")?;
        match self {
            Self::Hit => f.write_str("hit"),
            Self::Miss { stored } => write!(f, "fwd=miss{}", if *stored { "; stored" } else { "" }),
            Self::Refresh { stored } => write!(f, "fwd=request{}", if *stored { "; stored" } else { "" }),
            Self::Collapsed => f.write_str("fwd=miss; collapsed; detail=hub"),
            Self::Bypass => f.write_str("fwd=bypass"),
            Self::Made(what) => write!(f, "detail={what}"),
        }
    }
}

fn is_closed(reply: &impl Fn(&str) -> Option<String>) -> bool {
    reply(header::CHUNK).as_deref() == Some(header::CHUNK_CLOSED)
}

/// Handles carry the time they were made; what is no handle of that form is newer than nothing.
fn is_newer(handle: &str, than: &str) -> bool {
    match (handle.parse::<Handle>(), than.parse::<Handle>()) {
        (Ok(handle), Ok(than)) => handle.created_us() > than.created_us(),
        _ => false,
    }
}

/// An allow-list: what a reply says about itself, and nothing about the request it once answered.
fn is_kept(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("electric-")
        || [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::ETAG, header::CHUNK]
            .contains(&name.as_str())
}

fn forbids_storing(policy: &str) -> bool {
    directives(policy).any(|(name, _)| ["no-store", "private", "no-cache"].contains(&name))
}

fn max_age_s(policy: &str) -> Option<u32> {
    let age = |wanted: &str| directives(policy).find(|(name, _)| *name == wanted)?.1.parse().ok();
    age("s-maxage").or_else(|| age("max-age"))
}

fn directives(policy: &str) -> impl Iterator<Item = (&str, &str)> {
    policy.split(',').map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        (name.trim(), value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::super::route::Method;
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const POINTER: &str = "table=t&offset=-1";
    const LOG: &str = "table=t&offset=0_0&handle=1001-20";

    fn get(query: &str) -> EdgeRequest {
        EdgeRequest::parse(Method::Get, "/v1/shape", query).unwrap()
    }

    fn list(pairs: &[(&str, &str)]) -> HeaderList {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn ttl(query: &str, status: u16, reply: &[(&str, &str)]) -> Option<u32> {
        let header =
            |name: &str| reply.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        ttl_s(&get(query), status, header)
    }

    #[test]
    fn the_pointer_is_kept_for_moments_or_as_the_origin_says() {
        let handle = ("electric-handle", "1001-20");
        assert_eq!(ttl(POINTER, 200, &[handle]), Some(5));
        assert_eq!(ttl(POINTER, 200, &[handle, ("cache-control", "public, s-maxage=3600")]), Some(5));
        let policy = |value| ("cloudflare-cdn-cache-control", value);
        assert_eq!(ttl(POINTER, 200, &[handle, policy("max-age=9, stale-while-revalidate=60")]), Some(9));
        assert_eq!(ttl(POINTER, 200, &[handle, policy("max-age=0")]), None);
        assert_eq!(ttl(POINTER, 200, &[handle, policy("no-store")]), None);
        assert_eq!(ttl(POINTER, 200, &[handle, ("cache-control", "no-cache")]), None);
    }

    #[test]
    fn only_closed_chunks_of_the_requested_handle_are_kept() {
        let handle = ("electric-handle", "1001-20");
        let closed = ("limn-chunk", "closed");
        assert_eq!(ttl(LOG, 200, &[handle, closed]), Some(FALLBACK_CLOSED_TTL_S));
        assert_eq!(ttl(LOG, 200, &[handle]), None);
        assert_eq!(ttl(LOG, 200, &[closed]), None);
        assert_eq!(ttl(LOG, 200, &[("electric-handle", "1001-21"), closed]), None);
        for status in [206, 304, 400, 401, 409, 503] {
            assert_eq!(ttl(LOG, status, &[handle, closed]), None, "{status}");
            assert_eq!(ttl(POINTER, status, &[handle]), None, "{status}");
        }
        for query in
            ["offset=now&table=t", "offset=0_0&handle=1001-20&live=true", "offset=-1&subset__limit=1"]
        {
            assert_eq!(ttl(query, 200, &[handle, closed]), None, "{query}");
        }
    }

    #[test]
    fn a_dead_handle_is_neither_kept_nor_served() {
        let query = "table=t&offset=-1&expired_handle=1001-20";
        assert_eq!(ttl(query, 200, &[("electric-handle", "1001-20")]), None);
        assert_eq!(ttl(query, 200, &[("electric-handle", "1001-30")]), Some(5));
        assert!(!may_serve(&get(query), Some("1001-20")));
        assert!(!may_serve(&get(query), Some("1001-10")));
        assert!(may_serve(&get(query), Some("1001-30")));
        assert!(!may_serve(&get(query), Some("of-another-form")));
    }

    #[test]
    fn a_client_that_was_told_of_a_handle_is_not_led_back() {
        let request = get("table=t&offset=-1&handle=1001-20");
        assert!(may_serve(&request, Some("1001-20")));
        assert!(may_serve(&request, Some("7777-21")));
        assert!(!may_serve(&request, Some("1001-19")));
        assert!(may_serve(&get(POINTER), Some("of-another-form")));
        assert!(!may_serve(&get(POINTER), None));
    }

    #[test]
    fn a_chunk_is_served_under_its_own_handle_only() {
        assert!(may_serve(&get(LOG), Some("1001-20")));
        assert!(!may_serve(&get(LOG), Some("1001-30")));
    }

    #[test]
    fn busters_refuse_what_is_stored() {
        assert!(accepts_cached(&get(POINTER)));
        assert!(accepts_cached(&get("table=t&offset=0_0&handle=1001-20&expired_handle=1001-10")));
        assert!(!accepts_cached(&get("table=t&offset=0_0&handle=1001-20&expired_handle=1001-20")));
        assert!(!accepts_cached(&get("table=t&offset=-1&cache-buster=7")));
    }

    #[test]
    fn a_copy_keeps_the_origins_words_and_nothing_of_the_request() {
        let reply = list(&[
            ("content-type", "application/json"),
            ("Cache-Control", "public, max-age=60"),
            ("electric-handle", "1001-20"),
            ("access-control-allow-origin", "https://a.example"),
            ("set-cookie", "a=b"),
            ("date", "now"),
            ("x-request-id", "r"),
            ("etag", "\"e\""),
        ]);
        let stored = stored_headers(&reply, 7);
        assert!(stored.contains(&("cache-control".to_owned(), "public, s-maxage=7".to_owned())));
        let expected = [
            ("content-type", "application/json"),
            ("electric-handle", "1001-20"),
            ("etag", "\"e\""),
            ("cache-control", "public, max-age=60"),
        ];
        assert_eq!(served_headers(&stored), list(&expected));
    }

    #[test]
    fn what_concerns_one_hop_is_not_passed_on() {
        let reply = list(&[
            ("Access-Control-Allow-Origin", "*"),
            ("connection", "keep-alive"),
            ("cloudflare-cdn-cache-control", "max-age=5"),
            ("retry-after", "5"),
        ]);
        assert_eq!(passed_headers(&reply), list(&[("retry-after", "5")]));
    }

    #[test]
    fn the_status_is_spelled_as_the_rfc_says() {
        assert_eq!(CacheStatus::Hit.to_string(), "limn-edge; hit");
        assert_eq!(CacheStatus::Miss { stored: true }.to_string(), "limn-edge; fwd=miss; stored");
        assert_eq!(CacheStatus::Refresh { stored: false }.to_string(), "limn-edge; fwd=request");
        assert_eq!(CacheStatus::Bypass.to_string(), "limn-edge; fwd=bypass");
        assert_eq!(CacheStatus::Made("preflight").to_string(), "limn-edge; detail=preflight");
    }
}
