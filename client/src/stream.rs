//! `ShapeStream` as JavaScript sees it: messages as they come.

use std::rc::Rc;

use js_sys::Function;
use limn_core::client::{self, Start, StreamOptions};
use wasm_bindgen::prelude::*;

use crate::driver::{Driver, Subscriber, status_text};
use crate::host::Hooks;

/// Follows one shape and hands its messages to callbacks.
#[wasm_bindgen]
pub struct ShapeStream {
    driver: Rc<Driver>,
}

#[wasm_bindgen]
impl ShapeStream {
    /// A stream of the shape at `url` (without query); `parameters` is a JSON object. With a handle and
    /// an offset it goes on where another one ended. Nothing is sent before the first subscription.
    #[wasm_bindgen(constructor)]
    pub fn new(
        url: String,
        parameters: &str,
        handle: Option<String>,
        offset: Option<String>,
        is_followed: bool,
        hooks: Hooks,
    ) -> Result<Self, JsError> {
        let parameters: serde_json::Map<String, serde_json::Value> = serde_json::from_str(parameters)?;
        let mut options = StreamOptions::default();
        for (name, value) in &parameters {
            options.set(name, value)?;
        }
        options.start = start(handle, offset)?;
        options.stop_when_up_to_date = !is_followed;
        Ok(Self { driver: Driver::new(client::ShapeStream::new(options), url, hooks) })
    }

    /// Calls back with each reply: its messages as JSON text, and the schema as JSON text.
    pub fn subscribe(&self, callback: Function) -> u32 {
        self.driver.subscribe(Subscriber::Messages(callback))
    }

    /// Calls back when the status changes: the word for it, and the error where one ended the stream.
    #[wasm_bindgen(js_name = subscribeStatus)]
    pub fn subscribe_status(&self, callback: Function) -> u32 {
        self.driver.subscribe(Subscriber::Status(callback))
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, id: u32) {
        self.driver.unsubscribe(id);
    }

    /// Aborts the request in flight and sends no other until `resume`.
    pub fn pause(&self) {
        self.driver.pause();
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.driver.resume();
    }

    /// Ends the stream.
    pub fn stop(&self) {
        self.driver.stop();
    }

    /// The shape's handle, once known.
    #[wasm_bindgen(getter)]
    pub fn handle(&self) -> Option<String> {
        self.driver.with_machine(|machine| machine.handle().map(str::to_owned))
    }

    /// The position after the last message received, or `now` while it is unknown.
    #[wasm_bindgen(getter, js_name = lastOffset)]
    pub fn last_offset(&self) -> String {
        let offset = self.driver.with_machine(client::ShapeStream::offset);
        offset.map_or_else(|| "now".to_owned(), |offset| offset.to_string())
    }

    /// The column types as JSON text, once known.
    #[wasm_bindgen(getter)]
    pub fn schema(&self) -> Option<String> {
        self.driver.with_machine(|machine| machine.schema().map(str::to_owned))
    }

    /// True when the last reply ended up to date.
    #[wasm_bindgen(getter, js_name = isUpToDate)]
    pub fn is_up_to_date(&self) -> bool {
        self.driver.with_machine(client::ShapeStream::is_up_to_date)
    }

    /// `syncing`, `live`, `retrying`, `paused`, `done` or `failed`.
    #[wasm_bindgen(getter)]
    pub fn status(&self) -> String {
        status_text(self.driver.status()).to_owned()
    }

    /// The error that ended the stream.
    #[wasm_bindgen(getter)]
    pub fn error(&self) -> JsValue {
        self.driver.error()
    }
}

impl ShapeStream {
    pub(crate) fn driver(&self) -> &Rc<Driver> {
        &self.driver
    }
}

/// Parses the options `handle` and `offset`. Without an offset the stream reads from the beginning; an offset inside
/// the log needs the handle.
fn start(handle: Option<String>, offset: Option<String>) -> Result<Start, JsError> {
    let Some(offset) = offset else { return Ok(Start::Beginning) };
    Ok(match (offset.as_str(), handle) {
        ("-1", _) => Start::Beginning,
        ("now", _) => Start::Now,
        (offset, Some(handle)) => Start::After { handle, offset: offset.parse()? },
        (_, None) => return Err(JsError::new("an offset needs the handle of its shape")),
    })
}
