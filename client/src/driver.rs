//! The loop that carries requests and replies between core's machine and the host.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Error, Function, JSON, JsString, Promise, Reflect};
use limn_core::client::{Event, Poll, Request, Response, ShapeStream, Status, StreamError};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use crate::host::{self, AbortController, Hooks, HttpResponse};
use crate::shape::Materialised;

/// One stream's machine, its subscribers and the request in flight.
///
/// Callbacks run while nothing is borrowed: they may subscribe, unsubscribe and stop.
pub struct Driver {
    machine: RefCell<ShapeStream>,
    url: String,
    hooks: Hooks,
    subscribers: RefCell<Vec<(u32, Subscriber)>>,
    next_subscription: Cell<u32>,
    is_started: Cell<bool>,
    abort: RefCell<Option<AbortController>>,
    wake: RefCell<Option<Function>>,
    error: RefCell<JsValue>,
    shown_status: Cell<Option<Status>>,
}

/// Who wants to know what.
#[derive(Clone)]
pub enum Subscriber {
    /// Gets each reply's messages as the JSON text that the server sent, and the schema.
    Messages(Function),
    /// Gets the rows.
    Rows(Rc<Materialised>),
    /// Gets the status, and the error where one ended the stream.
    Status(Function),
}

const MUST_REFETCH: &str = r#"[{"headers":{"control":"must-refetch"}}]"#;
const UP_TO_DATE: &str = r#"[{"headers":{"control":"up-to-date"}}]"#;

impl Driver {
    pub fn new(machine: ShapeStream, url: String, hooks: Hooks) -> Rc<Self> {
        Rc::new(Self {
            machine: RefCell::new(machine),
            url,
            hooks,
            subscribers: RefCell::default(),
            next_subscription: Cell::new(0),
            is_started: Cell::new(false),
            abort: RefCell::new(None),
            wake: RefCell::new(None),
            error: RefCell::new(JsValue::UNDEFINED),
            shown_status: Cell::new(None),
        })
    }

    /// Adds a subscriber; the first one that wants data starts the stream.
    pub fn subscribe(self: &Rc<Self>, subscriber: Subscriber) -> u32 {
        let id = self.next_subscription.replace(self.next_subscription.get() + 1);
        let wants_data = !matches!(subscriber, Subscriber::Status(_));
        self.subscribers.borrow_mut().push((id, subscriber));
        if wants_data && !self.is_started.replace(true) {
            spawn_local(Rc::clone(self).run());
        }
        id
    }

    pub fn unsubscribe(&self, id: u32) {
        self.subscribers.borrow_mut().retain(|(known, _)| *known != id);
    }

    pub fn with_machine<T>(&self, read: impl FnOnce(&ShapeStream) -> T) -> T {
        read(&self.machine.borrow())
    }

    pub fn error(&self) -> JsValue {
        self.error.borrow().clone()
    }

    pub fn pause(&self) {
        self.machine.borrow_mut().pause();
        self.interrupt();
    }

    pub fn resume(&self) {
        self.machine.borrow_mut().resume();
        self.interrupt();
    }

    pub fn stop(&self) {
        self.machine.borrow_mut().stop();
        self.interrupt();
    }

    /// Ends whatever the loop waits for; it looks at the machine again.
    fn interrupt(&self) {
        if let Some(controller) = self.abort.borrow_mut().take() {
            controller.abort();
        }
        if let Some(wake) = self.wake.borrow_mut().take() {
            let _ = wake.call0(&JsValue::UNDEFINED);
        }
    }

    async fn run(self: Rc<Self>) {
        loop {
            let now_ms = host::now_ms();
            let poll = self.machine.borrow_mut().poll_request(now_ms);
            self.publish_status();
            match poll {
                Poll::Request(request) => self.exchange(&request).await,
                Poll::WaitUntil(until_ms) => self.sleep(Some(until_ms.saturating_sub(now_ms))).await,
                Poll::Idle => self.sleep(None).await,
                Poll::Failed if self.recover().await => {}
                Poll::Failed | Poll::Done => break,
            }
        }
        self.is_started.set(false);
        self.publish_status();
    }

    async fn sleep(&self, delay_ms: Option<u64>) {
        let (promise, wake) = host::alarm(delay_ms);
        *self.wake.borrow_mut() = Some(wake);
        let _ = JsFuture::from(promise).await;
        self.wake.borrow_mut().take();
    }

    async fn exchange(&self, request: &Request) {
        let controller = AbortController::new();
        *self.abort.borrow_mut() = Some(controller.clone());
        let lost = controller.clone();
        let on_timeout = Closure::once(move || lost.abort());
        let delay_ms = request.timeout_ms.map(|timeout_ms| timeout_ms as f64);
        let timer = delay_ms.map(|delay_ms| host::set_timeout(on_timeout.as_ref().unchecked_ref(), delay_ms));
        let reply = self.send(request, &controller).await;
        if let Some(timer) = timer {
            host::clear_timeout(&timer);
        }
        self.abort.borrow_mut().take();
        match reply {
            Ok((response, body)) => self.handle_reply(&response, &body),
            Err(_network) => self.machine.borrow_mut().handle_network_error(host::moment()),
        }
    }

    async fn send(
        &self,
        request: &Request,
        controller: &AbortController,
    ) -> Result<(HttpResponse, JsString), JsValue> {
        let headers = match self.hooks.headers_hook() {
            Some(hook) => JsFuture::from(Promise::resolve(&hook.call0(&JsValue::UNDEFINED)?)).await?,
            None => JsValue::UNDEFINED,
        };
        if controller.signal().aborted() {
            // Paused or stopped while the headers were being made.
            return Err(JsValue::UNDEFINED);
        }
        let url = format!("{}?{}", self.url, request.query_string());
        let answer = host::fetch(self.hooks.fetch_hook(), &url, &headers, &controller.signal())?;
        let response: HttpResponse = JsFuture::from(answer).await?.unchecked_into();
        let body = JsFuture::from(response.text()?).await?.unchecked_into();
        Ok((response, body))
    }

