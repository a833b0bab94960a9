//! A server whose storage folder another process writes to: it serves what that one has made durable, and
//! takes over when it ends.
//!
//! The folder is only read: its commit log says what is committed, the segments are believed as far as the
//! commit log goes. What is served can therefore not be taken back, whatever becomes of the other process.

use crate::engine::Inbox;
use crate::health::{Phase, Status};
use crate::shapes::{Life, Registry, Shape};
use crate::store::{Folder, FolderLock};
use anyhow::{Context, Result};
use limn_core::Lsn;
use limn_core::journal::KeptShape;
use limn_core::journal::record::ShapePartitions;
use limn_core::log::ShapeLog;
use limn_core::shape::StoredResolver;
use limn_core::store::Followed;
use limn_core::store::limits::TAIL_BYTES_MAX;
use limn_disk::{FollowedFolder, Native};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether the folder has grown, or has become free.
const PERIOD: Duration = Duration::from_millis(250);

/// Reads along behind the process that writes to a folder.
pub struct Standby {
    followed: FollowedFolder<Native, Held>,
}

/// The parts of the server in which the other process's shapes are found.
struct Held {
    folder: Arc<Folder>,
    registry: Arc<Registry>,
    status: Arc<Status>,
    resolver: StoredResolver,
}

impl Standby {
    /// A standby that has read nothing yet.
    #[must_use]
    pub fn new(
        folder: Arc<Folder>,
        registry: Arc<Registry>,
        status: Arc<Status>,
        chunk_bytes_max: u64,
    ) -> Self {
        let layout = folder.layout();
        let held = Held { folder, registry, status, resolver: StoredResolver::default() };
        Self { followed: FollowedFolder::new(Native, layout, chunk_bytes_max, TAIL_BYTES_MAX, held) }
    }

    /// Serves until the folder is free, and takes it; `None` where the server is to end before.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub async fn wait(mut self, inbox: &mut Inbox) -> Result<Option<(FolderLock, Retired)>> {
        tracing::info!("another process writes to the storage folder: serving what it holds until it ends");
        loop {
            if let Some(lock) = self.followed.owner.folder.try_lock()? {
                tracing::info!("the storage folder is free: taking over");
                let (Held { registry, .. }, shapes) = self.followed.into_parts();
                return Ok(Some((lock, Retired { shapes: shapes.collect(), registry })));
            }
            let reading = tokio::task::spawn_blocking(move || self.followed.follow().map(|()| self));
            self = reading.await.context("reading the storage folder was cut off")??;
            self.followed.owner.status.set_phase(Phase::Reading);
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = inbox.stopped() => return Ok(None),
            }
        }
    }
}

impl Followed for Held {
    type Shape = Arc<Shape>;

    fn add(&mut self, created: KeptShape, log: ShapeLog) -> Option<Arc<Shape>> {
        let definition = Shape::stored_definition(&created, &mut self.resolver)
            .inspect_err(|error| tracing::warn!(%error, "a shape is left out"))
            .ok()?;
        let place = (self.folder.layout(), &self.registry.schemas);
        Some(Arc::new(Shape::new(created, definition, place, log, Life::Creating)))
    }

    fn handle_unreleased(&mut self, shape: &Arc<Shape>, error: &dyn Display) {
        tracing::warn!(handle = %shape.handle, %error, "cannot read a shape's index");
    }

    fn show(&mut self, shape: &Arc<Shape>) {
        shape.set_life(Life::Readable);
        self.registry.insert(shape);
        // Known clients are to be served also while Postgres cannot be asked.
        self.registry.remember_own(shape);
    }

    fn wake(&mut self, shape: &Arc<Shape>) {
        shape.wake();
    }

    fn set_partitions(&mut self, shape: &Arc<Shape>, now: &ShapePartitions) {
        shape.set_partitions(now);
    }

    fn publish(&mut self, processed: Lsn) {
        self.status.handle_processed(processed.as_u64());
    }

    fn retire(&mut self, shape: Arc<Shape>) {
        retire(&self.registry, [shape]);
    }
}

/// What a standby held: to be dropped once the shapes that take its place can be found.
pub struct Retired {
    shapes: Vec<Arc<Shape>>,
    registry: Arc<Registry>,
}

impl Drop for Retired {
    fn drop(&mut self) {
        retire(&self.registry, std::mem::take(&mut self.shapes));
    }
}

/// Takes shapes out of the registry and wakes who reads them; who does looks for the handle again.
fn retire(registry: &Registry, shapes: impl IntoIterator<Item = Arc<Shape>>) {
    for shape in shapes {
        registry.remove(&shape);
        shape.set_life(Life::Removed);
    }
}
