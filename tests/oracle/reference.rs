//! What must be shown: the result of every shape's SQL at every commit, under the LSN of that commit.
//!
//! One lock, which whoever commits holds. Before its COMMIT a transaction reads, in its own session, every
//! shape whose tables it touched: nobody else commits meanwhile, so what it sees is the state behind its COMMIT. It holds the
//! tables already, so that it does not wait for anybody who waits for the lock. The LSN comes from the WAL itself.

use crate::circumstance::NOTICED_WITHIN;
use crate::outage;
use crate::removals::OWN_CAUSES;
use crate::shape::Shape;
use crate::state::{Likeness, State};
use crate::violation::{Kind, Violation};
use limn_tests::{Database, Sql};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::SimpleQueryMessage;

/// The state of every shape at every commit so far.
#[derive(Debug)]
pub struct Reference {
    shapes: Arc<[Shape]>,
    /// For each shape, the states with the LSN from which on they held.
    histories: Vec<Vec<(u64, Arc<State>)>>,
    commits: BTreeMap<u64, Commit>,
    counts: Counts,
    bodies: HashMap<(String, String, u64), u64>,
    /// For each shape, its handles in the order in which they were seen.
    handles: Vec<Vec<String>>,
    is_forgiving: bool,
    /// Tables whose shapes may show anything until then.
    forgiven: BTreeMap<usize, Instant>,
    /// How often more than their transactions explain the shapes of a table may start over.
    excused: BTreeMap<usize, usize>,
}

/// A transaction that committed.
#[derive(Debug)]
struct Commit {
    xid: u64,
    transaction: Transaction,
    noted: Instant,
}

/// The table in which each transaction leaves a number: a crash of Postgres may give its id to another.
pub const MARKS: &str = "oracle_marks";

/// A transaction about to commit.
#[derive(Debug)]
pub struct Attempt {
    /// Its session.
    pub pid: u64,
    /// Its number in [`MARKS`].
    pub mark: u64,
    /// Its id.
    pub xid: u64,
    /// A WAL position before its commit.
    pub before: u64,
}

/// What a transaction did.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// Tables that it wrote to.
    pub touched: BTreeSet<usize>,
    /// Those whose columns it changed.
    pub altered: BTreeSet<usize>,
    /// Those that it truncated, wholly or in part.
    pub truncated: BTreeSet<usize>,
    /// Those whose shapes may start over by what the stream does not tell.
    pub disturbed: BTreeSet<usize>,
    /// For a report.
    pub statements: Vec<String>,
}

/// The transactions that a snapshot contains, as its end tells.
#[derive(Debug, Clone)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    running: Vec<u64>,
}

impl Transaction {
    /// A statement on a table changed that many rows.
    pub fn note(&mut self, table: usize, statement: String, rows: u64) {
        if rows > 0 {
            self.touched.insert(table);
        }
        self.statements.push(statement);
    }
}

/// How much was judged.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Committed transactions that changed something.
    pub transactions: u64,
    /// Up-to-date messages whose rows were compared.
    pub checks: u64,
    /// Those of them whose rows began with transactions that the stream had not reached.
    pub ahead: u64,
    /// Violations in the seconds in which nobody could know better.
    pub forgiven: u64,
    /// Replies with a 409.
    pub rotations: u64,
    /// Changes whose transaction was looked up.
    pub changes: u64,
}

impl Snapshot {
    /// From the headers of a snapshot-end.
    pub fn read(headers: &Value) -> Option<Self> {
        let number = |value: &Value| value.as_str()?.parse().ok();
        let running: Option<Vec<u64>> = headers["xip_list"].as_array()?.iter().map(number).collect();
        Some(Self { xmin: number(&headers["xmin"])?, xmax: number(&headers["xmax"])?, running: running? })
    }

