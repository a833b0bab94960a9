//! The copies that the edge keeps of the origin's replies: in which form, and for whom. A copy carries its status, its
//! coding and its [`CopyLife`] in headers of its own; the origin's `cache-control` travels beside them and is what clients
//! see.
//!
//! Before it: [`cache_key`](super::cache_key) gives a request its class and its key, [`copy_class`](super::copy_class) a reply
//! its life. The edge worker's `serve` asks [`accepts_cached`] and [`may_serve`] before it takes a copy.

use super::cache_key::EdgeRequest;
use super::copy_class::{CopyClass, CopyLife};
use super::header;
use crate::Handle;
use std::fmt;

/// Where a stored copy keeps the origin's `cache-control`.
const ORIGIN_CACHE_CONTROL: &str = "limn-origin-cache-control";
/// Where it keeps the coding of its body: a cache that knew of it might decode what is to be passed on as it is.
const ORIGIN_CONTENT_ENCODING: &str = "limn-origin-content-encoding";
/// Where it keeps the status: caches keep replies of status 200 only.
const ORIGIN_STATUS: &str = "limn-origin-status";
/// Where it keeps its [`CopyLife`].
const LIFE: &str = "limn-life";

/// The headers of a reply, in order.
pub type HeaderList = Vec<(String, String)>;

/// Where a reply came from, as the value of `Cache-Status` (RFC 9211).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// From the cache.
    Hit {
        /// For how long the copy is fresh yet; of a stale one that answers while another is fetched, less than one.
        ttl_s: i64,
    },
    /// From the cache, where a request that was on its way already has put it.
    Collapsed,
    /// From the cache, since the origin could not be reached.
    StoodIn {
        /// Less than one: for how long it has been stale.
        ttl_s: i64,
    },
    /// From the origin, because what is stored is stale.
    Stale {
        /// Whether the reply is kept for the next.
        stored: bool,
    },
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
    Hub,
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

/// Whether a stored reply of that class and handle answers the request.
///
/// A chunk must be of the handle that was asked for. What says which handle to go on with must not lead back: a client
/// that names a handle, because it has expired or because it was told of it, is only given that successor or a newer one.
#[must_use]
pub fn may_serve(request: &EdgeRequest, class: CopyClass, stored_handle: Option<&str>) -> bool {
    let expired = request.expired_handle();
    match (class, stored_handle) {
        (CopyClass::Refused, _) => true,
        (_, None) => false,
        (CopyClass::Closed | CopyClass::Head, Some(stored)) => request.handle() == Some(stored),
        (CopyClass::MustRefetch, Some(stored)) => {
            request.handle() != Some(stored) && expired.is_none_or(|handle| is_newer(stored, handle))
        }
        (CopyClass::Pointer | CopyClass::Now, Some(stored)) => {
            let told = request.handle().is_none_or(|handle| stored == handle || is_newer(stored, handle));
            told && expired.is_none_or(|handle| is_newer(stored, handle))
        }
    }
}

/// Whether a reply of that handle goes into the place of a stored one, where nobody has refused that: a slow reply must
/// not lead clients back.
#[must_use]
pub fn may_replace(class: CopyClass, handle: Option<&str>, stored_handle: Option<&str>) -> bool {
    let leads = matches!(class, CopyClass::Pointer | CopyClass::Now);
    match (handle, stored_handle) {
        (Some(handle), Some(stored)) if leads => !is_newer(stored, handle),
        _ => true,
    }
}

/// The headers of the copy that goes into the cache.
#[must_use]
pub fn stored_headers(status: u16, reply: &[(String, String)], life: &CopyLife) -> HeaderList {
    let mut headers: HeaderList = reply.iter().filter(|(name, _)| is_kept(name)).cloned().collect();
    for (name, value) in reply {
        if let Some((_, own)) = MOVED.iter().find(|(moved, _)| name.eq_ignore_ascii_case(moved)) {
            headers.push(((*own).to_owned(), value.clone()));
        }
    }
    headers.push((ORIGIN_STATUS.to_owned(), status.to_string()));
    headers.push((LIFE.to_owned(), life.to_string()));
    headers.push((header::CACHE_CONTROL.to_owned(), format!("public, s-maxage={}", life.kept_s())));
    headers
}

/// The status and the life of a stored copy; nothing where it has another form.
#[must_use]
pub fn stored_life(stored: &[(String, String)]) -> Option<(u16, CopyLife)> {
    let value = |wanted| stored.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    Some((value(ORIGIN_STATUS)?.parse().ok()?, value(LIFE)?.parse().ok()?))
}

/// The headers that a client sees of a stored copy: the origin's. What the cache added of its own is left
/// out; `age` too, since a copy of a closed chunk is as good as a new one.
#[must_use]
pub fn served_headers(stored: &[(String, String)]) -> HeaderList {
    let mut headers: HeaderList = stored.iter().filter(|(name, _)| is_kept(name)).cloned().collect();
    for (name, value) in stored {
        if let Some((moved, _)) = MOVED.iter().find(|(_, own)| name.eq_ignore_ascii_case(own)) {
            headers.push(((*moved).to_owned(), value.clone()));
        }
    }
    headers
}

