//! Replies that carry no log: refusals, failures, and the small routes beside the shape route.

use super::{Reply, ReplyHead};
use crate::Handle;
use crate::protocol::body::BodyError;
use crate::protocol::cache::{CachePolicy, ReplyKind, must_refetch_etag};
use crate::protocol::fault_code::FaultCode;
use crate::protocol::header;
use crate::protocol::message::MUST_REFETCH_BODY;
use crate::protocol::refusal::RequestError;
use crate::protocol::route::Method;
use serde_json::json;

/// A state that passes by itself: the client should try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// For people; clients do not parse it.
    pub message: String,
    /// The least that a client should wait.
    pub retry_after_s: u64,
    /// For programs, where there is one.
    pub code: Option<&'static str>,
    /// Whether the failure is one that the protocol marks as known (admission, snapshots).
    pub known: bool,
}

/// How many tables a health reply lists; of further ones it gives the number.
pub const DEGRADED_MAX: usize = 100;

/// A table with something wrong, while other tables are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DegradedTable {
    /// Schema and name, quoted for SQL only where they must be.
    pub table: String,
    /// For programs.
    pub code: FaultCode,
    /// A sentence for the operator: the fault, and the SQL that mends it.
    pub message: String,
}

/// Whether shapes are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// They are.
    Active,
    /// Another instance serves them.
    Waiting,
    /// Not yet, or Postgres is away.
    Starting,
    /// Not until somebody mends what the code names.
    Unsound(FaultCode),
    /// Not for long: the server was asked to end.
    Stopping,
}

impl Unavailable {
    /// A plain 503.
    #[must_use]
    pub fn new(message: impl Into<String>, retry_after_s: u64) -> Self {
        Self { message: message.into(), retry_after_s, code: None, known: false }
    }
}

impl Reply {
    /// 409: the client starts again, with the successor's handle where there is one.
    #[must_use]
    pub fn must_refetch(policy: &CachePolicy, method: Method, successor: Option<Handle>) -> Self {
        let kind = ReplyKind::MustRefetch { has_handle: successor.is_some() };
        let mut reply = Self::json(policy, method, kind, 409, MUST_REFETCH_BODY.to_owned());
        if let Some(handle) = successor {
            reply =
                reply.with(header::HANDLE, handle.to_string()).with(header::ETAG, must_refetch_etag(handle));
        }
        reply
    }

    /// 400: the parameters at fault.
    #[must_use]
    pub fn bad_request(policy: &CachePolicy, method: Method, error: &RequestError) -> Self {
        Self::json(policy, method, ReplyKind::Failure, 400, error.body())
    }

    /// 400 or 413: the body holds no parameters.
    #[must_use]
    pub fn bad_body(policy: &CachePolicy, error: &BodyError) -> Self {
        Self::json(policy, Method::Post, ReplyKind::Unrouted, error.status(), error.body())
    }

    /// 401: the secret is missing or wrong.
    #[must_use]
    pub fn unauthorized(policy: &CachePolicy, method: Method) -> Self {
        Self::message(policy, method, ReplyKind::Unrouted, 401, "Unauthorized - Invalid API secret")
    }

    /// 401: the token is missing or cannot be taken; in the words of RFC 6750 §3.
    #[must_use]
    pub fn token_refused(policy: &CachePolicy, method: Method, reason: &str) -> Self {
        Self::message(policy, method, ReplyKind::Unrouted, 401, reason)
            .with(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"".to_owned())
    }

    /// 403: the token is genuine, and does not allow this.
    #[must_use]
    pub fn forbidden(policy: &CachePolicy, method: Method, reason: &str) -> Self {
        Self::message(policy, method, ReplyKind::Unrouted, 403, reason)
    }

    /// 431 or 400: the request's head is too large, or no HTTP. `bytes_max` is the size that is allowed.
    #[must_use]
    pub fn unreadable_head(policy: &CachePolicy, status: u16, bytes_max: usize) -> Self {
        let message = match status {
            400 => "The request is not valid HTTP. In a URL, blanks, quotes, `<` and `>` must be percent-encoded: \
                    `where=id>0` is written `where=id%3E0`"
                .to_owned(),
            _ => format!(
                "The request line and headers are longer than {bytes_max} bytes, or there are more than 100 headers. \
                 Send long parameters in the body of a POST, and no cookies"
            ),
        };
        Self::message(policy, Method::Get, ReplyKind::Failure, status, &message)
    }

    /// 404: no such route.
    #[must_use]
    pub fn not_found(policy: &CachePolicy, method: Method) -> Self {
        Self::message(policy, method, ReplyKind::Unrouted, 404, "Not found")
    }