    fn contains(&self, xid: u64) -> bool {
        xid < self.xmin || xid < self.xmax && !self.running.contains(&xid)
    }
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            transactions: self.transactions + other.transactions,
            checks: self.checks + other.checks,
            ahead: self.ahead + other.ahead,
            forgiven: self.forgiven + other.forgiven,
            rotations: self.rotations + other.rotations,
            changes: self.changes + other.changes,
        }
    }
}

/// How many of the last transactions a report shows.
const TRANSACTIONS_SHOWN: usize = 4;

impl Reference {
    /// Reads the state before the first commit.
    pub async fn new(shapes: Arc<[Shape]>, sql: &Sql) -> Self {
        let mut histories = Vec::new();
        for shape in &*shapes {
            let states = read(sql, &[shape]).await;
            let states = states.unwrap_or_else(|error| unreachable!("{}: {error:?}", shape.sql));
            histories.extend(states.into_iter().map(|state| vec![(0, Arc::new(state))]));
        }
        let handles = vec![Vec::new(); shapes.len()];
        Self {
            shapes,
            histories,
            commits: BTreeMap::new(),
            counts: Counts::default(),
            bodies: HashMap::new(),
            handles,
            is_forgiving: false,
            forgiven: BTreeMap::new(),
            excused: BTreeMap::new(),
        }
    }

    /// Commits what was done in `sql`'s open transaction. Says whether it did; an error leaves the session in a transaction
    /// that has failed.
    ///
    /// # Errors
    /// What Postgres said, where the transaction did not commit.
    pub async fn commit(
        &mut self,
        sql: &Sql,
        database: &Database,
        transaction: Transaction,
    ) -> Result<bool, tokio_postgres::Error> {
        // What is checked at the end is checked before anything is read.
        sql.try_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
        let told = format!(
            "SELECT pg_current_xact_id_if_assigned()::text AS xid, pg_backend_pid()::text AS pid, {INSERT_LSN} AS lsn"
        );
        let told = sql.try_rows(&told).await?;
        let number = |name: &str| told[0][name].as_ref().and_then(|text| text.parse::<u64>().ok());
        let Some(xid) = number("xid") else {
            sql.try_execute("COMMIT").await?;
            return Ok(false);
        };
        let before = number("lsn").expect("a position in the WAL");
        self.counts.transactions += 1;
        let mark = self.counts.transactions;
        sql.try_execute(&format!("INSERT INTO {MARKS} VALUES ({mark})")).await?;
        let attempt = Attempt { pid: number("pid").expect("each session has one"), mark, xid, before };
        let affected = self.affected(&transaction);
        let shapes: Vec<&Shape> = affected.iter().map(|&number| &self.shapes[number]).collect();
        let states = read(sql, &shapes).await?;
        let committed = match sql.try_execute("COMMIT").await {
            Ok(()) => commit_lsn(sql, xid, before).await,
            Err(error) => Err(error),
        };
        // Where the session broke, only Postgres knows what became of the transaction.
        let lsn = match committed {
            Ok(lsn) => lsn,
            Err(error) => outage::commit_lsn(database, &attempt).await.ok_or(error)?,
        };
        for (shape, state) in affected.into_iter().zip(states) {
            self.histories[shape].push((lsn, Arc::new(state)));
        }
        self.commits.insert(lsn, Commit { xid, transaction, noted: Instant::now() });
        Ok(true)
    }

    /// Commits what was prepared under `gid` by the transaction `xid`. What it shows, `reader` reads behind it, while nobody
    /// else commits: in a transaction that has locked every table, since one that waited for a lock here would wait for
    /// somebody who waits to commit.
    ///
    /// # Errors
    /// What Postgres said.
    pub async fn commit_prepared(
        &mut self,
        (reader, committer): (&Sql, &Sql),
        gid: &str,
        xid: u64,
        transaction: Transaction,
    ) -> Result<(), tokio_postgres::Error> {
        let told = reader.try_rows(&format!("SELECT {INSERT_LSN} AS lsn")).await?;
        let before =
            told[0]["lsn"].as_ref().and_then(|text| text.parse().ok()).expect("a position in the WAL");
        self.counts.transactions += 1;
        committer.try_execute(&format!("COMMIT PREPARED '{gid}'")).await?;
        let lsn = commit_lsn(reader, xid, before).await?;
        let affected = self.affected(&transaction);
        let shapes: Vec<&Shape> = affected.iter().map(|&number| &self.shapes[number]).collect();
        let states = read(reader, &shapes).await?;
        for (shape, state) in affected.into_iter().zip(states) {
            self.histories[shape].push((lsn, Arc::new(state)));
        }
        self.commits.insert(lsn, Commit { xid, transaction, noted: Instant::now() });
        Ok(())
    }

