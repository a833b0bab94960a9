use super::*;
use crate::Offset;
use crate::protocol::Method;
use crate::protocol::cache_key::KeyScope;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const DOCS: &str = include_str!("../../../../docs/edge.md");

const POINTER: &str = "table=t&offset=-1";
const NOW: &str = "table=t&offset=now";
const LOG: &str = "table=t&offset=0_0&handle=1001-20";
const HANDLE: (&str, &str) = ("electric-handle", "1001-20");
const CLOSED: (&str, &str) = ("limn-chunk", "closed");
const ENDS: (&str, &str) = ("electric-up-to-date", "");
const LIMN: (&str, &str) = ("electric-server", "Limn/1");

const fn policy(value: &'static str) -> (&'static str, &'static str) {
    ("cloudflare-cdn-cache-control", value)
}

fn get(query: &str) -> EdgeRequest {
    EdgeRequest::parse(Method::Get, "/v1/shape", query).unwrap()
}

fn life(query: &str, status: u16, reply: &[(&str, &str)]) -> Option<CopyLife> {
    let header =
        |name: &str| reply.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    CopyLife::of(&get(query), status, header, 0)
}

/// (class, fresh, while fetched, without the origin)
fn spans(query: &str, status: u16, reply: &[(&str, &str)]) -> Option<(CopyClass, u32, u32, u32)> {
    let CopyLife { class, fresh_s, while_fetched_s, without_origin_s, .. } = life(query, status, reply)?;
    Some((class, fresh_s, while_fetched_s, without_origin_s))
}

#[test]
fn the_origins_own_words_make_the_copies_that_the_table_says() {
    use crate::protocol::cache::{CachePolicy, Live, ReplyKind};
    use crate::protocol::request::RequestOffset;
    let said = |reply| {
        let headers = CachePolicy::default().headers(Method::Get, reply);
        headers.into_iter().find(|(name, _)| *name == header::CLOUDFLARE_CACHE_CONTROL).unwrap().1
    };
    let log = |offset, closed| said(ReplyKind::Log { offset, live: Live::No, closed });
    let [start, later] = [Offset::Start, Offset::SNAPSHOT_END].map(RequestOffset::At);
    let spans = |query, status, reply: &[(&str, &str)], policy: &str| {
        spans(query, status, &[reply, &[("cloudflare-cdn-cache-control", policy)]].concat())
    };
    assert_eq!(
        spans(POINTER, 200, &[HANDLE], &log(start, false)),
        Some((CopyClass::Pointer, 60, 3_600, 3_600))
    );
    assert_eq!(
        spans(LOG, 200, &[HANDLE, CLOSED], &log(later, true)),
        Some((CopyClass::Closed, 30 * DAY_S, 0, FOREVER_S))
    );
    assert_eq!(spans(LOG, 200, &[HANDLE, ENDS], &log(later, false)), Some((CopyClass::Head, 1, 5, 60)));
    let now = log(RequestOffset::Now, false);
    assert_eq!(spans(NOW, 200, &[HANDLE, ENDS], &now), Some((CopyClass::Now, 1, 0, 0)));
    let refetch = said(ReplyKind::MustRefetch { has_handle: true });
    let successor = ("electric-handle", "1001-30");
    assert_eq!(spans(LOG, 409, &[successor], &refetch), Some((CopyClass::MustRefetch, 10, 0, 0)));
    let refetch = said(ReplyKind::MustRefetch { has_handle: false });
    assert_eq!(spans(LOG, 409, &[], &refetch), None);
    let refused = said(ReplyKind::Failure);
    assert_eq!(spans("table=t", 400, &[LIMN], &refused), Some((CopyClass::Refused, 2, 0, 0)));
}

#[test]
fn the_origin_says_how_long_within_the_classs_bounds() {
    let fresh = |query, reply: &[(&str, &str)]| life(query, 200, reply).map(|life| life.fresh_s);
    assert_eq!(fresh(POINTER, &[HANDLE]), Some(5));
    assert_eq!(fresh(POINTER, &[HANDLE, ("cache-control", "public, s-maxage=3600")]), Some(5));
    assert_eq!(fresh(POINTER, &[HANDLE, policy("max-age=9, stale-while-revalidate=60")]), Some(9));
    assert_eq!(fresh(LOG, &[HANDLE, CLOSED]), Some(365 * DAY_S));
    assert_eq!(fresh(LOG, &[HANDLE, ENDS, policy("max-age=600")]), Some(5));
    for forbidding in ["max-age=0", "no-store", "private", "no-cache"] {
        assert_eq!(fresh(POINTER, &[HANDLE, policy(forbidding)]), None, "{forbidding}");
    }
    assert_eq!(fresh(POINTER, &[HANDLE, ("cache-control", "no-cache")]), None);
    let quiet = spans(POINTER, 200, &[HANDLE, policy("max-age=9")]);
    assert_eq!(quiet, Some((CopyClass::Pointer, 9, 0, 0)), "stale copies need to be allowed");
}

