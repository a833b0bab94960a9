//! The start of a process.

use crate::fault::{Fault, Faults};
use crate::files::Files;
use crate::settings::Settings;
use limn_core::HandleClock;
use limn_core::pg::{SnapshotBounds, SnapshotFilter};
use limn_disk::{CommitWriter, Layout, Recovered, RecoveryError};
use std::io;

/// Takes up what the disk holds ([`limn_disk::recover`]).
///
/// # Errors
/// Where the disk fails.
pub fn recover(files: &Files, layout: &Layout, settings: &Settings, faults: Faults) -> io::Result<Recovered> {
    files.set_starting(true);
    let tail_bytes_max = settings.limits.tail_bytes_max;
    let recovered = limn_disk::recover(files, layout, settings.sizes.chunk_bytes_max, tail_bytes_max);
    files.set_starting(false);
    let mut recovered = recovered.map_err(|error| match error {
        RecoveryError::Io { source, .. } => source,
        RecoveryError::Record { .. } => io::Error::other(error),
    })?;
    if faults.has(Fault::ForgetsHandles) {
        recovered.store.last_handle_us = 0;
    }
    for shape in recovered.store.shapes.iter_mut().filter(|_| faults.has(Fault::ForgetsSnapshotFilter)) {
        let bounds = SnapshotBounds { xmin: 0, xmax: 0, xip: Vec::new() };
        shape.filter = SnapshotFilter { bounds, ends_at: 0 }.into();
    }
    Ok(recovered)
}

/// Starts the commit log ([`CommitWriter::start`]), with the newest time that a handle carries or a start passes over.
///
/// # Errors
/// Where the disk fails.
pub fn start_commit_log(
    files: &Files,
    layout: Layout,
    recovered: &Recovered,
    handles: &HandleClock,
    faults: Faults,
) -> io::Result<CommitWriter<Files>> {
    let last_handle_us = match faults.has(Fault::ForgetsPassedOverHandles) {
        true => recovered.store.last_handle_us,
        false => handles.last_us(),
    };
    CommitWriter::start(files.clone(), layout, recovered, last_handle_us)
}
