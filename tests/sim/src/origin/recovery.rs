//! What a restart finds, as `limn_origin::store::recovery` reads it.

use super::{Faults, Settings, commit_log, segment};
use crate::disk::{Disk, DiskError};
use crate::fault::Fault;
use limn_core::Handle;
use limn_core::journal::record::{FRAME_HEAD_BYTES, Record, payload_bytes, read_frame};
use limn_core::journal::recovery::{RecoveredStore, Recovery};
use limn_core::journal::replay::Survey;
use limn_core::log::ShapeLog;

/// The state that the disk holds, with every tail in its segment; and the number for the next commit log file.
pub(super) fn recover(
    disk: &mut Disk,
    settings: &Settings,
    faults: Faults,
) -> Result<(RecoveredStore, u64), DiskError> {
    let files = commit_log::files(disk);
    let mut records = Vec::new();
    for (_, path) in &files {
        records.extend(read_records(disk.read(path)?, faults).0);
    }
    if faults.has(Fault::BelievesCutOffItems) {
        records.push(Record::Commit(0));
    }
    if faults.has(Fault::ForgetsLastTransaction) {
        let last = records.iter().rposition(|record| matches!(record, Record::Commit(_)));
        last.map(|index| records.remove(index));
    }
    records.retain(|record| !is_overlooked(record, faults));
    let mut survey = Survey::default();
    records.iter().for_each(|record| survey.handle_record(record));
    let mut recovery = Recovery::new(survey, settings.chunk_bytes_max, settings.limits.tail_bytes_max);
    for record in records {
        let flush = |handle: Handle, log: &mut ShapeLog| segment::flush_tail(disk, handle, log, faults);
        recovery.handle_record(record, flush)?;
    }
    let mut store = recovery.finish();
    for shape in &mut store.shapes {
        segment::flush_tail(disk, shape.handle, &mut shape.log, faults)?;
        segment::cut(disk, shape.handle, &shape.log)?;
        segment::sync(disk, shape.handle, faults)?;
    }
    let next_file = files.last().map_or(1, |(number, _)| number + 1);
    Ok((store, next_file))
}

fn is_overlooked(record: &Record, faults: Faults) -> bool {
    matches!(record, Record::Removed(_)) && faults.has(Fault::ForgetsRemovals)
}

/// Every whole record, up to the first frame that is not, and how many bytes these are.
pub(super) fn read_records(file: &[u8], faults: Faults) -> (Vec<Record>, usize) {
    let (mut records, mut at) = (Vec::new(), 0);
    while let Some((payload, length)) = read(&file[at..], faults) {
        let Ok(record) = Record::decode(payload) else { break };
        records.push(record);
        at += length;
    }
    (records, at)
}

fn read(file: &[u8], faults: Faults) -> Option<(&[u8], usize)> {
    if !faults.has(Fault::IgnoresChecksums) {
        return read_frame(file);
    }
    let length = payload_bytes(*file.first_chunk()?);
    Some((file.get(FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + length)?, FRAME_HEAD_BYTES + length))
}

/// Deletes the folders of shapes that did not survive, once that is durable.
pub(super) fn remove_strangers(disk: &mut Disk, store: &RecoveredStore) -> Result<(), DiskError> {
    for folder in disk.folders("shapes") {
        if !store.shapes.iter().any(|shape| segment::folder(shape.handle) == folder) {
            disk.remove_folder(&folder)?;
        }
    }
    Ok(())
}
