//! What a restart finds: the checkpoint of the oldest commit log file, and everything written since,
//! replayed over it.

use super::folder::Folder;
use super::records::Records;
use super::segment;
use limn_core::journal::record::{Record, RecordError};
use limn_core::journal::recovery::{RecoveredShape, RecoveredStore, Recovery};
use limn_core::journal::replay::Survey;
use limn_core::log::shape_log::ShapeLog;
use limn_core::store::limits::TAIL_BYTES_MAX;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    /// The newest time that a handle carries which the folder speaks of.
    pub last_handle_us: u64,
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
        /// The mistake in the record.
        source: RecordError,
    },
}

/// Reads the folder and rebuilds every shape that was durable.
///
/// # Errors
/// Where a file cannot be read, or holds a record that is whole and makes no sense.
pub fn recover(folder: &Folder, chunk_bytes_max: u64) -> Result<Recovered, RecoveryError> {
    let io_error = |path: PathBuf| move |source| RecoveryError::Io { path, source };
    let files = folder.commit_files().map_err(io_error(folder.commit_dir()))?;
    let mut recovery = Recovery::new(survey(&files)?, chunk_bytes_max, TAIL_BYTES_MAX);
    for (_, path) in &files {
        for_each_record(path, |record| {
            let flush = |handle, log: &mut ShapeLog| segment::flush_tail(&folder.shape_dir(handle), log);
            recovery.handle_record(record, flush).map_err(io_error(path.clone()))
        })?;
    }
    let next_file = files.last().map_or(1, |(number, _)| number + 1);
    let store = recovery.finish();
    let shapes: io::Result<_> = store.shapes.into_iter().map(|shape| flush(folder, shape)).collect();
    let shapes = shapes.map_err(io_error(folder.shapes_dir()))?;
    let RecoveredStore { processed, next_id, last_handle_us, .. } = store;
    Ok(Recovered { shapes, processed, next_file, next_id, last_handle_us })
}

/// Flushes every tail, so that the segments hold all that the commit log said.
fn flush(folder: &Folder, mut shape: RecoveredShape) -> io::Result<RecoveredShape> {
    let dir = folder.shape_dir(shape.handle);
    segment::flush_tail(&dir, &mut shape.log)?;
    segment::cut(&dir, &shape.log)?;
    segment::sync(&dir)?;
    Ok(shape)
}

fn survey(files: &[(u64, PathBuf)]) -> Result<Survey, RecoveryError> {
    let mut survey = Survey::default();
    for (_, path) in files {
        for_each_record(path, |record| {
            survey.handle_record(&record);
            Ok(())
        })?;
    }
    Ok(survey)
}

/// Calls `each` with every whole record.
fn for_each_record(
    path: &Path,
    mut each: impl FnMut(Record) -> Result<(), RecoveryError>,
) -> Result<(), RecoveryError> {
    let mut records = Records::open(path)?;
    while let Some(record) = records.read()? {
        each(record)?;
    }
    Ok(())
}

/// Deletes the folders of shapes that did not survive. Only once that is durable, in a new commit log file: until
/// then a crash may bring them back.
///
/// # Errors
/// Where a folder cannot be listed or deleted.
pub fn remove_strangers(folder: &Folder, recovered: &[RecoveredShape]) -> io::Result<()> {
    let known: BTreeSet<String> = recovered.iter().map(|shape| shape.handle.to_string()).collect();
    for entry in fs::read_dir(folder.shapes_dir())? {
        let entry = entry?;
        if !known.contains(&*entry.file_name().to_string_lossy()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
