//! What a restart finds: the checkpoint of the oldest commit log file, and everything written since,
//! replayed over it.

use crate::records::Records;
use crate::{Files, Layout, segment};
use limn_core::Handle;
use limn_core::journal::record::{Record, RecordError};
use limn_core::journal::recovery::{RecoveredShape, RecoveredStore, Recovery};
use limn_core::journal::replay::Survey;
use limn_core::log::shape_log::ShapeLog;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

/// The state that a folder holds.
#[derive(Debug)]
pub struct Recovered {
    /// The shapes, with all that is known of each in its segment, and the positions.
    pub store: RecoveredStore,
    /// The number for the next commit log file.
    pub next_file: u64,
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

/// Reads the folder and rebuilds every shape that was durable. Tails that grow beyond `tail_bytes_max` meanwhile are moved to
/// their segments at once.
///
/// # Errors
/// Where a file cannot be read, or holds a record that is whole and makes no sense.
pub fn recover<F: Files>(
    files: &F,
    layout: &Layout,
    chunk_bytes_max: u64,
    tail_bytes_max: usize,
) -> Result<Recovered, RecoveryError> {
    let numbers = layout
        .commit_files(files)
        .map_err(|source| RecoveryError::Io { path: layout.commit_dir(), source })?;
    let mut survey = Survey::default();
    for_each_record(files, layout, &numbers, |record| {
        survey.handle_record(&record);
        Ok(())
    })?;
    let mut recovery = Recovery::new(survey, chunk_bytes_max, tail_bytes_max);
    let flush =
        |handle: Handle, log: &mut ShapeLog| segment::flush_tail(files, &layout.shape_dir(handle), log);
    for_each_record(files, layout, &numbers, |record| recovery.handle_record(record, flush))?;
    let mut store = recovery.finish();
    let settled = store.shapes.iter_mut().try_for_each(|shape| settle(files, layout, shape));
    settled.map_err(|source| RecoveryError::Io { path: layout.shapes_dir(), source })?;
    Ok(Recovered { store, next_file: numbers.last().map_or(1, |last| last + 1) })
}

/// Makes a segment hold all that the commit log said, and nothing else, durably.
fn settle(files: &impl Files, layout: &Layout, shape: &mut RecoveredShape) -> io::Result<()> {
    let dir = layout.shape_dir(shape.handle);
    segment::flush_tail(files, &dir, &mut shape.log)?;
    segment::cut(files, &dir, &shape.log)?;
    segment::sync(files, &dir)
}

/// Calls `each` with every whole record, oldest first.
fn for_each_record<F: Files>(
    files: &F,
    layout: &Layout,
    numbers: &[u64],
    mut each: impl FnMut(Record) -> io::Result<()>,
) -> Result<(), RecoveryError> {
    numbers
        .iter()
        .try_for_each(|number| Records::open(files, &layout.commit_file(*number))?.read(files, &mut each))
}

/// Removes the folders of shapes that did not survive. Only once that is durable, in a new commit log file: until
/// then a crash may bring them back.
pub(crate) fn remove_orphans(
    files: &impl Files,
    layout: &Layout,
    survivors: &[RecoveredShape],
) -> io::Result<()> {
    let known: BTreeSet<String> = survivors.iter().map(|shape| shape.handle.to_string()).collect();
    let mut orphans = files.list(&layout.shapes_dir())?.into_iter().filter(|name| !known.contains(name));
    orphans.try_for_each(|name| files.remove_dir_all(&layout.shapes_dir().join(name)))
}
