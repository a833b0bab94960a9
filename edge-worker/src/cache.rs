//! The platform's Cache API: one data centre's copies, by address. A cache that fails is an empty one.
//!
//! The platform may keep a body that broke off on its way in, and end it as if it were whole. So every copy
//! lies at an address of its own, and only when all of its body has gone by is a label put where readers
//! look, which says where the copy is.

use crate::isolate;
use crate::replies::{header_map, value};
use limn_core::protocol::cached_reply::{HeaderList, may_replace};
use limn_core::protocol::copy_class::CopyClass;
use limn_core::protocol::header;
use worker::js_sys::{self, Array, Function, Reflect};
use worker::wasm_bindgen::JsCast;
use worker::wasm_bindgen_futures::JsFuture;
use worker::web_sys::TransformStream;
use worker::{Cache, Error, Response, ResponseBody, ResponseBuilder, Result};

/// Where a label says what its copy's address ends in.
const COPY: &str = "limn-copy";

/// The words of a workerd that was not told of a cache.
const NO_CACHE: &str = "No Cache was configured";

/// The copy that is labelled at an address.
pub async fn find(label_url: &str) -> Option<Response> {
    if !isolate::has_cache() {
        return None;
    }
    match labelled(label_url).await {
        Ok(copy) => copy,
        Err(error) => {
            note("the cache was not read", &error);
            None
        }
    }
}

/// Keeps a copy with these headers and labels it, once all of the body has been seen; where its class is given, only
/// if no newer one has been labelled meanwhile.
pub async fn keep(label_url: &str, class: Option<CopyClass>, headers: HeaderList, body: ResponseBody) {
    if let Err(error) = keep_whole(label_url, class, &headers, body).await {
        note("a reply was not kept", &error);
    }
}

fn note(what: &str, error: &Error) {
    let error = error.to_string();
    if error.contains(NO_CACHE) {
        isolate::lacks_cache();
        worker::console_warn!("this runtime has no cache: every request goes to the origin");
    } else {
        worker::console_warn!("{what}: {error}");
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

async fn keep_whole(
    label_url: &str,
    class: Option<CopyClass>,
    headers: &HeaderList,
    body: ResponseBody,
) -> Result<()> {
    let cache = Cache::default();
    let name = format!("{:016x}", js_sys::Math::random().to_bits());
    let copy = ResponseBuilder::new().with_headers(header_map(headers)?);
    match body {
        ResponseBody::Stream(stream) => {
            let through = passage()?;
            let whole = stream.pipe_to(&through.writable());
            cache.put(copy_url(label_url, &name), copy.stream(through.readable())).await?;
            JsFuture::from(whole).await?;
        }
        body => cache.put(copy_url(label_url, &name), copy.body(body)).await?,
    }
    if let Some(class) = class
        && let Some(stored) = cache.get(label_url, false).await?
        && !may_replace(
            class,
            value(headers, header::HANDLE),
            stored.headers().get(header::HANDLE)?.as_deref(),
        )
    {
        return Ok(());
    }
    let label = header_map(headers)?;
    label.set(COPY, &name)?;
    cache.put(label_url, ResponseBuilder::new().with_headers(label).empty()).await
}

fn copy_url(label_url: &str, name: &str) -> String {
    format!("{label_url}/{name}")
}

/// A stream that hands on bytes as they are, without JavaScript in between.
pub fn passage() -> Result<TransformStream> {
    let constructor = Reflect::get(&js_sys::global(), &"IdentityTransformStream".into())?;
    let constructor: Function = constructor.dyn_into().map_err(Error::from)?;
    Ok(Reflect::construct(&constructor, &Array::new())?.unchecked_into())
}
