//! What to do with a request: answer it here, or where to look for its reply and what to ask the origin.

use crate::answer::{Answer, Caller};
use crate::config::Config;
use limn_core::edge::Claims;
use limn_core::protocol::cache_key::{EdgeRequest, KeyScope, RequestClass, Secrets};
use limn_core::protocol::cached_reply::HeaderList;
use limn_core::protocol::query::Query;
use limn_core::protocol::route::route;
use limn_core::protocol::{Coding, Method, auth, header};

/// Where copies lie: below the shape route, so that whatever routes shapes to this worker routes these too,
/// and nobody reads them past it.
const COPIES: &str = "/v1/shape/.cached/";

/// Headers of the request that reach the origin. All others could only change the reply for the wrong
/// reader.
const FORWARDED: [&str; 5] =
    [header::IF_NONE_MATCH, "accept", header::CONTENT_TYPE, "traceparent", "tracestate"];

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Needs neither cache nor origin.
    Answer(Answer),
    /// Needs the origin, unless a copy serves.
    Forward(Forward),
    /// Needs a look at the token first: [`granted`] decides then.
    Judge(Judge),
}

/// A request for a shape whose bearer has to show a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    /// The parsed request.
    pub request: EdgeRequest,
    /// The token that it shows.
    pub token: Option<String>,
}

/// Where a shape's newest handle is asked for, and where its copy lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// The whole address at the origin.
    pub url: String,
    /// The address of the copy in the cache.
    pub copy_url: String,
}

/// A request to the origin, made anew from what was understood of the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The parsed request.
    pub request: EdgeRequest,
    /// The method, as spelled.
    pub method: String,
    /// The whole address at the origin.
    pub url: String,
    /// All headers but those that the platform adds.
    pub headers: HeaderList,
    /// The address of the copy in the cache, where there may be one.
    pub copy_url: Option<String>,
    /// Names the hub that answers it, where one may.
    pub hub_key: Option<String>,
    /// Where the newest handle of the same shape is asked for and kept; behind a handle that may be dead.
    pub pointer: Option<Pointer>,
    /// The body, where it is not the client's own that goes on.
    pub body: Option<String>,
    /// When a live reply has to end, in seconds since 1970.
    pub ends_s: Option<u64>,
}

/// Decides on a request from its method, its address, and its headers by name.
pub fn plan(
    config: &Config,
    caller: &Caller,
    method: &str,
    url: &str,
    request_header: impl Fn(&str) -> Option<String>,
) -> Plan {
    let target = Target::split(url);
    let request = match EdgeRequest::parse(caller.method, target.path, target.query) {
        Ok(request) => request,
        Err(error) => return Plan::Answer(Answer::unreadable(caller, &error)),
    };
    match request.class() {
        RequestClass::Options => {
            Plan::Answer(Answer::preflight(request_header(header::REQUEST_HEADERS).as_deref()))
        }
        RequestClass::Foreign => Plan::Forward(foreign(config, request, method, &target, request_header)),
        _ if config.tokens.is_some() => {
            let authorization = request_header(header::AUTHORIZATION);
            let token = auth::presented_token(request.query(), authorization.as_deref());
            Plan::Judge(Judge { request, token })
        }
        _ => shape(config, caller, request, method, &target, request_header),
    }
}