    fn handle_reply(&self, response: &HttpResponse, text: &JsString) {
        let headers = response.headers();
        let body = String::from(text);
        let reply =
            Response { status: response.status(), header: &|name| headers.get(name), body: body.as_bytes() };
        let outcome = self.machine.borrow_mut().handle_response(&reply, host::moment());
        match outcome {
            Ok(events) => self.publish(events, text),
            Err(error) => *self.error.borrow_mut() = js_error(&error),
        }
    }

    fn publish(&self, events: Vec<Event>, text: &JsString) {
        let subscribers = self.subscribers.borrow().clone();
        let is_up_to_date_only = events == [Event::UpToDate];
        for event in events {
            let text = match &event {
                Event::Messages(_) => Some(text.clone()),
                Event::MustRefetch => Some(JsString::from(MUST_REFETCH)),
                Event::UpToDate => is_up_to_date_only.then(|| JsString::from(UP_TO_DATE)),
            };
            if let Some(text) = text {
                self.publish_messages(&subscribers, &text);
            }
            self.publish_rows(&subscribers, event);
        }
        self.publish_status();
    }

    fn publish_messages(&self, subscribers: &[(u32, Subscriber)], text: &JsString) {
        for (_, subscriber) in subscribers {
            if let Subscriber::Messages(callback) = subscriber {
                let schema = self.with_machine(|machine| machine.schema().map(JsValue::from));
                report(callback.call2(&JsValue::UNDEFINED, text, &schema.unwrap_or_default()));
            }
        }
    }

    /// The last one gets the event itself: a large reply is not copied for a single shape.
    fn publish_rows(&self, subscribers: &[(u32, Subscriber)], event: Event) {
        let rows = |(_, subscriber): &(u32, Subscriber)| match subscriber {
            Subscriber::Rows(rows) => Some(Rc::clone(rows)),
            _ => None,
        };
        let mut shapes: Vec<_> = subscribers.iter().filter_map(rows).collect();
        let Some(last) = shapes.pop() else { return };
        let copies = shapes.into_iter().map(|rows| rows.handle_event(event.clone()));
        let outcome = copies.collect::<Result<(), _>>().and_then(|()| last.handle_event(event));
        if let Err(error) = outcome {
            *self.error.borrow_mut() = Error::new(&error.to_string()).into();
            self.stop();
        }
    }

    /// Asks the owner whether another attempt makes sense; its answer holds changed parameters.
    async fn recover(&self) -> bool {
        let Some(hook) = self.hooks.error_hook() else { return false };
        let answer = match hook.call1(&JsValue::UNDEFINED, &self.error()) {
            Ok(answer) => JsFuture::from(Promise::resolve(&answer)).await,
            Err(thrown) => Err(thrown),
        };
        let parameters = match answer {
            Ok(answer) => answer.as_string().and_then(|json| parameters(&json)),
            Err(thrown) => {
                *self.error.borrow_mut() = thrown;
                None
            }
        };
        let Some(parameters) = parameters else { return false };
        let parameters = parameters.iter().map(|(name, value)| (name.as_str(), value));
        let recovered = self.machine.borrow_mut().recover(parameters, host::moment());
        match recovered {
            Ok(is_recovered) => {
                if is_recovered {
                    *self.error.borrow_mut() = JsValue::UNDEFINED;
                }
                is_recovered
            }
            Err(error) => {
                *self.error.borrow_mut() = Error::new(&error.to_string()).into();
                false
            }
        }
    }

    fn publish_status(&self) {
        let status = self.status();
        // A failure is shown once it is sure that nobody recovers from it.
        if (status == Status::Failed && self.is_started.get()) || self.shown_status.get() == Some(status) {
            return;
        }
        self.shown_status.set(Some(status));
        let subscribers = self.subscribers.borrow().clone();
        for (_, subscriber) in subscribers {
            if let Subscriber::Status(callback) = subscriber {
                report(callback.call2(&JsValue::UNDEFINED, &status_text(status).into(), &self.error()));
            }
        }
    }

    /// The machine's status, but failed where the rows could not be kept.
    pub fn status(&self) -> Status {
        let status = self.with_machine(ShapeStream::status);
        let has_error = !self.error.borrow().is_undefined();
        if status == Status::Done && has_error { Status::Failed } else { status }
    }
}

/// The word for a status.
pub fn status_text(status: Status) -> &'static str {
    match status {
        Status::Syncing => "syncing",
        Status::Live => "live",
        Status::Retrying => "retrying",
        Status::Paused => "paused",
        Status::Done => "done",
        Status::Failed => "failed",
    }
}

/// An exception in a callback is its owner's; the stream goes on.
pub fn report(outcome: Result<JsValue, JsValue>) {
    if let Err(thrown) = outcome {
        host::console_error(&thrown);
    }
}

fn parameters(json: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    serde_json::from_str(json).ok()
}

/// An `Error` with the fields that callers decide by: `status`, and `json` where the server sent some.
fn js_error(error: &StreamError) -> JsValue {
    let js = Error::new(&error.to_string());
    if let StreamError::Refused { status, body } = error {
        js.set_name("FetchError");
        let json = JSON::parse(body).unwrap_or(JsValue::UNDEFINED);
        let _ = Reflect::set(&js, &"status".into(), &JsValue::from(*status));
        let _ = Reflect::set(&js, &"json".into(), &json);
    }
    js.into()
}