    fn affected(&self, transaction: &Transaction) -> Vec<usize> {
        let changed =
            |table: &usize| transaction.touched.contains(table) || transaction.altered.contains(table);
        let is_affected = |&number: &usize| self.shapes[number].tables.iter().any(&changed);
        (0..self.shapes.len()).filter(is_affected).collect()
    }

    /// Judges rows that a client was told to be up to date with `lsn`.
    pub fn check(
        &mut self,
        shape: usize,
        told: u64,
        snapshot: Option<&Snapshot>,
        rows: &State,
        told_columns: &str,
    ) -> Result<(), Violation> {
        self.counts.checks += 1;
        // The stream may not be as far as the rows that the copy began with; those say themselves how far they are.
        let contained = |commit: &Commit| snapshot.is_some_and(|snapshot| snapshot.contains(commit.xid));
        let behind = self.commits.range(told + 1..).rev().find(|(_, commit)| contained(commit));
        let lsn = behind.map_or(told, |(lsn, _)| *lsn);
        self.counts.ahead += u64::from(behind.is_some());
        let expected = self.state_at(shape, lsn);
        match rows.likeness(expected) {
            Likeness::Equal => Ok(()),
            Likeness::OtherColumns => match self.overlooked(shape, lsn) {
                None => Ok(()),
                Some(alter) => {
                    let text =
                        format!("{alter}, and it was written since; the handle's columns are {told_columns}");
                    Err(self.violation(Kind::Stale, shape, lsn, text))
                }
            },
            Likeness::Different => {
                let (kind, text) = self.classify(shape, lsn, rows);
                Err(self.violation(kind, shape, lsn, text))
            }
        }
    }

    fn state_at(&self, shape: usize, lsn: u64) -> &State {
        let history = &self.histories[shape];
        let next = history.partition_point(|(from, _)| *from <= lsn);
        &history[next - 1].1
    }

    /// The last change of the shape's columns before `lsn`, where the table was written after it: at the latest then it shows in
    /// the stream. Children by INHERITS may have columns of their own, so that a write to one of them says nothing of
    /// the parent: the look at the catalog does.
    fn overlooked(&self, shape: usize, lsn: u64) -> Option<String> {
        let Shape { tables, is_partition: false, has_children, .. } = &self.shapes[shape] else {
            return None;
        };
        let table = tables[0];
        let mut before = self.commits.range(..=lsn).rev();
        let (at, alter) = before.find(|(_, commit)| commit.transaction.altered.contains(&table))?;
        if *has_children && alter.noted.elapsed() < NOTICED_WITHIN {
            return None;
        }
        let mut behind = self.commits.range((Excluded(at), Included(&lsn)));
        let written = behind.any(|(_, commit)| commit.transaction.touched.contains(&table));
        written
            .then(|| format!("the table was altered at {at} by {}", alter.transaction.statements.join("; ")))
    }

