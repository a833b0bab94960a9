//! Thousands of plain shapes beside those that are drawn: a start, a fault and a checkpoint then take a server as long as
//! they take one in use. All are read before the first fault; behind the last one each of these copies, and a new one of
//! each shape, has to come to the rows that SQL tells.

use crate::outage;
use crate::run::Run;
use crate::violation::{Kind, Violation};
use limn_tests::{Client, Limn, Random, Request, Response, Row, Rows, up_to_date_lsn};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

/// Its table; a name that no schema draws.
const TABLE: &str = "limn_crowd";
const ROWS_PER_SHAPE: u32 = 2;
/// Copies that read at one time.
const READERS: usize = 16;
const WRITE_EVERY: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(50);
/// The longest time without an answer; a server that was just started has to read all shapes.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);

/// The shapes and a copy of each.
#[derive(Debug)]
pub struct Crowd {
    copies: Vec<Copy>,
}

/// What a client has of one shape.
#[derive(Debug, Clone)]
struct Copy {
    number: u32,
    handle: Option<String>,
    offset: String,
    rows: Rows,
    /// Handles that the server gave up.
    past: Vec<String>,
}

impl Crowd {
    /// Makes the table, and reads so many shapes of it.
    pub async fn join(run: &Run, server: &Limn, count: u32) -> Result<Self, Violation> {
        let sql = run.connect("").await;
        sql.execute(&format!("CREATE TABLE {TABLE} (id serial PRIMARY KEY, n int NOT NULL, note text)"))
            .await;
        let rows = format!("SELECT i % {count}, 'old' FROM generate_series(1, {}) i", count * ROWS_PER_SHAPE);
        sql.execute(&format!("INSERT INTO {TABLE} (n, note) {rows}")).await;
        sql.execute(&format!("CREATE INDEX ON {TABLE} (n)")).await;
        let copies = (0..count).map(Copy::new).collect();
        Ok(Self { copies: catch_up(copies, &server.client(), 0).await? })
    }

    /// How many shapes there are.
    pub const fn len(&self) -> usize {
        self.copies.len()
    }

    /// Rows that change, move between shapes, come and go, until the run is over.
    pub fn write(&self, run: &Arc<Run>, mut random: Random) -> JoinHandle<()> {
        let (run, count) = (run.clone(), self.copies.len() as u64);
        tokio::spawn(async move {
            let mut sql = run.connect("").await;
            while !run.is_done() {
                let statement = statement(&mut random, count);
                // Whether a statement that was cut off has committed does not matter: SQL tells the rows in the end.
                if sql.try_execute(&statement).await.is_err() {
                    sql = outage::connect(&run.database, "").await;
                }
                sleep(WRITE_EVERY).await;
            }
        })
    }

    /// Every copy, and a new one of each shape, comes to the rows of the table.
    pub async fn converge(&mut self, run: &Run, server: &Limn) -> Result<(), Violation> {
        let sql = run.connect("").await;
        let lsn = server.barrier(&sql).await;
        let mut expected: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
        for row in sql.rows(&format!("SELECT * FROM {TABLE} ORDER BY id")).await {
            let number =
                row["n"].as_deref().and_then(|n| n.parse().ok()).expect("the column is an int NOT NULL");
            expected.entry(number).or_default().push(row);
        }
        let client = server.client();
        self.copies = catch_up(std::mem::take(&mut self.copies), &client, lsn).await?;
        judge(&self.copies, &expected, "a client that went on")?;
        let new = (0..self.copies.len() as u32).map(Copy::new).collect();
        judge(&catch_up(new, &client, lsn).await?, &expected, "a new client")
    }

    /// Handles that the server gave up meanwhile.
    pub fn past_handles(&self) -> Vec<String> {
        self.copies.iter().flat_map(|copy| copy.past.clone()).collect()
    }
}

fn statement(random: &mut Random, count: u64) -> String {
    let (id, n) = (1 + random.below(count * u64::from(ROWS_PER_SHAPE)), random.below(count));
    match random.below(8) {
        0 => format!("UPDATE {TABLE} SET n = {n} WHERE id = {id}"),
        1 => format!("INSERT INTO {TABLE} (n, note) VALUES ({n}, 'new')"),
        2 => format!("DELETE FROM {TABLE} WHERE id = {id}"),
        _ => format!("UPDATE {TABLE} SET note = note || '.' WHERE id BETWEEN {id} AND {id} + 20"),
    }
}

/// Has all copies read until they are up to date with `lsn`; a few at a time.
async fn catch_up(copies: Vec<Copy>, client: &Client, lsn: u64) -> Result<Vec<Copy>, Violation> {
    let waiting: Arc<Vec<Mutex<Option<Copy>>>> =
        Arc::new(copies.into_iter().map(|copy| Mutex::new(Some(copy))).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (waiting, next, client) = (waiting.clone(), next.clone(), client.clone());
        readers.spawn(async move {
            let mut done = Vec::new();
            while let Some(slot) = waiting.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut copy = slot.lock().await.take().expect("each is taken once");
                copy.read_up_to(&client, lsn).await?;
                done.push(copy);
            }
            Ok::<_, Violation>(done)
        });
    }
    let mut all = Vec::new();
    while let Some(reader) = readers.join_next().await {
        all.extend(reader.expect("failures are values")?);
    }
    all.sort_by_key(|copy| copy.number);
    Ok(all)
}

