//! One shape's files.

use crate::files::{Unread, write_rope};
use crate::layout::pack_file;
use crate::{Files, Layout};
use limn_core::Offset;
use limn_core::log::segment::{ENTRY_BYTES, SegmentAppend, decode_entry, search};
use limn_core::log::shape_log::{Found, IndexSearch, Mark, PackPlace, ShapeLog};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Beyond so many folders, with three files each, a sync of the whole file system takes less time than theirs, also
/// where Postgres has just written to it.
const MANY_FOLDERS: usize = 64;
/// Bytes of a file that are compared at one time.
const COMPARED_BYTES: usize = 64 << 10;

/// The path of a snapshot that has a file of its own.
#[must_use]
pub fn snapshot_path(dir: &Path) -> PathBuf {
    dir.join("snapshot")
}

/// The path of the file that has the flushed part of the change log.
#[must_use]
pub fn log_path(dir: &Path, generation: u64) -> PathBuf {
    path_of(dir, "log", generation)
}

pub(crate) fn index_path(dir: &Path, generation: u64) -> PathBuf {
    path_of(dir, "index", generation)
}

fn path_of(dir: &Path, name: &str, generation: u64) -> PathBuf {
    match generation {
        0 => dir.join(name),
        _ => dir.join(format!("{name}.{generation}")),
    }
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
    let (log, index) = (log_path(dir, append.generation), index_path(dir, append.generation));
    let log = match files.open_or_create(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_dir(files, dir)?;
            files.open_or_create(&log)
        }
        outcome => outcome,
    };
    write_rope(files, &log?, &append.items, append.items_at)?;
    files.write_at(&files.open_or_create(&index)?, &append.entries, append.entries_at)
}

/// Cuts off what the segment holds behind its log's end, and removes those of other generations. A power failure may leave there the index entries of items that it
/// lost; once these come again, a process that reads along would take the entries for theirs.
///
/// # Errors
/// Whatever the operating system says.
pub fn cut(files: &impl Files, dir: &Path, log: &ShapeLog) -> io::Result<()> {
    let start = log.start();
    let (bytes, entries) = (log.flushed_bytes() - start.byte, log.flushed_items() - start.item);
    unless_missing(files.cut(&log_path(dir, start.generation), bytes))?;
    unless_missing(files.cut(&index_path(dir, start.generation), entry_at(entries)))?;
    let others = [start.generation.checked_sub(1), Some(start.generation + 1)];
    others.into_iter().flatten().try_for_each(|generation| remove(files, dir, generation))
}

/// Removes the segment of a generation, where it is there.
///
/// # Errors
/// Whatever the operating system says.
pub fn remove(files: &impl Files, dir: &Path, generation: u64) -> io::Result<()> {
    let log = log_path(dir, generation);
    // The file of items comes first and goes last: where it is missing, as nearly always, nothing else is asked for.
    match files.open(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        outcome => drop(outcome?),
    }
    unless_missing(files.remove_file(&index_path(dir, generation)))?;
    unless_missing(files.remove_file(&log))
}

/// Makes everything durable that was written for some shapes, with its name: what is in their folders, and the packs that
/// have their snapshots. Each folder comes with the generation of its segment. A shape without changes may have no folder, and of one that was removed there is nothing at all.
///
/// # Errors
/// Whatever the operating system says.
pub fn sync_all<'a>(
    files: &impl Files,
    layout: &Layout,
    dirs: impl IntoIterator<Item = (&'a Path, u64)>,
    places: impl IntoIterator<Item = PackPlace>,
) -> io::Result<()> {
    let dirs: Vec<_> = dirs.into_iter().collect();
    if dirs.len() > MANY_FOLDERS && files.sync_file_system(&layout.shapes_dir())? {
        return Ok(());
    }
    for (dir, generation) in dirs {
        for path in [snapshot_path(dir), log_path(dir, generation), index_path(dir, generation)] {
            sync_file(files, &path)?;
        }
        unless_missing(files.sync_dir(dir))?;
    }
    let packs: BTreeSet<u64> = places.into_iter().map(|place| place.pack).collect();
    packs.into_iter().try_for_each(|pack| sync_file(files, &layout.pack_file(pack)))?;
    files.sync_dir(&layout.shapes_dir())
}

