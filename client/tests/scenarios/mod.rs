//! What the client does on any host, against a scripted `fetch`.

use js_sys::{Array, Function, JSON, Promise, Reflect};
use limn_client::{Shape, ShapeStream};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// `fetch` from a list of `[status, headers, body]`; past its end requests stay open until they are
/// aborted. `urls` lists what was asked.
struct Script {
    fetch: JsValue,
    urls: Array,
}

const FETCH: &str = r#"
    const open = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("aborted"))));
    return (url, { signal }) => {
        urls.push(url);
        if (replies.length === 0) return open(signal);
        const [status, headers, body] = replies.shift();
        if (status === 0) return Promise.reject(new TypeError("network error"));
        return Promise.resolve(new Response(body, { status, headers }));
    };
"#;

impl Script {
    fn new(replies: &[(u16, &str, &str)]) -> Self {
        let list = Array::new();
        for (status, headers, body) in replies {
            let headers = JSON::parse(headers).unwrap();
            list.push(&Array::of3(&(*status).into(), &headers, &(*body).into()));
        }
        let urls = Array::new();
        let make = Function::new_with_args("replies, urls", FETCH);
        Self { fetch: make.call2(&JsValue::UNDEFINED, &list, &urls).unwrap(), urls }
    }

    fn stream(&self, on_error: Option<&str>) -> ShapeStream {
        let hooks = js_sys::Object::new();
        Reflect::set(&hooks, &"fetch".into(), &self.fetch).unwrap();
        if let Some(body) = on_error {
            Reflect::set(&hooks, &"onError".into(), &Function::new_with_args("error", body)).unwrap();
        }
        let url = "http://limn.test/v1/shape".to_owned();
        let made = ShapeStream::new(url, r#"{"table":"t"}"#, None, None, true, hooks.unchecked_into());
        made.unwrap_or_else(|_| panic!("the options are right"))
    }

    fn query(&self, index: u32) -> String {
        let url = self.urls.get(index).as_string().unwrap_or_default();
        url.strip_prefix("http://limn.test/v1/shape?").unwrap_or_default().to_owned()
    }
}

async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is_true() {
            return;
        }
        let pause = Function::new_no_args("return new Promise((resolve) => setTimeout(resolve, 10))");
        let promise: Promise = pause.call0(&JsValue::UNDEFINED).unwrap().unchecked_into();
        JsFuture::from(promise).await.unwrap();
    }
    panic!("waited in vain: {what}");
}

/// A callback that collects its first argument.
fn collector() -> (Array, Function) {
    let seen = Array::new();
    let make = Function::new_with_args("seen", "return (value) => seen.push(value)");
    let callback = make.call1(&JsValue::UNDEFINED, &seen).unwrap().unchecked_into();
    (seen, callback)
}

fn rows(shape: &Shape) -> String {
    shape.rows_json().unwrap_or_else(|_| panic!("rows are JSON"))
}

const INITIAL: &str =
    r#"{"electric-handle":"h1","electric-offset":"0_0","electric-schema":"{\"id\":{\"type\":\"int4\"}}"}"#;
const CAUGHT_UP: &str = r#"{"electric-handle":"h1","electric-offset":"0_inf","electric-schema":"{}"}"#;
const LIVE: &str = r#"{"electric-handle":"h1","electric-offset":"9_0","electric-cursor":"c1"}"#;
const ROW: &str = r#"[{"key":"a","value":{"id":"1","n":"x"},"headers":{"operation":"insert"}}]"#;
const UP_TO_DATE: &str = r#"[{"headers":{"control":"up-to-date"}}]"#;
const CHANGE: &str = r#"[{"key":"a","value":{"n":"y"},"headers":{"operation":"update","lsn":"9","op_position":0}},
    {"key":"b","value":{"id":"2","n":null},"headers":{"operation":"insert","lsn":"9","op_position":2}},
    {"headers":{"control":"up-to-date"}}]"#;

