//! The engine: one task that owns the router and the write path.
//!
//! It reads the replication stream, hands messages to the router and fragments to the logs, and confirms
//! to Postgres what is durable. Others talk to it through an [`EngineHandle`]. It does all this also while
//! Postgres is away: shapes can be read and removed then, only nothing new comes.

mod command;
mod executor;
mod link;
mod mover;
mod pulse;
mod rounds;

pub use command::{EngineHandle, Inbox, Stopped};
pub use link::Source;

use crate::metrics::Metrics;
use crate::postgres::{Frame, ReplicationError, ReplicationStream, sqlstate};
use crate::registry::Registry;
use crate::shape::{Life, Shape};
use crate::status::{Phase, Status, Watched};
use crate::store::{CommitLog, Durable, Folder, FolderLock, Recovered, remove_strangers};
use anyhow::{Context, Result};
use command::Command;
use executor::Executor;
use limn_core::journal::record::{Record, ShapeCheckpoint, SnapshotDone, StoreCheckpoint, stored_bound};
use limn_core::journal::replay::ReplayedShape;
use limn_core::pg::SnapshotFilter;
use limn_core::pgoutput::{Message, decode};
use limn_core::protocol::FaultCode;
use limn_core::shape::dependent::View;
use limn_core::shape::{Described, DropCause, RotationCause, Router, Step};
use limn_core::store::{Limits, Logs};
use limn_core::{Lsn, ShapeId};
use link::{Connected, Link, LinkEvent};
use mover::Mover;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often idle tails are flushed and Postgres hears from us, at least.
const TICK: Duration = Duration::from_secs(5);

/// Everything the engine works with.
pub struct EngineParts {
    /// Where Postgres is.
    pub source: Source,
    /// What others ask of it.
    pub inbox: Inbox,
    /// The same, to be handed on.
    pub handle: EngineHandle,
    /// Where shapes are kept.
    pub folder: Arc<Folder>,
    /// The right to write there.
    pub lock: FolderLock,
    /// What the folder held.
    pub recovered: Recovered,
    /// Which shapes there are.
    pub registry: Arc<Registry>,
    /// How the server is.
    pub status: Arc<Status>,
    /// What operators watch.
    pub metrics: Arc<Metrics>,
}

struct Engine {
    link: Link,
    mover: Mover,
    limits: Limits,
    router: Router,
    logs: Logs<Arc<Shape>>,
    executor: Executor,
    inbox: Inbox,
    /// Held for as long as anything may be written.
    _lock: FolderLock,
    durable: watch::Receiver<Durable>,
    /// Where the stream must come before we know what was served before; `None` where it has, and while there is none.
    catch_up_to: Option<Lsn>,
    received: Lsn,
    confirmed: Lsn,
    /// Whether the server is to be asked for a sign of life.
    pulse_due: bool,
}

/// Starts the engine. It ends by itself only after [`EngineHandle::stop`], or with an error that the
/// server cannot live with.
///
/// # Errors
/// Where the commit log cannot be started.
pub fn start(parts: EngineParts) -> Result<tokio::task::JoinHandle<Result<()>>> {
    let EngineParts { source, inbox, handle, folder, lock, recovered, registry, status, metrics } = parts;
    status.handle_processed(recovered.processed);
    let number = recovered.next_file;
    // With the handles that are passed over: another start before any of them is durable passes over others.
    let checkpoint = checkpoint(&recovered, registry.last_handle_us());
    let mut router = Router::default();
    let (commit_log, durable) = CommitLog::start(&folder, number, &checkpoint, metrics.commit.clone())
        .context("cannot write the commit log; is the storage folder's disk full or read-only?")?;
    remove_strangers(&folder, &recovered.shapes).context("cannot delete the folders of lost shapes")?;
    let limits = Limits::default();
    let mut logs = Logs::new(limits, number, Lsn::new(recovered.processed));
    for shape in recovered.shapes {
        let (id, filter, state) = (shape.created.id, shape.filter, shape.dependent);
        let dir = folder.shape_dir(shape.handle);
        let shape = Shape::restore(shape.created, shape.handle, dir, shape.log, Life::Readable)?;
        let shape = Arc::new(shape);
        logs.restore(id, shape.clone(), filter.clone(), stored_bound(state.whole_up_to));
        router.add_restored(id, &shape.definition, &shape.handle.to_string(), filter, state);
        registry.insert(&shape);
    }
    let mover = Mover::start(source.config.clone(), handle.clone());
    let engine = Engine {
        link: Link::new(source),
        mover,
        limits,
        router,
        logs,
        executor: Executor { folder, commit_log, status, registry, metrics, handle, writing: None },
        inbox,
        _lock: lock,
        durable,
        catch_up_to: None,
        received: Lsn::ZERO,
        confirmed: Lsn::ZERO,
        pulse_due: false,
    };
    Ok(tokio::spawn(engine.run()))
}