pub(crate) fn sync_file(files: &impl Files, path: &Path) -> io::Result<()> {
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

/// The byte position behind the last of the searched items at or before `after`.
///
/// # Errors
/// Whatever the operating system says.
pub fn find(files: &impl Files, dir: &Path, asked: IndexSearch, after: Offset) -> io::Result<Found> {
    let IndexSearch { start, entries } = asked;
    let index = files.open(&index_path(dir, start.generation))?;
    let end = search(entries, after, |number| read_entry(files, &index, number))?;
    Ok(Found { start, byte: start.byte + end })
}

/// Whether a snapshot is in its place: after a power failure its file may hold something else, until a start writes it again.
///
/// # Errors
/// Whatever the operating system says, but for a file that is missing or too short.
pub fn has_snapshot(
    files: &impl Files,
    dir: &Path,
    pack: Option<PackPlace>,
    content: &[u8],
) -> io::Result<bool> {
    let (path, at) = snapshot_place(dir, pack);
    unless_short(files.open(&path).and_then(|file| holds(files, &file, at, [content])))
}

/// Forgets the finished items of the log's tail where whoever writes the segment has put them there. After a power failure
/// the segment may hold other bytes, until a start writes these again.
///
/// # Errors
/// Whatever the operating system says; the tail is then kept.
pub fn release_tail(files: &impl Files, dir: &Path, log: &mut ShapeLog) -> io::Result<()> {
    let marks = log.flushable();
    let Some(last) = marks.last() else { return Ok(()) };
    let start = log.start();
    let number = log.flushed_items() - start.item + marks.len() as u64 - 1;
    let in_segment = start.in_segment(*last);
    let index = files.open(&index_path(dir, start.generation));
    // An item's bytes are written before its entry.
    let is_written =
        unless_short(index.and_then(|index| Ok(read_entry(files, &index, number)? == in_segment)))?;
    let items = log.tail_part(log.flushed_bytes()..last.end);
    let at = log.flushed_bytes() - start.byte;
    let holds = || holds(files, &files.open(&log_path(dir, start.generation))?, at, items.slices());
    if is_written && unless_short(holds())? {
        log.handle_flushed();
    }
    Ok(())
}

/// Whether a file has these bytes, in their order, at byte position `at`.
fn holds<'a, F: Files>(
    files: &F,
    file: &F::File,
    at: u64,
    slices: impl IntoIterator<Item = &'a [u8]>,
) -> io::Result<bool> {
    let mut unread = Unread { files, file, at };
    let mut read = Vec::new();
    for piece in slices.into_iter().flat_map(|slice| slice.chunks(COMPARED_BYTES)) {
        read.resize(piece.len(), 0);
        unread.read_exact(&mut read)?;
        if read != piece {
            return Ok(false);
        }
    }
    Ok(true)
}

/// False for what a file does not have because it is missing or too short.
fn unless_short(found: io::Result<bool>) -> io::Result<bool> {
    match found {
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) => {
            Ok(false)
        }
        found => found,
    }
}

pub(crate) fn read_entry<F: Files>(files: &F, index: &F::File, number: u64) -> io::Result<Mark> {
    let mut entry = [0; ENTRY_BYTES];
    Unread { files, file: index, at: entry_at(number) }.read_exact(&mut entry)?;
    Ok(decode_entry(&entry))
}

pub(crate) const fn entry_at(number: u64) -> u64 {
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
        assert_eq!(fs::metadata(log_path(dir, 0)).unwrap().len(), recovered.flushed_bytes());
        // The reader keeps its copy until the writer has written the second item again.
        let mut along = log(&[10, 20]);
        release_tail(&Native, dir, &mut along).unwrap();
        assert_eq!(along.flushed_items(), 0);
        flush_tail(&Native, dir, &mut log(&[10, 20])).unwrap();
        release_tail(&Native, dir, &mut along).unwrap();
        assert_eq!(along.flushed_items(), 2);
    }

    #[test]
    fn a_tail_is_kept_until_the_segment_has_its_bytes() {
        let scratch = Scratch::new("segment-release");
        let dir = scratch.path();
        let mut along = log(&[10, 20]);
        flush_tail(&Native, dir, &mut along.clone()).unwrap();
        // A power failure has kept the index, and lost what the items' file had.
        let items = fs::read(log_path(dir, 0)).unwrap();
        for lost in [vec![0; items.len()], items[..items.len() - 1].to_vec(), Vec::new()] {
            fs::write(log_path(dir, 0), lost).unwrap();
            release_tail(&Native, dir, &mut along).unwrap();
            assert_eq!(along.flushed_items(), 0);
        }
        fs::write(log_path(dir, 0), items).unwrap();
        release_tail(&Native, dir, &mut along).unwrap();
        assert_eq!(along.flushed_items(), 2);
    }

    #[test]
    fn a_snapshot_is_there_once_its_bytes_are() {
        let scratch = Scratch::new("segment-snapshot");
        let dir = scratch.path().join("5000-1");
        for pack in [None, Some(PackPlace { pack: 3, at: 2 })] {
            let has = || has_snapshot(&Native, &dir, pack, b",{}").unwrap();
            assert!(!has());
            write_snapshot(&Native, &dir, pack, b",[]").unwrap();
            assert!(!has());
            write_snapshot(&Native, &dir, pack, b",{}").unwrap();
            assert!(has());
        }
    }
}
