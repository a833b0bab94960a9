//! One transcript, done again.

use crate::answer::{Answer, Recorded, send};
use crate::everywhere;
use crate::exceptions::Exceptions;
use crate::likeness::{Difference, Likeness};
use crate::servers::{Server, Servers};
use crate::transcript::{Action, Call, Step, Transcript};
use crate::variables::Variables;
use futures::FutureExt;
use limn_tests::{Row, Sql, eventually};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// What came of it.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Every answer was the recorded one.
    Equal,
    /// Every answer was the recorded one, or the one that is written down as ours.
    Excepted,
    /// It failed, and is listed as what does not work yet.
    NotYet,
    /// It failed; says where and how, and proposes the entry in `exceptions.jsonl` that would allow it.
    Failed(Vec<String>),
}

/// A replay that is under way.
struct Replay<'a> {
    transcript: &'a Transcript,
    exceptions: &'a Exceptions,
    server: &'a Server,
    sql: Sql,
    sessions: BTreeMap<String, Sql>,
    waiting: BTreeMap<String, JoinHandle<io::Result<Answer>>>,
    variables: Variables,
    likeness: Likeness,
    last_call: Option<Call>,
    /// Whether something was changed that an answer may not show at once.
    unsettled: bool,
    excepted: bool,
    rows: Rows,
    /// What we answered at a step instead of what was expected.
    proposals: Vec<(usize, Value)>,
    failures: Vec<String>,
}

/// The rows of all answers, where it varies which answer a row comes in.
#[derive(Debug, Default)]
struct Rows {
    recorded: usize,
    keys: Vec<String>,
}

/// A replay that takes longer hangs.
const TIME_MAX: Duration = Duration::from_secs(150);

/// How long a request that is left waiting gets to arrive.
const ARRIVAL_TIME: Duration = Duration::from_millis(400);

/// How long changes get to arrive before a live request that should find them.
const CHANGE_TIME: Duration = Duration::from_millis(300);

/// How long an answer may take to show a change.
const SETTLING_TIME_MAX: Duration = Duration::from_secs(2);

const REPEAT_EVERY: Duration = Duration::from_millis(100);

/// How long live requests are repeated until one says something.
const NEWS_TIME_MAX: Duration = Duration::from_secs(60);

/// How long they are repeated where none said anything in the record.
const QUIET_TIME: Duration = Duration::from_secs(8);

/// How much longer than recorded an answer may take, at least.
const DELAY_MAX_S: f64 = 5.0;

/// Replays a transcript.
pub async fn replay(transcript: &Transcript, servers: &Servers, exceptions: &Exceptions) -> Outcome {
    let (excepted, failures) = match servers.of(transcript) {
        None => (false, vec![format!("Limn does not start with {:?}", transcript.config)]),
        Some(server) => {
            let run = AssertUnwindSafe(run(transcript, server, exceptions)).catch_unwind();
            match timeout(TIME_MAX, run).await {
                Ok(Ok(replay)) => (replay.excepted, replay.failures),
                Ok(Err(_)) => (false, vec!["it panicked, see above".to_owned()]),
                Err(_) => (false, vec![format!("it takes longer than {} s", TIME_MAX.as_secs())]),
            }
        }
    };
    match (failures.is_empty(), exceptions.not_yet(transcript)) {
        (true, None) if excepted => Outcome::Excepted,
        (true, None) => Outcome::Equal,
        (true, Some(false)) => {
            Outcome::Failed(vec!["it is listed in not_yet.jsonl, and it works".to_owned()])
        }
        (false, Some(_)) | (true, Some(true)) => Outcome::NotYet,
        (false, None) => Outcome::Failed(failures),
    }
}

