//! How the edge reads a request: its class, the key of its cached reply, and the query it asks the
//! origin. The key names the request as spelled; which shape it means only the origin can say.
//!
//! The edge worker's `plan` asks for the key; what is done under it, [`cached_reply`](super::cached_reply) decides.

use super::auth::is_secret;
use super::parameter::{Parameter, Part, SUBSET_PREFIX};
use super::query::{Query, QueryError, Value};
use super::route::{Method, Route, route};
use crate::Offset;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;

/// Bytes that are spelled as they are: letters, digits and the marks that mean nothing in a query.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b',').remove(b':');

/// Where in the log a request is, and how it waits.
const PLACES: [Parameter; 5] = [
    Parameter::Offset,
    Parameter::Live,
    Parameter::LiveSse,
    Parameter::ExperimentalLiveSse,
    Parameter::Cursor,
];

/// Raised when a stored reply's form changes, so that older copies are never read again.
const KEY_VERSION: &str = "limn-edge-3";

/// A request on its way through the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeRequest {
    method: Method,
    class: RequestClass,
    query: Query,
}

/// The kind of reply that a request calls for, as far as its text can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestClass {
    /// `offset=-1`: the current handle and the first chunk.
    Pointer,
    /// A handle and an offset: a closed chunk, or the open end; the reply tells which.
    Log,
    /// `offset=now`
    Now,
    /// Long poll or event stream.
    Live,
    /// A read of rows beside the log, and every `POST`.
    Subset,
    /// `DELETE`
    Delete,
    /// A CORS preflight.
    Options,
    /// A request that the origin will refuse.
    Other,
    /// Not a request for a shape: another route, or a method that the shape route does not know.
    Foreign,
}

/// Names one cached reply: a collision cannot be constructed, so that nobody can plant a reply under
/// somebody else's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestKey([u8; 32]);

/// What keys are kept apart by, beside the request itself: replies of one origin or secret are never
/// served under another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyScope<'a> {
    /// Where the replies come from.
    pub origin_url: &'a str,
    /// The secret that readers must know, if any.
    pub secret: Option<&'a str>,
    /// The tenant that the reader's token names, if any.
    pub tenant: Option<&'a str>,
}

/// The edge's treatment of the secrets in a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// The edge has checked them and speaks for itself.
    Strip,
    /// The origin checks them.
    Keep,
}

/// The edge's treatment of a parameter, as follows from [`Part`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// Says which reply is wanted.
    Key,
    /// Says that a cached reply was of no use.
    Buster,
    /// Says who asks.
    Secret,
    /// Means nothing to the origin.
    Unknown,
}

impl EdgeRequest {
    /// Reads a request line: the method, and the target without its query and the query without `?`.
    ///
    /// # Errors
    /// The query of a request for a shape is not UTF-8 once decoded.
    pub fn parse(method: Method, path: &str, raw_query: &str) -> Result<Self, QueryError> {
        if route(path).for_method(method) != Route::Shape {
            return Ok(Self { method, class: RequestClass::Foreign, query: Query::default() });
        }
        let query = Query::parse(raw_query)?;
        Ok(Self { method, class: classify(method, &query), query })
    }

    /// The request with other parameters: those that a token allows.
    #[must_use]
    pub fn with_query(&self, query: Query) -> Self {
        Self { method: self.method, class: classify(self.method, &query), query }
    }

    /// The request's class.
    #[must_use]
    pub const fn class(&self) -> RequestClass {
        self.class
    }

    /// The parameters, all of them.
    #[must_use]
    pub const fn query(&self) -> &Query {
        &self.query
    }

    /// The requested handle.
    #[must_use]
    pub fn handle(&self) -> Option<&str> {
        self.text(Parameter::Handle)
    }

    /// The handle that the client knows to be dead.
    #[must_use]
    pub fn expired_handle(&self) -> Option<&str> {
        self.text(Parameter::ExpiredHandle)
    }

    /// True when the client refuses every cached reply.
    #[must_use]
    pub fn has_cache_buster(&self) -> bool {
        self.query.value(Parameter::CacheBuster).is_some()
    }

    /// True when the query holds anything that looks like a secret.
    #[must_use]
    pub fn has_secret(&self) -> bool {
        self.query.iter().any(|(name, _)| treatment(name, self.class) == Treatment::Secret)
    }