/// Decides on a request whose token was genuine and says this. `body` is that of a `POST`.
pub fn granted(
    config: &Config,
    caller: &Caller,
    (method, url): (&str, &str),
    request_header: impl Fn(&str) -> Option<String>,
    asked: &EdgeRequest,
    claims: &Claims,
    body: &[u8],
) -> Plan {
    let mut query = asked.query().clone();
    if caller.method == Method::Post
        && let Err(error) = query.merge_body(body)
    {
        return Plan::Answer(Answer::bad_body(&error));
    }
    let request = match claims.grant.judge(caller.method, &query) {
        Ok(query) => asked.with_query(query),
        Err(denied) => return Plan::Answer(Answer::denied(caller, &denied)),
    };
    let scope = KeyScope {
        origin_url: &config.origin_url,
        secret: config.secret.as_deref(),
        tenant: claims.tenant.as_deref(),
    };
    let copies = Copies::new(&request, scope, Target::split(url).site, &request_header);
    let mut headers = forwarded(&request_header, copies.as_ref());
    headers.extend(config.secret.iter().map(|secret| bearer(secret)));
    let (query, body) = match caller.method {
        Method::Post => {
            let (query, body) = request.origin_post(Secrets::Strip);
            (query, Some(body))
        }
        _ => (request.origin_query(Secrets::Strip), None),
    };
    Plan::Forward(Forward {
        method: method.to_owned(),
        url: shape_url(config, &query),
        headers,
        copy_url: copies.as_ref().and_then(|copies| copies.url_of(&request)),
        hub_key: copies.as_ref().and_then(|copies| copies.hub_key(&request)),
        pointer: copies.and_then(|copies| copies.pointer(config, &request, Secrets::Strip)),
        body,
        ends_s: (request.class() == RequestClass::Live).then_some(claims.expires_s),
        request,
    })
}

/// True where nobody but the worker checks who asks.
pub fn is_judged_here(config: &Config, forward: &Forward) -> bool {
    let is_open = !forward.request.has_secret()
        && forward.headers.iter().all(|(name, _)| name != header::AUTHORIZATION);
    config.secret.is_some() || config.tokens.is_some() || is_open
}

/// The same request with other parameters, whose replies are the same for every reader that may be told of them, and are
/// read here.
pub fn with_query(config: &Config, url: &str, forward: &Forward, query: Query) -> Forward {
    let request = forward.request.with_query(query);
    let scope = KeyScope { origin_url: &config.origin_url, secret: config.secret.as_deref(), tenant: None };
    let copies = Copies::new(&request, scope, Target::split(url).site, |_| None);
    let mut headers = forward.headers.clone();
    headers.retain(|(name, _)| name != header::IF_NONE_MATCH && name != header::ACCEPT_ENCODING);
    headers.push((header::ACCEPT_ENCODING.to_owned(), "identity".to_owned()));
    Forward {
        method: forward.method.clone(),
        url: shape_url(config, &request.origin_query(Secrets::Strip)),
        headers,
        copy_url: copies.as_ref().and_then(|copies| copies.url_of(&request)),
        hub_key: copies.as_ref().and_then(|copies| copies.hub_key(&request)),
        pointer: copies.and_then(|copies| copies.pointer(config, &request, Secrets::Strip)),
        body: None,
        ends_s: forward.ends_s,
        request,
    }
}

/// Who asks, from the same.
pub fn caller(method: &str, url: &str, request_header: impl Fn(&str) -> Option<String>) -> Caller {
    let method = Method::from_name(method);
    Caller {
        method,
        route: route(Target::split(url).path).for_method(method),
        origin: request_header(header::ORIGIN),
        if_none_match: request_header(header::IF_NONE_MATCH),
        authorized_by_header: request_header(header::AUTHORIZATION).is_some(),
    }
}

/// A request for a shape: the secret is checked here, where there is one, before anything is looked up.
fn shape(
    config: &Config,
    caller: &Caller,
    request: EdgeRequest,
    method: &str,
    target: &Target<'_>,
    request_header: impl Fn(&str) -> Option<String>,
) -> Plan {
    let authorization = request_header(header::AUTHORIZATION);
    // What the origin must judge for itself is never answered from a copy.
    let is_judged_here = config.secret.is_some() || (authorization.is_none() && !request.has_secret());
    let scope = KeyScope { origin_url: &config.origin_url, secret: config.secret.as_deref(), tenant: None };
    let copies = Copies::new(&request, scope, target.site, &request_header).filter(|_| is_judged_here);
    let mut headers = forwarded(&request_header, copies.as_ref());
    let secrets = match &config.secret {
        Some(secret) => {
            if !auth::authorize(secret, target.query, authorization.as_deref()) {
                return Plan::Answer(Answer::unauthorized(caller));
            }
            headers.push(bearer(secret));
            Secrets::Strip
        }
        None => {
            headers.extend(authorization.map(|value| (header::AUTHORIZATION.to_owned(), value)));
            Secrets::Keep
        }
    };
    Plan::Forward(Forward {
        method: method.to_owned(),
        url: shape_url(config, &request.origin_query(secrets)),
        headers,
        copy_url: copies.as_ref().and_then(|copies| copies.url_of(&request)),
        hub_key: copies.as_ref().and_then(|copies| copies.hub_key(&request)),
        pointer: copies.and_then(|copies| copies.pointer(config, &request, secrets)),
        body: None,
        ends_s: None,
        request,
    })
}

