//! The shape that a stream follows, and from where: the definition's parameters as they stand in the URL.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::offset::Offset;

/// The shape to follow, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamOptions {
    /// Sent with every request: `table`, `where`, `params[1]`, `columns`, `replica`, and whatever else a
    /// proxy in front of the server wants.
    parameters: BTreeMap<String, String>,
    /// Whether the initial rows are wanted.
    pub log: LogMode,
    /// Where to begin.
    pub start: Start,
    /// End at the first up-to-date instead of following the log live.
    pub stop_when_up_to_date: bool,
}

/// Which part of the log the server sends (`log`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogMode {
    /// The initial rows, then the changes.
    #[default]
    Full,
    /// Only the changes.
    ChangesOnly,
}

/// The position of the first request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// The initial rows first.
    #[default]
    Beginning,
    /// Only what changes from now on.
    Now,
    /// Where an earlier stream of the same shape ended.
    After {
        /// The handle of that stream.
        handle: String,
        /// The last offset it received.
        offset: Offset,
    },
}

/// A parameter cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The stream itself sets the parameter.
    #[error("parameter `{0}` is set by the client and cannot be given")]
    Reserved(String),
    /// The value has no form in a URL.
    #[error("invalid parameter `{0}`: expected text, a number, a boolean, a list or an object of those")]
    Unsendable(String),
    /// `log` has two values.
    #[error("invalid parameter `log`: expected `full` or `changes_only`, got `{0}`")]
    UnknownLogMode(String),
}

const RESERVED: [&str; 8] = [
    "offset",
    "handle",
    "cursor",
    "live",
    "live_sse",
    "experimental_live_sse",
    "expired_handle",
    "cache-buster",
];

impl StreamOptions {
    /// Follows a whole table from its first row.
    #[must_use]
    pub fn new(table: &str) -> Self {
        Self { parameters: BTreeMap::from([("table".to_owned(), table.to_owned())]), ..Self::default() }
    }

    /// Sets one parameter. Lists become what the server reads: names in double quotes for `columns`,
    /// numbered placeholders for `params`, comma-separated text for the rest; objects become `name[key]`.
    /// Null removes the parameter.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), OptionsError> {
        if RESERVED.contains(&name) {
            return Err(OptionsError::Reserved(name.to_owned()));
        }
        if name == "log" {
            self.log = log_mode(&scalar(name, value)?)?;
            return Ok(());
        }
        let prefix = format!("{name}[");
        self.parameters.retain(|known, _| known != name && !known.starts_with(&prefix));
        match value {
            Value::Null => {}
            Value::Array(items) if name == "params" => {
                for (index, item) in items.iter().enumerate() {
                    self.parameters.insert(format!("params[{}]", index + 1), scalar(name, item)?);
                }
            }
            Value::Array(items) => {
                let text = |item| scalar(name, item).map(|text| listed(name, &text));
                let items = items.iter().map(text).collect::<Result<Vec<_>, _>>()?;
                self.parameters.insert(name.to_owned(), items.join(","));
            }
            Value::Object(entries) => {
                for (key, item) in entries {
                    self.parameters.insert(format!("{name}[{key}]"), scalar(name, item)?);
                }
            }
            value => {
                self.parameters.insert(name.to_owned(), scalar(name, value)?);
            }
        }
        Ok(())
    }

    /// The parameters every request carries, sorted by name.
    #[must_use]
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }
}

impl LogMode {
    /// The parameter's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ChangesOnly => "changes_only",
        }
    }
}

fn log_mode(text: &str) -> Result<LogMode, OptionsError> {
    match text {
        "full" => Ok(LogMode::Full),
        "changes_only" => Ok(LogMode::ChangesOnly),
        other => Err(OptionsError::UnknownLogMode(other.to_owned())),
    }
}

fn scalar(name: &str, value: &Value) -> Result<String, OptionsError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(OptionsError::Unsendable(name.to_owned())),
    }
}

/// A name in a list of columns is always quoted, so that `"Order"` and `order` stay apart.
fn listed(name: &str, text: &str) -> String {
    match name {
        "columns" | "queryable_columns" => format!("\"{}\"", text.replace('"', "\"\"")),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn sent(options: &StreamOptions) -> Vec<(&str, &str)> {
        options.parameters().iter().map(|(name, value)| (&**name, &**value)).collect()
    }

    #[test]
    fn lists_and_objects_take_the_form_the_server_reads() {
        let mut options = StreamOptions::new("issue");
        options.set("columns", &json!(["id", "Ti\"tle"])).unwrap();
        options.set("where", &json!("n > $1 AND s = $2")).unwrap();
        options.set("params", &json!([7, "x"])).unwrap();
        options.set("tenant", &json!({"id": true})).unwrap();
        options.set("log", &json!("changes_only")).unwrap();
        assert_eq!(
            sent(&options),
            [
                ("columns", "\"id\",\"Ti\"\"tle\""),
                ("params[1]", "7"),
                ("params[2]", "x"),
                ("table", "issue"),
                ("tenant[id]", "true"),
                ("where", "n > $1 AND s = $2"),
            ]
        );
        assert_eq!(options.log, LogMode::ChangesOnly);
        options.set("params", &json!({"1": "y"})).unwrap();
        options.set("tenant", &Value::Null).unwrap();
        assert_eq!(options.parameters().get("params[1]").map(String::as_str), Some("y"));
        assert_eq!(options.parameters().get("params[2]"), None);
        assert_eq!(options.parameters().get("tenant[id]"), None);
    }

    #[test]
    fn what_the_client_sets_itself_is_refused() {
        let mut options = StreamOptions::new("t");
        for name in RESERVED {
            assert_eq!(options.set(name, &json!("1")), Err(OptionsError::Reserved(name.to_owned())));
        }
        assert_eq!(options.set("params", &json!([[1]])), Err(OptionsError::Unsendable("params".to_owned())));
        assert!(options.set("log", &json!("some")).is_err());
    }
}