    /// Where a cached reply would be; nothing where none may be kept.
    #[must_use]
    pub fn key(&self, scope: KeyScope<'_>) -> Option<RequestKey> {
        let cacheable = self.method == Method::Get
            && matches!(
                self.class,
                RequestClass::Pointer | RequestClass::Log | RequestClass::Now | RequestClass::Other
            );
        cacheable.then(|| {
            let request = self.spell(|treatment| treatment == Treatment::Key);
            request_key(scope, &request)
        })
    }

    /// Names what a live request waits for: the shape and its handle, wherever in its log the client is. Nothing where it
    /// does not say both, which the origin refuses.
    #[must_use]
    pub fn live_key(&self, scope: KeyScope<'_>) -> Option<RequestKey> {
        if self.method != Method::Get || self.class != RequestClass::Live {
            return None;
        }
        self.handle()?;
        self.offset()?;
        self.wants_events()?;
        let mut query = self.query.clone();
        PLACES.iter().for_each(|place| query.set(*place, None));
        let followed = self.with_query(query).spell(|treatment| treatment == Treatment::Key);
        Some(request_key(scope, &format!("live&{followed}")))
    }

    /// The same request at another place of the log: a long poll, or one that does not wait.
    #[must_use]
    pub fn moved_to(&self, offset: Offset, live: bool, cursor: Option<&str>) -> Self {
        let mut query = self.query.clone();
        PLACES.iter().for_each(|place| query.set(*place, None));
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        query.set(Parameter::Offset, text(&offset.to_string()));
        query.set(Parameter::Live, text("true").filter(|_| live));
        query.set(Parameter::Cursor, cursor.filter(|_| live).and_then(text));
        self.with_query(query)
    }

    /// The offset that a request names, other than `now`.
    #[must_use]
    pub fn offset(&self) -> Option<Offset> {
        self.text(Parameter::Offset)?.parse().ok().filter(|offset| *offset != Offset::Start)
    }

    /// The cursor that a live request repeats.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.text(Parameter::Cursor)
    }

    /// True where the reply is to be a stream of events, false where not; nothing where only the origin can tell.
    #[must_use]
    pub fn wants_events(&self) -> Option<bool> {
        let flags = [Parameter::LiveSse, Parameter::ExperimentalLiveSse].map(|flag| self.query.value(flag));
        match flags {
            [Some(Value::Text(flag)), _] | [None, Some(Value::Text(flag))] if flag == "true" => Some(true),
            [Some(Value::Text(flag)), _] | [None, Some(Value::Text(flag))] if flag == "false" => Some(false),
            [None, None] => Some(false),
            _ => None,
        }
    }

    /// The request for the newest handle of the same shape, by a client that has none.
    #[must_use]
    pub fn pointer(&self) -> Self {
        let mut query = self.query.clone();
        let gone = [Parameter::Handle, Parameter::ExpiredHandle, Parameter::CacheBuster];
        gone.into_iter().chain(PLACES).for_each(|parameter| query.set(parameter, None));
        query.set(Parameter::Offset, Some(Value::Text(Offset::Start.to_string())));
        Self { method: Method::Get, class: RequestClass::Pointer, query }
    }

    /// The query and the body of a `POST` to the origin, spelled anew from both.
    #[must_use]
    pub fn origin_post(&self, secrets: Secrets) -> (String, String) {
        let mut others = self.clone();
        others.query.remove_subset();
        (others.origin_query(secrets), self.query.subset_body())
    }

    /// The query to send to the origin, spelled anew from what was parsed: what is asked is what is keyed.
    #[must_use]
    pub fn origin_query(&self, secrets: Secrets) -> String {
        self.spell(|treatment| match treatment {
            Treatment::Key | Treatment::Buster => true,
            Treatment::Secret => secrets == Secrets::Keep,
            Treatment::Unknown => false,
        })
    }

    fn text(&self, parameter: Parameter) -> Option<&str> {
        self.query.text(parameter).ok().flatten()
    }

    /// The parameters that are treated as chosen, in the order of their names.
    fn spell(&self, chosen: impl Fn(Treatment) -> bool) -> String {
        let mut out = String::new();
        for (name, value) in self.query.iter() {
            if chosen(treatment(name, self.class)) {
                spell_value(&encode(name).to_string(), value, &mut out);
            }
        }
        out
    }
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Hashes the parts with their lengths, so that no two lists of parts read the same.
fn request_key(scope: KeyScope<'_>, request: &str) -> RequestKey {
    let mut hash = Sha256::new();
    let (secret, tenant) = (scope.secret.unwrap_or_default(), scope.tenant.unwrap_or_default());
    for part in [KEY_VERSION, scope.origin_url, secret, tenant, request] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    RequestKey(hash.finalize().into())
}

