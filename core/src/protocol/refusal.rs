//! The body of a 400: the parameters at fault, each with its texts (protocol §2.3).

use super::query::QueryError;
use crate::pg::QualifiedName;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;

/// Why a request is refused, by parameter. The client is at fault; trying again changes nothing.
///
/// A parameter of a subset is spelled with a dot (`subset.limit`); on the wire it stands in an object of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestError {
    errors: BTreeMap<&'static str, Vec<String>>,
}

impl RequestError {
    /// A refusal for one reason.
    #[must_use]
    pub fn new(parameter: &'static str, text: impl Into<String>) -> Self {
        let mut error = Self::default();
        error.add(parameter, text);
        error
    }

    /// `table` names no table or partitioned table that has columns.
    #[must_use]
    pub fn unknown_table(table: &QualifiedName) -> Self {
        Self::new(
            "table",
            format!(
                "Table {table} does not exist. \
                 If the table name contains capitals or special characters you must quote it."
            ),
        )
    }

    /// `offset` lies beyond the log, and waiting did not help.
    #[must_use]
    pub fn offset_out_of_bounds() -> Self {
        Self::new("offset", "out of bounds for this shape")
    }

    /// Adds a reason.
    pub fn add(&mut self, parameter: &'static str, text: impl Into<String>) {
        self.errors.entry(parameter).or_default().push(text.into());
    }

    /// True where there is nothing to refuse.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The texts of one parameter.
    #[must_use]
    pub fn texts(&self, parameter: &str) -> &[String] {
        self.errors.get(parameter).map_or(&[], Vec::as_slice)
    }

    /// The JSON body of the 400.
    #[must_use]
    pub fn body(&self) -> String {
        let mut errors = serde_json::Map::new();
        for (parameter, texts) in &self.errors {
            let (outer, inner) = parameter.split_once('.').unzip();
            let place = errors.entry(outer.unwrap_or(parameter)).or_insert_with(|| json!({}));
            match inner {
                None => *place = json!(texts),
                Some(inner) => place[inner] = json!(texts),
            }
        }
        json!({ "message": "Invalid request", "errors": errors }).to_string()
    }
}

/// For logs: the parameters and their texts on one line.
impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid request")?;
        self.errors
            .iter()
            .flat_map(|(parameter, texts)| texts.iter().map(move |text| (parameter, text)))
            .try_for_each(|(parameter, text)| write!(f, "; `{parameter}`: {text}"))
    }
}

impl std::error::Error for RequestError {}

impl From<QueryError> for RequestError {
    fn from(error: QueryError) -> Self {
        Self::new("query", error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn reasons_are_reported_together() {
        let mut error = RequestError::new("offset", "can't be blank");
        error.add("log", "is invalid");
        let body: serde_json::Value = serde_json::from_str(&error.body()).unwrap();
        let expected = serde_json::json!({
            "message": "Invalid request",
            "errors": { "offset": ["can't be blank"], "log": ["is invalid"] }
        });
        assert_eq!(body, expected);
        assert_eq!(error.to_string(), "invalid request; `log`: is invalid; `offset`: can't be blank");
    }

    #[test]
    fn a_subsets_parameters_stand_in_their_own_object() {
        let mut error = RequestError::new("subset.limit", "is invalid");
        error.add("subset.params", "is invalid");
        let body: serde_json::Value = serde_json::from_str(&error.body()).unwrap();
        let expected = json!({ "limit": ["is invalid"], "params": ["is invalid"] });
        assert_eq!(body["errors"], json!({ "subset": expected }));
        assert_eq!(error.texts("subset.limit"), ["is invalid"]);
    }

    #[test]
    fn an_unknown_table_is_named_in_quotes() {
        let error = RequestError::unknown_table(&QualifiedName::new("zz", "nope"));
        let expected = "Table \"zz\".\"nope\" does not exist. \
                        If the table name contains capitals or special characters you must quote it.";
        assert_eq!(error.texts("table"), [expected]);
    }
}
