//! What a restart finds: the checkpoint of the oldest commit log file, and everything written since,
//! replayed over it.

use super::folder::Folder;
use super::records::Records;
use super::segment;
use limn_core::Handle;
use limn_core::log::record::{CreatedShape, Record, RecordError, SnapshotDone, StoreCheckpoint};
use limn_core::log::shape_log::ShapeLog;
use limn_core::log::{Fragment, SnapshotFilter};
use limn_core::shape::ShapeId;
use limn_core::shape::dependent::DependentState;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes that a shape's tail gathers before it goes to the segment.
pub const TAIL_BYTES_MAX: usize = 64 << 10;

/// The state that a folder holds.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Shapes whose snapshot was durable.
    pub shapes: Vec<RecoveredShape>,
    /// The commit LSN of the last transaction that is held.
    pub processed: u64,
    /// The number for the next commit log file.
    pub next_file: u64,
    /// A number above those of all shapes that the folder speaks of.
    pub next_id: u32,
}

/// A shape that survived.
#[derive(Debug)]
pub struct RecoveredShape {
    /// What it is.
    pub created: CreatedShape,
    /// Its handle.
    pub handle: Handle,
    /// Which transactions its snapshot holds.
    pub filter: SnapshotFilter,
    /// Its log.
    pub log: ShapeLog,
    /// What its subqueries return, where it has some.
    pub dependent: DependentState,
}

/// Why a folder cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A file could not be read or written.
    #[error("cannot recover from `{path}`: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A record is whole and makes no sense.
    #[error("`{path}`: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: RecordError,
    },
}

/// Reads the folder and rebuilds every shape that was durable. Folders of others are deleted.
///
/// # Errors
/// Where a file cannot be read, or holds a record that is whole and makes no sense.
pub fn recover(folder: &Folder, chunk_bytes_max: u64) -> Result<Recovered, RecoveryError> {
    let io_error = |path: PathBuf| move |source| RecoveryError::Io { path, source };
    let files = folder.commit_files().map_err(io_error(folder.commit_dir()))?;
    let Survey { last_commit, removed } = survey(&files)?;
    let mut replay =
        Replay { folder, chunk_bytes_max, removed, shapes: BTreeMap::new(), processed: 0, next_id: 0 };
    for (index, (_, path)) in files.iter().enumerate() {
        for_each_record(path, |position, record| {
            replay.apply(record, index == 0, (index, position) <= last_commit).map_err(io_error(path.clone()))
        })?;
    }
    let next_file = files.last().map_or(1, |(number, _)| number + 1);
    let recovered = replay.finish(next_file).map_err(io_error(folder.shapes_dir()))?;
    remove_strangers(folder, &recovered).map_err(io_error(folder.shapes_dir()))?;
    Ok(recovered)
}

struct Replay<'a> {
    folder: &'a Folder,
    chunk_bytes_max: u64,
    /// Shapes that go later on: their folders may be gone already.
    removed: BTreeSet<ShapeId>,
    shapes: BTreeMap<ShapeId, Replayed>,
    processed: u64,
    next_id: u32,
}

struct Replayed {
    created: CreatedShape,
    handle: Option<Handle>,
    filter: Option<SnapshotFilter>,
    log: ShapeLog,
    dependent: DependentState,
    in_transaction: bool,
}