async fn run<'a>(transcript: &'a Transcript, server: &'a Server, exceptions: &'a Exceptions) -> Replay<'a> {
    let mut replay = Replay {
        transcript,
        exceptions,
        server,
        sql: server.database.connect().await,
        sessions: BTreeMap::new(),
        waiting: BTreeMap::new(),
        variables: Variables::default(),
        likeness: Likeness::default(),
        last_call: None,
        unsettled: false,
        excepted: false,
        rows: Rows::default(),
        proposals: Vec::new(),
        failures: Vec::new(),
    };
    let alone = server.setup.lock().await;
    for sql in &transcript.setup {
        let filled = replay.variables.fill(sql);
        if let Err(error) = replay.sql.try_execute(&filled).await {
            replay.failures.push(format!("setup: {sql}: {error:?}"));
        }
    }
    drop(alone);
    for (number, step) in transcript.steps.iter().enumerate() {
        replay.step(number, step).await;
        if exceptions.ends(transcript, number) {
            break;
        }
    }
    replay.failures.extend(replay.proposals());
    if !replay.rows.came_once() {
        replay.failures.push(format!(
            "{} rows were recorded, now {}",
            replay.rows.recorded,
            replay.rows.keys.len()
        ));
    }
    replay
}

impl Replay<'_> {
    async fn step(&mut self, number: usize, step: &Step) {
        match &step.action {
            Action::Sql { sql, session, rows } => {
                self.sql(number, sql, session.as_deref(), rows.as_ref()).await;
            }
            Action::Request(call) => self.request(number, step, call).await,
            Action::Start(name, call) => self.start(number, name, call).await,
            Action::Await(name) => {
                let answer = self.waiting.remove(name).expect("it was started").await.expect("no panic");
                let answer = self.ask_until_noticed(number, step, answer).await;
                self.accept(number, step, answer);
                self.wait_published(number).await;
            }
            Action::PollUntilNews => self.poll_until_news(number, step).await,
            Action::Words(words) => self.follow_words(number, words).await,
        }
    }

    async fn sql(&mut self, number: usize, sql: &str, session: Option<&str>, rows: Option<&Value>) {
        let sql = self.variables.fill(&self.with_own_stream_id(sql));
        if let Some(name) = session
            && !self.sessions.contains_key(name)
        {
            self.sessions.insert(name.to_owned(), self.server.database.connect().await);
        }
        let connection = session.map_or(&self.sql, |name| &self.sessions[name]);
        let result = match rows {
            Some(rows) => {
                let ours = cells(&connection.rows(&sql).await);
                let expected = self.exceptions.rows(self.transcript, number);
                let recorded = recorded_cells(&self.with_own_stream_id(&rows.to_string()));
                self.excepted |= expected.is_some();
                match expected {
                    Some(_) if ours == recorded => {
                        Err("listed in exceptions.jsonl, but as recorded".to_owned())
                    }
                    Some(expected) if ours == recorded_cells(&expected.to_string()) => Ok(()),
                    None if ours == recorded => Ok(()),
                    _ => Err(format!("{rows} was recorded, now {}", json!(ours))),
                }
            }
            None => connection.try_execute(&sql).await.map_err(|error| format!("{error:?}")),
        };
        if let Err(reason) = result {
            self.failures.push(format!("step {number}: {sql}: {reason}"));
        }
        self.unsettled = true;
        // A replica identity is no news to anybody, and restored within seconds: what follows must come before that.
        let is_news = !sql.contains("replica identity");
        if is_news && !self.waiting.is_empty() {
            // Two transactions are two pieces of news.
            sleep(CHANGE_TIME).await;
        }
    }

    async fn request(&mut self, number: usize, step: &Step, call: &Call) {
        let call = self.filled(call);
        self.last_call = Some(call.clone());
        if self.unsettled && call.is_live() {
            sleep(CHANGE_TIME).await;
        }
        let began = Instant::now();
        let answer = loop {
            let answer = self.send(step, &call).await;
            let repeatable = self.unsettled && !call.is_live() && call.method != "DELETE";
            if !repeatable || began.elapsed() > SETTLING_TIME_MAX || self.is_expected(number, step, &answer) {
                break answer;
            }
            sleep(REPEAT_EVERY).await;
        };
        self.accept(number, step, answer);
    }

    async fn send(&self, step: &Step, call: &Call) -> io::Result<Answer> {
        let recorded = Recorded::of(step.response.as_ref(), step.seconds);
        send(&self.server.limn.client(), call, recorded.as_ref()).await
    }

    async fn start(&mut self, number: usize, name: &str, call: &Call) {
        let call = self.filled(call);
        self.last_call = Some(call.clone());
        let client = self.server.limn.client();
        let awaits = |step: &&Step| matches!(&step.action, Action::Await(awaited) if awaited == name);
        let end = self.transcript.steps[number..].iter().find(awaits).expect("its answer was recorded");
        let recorded = Recorded::of(end.response.as_ref(), end.seconds);
        let request = tokio::spawn(async move { send(&client, &call, recorded.as_ref()).await });
        self.waiting.insert(name.to_owned(), request);
        sleep(ARRIVAL_TIME).await;
    }

    async fn poll_until_news(&mut self, number: usize, step: &Step) {
        let began = Instant::now();
        let time_max = if has_no_news(step) { QUIET_TIME } else { NEWS_TIME_MAX };
        loop {
            let mut call = self.last_call.clone().expect("a request came before");
            let query = call.path.split_once("&handle").or_else(|| call.path.split_once("&offset"));
            let query = query.map_or(call.path.clone(), |(query, _)| query.to_owned());
            call.path =
                self.variables.fill(&format!("{query}&handle=${{handle}}&offset=${{offset}}&live=true"));
            let answer = self.send(step, &call).await;
            if began.elapsed() > time_max || !answer.as_ref().is_ok_and(is_silent) {
                return self.accept(number, step, answer);
            }
        }
    }

    /// Repeats a poll that ended without news, until the server gives the answer that `exceptions.jsonl` lists. On a
    /// busy machine the poll may end before the server's look at the catalog has noticed a change of the table.
    async fn ask_until_noticed(
        &self,
        number: usize,
        step: &Step,
        mut answer: io::Result<Answer>,
    ) -> io::Result<Answer> {
        let (began, call) = (Instant::now(), self.last_call.clone().expect("a request came before"));
        let is_ours = self.recorded(step).is_some_and(|(recorded, _)| self.ours(number, &recorded).is_some());
        while is_ours
            && answer.as_ref().is_ok_and(is_silent)
            && !self.is_expected(number, step, &answer)
            && began.elapsed() < NEWS_TIME_MAX
        {
            answer = self.send(step, &call).await;
        }
        answer
    }

    /// Does what was recorded in words.
    async fn follow_words(&mut self, number: usize, words: &str) {
        match words {
            "${ahead} = current WAL position as a decimal, plus 1" => {
                let ahead = self.sql.lsn().await + 1;
                self.variables.set("ahead", ahead.to_string());
            }
            "repeat until 409, at most 60 s, then repeat offset=-1 until 200" => {
                self.repeat_until_rotated(number).await;
            }
            "some seconds later" => sleep(SETTLING_TIME_MAX).await,
            _ => self.failures.push(format!("step {number}: this replay cannot: {words}")),
        }
    }

    async fn repeat_until_rotated(&mut self, number: usize) {
        let mut call = self.last_call.clone().expect("a request came before");
        let began = Instant::now();
        for status in [409, 200] {
            loop {
                let answer = send(&self.server.limn.client(), &call, None).await;
                if answer.as_ref().is_ok_and(|answer| answer.status == status) {
                    break;
                }
                if began.elapsed() > NEWS_TIME_MAX {
                    return self.failures.push(format!("step {number}: no {status}, but {answer:?}"));
                }
                sleep(REPEAT_EVERY).await;
            }
            let query = call.path.split("&handle").next().unwrap_or_default();
            call.path = format!("{query}&offset=-1");
        }
    }

    fn filled(&self, call: &Call) -> Call {
        let fill = |text: &str| self.variables.fill(text);
        Call {
            method: call.method.clone(),
            path: self.likeness.as_ours(&fill(&call.path)),
            headers: call.headers.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
            body: fill(&call.body),
            on: call.on.clone(),
        }
    }

    /// Waits until tables are published again that were dropped from the publication before this step. When that is, the
    /// server's look at the catalog decides; what is written next was recorded behind it.
    async fn wait_published(&self, number: usize) {
        let dropped = |step: &Step| match &step.action {
            Action::Sql { sql, .. } => {
                let (publication, table) =
                    sql.strip_prefix("alter publication ")?.split_once(" drop table ")?;
                Some((self.with_own_stream_id(publication), table.to_owned()))
            }
            _ => None,
        };
        for (publication, table) in self.transcript.steps.iter().take(number).filter_map(dropped) {
            let published = format!(
                "SELECT count(*) > 0 FROM pg_publication_tables WHERE pubname = '{publication}' AND tablename = '{table}'"
            );
            let is_published = async || (self.sql.value(&published).await == "t").then_some(());
            eventually("the table is published again", is_published).await;
        }
    }

    /// Publication and slot are named after the database.
    fn with_own_stream_id(&self, text: &str) -> String {
        match self.transcript.stream_id() {
            Some(recorded) => text.replace(recorded, &self.server.database.name),
            None => text.to_owned(),
        }
    }

    /// Whether it is the recorded answer, or the one that is written down as ours.
    fn is_expected(&self, number: usize, step: &Step, answer: &io::Result<Answer>) -> bool {
        let (Ok(answer), Some((recorded, _))) = (answer, self.recorded(step)) else { return false };
        let ours = self.ours(number, &recorded);
        self.compare(&mut self.likeness.clone(), &ours.unwrap_or(recorded), answer).is_empty()
    }

    fn accept(&mut self, number: usize, step: &Step, answer: io::Result<Answer>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.failures.push(format!("step {number}: no answer: {error}")),
        };
        let Some((recorded, differs)) = self.recorded(step) else { return };
        self.excepted |= differs;
        let ours = self.ours(number, &recorded);
        if ours.is_some() {
            self.excepted = true;
            let varies = self.exceptions.varies(self.transcript, number);
            if !varies && self.compare(&mut self.likeness.clone(), &recorded, &answer).is_empty() {
                self.failures
                    .push(format!("step {number}: listed in exceptions.jsonl, but answered as recorded"));
            }
        }
        let mut likeness = self.likeness.clone();
        let expected = ours.as_ref().unwrap_or(&recorded);
        let mut differences = self.compare(&mut likeness, expected, &answer);
        self.likeness = likeness;
        if self.exceptions.varies(self.transcript, number) {
            differences.retain(|difference| difference.at() == "status");
        }
        if self.transcript.rows_wander {
            differences.retain(|difference| !difference.at().starts_with("body"));
            self.rows.add(&recorded, &answer);
        }
        if !differences.is_empty() {
            self.failures.extend(differences.iter().map(|difference| format!("step {number}: {difference}")));
            self.proposals.push((number, change(&differences, &answer)));
        }
        if let Some(seconds) = step.seconds.filter(|_| is_wait(step) && ours.is_none()) {
            self.compare_time(number, step, seconds, answer.seconds);
        }
        self.unsettled |= answer.status == 409;
        let label = match &step.action {
            Action::Await(name) => Some(name),
            _ => step.label.as_ref(),
        };
        self.variables.remember(&answer, step, label.map(String::as_str));
        for (name, path) in &step.save {
            self.variables.save(name, path, &answer);
        }
    }

    /// The recorded answer, as any answer of ours would be, and whether that makes a difference.
    fn recorded(&self, step: &Step) -> Option<(Value, bool)> {
        let mut recorded = step.response.clone()?;
        self.variables.fill_all(&mut recorded);
        let differs = everywhere::apply(&mut recorded);
        Some((recorded, differs))
    }

    /// What we answer instead on purpose.
    fn ours(&self, number: usize, recorded: &Value) -> Option<Value> {
        let mut ours = self.exceptions.ours(self.transcript, number, recorded)?;
        self.variables.fill_all(&mut ours);
        Some(ours)
    }

    fn compare(&self, likeness: &mut Likeness, recorded: &Value, answer: &Answer) -> Vec<Difference> {
        let also: &[&str] = match self.transcript.file.as_str() {
            "routing" => &["access-control-", "electric-server", "vary"],
            "caching" => &["vary"],
            _ => &[],
        };
        likeness.differences(recorded, answer, also, &self.transcript.volatile)
    }

    /// Nothing may take much longer; what waits for nothing to happen may not give up much earlier either.
    fn compare_time(&mut self, number: usize, step: &Step, recorded: f64, ours: f64) {
        let early = has_no_news(step) && ours < recorded * 0.7 - 0.5;
        if early || ours > recorded * 1.25 + DELAY_MAX_S {
            self.failures.push(format!("step {number}: took {recorded} s as recorded, now {ours:.1} s"));
        }
    }

    /// The entries in `exceptions.jsonl` that say that these answers are ours, but for their rules.
    fn proposals(&self) -> Vec<String> {
        let Transcript { file, item, title, .. } = self.transcript;
        let names = json!({ "file": file, "item": item, "title": title }).to_string();
        let names = names.trim_start_matches('{').trim_end_matches('}');
        let entry = |(step, ours): &(usize, Value)| {
            let ours = self.likeness.as_recorded(&ours.to_string());
            format!(r#"{{{names},"step":{step},"ours":{ours},"rule":""}}"#)
        };
        self.proposals.iter().map(entry).collect()
    }
}

