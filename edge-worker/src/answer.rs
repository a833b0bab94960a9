//! Replies as clients see them: those made here, and the headers that every reply carries.

use limn_core::edge::{Denied, TokenError};
use limn_core::protocol::body::BodyError;
use limn_core::protocol::cached_reply::{CacheStatus, HeaderList};
use limn_core::protocol::query::QueryError;
use limn_core::protocol::reply::Unavailable;
use limn_core::protocol::{CachePolicy, Method, Reply, RequestError, Route, cache, cors, header};

/// How soon a client may try again when the origin did not answer.
const UNREACHABLE_RETRY_S: u64 = 5;

/// What replies depend on beside what was asked: who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The request's method.
    pub method: Method,
    /// The route it resolved to.
    pub route: Route,
    /// The page that asks.
    pub origin: Option<String>,
    /// The versions that the client has.
    pub if_none_match: Option<String>,
    /// Whether there was an `authorization` header.
    pub authorized_by_header: bool,
}

/// A reply made at the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers, without those of [`Caller::finish`].
    pub headers: HeaderList,
    /// The whole body.
    pub body: String,
    /// How the cache took part: hit, miss, or passed by.
    pub cache_status: CacheStatus,
}

impl Caller {
    /// Completes the headers of any reply: what this caller may do and read, and where the reply came from.
    #[must_use]
    pub fn finish(&self, mut headers: HeaderList, cache_status: CacheStatus) -> HeaderList {
        let own = cors::caller_headers(self.route, self.origin.as_deref(), self.authorized_by_header);
        // The origin was not told who asks, so what it says about that is replaced; it may have said more
        // about pages, which are not for every reader alike.
        if self.route != Route::NotFound {
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case(header::VARY));
        }
        headers.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
        headers.push(("cache-status".to_owned(), cache_status.to_string()));
        headers
    }

    /// True where the client has the stored reply already.
    #[must_use]
    pub fn has(&self, stored: &[(String, String)]) -> bool {
        let etag = stored.iter().find(|(name, _)| name == header::ETAG);
        match (etag, &self.if_none_match) {
            (Some((_, etag)), Some(listed)) => cache::lists_etag(listed, etag),
            _ => false,
        }
    }
}

impl Answer {
    /// 204: what a page may send.
    #[must_use]
    pub fn preflight(requested: Option<&str>) -> Self {
        let head = cors::preflight(requested);
        let reply = Reply { head, body: String::new() };
        Self::from_reply(reply, CacheStatus::Made("preflight"))
    }

    /// 401: the secret is missing or wrong.
    #[must_use]
    pub fn unauthorized(caller: &Caller) -> Self {
        let reply = Reply::unauthorized(&CachePolicy::default(), caller.method);
        Self::from_reply(reply, CacheStatus::Made("unauthorized"))
    }

    /// 401: the token is missing or cannot be taken.
    #[must_use]
    pub fn token_refused(caller: &Caller, error: &TokenError) -> Self {
        let reply = Reply::token_refused(&CachePolicy::default(), caller.method, &error.to_string());
        Self::from_reply(reply, CacheStatus::Made("unauthorized"))
    }

    /// 403, or the 400 that the origin would give: the token does not allow this.
    #[must_use]
    pub fn denied(caller: &Caller, denied: &Denied) -> Self {
        if let Denied::BadRequest(error) = denied {
            let reply = Reply::bad_request(&CachePolicy::default(), caller.method, error);
            return Self::from_reply(reply, CacheStatus::Made("bad-request"));
        }
        let reply = Reply::forbidden(&CachePolicy::default(), caller.method, &denied.to_string());
        Self::from_reply(reply, CacheStatus::Made("forbidden"))
    }

    /// 400 or 413: the body holds no parameters.
    #[must_use]
    pub fn bad_body(error: &BodyError) -> Self {
        Self::from_reply(Reply::bad_body(&CachePolicy::default(), error), CacheStatus::Made("bad-request"))
    }

    /// 503: the keys that tokens are checked with cannot be read.
    #[must_use]
    pub fn keys_unreachable(caller: &Caller) -> Self {
        let status = CacheStatus::Made("keys-unreachable");
        Self::unavailable(caller.method, "The keys that tokens are signed with cannot be read", status)
    }

    /// 400: the query is no text.
    #[must_use]
    pub fn unreadable(caller: &Caller, error: &QueryError) -> Self {
        let error = RequestError::new("query", error.to_string());
        let reply = Reply::bad_request(&CachePolicy::default(), caller.method, &error);
        Self::from_reply(reply, CacheStatus::Made("bad-request"))
    }

