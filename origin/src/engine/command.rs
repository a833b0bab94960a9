//! The commands that other tasks send to the engine.

use crate::shapes::Shape;
use limn_core::ShapeId;
use limn_core::journal::record::ShapePartitions;
use limn_core::shape::DropCause;
use limn_core::shape::dependent::RoundOutcome;
use limn_core::store::{NewShapes, NewShapesAnswer, Report};
use std::io;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the engine.
const COMMANDS_MAX: usize = 256;

/// A request to the engine; `done` is answered once it took effect.
#[derive(Debug)]
pub(super) enum Command {
    /// Something is known of new shapes.
    NewShapes { new: NewShapes<Arc<Shape>>, done: oneshot::Sender<NewShapesAnswer> },
    /// The tables below one that the shape reads are others now.
    Partitions(ShapePartitions),
    /// Drop the shape.
    Remove { id: ShapeId, cause: DropCause, done: oneshot::Sender<()> },
    /// The stream is of no use any more: connect again, with another slot where it starts over.
    Reconnect { starts_over: bool, done: oneshot::Sender<()> },
    /// A request of a round was carried out.
    Round(RoundOutcome),
    /// The segments of a checkpoint are durable, or cannot be made so.
    SegmentsSynced(io::Result<Report>),
    /// Work on a segment was done.
    Report(Report),
    /// Make everything durable and stop.
    Stop { done: oneshot::Sender<()> },
}

/// The engine, for everyone else.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    commands: mpsc::Sender<Command>,
}

/// The receiving side of an engine that may be yet to start.
#[derive(Debug)]
pub struct Inbox {
    commands: mpsc::Receiver<Command>,
}

impl Inbox {
    /// Resolves once the server is to end, and refuses whatever else is asked until then. Cancel-safe.
    pub async fn stopped(&mut self) {
        while let Some(command) = self.recv().await {
            if let Command::Stop { done } = command {
                let _ = done.send(());
                return;
            }
        }
    }

    pub(super) async fn recv(&mut self) -> Option<Command> {
        self.commands.recv().await
    }
}

/// The engine has stopped: the server is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is stopping")]
pub struct Stopped;

impl EngineHandle {
    /// A handle, and what is sent through it.
    #[must_use]
    pub fn channel() -> (Self, Inbox) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        (Self { commands: sender }, Inbox { commands })
    }

    /// Tells what is known of new shapes. That one is written is only sent: nothing waits for it.
    ///
    /// # Errors
    /// Where the engine has stopped.
    pub async fn tell_of_new(&self, new: NewShapes<Arc<Shape>>) -> Result<NewShapesAnswer, Stopped> {
        if matches!(new, NewShapes::Written { .. }) {
            let (done, _) = oneshot::channel();
            self.send(Command::NewShapes { new, done }).await?;
            return Ok(NewShapesAnswer::Noted);
        }
        self.ask(|done| Command::NewShapes { new, done }).await
    }

    /// Notes the tables below one that a shape reads.
    ///
    /// # Errors
    /// Where the engine has stopped.
    pub async fn set_partitions(&self, now: ShapePartitions) -> Result<(), Stopped> {
        self.send(Command::Partitions(now)).await
    }

    /// Removes a shape; its handle is never served again.
    ///
    /// # Errors
    /// Where the engine has stopped.
    pub async fn remove(&self, id: ShapeId, cause: DropCause) -> Result<(), Stopped> {
        self.ask(|done| Command::Remove { id, cause, done }).await
    }

    /// Connects to Postgres again; returns once the old connection has gone.
    ///
    /// # Errors
    /// Where the engine has stopped.
    pub async fn reconnect(&self) -> Result<(), Stopped> {
        self.ask(|done| Command::Reconnect { starts_over: false, done }).await
    }

    /// Connects to Postgres again with another slot: every shape starts over.
    ///
    /// # Errors
    /// Where the engine has stopped.
    pub async fn start_over(&self) -> Result<(), Stopped> {
        self.ask(|done| Command::Reconnect { starts_over: true, done }).await
    }

    /// Makes everything durable, frees the slot, and ends the engine.
    pub async fn stop(&self) {
        let _ = self.ask(|done| Command::Stop { done }).await;
    }

    pub(super) async fn segments_synced(&self, synced: io::Result<Report>) {
        let _ = self.send(Command::SegmentsSynced(synced)).await;
    }

    /// Reports the end of what the engine has asked for.
    pub(super) async fn report(&self, report: Command) {
        let _ = self.send(report).await;
    }

    pub(super) async fn round(&self, outcome: RoundOutcome) {
        let _ = self.send(Command::Round(outcome)).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (done, answer) = oneshot::channel();
        self.send(command(done)).await?;
        answer.await.map_err(|_| Stopped)
    }

    async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }
}
