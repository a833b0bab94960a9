//! One shape's files.

use crate::files::{Unread, write_rope};
use crate::layout::pack_file;
use crate::{Files, Layout};
use limn_core::Offset;
use limn_core::log::segment::{ENTRY_BYTES, SegmentAppend, decode_entry, search};
use limn_core::log::shape_log::{Mark, PackPlace, ShapeLog};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Beyond so many folders, with three files each, a sync of the whole file system takes less time than theirs, also
/// where Postgres has just written to it.
const MANY_FOLDERS: usize = 64;

/// The path of a snapshot that has a file of its own.
#[must_use]
pub fn snapshot_path(dir: &Path) -> PathBuf {
    dir.join("snapshot")
}

/// The path of the file that has the flushed part of the change log.
#[must_use]
pub fn log_path(dir: &Path) -> PathBuf {
    dir.join("log")
}

fn index_path(dir: &Path) -> PathBuf {
    dir.join("index")
}

/// Makes a shape's folder, where it is missing. A shape has none before its segment, or a snapshot of its own, is written.
///
/// # Errors
/// Whatever the operating system says.
pub fn create_dir(files: &impl Files, dir: &Path) -> io::Result<()> {
    match files.create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

/// Removes a shape's folder, where it has one.
///
/// # Errors
/// Whatever the operating system says.
pub fn remove_dir(files: &impl Files, dir: &Path) -> io::Result<()> {
    unless_missing(files.remove_dir_all(dir))
}

/// The file that has a shape's snapshot, and the byte position of the snapshot in it.
#[must_use]
pub fn snapshot_place(dir: &Path, pack: Option<PackPlace>) -> (PathBuf, u64) {
    match (pack, dir.parent()) {
        (Some(place), Some(shapes_dir)) => (pack_file(shapes_dir, place.pack), place.at),
        _ => (snapshot_path(dir), 0),
    }
}

/// Moves the finished items of the log's tail to the segment. They are not synced: the commit log has
/// them.
///
/// # Errors
/// Whatever the operating system says; the tail is then kept.
pub fn flush_tail(files: &impl Files, dir: &Path, log: &mut ShapeLog) -> io::Result<()> {
    let Some(append) = SegmentAppend::of(log) else { return Ok(()) };
    write(files, dir, &append)?;
    log.handle_flushed_to(append.end());
    Ok(())
}

/// Writes behind the segment's end. Nothing is synced: the commit log has it.
///
/// # Errors
/// Whatever the operating system says.
pub fn write(files: &impl Files, dir: &Path, append: &SegmentAppend) -> io::Result<()> {
    let log = match files.open_or_create(&log_path(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_dir(files, dir)?;
            files.open_or_create(&log_path(dir))
        }
        outcome => outcome,
    };
    write_rope(files, &log?, &append.items, append.items_at)?;
    files.write_at(&files.open_or_create(&index_path(dir))?, &append.entries, append.entries_at)
}

/// Cuts off what the segment holds behind its log's end. A power failure may leave there the index entries of items that it
/// lost; once these come again, a process that reads along would take the entries for theirs.
///
/// # Errors
/// Whatever the operating system says.
pub fn cut(files: &impl Files, dir: &Path, log: &ShapeLog) -> io::Result<()> {
    unless_missing(files.cut(&log_path(dir), log.flushed_bytes()))?;
    unless_missing(files.cut(&index_path(dir), entry_at(log.flushed_items())))
}

/// Makes everything durable that was written for some shapes, with its name: what is in their folders, and the packs that
/// have their snapshots. A shape without changes may have no folder, and of one that was removed there is nothing at all.
///
/// # Errors
/// Whatever the operating system says.
pub fn sync_all<'a>(
    files: &impl Files,
    layout: &Layout,
    dirs: impl IntoIterator<Item = &'a Path>,
    places: impl IntoIterator<Item = PackPlace>,
) -> io::Result<()> {
    let dirs: Vec<&Path> = dirs.into_iter().collect();
    if dirs.len() > MANY_FOLDERS && files.sync_file_system(&layout.shapes_dir())? {
        return Ok(());
    }
    for dir in dirs {
        for path in [snapshot_path(dir), log_path(dir), index_path(dir)] {
            sync_file(files, &path)?;
        }
        unless_missing(files.sync_dir(dir))?;
    }
    let packs: BTreeSet<u64> = places.into_iter().map(|place| place.pack).collect();
    packs.into_iter().try_for_each(|pack| sync_file(files, &layout.pack_file(pack)))?;
    files.sync_dir(&layout.shapes_dir())
}

