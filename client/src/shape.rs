//! `Shape` as JavaScript sees it: the rows, kept up to date.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use js_sys::Function;
use limn_core::client::{ChangeSet, Event, Rows, RowsError};
use serde::ser::{Serialize, SerializeMap, Serializer};
use wasm_bindgen::prelude::*;

use crate::driver::{Driver, Subscriber, report};
use crate::stream::ShapeStream;

/// The rows of a stream's shape.
#[wasm_bindgen]
pub struct Shape {
    driver: Rc<Driver>,
    rows: Rc<Materialised>,
    subscription: u32,
}

/// Rows and who watches them, shared between the shape and its stream's driver.
#[derive(Default)]
pub struct Materialised {
    rows: RefCell<Rows>,
    is_complete: Cell<bool>,
    callbacks: RefCell<Vec<(u32, Function)>>,
    next_callback: Cell<u32>,
}

#[wasm_bindgen]
impl Shape {
    /// Follows the stream, and starts it where nothing else has. Rows that the stream delivered before
    /// are not seen: make the shape first.
    #[wasm_bindgen(constructor)]
    pub fn new(stream: &ShapeStream) -> Self {
        let rows = Rc::new(Materialised::default());
        let driver = Rc::clone(stream.driver());
        let subscription = driver.subscribe(Subscriber::Rows(Rc::clone(&rows)));
        Self { driver, rows, subscription }
    }

    /// Calls back when rows have changed. The argument is `undefined` when all rows have to be read
    /// again, else the JSON text of `{"upserted": [[key, row]], "deleted": [key]}`.
    pub fn subscribe(&self, callback: Function) -> u32 {
        let id = self.rows.next_callback.replace(self.rows.next_callback.get() + 1);
        self.rows.callbacks.borrow_mut().push((id, callback));
        id
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, id: u32) {
        self.rows.callbacks.borrow_mut().retain(|(known, _)| *known != id);
    }

    /// All rows as the JSON text of `[[key, row]]`, values in Postgres's text format.
    #[wasm_bindgen(js_name = rowsJson)]
    pub fn rows_json(&self) -> Result<String, JsError> {
        Ok(serde_json::to_string(&AllRows(&self.rows.rows.borrow()))?)
    }

    /// How many rows there are.
    #[wasm_bindgen(getter)]
    pub fn size(&self) -> usize {
        self.rows.rows.borrow().len()
    }

    /// True once the shape has been read to its end.
    #[wasm_bindgen(getter, js_name = isComplete)]
    pub fn is_complete(&self) -> bool {
        self.rows.is_complete.get()
    }

    /// Stops following; the stream goes on for its other subscribers.
    pub fn detach(&self) {
        self.driver.unsubscribe(self.subscription);
    }
}

impl Materialised {
    /// Takes one event of the stream and tells the callbacks what it made visible.
    pub fn handle_event(&self, event: Event) -> Result<(), RowsError> {
        let Some(changes) = self.rows.borrow_mut().handle_event(event)? else { return Ok(()) };
        let is_first = !self.is_complete.replace(true);
        if !is_first && changes.is_empty() && !changes.is_reload {
            return Ok(());
        }
        let argument = if changes.is_reload { JsValue::UNDEFINED } else { self.delta(&changes) };
        let callbacks = self.callbacks.borrow().clone();
        for (_, callback) in callbacks {
            report(callback.call1(&JsValue::UNDEFINED, &argument));
        }
        Ok(())
    }

    fn delta(&self, changes: &ChangeSet) -> JsValue {
        let rows = self.rows.borrow();
        let delta = Delta { rows: &rows, changes };
        serde_json::to_string(&delta).map_or(JsValue::UNDEFINED, JsValue::from)
    }
}

struct AllRows<'a>(&'a Rows);

impl Serialize for AllRows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(key, row)| (&**key, row)))
    }
}

struct Delta<'a> {
    rows: &'a Rows,
    changes: &'a ChangeSet,
}

struct Upserted<'a>(&'a Delta<'a>);

struct Keys<'a>(&'a [Arc<str>]);

impl Serialize for Delta<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("upserted", &Upserted(self))?;
        map.serialize_entry("deleted", &Keys(&self.changes.deleted))?;
        map.end()
    }
}

impl Serialize for Upserted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Delta { rows, changes } = self.0;
        let keys = changes.updated.iter().chain(&changes.inserted);
        serializer.collect_seq(keys.filter_map(|key| Some((&**key, rows.row(key)?))))
    }
}

impl Serialize for Keys<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|key| &**key))
    }
}
