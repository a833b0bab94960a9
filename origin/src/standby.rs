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
use limn_core::ShapeId;
use limn_core::journal::replay::{AddedShape, Event, LogChange, Policy, Replay};
use limn_core::store::limits::TAIL_BYTES_MAX;
use limn_disk::{Native, Reached, RecoveryError, Tail, segment};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether the folder has grown, or has become free.
const PERIOD: Duration = Duration::from_millis(250);

/// Reads along behind the process that writes to a folder.
pub struct Standby {
    chunk_bytes_max: u64,
    tail: Tail<Native>,
    replay: Replay,
    held: Held,
}

/// The shapes of another process's folder.
struct Held {
    folder: Arc<Folder>,
    registry: Arc<Registry>,
    status: Arc<Status>,
    shapes: HashMap<ShapeId, Arc<Shape>>,
    /// Shapes that hold items in memory.
    dirty: BTreeSet<ShapeId>,
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
        Self {
            chunk_bytes_max,
            tail: Tail::new(Native, folder.layout()),
            replay: Replay::new(Policy::AsItComes, chunk_bytes_max),
            held: Held { folder, registry, status, shapes: HashMap::new(), dirty: BTreeSet::new() },
        }
    }

    /// Serves until the folder is free, and takes it; `None` where the server is to end before.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub async fn wait(mut self, inbox: &mut Inbox) -> Result<Option<(FolderLock, Retired)>> {
        tracing::info!("another process writes to the storage folder: serving what it holds until it ends");
        loop {
            if let Some(lock) = self.held.folder.try_lock()? {
                tracing::info!("the storage folder is free: taking over");
                let Held { shapes, registry, .. } = self.held;
                return Ok(Some((lock, Retired { shapes, registry })));
            }
            let reading = tokio::task::spawn_blocking(move || self.follow().map(|()| self));
            self = reading.await.context("reading the storage folder was cut off")??;
            self.held.status.set_phase(Phase::Reading);
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = inbox.stopped() => return Ok(None),
            }
        }
    }

    /// Takes up what the folder holds now.
    fn follow(&mut self) -> Result<(), RecoveryError> {
        let Self { chunk_bytes_max, tail, replay, held } = self;
        held.release_tails();
        let mut outdated = Vec::new();
        while tail.read(|record| replay.handle_record(record, |event| held.handle_event(event)))?
            == Reached::Gap
        {
            *replay = Replay::new(Policy::AsItComes, *chunk_bytes_max);
            outdated.extend(held.shapes.drain().map(|(_, shape)| shape));
            held.dirty.clear();
        }
        retire(&held.registry, outdated);
        Ok(())
    }
}

impl Held {
    fn handle_event(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Added(shape) => self.add(*shape),
            Event::Log(id, change) => return self.change_log(id, change),
            Event::Readable(id, _) => {
                if let Some(shape) = self.shapes.get(&id) {
                    shape.set_life(Life::Readable);
                    self.registry.insert(shape);
                    // Known clients are to be served also while Postgres cannot be asked.
                    self.registry.remember_own(shape);
                }
            }
            Event::Bound { id, up_to, processed } => {
                if let Some(shape) = self.shapes.get(&id) {
                    shape.log().set_visible_up_to(up_to, processed);
                    shape.wake();
                }
            }
            Event::Partitions(now) => {
                if let Some(shape) = self.shapes.get(&now.id) {
                    shape.set_partitions(now);
                }
            }
            Event::Removed(id) => retire(&self.registry, self.shapes.remove(&id)),
            Event::Processed(lsn) => self.status.handle_processed(lsn.as_u64()),
            // What the next move needs to know, and none is made here; and bytes that are in the folder.
            Event::Views(_) | Event::Moved(_) | Event::Snapshot { .. } => {}
        }
        Ok(())
    }

    fn add(&mut self, shape: AddedShape) {
        let AddedShape { created, handle, log, .. } = shape;
        match Shape::stored_definition(&created) {
            Ok(definition) => {
                let (id, place) = (created.id, (self.folder.layout(), &self.registry.schemas));
                let shape = Shape::new(created, handle, definition, place, log, Life::Creating);
                self.shapes.insert(id, Arc::new(shape));
            }
            Err(error) => tracing::warn!(%error, "a shape is left out"),
        }
    }

    fn change_log(&mut self, id: ShapeId, change: LogChange<'_>) -> io::Result<()> {
        let Some(shape) = self.shapes.get(&id) else { return Ok(()) };
        let mut log = shape.log();
        let can_tell_more = change.apply(&mut log);
        if log.tail_bytes() > TAIL_BYTES_MAX {
            segment::release_tail(&Native, &shape.dir(), &mut log)?;
        }
        if log.tail_bytes() > 0 {
            self.dirty.insert(id);
        }
        drop(log);
        if can_tell_more {
            shape.wake();
        }
        Ok(())
    }

    /// Forgets what the writer has moved to the segments meanwhile.
    fn release_tails(&mut self) {
        let shapes = &self.shapes;
        self.dirty.retain(|id| {
            let Some(shape) = shapes.get(id) else { return false };
            let mut log = shape.log();
            if let Err(error) = segment::release_tail(&Native, &shape.dir(), &mut log) {
                tracing::warn!(handle = %shape.handle, %error, "cannot read a shape's index");
            }
            log.tail_bytes() > 0
        });
    }
}

/// What a standby held: to be dropped once the shapes that take its place can be found.
pub struct Retired {
    shapes: HashMap<ShapeId, Arc<Shape>>,
    registry: Arc<Registry>,
}

impl Drop for Retired {
    fn drop(&mut self) {
        retire(&self.registry, std::mem::take(&mut self.shapes).into_values());
    }
}

/// Takes shapes out of the registry and wakes who reads them; who does looks for the handle again.
fn retire(registry: &Registry, shapes: impl IntoIterator<Item = Arc<Shape>>) {
    for shape in shapes {
        registry.remove(&shape);
        shape.set_life(Life::Removed);
    }
}