/// What makes the recorded answer ours.
fn change(differences: &[Difference], answer: &Answer) -> Value {
    let mut ours = json!({});
    for difference in differences {
        match difference.at().split_once('.') {
            Some(("headers", name)) => ours["headers"][name] = json!(answer.headers.get(name)),
            _ if difference.at() == "status" => ours["status"] = json!(answer.status),
            _ => ours["body"] = answer.body.clone(),
        }
    }
    ours
}

impl Rows {
    fn add(&mut self, recorded: &Value, answer: &Answer) {
        let keys = |messages: &Value| -> Vec<String> {
            let messages = messages.as_array().into_iter().flatten();
            messages.filter_map(|message| message["key"].as_str()).map(str::to_owned).collect()
        };
        self.keys.extend(keys(&answer.body));
        let omitted = &recorded["body_omitted"];
        self.recorded += match omitted["messages"].as_u64() {
            // All are rows but for the last ones that are written down.
            Some(messages) => {
                let controls = 2 - keys(&omitted["last"]).len();
                usize::try_from(messages).expect("a count") - controls
            }
            None => keys(&recorded["body"]).len(),
        };
    }

    fn came_once(&self) -> bool {
        let different: BTreeSet<&String> = self.keys.iter().collect();
        different.len() == self.keys.len() && self.keys.len() == self.recorded
    }
}

