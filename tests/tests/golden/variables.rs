//! The values that requests take from earlier answers: `${handle}`, `${offset}`, `${poll.handle}` and their like.

use crate::answer::Answer;
use crate::transcript::Step;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a replay remembers.
#[derive(Debug, Default)]
pub struct Variables {
    values: BTreeMap<String, String>,
}

/// The variables that always have the latest value, with the header they come from.
const LATEST: [(&str, &str); 4] = [
    ("handle", "electric-handle"),
    ("offset", "electric-offset"),
    ("cursor", "electric-cursor"),
    ("etag", "etag"),
];

impl Variables {
    /// Sets one.
    pub fn set(&mut self, name: &str, value: String) {
        self.values.insert(name.to_owned(), value);
    }

    /// Remembers an answer; its headers also under `label`. Headers that were not recorded do not count:
    /// requests that follow were made without them.
    pub fn remember(&mut self, answer: &Answer, step: &Step, label: Option<&str>) {
        let was_recorded = |header: &str| {
            step.response.as_ref().is_some_and(|recorded| recorded["headers"].get(header).is_some())
        };
        for (name, header) in LATEST {
            let Some(value) = answer.headers.get(header).filter(|_| was_recorded(header)) else { continue };
            self.set(name, value.clone());
            if let Some(label) = label {
                self.set(&format!("{label}.{name}"), value.clone());
            }
        }
    }

    /// Remembers a value of an answer by the path to it.
    ///
    /// # Panics
    /// Where the path is of no known kind.
    pub fn save(&mut self, name: &str, path: &str, answer: &Answer) {
        let value = if let Some(header) = path.strip_prefix("headers.") {
            answer.headers.get(header).cloned()
        } else {
            let key = path.strip_prefix("frames[-1].headers.").expect("a path to a header or the last frame");
            let last = answer.body.as_array().and_then(|frames| frames.last());
            last.and_then(|frame| frame["headers"][key].as_str()).map(str::to_owned)
        };
        // Where the answer lacks it, the comparison says so, and what follows differs.
        self.set(name, value.unwrap_or_default());
    }

    /// Puts the values in. What is not known stays as it is.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').expect("a variable ends");
            filled.push_str(before);
            match (repeated(name), self.values.get(name)) {
                (Some(value), _) => filled.push_str(&value),
                (None, Some(value)) => filled.push_str(value),
                (None, None) => filled.push_str(&format!("${{{name}}}")),
            }
            rest = after;
        }
        filled + rest
    }

    /// The same in every string of a JSON value.
    pub fn fill_all(&self, value: &mut Value) {
        match value {
            Value::String(text) if text.contains("${") => *text = self.fill(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.fill_all(value)),
            Value::Object(members) => members.values_mut().for_each(|value| self.fill_all(value)),
            _ => {}
        }
    }
}

/// `repeat:x:3` is `xxx`.
fn repeated(name: &str) -> Option<String> {
    let (text, count) = name.strip_prefix("repeat:")?.rsplit_once(':')?;
    Some(text.repeat(count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_and_repetitions_are_filled_in() {
        let mut variables = Variables::default();
        variables.set("handle", "1-2".to_owned());
        assert_eq!(variables.fill("a${handle}b${repeat:xy:2}${other}"), "a1-2bxyxy${other}");
        let mut body = json!([{ "a": "${repeat:::3}" }]);
        variables.fill_all(&mut body);
        assert_eq!(body, json!([{ "a": ":::" }]));
    }
}
