//! Headers between the platform's map and a list.

use limn_core::protocol::cached_reply::HeaderList;
use worker::{Headers, Response, Result};

/// The list as the platform's map.
pub fn header_map(headers: &[(String, String)]) -> Result<Headers> {
    let map = Headers::new();
    for (name, value) in headers {
        map.append(name, value)?;
    }
    Ok(map)
}

/// All headers of a reply.
pub fn headers_of(reply: &Response) -> HeaderList {
    reply.headers().entries().collect()
}

/// The value of the header of that name, in lower case.
pub fn value<'a>(headers: &'a HeaderList, wanted: &str) -> Option<&'a str> {
    headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}