fn classify(method: Method, query: &Query) -> RequestClass {
    let text = |parameter| query.text(parameter).ok().flatten();
    match method {
        Method::Options => return RequestClass::Options,
        Method::Delete => return RequestClass::Delete,
        Method::Post => return RequestClass::Subset,
        Method::Get | Method::Head => {}
        Method::Other => return RequestClass::Other,
    }
    if query.asks_for_subset() {
        return RequestClass::Subset;
    }
    // Any value but the literal `false` means live (protocol §2.1).
    if query.value(Parameter::Live).is_some_and(|value| *value != Value::Text("false".to_owned())) {
        return RequestClass::Live;
    }
    match text(Parameter::Offset) {
        Some("now") => RequestClass::Now,
        Some(offset) => match offset.parse() {
            Ok(Offset::Start) => RequestClass::Pointer,
            Ok(Offset::At { .. }) if text(Parameter::Handle).is_some() => RequestClass::Log,
            _ => RequestClass::Other,
        },
        None => RequestClass::Other,
    }
}

fn treatment(name: &str, class: RequestClass) -> Treatment {
    match Parameter::from_name(name) {
        // At `-1` and `now` a handle has no meaning; clients send it to get past a cache.
        Some(Parameter::Handle) if matches!(class, RequestClass::Pointer | RequestClass::Now) => {
            Treatment::Buster
        }
        Some(parameter) => match parameter.part() {
            Part::Definition | Part::Position | Part::Subset => Treatment::Key,
            Part::Cache => Treatment::Buster,
            Part::Secret => Treatment::Secret,
        },
        None if name.starts_with(SUBSET_PREFIX) => Treatment::Key,
        None if is_secret(name) => Treatment::Secret,
        None => Treatment::Unknown,
    }
}

fn encode(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, ENCODED)
}

/// Appends `name=value`, or as many pairs as a list or a map has entries.
fn spell_value(name: &str, value: &Value, out: &mut String) {
    match value {
        Value::Text(text) => {
            if !out.is_empty() {
                out.push('&');
            }
            out.push_str(name);
            out.push('=');
            out.extend(encode(text));
        }
        Value::List(items) => items.iter().for_each(|item| spell_value(&format!("{name}[]"), item, out)),
        Value::Map(entries) => spell_map(name, entries, out),
    }
}

