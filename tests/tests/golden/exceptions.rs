//! Where Limn's answers are not the recorded ones: on purpose (`exceptions.jsonl`), or not yet
//! (`not_yet.jsonl`). Both lists say why, and neither may hold what is no longer so.

use crate::transcript::{Step, Transcript, folder, item, lines, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// An answer of ours that is not the recorded one.
#[derive(Debug)]
struct Exception {
    change: Value,
    ends: bool,
    varies: bool,
}

/// The lists of a file of transcripts.
#[derive(Debug)]
pub struct Exceptions {
    /// What we answer, as a change of the recorded answer, by transcript and step.
    ours: BTreeMap<(String, usize), Exception>,
    /// By transcript: whether it works now and then.
    not_yet: BTreeMap<String, bool>,
}

impl Exceptions {
    /// Reads them.
    ///
    /// # Panics
    /// Where an entry has no transcript, or no rule in `README.md` that allows it.
    pub fn load(file: &str, transcripts: &[Transcript]) -> Self {
        let readme = fs::read_to_string(folder().join("README.md")).expect("the rules are written down");
        let find = |entry: &Value| {
            let found = transcripts.iter().find(|it| it.item == item(entry) && it.title == entry["title"]);
            found.unwrap_or_else(|| unreachable!("no such transcript: {entry}"))
        };
        let of_file = |name: &str| -> Vec<Value> {
            lines(name).into_iter().filter(|entry| entry["file"] == file).collect()
        };
        let exceptions = of_file("exceptions.jsonl").into_iter().map(|entry| {
            let rule = text(&entry["rule"]);
            assert!(readme.contains(&format!("| `{rule}` |")), "README.md has no rule `{rule}`: {entry}");
            let step = entry["step"].as_u64().and_then(|step| usize::try_from(step).ok());
            let step = step.expect("the number of a step");
            let recorded = find(&entry).steps.get(step);
            assert!(recorded.is_some_and(Step::is_compared), "that step has no answer: {entry}");
            ((find(&entry).to_string(), step), Exception::new(&entry))
        });
        let not_yet = of_file("not_yet.jsonl").into_iter().map(|entry| {
            assert!(!text(&entry["because"]).is_empty(), "no reason: {entry}");
            (find(&entry).to_string(), entry["sometimes"] == true)
        });
        Self { ours: exceptions.collect(), not_yet: not_yet.collect() }
    }

    /// What we answer instead, if that is another answer on purpose.
    pub fn ours(&self, transcript: &Transcript, step: usize, recorded: &Value) -> Option<Value> {
        let exception = self.ours.get(&(transcript.to_string(), step))?;
        let mut ours = recorded.clone();
        merge(&mut ours, &exception.change);
        if let Some(body) = exception.change.get("body") {
            ours["body"] = body.clone();
        }
        Some(ours)
    }

    /// The rows that a statement returns here instead.
    pub fn rows(&self, transcript: &Transcript, step: usize) -> Option<&Value> {
        self.ours.get(&(transcript.to_string(), step))?.change.get("rows")
    }

    /// Whether what was recorded after that step makes no sense after our answer.
    pub fn ends(&self, transcript: &Transcript, step: usize) -> bool {
        self.ours.get(&(transcript.to_string(), step)).is_some_and(|exception| exception.ends)
    }

    /// Whether only the status of our answer is the same in every run.
    pub fn varies(&self, transcript: &Transcript, step: usize) -> bool {
        self.ours.get(&(transcript.to_string(), step)).is_some_and(|exception| exception.varies)
    }

    /// Whether it is listed as something that does not work yet; if so, whether it works now and then.
    pub fn not_yet(&self, transcript: &Transcript) -> Option<bool> {
        self.not_yet.get(&transcript.to_string()).copied()
    }
}

impl Exception {
    fn new(entry: &Value) -> Self {
        Self { change: entry["ours"].clone(), ends: entry["ends"] == true, varies: entry["varies"] == true }
    }
}

/// Changes an answer as RFC 7396 says: members are replaced, `null` removes, all else is kept.
fn merge(target: &mut Value, change: &Value) {
    let Value::Object(members) = change else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let target = target.as_object_mut().expect("it was made one");
    for (name, value) in members {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_replaces_and_removes() {
        let mut answer = json!({ "status": 200, "headers": { "a": "1", "b": "2" }, "body": [1, 2] });
        merge(&mut answer, &json!({ "headers": { "a": null, "c": "3" }, "body": [3] }));
        assert_eq!(answer, json!({ "status": 200, "headers": { "b": "2", "c": "3" }, "body": [3] }));
    }
}
