//! Requests: path, query and body are read or refused, and what is repeated to the client reads the same again.

use limn_core::protocol::auth::{authorize, mask_secrets};
use limn_core::protocol::query::Query;
use limn_core::protocol::request::{
    RequestOffset, ShapeRequest, parse_delete_request, parse_schema_request, parse_shape_request,
    read_shape_request,
};
use limn_core::protocol::route::{Method, route};

/// `data` is a query, and behind a line feed the body of a `POST`.
pub fn check(data: &[u8]) {
    let (query, body) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    let Ok(query) = str::from_utf8(query) else { return };
    let _ = route(query);
    let _ = authorize("secret", query, Some(query));
    let _ = mask_secrets(query);
    if let Ok(request) = parse_shape_request(Method::Get, query) {
        offset_reads_the_same(&request);
    }
    let _ = parse_delete_request(query);
    let _ = parse_schema_request(query);

    let Ok(mut merged) = Query::parse(query) else { return };
    if merged.merge_body(body).is_ok()
        && let Ok(request) = read_shape_request(Method::Post, &merged)
    {
        offset_reads_the_same(&request);
    }
}

fn offset_reads_the_same(request: &ShapeRequest) {
    match request.offset {
        RequestOffset::Now => assert_eq!(request.offset.to_string(), "now"),
        RequestOffset::At(offset) => assert_eq!(offset.to_string().parse(), Ok(offset)),
    }
}