fn judge(copies: &[Copy], expected: &BTreeMap<u32, Vec<Row>>, whose: &str) -> Result<(), Violation> {
    for copy in copies {
        let key = |row: &Row| row["id"].as_deref().and_then(|id| id.parse::<u64>().ok());
        let mut rows: Vec<Row> = copy.rows.shown().map(|(_, row)| row.clone()).collect();
        rows.sort_by_key(key);
        let expected = expected.get(&copy.number).map_or(&[][..], Vec::as_slice);
        if rows != expected {
            let kind = match rows.len().cmp(&expected.len()) {
                std::cmp::Ordering::Less => Kind::Lost,
                std::cmp::Ordering::Greater => Kind::Duplicated,
                std::cmp::Ordering::Equal => Kind::Stale,
            };
            let text = format!("{whose} of {}: {rows:?}\n  SQL: {expected:?}", copy.query());
            return Err(Violation { kind, text });
        }
    }
    Ok(())
}

impl Copy {
    fn new(number: u32) -> Self {
        let (offset, rows) = ("-1".to_owned(), Rows::default());
        Self { number, handle: None, offset, rows, past: Vec::new() }
    }

    fn query(&self) -> String {
        format!("table={TABLE}&where=n%3D{}", self.number)
    }

    async fn read_up_to(&mut self, client: &Client, lsn: u64) -> Result<(), Violation> {
        let mut answered = Instant::now();
        while answered.elapsed() < STANDSTILL_MAX {
            let handle = self.handle.as_ref().map(|handle| format!("&handle={handle}")).unwrap_or_default();
            let target = format!("/v1/shape?{}&offset={}{handle}", self.query(), self.offset);
            let request = Request { method: "GET", target: &target, ..Request::default() };
            match client.try_send(&request).await {
                Ok(response) if response.status == 200 => {
                    let seen = self.take(&response)?;
                    match seen {
                        Some(seen) if seen >= lsn => return Ok(()),
                        // The end of the log, at an earlier commit than the last.
                        Some(_) => sleep(PAUSE).await,
                        None => answered = Instant::now(),
                    }
                }
                Ok(response) if response.status == 409 => {
                    let past = std::mem::replace(self, Self::new(self.number));
                    self.past = past.past;
                    self.past.extend(past.handle);
                }
                _ => sleep(PAUSE).await,
            }
        }
        let text =
            format!("{} behind {} of {:?} does not reach {lsn}", self.query(), self.offset, self.handle);
        Err(Violation { kind: Kind::Stuck, text })
    }

    /// Applies what came, and says with what the copy is up to date, if it is.
    fn take(&mut self, response: &Response) -> Result<Option<u64>, Violation> {
        let torn = |text: String| Violation { kind: Kind::Torn, text };
        let Ok(Value::Array(messages)) = serde_json::from_slice(&response.body) else {
            return Err(torn(format!("{}: no array of messages: {}", self.query(), response.text())));
        };
        for message in &messages {
            let applied = self.rows.apply(message);
            applied.map_err(|broken| torn(format!("{}: {broken}", self.query())))?;
        }
        self.handle = response.header("electric-handle").map(str::to_owned);
        response.header("electric-offset").unwrap_or_default().clone_into(&mut self.offset);
        Ok(messages.last().and_then(up_to_date_lsn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(rows: &[(&str, &str)]) -> Copy {
        let mut copy = Copy::new(7);
        for (id, note) in rows {
            let message = serde_json::json!({
                "key": id, "value": { "id": id, "n": "7", "note": note }, "headers": { "operation": "insert" }
            });
            copy.rows.apply(&message).expect("it fits");
        }
        copy
    }

    fn row(id: &str, note: &str) -> Row {
        [("id", id), ("n", "7"), ("note", note)]
            .map(|(name, text)| (name.to_owned(), Some(text.to_owned())))
            .into()
    }

    #[test]
    fn a_copy_with_other_rows_than_sql_is_a_violation() {
        let expected = BTreeMap::from([(7, vec![row("2", "a"), row("10", "b")])]);
        let kind =
            |rows: &[(&str, &str)]| judge(&[copy(rows)], &expected, "a client").err().map(|found| found.kind);
        assert_eq!(kind(&[("10", "b"), ("2", "a")]), None);
        assert_eq!(kind(&[("2", "a")]), Some(Kind::Lost));
        assert_eq!(kind(&[("2", "a"), ("10", "c")]), Some(Kind::Stale));
        assert_eq!(kind(&[("2", "a"), ("10", "b"), ("11", "b")]), Some(Kind::Duplicated));
    }
}
