//! The engine: one task that owns the router and the write path.
//!
//! It reads the replication stream, hands messages to the router and fragments to the logs, and confirms
//! to Postgres what is durable. Others talk to it through an [`EngineHandle`]. It does all this also while
//! Postgres is away: shapes can be read and removed then, only nothing new comes.

mod command;
mod link;
mod logs;
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
use crate::store::{CommitLog, Durable, Folder, FolderLock, Recovered, remove_strangers, segment};
use anyhow::{Context, Result};
use command::Command;
use limn_core::journal::FlushTracker;
use limn_core::journal::record::{Record, ShapeCheckpoint, SnapshotDone, StoreCheckpoint};
use limn_core::journal::replay::ReplayedShape;
use limn_core::pg::SnapshotFilter;
use limn_core::pgoutput::{Message, decode};
use limn_core::protocol::FaultCode;
use limn_core::shape::dependent::View;
use limn_core::shape::{Described, DropCause, RotationCause, Router, Step};
use limn_core::{Lsn, ShapeId};
use link::{Connected, Link, LinkEvent};
use logs::{Logs, LogsParts, Tracked};
use mover::Mover;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Bytes of encoded items beyond which a part of a transaction is handed on.
const FRAGMENT_BYTES_MAX: usize = 256 << 10;
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
    router: Router,
    logs: Logs,
    handle: EngineHandle,
    inbox: Inbox,
    /// Held for as long as anything may be written.
    _lock: FolderLock,
    durable: watch::Receiver<Durable>,
    /// Where the stream must come before we know what was served before.
    catch_up_to: Lsn,
    received: Lsn,
    confirmed: Lsn,
    /// Whether the server is to be asked for a sign of life.
    pulse_due: bool,
    checkpointing: bool,
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
    let mut shapes = HashMap::new();
    for shape in recovered.shapes {
        let (filter, state) = (shape.filter.clone(), shape.dependent.clone());
        let (id, tracked) = restore(shape, &folder)?;
        let salt = tracked.shape.handle.to_string();
        router.add_restored(id, &tracked.shape.definition, &salt, filter, state);
        registry.insert(&tracked.shape);
        shapes.insert(id, tracked);
    }
    let logs = Logs::new(LogsParts { folder, commit_log, status, registry, metrics, shapes });
    let mover = Mover::start(source.config.clone(), handle.clone());
    let engine = Engine {
        link: Link::new(source),
        mover,
        router,
        logs,
        handle,
        inbox,
        _lock: lock,
        durable,
        catch_up_to: Lsn::ZERO,
        received: Lsn::ZERO,
        confirmed: Lsn::ZERO,
        pulse_due: false,
        checkpointing: false,
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

fn restore(shape: ReplayedShape, folder: &Folder) -> Result<(ShapeId, Tracked)> {
    let id = shape.created.id;
    let dir = folder.shape_dir(shape.handle);
    let restored = Shape::restore(shape.created, shape.handle, dir, shape.log, Life::Readable)?;
    Ok((id, Tracked::restored(Arc::new(restored), shape.filter, shape.dependent.whole_up_to)))
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
                        self.stop().await;
                        let _ = done.send(());
                        return Ok(());
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
            self.logs.queue().await;
            self.confirm().await;
        }
    }

    async fn handle_event(&mut self, event: LinkEvent) -> Result<()> {
        match event {
            LinkEvent::Connected(connected) => self.handle_connected(*connected).await,
            LinkEvent::Waiting => {
                self.logs.status.set_phase(Phase::Waiting);
                Ok(())
            }
            LinkEvent::Unsound(code) => {
                self.logs.status.set_phase(Phase::Unsound(code));
                Ok(())
            }
            LinkEvent::Silent => {
                tracing::warn!(
                    "Postgres does not answer on the replication connection: nothing is up to date"
                );
                self.logs.status.set_fault(Watched::Stream, Some(FaultCode::Stalled));
                self.logs.wake_all();
                Ok(())
            }
            LinkEvent::Bytes { after_silence } => {
                if after_silence {
                    self.logs.status.set_fault(Watched::Stream, None);
                }
                self.logs.metrics.heard();
                self.handle_bytes().await
            }
            LinkEvent::Failed(unsound) => {
                self.handle_disconnect();
                if let Some(code) = unsound {
                    self.logs.status.set_phase(Phase::Unsound(code));
                }
                Ok(())
            }
            LinkEvent::Fatal(reason) => Err(anyhow::anyhow!(reason)),
        }
    }

    async fn handle_connected(&mut self, connected: Connected) -> Result<()> {
        let Connected { stream, origin, publication, breach, confirmed, wal_position } = connected;
        self.logs.status.set_publication(publication);
        let known = self.logs.folder.origin().context("cannot read the storage folder's identity")?;
        let other_origin = (known.as_ref() != Some(&origin)).then_some(DropCause::OtherPostgres);
        if let Some(cause) = breach.or(other_origin) {
            // What is stored belongs to another history: nothing connects it with this slot.
            self.remove_all(cause);
            self.router.handle_other_history();
            self.logs.status.handle_other_history();
            self.logs.folder.set_origin(&origin).context("cannot write the storage folder's identity")?;
        }
        self.router.handle_disconnect();
        self.logs.flush = FlushTracker::new(confirmed);
        (self.received, self.confirmed) = (confirmed, Lsn::ZERO);
        self.catch_up_to = wal_position;
        // What was confirmed ends there: the next transaction may commit at that very position.
        self.logs.status.handle_processed(confirmed.as_u64().saturating_sub(1));
        self.logs.status.set_fault(Watched::Stream, None);
        self.link.set_streaming(stream);
        self.note_position(confirmed);
        Ok(())
    }

    fn handle_disconnect(&mut self) {
        self.router.handle_disconnect();
        self.logs.handle_disconnect();
        self.logs.status.set_phase(Phase::Starting);
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
                    self.logs.flush.handle_keepalive(wal_end);
                    self.note_position(wal_end);
                    self.advance_round().map_err(Trouble::Disk)?;
                }
            }
        }
        if reply_requested {
            self.logs.queue().await;
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
            self.logs.status.handle_commit(begin.final_lsn.as_u64(), begin.xid);
        }
        self.settle(matches!(message, Message::Commit(_))).await?;
        let step = self.router.handle_message(message).map_err(Trouble::stream)?;
        self.take_late().map_err(Trouble::Disk)?;
        if self.router.has_questions() {
            self.judge().await?;
        }
        match step {
            Step::Began => self.logs.flush.handle_begin(),
            Step::Continued if self.router.fragment().len_bytes() < FRAGMENT_BYTES_MAX => {}
            Step::Continued | Step::Committed { .. } => {
                self.logs.append(self.router.fragment()).map_err(Trouble::disk)?;
                self.router.clear_fragment();
            }
        }
        self.remove_rotated();
        if let Step::Committed { commit, end, .. } = step {
            self.logs.commit(commit, end);
            self.note_position(end);
            self.advance_round().map_err(Trouble::Disk)?;
        }
        if self.logs.should_queue() {
            self.logs.queue().await;
        }
        Ok(())
    }

    /// Takes what waited for the end of its transaction, in pieces. `is_over`: the commit comes next.
    async fn settle(&mut self, is_over: bool) -> Result<(), Trouble> {
        while self.router.settle(is_over, FRAGMENT_BYTES_MAX) {
            self.take_late().map_err(Trouble::Disk)?;
            if self.router.has_questions() {
                self.judge().await?;
            }
            self.logs.append(self.router.fragment()).map_err(Trouble::disk)?;
            self.router.clear_fragment();
            self.remove_rotated();
            if self.logs.should_queue() {
                self.logs.queue().await;
            }
        }
        Ok(())
    }

    /// Has Postgres judge the changes that core cannot, before the stream goes on.
    async fn judge(&mut self) -> Result<(), Trouble> {
        for question in self.router.questions() {
            self.logs.metrics.judged_by_postgres.inc_by(question.rows() as u64);
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
        if self.received >= self.catch_up_to && self.logs.status.followed().0 != Phase::Active {
            self.logs.status.set_phase(Phase::Active);
        }
    }

    async fn handle_command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Register { shape, done } => {
                self.router.add_waiting(shape.id, &shape.definition, &shape.handle.to_string());
                self.logs.insert(shape);
                let _ = done.send(());
            }
            Command::SnapshotTaken { id, filter, views, done } => {
                let is_complete = self.logs.is_complete(id, &filter);
                if is_complete {
                    self.handle_snapshot_taken(id, &filter, views)?;
                }
                let _ = done.send(is_complete);
            }
            Command::RoundOpened { filter } => self.handle_round_opened(filter)?,
            Command::RoundAnswered { answers } => self.handle_round_answered(&answers)?,
            Command::RoundFailed { refused } => self.handle_round_failed(refused)?,
            Command::SnapshotDone { id, filter, progress } => {
                self.logs.handle_snapshot_done(SnapshotDone { id, filter, progress });
            }
            Command::Partitions(now) => {
                if let Some(tracked) = self.logs.shapes.get(&now.id) {
                    tracked.shape.set_partitions(&now);
                    self.logs.record(&Record::Partitions(now));
                }
            }
            Command::Remove { id, cause, done } => {
                self.router.remove(id);
                self.logs.remove(id, cause);
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
                self.checkpointing = false;
                let folder = self.logs.folder.clone();
                self.logs.commit_log.forget_before(&folder, file).await?;
            }
            Command::Stop { .. } => unreachable!("handled by the loop"),
        }
        Ok(())
    }

    fn handle_snapshot_taken(
        &mut self,
        id: ShapeId,
        filter: &SnapshotFilter,
        views: Vec<View>,
    ) -> Result<()> {
        self.logs.handle_snapshot(id, Lsn::new(filter.ends_at));
        if !self.router.in_transaction() {
            self.logs.handle_position(self.received);
        }
        if !views.is_empty() {
            return self.handle_views(id, filter, views);
        }
        for transaction in self.router.handle_snapshot(id, filter) {
            self.logs.backfill(transaction).context("cannot write to the storage folder")?;
        }
        Ok(())
    }

    fn remove_all(&mut self, cause: DropCause) {
        let ids: Vec<ShapeId> = self.logs.shapes.keys().copied().collect();
        for id in ids {
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
        self.logs.metrics.shapes.set(i64::try_from(self.logs.shapes.len()).unwrap_or(i64::MAX));
        self.logs.flush_tails(true).context("cannot write to the storage folder")?;
        // While the stream is not caught up, a transaction that was cut off may lie half in the logs.
        let whole = self.logs.status.phase() == Phase::Active && !self.router.in_transaction();
        if whole && !self.checkpointing && self.logs.wants_checkpoint() {
            self.checkpoint().await?;
        }
        (self.confirmed, self.pulse_due) = (Lsn::ZERO, true);
        Ok(())
    }

    async fn checkpoint(&mut self) -> Result<()> {
        let (file, dirs) =
            self.logs.checkpoint(self.router.rounds()).await.context("cannot write a checkpoint")?;
        self.checkpointing = true;
        let handle = self.handle.clone();
        tokio::spawn(async move {
            let synced = tokio::task::spawn_blocking(move || sync_all(&dirs)).await;
            handle.segments_synced(file, synced.unwrap_or_else(|error| Err(error.into()))).await;
        });
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
                self.logs.metrics.confirmed_lsn.set(confirmable.as_u64().cast_signed());
                self.logs.metrics.received_lsn.set(received.as_u64().cast_signed());
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

    async fn stop(mut self) {
        self.logs.queue().await;
        if let Some(stream) = self.link.take_streaming() {
            stream.stop().await;
        }
        self.logs.commit_log.close().await;
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

    fn disk(error: std::io::Error) -> Self {
        Self::Disk(anyhow::Error::new(error).context("cannot write to the storage folder"))
    }
}

fn sync_all(dirs: &[PathBuf]) -> std::io::Result<()> {
    dirs.iter().try_for_each(|dir| segment::sync(dir))
}
