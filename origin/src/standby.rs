//! A server whose storage folder another process writes to: it serves what that one has made durable, and
//! takes over when it ends.
//!
//! The folder is only read: its commit log says what is committed, the segments are believed as far as the
//! commit log goes. What is served can therefore not be taken back, whatever becomes of the other process.

use crate::engine::Inbox;
use crate::health::{Phase, Status};
use crate::shapes::{Life, Registry, Shape};
use crate::store::{Folder, FolderLock, Reached, RecoveryError, Tail, segment};
use anyhow::{Context, Result};
use limn_core::journal::record::{CreatedShape, Record, StoreCheckpoint, stored_bound};
use limn_core::log::{Fragment, ShapeLog};
use limn_core::store::limits::TAIL_BYTES_MAX;
use limn_core::{Lsn, ShapeId};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether the folder has grown, or has become free.
const PERIOD: Duration = Duration::from_millis(250);

/// The shapes of another process's folder.
pub struct Standby {
    folder: Arc<Folder>,
    registry: Arc<Registry>,
    status: Arc<Status>,
    chunk_bytes_max: u64,
    tail: Tail,
    shapes: HashMap<ShapeId, Arc<Shape>>,
    /// Shapes that the open transaction has reached.
    touched: BTreeSet<ShapeId>,
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
            tail: Tail::new(folder.clone()),
            folder,
            registry,
            status,
            chunk_bytes_max,
            shapes: HashMap::new(),
            touched: BTreeSet::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// Serves until the folder is free, and takes it; `None` where the server is to end before.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub async fn wait(mut self, inbox: &mut Inbox) -> Result<Option<(FolderLock, Retired)>> {
        tracing::info!("another process writes to the storage folder: serving what it holds until it ends");
        loop {
            if let Some(lock) = self.folder.try_lock()? {
                tracing::info!("the storage folder is free: taking over");
                return Ok(Some((lock, Retired { shapes: self.shapes, registry: self.registry })));
            }
            let reading = tokio::task::spawn_blocking(move || self.follow().map(|()| self));
            self = reading.await.context("reading the storage folder was cut off")??;
            self.status.set_phase(Phase::Reading);
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = inbox.stopped() => return Ok(None),
            }
        }
    }

    /// Takes up what the folder holds now.
    fn follow(&mut self) -> Result<(), RecoveryError> {
        self.release_tails();
        let mut tail = std::mem::replace(&mut self.tail, Tail::new(self.folder.clone()));
        let mut outdated = Vec::new();
        while tail.read(|record| self.apply(record))? == Reached::Gap {
            outdated.extend(std::mem::take(&mut self.shapes).into_values());
            self.touched.clear();
            self.dirty.clear();
        }
        self.tail = tail;
        retire(&self.registry, outdated);
        Ok(())
    }

    fn apply(&mut self, record: Record) -> io::Result<()> {
        match record {
            Record::Checkpoint(checkpoint) => self.handle_checkpoint(*checkpoint),
            Record::Created(created) => self.create(*created, ShapeLog::new(self.chunk_bytes_max)),
            Record::SnapshotDone(done) => {
                if let Some(shape) = self.shapes.get(&done.id) {
                    shape.log().handle_snapshot_progress(done.progress);
                    self.publish(shape);
                }
            }
            Record::Joined(joined) => {
                self.status.handle_processed(joined.processed);
                if let Some(shape) = self.shapes.get(&joined.id) {
                    shape.handle_joined();
                }
            }
            Record::Partitions(now) => {
                if let Some(shape) = self.shapes.get(&now.id) {
                    shape.set_partitions(&now);
                }
            }
            Record::Removed(id) => {
                let removed = self.shapes.remove(&id);
                retire(&self.registry, removed);
            }
            Record::Items(fragment) => {
                let touched = self.append(&fragment)?;
                self.touched.extend(touched);
            }
            // A transaction of these shapes alone; others may be in the middle of another one.
            Record::Backfill(fragment) => {
                let touched = self.append(&fragment)?;
                self.commit(touched);
            }
            Record::Move(made) => {
                let touched = self.append(&made.items)?;
                self.dirty.extend(touched);
                if let Some(shape) = self.shapes.get(&made.id) {
                    shape.log().end_move();
                    show(shape, None, Lsn::new(made.consumed));
                }
            }
            Record::Whole(whole) => {
                if let Some(shape) = self.shapes.get(&whole.id) {
                    show(shape, stored_bound(whole.up_to), Lsn::new(self.status.processed()));
                }
            }
            // What a move needs to know; there are none here.
            Record::Views(_) => {}
            Record::Commit(tx) => {
                let touched = std::mem::take(&mut self.touched);
                self.commit(touched);
                self.status.handle_processed(tx);
            }
        }
        Ok(())
    }

    /// The first checkpoint says what there is. A later one names what outlived the writer, should that have
    /// started again: a snapshot that was not finished did not.
    fn handle_checkpoint(&mut self, checkpoint: StoreCheckpoint) {
        let named: BTreeSet<ShapeId> = checkpoint.shapes.iter().map(|shape| shape.created.id).collect();
        let gone = self.shapes.extract_if(|id, _| !named.contains(id)).map(|(_, shape)| shape);
        retire(&self.registry, gone);
        for shape in checkpoint.shapes {
            let id = shape.created.id;
            if self.shapes.contains_key(&id) {
                continue;
            }
            let visible_up_to = stored_bound(shape.dependent.whole_up_to);
            self.create(shape.created, ShapeLog::restore(self.chunk_bytes_max, shape.log));
            let Some(created) = self.shapes.get(&id) else { continue };
            show(created, visible_up_to, Lsn::new(checkpoint.processed));
            created.handle_joined();
            if shape.filter.is_some() {
                self.publish(created);
            }
        }
        self.status.handle_processed(checkpoint.processed);
    }

    fn create(&mut self, created: CreatedShape, log: ShapeLog) {
        let id = created.id;
        let Ok(handle) = created.handle.parse() else { return };
        let dir = self.folder.shape_dir(handle);
        match Shape::restore(created, handle, dir, log, Life::Creating) {
            Ok(shape) => drop(self.shapes.insert(id, Arc::new(shape))),
            Err(error) => tracing::warn!(%error, "a shape is left out"),
        }
    }

    /// The shape's snapshot is durable: it can be found and read from now on.
    fn publish(&self, shape: &Arc<Shape>) {
        shape.set_life(Life::Readable);
        self.registry.insert(shape);
        // Known clients are to be served also while Postgres cannot be asked.
        self.registry.remember(&shape.request, shape);
    }

    /// Appends items, which are not visible yet, and returns their shapes.
    fn append(&mut self, fragment: &Fragment) -> io::Result<BTreeSet<ShapeId>> {
        let (mut pairs, mut touched) = (Vec::new(), BTreeSet::new());
        for item in fragment.by_shape(&mut pairs) {
            let Some(shape) = self.shapes.get(&item.shape) else { continue };
            shape.log().append(fragment.tx, item.op, item.bytes);
            touched.insert(item.shape);
        }
        for shape in touched.iter().filter_map(|id| self.shapes.get(id)) {
            let mut log = shape.log();
            if log.tail_bytes() > TAIL_BYTES_MAX {
                segment::release_tail(&shape.dir, &mut log)?;
            }
        }
        Ok(touched)
    }

    /// Ends the transaction that was appended to these shapes, and wakes the readers who can see it.
    fn commit(&mut self, touched: BTreeSet<ShapeId>) {
        for shape in touched.iter().filter_map(|id| self.shapes.get(id)) {
            let has_grown = shape.log().commit();
            if has_grown {
                shape.wake();
            }
        }
        self.dirty.extend(touched);
    }

    /// Forgets what the writer has moved to the segments meanwhile.
    fn release_tails(&mut self) {
        let shapes = &self.shapes;
        self.dirty.retain(|id| {
            let Some(shape) = shapes.get(id) else { return false };
            let mut log = shape.log();
            if let Err(error) = segment::release_tail(&shape.dir, &mut log) {
                tracing::warn!(handle = %shape.handle, %error, "cannot read a shape's index");
            }
            log.tail_bytes() > 0
        });
    }
}

/// Makes a log visible up to a commit LSN, or to its end, and wakes its readers. What becomes visible includes every
/// commit up to `processed`.
fn show(shape: &Shape, up_to: Option<Lsn>, processed: Lsn) {
    shape.log().set_visible_up_to(up_to, processed);
    shape.wake();
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