fn spell_map(name: &str, entries: &BTreeMap<String, Value>, out: &mut String) {
    for (key, value) in entries {
        spell_value(&format!("{name}[{}]", encode(key)), value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SCOPE: KeyScope<'_> = KeyScope { origin_url: "http://origin:3000", secret: None, tenant: None };

    fn get(query: &str) -> EdgeRequest {
        EdgeRequest::parse(Method::Get, "/v1/shape", query).unwrap()
    }

    fn key(query: &str) -> RequestKey {
        get(query).key(SCOPE).unwrap()
    }

    #[test]
    fn classes() {
        let class = |query: &str| get(query).class();
        assert_eq!(class("table=t&offset=-1"), RequestClass::Pointer);
        assert_eq!(class("table=t&offset=-1&handle=1-2&live=false"), RequestClass::Pointer);
        assert_eq!(class("table=t&offset=0_0&handle=1-2"), RequestClass::Log);
        assert_eq!(class("table=t&offset=9_inf&handle=1-2"), RequestClass::Log);
        assert_eq!(class("table=t&offset=now"), RequestClass::Now);
        assert_eq!(class("table=t&offset=0_0&handle=1-2&live"), RequestClass::Live);
        assert_eq!(class("table=t&offset=-1&live=true"), RequestClass::Live);
        assert_eq!(class("table=t&offset=-1&subset__limit=1"), RequestClass::Subset);
        for refused in
            ["", "table=t", "offset=0_0", "offset=x&handle=1-2", "offset=&handle=1-2", "offset[]=-1"]
        {
            assert_eq!(class(refused), RequestClass::Other, "{refused}");
        }
    }

    #[test]
    fn all_who_follow_a_shape_share_a_live_key() {
        let live_key = |query: &str| get(query).live_key(SCOPE);
        let shape = "table=t&where=a%3D1&handle=1-2&live=true";
        let first = live_key(&format!("{shape}&offset=0_0")).unwrap();
        for same in
            ["offset=9_4&cursor=7", "offset=0_inf&live_sse=true", "cursor=1&offset=5_0&unknown=1&secret=s"]
        {
            assert_eq!(live_key(&format!("{shape}&{same}")), Some(first), "{same}");
        }
        for other in [
            "table=t&where=a%3D2&handle=1-2&live=true&offset=0_0",
            "table=t&where=a%3D1&handle=1-3&live=true&offset=0_0",
            "table=t&where=a%3D1&handle=1-2&live=true&offset=0_0&replica=full",
        ] {
            assert_ne!(live_key(other).unwrap(), first, "{other}");
        }
        for nobodys in [
            "table=t&handle=1-2&offset=0_0",
            "table=t&live=true&offset=0_0",
            "table=t&handle=1-2&live=true&offset=now",
            "table=t&handle=1-2&live=true&offset=-1",
            "table=t&handle=1-2&live=true&offset=0_0&live_sse=maybe",
        ] {
            assert_eq!(live_key(nobodys), None, "{nobodys}");
        }
        // A poll is never served under the key of a chunk.
        assert_ne!(key("table=t&where=a%3D1&handle=1-2&offset=0_0"), first);
    }

    #[test]
    fn a_request_is_moved_along_the_log() {
        let request = get("table=t&handle=1-2&live=true&live_sse=true&offset=0_0&cursor=3");
        let spelled = |request: EdgeRequest| request.origin_query(Secrets::Strip);
        let poll = request.moved_to(Offset::new(9, 4), true, Some("8"));
        assert_eq!(spelled(poll), "cursor=8&handle=1-2&live=true&offset=9_4&table=t");
        let head = request.moved_to(Offset::new(9, 4), false, Some("8"));
        assert_eq!(spelled(head), "handle=1-2&offset=9_4&table=t");
    }

    #[test]
    fn classes_of_other_methods_and_routes() {
        let class = |method: &str, path: &str| {
            EdgeRequest::parse(Method::from_name(method), path, "offset=-1&table=t").unwrap().class()
        };
        assert_eq!(class("HEAD", "/v1/shape"), RequestClass::Pointer);
        assert_eq!(class("GET", "/v1//%73hape/"), RequestClass::Pointer);
        assert_eq!(class("POST", "/v1/shape"), RequestClass::Subset);
        assert_eq!(class("DELETE", "/v1/shape"), RequestClass::Delete);
        assert_eq!(class("OPTIONS", "/v1/shape"), RequestClass::Options);
        assert_eq!(class("PUT", "/v1/shape"), RequestClass::Foreign);
        assert_eq!(class("GET", "/v1/health"), RequestClass::Foreign);
        assert_eq!(class("OPTIONS", "/nope"), RequestClass::Foreign);
    }

    #[test]
    fn only_reads_of_the_log_and_what_is_refused_have_a_key() {
        for query in ["offset=now&table=t", "offset=1_2"] {
            assert!(get(query).key(SCOPE).is_some(), "{query}");
        }
        for query in ["offset=-1&live=true", "subset__limit=1&offset=-1"] {
            assert_eq!(get(query).key(SCOPE), None, "{query}");
        }
        let head = EdgeRequest::parse(Method::Head, "/v1/shape", "offset=-1&table=t").unwrap();
        assert_eq!(head.key(SCOPE), None);
    }

    #[test]
    fn spelling_that_means_nothing_does_not_matter() {
        let plain = key("table=t&where=a%3D1&params[1]=x&params[2]=y&offset=0_0&handle=1-2");
        for same in [
            "offset=0_0&params[2]=y&handle=1-2&params[1]=x&where=a%3D1&table=t",
            "table=u&table=t&wh%65re=a=1&params%5B1%5D=x&params[2]=z&params[2]=y&offset=0_0&handle=1-2",
            "&table=t&where=a%3D1&params[1]=x&params[2]=y&offset=0_0&handle=1-2&utm=1&expired_handle=9-9",
            "table=t&where=a%3D1&params[1]=x&params[2]=y&offset=0_0&handle=1-2&secret=s&TOKEN=t&cache-buster=4",
        ] {
            assert_eq!(key(same), plain, "{same}");
        }
    }

    #[test]
    fn whatever_the_origin_may_distinguish_is_kept_apart() {
        let requests = [
            "table=t&offset=-1",
            "table=T&offset=-1",
            "table=t&offset=-1_0",
            "table=t&offset=-1&replica=full",
            "table=t&offset=-1&where=a",
            "table=t&offset=-1&where=a%20",
            "table=t&offset=-1&params[1]=where",
            "table=t&offset=-1&params=1",
            "table=t&offset=-1&params[]=1",
            "table=t&offset=-1&params[1][2]=1",
            "table=t&offset=-1&columns=a,b",
            "table=t&offset=-1&columns=b,a",
            "table=t&offset=-1&columns[]=a&columns[]=b",
            "table=t&offset=-1&live=false",
            "table=t&offset=-1&live_sse=true",
            "table=t&offset=0_0&handle=1-2",
            "table=t&offset=0_0&handle=1-3",
            "table=t&offset=0_1&handle=1-2",
        ];
        for (at, one) in requests.iter().enumerate() {
            for other in &requests[at + 1..] {
                assert_ne!(key(one), key(other), "{one} and {other}");
            }
        }
    }

    #[test]
    fn a_handle_at_the_start_is_a_buster() {
        assert_eq!(key("table=t&offset=-1&handle=1-2"), key("table=t&offset=-1"));
        assert_eq!(get("table=t&offset=-1&handle=1-2").handle(), Some("1-2"));
    }

    #[test]
    fn origins_secrets_and_tenants_do_not_share_keys() {
        let request = get("table=t&offset=-1");
        let other_origin = KeyScope { origin_url: "http://origin:3001", ..SCOPE };
        let other_secret = KeyScope { secret: Some("s"), ..SCOPE };
        assert_ne!(request.key(SCOPE), request.key(other_origin));
        assert_ne!(request.key(SCOPE), request.key(other_secret));
        let tenant = KeyScope { tenant: Some("s"), ..SCOPE };
        assert_ne!(request.key(SCOPE), request.key(tenant));
        assert_ne!(request.key(other_secret), request.key(tenant));
    }

    #[test]
    fn the_origin_is_asked_for_what_was_parsed() {
        let request =
            get("where=a%3D'%C3%A4'&utm=1&secret=s%26&offset=-1&table=t&cache-buster=1&params[1]=a+b");
        assert_eq!(
            request.origin_query(Secrets::Strip),
            "cache-buster=1&offset=-1&params[1]=a%20b&table=t&where=a%3D%27%C3%A4%27"
        );
        assert!(request.origin_query(Secrets::Keep).contains("&secret=s%26&"));
        assert!(request.has_secret() && !get("table=t").has_secret());
    }

    #[test]
    fn a_post_is_spelled_anew_in_two_parts() {
        let mut query = Query::parse("table=t&where=a&offset=-1&secret=s&utm=1").unwrap();
        query.merge_body(br#"{"subset":{"where":"b","limit":2}}"#).unwrap();
        let post = EdgeRequest::parse(Method::Post, "/v1/shape", "").unwrap().with_query(query);
        assert_eq!(
            post.origin_post(Secrets::Strip),
            ("offset=-1&table=t&where=a".to_owned(), r#"{"subset":{"limit":"2","where":"b"}}"#.to_owned())
        );
    }

    #[test]
    fn text_outside_utf8_is_refused() {
        assert_eq!(EdgeRequest::parse(Method::Get, "/v1/shape", "table=%ff"), Err(QueryError));
        assert!(EdgeRequest::parse(Method::Get, "/page", "table=%ff").is_ok());
    }

    #[cfg(not(target_arch = "wasm32"))]
    proptest::proptest! {
        #[test]
        fn spelling_anew_changes_no_meaning(raw in r"((table|where|params|columns|offset|handle)(\[[a\[\]1]{0,3}\]){0,6}=([a-c=+ä\[\]]|%26|%41|%z){0,4}&){0,6}") {
            let request = get(&raw);
            let again = get(&request.origin_query(Secrets::Keep));
            proptest::prop_assert_eq!(again, request);
        }
    }
}