fn shape_url(config: &Config, query: &str) -> String {
    format!("{}/v1/shape?{query}", config.origin_url)
}

/// Where the copies of a request's replies lie: in the coding that its client takes.
struct Copies<'a> {
    scope: KeyScope<'a>,
    site: &'a str,
    coding: Option<Coding>,
    /// Whether the reply itself may be kept.
    is_kept: bool,
}

impl<'a> Copies<'a> {
    /// Nothing where neither the request has a copy nor what it may find out.
    fn new(
        request: &EdgeRequest,
        scope: KeyScope<'a>,
        site: &'a str,
        request_header: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let coding =
            request_header(header::ACCEPT_ENCODING).and_then(|accepted| Coding::preferred(&accepted));
        let is_kept = request.key(scope).is_some();
        let copies = Self { scope, site, coding, is_kept };
        (is_kept || request.class() == RequestClass::Live).then_some(copies)
    }

    fn url_of(&self, request: &EdgeRequest) -> Option<String> {
        let key = request.key(self.scope)?;
        Some(format!("{}{COPIES}{key}/{}", self.site, self.coding.map_or("plain", Coding::as_str)))
    }

    fn hub_key(&self, request: &EdgeRequest) -> Option<String> {
        request.live_key(self.scope).map(|key| key.to_string())
    }

    fn pointer(&self, config: &Config, request: &EdgeRequest, secrets: Secrets) -> Option<Pointer> {
        let may_be_dead = matches!(request.class(), RequestClass::Log | RequestClass::Live);
        let pointer = may_be_dead.then(|| request.pointer())?;
        let url = shape_url(config, &pointer.origin_query(secrets));
        Some(Pointer { url, copy_url: self.url_of(&pointer)? })
    }
}

fn bearer(secret: &str) -> (String, String) {
    (header::AUTHORIZATION.to_owned(), format!("Bearer {secret}"))
}

/// A request that is not for a shape goes on as it came, and never with the worker's own secret.
fn foreign(
    config: &Config,
    request: EdgeRequest,
    method: &str,
    target: &Target<'_>,
    request_header: impl Fn(&str) -> Option<String>,
) -> Forward {
    let question = if target.query.is_empty() { "" } else { "?" };
    Forward {
        request,
        method: method.to_owned(),
        url: format!("{}{}{question}{}", config.origin_url, target.path, target.query),
        headers: forwarded(&request_header, None),
        copy_url: None,
        hub_key: None,
        pointer: None,
        body: None,
        ends_s: None,
    }
}

/// The headers that go on. A reply that is to be kept is asked for as a whole, in one coding; the edge itself tells the
/// client that it has it.
fn forwarded(request_header: &impl Fn(&str) -> Option<String>, copies: Option<&Copies<'_>>) -> HeaderList {
    let sent = |name: &&str| Some(((*name).to_owned(), request_header(name)?));
    let mut headers: HeaderList = FORWARDED.iter().filter_map(sent).collect();
    if let Some(Copies { coding, is_kept: true, .. }) = copies {
        headers.retain(|(name, _)| name != header::IF_NONE_MATCH);
        let coding = coding.map_or("identity", Coding::as_str);
        headers.push((header::ACCEPT_ENCODING.to_owned(), coding.to_owned()));
    }
    headers
}

/// The parts of an address as the platform spells it: absolute, with a path.
struct Target<'a> {
    site: &'a str,
    path: &'a str,
    query: &'a str,
}

impl Forward {
    /// The address of the origin, without path and query.
    #[must_use]
    pub fn origin_url(&self) -> &str {
        Target::split(&self.url).site
    }

