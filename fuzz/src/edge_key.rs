//! The edge's view of a request: what it asks of the origin has the key under which it stores the reply, and its
//! class is what the origin makes of the request.

use limn_core::Offset;
use limn_core::protocol::cache_key::{EdgeRequest, KeyScope, RequestClass, Secrets};
use limn_core::protocol::request::{RequestOffset, parse_shape_request};
use limn_core::protocol::route::Method;

const SCOPE: KeyScope<'static> = KeyScope { origin_url: "http://origin.example", secret: None, tenant: None };
const PATH: &str = "/v1/shape";

/// `data` is a query.
pub fn check(data: &[u8]) {
    let Ok(query) = str::from_utf8(data) else { return };
    let Ok(request) = EdgeRequest::parse(Method::Get, PATH, query) else { return };
    let asked = request.origin_query(Secrets::Keep);
    let again = EdgeRequest::parse(Method::Get, PATH, &asked).expect("we wrote UTF-8");
    assert_eq!(again.class(), request.class());
    assert_eq!(again.key(SCOPE), request.key(SCOPE));
    assert_eq!(again.origin_query(Secrets::Keep), asked);
    let stripped = request.origin_query(Secrets::Strip);
    let stripped = EdgeRequest::parse(Method::Get, PATH, &stripped).expect("we wrote UTF-8");
    assert!(!stripped.has_secret());
    assert_eq!(stripped.key(SCOPE), request.key(SCOPE));
    class_is_the_origins(&request, query, &asked);
}

fn class_is_the_origins(request: &EdgeRequest, query: &str, asked: &str) {
    let origin_reads = parse_shape_request(Method::Get, query);
    assert_eq!(parse_shape_request(Method::Get, asked), origin_reads, "asked as `{asked}`");
    let Ok(read) = origin_reads else { return };
    let class = match read.offset {
        _ if request.class() == RequestClass::Subset => RequestClass::Subset,
        _ if read.live => RequestClass::Live,
        RequestOffset::Now => RequestClass::Now,
        RequestOffset::At(Offset::Start) => RequestClass::Pointer,
        RequestOffset::At(_) => RequestClass::Log,
    };
    assert_eq!(request.class(), class);
}