#[test]
fn who_has_seen_all_there_was_is_told_by_the_origin_that_it_still_is() {
    let said = policy("max-age=1, stale-while-revalidate=5, stale-if-error=60");
    let head = |offset| spans(LOG, 200, &[HANDLE, ENDS, ("electric-offset", offset), said]);
    assert_eq!(head("0_0"), Some((CopyClass::Head, 0, 0, 60)));
    assert_eq!(head("9_2"), Some((CopyClass::Head, 1, 5, 60)));
}

#[test]
fn only_replies_of_the_requested_handle_are_kept() {
    assert_eq!(spans(LOG, 200, &[CLOSED]), None);
    for other in [CLOSED, ENDS] {
        assert_eq!(spans(LOG, 200, &[("electric-handle", "1001-21"), other]), None);
    }
    assert_eq!(spans(LOG, 200, &[HANDLE]), None, "a part of a log that is neither closed nor its end");
    assert_eq!(spans(POINTER, 200, &[HANDLE, ("set-cookie", "a=b")]), None);
    for status in [206, 304, 401, 403, 409, 429, 500, 503] {
        assert_eq!(spans(LOG, status, &[HANDLE, CLOSED, LIMN]), None, "{status}");
        assert_eq!(spans(POINTER, status, &[HANDLE, LIMN]), None, "{status}");
    }
    for query in [
        "offset=0_0&handle=1001-20&live=true",
        "offset=0_0&handle=1001-20&live=true&live_sse=true",
        "offset=-1&subset__limit=1",
    ] {
        assert_eq!(spans(query, 200, &[HANDLE, CLOSED, ENDS]), None, "{query}");
        assert_eq!(get(query).key(KeyScope { origin_url: "o", secret: None, tenant: None }), None);
    }
}

#[test]
fn nothing_that_leads_to_a_dead_handle_is_kept() {
    for query in [POINTER, NOW] {
        let dead = format!("{query}&expired_handle=1001-20");
        assert_eq!(spans(&dead, 200, &[HANDLE, ENDS]), None);
        assert!(spans(&dead, 200, &[("electric-handle", "1001-30"), ENDS]).is_some());
    }
    assert_eq!(spans(LOG, 409, &[HANDLE]), None, "a refetch that leads to itself");
    let dead = format!("{LOG}&expired_handle=1001-30");
    assert_eq!(spans(&dead, 409, &[("electric-handle", "1001-30")]), None);
}

#[test]
fn a_gateways_refusals_are_not_kept() {
    assert_eq!(spans(POINTER, 404, &[]), None);
    assert!(spans(POINTER, 404, &[LIMN]).is_some());
}

#[test]
fn a_pointer_that_says_up_to_date_is_stale_like_the_end_of_a_log() {
    let said = policy("max-age=60, stale-while-revalidate=3600, stale-if-error=3600");
    assert_eq!(spans(POINTER, 200, &[HANDLE, ENDS, said]), Some((CopyClass::Pointer, 60, 5, 60)));
}

#[test]
fn a_copy_goes_through_its_ages() {
    let pointer: CopyLife = "pointer 10000 60 100 300".parse().unwrap();
    let at = |second: u64| pointer.freshness(10_000 + second * 1_000);
    assert_eq!((pointer.freshness(0), at(0), at(59)), (Freshness::Fresh, Freshness::Fresh, Freshness::Fresh));
    assert_eq!((at(60), at(159)), (Freshness::WhileFetched, Freshness::WhileFetched));
    assert_eq!((at(160), at(359)), (Freshness::WithoutOrigin, Freshness::WithoutOrigin));
    assert_eq!((at(360), pointer.freshness(u64::MAX)), (Freshness::Expired, Freshness::Expired));
    assert_eq!((pointer.left_s(10_000), pointer.left_s(75_000)), (60, -5));
    assert_eq!(pointer.kept_s(), 360);
    let closed = CopyLife { without_origin_s: FOREVER_S, while_fetched_s: 0, ..pointer };
    assert_eq!(closed.freshness(u64::MAX), Freshness::WithoutOrigin);
    assert_eq!(closed.kept_s(), LONGEST_KEPT_S);
}