    fn classify(&self, shape: usize, lsn: u64, rows: &State) -> (Kind, String) {
        let expected = self.state_at(shape, lsn);
        let text = rows.explain(expected);
        let same = |(_, state): &&(u64, Arc<State>)| rows.likeness(state) == Likeness::Equal;
        if let Some((from, _)) = self.histories[shape].iter().rev().find(same) {
            let when = if *from > lsn { "a later" } else { "an earlier" };
            return (Kind::Stale, format!("{text}\n    it has the rows of {when} commit, {from}"));
        }
        let has_more = |(extra, missing): (Vec<&str>, Vec<&str>)| !extra.is_empty() && missing.is_empty();
        let kind =
            if rows.difference(expected).is_some_and(has_more) { Kind::Duplicated } else { Kind::Lost };
        (kind, text)
    }

    /// Checks that a change belongs to a transaction that committed there.
    pub fn check_change(&mut self, shape: usize, lsn: u64, xid: u64) -> Result<(), Violation> {
        self.counts.changes += 1;
        let told = self.commits.get(&lsn).map(|commit| commit.xid & u64::from(u32::MAX));
        if told == Some(xid) {
            return Ok(());
        }
        Err(self.violation(
            Kind::Torn,
            shape,
            lsn,
            format!("a change of transaction {xid} at {lsn}, where {told:?} committed"),
        ))
    }

    /// Notes the body of a closed chunk, which never changes but by a compaction.
    pub fn check_body(
        &mut self,
        shape: usize,
        handle: &str,
        (offset, segment_start): (&str, u64),
        hash: u64,
    ) -> Result<(), Violation> {
        let place = (handle.to_owned(), offset.to_owned(), segment_start);
        let before = *self.bodies.entry(place).or_insert(hash);
        if before == hash {
            return Ok(());
        }
        Err(self.violation(
            Kind::Torn,
            shape,
            0,
            format!("the closed chunk behind {offset} of {handle} has changed"),
        ))
    }

    /// Notes a 409.
    pub const fn note_rotation(&mut self) {
        self.counts.rotations += 1;
    }

    /// Notes a handle of the shape.
    pub fn note_handle(&mut self, shape: usize, handle: &str) {
        if !self.handles[shape].iter().any(|known| known == handle) {
            self.handles[shape].push(handle.to_owned());
        }
    }

    /// The handles that others have followed.
    pub fn past_handles(&self) -> Vec<String> {
        self.handles
            .iter()
            .filter_map(|handles| handles.split_last())
            .flat_map(|(_, past)| past.to_vec())
            .collect()
    }

    /// While Postgres has lost something that nobody has noticed yet, a violation is counted only.
    pub const fn forgive(&mut self, is_forgiving: bool) {
        self.is_forgiving = is_forgiving;
    }

    /// For a while, a violation of shapes of these tables is counted only.
    pub fn forgive_tables(&mut self, tables: &[usize], time: Duration) {
        for table in tables {
            self.forgiven.insert(*table, Instant::now() + time);
        }
    }

    /// Shapes of the table may start over once more than its transactions explain.
    pub fn excuse(&mut self, table: usize) {
        *self.excused.entry(table).or_default() += 1;
    }

    /// Forgives a violation if the client sent its request at a forgiven time, and counts it. The time of the request
    /// decides, because the judge may wait long for the writers' lock.
    pub fn pardon(&mut self, shape: usize, asked: Instant) -> bool {
        let until = |table: &usize| self.forgiven.get(table).is_some_and(|until| *until > asked);
        let pardons = self.is_forgiving || self.shapes[shape].tables.iter().any(until);
        self.counts.forgiven += u64::from(pardons);
        pardons
    }

