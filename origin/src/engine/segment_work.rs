//! The task that compacts segments and removes files, one shape after the other: the engine goes on meanwhile.

use super::command::{Command, EngineHandle};
use crate::shapes::Shape;
use crate::store::Folder;
use limn_core::store::{Report, SegmentWork};
use limn_disk::{Native, WorkFailure, work_on_segment};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The task's end that the engine holds.
pub(super) struct SegmentWorker {
    // Not bounded, since the engine must not wait for what may take long: one compaction, and the shapes that go.
    work: mpsc::UnboundedSender<SegmentWork<Arc<Shape>>>,
    task: JoinHandle<()>,
    is_stopping: Arc<AtomicBool>,
}

impl SegmentWorker {
    pub(super) fn start(folder: Arc<Folder>, engine: EngineHandle) -> Self {
        let (work, mut inbox) = mpsc::unbounded_channel::<SegmentWork<_>>();
        let is_stopping = Arc::new(AtomicBool::new(false));
        let told = is_stopping.clone();
        let task = tokio::spawn(async move {
            while let Some(work) = inbox.recv().await {
                let (folder, is_stopping) = (folder.clone(), told.clone());
                let report = tokio::task::spawn_blocking(move || run(work, &folder, &is_stopping)).await;
                match report {
                    Ok(Some(report)) => engine.report(Command::Report(report)).await,
                    Ok(None) => {}
                    Err(error) => tracing::error!(%error, "work on a shape's segment panicked"),
                }
            }
        });
        Self { work, task, is_stopping }
    }

    pub(super) fn request(&self, work: SegmentWork<Arc<Shape>>) {
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

/// Does it. What fails leaves the old segment as it was.
fn run(work: SegmentWork<Arc<Shape>>, folder: &Folder, is_stopping: &AtomicBool) -> Option<Report> {
    let shape = work.shape().clone();
    let goes_on = || !is_stopping.load(Ordering::Relaxed);
    let release_pack = |place| folder.release_pack(place);
    let worked = work_on_segment(&Native, &folder.layout(), work, goes_on, release_pack);
    for failure in worked.failures {
        // A shape that is dropped meanwhile has no folder any more.
        if shape.is_alive() || !matches!(failure, WorkFailure::Compaction(_)) {
            tracing::warn!(handle = %shape.handle, "{failure}");
        }
    }
    worked.report
}