    /// The request for the newest handle of the same shape, where this one may have found out that its own is dead.
    #[must_use]
    pub fn pointer(&self) -> Option<Self> {
        let Pointer { url, copy_url } = self.pointer.clone()?;
        Some(Self {
            request: self.request.pointer(),
            method: "GET".to_owned(),
            url,
            headers: self.headers.clone(),
            copy_url: Some(copy_url),
            hub_key: None,
            pointer: None,
            body: None,
            ends_s: None,
        })
    }
}

impl<'a> Target<'a> {
    fn split(url: &'a str) -> Self {
        let url = url.split_once('#').map_or(url, |(url, _)| url);
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let authority_at = address.find("://").map_or(0, |colon| colon.saturating_add(3));
        let path_at = address.bytes().skip(authority_at).position(|byte| byte == b'/');
        let path_at = path_at.map_or(address.len(), |at| at.saturating_add(authority_at));
        let (site, path) = address.split_at_checked(path_at).unwrap_or((address, ""));
        Self { site, path: if path.is_empty() { "/" } else { path }, query }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Keys, Tokens};
    use limn_core::edge::{Bases, Expected, KeySet};

    const POINTER: &str = "https://edge.example/v1/shape?table=t&offset=-1";

    fn config(secret: Option<&str>) -> Config {
        Config {
            origin_url: "http://origin:3000".to_owned(),
            secret: secret.map(str::to_owned),
            tokens: None,
            derive: Bases::default(),
        }
    }

    fn planned(secret: Option<&str>, method: &str, url: &str, headers: &[(&str, &str)]) -> Plan {
        let find = |name: &str| headers.iter().find(|(known, _)| *known == name);
        let header = |name: &str| find(name).map(|(_, value)| (*value).to_owned());
        plan(&config(secret), &caller(method, url, header), method, url, header)
    }

    fn forward(secret: Option<&str>, url: &str, headers: &[(&str, &str)]) -> Forward {
        match planned(secret, "GET", url, headers) {
            Plan::Forward(forward) => forward,
            other => panic!("not forwarded: {other:?}"),
        }
    }

    fn status(plan: &Plan) -> Option<u16> {
        match plan {
            Plan::Answer(answer) => Some(answer.status),
            Plan::Forward(_) | Plan::Judge(_) => None,
        }
    }

    #[test]
    fn addresses_are_split() {
        let parts = |url| {
            let Target { site, path, query } = Target::split(url);
            (site, path, query)
        };
        assert_eq!(parts("http://h:1/a/b?c=/d?#e"), ("http://h:1", "/a/b", "c=/d?"));
        assert_eq!(parts("http://h"), ("http://h", "/", ""));
        assert_eq!(parts("http://h?x"), ("http://h", "/", "x"));
    }

    #[test]
    fn the_origin_is_asked_anew() {
        let url = "http://edge/v1//shape/?offset=-1&utm=1&table=a%20b";
        let headers = [
            ("cookie", "a=b"),
            ("origin", "http://page"),
            ("if-none-match", "\"e\""),
            ("range", "bytes=0-1"),
        ];
        let forward = forward(None, url, &headers);
        assert_eq!(forward.url, "http://origin:3000/v1/shape?offset=-1&table=a%20b");
        assert_eq!(forward.headers, [("accept-encoding".to_owned(), "identity".to_owned())]);
        assert!(forward.copy_url.is_some_and(|url| url.starts_with("http://edge/v1/shape/.cached/")));
    }

    #[test]
    fn each_coding_has_a_copy_of_its_own() {
        let copy = |accepted: &str| forward(None, POINTER, &[("accept-encoding", accepted)]);
        let (brotli, plain) = (copy("br"), copy("identity"));
        assert!(brotli.copy_url.as_deref().is_some_and(|url| url.ends_with("/br")));
        assert_ne!(brotli.copy_url, plain.copy_url);
        assert_eq!(brotli.headers, [("accept-encoding".to_owned(), "br".to_owned())]);
    }

    #[test]
    fn what_may_meet_a_dead_handle_knows_where_the_newest_is_kept() {
        let pointer = forward(None, POINTER, &[]);
        for query in ["offset=1_0&handle=1-2", "offset=1_0&handle=1-2&live=true&cursor=3"] {
            let found =
                forward(None, &format!("https://edge.example/v1/shape?table=t&{query}"), &[]).pointer();
            let found = found.map(|found| (found.url, found.copy_url, found.request));
            assert_eq!(found, Some((pointer.url.clone(), pointer.copy_url.clone(), pointer.request.clone())));
        }
        assert_eq!(pointer.pointer(), None);
    }