/// The cells of each row, sorted: the order of columns was recorded, but is not known here.
fn cells(rows: &[Row]) -> Vec<Vec<Option<String>>> {
    let sorted = |row: &Row| {
        let mut cells: Vec<Option<String>> = row.values().cloned().collect();
        cells.sort();
        cells
    };
    rows.iter().map(sorted).collect()
}

fn recorded_cells(rows: &str) -> Vec<Vec<Option<String>>> {
    let rows: Value = serde_json::from_str(rows).expect("it was JSON");
    let sorted = |row: &Value| {
        let cells = row.as_array().into_iter().flatten();
        let mut cells: Vec<Option<String>> = cells.map(|cell| cell.as_str().map(str::to_owned)).collect();
        cells.sort();
        cells
    };
    rows.as_array().into_iter().flatten().map(sorted).collect()
}

/// True for a poll that ended without news.
fn is_silent(answer: &Answer) -> bool {
    answer.headers.get("electric-has-data").is_some_and(|has| has == "false")
}

/// Whether the recorded answer is that of a live request that waited in vain.
fn has_no_news(step: &Step) -> bool {
    step.response.as_ref().is_some_and(|response| response["headers"]["electric-has-data"] == "false")
}

/// Whether how long an answer took was up to the server: a stream is read as long as it was recorded.
fn is_wait(step: &Step) -> bool {
    let closed = step.response.as_ref().and_then(|response| response.get("stream_closed_by_server"));
    closed.is_none_or(|closed| closed.as_bool() == Some(true))
}
