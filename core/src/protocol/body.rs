//! The JSON body of a `POST`: parameters that win over those of the query (protocol §2.2).

use super::parameter::{Parameter, SUBSET_PREFIX};
use super::query::{Query, Value};
use serde_json::json;

/// The largest body that is read.
pub const BODY_BYTES_MAX: usize = 8_000_000;

/// Keys that mean the subset where they stand at the top of a body without a `subset` object.
const SUBSET_KEYS: [&str; 7] =
    ["where", "order_by", "limit", "offset", "params", "where_expr", "order_by_expr"];

/// A body that holds no parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not JSON; with the place and reason.
    #[error("Invalid JSON in request body")]
    NotJson(String),
    /// JSON, but no object.
    #[error("Request body must be a JSON object")]
    NotAnObject,
    /// More than [`BODY_BYTES_MAX`].
    #[error("Request body too large")]
    TooLarge,
    /// The connection ended first, or what came is no HTTP.
    #[error("Failed to read request body")]
    Unreadable,
    /// It took too long to come.
    #[error("Request body took too long")]
    TooSlow,
}

impl BodyError {
    /// The status of the reply.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::TooLarge => 413,
            Self::TooSlow => 408,
            Self::NotJson(_) | Self::NotAnObject | Self::Unreadable => 400,
        }
    }

    /// The JSON body of the reply.
    #[must_use]
    pub fn body(&self) -> String {
        let body = match self {
            Self::NotJson(details) => json!({ "error": self.to_string(), "details": details }),
            _ => json!({ "error": self.to_string() }),
        };
        body.to_string()
    }
}

impl Query {
    /// Merges a body over the query; an empty one changes nothing.
    ///
    /// # Errors
    /// As [`BodyError`] tells.
    pub fn merge_body(&mut self, body: &[u8]) -> Result<(), BodyError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(BodyError::TooLarge);
        }
        if body.is_empty() {
            return Ok(());
        }
        let body = serde_json::from_slice(body).map_err(|error| BodyError::NotJson(error.to_string()))?;
        let serde_json::Value::Object(mut members) = body else {
            return Err(BodyError::NotAnObject);
        };
        let subset = match members.remove("subset") {
            Some(serde_json::Value::Object(subset)) => {
                // Even an empty one asks for a subset.
                self.set_named(SUBSET_PREFIX, Some(Value::Text(String::new())));
                subset
            }
            _ => SUBSET_KEYS.iter().filter_map(|key| members.remove_entry(*key)).collect(),
        };
        for (name, value) in subset {
            self.set_named(&format!("{SUBSET_PREFIX}{name}"), parameter(value));
        }
        for (name, value) in members {
            // Flags are true unless they are the text `false`; a JSON `false` is no text.
            let flags = [Parameter::Live.as_str(), Parameter::LiveSse.as_str()];
            let is_flag = value.is_boolean() && flags.contains(&name.as_str());
            let value = if is_flag { Some(Value::Text("true".to_owned())) } else { parameter(value) };
            self.set_named(&name, value);
        }
        Ok(())
    }
}

impl Query {
    /// The subset's parameters as a body, which [`merge_body`](Self::merge_body) reads again; an empty one where there
    /// are none. The others belong into the query, since at the top of a body some of their names mean a subset's.
    #[must_use]
    pub fn subset_body(&self) -> String {
        if !self.asks_for_subset() {
            return String::new();
        }
        let named = self.iter().filter_map(|(name, value)| Some((name.strip_prefix(SUBSET_PREFIX)?, value)));
        let members =
            named.filter(|(name, _)| !name.is_empty()).map(|(name, value)| (name.to_owned(), member(value)));
        json!({ "subset": serde_json::Value::Object(members.collect()) }).to_string()
    }
}

fn member(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(text) => json!(text),
        Value::List(items) => items.iter().map(member).collect(),
        Value::Map(entries) => entries.iter().map(|(name, value)| (name.clone(), member(value))).collect(),
    }
}