    #[test]
    fn with_a_secret_the_edge_judges_and_speaks_for_itself() {
        for (url, headers) in [
            (format!("{POINTER}&secret=s%20t"), vec![]),
            (format!("{POINTER}&api_secret=s%20t"), vec![]),
            (POINTER.to_owned(), vec![("authorization", "Bearer s t")]),
        ] {
            let forward = forward(Some("s t"), &url, &headers);
            assert_eq!(forward.url, "http://origin:3000/v1/shape?offset=-1&table=t");
            assert_eq!(forward.headers.last(), Some(&("authorization".to_owned(), "Bearer s t".to_owned())));
            assert!(forward.copy_url.is_some());
        }
        let urls =
            [POINTER.to_owned(), format!("{POINTER}&secret=x"), format!("{POINTER}&secret=&api_secret=s")];
        for url in urls {
            assert_eq!(status(&planned(Some("s"), "GET", &url, &[])), Some(401), "{url}");
        }
        assert_eq!(status(&planned(Some("s"), "DELETE", "http://edge/v1/%73hape?table=t", &[])), Some(401));
        assert_eq!(status(&planned(Some("s"), "POST", "http://edge//v1/shape?table=t", &[])), Some(401));
    }

    #[test]
    fn without_one_a_credential_goes_past_the_cache_to_the_origin() {
        let by_query = forward(None, &format!("{POINTER}&secret=s%26"), &[]);
        assert_eq!(by_query.url, "http://origin:3000/v1/shape?offset=-1&secret=s%26&table=t");
        assert_eq!(by_query.copy_url, None);
        let by_header = forward(None, POINTER, &[("authorization", "Bearer s")]);
        assert_eq!(by_header.headers, [("authorization".to_owned(), "Bearer s".to_owned())]);
        assert_eq!(by_header.copy_url, None);
    }

    #[test]
    fn the_secret_never_goes_where_it_was_not_asked_for() {
        for (method, url) in [
            ("GET", "http://edge/v1/health?a=1"),
            ("PUT", "http://edge/v1/shape?a=1"),
            ("GET", "http://edge/v1%2Fshape?a=1"),
        ] {
            let headers = [("authorization", "Bearer s")];
            let Plan::Forward(forward) = planned(Some("s"), method, url, &headers) else {
                panic!("answered: {url}");
            };
            assert_eq!((forward.headers, forward.copy_url), (vec![], None), "{url}");
            assert_eq!(forward.url, url.replace("http://edge", "http://origin:3000"));
        }
    }

    #[test]
    fn preflights_need_no_secret() {
        assert_eq!(status(&planned(Some("s"), "OPTIONS", POINTER, &[])), Some(204));
    }

    #[test]
    fn text_that_cannot_be_read_is_refused() {
        assert_eq!(status(&planned(None, "GET", "http://edge/v1/shape?table=%ff", &[])), Some(400));
    }

    fn with_tokens() -> Config {
        let keys = KeySet::of_secret(&[7; 32]).unwrap();
        let tokens = Tokens { keys: Keys::Given(keys), expected: Expected::default() };
        Config { tokens: Some(tokens), ..config(Some("s t")) }
    }

    fn judged(method: &str, url: &str, headers: &[(&str, &str)]) -> Judge {
        let find = |name: &str| headers.iter().find(|(known, _)| *known == name);
        let header = |name: &str| find(name).map(|(_, value)| (*value).to_owned());
        match plan(&with_tokens(), &caller(method, url, header), method, url, header) {
            Plan::Judge(judge) => judge,
            other => panic!("not judged: {other:?}"),
        }
    }

