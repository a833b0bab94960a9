//! The task that compacts segments and removes files, one shape after the other: the engine goes on meanwhile.

use super::command::{Command, EngineHandle};
use crate::shapes::Shape;
use crate::store::Folder;
use limn_core::ShapeId;
use limn_core::log::compaction::{Cut, Draft, Plan};
use limn_core::log::shape_log::ChunkEnd;
use limn_disk::{Native, compaction, segment};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Something to be done with a shape's files, in the order in which it was asked for.
#[derive(Debug)]
pub(super) enum SegmentWork {
    /// [`Effect::Compact`](limn_core::store::Effect::Compact)
    Compact { id: ShapeId, shape: Arc<Shape>, plan: Plan, stops: Vec<ChunkEnd> },
    /// [`Effect::FinishCompaction`](limn_core::store::Effect::FinishCompaction)
    Finish { id: ShapeId, shape: Arc<Shape>, draft: Draft, end: Cut },
    /// [`Effect::RemoveSegment`](limn_core::store::Effect::RemoveSegment)
    Remove { shape: Arc<Shape>, generation: u64 },
    /// [`Effect::RemoveFolder`](limn_core::store::Effect::RemoveFolder)
    RemoveFolder { shape: Arc<Shape> },
}

/// The task's end that the engine holds.
pub(super) struct SegmentWorker {
    // Not bounded, since the engine must not wait for what may take long: one compaction, and the shapes that go.
    work: mpsc::UnboundedSender<SegmentWork>,
    task: JoinHandle<()>,
    is_stopping: Arc<AtomicBool>,
}

impl SegmentWorker {
    pub(super) fn start(folder: Arc<Folder>, engine: EngineHandle) -> Self {
        let (work, mut inbox) = mpsc::unbounded_channel::<SegmentWork>();
        let is_stopping = Arc::new(AtomicBool::new(false));
        let told = is_stopping.clone();
        let task = tokio::spawn(async move {
            while let Some(work) = inbox.recv().await {
                let (folder, is_stopping) = (folder.clone(), told.clone());
                let report = tokio::task::spawn_blocking(move || work.run(&folder, &is_stopping)).await;
                match report {
                    Ok(Some(report)) => engine.report(report).await,
                    Ok(None) => {}
                    Err(error) => tracing::error!(%error, "work on a shape's segment panicked"),
                }
            }
        });
        Self { work, task, is_stopping }
    }

    pub(super) fn request(&self, work: SegmentWork) {
        // Where the task has gone, the server ends.
        let _ = self.work.send(work);
    }

    /// Ends the task: nobody writes to the folder any more.
    pub(super) async fn stop(self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        drop(self.work);
        let _ = self.task.await;
    }
}

impl SegmentWork {
    /// Does it. What fails leaves the old segment as it was.
    fn run(self, folder: &Folder, is_stopping: &AtomicBool) -> Option<Command> {
        match self {
            Self::Compact { id, shape, plan, stops } => {
                let dir = shape.dir();
                let goes_on = || !is_stopping.load(Ordering::Relaxed);
                let begun = compaction::begin(&Native, &dir, plan, stops, goes_on);
                let draft = begun.map_err(|error| fail(&shape, plan.start.generation + 1, &error)).ok();
                Some(Command::Drafted { id, draft })
            }
            Self::Finish { id, shape, draft, end } => {
                let generation = draft.start().generation;
                let finished = compaction::finish(&Native, &shape.dir(), draft, end);
                let compacted = finished.map_err(|error| fail(&shape, generation, &error)).ok();
                Some(Command::Compacted { id, compacted })
            }
            Self::Remove { shape, generation } => {
                if let Err(error) = segment::remove(&Native, &shape.dir(), generation) {
                    warn_of_leftovers(&shape, error);
                }
                None
            }
            Self::RemoveFolder { shape } => {
                let place = shape.log().pack();
                if let Err(error) = folder.remove_shape(&shape.dir(), place) {
                    warn_of_leftovers(&shape, error);
                }
                None
            }
        }
    }
}

/// A compaction came to nothing.
fn fail(shape: &Shape, generation: u64, error: &std::io::Error) {
    // A shape that is dropped meanwhile has no folder any more.
    if shape.is_alive() {
        tracing::warn!(handle = %shape.handle, %error, "a shape's log cannot be compacted; it stays as long as it is");
    }
    if let Err(error) = segment::remove(&Native, &shape.dir(), generation) {
        warn_of_leftovers(shape, error);
    }
}

fn warn_of_leftovers(shape: &Shape, error: impl Display) {
    tracing::warn!(handle = %shape.handle, %error, "cannot remove a shape's files; the next start does");
}