/// A JSON value in the form that the query string would give it; null is absent.
pub(super) fn parameter(value: serde_json::Value) -> Option<Value> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(Value::Text(text)),
        serde_json::Value::Bool(_) | serde_json::Value::Number(_) => Some(Value::Text(value.to_string())),
        serde_json::Value::Array(items) => {
            Some(Value::List(items.into_iter().filter_map(parameter).collect()))
        }
        serde_json::Value::Object(members) => {
            let members = members.into_iter().filter_map(|(name, value)| Some((name, parameter(value)?)));
            Some(Value::Map(members.collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SubsetRequest;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_subset_is_the_same_behind_a_body() {
        for body in [
            r#"{"subset":{"where":"a = 1","params":{"1":"y"},"limit":3,"x":["b",null,true]},"offset":"-1"}"#,
            r#"{"subset":{},"where":"b"}"#,
            r#"{"where":"a = 1","order_by":"id"}"#,
            "{}",
        ] {
            let mut query = Query::parse("table=t&params[1]=x&columns[]=a").unwrap();
            let mut again = query.clone();
            query.merge_body(body.as_bytes()).unwrap();
            again.merge_body(query.subset_body().as_bytes()).unwrap();
            assert_eq!(SubsetRequest::read(&again), SubsetRequest::read(&query), "{body}");
            assert_eq!(again.asks_for_subset(), query.asks_for_subset(), "{body}");
        }
    }

    fn merged(query: &str, body: &str) -> Result<Vec<(String, Value)>, BodyError> {
        let mut query = Query::parse(query).unwrap();
        query.merge_body(body.as_bytes())?;
        Ok(query.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect())
    }

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    fn named<const N: usize>(entries: [(&str, Value); N]) -> Result<Vec<(String, Value)>, BodyError> {
        Ok(entries.map(|(name, value)| (name.to_owned(), value)).into())
    }

    #[test]
    fn the_body_wins_over_the_query() {
        assert_eq!(
            merged("table=a&x=1", r#"{"table":"b"}"#),
            named([("table", text("b")), ("x", text("1"))])
        );
        assert_eq!(merged("table=a", r#"{"table":null}"#), named([]));
        assert_eq!(merged("table=a", ""), named([("table", text("a"))]));
        assert_eq!(merged("table=a", "{}"), named([("table", text("a"))]));
        let columns = Value::List(vec![text("id"), text("a")]);
        assert_eq!(merged("", r#"{"columns":["id","a"]}"#), named([("columns", columns)]));
    }

    #[test]
    fn without_a_subset_object_some_keys_mean_the_subset() {
        let params = Value::Map([("1".to_owned(), text("5"))].into());
        assert_eq!(
            merged("offset=-1&where=a", r#"{"where":"b","limit":2,"params":{"1":5},"replica":"full"}"#),
            named([
                ("offset", text("-1")),
                ("replica", text("full")),
                ("subset__limit", text("2")),
                ("subset__params", params),
                ("subset__where", text("b")),
                ("where", text("a")),
            ])
        );
    }

    #[test]
    fn beside_a_subset_object_they_mean_the_shape() {
        assert_eq!(
            merged("", r#"{"subset":{},"where":"b"}"#),
            named([("subset__", text("")), ("where", text("b"))])
        );
    }

    #[test]
    fn a_json_false_is_not_the_text_false() {
        assert_eq!(merged("", r#"{"live":false}"#), named([("live", text("true"))]));
        assert_eq!(merged("", r#"{"live":"false"}"#), named([("live", text("false"))]));
    }

    #[test]
    fn other_bodies_are_refused_in_their_own_form() {
        for body in ["[]", "\"x\"", "null", "1"] {
            assert_eq!(merged("", body), Err(BodyError::NotAnObject));
        }
        assert_eq!(BodyError::NotAnObject.body(), r#"{"error":"Request body must be a JSON object"}"#);
        let error = merged("", "{bad").unwrap_err();
        let body: serde_json::Value = serde_json::from_str(&error.body()).unwrap();
        assert_eq!(body["error"], "Invalid JSON in request body");
        assert!(body["details"].is_string());
        assert!(matches!(merged("", &"[".repeat(100_000)), Err(BodyError::NotJson(_))));
        assert_eq!(merged("", &" ".repeat(BODY_BYTES_MAX + 1)), Err(BodyError::TooLarge));
        assert_eq!((BodyError::TooLarge.status(), BodyError::NotAnObject.status()), (413, 400));
    }
}