    /// The plan for the bearer of a token with these claims.
    fn allowed(claims: &str, method: &str, url: &str, body: &str) -> Plan {
        let claims = format!(r#"{{"exp":4000000000,{claims}}}"#);
        let claims = Claims::parse(claims.as_bytes(), &Expected::default(), 0).unwrap();
        let judge = judged(method, url, &[]);
        let caller = caller(method, url, |_| None);
        granted(&with_tokens(), &caller, (method, url), |_| None, &judge.request, &claims, body.as_bytes())
    }

    #[test]
    fn whoever_asks_for_a_shape_has_to_show_a_token() {
        assert_eq!(judged("GET", &format!("{POINTER}&token=q"), &[]).token.as_deref(), Some("q"));
        let header = [("authorization", "Bearer h")];
        assert_eq!(judged("DELETE", POINTER, &header).token.as_deref(), Some("h"));
        // The origin's secret is nobody's token.
        assert_eq!(judged("GET", &format!("{POINTER}&secret=s%20t"), &[]).token, None);
    }

    #[test]
    fn what_a_token_imposes_goes_to_the_origin_and_into_the_key() {
        let fence =
            |owner: u32| format!(r#""impose":{{"table":"t","where":"owner = $1","params":[{owner}]}}"#);
        let url = format!("{POINTER}&where=a&token=x");
        let Plan::Forward(one) = allowed(&fence(1), "GET", &url, "") else { panic!("refused") };
        let Plan::Forward(other) = allowed(&fence(2), "GET", &url, "") else { panic!("refused") };
        assert_eq!(
            one.url,
            "http://origin:3000/v1/shape?offset=-1&params[1]=1&table=t&where=%28owner%20%3D%20%241%0A%29%20AND%20%28a%0A%29"
        );
        assert_eq!(one.headers.last(), Some(&("authorization".to_owned(), "Bearer s t".to_owned())));
        assert!(one.copy_url.is_some() && one.copy_url != other.copy_url);
    }

    #[test]
    fn tenants_share_no_copy() {
        let copy = |tenant: &str| {
            let claims = format!(r#""tenant":"{tenant}","shape":{{"table":"t"}}"#);
            match allowed(&claims, "GET", POINTER, "") {
                Plan::Forward(forward) => forward.copy_url,
                other => panic!("not forwarded: {other:?}"),
            }
        };
        assert_ne!(copy("a"), copy("b"));
        assert_eq!(copy("a"), copy("a"));
    }

    #[test]
    fn query_and_body_are_judged_together() {
        let claims = r#""impose":{"table":"t","where":"owner = 1","columns":["id"]}"#;
        let body = r#"{"subset":{"where":"id > 1"},"table":"t","columns":["id"],"where":"true"}"#;
        let Plan::Forward(forward) = allowed(claims, "POST", POINTER, body) else { panic!("refused") };
        assert_eq!(forward.body.as_deref(), Some(r#"{"subset":{"where":"id > 1"}}"#));
        assert!(forward.url.contains("owner%20%3D%201"), "{}", forward.url);
        assert!(forward.url.contains("queryable_columns[]=id"), "{}", forward.url);
        for (body, expected) in [
            (r#"{"table":"secrets"}"#, 403),
            (r#"{"columns":"id,salary"}"#, 403),
            (r#"{"subset":{},"where":"salary > 1"}"#, 403),
            ("{", 400),
            (r#"{"table":["t"]}"#, 400),
        ] {
            assert_eq!(status(&allowed(claims, "POST", POINTER, body)), Some(expected), "{body}");
        }
    }

    #[test]
    fn live_replies_end_with_the_token() {
        let live = "http://edge/v1/shape?table=t&offset=0_0&handle=1-2&live=true";
        let ends = |url| match allowed(r#""shape":{"table":"t"}"#, "GET", url, "") {
            Plan::Forward(forward) => forward.ends_s,
            other => panic!("not forwarded: {other:?}"),
        };
        assert_eq!((ends(live), ends(POINTER)), (Some(4_000_000_000), None));
    }

    #[test]
    fn a_token_neither_deletes_nor_reads_other_tables() {
        let claims = r#""shape":{"table":"t"}"#;
        assert_eq!(status(&allowed(claims, "DELETE", POINTER, "")), Some(403));
        assert_eq!(status(&allowed(claims, "GET", "http://edge/v1/shape?table=u&offset=-1", "")), Some(403));
    }
}
