//! Replies in the platform's form.

use crate::answer::{self, Answer, Caller};
use limn_core::protocol::Method;
use limn_core::protocol::cached_reply::HeaderList;
use worker::{EncodeBody, Headers, Response, ResponseBody, ResponseBuilder, Result};

/// A reply made here.
pub fn made(caller: &Caller, answer: Answer) -> Result<Response> {
    let body = match caller.method {
        Method::Head => ResponseBody::Empty,
        _ => ResponseBody::Body(answer.body.into_bytes()),
    };
    rebuilt(answer.status, body, &caller.finish(answer.headers, answer.cache_status))
}

/// A reply with exactly these headers, whose body goes out as it is, in whichever coding.
pub fn rebuilt(status: u16, body: ResponseBody, headers: &HeaderList) -> Result<Response> {
    let body = if answer::is_bodiless(status) { ResponseBody::Empty } else { body };
    let builder = ResponseBuilder::new().with_status(status).with_encode_body(EncodeBody::Manual);
    Ok(builder.with_headers(header_map(headers)?).body(body))
}

/// The headers as the platform has them.
pub fn header_map(headers: &[(String, String)]) -> Result<Headers> {
    let map = Headers::new();
    for (name, value) in headers {
        map.append(name, value)?;
    }
    Ok(map)
}

/// The headers of a reply.
pub fn headers_of(reply: &Response) -> HeaderList {
    reply.headers().entries().collect()
}

/// The value of a header, of a request or a reply that is the platform's.
pub fn said(headers: &Headers, name: &str) -> Option<String> {
    headers.get(name).ok().flatten()
}

/// The first value of a header.
pub fn value<'a>(headers: &'a HeaderList, wanted: &str) -> Option<&'a str> {
    headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}
