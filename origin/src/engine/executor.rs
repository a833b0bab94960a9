//! Carries out what the write path decides: files, readers, metrics.

use super::command::EngineHandle;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::shape::{Life, Shape};
use crate::status::Status;
use crate::store::{CommitLog, Folder, segment};
use anyhow::{Context, Result};
use limn_core::ShapeId;
use limn_core::journal::record::CreatedShape;
use limn_core::log::ShapeLog;
use limn_core::log::segment::SegmentAppend;
use limn_core::shape::DropCause;
use limn_core::store::{Effect, Logs, SharedShape};
use std::io;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Bytes of tails that are written in one go.
const WRITE_BYTES_MAX: usize = 8 << 20;

/// Everything that effects reach.
pub(super) struct Executor {
    pub(super) folder: Arc<Folder>,
    pub(super) commit_log: CommitLog,
    pub(super) status: Arc<Status>,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<Metrics>,
    /// Where the end of what takes long is reported.
    pub(super) handle: EngineHandle,
    /// The thread that writes tails, one batch at a time.
    pub(super) writing: Option<JoinHandle<io::Result<Vec<ShapeId>>>>,
}

impl SharedShape for Shape {
    fn with_log<T>(&self, change: impl FnOnce(&mut ShapeLog) -> T) -> T {
        change(&mut self.log())
    }

    fn created(&self) -> CreatedShape {
        Shape::created(self)
    }
}

impl Executor {
    /// Carries out every effect that is due, in order. A thread for blocking work writes tails, while no log is locked
    /// and the stream is read on; [`settle`](Self::settle) waits for it.
    ///
    /// # Errors
    /// Where a segment cannot be written.
    pub(super) async fn run(&mut self, logs: &mut Logs<Arc<Shape>>) -> Result<()> {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish_writing(logs).await?;
        }
        loop {
            let (mut writes, mut bytes) = (Vec::new(), 0);
            while bytes < WRITE_BYTES_MAX
                && let Some(effect) = logs.poll_effect()
            {
                match effect {
                    Effect::WriteTail { id, shape, append } => {
                        bytes += append.items.len();
                        writes.push((id, shape, append));
                    }
                    Effect::RemoveFolder { shape } => {
                        // Nothing is written to a folder that goes.
                        self.finish_writing(logs).await?;
                        tokio::task::spawn_blocking(move || std::fs::remove_dir_all(&shape.dir));
                    }
                    effect => self.carry_out(effect).await,
                }
            }
            if writes.is_empty() {
                return Ok(());
            }
            self.finish_writing(logs).await?;
            self.writing = Some(tokio::task::spawn_blocking(move || write_tails(&writes)));
        }
    }

    /// Carries out every effect that is due and those that follow from them, until no tail is being written.
    ///
    /// # Errors
    /// Where a segment cannot be written.
    pub(super) async fn settle(&mut self, logs: &mut Logs<Arc<Shape>>) -> Result<()> {
        self.run(logs).await?;
        while self.writing.is_some() {
            self.finish_writing(logs).await?;
            self.run(logs).await?;
        }
        Ok(())
    }

    /// Waits for the tails that are being written.
    async fn finish_writing(&mut self, logs: &mut Logs<Arc<Shape>>) -> Result<()> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let written = writing.await.unwrap_or_else(|error| Err(error.into()));
        for id in written.context("cannot write to the storage folder")? {
            logs.handle_flushed(id);
        }
        Ok(())
    }

    async fn carry_out(&mut self, effect: Effect<Arc<Shape>>) {
        match effect {
            Effect::Append { ticket, bytes } => self.commit_log.append(ticket, bytes).await,
            Effect::StartFile { number, ticket, checkpoint } => {
                self.commit_log.start_file(number, ticket, checkpoint).await;
            }
            Effect::SyncSegments { file, shapes } => self.sync_segments(file, shapes),
            Effect::DeleteFilesBefore { file } => self.commit_log.delete_before(file).await,
            Effect::WriteTail { .. } | Effect::RemoveFolder { .. } => unreachable!("`run` handles them"),
            Effect::Publish { processed, grown } => {
                // Told to readers only now that every shape shows the transaction.
                self.status.handle_processed(processed.as_u64());
                grown.iter().for_each(|shape| shape.wake());
            }
            Effect::Joined { shape } => shape.handle_joined(),
            Effect::Wake { shape } => shape.wake(),
            Effect::SnapshotDurable { shape } => {
                let table = &shape.definition.relation.name;
                tracing::info!(handle = %shape.handle, %table, "snapshot is durable");
            }
            Effect::Dropped { shape, cause } => self.drop_shape(&shape, cause),
        }
    }

    fn sync_segments(&self, file: u64, shapes: Vec<Arc<Shape>>) {
        let handle = self.handle.clone();
        tokio::spawn(async move {
            let sync = move || shapes.iter().try_for_each(|shape| segment::sync(&shape.dir));
            let synced = tokio::task::spawn_blocking(sync).await;
            handle.segments_synced(file, synced.unwrap_or_else(|error| Err(error.into()))).await;
        });
    }

    fn drop_shape(&self, shape: &Shape, cause: DropCause) {
        let (table, name) = (&shape.definition.relation.name, cause.as_str());
        tracing::info!(handle = %shape.handle, %table, cause = name, "shape removed");
        self.registry.remove(shape);
        shape.set_life(Life::Removed);
        self.metrics.rotated(cause);
    }
}

/// Writes tails to their segments, and names the shapes.
fn write_tails(writes: &[(ShapeId, Arc<Shape>, SegmentAppend)]) -> io::Result<Vec<ShapeId>> {
    let written = writes.iter().map(|(id, shape, append)| segment::write(&shape.dir, append).map(|()| *id));
    written.collect()
}