/// The headers of the origin that a copy has under names of its own.
const MOVED: [(&str, &str); 2] =
    [(header::CACHE_CONTROL, ORIGIN_CACHE_CONTROL), (header::CONTENT_ENCODING, ORIGIN_CONTENT_ENCODING)];

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
            Self::Hit { ttl_s } => write!(f, "hit; ttl={ttl_s}"),
            Self::Collapsed => f.write_str("fwd=miss; collapsed"),
            Self::StoodIn { ttl_s } => write!(f, "fwd=stale; ttl={ttl_s}; detail=origin-away"),
            Self::Stale { stored } => write!(f, "fwd=stale{}", if *stored { "; stored" } else { "" }),
            Self::Miss { stored } => write!(f, "fwd=miss{}", if *stored { "; stored" } else { "" }),
            Self::Refresh { stored } => write!(f, "fwd=request{}", if *stored { "; stored" } else { "" }),
            Self::Hub => f.write_str("fwd=miss; collapsed; detail=hub"),
            Self::Bypass => f.write_str("fwd=bypass"),
            Self::Made(what) => write!(f, "detail={what}"),
        }
    }
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
        || [header::CONTENT_TYPE, header::ETAG, header::CHUNK].contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::cache_key::RequestClass;
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

    fn serves(query: &str, stored: Option<&str>) -> bool {
        let request = get(query);
        let class = match request.class() {
            RequestClass::Log => CopyClass::Head,
            RequestClass::Now => CopyClass::Now,
            _ => CopyClass::Pointer,
        };
        may_serve(&request, class, stored)
    }

    #[test]
    fn a_dead_handle_is_not_served() {
        for offset in ["-1", "now"] {
            let query = format!("table=t&offset={offset}&expired_handle=1001-20");
            assert!(!serves(&query, Some("1001-20")));
            assert!(!serves(&query, Some("1001-10")));
            assert!(serves(&query, Some("1001-30")));
            assert!(!serves(&query, Some("of-another-form")));
        }
    }

    #[test]
    fn a_client_that_was_told_of_a_handle_is_not_led_back() {
        let query = "table=t&offset=-1&handle=1001-20";
        assert!(serves(query, Some("1001-20")));
        assert!(serves(query, Some("7777-21")));
        assert!(!serves(query, Some("1001-19")));
        assert!(serves(POINTER, Some("of-another-form")));
        assert!(!serves(POINTER, None));
    }

    #[test]
    fn a_chunk_is_served_under_its_own_handle_only() {
        assert!(serves(LOG, Some("1001-20")));
        assert!(!serves(LOG, Some("1001-30")));
    }

    #[test]
    fn a_refetch_names_a_handle_that_the_client_does_not_know_to_be_dead() {
        let serves = |query: &str, successor| may_serve(&get(query), CopyClass::MustRefetch, successor);
        assert!(serves(LOG, Some("1001-30")));
        assert!(!serves(LOG, Some("1001-20")));
        assert!(!serves(&format!("{LOG}&expired_handle=1001-30"), Some("1001-30")));
        assert!(serves(&format!("{LOG}&expired_handle=1001-10"), Some("1001-30")));
        assert!(!serves(LOG, None));
        assert!(may_serve(&get(LOG), CopyClass::Refused, None));
    }

    #[test]
    fn a_slow_reply_takes_no_newer_ones_place() {
        let replaces = |class, handle, stored| may_replace(class, Some(handle), Some(stored));
        assert!(!replaces(CopyClass::Pointer, "1001-20", "1001-30"));
        assert!(!replaces(CopyClass::Now, "1001-20", "1001-30"));
        assert!(replaces(CopyClass::Pointer, "1001-30", "1001-20"));
        assert!(replaces(CopyClass::Pointer, "1001-20", "1001-20"));
        assert!(replaces(CopyClass::MustRefetch, "1001-20", "1001-30"));
        assert!(may_replace(CopyClass::Pointer, Some("1001-20"), None));
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
            ("content-encoding", "br"),
        ]);
        let life: CopyLife = "pointer 1000 7 20 10".parse().unwrap();
        let stored = stored_headers(409, &reply, &life);
        assert!(stored.contains(&("cache-control".to_owned(), "public, s-maxage=27".to_owned())));
        assert!(stored.iter().all(|(name, _)| name != "content-encoding"));
        assert_eq!(stored_life(&stored), Some((409, life)));
        assert_eq!(stored_life(&reply), None);
        let expected = [
            ("content-type", "application/json"),
            ("electric-handle", "1001-20"),
            ("etag", "\"e\""),
            ("cache-control", "public, max-age=60"),
            ("content-encoding", "br"),
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
        assert_eq!(CacheStatus::Hit { ttl_s: 7 }.to_string(), "limn-edge; hit; ttl=7");
        assert_eq!(CacheStatus::Collapsed.to_string(), "limn-edge; fwd=miss; collapsed");
        assert_eq!(CacheStatus::Stale { stored: true }.to_string(), "limn-edge; fwd=stale; stored");
        let away = CacheStatus::StoodIn { ttl_s: -3 };
        assert_eq!(away.to_string(), "limn-edge; fwd=stale; ttl=-3; detail=origin-away");
        assert_eq!(CacheStatus::Miss { stored: true }.to_string(), "limn-edge; fwd=miss; stored");
        assert_eq!(CacheStatus::Refresh { stored: false }.to_string(), "limn-edge; fwd=request");
        assert_eq!(CacheStatus::Bypass.to_string(), "limn-edge; fwd=bypass");
        assert_eq!(CacheStatus::Made("preflight").to_string(), "limn-edge; detail=preflight");
    }
}