fn sync_file(files: &impl Files, path: &Path) -> io::Result<()> {
    unless_missing(files.open(path).and_then(|file| files.sync(&file)))
}

/// Writes a snapshot that is whole to its place. Nothing is synced: the commit log has it.
///
/// # Errors
/// Whatever the operating system says.
pub(crate) fn write_snapshot(
    files: &impl Files,
    dir: &Path,
    pack: Option<PackPlace>,
    content: &[u8],
) -> io::Result<()> {
    if pack.is_none() {
        create_dir(files, dir)?;
    }
    let (path, at) = snapshot_place(dir, pack);
    files.write_at(&files.open_or_create(&path)?, content, at)
}

/// Makes the snapshot durable that was written to `file`, and the names that lead to it.
///
/// # Errors
/// Whatever the operating system says.
pub fn sync_snapshot<F: Files>(files: &F, dir: &Path, file: &F::File) -> io::Result<()> {
    files.sync(file)?;
    files.sync_dir(dir)?;
    dir.parent().map_or(Ok(()), |parent| files.sync_dir(parent))
}

/// The byte position behind the last of the first `entries` items at or before `after`.
///
/// # Errors
/// Whatever the operating system says.
pub fn find(files: &impl Files, dir: &Path, entries: u64, after: Offset) -> io::Result<u64> {
    let index = files.open(&index_path(dir))?;
    search(entries, after, |number| read_entry(files, &index, number))
}

/// Forgets the finished items of the log's tail where whoever writes the segment has put them there.
///
/// # Errors
/// Whatever the operating system says; the tail is then kept.
pub fn release_tail(files: &impl Files, dir: &Path, log: &mut ShapeLog) -> io::Result<()> {
    let marks = log.flushable();
    let Some(last) = marks.last() else { return Ok(()) };
    let number = log.flushed_items() + marks.len() as u64 - 1;
    match files.open(&index_path(dir)).and_then(|index| read_entry(files, &index, number)) {
        // An item's bytes are written before its entry.
        Ok(entry) if entry == *last => log.handle_flushed(),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn read_entry<F: Files>(files: &F, index: &F::File, number: u64) -> io::Result<Mark> {
    let mut entry = [0; ENTRY_BYTES];
    Unread { files, file: index, at: entry_at(number) }.read_exact(&mut entry)?;
    Ok(decode_entry(&entry))
}

const fn entry_at(number: u64) -> u64 {
    number * ENTRY_BYTES as u64
}

fn unless_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Native;
    use crate::scratch::Scratch;
    use std::fs;

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
        let scratch = Scratch::new("segment-cut");
        let dir = scratch.path();
        flush_tail(&Native, dir, &mut log(&[10, 20])).unwrap();
        // After a crash the commit log may know of the first transaction alone.
        let mut recovered = log(&[10]);
        flush_tail(&Native, dir, &mut recovered).unwrap();
        cut(&Native, dir, &recovered).unwrap();
        assert_eq!(fs::metadata(log_path(dir)).unwrap().len(), recovered.flushed_bytes());
        // The reader keeps its copy until the writer has written the second item again.
        let mut along = log(&[10, 20]);
        release_tail(&Native, dir, &mut along).unwrap();
        assert_eq!(along.flushed_items(), 0);
        flush_tail(&Native, dir, &mut log(&[10, 20])).unwrap();
        release_tail(&Native, dir, &mut along).unwrap();
        assert_eq!(along.flushed_items(), 2);
    }
}