    /// 500: a fault of ours, or a query that Postgres refused.
    #[must_use]
    pub fn failed(policy: &CachePolicy, method: Method, message: &str) -> Self {
        Self::message(policy, method, ReplyKind::Failure, 500, message)
    }

    /// 503: a state that passes.
    #[must_use]
    pub fn unavailable(policy: &CachePolicy, method: Method, state: &Unavailable) -> Self {
        let body = match state.code {
            Some(code) => json!({ "code": code, "message": state.message }),
            None => json!({ "message": state.message }),
        };
        let reply = Self::json(policy, method, ReplyKind::Failure, 503, body.to_string())
            .with(header::RETRY_AFTER, state.retry_after_s.to_string());
        if state.known { reply.with(header::KNOWN_ERROR, "true".to_owned()) } else { reply }
    }

    /// 202: the shape is deleted.
    #[must_use]
    pub fn deleted(policy: &CachePolicy) -> Self {
        // Nothing here may be kept: the status is good news, the policy is that of a failure.
        Self::json(policy, Method::Delete, ReplyKind::Failure, 202, String::new())
            .with(header::HAS_DATA, "true".to_owned())
    }

    /// 405: deleting is not enabled.
    #[must_use]
    pub fn delete_not_allowed(policy: &CachePolicy) -> Self {
        Self::message(policy, Method::Delete, ReplyKind::Failure, 405, "DELETE not allowed")
    }

    /// 404: nothing to delete.
    #[must_use]
    pub fn no_such_shape(policy: &CachePolicy) -> Self {
        Self::message(policy, Method::Delete, ReplyKind::Failure, 404, "No existing shape found")
    }

    /// 400: the definition to delete has a shape, under another handle than the one given.
    #[must_use]
    pub fn handle_mismatch(policy: &CachePolicy) -> Self {
        let message = "The specified shape definition and handle do not match. \
                       Please ensure the shape definition is correct or omit the shape handle \
                       from the request to obtain a new one.";
        Self::message(policy, Method::Delete, ReplyKind::Failure, 400, message)
    }

    /// 200 with an empty body: `GET /`.
    #[must_use]
    pub fn root(policy: &CachePolicy) -> Self {
        let headers = policy.headers(Method::Get, ReplyKind::Unrouted);
        Self { head: ReplyHead { status: 200, headers }, body: String::new() }
    }

