//! One shape's files.

use super::folder::sync_dir;
use limn_core::Offset;
use limn_core::log::segment::{ENTRY_BYTES, SegmentAppend, decode_entry, search};
use limn_core::log::shape_log::ShapeLog;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where the snapshot's bytes are.
#[must_use]
pub fn snapshot_path(dir: &Path) -> PathBuf {
    dir.join("snapshot")
}

/// Where the flushed part of the change log is.
#[must_use]
pub fn log_path(dir: &Path) -> PathBuf {
    dir.join("log")
}

fn index_path(dir: &Path) -> PathBuf {
    dir.join("index")
}

/// Makes a shape's folder, empty, with its name durable.
///
/// # Errors
/// Whatever the operating system says.
pub fn create(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir(dir)?,
    }
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Moves the finished items of the log's tail to the segment. They are not synced: the commit log has
/// them.
///
/// # Errors
/// Whatever the operating system says; the tail is then kept.
pub fn flush_tail(dir: &Path, log: &mut ShapeLog) -> io::Result<()> {
    let Some(append) = SegmentAppend::of(log) else { return Ok(()) };
    write(dir, &append)?;
    log.handle_flushed_to(append.end());
    Ok(())
}

/// Writes behind the segment's end. Nothing is synced: the commit log has it.
///
/// # Errors
/// Whatever the operating system says.
pub fn write(dir: &Path, append: &SegmentAppend) -> io::Result<()> {
    open_for_write(&log_path(dir))?.write_all_at(&append.items, append.items_at)?;
    open_for_write(&index_path(dir))?.write_all_at(&append.entries, append.entries_at)
}

/// Cuts off what the segment holds behind its log's end. A power failure may leave there the index entries of items that it
/// lost; once these come again, a process that reads along would take the entries for theirs.
///
/// # Errors
/// Whatever the operating system says.
pub fn cut(dir: &Path, log: &ShapeLog) -> io::Result<()> {
    let ends =
        [(log_path(dir), log.flushed_bytes()), (index_path(dir), log.flushed_items() * ENTRY_BYTES as u64)];
    for (path, end) in ends {
        match OpenOptions::new().write(true).open(path) {
            Ok(file) if file.metadata()?.len() > end => file.set_len(end)?,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Makes the segment durable, as far as it was written.
///
/// # Errors
/// Whatever the operating system says.
pub fn sync(dir: &Path) -> io::Result<()> {
    for path in [log_path(dir), index_path(dir)] {
        match File::open(path) {
            Ok(file) => file.sync_data()?,
            // A shape without changes has no segment, one that is gone has nothing at all.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    match sync_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The byte position behind the last of the first `entries` items at or before `after`.
///
/// # Errors
/// Whatever the operating system says.
pub fn find(dir: &Path, entries: u64, after: Offset) -> io::Result<u64> {
    let index = File::open(index_path(dir))?;
    search(entries, after, |number| {
        let mut entry = [0; ENTRY_BYTES];
        index.read_exact_at(&mut entry, number * ENTRY_BYTES as u64)?;
        Ok(decode_entry(&entry))
    })
}

/// Forgets the finished items of the log's tail where whoever writes the segment has put them there.
///
/// # Errors
/// Whatever the operating system says; the tail is then kept.
pub fn release_tail(dir: &Path, log: &mut ShapeLog) -> io::Result<()> {
    let (_, marks) = log.flushable();
    let Some(last) = marks.last() else { return Ok(()) };
    let number = log.flushed_items() + marks.len() as u64 - 1;
    let mut entry = [0; ENTRY_BYTES];
    let read = File::open(index_path(dir))
        .and_then(|index| index.read_exact_at(&mut entry, number * ENTRY_BYTES as u64));
    match read {
        // An item's bytes are written before its entry.
        Ok(()) if decode_entry(&entry) == *last => log.handle_flushed(),
        Ok(()) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn open_for_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(false).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Scratch;

    fn log(transactions: &[u64]) -> ShapeLog {
        let mut log = ShapeLog::new(1_000);
        for tx in transactions {
            log.append(*tx, 0, b"{\"headers\":{}}");
            log.commit();
        }
        log
    }

    #[test]
    fn a_start_cuts_off_what_its_log_does_not_know() {
        let scratch = Scratch::new("segment-cut").unwrap();
        let dir = scratch.path();
        flush_tail(dir, &mut log(&[10, 20])).unwrap();
        // After a crash the commit log may know of the first transaction alone.
        let mut recovered = log(&[10]);
        flush_tail(dir, &mut recovered).unwrap();
        cut(dir, &recovered).unwrap();
        assert_eq!(fs::metadata(log_path(dir)).unwrap().len(), recovered.flushed_bytes());
        // The reader keeps its copy until the writer has written the second item again.
        let mut along = log(&[10, 20]);
        release_tail(dir, &mut along).unwrap();
        assert_eq!(along.flushed_items(), 0);
        flush_tail(dir, &mut log(&[10, 20])).unwrap();
        release_tail(dir, &mut along).unwrap();
        assert_eq!(along.flushed_items(), 2);
    }
}
