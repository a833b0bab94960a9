//! The platform's `fetch`, towards the origin.

use crate::plan::Forward;
use worker::web_sys::{self, RequestRedirect};
use worker::{Fetch, Headers, Request, Response, Result};

/// Asks the origin; the body of `request` goes with it as a stream. Redirects are the client's to follow: the
/// secret must not travel to where they lead.
pub async fn ask(forward: &Forward, request: &Request) -> Result<Response> {
    let headers = Headers::new();
    for (name, value) in &forward.headers {
        headers.append(name, value)?;
    }
    let init = web_sys::RequestInit::new();
    init.set_method(&forward.method);
    init.set_headers(headers.as_ref());
    init.set_redirect(RequestRedirect::Manual);
    if let Some(body) = request.inner().body() {
        init.set_body(&body);
    }
    let upstream = web_sys::Request::new_with_str_and_init(&forward.url, &init)?;
    Fetch::Request(Request::from(upstream)).send().await
}