    /// The reply of `/v1/health`. `degraded` are the tables with something wrong; they are listed while other tables
    /// are served.
    #[must_use]
    pub fn health(health: Health, degraded: &[DegradedTable]) -> Self {
        let (status, mut body) = match health {
            Health::Active => (200, json!({ "status": "active" })),
            Health::Waiting => (202, json!({ "status": "waiting" })),
            Health::Starting => (202, json!({ "status": "starting" })),
            Health::Unsound(code) => (503, json!({ "status": "unsound", "code": code.as_str() })),
            Health::Stopping => (503, json!({ "status": "stopping" })),
        };
        if matches!(health, Health::Active | Health::Waiting) && !degraded.is_empty() {
            let entry = |entry: &DegradedTable| json!({ "table": entry.table, "code": entry.code.as_str(), "message": entry.message });
            body["degraded"] = degraded.iter().take(DEGRADED_MAX).map(entry).collect();
            if degraded.len() > DEGRADED_MAX {
                body["degraded_count"] = json!(degraded.len());
            }
        }
        let headers = vec![
            (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate".to_owned()),
            (header::CONTENT_TYPE, header::JSON.to_owned()),
        ];
        Self { head: ReplyHead { status, headers }, body: body.to_string() }
    }

    fn message(policy: &CachePolicy, method: Method, kind: ReplyKind, status: u16, message: &str) -> Self {
        Self::json(policy, method, kind, status, json!({ "message": message }).to_string())
    }

    fn json(policy: &CachePolicy, method: Method, kind: ReplyKind, status: u16, body: String) -> Self {
        let headers = policy.headers(method, kind);
        Self { head: ReplyHead { status, headers }, body }.with(header::CONTENT_TYPE, header::JSON.to_owned())
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.head.headers.push((name, value));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn policy() -> CachePolicy {
        CachePolicy::default()
    }

    /// Headers without the content type and Cloudflare's policy, sorted.
    fn headers(reply: &Reply) -> Vec<(&str, &str)> {
        assert_eq!(reply.head.header("content-type"), Some(header::JSON));
        let mut headers: Vec<_> = reply.head.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        headers.retain(|(name, _)| *name != "content-type" && *name != "cloudflare-cdn-cache-control");
        headers.sort_unstable();
        headers
    }

    #[test]
    fn must_refetch_names_the_successor_where_there_is_one() {
        let reply = Reply::must_refetch(&policy(), Method::Get, Some(Handle::new(2000, 7)));
        let expected = [
            ("cache-control", "public, max-age=60, must-revalidate"),
            ("electric-handle", "2000-7"),
            ("etag", "\"2000-7::\""),
        ];
        assert_eq!((reply.head.status, headers(&reply)), (409, expected.to_vec()));
        assert_eq!(reply.body, r#"[{"headers":{"control":"must-refetch"}}]"#);
        let reply = Reply::must_refetch(&policy(), Method::Get, None);
        assert_eq!(headers(&reply), [("cache-control", "public, max-age=1, must-revalidate")]);
        let reply = Reply::must_refetch(&policy(), Method::Post, None);
        assert_eq!(headers(&reply), [("cache-control", "no-cache")]);
    }

    #[test]
    fn refusals_are_not_kept() {
        let reply = Reply::bad_request(&policy(), Method::Get, &RequestError::offset_out_of_bounds());
        let expected = [("cache-control", "no-store"), ("surrogate-control", "no-store")];
        assert_eq!((reply.head.status, headers(&reply)), (400, expected.to_vec()));
        let reply = Reply::bad_request(&policy(), Method::Post, &RequestError::offset_out_of_bounds());
        assert_eq!(headers(&reply), [("cache-control", "no-cache")]);
    }

    #[test]
    fn health_lists_degraded_tables_up_to_a_limit() {
        let entry = DegradedTable {
            table: "public.items".to_owned(),
            code: FaultCode::ReplicaIdentity,
            message: "run it".to_owned(),
        };
        let body = |health, degraded: &[DegradedTable]| -> serde_json::Value {
            serde_json::from_str(&Reply::health(health, degraded).body).unwrap()
        };
        let listed = json!({ "table": "public.items", "code": "replica_identity", "message": "run it" });
        let one = [entry.clone()];
        assert_eq!(body(Health::Active, &[]), json!({ "status": "active" }));
        assert_eq!(body(Health::Active, &one), json!({ "status": "active", "degraded": [listed] }));
        assert_eq!(body(Health::Starting, &one), json!({ "status": "starting" }));
        let many = body(Health::Active, &vec![entry; DEGRADED_MAX + 2]);
        assert_eq!(many["degraded"].as_array().map(Vec::len), Some(DEGRADED_MAX));
        assert_eq!(many["degraded_count"], DEGRADED_MAX + 2);
        assert_eq!(Reply::health(Health::Active, &one).head.status, 200);
    }

    #[test]
    fn a_missing_secret_says_so_in_json() {
        let reply = Reply::unauthorized(&policy(), Method::Get);
        assert_eq!(
            (reply.head.status, reply.body.as_str()),
            (401, r#"{"message":"Unauthorized - Invalid API secret"}"#)
        );
        assert_eq!(headers(&reply), [("cache-control", "max-age=0, private, must-revalidate")]);
    }

    #[test]
    fn states_that_pass_say_when_to_try_again() {
        let plain = Reply::unavailable(&policy(), Method::Get, &Unavailable::new("away", 5));
        assert_eq!((plain.head.status, plain.body.as_str()), (503, r#"{"message":"away"}"#));
        assert_eq!(plain.head.header("retry-after"), Some("5"));
        assert_eq!(plain.head.header("electric-internal-known-error"), None);
        let state = Unavailable { code: Some("c"), known: true, ..Unavailable::new("full", 7) };
        let coded = Reply::unavailable(&policy(), Method::Get, &state);
        assert_eq!(coded.body, r#"{"code":"c","message":"full"}"#);
        assert_eq!(coded.head.header("electric-internal-known-error"), Some("true"));
    }

    #[test]
    fn deletes_answer_as_recorded() {
        let reply = Reply::deleted(&policy());
        let expected = [("cache-control", "no-cache"), ("electric-has-data", "true")];
        assert_eq!((reply.head.status, headers(&reply)), (202, expected.to_vec()));
        for (reply, status) in [
            (Reply::delete_not_allowed(&policy()), 405),
            (Reply::no_such_shape(&policy()), 404),
            (Reply::handle_mismatch(&policy()), 400),
        ] {
            assert_eq!((reply.head.status, headers(&reply)), (status, vec![("cache-control", "no-cache")]));
        }
    }

    #[test]
    fn health_is_a_status_and_a_word() {
        let word = |health| {
            let reply = Reply::health(health, &[]);
            (reply.head.status, reply.body)
        };
        assert_eq!(word(Health::Active), (200, r#"{"status":"active"}"#.to_owned()));
        assert_eq!(word(Health::Starting), (202, r#"{"status":"starting"}"#.to_owned()));
        assert_eq!(word(Health::Unsound(FaultCode::Slot)).0, 503);
        assert_eq!(word(Health::Stopping), (503, r#"{"status":"stopping"}"#.to_owned()));
    }
}