impl Replay<'_> {
    fn apply(&mut self, record: Record, first_file: bool, before_last_commit: bool) -> io::Result<()> {
        match record {
            Record::Checkpoint(checkpoint) if first_file => self.start(*checkpoint),
            // A later file's checkpoint says what the records before it say already.
            Record::Checkpoint(_) => {}
            Record::Created(created) => self.create(*created),
            Record::SnapshotDone(done) => self.finish_snapshot(done),
            Record::Partitions(now) => {
                if let Some(shape) = self.shapes.get_mut(&now.id) {
                    shape.created.partitions = now.partitions;
                }
            }
            // Known from the survey.
            Record::Removed(_) => {}
            Record::Items(fragment) if before_last_commit => self.append(&fragment)?,
            // The transaction was cut off: Postgres will send it again, whole.
            Record::Items(_) => {}
            Record::Backfill(fragment) => self.append_whole(&fragment, ShapeLog::end_transaction)?,
            Record::Views(views) => {
                if let Some(shape) = self.shapes.get_mut(&views.id) {
                    shape.dependent = DependentState { consumed: 0, views: views.views };
                }
            }
            Record::Move(made) => {
                self.append_whole(&made.items, ShapeLog::end_move)?;
                if let Some(shape) = self.shapes.get_mut(&made.id) {
                    shape.dependent.apply(&made);
                }
            }
            Record::Commit(tx) => {
                self.commit();
                self.processed = self.processed.max(tx);
            }
        }
        Ok(())
    }

    fn start(&mut self, checkpoint: StoreCheckpoint) {
        self.processed = checkpoint.processed;
        for shape in checkpoint.shapes {
            let log = ShapeLog::restore(self.chunk_bytes_max, shape.log);
            self.insert(shape.created, shape.filter, log, shape.dependent);
        }
    }

    fn create(&mut self, created: CreatedShape) {
        let log = ShapeLog::new(self.chunk_bytes_max);
        self.insert(created, None, log, DependentState::default());
    }

    fn insert(
        &mut self,
        created: CreatedShape,
        filter: Option<SnapshotFilter>,
        log: ShapeLog,
        dependent: DependentState,
    ) {
        self.next_id = self.next_id.max(created.id.0 + 1);
        if self.removed.contains(&created.id) {
            return;
        }
        let handle = created.handle.parse().ok();
        let replayed = Replayed { created, handle, filter, log, dependent, in_transaction: false };
        self.shapes.insert(replayed.created.id, replayed);
    }

    fn finish_snapshot(&mut self, done: SnapshotDone) {
        if let Some(shape) = self.shapes.get_mut(&done.id) {
            shape.filter = Some(done.filter);
            shape.log.handle_snapshot_progress(done.progress);
        }
    }

    fn append(&mut self, fragment: &Fragment) -> io::Result<()> {
        let mut pairs = Vec::new();
        for item in fragment.by_shape(&mut pairs) {
            let Some(shape) = self.shapes.get_mut(&item.shape) else { continue };
            shape.log.append(fragment.tx, item.op, item.bytes);
            shape.in_transaction = true;
            if let Some(handle) = shape.handle.filter(|_| shape.log.tail_bytes() > TAIL_BYTES_MAX) {
                segment::flush_tail(&self.folder.shape_dir(handle), &mut shape.log)?;
            }
        }
        Ok(())
    }

    /// Appends what is complete by itself: it may stand between two parts of a transaction of other shapes.
    fn append_whole(&mut self, fragment: &Fragment, end: impl Fn(&mut ShapeLog)) -> io::Result<()> {
        self.append(fragment)?;
        let targets: BTreeSet<ShapeId> = fragment.items().flat_map(|item| item.targets).copied().collect();
        for id in targets {
            if let Some(shape) = self.shapes.get_mut(&id) {
                end(&mut shape.log);
                shape.log.publish(u64::MAX);
                shape.in_transaction = false;
            }
        }
        Ok(())
    }

    fn commit(&mut self) {
        for shape in self.shapes.values_mut().filter(|shape| shape.in_transaction) {
            shape.log.commit();
            shape.in_transaction = false;
        }
    }

    /// Keeps the shapes whose snapshot is durable, with everything in their segments.
    fn finish(self, next_file: u64) -> io::Result<Recovered> {
        let mut shapes = Vec::new();
        for shape in self.shapes.into_values() {
            let (Some(handle), Some(filter)) = (shape.handle, shape.filter) else { continue };
            let dir = self.folder.shape_dir(handle);
            let mut log = shape.log;
            segment::flush_tail(&dir, &mut log)?;
            segment::sync(&dir)?;
            let (created, dependent) = (shape.created, shape.dependent);
            shapes.push(RecoveredShape { created, handle, filter, log, dependent });
        }
        Ok(Recovered { shapes, processed: self.processed, next_file, next_id: self.next_id })
    }
}

/// What must be known before the replay.
#[derive(Default)]
struct Survey {
    /// The position of the last commit record, as (file, byte).
    last_commit: (usize, u64),
    removed: BTreeSet<ShapeId>,
}

fn survey(files: &[(u64, PathBuf)]) -> Result<Survey, RecoveryError> {
    let mut survey = Survey::default();
    for (index, (_, path)) in files.iter().enumerate() {
        for_each_record(path, |position, record| {
            match record {
                Record::Commit(_) => survey.last_commit = (index, position),
                Record::Removed(id) => {
                    survey.removed.insert(id);
                }
                _ => {}
            }
            Ok(())
        })?;
    }
    Ok(survey)
}

/// Calls `each` with every whole record and its position.
fn for_each_record(
    path: &Path,
    mut each: impl FnMut(u64, Record) -> Result<(), RecoveryError>,
) -> Result<(), RecoveryError> {
    let mut records = Records::open(path)?;
    while let Some((position, record)) = records.read()? {
        each(position, record)?;
    }
    Ok(())
}

fn remove_strangers(folder: &Folder, recovered: &Recovered) -> io::Result<()> {
    let known: BTreeSet<String> = recovered.shapes.iter().map(|shape| shape.handle.to_string()).collect();
    for entry in fs::read_dir(folder.shapes_dir())? {
        let entry = entry?;
        if !known.contains(&*entry.file_name().to_string_lossy()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
