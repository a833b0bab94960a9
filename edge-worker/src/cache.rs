//! The platform's Cache API: one data centre's copies, by address. A cache that fails is an empty one.
//!
//! The platform may keep a body that broke off on its way in, and end it as if it were whole. So every copy
//! lies at an address of its own, and only when all of its body has gone by is a label put where readers
//! look, which says where the copy is.

use worker::js_sys::{self, Array, Function, Reflect};
use worker::wasm_bindgen::JsCast;
use worker::wasm_bindgen_futures::JsFuture;
use worker::web_sys::TransformStream;
use worker::{Cache, Error, Headers, Response, ResponseBody, ResponseBuilder, Result};

/// Where a label says what its copy's address ends in.
const COPY: &str = "limn-copy";

/// The copy that is labelled at an address.
pub async fn find(label_url: &str) -> Option<Response> {
    match labelled(label_url).await {
        Ok(copy) => copy,
        Err(error) => {
            worker::console_warn!("the cache was not read: {error}");
            None
        }
    }
}

/// Keeps a copy with these headers and labels it, once all of the body has been seen.
pub async fn keep(label_url: String, headers: Headers, body: ResponseBody) {
    if let Err(error) = keep_whole(&label_url, headers, body).await {
        worker::console_warn!("a reply was not kept: {error}");
    }
}

async fn labelled(label_url: &str) -> Result<Option<Response>> {
    let cache = Cache::default();
    let Some(label) = cache.get(label_url, false).await? else {
        return Ok(None);
    };
    match label.headers().get(COPY)? {
        Some(copy) => cache.get(copy_url(label_url, &copy), false).await,
        None => Ok(None),
    }
}

async fn keep_whole(label_url: &str, headers: Headers, body: ResponseBody) -> Result<()> {
    let cache = Cache::default();
    let name = format!("{:016x}", js_sys::Math::random().to_bits());
    let label = headers.clone();
    let copy = ResponseBuilder::new().with_headers(headers);
    match body {
        ResponseBody::Stream(stream) => {
            let through = passage()?;
            let whole = stream.pipe_to(&through.writable());
            cache.put(copy_url(label_url, &name), copy.stream(through.readable())).await?;
            JsFuture::from(whole).await?;
        }
        body => cache.put(copy_url(label_url, &name), copy.body(body)).await?,
    }
    label.set(COPY, &name)?;
    cache.put(label_url, ResponseBuilder::new().with_headers(label).empty()).await
}

fn copy_url(label_url: &str, name: &str) -> String {
    format!("{label_url}/{name}")
}

/// A stream that hands on bytes as they are, without JavaScript in between.
fn passage() -> Result<TransformStream> {
    let constructor = Reflect::get(&js_sys::global(), &"IdentityTransformStream".into())?;
    let constructor: Function = constructor.dyn_into().map_err(Error::from)?;
    Ok(Reflect::construct(&constructor, &Array::new())?.unchecked_into())
}