#[test]
fn an_origin_that_can_be_asked_is_believed() {
    let head: CopyLife = "head 0 1 5 60".parse().unwrap();
    assert!(head.stands_in(Failure::Unreachable, true, 60_999));
    assert!(!head.stands_in(Failure::Unreachable, true, 61_000));
    assert!(!head.stands_in(Failure::Unavailable, true, 10_000));
    let pointer: CopyLife = "pointer 0 60 3600 3600".parse().unwrap();
    assert!(pointer.stands_in(Failure::Unavailable, false, 3_000_000));
}

#[test]
fn lives_are_read_as_they_are_written() {
    for rule in RULES {
        let (fresh_s, while_fetched_s) = (rule.fresh_s.1, rule.while_fetched_s);
        let life = CopyLife {
            class: rule.class,
            stored_ms: 1_700_000_000_000,
            fresh_s,
            while_fetched_s,
            without_origin_s: rule.without_origin_s,
        };
        assert_eq!(life.to_string().parse(), Ok(life));
        assert_eq!(rule.class.rule(), rule);
    }
    for text in [
        "",
        "pointer",
        "pointer 1 2 3",
        "pointer 1 2 3 4 5",
        "other 1 2 3 4",
        "head 1 2 3 x",
        "head  1 2 3 4",
    ] {
        assert_eq!(text.parse::<CopyLife>(), Err(NoCopyLife), "{text}");
    }
}

/// What a class's key is made of: a sample of its requests, and of others that have the same key or another.
fn key_parts(class: CopyClass) -> (&'static str, &'static str) {
    match class {
        CopyClass::Pointer => (POINTER, "shape"),
        CopyClass::Now => (NOW, "shape, `now`"),
        CopyClass::Closed | CopyClass::Head | CopyClass::MustRefetch => (LOG, "shape, handle, offset"),
        CopyClass::Refused => ("table=t", "all that was asked"),
    }
}

#[test]
fn the_guide_shows_this_table() {
    let span = |span_s: u32| match span_s {
        FOREVER_S => "without limit".to_owned(),
        0 => "–".to_owned(),
        days if days % DAY_S == 0 => format!("{} d", days / DAY_S),
        seconds => format!("{seconds} s"),
    };
    for rule in RULES {
        let (sample, key) = key_parts(rule.class);
        let scope = KeyScope { origin_url: "o", secret: None, tenant: None };
        assert!(get(sample).key(scope).is_some(), "{sample}");
        let cells = [
            format!("`{}`", rule.class),
            key.to_owned(),
            format!("{} to {}", span(rule.fresh_s.0), span(rule.fresh_s.1)),
            span(rule.unsaid_fresh_s),
            span(rule.while_fetched_s),
            span(rule.without_origin_s),
        ];
        let row = format!("| {} |", cells.join(" | "));
        assert!(DOCS.lines().any(|line| line.starts_with(&row)), "docs/edge.md lacks `{row}`");
    }
    let rows = DOCS
        .lines()
        .filter(|line| CopyClass::ALL.iter().any(|class| line.starts_with(&format!("| `{class}` | "))));
    assert_eq!(rows.count(), RULES.len());
}

#[test]
fn keys_hold_what_the_table_says() {
    let key = |query: &str| get(query).key(KeyScope { origin_url: "o", secret: None, tenant: None }).unwrap();
    for query in [POINTER, NOW] {
        assert_eq!(key(&format!("{query}&handle=1-1&expired_handle=1-2&cache-buster=1")), key(query));
        assert_ne!(key(&format!("{query}&where=a")), key(query));
    }
    assert_ne!(key(POINTER), key(NOW));
    assert_eq!(key(&format!("{LOG}&expired_handle=1-2")), key(LOG));
    for other in ["table=t&offset=0_1&handle=1001-20", "table=t&offset=0_0&handle=1001-21"] {
        assert_ne!(key(other), key(LOG));
    }
    assert_eq!(get(LOG).pointer(), get(POINTER));
    assert_eq!(get("table=t&offset=1_0&handle=1-1&live=true&live_sse=true&cursor=4").pointer(), get(POINTER));
}
