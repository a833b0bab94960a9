//! What the JavaScript host provides: `fetch`, timers, the clock, random numbers.
//!
//! Declared by hand, because only these few calls are needed, in browsers, workers and Node alike.

use js_sys::{Function, Object, Promise, Reflect};
use limn_core::client::Moment;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// What the owner of a stream may provide itself.
    pub type Hooks;
    /// Replaces `fetch`.
    #[wasm_bindgen(method, getter, structural, js_name = fetch)]
    pub fn fetch_hook(this: &Hooks) -> Option<Function>;
    /// Returns the request headers, or a promise of them.
    #[wasm_bindgen(method, getter, structural, js_name = headers)]
    pub fn headers_hook(this: &Hooks) -> Option<Function>;
    /// Gets the error that ended the stream; may return, or promise, changed parameters as JSON.
    #[wasm_bindgen(method, getter, structural, js_name = onError)]
    pub fn error_hook(this: &Hooks) -> Option<Function>;

    pub type HttpResponse;
    #[wasm_bindgen(method, getter, structural)]
    pub fn status(this: &HttpResponse) -> u16;
    #[wasm_bindgen(method, getter, structural)]
    pub fn headers(this: &HttpResponse) -> HttpHeaders;
    #[wasm_bindgen(method, catch, structural)]
    pub fn text(this: &HttpResponse) -> Result<Promise, JsValue>;

    pub type HttpHeaders;
    #[wasm_bindgen(method, structural)]
    pub fn get(this: &HttpHeaders, name: &str) -> Option<String>;

    #[derive(Clone)]
    pub type AbortController;
    #[wasm_bindgen(constructor)]
    pub fn new() -> AbortController;
    #[wasm_bindgen(method)]
    pub fn abort(this: &AbortController);
    #[wasm_bindgen(method, getter)]
    pub fn signal(this: &AbortController) -> AbortSignal;

    pub type AbortSignal;
    #[wasm_bindgen(method, getter)]
    pub fn aborted(this: &AbortSignal) -> bool;

    #[wasm_bindgen(catch, js_name = fetch)]
    fn global_fetch(url: &str, init: &JsValue) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(js_name = setTimeout)]
    pub fn set_timeout(callback: &Function, delay_ms: f64) -> JsValue;
    #[wasm_bindgen(js_name = clearTimeout)]
    pub fn clear_timeout(timer: &JsValue);

    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now_ms() -> f64;
    #[wasm_bindgen(thread_local_v2, js_namespace = performance, js_name = timeOrigin)]
    static TIME_ORIGIN_MS: f64;
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    pub fn console_error(error: &JsValue);
}

/// The browsers' limit: a longer delay would fire at once.
const DELAY_MS_MAX: f64 = 2_147_483_647.0;

/// Milliseconds since 1970 by a clock that never steps back, unlike `Date.now`.
pub fn now_ms() -> u64 {
    (TIME_ORIGIN_MS.with(|origin| *origin) + performance_now_ms()) as u64
}

/// Now, with a fresh random number.
pub fn moment() -> Moment {
    let half = || (js_sys::Math::random() * f64::from(u32::MAX)) as u64;
    Moment { now_ms: now_ms(), random: half() << 32 | half() }
}

/// A promise that `wake` resolves, or the time does.
pub fn alarm(delay_ms: Option<u64>) -> (Promise, Function) {
    let mut wake = None;
    let promise = Promise::new(&mut |resolve, _reject| {
        if let Some(delay_ms) = delay_ms {
            set_timeout(&resolve, (delay_ms as f64).min(DELAY_MS_MAX));
        }
        wake = Some(resolve);
    });
    (promise, wake.expect("a promise's executor runs before its constructor returns"))
}

/// `fetch`, or what stands in for it, with the given headers.
pub fn fetch(
    hook: Option<Function>,
    url: &str,
    headers: &JsValue,
    signal: &JsValue,
) -> Result<Promise, JsValue> {
    let init = Object::new();
    Reflect::set(&init, &"signal".into(), signal)?;
    if !headers.is_undefined() {
        Reflect::set(&init, &"headers".into(), headers)?;
    }
    let answer = match hook {
        Some(hook) => hook.call2(&JsValue::UNDEFINED, &url.into(), &init)?,
        None => global_fetch(url, &init)?,
    };
    Ok(Promise::resolve(&answer))
}
