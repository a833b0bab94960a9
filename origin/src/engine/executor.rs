//! Carries out what the write path decides: files, readers, metrics.

use super::command::EngineHandle;
use super::move_session::MoveSession;
use super::segment_work::SegmentWorker;
use crate::health::{Phase, Status};
use crate::observe::Metrics;
use crate::shapes::{Life, Registry, Shape};
use crate::store::{CommitLog, Folder};
use anyhow::{Context, Result};
use limn_core::journal::record::CreatedShape;
use limn_core::log::ShapeLog;
use limn_core::shape::{DropCause, RotationCause};
use limn_core::store::{
    Effect, NamedShape, Report, SegmentSync, ShapeIdentity, SharedShape, TailWrite, Writer,
};
use limn_disk::{Layout, Native, sync_segments, write_tail};
use std::io;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Bytes of tails that are written in one go.
const WRITE_BYTES_MAX: usize = 2 << 20;

/// Everything that effects reach.
pub(super) struct Executor {
    pub(super) move_session: MoveSession,
    pub(super) segment_worker: SegmentWorker,
    pub(super) folder: Arc<Folder>,
    pub(super) commit_log: CommitLog,
    pub(super) status: Arc<Status>,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<Metrics>,
    /// Where the end of what takes long is reported.
    pub(super) handle: EngineHandle,
    /// The thread that writes tails, one batch at a time.
    pub(super) writing: Option<JoinHandle<io::Result<Vec<Report>>>>,
}

impl SharedShape for Shape {
    fn with_log<T>(&self, change: impl FnOnce(&mut ShapeLog) -> T) -> T {
        change(&mut self.log())
    }

    fn created(&self) -> CreatedShape {
        Shape::created(self)
    }
}

impl NamedShape for Shape {
    fn identity(&self) -> ShapeIdentity<'_> {
        ShapeIdentity { id: self.id, handle: self.handle, definition: &self.definition }
    }

    /// The first bytes make the shape readable, later ones wake those who read along.
    fn show_snapshot(&self) {
        self.set_life(Life::Readable);
    }
}

impl Executor {
    /// Carries out every effect that is due, in order. A thread for blocking work writes tails, while no log is locked
    /// and the stream is read on; [`settle`](Self::settle) waits for it.
    ///
    /// # Errors
    /// Where a segment cannot be written.
    pub(super) async fn run(&mut self, writer: &mut Writer<Arc<Shape>>) -> Result<()> {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish_writing(writer).await?;
        }
        loop {
            let mut batch = Batch::default();
            while batch.bytes < WRITE_BYTES_MAX
                && let Some(effect) = self.poll_effect(writer)
            {
                self.carry_out(effect, &mut batch).await;
            }
            if batch.writes.is_empty() {
                return Ok(());
            }
            self.finish_writing(writer).await?;
            let layout = self.folder.layout();
            self.writing = Some(tokio::task::spawn_blocking(move || batch.write(&layout)));
        }
    }

    /// The next effect. While tails are being written, the stream is read on rather than that more of them are waited for.
    fn poll_effect(&self, writer: &mut Writer<Arc<Shape>>) -> Option<Effect<Arc<Shape>>> {
        match self.writing.is_some() && !writer.logs().are_tails_full() {
            true => writer.poll_prompt_effect(),
            false => writer.poll_effect(),
        }
    }

    /// Carries out every effect that is due and those that follow from them, until no tail is being written.
    ///
    /// # Errors
    /// Where a segment cannot be written.
    pub(super) async fn settle(&mut self, writer: &mut Writer<Arc<Shape>>) -> Result<()> {
        self.run(writer).await?;
        while self.writing.is_some() {
            self.finish_writing(writer).await?;
            self.run(writer).await?;
        }
        Ok(())
    }

    /// Waits for the tails that are being written.
    async fn finish_writing(&mut self, writer: &mut Writer<Arc<Shape>>) -> Result<()> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let written = writing.await.unwrap_or_else(|error| Err(error.into()));
        for report in written.context("cannot write to the storage folder")? {
            writer.handle_report(report);
        }
        Ok(())
    }

    async fn carry_out(&mut self, effect: Effect<Arc<Shape>>, batch: &mut Batch) {
        match effect {
            Effect::WriteTail(write) => batch.push(write),
            Effect::WorkOnSegment(work) => self.segment_worker.request(work),
            Effect::CommitLog(piece) => self.commit_log.queue(piece).await,
            Effect::SyncSegments(sync) => self.sync_segments(sync),
            Effect::Began { commit, xid } => self.status.handle_commit(commit.as_u64(), xid),
            Effect::Moved => drop(self.metrics.moves.inc()),
            Effect::Round(request) => self.move_session.request(request),
            Effect::CaughtUp => self.status.set_phase(Phase::Active),
            Effect::Rotated { shape, cause } => warn_rotated(&shape, &cause),
            Effect::Publish { processed, grown } => {
                // Told to readers only now that every shape shows the transaction.
                self.status.handle_processed(processed.as_u64());
                self.registry.grown.push(grown);
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

    fn sync_segments(&self, sync: SegmentSync<Arc<Shape>>) {
        let (handle, layout) = (self.handle.clone(), self.folder.layout());
        tokio::spawn(async move {
            let sync = move || sync_segments(&Native, &layout, &sync);
            let synced = tokio::task::spawn_blocking(sync).await;
            handle.segments_synced(synced.unwrap_or_else(|error| Err(error.into()))).await;
        });
    }

    fn drop_shape(&self, shape: &Shape, cause: DropCause) {
        let (table, name) = (&shape.definition.relation.name, cause.as_str());
        tracing::info!(handle = %shape.handle, %table, cause = name, "shape removed");
        if cause.is_of_catalog() {
            self.registry.catalog_changes.note(&shape.definition);
        }
        self.registry.remove(shape);
        shape.set_life(Life::Removed);
        self.metrics.rotated(cause);
    }
}

/// Tails that are written by one thread, in one go.
#[derive(Default)]
struct Batch {
    writes: Vec<TailWrite<Arc<Shape>>>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, write: TailWrite<Arc<Shape>>) {
        self.bytes += write.append.items.len();
        self.writes.push(write);
    }

    /// Writes the tails to their segments.
    fn write(&self, layout: &Layout) -> io::Result<Vec<Report>> {
        self.writes.iter().map(|write| write_tail(&Native, layout, write)).collect()
    }
}

/// Tells why the stream cannot be followed for a shape, where its cause alone does not say that.
fn warn_rotated(shape: &Shape, cause: &RotationCause) {
    let handle = shape.handle;
    match cause {
        RotationCause::Unjudgeable(error) => {
            tracing::warn!(%handle, %error, "a row cannot be judged by a shape's where clause");
        }
        RotationCause::Refused(reason) => {
            tracing::warn!(%handle, reason, "Postgres refused a question about a shape");
        }
        _ => {}
    }
}