pub async fn a_shape_shows_initial_rows_and_live_changes() {
    let script = Script::new(&[(200, INITIAL, ROW), (200, CAUGHT_UP, UP_TO_DATE), (200, LIVE, CHANGE)]);
    let stream = script.stream(None);
    let shape = Shape::new(&stream);
    let (updates, callback) = collector();
    shape.subscribe(callback);
    until("the live change", || script.urls.length() == 4).await;
    assert_eq!(rows(&shape), r#"[["a",{"id":"1","n":"y"}],["b",{"id":"2","n":null}]]"#);
    assert_eq!((updates.length(), updates.get(0)), (2, JsValue::UNDEFINED));
    assert_eq!(
        updates.get(1).as_string().unwrap_or_default(),
        r#"{"upserted":[["a",{"id":"1","n":"y"}],["b",{"id":"2","n":null}]],"deleted":[]}"#
    );
    assert_eq!(script.query(0), "log=full&offset=-1&table=t");
    assert_eq!(script.query(1), "handle=h1&log=full&offset=0_0&table=t");
    assert_eq!(script.query(2), "cursor=&handle=h1&live=true&log=full&offset=0_inf&table=t");
    assert_eq!(script.query(3), "cursor=c1&handle=h1&live=true&log=full&offset=9_0&table=t");
    assert!(stream.is_up_to_date() && shape.is_complete() && shape.size() == 2);
    assert_eq!((stream.last_offset(), stream.handle()), ("9_0".to_owned(), Some("h1".to_owned())));
    stream.stop();
    assert_eq!(stream.status(), "done");
}

pub async fn a_rotation_keeps_the_old_rows_until_the_new_ones_are_complete() {
    let rotated = r#"{"electric-handle":"h2"}"#;
    let must_refetch = r#"[{"headers":{"control":"must-refetch"}}]"#;
    let initial = INITIAL.replace("h1", "h2");
    let caught_up = CAUGHT_UP.replace("h1", "h2");
    let other_row = ROW.replace("\"a\"", "\"z\"");
    let script = Script::new(&[
        (200, INITIAL, ROW),
        (200, CAUGHT_UP, UP_TO_DATE),
        (409, rotated, must_refetch),
        (200, &initial, &other_row),
        (200, &caught_up, UP_TO_DATE),
    ]);
    let stream = script.stream(None);
    let shape = Shape::new(&stream);
    let (messages, callback) = collector();
    stream.subscribe(callback);
    let (statuses, callback) = collector();
    stream.subscribe_status(callback);
    until("the new rows", || {
        assert!(shape.size() == 1 || !shape.is_complete(), "never a flash of emptiness");
        script.urls.length() == 6
    })
    .await;
    assert_eq!(rows(&shape), r#"[["z",{"id":"1","n":"x"}]]"#);
    assert_eq!(script.query(3), "expired_handle=h1&handle=h2&log=full&offset=-1&table=t");
    assert_eq!(messages.length(), 5);
    assert_eq!(messages.get(2).as_string().unwrap_or_default(), must_refetch);
    assert_eq!(String::from(statuses.join(",")), "syncing,live,syncing,live");
    stream.stop();
}

pub async fn outages_are_retried_and_refusals_reported() {
    let retry_now = r#"{"retry-after":"0"}"#;
    let script = Script::new(&[(503, retry_now, ""), (0, "{}", ""), (200, INITIAL, ROW), (403, "{}", "no")]);
    let stream = script.stream(Some("if (error.status !== 403) throw error"));
    let shape = Shape::new(&stream);
    until("the refusal", || stream.status() == "failed").await;
    assert!(shape.size() == 0 && script.urls.length() == 4);
    let message = Reflect::get(&stream.error(), &"message".into()).unwrap();
    assert_eq!(message.as_string().unwrap_or_default(), "request refused with status 403: no");
}

pub async fn a_refused_stream_goes_on_with_other_parameters() {
    let script = Script::new(&[(401, "{}", "{}"), (200, INITIAL, ROW), (200, CAUGHT_UP, UP_TO_DATE)]);
    let stream = script.stream(Some(r#"return Promise.resolve('{"token":"t2"}')"#));
    let shape = Shape::new(&stream);
    until("the rows", || shape.is_complete()).await;
    assert_eq!(script.query(1), "log=full&offset=-1&table=t&token=t2");
    stream.stop();
    assert_eq!(stream.status(), "done");
}

pub async fn a_pause_aborts_and_a_resume_catches_up() {
    let script = Script::new(&[(200, INITIAL, ROW), (200, CAUGHT_UP, UP_TO_DATE)]);
    let stream = script.stream(None);
    let shape = Shape::new(&stream);
    until("live", || script.urls.length() == 3).await;
    stream.pause();
    assert_eq!(stream.status(), "paused");
    stream.resume();
    until("the request after the pause", || script.urls.length() == 4).await;
    assert_eq!(script.query(3), "cursor=&handle=h1&log=full&offset=0_inf&table=t");
    assert_eq!(shape.size(), 1);
    stream.stop();
}

pub async fn a_throwing_subscriber_does_not_stop_the_stream() {
    let script = Script::new(&[(200, INITIAL, ROW), (200, CAUGHT_UP, UP_TO_DATE)]);
    let stream = script.stream(None);
    stream.subscribe(Function::new_no_args("throw new Error('mine (expected in the output)')"));
    let (messages, callback) = collector();
    let id = stream.subscribe(callback);
    until("live", || script.urls.length() == 3).await;
    assert_eq!(messages.length(), 2);
    stream.unsubscribe(id);
    stream.stop();
}
