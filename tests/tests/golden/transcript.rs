//! A recorded transcript: what to do with Postgres and the server, and what was answered.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::PathBuf;

/// A line of a file of `fixtures/golden`.
#[derive(Debug)]
pub struct Transcript {
    /// The file's name without its ending.
    pub file: String,
    /// The item of the conformance list, where there is one.
    pub item: String,
    /// Says what it is about.
    pub title: String,
    /// SQL that comes before anything else.
    pub setup: Vec<String>,
    /// Settings of the server, by the names of the recorded program.
    pub config: BTreeMap<String, String>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// Header names of which only the form counts here.
    pub volatile: Vec<String>,
    /// Whether it varies which answer a row comes in; each must come once.
    pub rows_wander: bool,
}

/// One thing that happens.
#[derive(Debug)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// What was answered: `status`, `headers`, `body` and what else was written down.
    pub response: Option<Value>,
    /// How long that took, where it was worth writing down.
    pub seconds: Option<f64>,
    /// Further names for values of the answer, with where they are.
    pub save: Vec<(String, String)>,
    /// A name under which the answer's headers are kept.
    pub label: Option<String>,
}

/// See [`Step`].
#[derive(Debug)]
pub enum Action {
    /// A request and its answer.
    Request(Call),
    /// A request that is left waiting under a name.
    Start(String, Call),
    /// Takes the answer of the request left waiting under that name.
    Await(String),
    /// Live requests until one says something.
    PollUntilNews,
    /// Statements, on the session of that name if one is given; the rows that were returned, if written down.
    Sql { sql: String, session: Option<String>, rows: Option<Value> },
    /// What was done in words.
    Words(String),
}

/// A request as recorded: with variables.
#[derive(Debug, Clone)]
pub struct Call {
    /// Such as `GET`.
    pub method: String,
    /// The request target.
    pub path: String,
    /// In order; a name may come twice.
    pub headers: Vec<(String, String)>,
    /// Empty where there is none.
    pub body: String,
    /// The server it goes to, where that is not the first.
    pub on: Option<String>,
}

/// The folder of the recorded facts.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden")
}

/// The lines of a file of JSON in that folder.
pub fn lines(name: &str) -> Vec<Value> {
    let path = folder().join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| unreachable!("{}: {error}", path.display()));
    let line = |line: &str| {
        serde_json::from_str(line).unwrap_or_else(|error| unreachable!("{name}: {error}: {line}"))
    };
    text.lines().filter(|line| !line.is_empty()).map(line).collect()
}

/// The transcripts of a file.
pub fn load(file: &str) -> Vec<Transcript> {
    lines(&format!("{file}.jsonl")).iter().map(|line| Transcript::new(file, line)).collect()
}

/// An item's number as text: some are numbers, some have a letter.
pub fn item(line: &Value) -> String {
    match &line["item"] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        number => number.to_string(),
    }
}

/// A string of the record.
///
/// # Panics
/// Where it is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| unreachable!("not a string: {value}")).to_owned()
}

impl Transcript {
    fn new(file: &str, line: &Value) -> Self {
        let config = object(&line["config"]).iter().map(|(name, value)| (name.clone(), text(value)));
        let volatile = |path: &Value| path.as_str()?.strip_prefix("headers.").map(str::to_owned);
        Self {
            file: file.to_owned(),
            item: item(line),
            title: text(&line["title"]),
            setup: array(&line["setup"]).iter().map(text).collect(),
            config: config.collect(),
            steps: array(&line["steps"]).iter().map(Step::new).collect(),
            volatile: array(&line["volatile"]).iter().filter_map(volatile).collect(),
            rows_wander: array(&line["volatile"]).iter().any(|it| text(it).ends_with("each exactly once")),
        }
    }

    /// Whether it must have the database for itself: it keeps transactions open, for which others'
    /// snapshots would have to wait, or asks for a position that nobody else's changes may reach.
    pub fn needs_silence(&self) -> bool {
        self.steps.iter().any(|step| match &step.action {
            Action::Sql { session, .. } => session.is_some(),
            Action::Words(words) => words.starts_with("${ahead}"),
            _ => false,
        })
    }

    /// The suffix of publication and slot on the recorded server, where it comes up.
    pub fn stream_id(&self) -> Option<&str> {
        self.steps.iter().find_map(|step| {
            let Action::Sql { sql, .. } = &step.action else { return None };
            let (_, rest) =
                sql.split_once("electric_publication_").or_else(|| sql.split_once("electric_slot_"))?;
            rest.split(|c: char| !c.is_ascii_alphanumeric()).next()
        })
    }

    /// The tables of its requests, but for the one that most transcripts share. Those with a table in
    /// common follow each other.
    pub fn tables(&self) -> BTreeSet<String> {
        let paths = self.steps.iter().filter_map(|step| match &step.action {
            Action::Request(call) | Action::Start(_, call) => Some(call.path.as_str()),
            _ => None,
        });
        let table = |path: &str| Some(path.split_once("table=")?.1.split('&').next()?.to_owned());
        paths.filter_map(table).filter(|table| table != "t").collect()
    }
}

impl Display for Transcript {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.file, self.item, self.title)
    }
}

impl Step {
    fn new(step: &Value) -> Self {
        let save = step["save"].as_object().into_iter().flatten();
        Self {
            action: Action::new(step),
            response: step.get("response").cloned(),
            seconds: step["seconds"].as_f64(),
            save: save.map(|(name, path)| (name.clone(), text(path))).collect(),
            label: step["as"].as_str().map(str::to_owned),
        }
    }

    /// Whether something was recorded that can be compared.
    pub fn is_compared(&self) -> bool {
        self.response.is_some() || matches!(&self.action, Action::Sql { rows: Some(_), .. })
    }
}

impl Action {
    fn new(step: &Value) -> Self {
        if let Some(sql) = step["sql"].as_str() {
            let session = step["session"].as_str().map(str::to_owned);
            return Self::Sql { sql: sql.to_owned(), session, rows: step.get("rows").cloned() };
        }
        if let Some(name) = step["await"].as_str() {
            return Self::Await(name.to_owned());
        }
        if step.get("live polls until something other than a timeout").is_some() {
            return Self::PollUntilNews;
        }
        let Some(request) = step.get("request") else {
            let words = ["note", "event", "result"].map(|name| &step[name]);
            let words = words.into_iter().find(|words| !words.is_null()).expect("a step of a known kind");
            return Self::Words(words.as_str().map_or_else(|| words.to_string(), str::to_owned));
        };
        let call = Call::new(request, step["on"].as_str());
        match step["start"].as_str() {
            Some(name) => Self::Start(name.to_owned(), call),
            None => Self::Request(call),
        }
    }
}

impl Call {
    fn new(request: &Value, on: Option<&str>) -> Self {
        let headers = request["headers"].as_object().into_iter().flatten();
        let headers = headers.flat_map(|(name, value)| match value {
            Value::Array(values) => values.iter().map(|value| (name.clone(), text(value))).collect(),
            value => vec![(name.clone(), text(value))],
        });
        Self {
            method: text(&request["method"]),
            path: text(&request["path"]),
            headers: headers.collect(),
            body: request["body"].as_str().unwrap_or_default().to_owned(),
            on: on.map(str::to_owned),
        }
    }

    /// Whether it waits for something to happen.
    pub fn is_live(&self) -> bool {
        self.path.contains("live=true")
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| unreachable!("not an object: {value}"))
}
