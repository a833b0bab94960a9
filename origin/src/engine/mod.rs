//! The engine: one task that owns the write path ([`limn_core::store::Writer`]).
//!
//! It reads the replication stream, hands its messages to the `Writer`, carries the effects out (`executor`), and
//! confirms to Postgres what is durable. Others talk to it through an [`EngineHandle`]. It runs also while Postgres is
//! away: shapes can be read and removed then, only nothing new comes.

mod command;
mod executor;
mod link;
mod move_session;
mod pulse;
mod segment_work;

pub use command::{EngineHandle, Inbox, Stopped};
pub use link::{Link, Source};

use crate::health::{FaultSource, Phase, Status};
use crate::observe::Metrics;
use crate::postgres::{Frame, ReplicationError, ReplicationStream, sqlstate};
use crate::shapes::{Life, Registry, Shape};
use crate::store::{CommitLog, Durable, Folder, FolderLock};
use anyhow::{Context, Result};
use command::Command;
use executor::Executor;
use limn_core::Lsn;
use limn_core::journal::recovery::RecoveredShape;
use limn_core::pgoutput::{Message, decode};
use limn_core::protocol::FaultCode;
use limn_core::shape::{Described, DropCause, StoredResolver};
use limn_core::store::{Limits, NewShapes, Progress, Question, Report, Writer};
use limn_disk::Recovered;
use link::{Connected, LinkEvent};
use move_session::MoveSession;
use segment_work::SegmentWorker;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

/// Shapes that a start restores before another thread has them found.
const RESTORED_AT_ONCE: usize = 256;
/// How often idle tails are flushed and Postgres hears from us, at least.
const TICK: Duration = Duration::from_secs(5);

/// Everything the engine works with.
pub struct EngineParts {
    /// The connection to Postgres, which may be made by now or not.
    pub link: Link,
    /// The commands of other tasks.
    pub inbox: Inbox,
    /// The same, to be handed on.
    pub handle: EngineHandle,
    /// Where shapes are kept.
    pub folder: Arc<Folder>,
    /// The right to write there.
    pub lock: FolderLock,
    /// The shapes and the position that the storage folder held.
    pub recovered: Recovered,
    /// Which shapes there are.
    pub registry: Arc<Registry>,
    /// How the server is.
    pub status: Arc<Status>,
    /// The metrics of the server.
    pub metrics: Arc<Metrics>,
}

struct Engine {
    link: Link,
    writer: Writer<Arc<Shape>>,
    executor: Executor,
    inbox: Inbox,
    /// Held for as long as anything may be written.
    _lock: FolderLock,
    durable: watch::Receiver<Durable>,
    /// Whether the server is to be asked for a sign of life.
    pulse_due: bool,
}

/// Starts the engine. It ends by itself only after [`EngineHandle::stop`], or with an error that the
/// server cannot live with.
///
/// # Errors
/// Where the commit log cannot be started.
pub fn start(parts: EngineParts) -> Result<tokio::task::JoinHandle<Result<()>>> {
    let EngineParts { link, inbox, handle, folder, lock, recovered, registry, status, metrics } = parts;
    status.handle_processed(recovered.store.processed);
    let start_log =
        || CommitLog::start(folder.layout(), &recovered, registry.last_handle_us(), metrics.commit.clone());
    // Where there are many shapes, both take a while.
    let (started, writer) = thread::scope(|scope| {
        let starting = scope.spawn(start_log);
        let writer = restore(&recovered, &folder, &registry);
        (starting.join(), writer)
    });
    let started = started.map_err(|_| anyhow::anyhow!("the start of the commit log panicked"))?;
    let (commit_log, durable) =
        started.context("cannot write to the storage folder; is its disk full or read-only?")?;
    folder.open_packs(&recovered);
    // Nobody waits for the memory of many shapes to be given back.
    tokio::task::spawn_blocking(move || drop(recovered));
    let writer = writer?;
    let move_session = MoveSession::start(link.config().clone(), handle.clone());
    let segment_worker = SegmentWorker::start(folder.clone(), handle.clone());
    let engine = Engine {
        link,
        writer,
        executor: Executor {
            move_session,
            segment_worker,
            folder,
            commit_log,
            status,
            registry,
            metrics,
            handle,
            writing: None,
        },
        inbox,
        _lock: lock,
        durable,
        pulse_due: false,
    };
    Ok(tokio::spawn(engine.run()))
}

