//! The session in which moves are made: a snapshot at a time, and questions inside it.

use super::command::EngineHandle;
use crate::observe::spans;
use crate::postgres::snapshot::Snapshot;
use crate::postgres::{PostgresConfig, PostgresError, Session, rights, sqlstate};
use futures::StreamExt;
use limn_core::pg::{Relation, SnapshotFilter};
use limn_core::shape::RotationCause;
use limn_core::shape::dependent::{ANSWER_BYTES_MAX, RoundOutcome, RoundRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The pause before another snapshot where the last one lacked a transaction that was read already.
const AGAIN_PAUSE: Duration = Duration::from_millis(2);
/// The pause after a failure: Postgres may be away.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);

/// SQLSTATEs by which a server that is being shut down refuses questions.
const ENDING: [&str; 2] = [sqlstate::ADMIN_SHUTDOWN, sqlstate::CANNOT_CONNECT_NOW];

/// Carries rounds' requests out, in a task of its own.
#[derive(Debug)]
pub(super) struct MoveSession {
    /// A round has at most two requests on their way: the end of the last snapshot, and the next one.
    requests: mpsc::UnboundedSender<RoundRequest>,
    task: JoinHandle<()>,
}

impl MoveSession {
    /// Starts the task; it ends with the engine.
    pub(super) fn start(config: PostgresConfig, engine: EngineHandle) -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        let task = Task { config, engine, state: State::Closed(None), is_ending: false };
        Self { requests, task: tokio::spawn(task.run(received)) }
    }

    /// Resolves where the task has ended before the engine, by a panic: no move would ever be answered. Cancel-safe.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.task).await {
            Ok(()) => anyhow::anyhow!("the task that carries moves out ended"),
            Err(error) => anyhow::Error::new(error).context("the task that carries moves out failed"),
        }
    }

    /// Has a request carried out; the answer comes as a command.
    pub(super) fn request(&self, request: RoundRequest) {
        // The task ends only with the engine.
        let _ = self.requests.send(request);
    }
}

struct Task {
    config: PostgresConfig,
    engine: EngineHandle,
    state: State,
    /// Postgres has refused since the last answer because it is ending.
    is_ending: bool,
}

enum State {
    /// With the session of the last round, where it is still good.
    Closed(Option<Session>),
    Open(Snapshot),
}

/// A question without an answer.
enum AskError {
    /// It is the question's fault, or its answer is too long.
    Refused(usize, RotationCause),
    Postgres(PostgresError),
}

impl Task {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<RoundRequest>) {
        let scarcity = self.config.scarcity.clone();
        loop {
            let request = tokio::select! {
                request = requests.recv() => request,
                () = scarcity.refused() => {
                    // Others wait for a session that has nothing to do.
                    if let State::Closed(session) = &mut self.state {
                        *session = None;
                    }
                    continue;
                }
            };
            let Some(request) = request else { return };
            match request {
                RoundRequest::Open(tables) => match spans::move_round(0, self.open(&tables)).await {
                    Ok(filter) => self.engine.round(RoundOutcome::Opened(filter)).await,
                    Err(error) => self.fail(&error).await,
                },
                RoundRequest::Ask(questions) => {
                    match spans::move_round(questions.len(), self.ask(&questions)).await {
                        Ok(answers) => self.engine.round(RoundOutcome::Answered(answers)).await,
                        Err(AskError::Refused(number, cause)) => {
                            self.state = State::Closed(None);
                            self.engine.round(RoundOutcome::Failed(Some((number, cause)))).await;
                        }
                        Err(AskError::Postgres(error)) => self.fail(&error).await,
                    }
                }
                RoundRequest::Close => {
                    let session = self.close().await.filter(|_| !scarcity.is_scarce());
                    self.state = State::Closed(session);
                }
            }
        }
    }

    async fn fail(&mut self, error: &PostgresError) {
        tracing::warn!(%error, "cannot ask what a subquery returns; asking again");
        self.state = State::Closed(None);
        let is_ending = error.code().is_some_and(|code| ENDING.contains(&code));
        if is_ending && !self.is_ending {
            // It waits until the stream is confirmed to its end, which waits for this very answer.
            let _ = self.engine.reconnect().await;
        }
        self.is_ending = is_ending;
        tokio::time::sleep(FAILURE_PAUSE).await;
        self.engine.round(RoundOutcome::Failed(None)).await;
    }

    async fn open(&mut self, tables: &[Arc<Relation>]) -> Result<SnapshotFilter, PostgresError> {
        if matches!(self.state, State::Open(_)) {
            tokio::time::sleep(AGAIN_PAUSE).await;
        }
        let session = match self.close().await {
            Some(session) => session,
            None => Session::connect(&self.config).await?,
        };
        let snapshot = match Snapshot::begin(session, tables, &self.config).await {
            Err(error) if error.code() == Some(sqlstate::INSUFFICIENT_PRIVILEGE) => {
                // Questions about the tables that are left out are refused one by one, and end only the shapes that
                // ask them.
                let session = Session::connect(&self.config).await?;
                let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
                let readable = rights::readable(&session, &oids).await?;
                let tables: Vec<_> =
                    tables.iter().filter(|table| readable.contains(&table.oid)).cloned().collect();
                Snapshot::begin(session, &tables, &self.config).await?
            }
            begun => begun?,
        };
        let filter =
            SnapshotFilter { bounds: snapshot.bounds().clone(), ends_at: snapshot.ends_at().as_u64() };
        self.state = State::Open(snapshot);
        self.is_ending = false;
        Ok(filter)
    }

    /// Ends the snapshot; gives the session where it is still good.
    async fn close(&mut self) -> Option<Session> {
        match std::mem::replace(&mut self.state, State::Closed(None)) {
            State::Closed(session) => session.filter(|session| !session.is_closed()),
            State::Open(snapshot) => snapshot.finish().await.ok(),
        }
    }

    async fn ask(&self, questions: &[String]) -> Result<Vec<Vec<u8>>, AskError> {
        let State::Open(snapshot) = &self.state else { return Ok(Vec::new()) };
        let mut answers = Vec::new();
        let mut bytes = 0;
        for (number, question) in questions.iter().enumerate() {
            let refused = |error: PostgresError| {
                if error.is_transient() {
                    return AskError::Postgres(error);
                }
                AskError::Refused(number, RotationCause::Refused(error.to_string()))
            };
            let mut chunks = snapshot.copy(question).await.map_err(refused)?;
            let mut answer = Vec::new();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(refused)?;
                bytes += chunk.len();
                if bytes > ANSWER_BYTES_MAX {
                    return Err(AskError::Refused(number, RotationCause::MoveOverrun));
                }
                answer.extend_from_slice(&chunk);
            }
            answers.push(answer);
        }
        Ok(answers)
    }
}