    /// 503: the origin did not answer, or something between here and there answered for it.
    #[must_use]
    pub fn unreachable(caller: &Caller, cache_status: CacheStatus) -> Self {
        Self::unavailable(caller.method, "The origin cannot be reached", cache_status)
    }

    /// 503: the deployment is not complete; the text says what is missing.
    #[must_use]
    pub fn misconfigured(caller: &Caller, reason: &str) -> Self {
        Self::unavailable(caller.method, reason, CacheStatus::Made("misconfigured"))
    }

    fn unavailable(method: Method, message: &str, cache_status: CacheStatus) -> Self {
        let state = Unavailable::new(message, UNREACHABLE_RETRY_S);
        Self::from_reply(Reply::unavailable(&CachePolicy::default(), method, &state), cache_status)
    }

    fn from_reply(reply: Reply, cache_status: CacheStatus) -> Self {
        // Nothing made here is for any cache; and the platform keeps its own connections.
        let dropped = [header::CLOUDFLARE_CACHE_CONTROL, header::CONNECTION];
        let kept = reply.head.headers.into_iter().filter(|(name, _)| !dropped.contains(name));
        let headers = kept.map(|(name, value)| (name.to_owned(), value)).collect();
        Self { status: reply.head.status, headers, body: reply.body, cache_status }
    }
}

/// True for a status by which something between here and the origin says that it was not reached.
#[must_use]
pub const fn means_unreachable(status: u16) -> bool {
    matches!(status, 502 | 504 | 520..=530)
}

/// True for a status that this platform lets a worker answer with.
#[must_use]
pub const fn is_answerable(status: u16) -> bool {
    matches!(status, 200..=599)
}

/// True for a status whose reply has no body.
#[must_use]
pub const fn is_bodiless(status: u16) -> bool {
    matches!(status, 204 | 205 | 304)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(route: Route) -> Caller {
        Caller {
            method: Method::Get,
            route,
            origin: Some("http://page".to_owned()),
            if_none_match: Some("\"a\", \"b\"".to_owned()),
            authorized_by_header: false,
        }
    }

    fn values<'a>(headers: &'a HeaderList, wanted: &str) -> Vec<&'a str> {
        headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn every_reply_speaks_to_its_caller() {
        let origins = vec![("vary".to_owned(), "accept-encoding".to_owned())];
        let headers = caller(Route::Shape).finish(origins.clone(), CacheStatus::Hit { ttl_s: 1 });
        assert_eq!(values(&headers, "access-control-allow-origin"), ["http://page"]);
        assert_eq!(values(&headers, "vary"), ["accept-encoding, origin"]);
        assert_eq!(values(&headers, "cache-status"), ["limn-edge; hit; ttl=1"]);
        let headers = caller(Route::NotFound).finish(origins, CacheStatus::Bypass);
        assert_eq!(values(&headers, "vary"), ["accept-encoding", "accept-encoding, origin"]);
    }

    #[test]
    fn a_client_that_has_the_copy_is_told_so() {
        let stored = |etag: &str| vec![("etag".to_owned(), etag.to_owned())];
        assert!(caller(Route::Shape).has(&stored("\"b\"")));
        assert!(!caller(Route::Shape).has(&stored("\"c\"")));
        assert!(!caller(Route::Shape).has(&[]));
    }

    #[test]
    fn preflights_grant() {
        let answer = Answer::preflight(Some("authorization"));
        assert_eq!(answer.status, 204);
        assert_eq!(values(&answer.headers, "access-control-allow-headers"), ["authorization"]);
        assert_eq!(values(&answer.headers, "access-control-max-age"), ["86400"]);
    }

    #[test]
    fn failures_are_json_and_for_no_cache() {
        let answer = Answer::unreachable(&caller(Route::Shape), CacheStatus::Bypass);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (503, r#"{"message":"The origin cannot be reached"}"#)
        );
        assert_eq!(values(&answer.headers, "retry-after"), ["5"]);
        assert_eq!(values(&answer.headers, "cache-control"), ["no-store"]);
        assert_eq!(values(&answer.headers, "cloudflare-cdn-cache-control"), [""; 0]);
        let answer = Answer::unauthorized(&caller(Route::Shape));
        assert_eq!(answer.body, r#"{"message":"Unauthorized - Invalid API secret"}"#);
        assert_eq!(values(&answer.headers, "cache-control"), ["max-age=0, private, must-revalidate"]);
    }
}