fn checkpoint(recovered: &Recovered, last_handle_us: u64) -> Vec<u8> {
    let shape = |shape: &ReplayedShape| {
        let log = shape.log.checkpoint().expect("recovery flushes every tail");
        let (created, dependent) = (shape.created.clone(), shape.dependent.clone());
        ShapeCheckpoint { created, filter: Some(shape.filter.clone()), log, dependent }
    };
    let checkpoint = StoreCheckpoint {
        processed: recovered.processed,
        last_handle_us,
        shapes: recovered.shapes.iter().map(shape).collect(),
    };
    let mut bytes = Vec::new();
    Record::Checkpoint(Box::new(checkpoint)).encode(&mut bytes);
    bytes
}

impl Engine {
    async fn run(mut self) -> Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                command = self.inbox.recv() => match command {
                    Some(Command::Stop { done }) => {
                        let stopped = self.stop().await;
                        let _ = done.send(());
                        return stopped;
                    }
                    Some(command) => self.handle_command(command).await?,
                    None => return Ok(()),
                },
                changed = self.durable.changed() => {
                    changed.context("the commit log's writer has gone")?;
                    self.handle_durable()?;
                }
                _ = tick.tick() => self.handle_tick().await?,
                error = self.mover.ended() => return Err(error),
                event = self.link.next() => self.handle_event(event).await?,
            }
            self.request_round();
            self.logs.end_turn();
            self.execute().await?;
            self.confirm().await;
        }
    }

    async fn handle_event(&mut self, event: LinkEvent) -> Result<()> {
        match event {
            LinkEvent::Connected(connected) => self.handle_connected(*connected).await,
            LinkEvent::Waiting => {
                self.executor.status.set_phase(Phase::Waiting);
                Ok(())
            }
            LinkEvent::Unsound(code) => {
                self.executor.status.set_phase(Phase::Unsound(code));
                Ok(())
            }
            LinkEvent::Silent => {
                tracing::warn!(
                    "Postgres does not answer on the replication connection: nothing is up to date"
                );
                self.executor.status.set_fault(Watched::Stream, Some(FaultCode::Stalled));
                self.logs.wake_all();
                Ok(())
            }
            LinkEvent::Bytes { after_silence } => {
                if after_silence {
                    self.executor.status.set_fault(Watched::Stream, None);
                }
                self.executor.metrics.heard();
                self.handle_bytes().await
            }
            LinkEvent::Failed(unsound) => {
                self.handle_disconnect();
                if let Some(code) = unsound {
                    self.executor.status.set_phase(Phase::Unsound(code));
                }
                Ok(())
            }
            LinkEvent::Fatal(reason) => Err(anyhow::anyhow!(reason)),
        }
    }

    async fn handle_connected(&mut self, connected: Connected) -> Result<()> {
        let Connected { stream, origin, publication, breach, confirmed, wal_position } = connected;
        self.executor.status.set_publication(publication);
        let known = self.executor.folder.origin().context("cannot read the storage folder's identity")?;
        let other_origin = (known.as_ref() != Some(&origin)).then_some(DropCause::OtherPostgres);
        if let Some(cause) = breach.or(other_origin) {
            // What is stored belongs to another history: nothing connects it with this slot.
            self.remove_all(cause);
            self.router.handle_other_history();
            self.logs.handle_other_history();
            self.execute().await?;
            self.executor.status.handle_other_history();
            self.executor.folder.set_origin(&origin).context("cannot write the storage folder's identity")?;
        }
        self.router.handle_disconnect();
        self.logs.handle_connected(confirmed);
        (self.received, self.confirmed) = (confirmed, Lsn::ZERO);
        self.catch_up_to = Some(wal_position);
        self.executor.status.set_fault(Watched::Stream, None);
        self.link.set_streaming(stream);
        self.note_position(confirmed);
        Ok(())
    }

    fn handle_disconnect(&mut self) {
        self.router.handle_disconnect();
        self.logs.handle_disconnect();
        self.catch_up_to = None;
        self.executor.status.set_phase(Phase::Starting);
    }

    /// Works off every frame that has come.
    async fn handle_bytes(&mut self) -> Result<()> {
        let Some(mut stream) = self.link.take_streaming() else { return Ok(()) };
        match self.handle_frames(&mut stream).await {
            Ok(()) => self.link.set_streaming(stream),
            Err(Trouble::Stream(error)) => {
                tracing::warn!(%error, "the replication stream ended; connecting again");
                match error.downcast_ref().is_some_and(ReplicationError::lacks_publication) {
                    true => self.link.start_over(),
                    false => self.link.reconnect(),
                }
                self.handle_disconnect();
            }
            Err(Trouble::Disk(error)) => return Err(error),
        }
        Ok(())
    }

    async fn handle_frames(&mut self, stream: &mut ReplicationStream) -> Result<(), Trouble> {
        let mut reply_requested = false;
        while let Some(frame) = stream.frame().map_err(Trouble::stream)? {
            match frame {
                Frame::XLogData { wal_start, data, .. } => {
                    let message = decode(data).map_err(Trouble::stream)?;
                    self.handle_message(&message).await?;
                    self.received = self.received.max(wal_start);
                }
                Frame::Keepalive { wal_end, reply_requested: asked } => {
                    reply_requested |= asked;
                    self.logs.handle_keepalive(wal_end);
                    self.note_position(wal_end);
                    self.advance_round();
                }
            }
        }
        if reply_requested {
            self.logs.end_turn();
            self.execute().await.map_err(Trouble::Disk)?;
            self.confirmed = self.logs.confirmable();
            stream
                .confirm(self.received.max(self.confirmed), self.confirmed)
                .await
                .map_err(Trouble::stream)?;
        }
        Ok(())
    }

    async fn handle_message(&mut self, message: &Message<'_>) -> Result<(), Trouble> {
        if let Message::Relation(relation) = message {
            let xid = self.router.open_xid();
            let table = self.link.describe(relation.oid, xid).await.map_err(Trouble::stream)?;
            let described = table.map_or_else(Described::default, |table| Described {
                ancestors: table.ancestors,
                is_partition: table.is_partition,
                key_always_unique: table.relation.key_always_unique,
            });
            self.router.handle_described(relation.oid, described);
        }
        if let Message::Begin(begin) = message {
            // Known before anybody can read it, and before a shape is registered in its midst.
            self.executor.status.handle_commit(begin.final_lsn.as_u64(), begin.xid);
            self.logs.handle_begin(begin.final_lsn, begin.xid);
        }
        self.settle(matches!(message, Message::Commit(_))).await?;
        let step = self.router.handle_message(message).map_err(Trouble::stream)?;
        self.take_late();
        if self.router.has_questions() {
            self.judge().await?;
            // What its end means for shapes with subqueries is known only now.
            self.take_late();
        }
        if matches!(step, Step::Committed { .. }) || self.limits.is_full(self.router.fragment()) {
            self.append();
        }
        self.remove_rotated();
        if let Step::Committed { commit, end, .. } = step {
            self.logs.commit(commit, end);
            self.executor.metrics.transactions.inc();
            self.note_position(end);
            self.advance_round();
        }
        self.execute().await.map_err(Trouble::Disk)
    }

    /// Hands on what was routed so far.
    fn append(&mut self) {
        self.logs.append(self.router.fragment());
        self.router.clear_fragment();
    }

    /// Takes what waited for the end of its transaction, in pieces. `is_over`: the commit comes next.
    async fn settle(&mut self, is_over: bool) -> Result<(), Trouble> {
        while self.router.settle(is_over, |fragment| self.limits.is_full(fragment)) {
            self.take_late();
            if self.router.has_questions() {
                self.judge().await?;
            }
            self.append();
            self.remove_rotated();
            self.execute().await.map_err(Trouble::Disk)?;
        }
        Ok(())
    }

    /// Has Postgres judge the changes that core cannot, before the stream goes on.
    async fn judge(&mut self) -> Result<(), Trouble> {
        for question in self.router.questions() {
            self.executor.metrics.judged_by_postgres.inc_by(question.rows() as u64);
            match self.link.judge(&question).await {
                Ok(answers) => self.router.handle_judged(question.id, &answers),
                // Memory that a clause needs for its rows it will need again.
                Err(error) if error.is_transient() && error.code() != Some(sqlstate::OUT_OF_MEMORY) => {
                    return Err(Trouble::stream(error));
                }
                Err(error) => self.router.handle_refused(question.id, error.to_string()),
            }
        }
        Ok(())
    }

    fn remove_rotated(&mut self) {
        for (id, cause) in self.router.take_rotations() {
            match &cause {
                RotationCause::Unjudgeable(error) => {
                    tracing::warn!(%error, "a row cannot be judged by a shape's where clause");
                }
                RotationCause::Refused(reason) => {
                    tracing::warn!(reason, "Postgres refused a question about a shape");
                }
                _ => {}
            }
            self.logs.remove(id, DropCause::from(&cause));
        }
    }

    /// The stream has come this far.
    fn note_position(&mut self, position: Lsn) {
        self.received = self.received.max(position);
        self.logs.handle_position(self.received);
    }

    async fn handle_command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Register { shape, done } => {
                self.router.add_waiting(shape.id, &shape.definition, &shape.handle.to_string());
                self.logs.register(shape.id, shape.clone(), !shape.definition.subqueries().is_empty());
                let _ = done.send(());
            }
            Command::SnapshotTaken { id, filter, views, done } => {
                let is_complete = self.logs.is_snapshot_complete(id, &filter.bounds);
                if is_complete {
                    self.handle_snapshot_taken(id, &filter, views);
                }
                self.execute().await?;
                let _ = done.send(is_complete);
            }
            Command::RoundOpened { filter } => self.handle_round_opened(filter),
            Command::RoundAnswered { answers } => self.handle_round_answered(&answers),
            Command::RoundFailed { refused } => self.handle_round_failed(refused),
            Command::SnapshotDone { id, filter, progress } => {
                self.logs.handle_snapshot_done(SnapshotDone { id, filter, progress });
            }
            Command::Partitions(now) => {
                if let Some(shape) = self.logs.shape(now.id) {
                    shape.set_partitions(&now);
                    self.logs.record(&Record::Partitions(now));
                }
            }
            Command::Remove { id, cause, done } => {
                self.router.remove(id);
                self.logs.remove(id, cause);
                self.execute().await?;
                let _ = done.send(());
            }
            Command::Reconnect { starts_over, done } => {
                drop(self.link.take_streaming());
                match starts_over {
                    true => self.link.start_over(),
                    false => self.link.reconnect(),
                }
                self.handle_disconnect();
                let _ = done.send(());
            }
            Command::SegmentsSynced { file, synced } => {
                // A second sync may succeed without having written anything; a restart writes it all again.
                synced.context(
                    "cannot sync the shapes' segments. Nothing is lost: the commit log holds what they were to \
                     hold. Look at the storage folder's disk and start again",
                )?;
                self.logs.handle_segments_synced(file);
            }
            Command::Stop { .. } => unreachable!("handled by the loop"),
        }
        Ok(())
    }

    fn handle_snapshot_taken(&mut self, id: ShapeId, filter: &SnapshotFilter, views: Vec<View>) {
        self.logs.handle_snapshot_taken(id, Lsn::new(filter.ends_at));
        if !self.router.in_transaction() {
            self.logs.handle_position(self.received);
        }
        if !views.is_empty() {
            return self.handle_views(id, filter, views);
        }
        for transaction in self.router.handle_snapshot(id, filter) {
            self.logs.backfill(transaction);
        }
    }

    fn remove_all(&mut self, cause: DropCause) {
        for id in self.logs.ids() {
            self.router.remove(id);
            self.logs.remove(id, cause);
        }
    }

    fn handle_durable(&mut self) -> Result<()> {
        match &*self.durable.borrow_and_update() {
            Durable::Ticket(ticket) => self.logs.handle_synced(*ticket),
            Durable::Failed(reason) => anyhow::bail!(
                "cannot write the commit log: {reason}. Nothing is lost: Postgres keeps what was not \
                 confirmed. Make room on the storage folder's disk and start again"
            ),
        }
        Ok(())
    }

    async fn handle_tick(&mut self) -> Result<()> {
        self.executor.metrics.shapes.set(i64::try_from(self.logs.shape_count()).unwrap_or(i64::MAX));
        self.logs.flush_tails();
        // While the stream is not caught up, a transaction that was cut off may lie half in the logs.
        let is_consistent = self.executor.status.phase() == Phase::Active && !self.router.in_transaction();
        if is_consistent {
            self.logs.begin_checkpoint();
            self.executor.settle(&mut self.logs).await?;
            let rounds = self.router.rounds();
            self.logs.continue_checkpoint(self.executor.registry.last_handle_us(), |id| rounds.state(id));
        }
        (self.confirmed, self.pulse_due) = (Lsn::ZERO, true);
        Ok(())
    }

    /// Carries out what the logs have decided. Once readers are told of everything that was served before, the end of
    /// a log may be called up to date.
    async fn execute(&mut self) -> Result<()> {
        self.executor.run(&mut self.logs).await?;
        if self.catch_up_to.take_if(|end| *end <= self.received).is_some() {
            self.executor.status.set_phase(Phase::Active);
        }
        Ok(())
    }

    /// Tells Postgres what it may forget, where there is news.
    async fn confirm(&mut self) {
        let confirmable = self.logs.confirmable();
        if confirmable == self.confirmed {
            return;
        }
        let Some(mut stream) = self.link.take_streaming() else { return };
        let received = self.received.max(confirmable);
        let asks = std::mem::take(&mut self.pulse_due);
        let sent = match asks {
            true => stream.confirm_and_ask(received, confirmable).await,
            false => stream.confirm(received, confirmable).await,
        };
        match sent {
            Ok(()) => {
                self.confirmed = confirmable;
                self.executor.metrics.confirmed_lsn.set(confirmable.as_u64().cast_signed());
                self.executor.metrics.received_lsn.set(received.as_u64().cast_signed());
                self.link.set_streaming(stream);
                if asks {
                    self.link.handle_asked();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the replication stream ended; connecting again");
                self.link.reconnect();
                self.handle_disconnect();
            }
        }
    }

    async fn stop(mut self) -> Result<()> {
        self.logs.end_turn();
        let executed = self.executor.settle(&mut self.logs).await;
        if let Some(stream) = self.link.take_streaming() {
            stream.stop().await;
        }
        self.executor.commit_log.close().await;
        executed
    }
}

/// What ends the work on a stream.
enum Trouble {
    /// The stream: connecting again may help.
    Stream(anyhow::Error),
    /// The disk: nothing more can be promised.
    Disk(anyhow::Error),
}

impl Trouble {
    fn stream(error: impl Into<anyhow::Error>) -> Self {
        Self::Stream(error.into())
    }
}
