//! The platform's `fetch`, towards the origin.

use crate::plan::Forward;
use worker::wasm_bindgen::JsValue;
use worker::web_sys::{self, AbortSignal, RequestRedirect};
use worker::{Date, Fetch, Headers, Request, Response, Result};

/// Asks the origin; the body of `request` goes with it as a stream, unless the plan has another. Redirects are the
/// client's to follow: the secret must not travel to where they lead.
pub async fn ask(forward: &Forward, request: &Request) -> Result<Response> {
    let headers = Headers::new();
    for (name, value) in &forward.headers {
        headers.append(name, value)?;
    }
    let init = web_sys::RequestInit::new();
    init.set_method(&forward.method);
    init.set_headers(headers.as_ref());
    init.set_redirect(RequestRedirect::Manual);
    match &forward.body {
        Some(body) => init.set_body(&JsValue::from_str(body)),
        None => request.inner().body().into_iter().for_each(|body| init.set_body(&body)),
    }
    if let Some(ends_s) = forward.ends_s {
        // The platform's own timer: it ends a reply that is on its way, too, and leaves nothing behind.
        init.set_signal(Some(&AbortSignal::timeout_with_u32(remaining_ms(ends_s))));
    }
    let upstream = web_sys::Request::new_with_str_and_init(&forward.url, &init)?;
    Fetch::Request(Request::from(upstream)).send().await
}

/// The milliseconds until a time in seconds since 1970, or as many as a timer takes: no reply is on its way for so long.
pub fn remaining_ms(ends_s: u64) -> u32 {
    let remaining_ms = ends_s.saturating_mul(1_000).saturating_sub(Date::now().as_millis());
    i32::try_from(remaining_ms).unwrap_or(i32::MAX).unsigned_abs()
}
