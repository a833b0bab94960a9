//! The platform's `fetch`, towards the origin, behind its circuit breaker.

use crate::answer;
use crate::isolate::with_breaker;
use crate::plan::Forward;
use crate::timing::now_ms;
use limn_core::protocol::header;
use std::fmt;
use worker::js_sys::{self, Reflect};
use worker::wasm_bindgen::{JsCast, JsValue};
use worker::wasm_bindgen_futures::JsFuture;
use worker::web_sys::{self, AbortSignal, ReadableStream, RequestRedirect, WorkerGlobalScope};
use worker::{Error, Headers, Response, Result};

/// Why the origin did not answer.
#[derive(Debug)]
pub enum Trouble {
    /// It was not reached several times before; it is spared now.
    Spared,
    /// The platform says so.
    Failed(Error),
    /// Something between here and there answered in its place, with this status.
    Gateway(u16),
}

/// Asks the origin; `body` is the client's, where the plan has no other. Redirects are the client's to follow: the
/// secret must not travel to where they lead.
pub async fn ask(forward: &Forward, body: Option<ReadableStream>) -> std::result::Result<Response, Trouble> {
    let origin_url = forward.origin_url();
    if with_breaker(origin_url, |breaker, now_ms| breaker.may_ask(now_ms)) == Some(false) {
        return Err(Trouble::Spared);
    }
    let outcome = match send(forward, body).await {
        Ok(reply) if is_of_gateway(&reply) => Err(Trouble::Gateway(reply.status_code())),
        Ok(reply) => Ok(reply),
        Err(error) => Err(Trouble::Failed(error)),
    };
    let ended = forward.ends_s.is_some_and(|ends_s| remaining_ms(ends_s) == 0);
    with_breaker(origin_url, |breaker, now_ms| match outcome {
        Ok(_) => breaker.handle_answer(),
        Err(_) if ended => {}
        Err(_) => breaker.handle_failure(now_ms),
    });
    outcome
}

async fn send(forward: &Forward, body: Option<ReadableStream>) -> Result<Response> {
    let headers = Headers::new();
    for (name, value) in &forward.headers {
        headers.append(name, value)?;
    }
    let init = web_sys::RequestInit::new();
    init.set_method(&forward.method);
    init.set_headers(headers.as_ref());
    init.set_redirect(RequestRedirect::Manual);
    // Compressed bodies are kept and passed on as they come.
    Reflect::set(&init, &JsValue::from_str("encodeResponseBody"), &JsValue::from_str("manual"))?;
    match &forward.body {
        Some(body) => init.set_body(&JsValue::from_str(body)),
        None => body.iter().for_each(|body| init.set_body(body)),
    }
    if let Some(ends_s) = forward.ends_s {
        // The platform's own timer: it ends a reply that is on its way, too, and leaves nothing behind.
        init.set_signal(Some(&AbortSignal::timeout_with_u32(remaining_ms(ends_s))));
    }
    // A `Request` would lose what is said of the reply's body.
    let global: WorkerGlobalScope = js_sys::global().unchecked_into();
    let reply = JsFuture::from(global.fetch_with_str_and_init(&forward.url, &init)).await?;
    Ok(reply.unchecked_into::<web_sys::Response>().into())
}

/// A failure in the place of the origin, which names itself on every reply.
fn is_of_gateway(reply: &Response) -> bool {
    let status = reply.status_code();
    let is_named = || reply.headers().has(header::SERVER).unwrap_or(false);
    answer::means_unreachable(status) || (status == 503 && !is_named())
}

/// The milliseconds until a time in seconds since 1970, or as many as a timer takes: no reply is on its way for so long.
pub fn remaining_ms(ends_s: u64) -> u32 {
    let remaining_ms = ends_s.saturating_mul(1_000).saturating_sub(now_ms());
    i32::try_from(remaining_ms).unwrap_or(i32::MAX).unsigned_abs()
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spared => f.write_str("it is not asked for a while"),
            Self::Failed(error) => error.fmt(f),
            Self::Gateway(status) => write!(f, "status {status}"),
        }
    }
}