/// The write path with the shapes that a start has found, which can be found from now on. One after the other: a definition
/// that is not at rest takes much memory. Another thread has them found: that takes nearly no memory, of which two threads
/// would have to take turns.
fn restore(recovered: &Recovered, folder: &Folder, registry: &Registry) -> Result<Writer<Arc<Shape>>> {
    let (store, layout) = (&recovered.store, folder.layout());
    let processed = Lsn::new(store.processed);
    let mut writer = Writer::new(Limits::default(), recovered.next_file, store.tables.clone(), processed);
    writer.reserve(store.shapes.len());
    registry.reserve(store.shapes.len());
    let mut resolver = StoredResolver::default();
    let (restored, batches) = mpsc::channel::<Vec<Arc<Shape>>>();
    thread::scope(|scope| {
        scope.spawn(|| batches.into_iter().flatten().for_each(|shape| registry.insert(&shape)));
        let mut restore = |found: &RecoveredShape| {
            let definition = Shape::stored_definition(&found.created, &mut resolver)?;
            let place = (layout.clone(), &registry.schemas);
            let made = found.clone().make(|created, log| {
                (Arc::new(Shape::new(created, definition.clone(), place, log, Life::Readable)), definition)
            });
            let shape = made.shape.clone();
            writer.restore(made);
            Ok(shape)
        };
        for batch in store.shapes.chunks(RESTORED_AT_ONCE) {
            let batch = batch.iter().map(&mut restore).collect::<Result<_>>()?;
            // Its receiver ends behind this.
            let _ = restored.send(batch);
        }
        drop(restored);
        Ok(writer)
    })
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
                error = self.executor.move_session.ended() => return Err(error),
                event = self.link.next() => self.handle_event(event).await?,
            }
            self.writer.end_turn();
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
                self.executor.status.set_fault(FaultSource::Stream, Some(FaultCode::Stalled));
                self.writer.wake_all();
                Ok(())
            }
            LinkEvent::Bytes { after_silence } => {
                if after_silence {
                    self.executor.status.set_fault(FaultSource::Stream, None);
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
            self.writer.handle_other_history(cause);
            self.execute().await?;
            self.executor.status.handle_other_history();
            self.executor.folder.set_origin(&origin).context("cannot write the storage folder's identity")?;
        }
        self.writer.handle_connected(confirmed, wal_position);
        self.executor.status.set_fault(FaultSource::Stream, None);
        self.link.set_streaming(stream);
        Ok(())
    }

    fn handle_disconnect(&mut self) {
        self.writer.handle_disconnect();
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
                    self.handle_message(&message, wal_start).await?;
                }
                Frame::Keepalive { wal_end, reply_requested: asked } => {
                    reply_requested |= asked;
                    self.writer.handle_keepalive(wal_end);
                }
            }
        }
        if reply_requested {
            self.writer.end_turn();
            self.execute().await.map_err(Trouble::Disk)?;
            let (received, confirmable) = (self.writer.received(), self.writer.logs().confirmable());
            stream.confirm(received, confirmable).await.map_err(Trouble::stream)?;
            self.handle_confirmed(received, confirmable);
        }
        Ok(())
    }

    /// Takes a message, and answers what the writer must know of Postgres for it.
    async fn handle_message(&mut self, message: &Message<'_>, wal_start: Lsn) -> Result<(), Trouble> {
        loop {
            let progress = self.writer.handle_message(message, wal_start).map_err(Trouble::stream)?;
            self.execute().await.map_err(Trouble::Disk)?;
            let Progress::Again(questions) = progress else { break };
            for question in questions {
                self.answer(question).await?;
            }
        }
        if matches!(message, Message::Commit(_)) {
            self.executor.metrics.transactions.inc();
        }
        Ok(())
    }

    async fn answer(&mut self, question: Question) -> Result<(), Trouble> {
        match question {
            Question::Relation { oid, xid } => {
                let table = self.link.describe(oid, xid).await.map_err(Trouble::stream)?;
                let described = table.map_or_else(Described::default, |table| Described {
                    ancestors: table.ancestors,
                    is_partition: table.is_partition,
                    key_always_unique: table.relation.key_always_unique,
                });
                self.writer.handle_described(oid, described);
            }
            Question::Rows(question) => {
                self.executor.metrics.judged_by_postgres.inc_by(question.rows() as u64);
                match self.link.judge(&question).await {
                    Ok(answers) => self.writer.handle_judged(question.id, Ok(&answers)),
                    // Memory that a clause needs for its rows it will need again.
                    Err(error) if error.is_transient() && error.code() != Some(sqlstate::OUT_OF_MEMORY) => {
                        return Err(Trouble::stream(error));
                    }
                    Err(error) => self.writer.handle_judged(question.id, Err(error.to_string())),
                }
            }
        }
        Ok(())
    }

    async fn handle_command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::NewShapes { new, done } => {
                let is_taken = matches!(new, NewShapes::Taken { .. });
                let answer = self.writer.handle_new_shapes(new);
                if is_taken {
                    self.execute().await?;
                }
                let _ = done.send(answer);
            }
            Command::Round(outcome) => self.writer.handle_round(outcome),
            Command::Partitions(now) => {
                if let Some(shape) = self.writer.logs().shape(now.id) {
                    shape.set_partitions(&now);
                }
                self.writer.handle_partitions(now);
            }
            Command::Remove { id, cause, done } => {
                self.writer.remove(id, cause);
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
            Command::SegmentsSynced(synced) => {
                // A second sync may succeed without having written anything; a restart writes it all again.
                let report = synced.context(
                    "cannot sync the shapes' segments. Nothing is lost: the commit log holds what they were to \
                     hold. Look at the storage folder's disk and start again",
                )?;
                self.writer.handle_report(report);
            }
            Command::Report(report) => self.writer.handle_report(report),
            Command::Stop { .. } => unreachable!("handled by the loop"),
        }
        Ok(())
    }

    fn handle_durable(&mut self) -> Result<()> {
        match &*self.durable.borrow_and_update() {
            Durable::Ticket(ticket) => self.writer.handle_report(Report::Synced(*ticket)),
            Durable::Failed(reason) => anyhow::bail!(
                "cannot write the commit log: {reason}. Nothing is lost: Postgres keeps what was not \
                 confirmed. Make room on the storage folder's disk and start again"
            ),
        }
        Ok(())
    }

    async fn handle_tick(&mut self) -> Result<()> {
        let shapes = self.writer.logs().shape_count();
        self.executor.metrics.shapes.set(i64::try_from(shapes).unwrap_or(i64::MAX));
        self.writer.handle_tick(self.executor.registry.last_handle_us());
        // A checkpoint waits for every tail.
        self.executor.settle(&mut self.writer).await?;
        self.pulse_due = true;
        Ok(())
    }

    /// Carries out what was decided.
    async fn execute(&mut self) -> Result<()> {
        self.executor.run(&mut self.writer).await
    }

    /// Tells Postgres what it may forget, where there is news.
    async fn confirm(&mut self) {
        let Some(confirmable) = self.writer.due_confirmation() else { return };
        let Some(mut stream) = self.link.take_streaming() else { return };
        let received = self.writer.received();
        let asks = std::mem::take(&mut self.pulse_due);
        let sent = match asks {
            true => stream.confirm_and_ask(received, confirmable).await,
            false => stream.confirm(received, confirmable).await,
        };
        match sent {
            Ok(()) => {
                self.handle_confirmed(received, confirmable);
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

    /// Postgres was told what has been read, and what it may forget.
    fn handle_confirmed(&mut self, received: Lsn, confirmed: Lsn) {
        self.writer.handle_confirmed(confirmed);
        self.executor.metrics.confirmed_lsn.set(confirmed.as_u64().cast_signed());
        self.executor.metrics.received_lsn.set(received.as_u64().cast_signed());
    }

    async fn stop(mut self) -> Result<()> {
        self.writer.end_turn();
        let executed = self.executor.settle(&mut self.writer).await;
        if let Some(stream) = self.link.take_streaming() {
            stream.stop().await;
        }
        self.executor.commit_log.close().await;
        // Nobody takes the worker's reports any more.
        drop(self.inbox);
        self.executor.segment_worker.stop().await;
        executed
    }
}

/// The reason why the work on a stream ends.
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