    /// The handles of shapes that had more of them than their transactions, or the server's own causes, explain.
    pub fn unexplained_handles(&self, causes: &BTreeMap<String, String>) -> Vec<(usize, Vec<&String>)> {
        let is_own =
            |handle: &String| causes.get(handle).is_some_and(|cause| OWN_CAUSES.contains(&cause.as_str()));
        let more = |shape: usize| {
            let tables = &self.shapes[shape].tables;
            let causes = |commit: &Commit| {
                let Transaction { truncated, altered, disturbed, .. } = &commit.transaction;
                let of = |changed: &BTreeSet<usize>| tables.iter().any(|table| changed.contains(table));
                // The catalog tells of a column before the stream does; who comes in between may be surprised by the stream.
                usize::from(of(truncated)) + 2 * (usize::from(of(altered)) + usize::from(of(disturbed)))
            };
            let excused: usize = tables.iter().filter_map(|table| self.excused.get(table)).sum();
            let causes: usize = self.commits.values().map(causes).sum::<usize>() + excused;
            let handles: Vec<&String> = self.handles[shape].iter().collect();
            let own = handles.iter().filter(|handle| is_own(handle)).count();
            (handles.len() > 1 + causes + own).then_some((shape, handles))
        };
        (0..self.shapes.len()).filter_map(more).collect()
    }

    /// How much was judged so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Puts what is known about the shape and the moment into a violation.
    pub fn violation(&self, kind: Kind, shape: usize, lsn: u64, what: String) -> Violation {
        let mut text = what;
        let Shape { query, sql, .. } = &self.shapes[shape];
        let _ =
            write!(text, "\n  shape {shape}: {query}\n  {sql}\n  judged at {lsn}; transactions up to there:");
        let tables = &self.shapes[shape].tables;
        let touches = |commit: &Commit| {
            let Transaction { touched, altered, .. } = &commit.transaction;
            tables.iter().any(|table| touched.contains(table) || altered.contains(table))
        };
        let last = self.commits.range(..=lsn).rev().filter(|(_, commit)| touches(commit));
        for (at, Commit { xid, transaction, .. }) in last.take(TRANSACTIONS_SHOWN) {
            let _ = write!(text, "\n    {at} (xid {xid}): {}", transaction.statements.join("; "));
        }
        let next = self.commits.range(lsn + 1..).find(|(_, commit)| touches(commit));
        if let Some((at, commit)) = next {
            let _ = write!(text, "\n  next: {at}: {}", commit.transaction.statements.join("; "));
        }
        Violation { kind, text }
    }
}

const INSERT_LSN: &str = "(pg_current_wal_insert_lsn() - '0/0')::text";

/// The states of shapes, as one session sees them.
async fn read(sql: &Sql, shapes: &[&Shape]) -> Result<Vec<State>, tokio_postgres::Error> {
    if shapes.is_empty() {
        return Ok(Vec::new());
    }
    let queries: Vec<&str> = shapes.iter().map(|shape| shape.sql.as_str()).collect();
    let messages = sql.messages(&queries.join("; ")).await?;
    let (mut states, mut order) = (Vec::new(), Vec::new());
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                states.push(State::of_columns(columns.iter().map(tokio_postgres::SimpleColumn::name)));
                order = (0..columns.len()).collect::<Vec<usize>>();
                order.sort_by_key(|&column| columns[column].name());
            }
            SimpleQueryMessage::Row(row) => {
                let state = states.last_mut().expect("a description comes first");
                state.add(order.iter().map(|&column| (row.columns()[column].name(), row.get(column))));
            }
            _ => {}
        }
    }
    Ok(states)
}

/// Where the record of a commit lies, from the WAL behind `before`.
pub async fn commit_lsn(sql: &Sql, xid: u64, before: u64) -> Result<u64, tokio_postgres::Error> {
    let short = xid & u64::from(u32::MAX);
    let records = format!(
        "SELECT (start_lsn - '0/0')::text AS lsn
         FROM pg_get_wal_records_info('0/0'::pg_lsn + {before}, pg_current_wal_flush_lsn())
         WHERE resource_manager = 'Transaction' AND record_type LIKE 'COMMIT%'
           AND (xid::text = '{short}' OR record_type = 'COMMIT_PREPARED' AND description LIKE '{short}:%')"
    );
    let rows = sql.try_rows(&records).await?;
    let lsn = rows.first().and_then(|row| row["lsn"].as_ref()?.parse().ok());
    Ok(lsn.unwrap_or_else(|| unreachable!("no commit record of {xid} behind {before}")))
}
