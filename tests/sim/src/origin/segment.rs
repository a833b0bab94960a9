//! One shape's files, as `limn_origin::store::segment` keeps them.

use super::Faults;
use crate::disk::{Disk, DiskError};
use crate::fault::Fault;
use limn_core::log::ShapeLog;
use limn_core::log::segment::{ENTRY_BYTES, SegmentAppend, decode_entry, encode_entries, search};
use limn_core::log::shape_log::Mark;
use limn_core::{Handle, Offset};
use std::ops::Range;

pub(super) fn folder(handle: Handle) -> String {
    format!("shapes/{handle}")
}

pub(super) fn snapshot_path(handle: Handle) -> String {
    format!("shapes/{handle}/snapshot")
}

fn log_path(handle: Handle) -> String {
    format!("shapes/{handle}/log")
}

fn index_path(handle: Handle) -> String {
    format!("shapes/{handle}/index")
}

/// Moves the finished items of the tail to the segment; they are not synced.
pub(super) fn flush_tail(
    disk: &mut Disk,
    handle: Handle,
    log: &mut ShapeLog,
    faults: Faults,
) -> Result<(), DiskError> {
    let Some(append) = SegmentAppend::of(log) else { return Ok(()) };
    write(disk, handle, &append, faults)?;
    log.handle_flushed_to(append.end());
    Ok(())
}

/// Writes behind the segment's end.
pub(super) fn write(
    disk: &mut Disk,
    handle: Handle,
    append: &SegmentAppend,
    faults: Faults,
) -> Result<(), DiskError> {
    disk.open(&log_path(handle))?;
    disk.write_at(&log_path(handle), &append.items, append.items_at)?;
    disk.open(&index_path(handle))?;
    match faults.has(Fault::IndexNamesBeginnings) {
        true => disk.write_at(&index_path(handle), &entries_of_beginnings(append), append.entries_at),
        false => disk.write_at(&index_path(handle), &append.entries, append.entries_at),
    }
}

/// The index entries, each with the position at which its item begins.
fn entries_of_beginnings(append: &SegmentAppend) -> Vec<u8> {
    let mut wrong = Vec::new();
    let mut begin = append.items_at;
    for entry in append.entries.as_chunks().0 {
        let mark = decode_entry(entry);
        encode_entries(&mut wrong, &[Mark { end: begin, ..mark }]);
        begin = mark.end;
    }
    wrong
}

/// Cuts off what the segment holds behind its log's end.
pub(super) fn cut(disk: &mut Disk, handle: Handle, log: &ShapeLog) -> Result<(), DiskError> {
    let entries = log.flushed_items() * ENTRY_BYTES as u64;
    for (path, end) in [(log_path(handle), log.flushed_bytes()), (index_path(handle), entries)] {
        match disk.cut(&path, end) {
            Ok(()) | Err(DiskError::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the segment durable, as far as it was written.
pub(super) fn sync(disk: &mut Disk, handle: Handle, faults: Faults) -> Result<(), DiskError> {
    for path in [log_path(handle), index_path(handle)] {
        if faults.has(Fault::IndexNotSynced) && path == index_path(handle) {
            continue;
        }
        match disk.sync(&path) {
            // A shape without changes has no segment, one that is gone has nothing at all.
            Ok(()) | Err(DiskError::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    disk.sync_folder(&folder(handle))
}

/// The byte position behind the last of the first `entries` items at or before `after`.
pub(super) fn find(disk: &Disk, handle: Handle, entries: u64, after: Offset) -> Result<u64, DiskError> {
    search(entries, after, |number| entry(disk, handle, number).ok_or(DiskError::Failed))
}

/// An index entry by its number; `None` where the index does not hold it.
pub(super) fn entry(disk: &Disk, handle: Handle, number: u64) -> Option<Mark> {
    let start = number as usize * ENTRY_BYTES;
    let entry = disk.read(&index_path(handle)).ok()?.get(start..start + ENTRY_BYTES)?;
    entry.try_into().ok().map(decode_entry)
}

/// A part of the change log: from the segment, then from memory.
pub(super) fn read(
    disk: &Disk,
    handle: Handle,
    log: &ShapeLog,
    range: Range<u64>,
) -> Result<Vec<u8>, DiskError> {
    let flushed = range.start..range.end.min(log.flushed_bytes());
    let mut bytes = Vec::new();
    if !flushed.is_empty() {
        bytes.extend_from_slice(part(disk, &log_path(handle), flushed)?);
    }
    bytes.extend_from_slice(log.tail_part(range));
    Ok(bytes)
}

/// A part of a file.
pub(super) fn part<'a>(disk: &'a Disk, path: &str, range: Range<u64>) -> Result<&'a [u8], DiskError> {
    disk.read(path)?.get(range.start as usize..range.end as usize).ok_or(DiskError::Failed)
}
