//! The faulty disk as the port that `limn_disk` writes to, with what a planted bug changes on the way.

use crate::disk::{Disk, FileNumber, NameChange};
use crate::fault::{Fault, Faults};
use limn_core::journal::Record;
use limn_core::journal::record::{FRAME_HEAD_BYTES, payload_bytes};
use limn_core::log::segment::{decode_entry, encode_entry};
use limn_core::log::shape_log::Mark;
use limn_disk::Layout;
use std::borrow::Cow;
use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The disk's files. A clone is the same disk.
#[derive(Debug, Clone)]
pub struct Files {
    disk: Rc<RefCell<Disk>>,
    faults: Faults,
    /// True while a process takes up what is there.
    is_starting: Rc<Cell<bool>>,
}

/// The paths on the disk.
#[must_use]
pub fn layout() -> Layout {
    Layout::new(PathBuf::new())
}

/// An open file.
#[derive(Debug)]
pub struct File {
    path: String,
    number: FileNumber,
    /// True where nothing was synced since the file was made.
    is_new: Cell<bool>,
}

impl Files {
    /// The files of a disk.
    #[must_use]
    pub fn new(disk: Disk, faults: Faults) -> Self {
        Self { disk: Rc::new(RefCell::new(disk)), faults, is_starting: Rc::default() }
    }

    /// The disk itself.
    #[must_use]
    pub fn disk(&self) -> RefMut<'_, Disk> {
        self.disk.borrow_mut()
    }

    /// A process begins to take up what is there, or is done with it.
    pub fn set_starting(&self, is_starting: bool) {
        self.is_starting.set(is_starting);
    }

    /// Fails where the power is off.
    ///
    /// # Errors
    /// As everything that is asked of the disk.
    pub fn check_power(&self) -> io::Result<()> {
        if self.disk().is_off() { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// A part of a file.
    ///
    /// # Errors
    /// Where the file, or the part, is not there.
    pub fn part(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        let part = disk.read(disk.open(name(path))?).get(range.start as usize..range.end as usize);
        part.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The bytes that a reader of a file gets.
    fn told<'a>(&self, disk: &'a Disk, file: &File) -> Cow<'a, [u8]> {
        let content = disk.read(file.number);
        let is_last = || disk.list("commit").last().is_some_and(|last| file.path.ends_with(last));
        match self.faults.0 {
            Some(Fault::IgnoresChecksums) if file.path.starts_with("commit/") => {
                encoded(&records(content)).into()
            }
            Some(Fault::BelievesCutOffItems) if self.is_starting.get() && is_last() => {
                let mut records = records(content);
                records.push(Record::Commit(0));
                encoded(&records).into()
            }
            Some(Fault::ForgetsLastTransaction) if self.is_starting.get() && is_last() => {
                let mut records = records(content);
                let last = records.iter().rposition(|record| matches!(record, Record::Commit(_)));
                last.map(|index| records.remove(index));
                encoded(&records).into()
            }
            _ => content.into(),
        }
    }

    /// False where a planted bug leaves a sync of the file out.
    fn syncs(&self, file: &File) -> bool {
        let is_first = file.is_new.replace(false);
        match self.faults.0 {
            Some(Fault::ReportsBeforeSync) => !file.path.starts_with("commit/"),
            Some(Fault::ForgetsFilesFirst) => !(is_first && file.path.starts_with("commit/")),
            Some(Fault::SnapshotNotSynced) => !file.path.ends_with("/snapshot"),
            Some(Fault::CompactedNotSynced) => !file.path.contains("/log.") && !file.path.contains("/index."),
            Some(Fault::PackNotSynced) => !file.path.contains("/pack-"),
            Some(Fault::IndexNotSynced) => !file.path.ends_with("/index"),
            _ => true,
        }
    }

    /// False where a planted bug leaves it out that a name is made durable.
    fn syncs_name(&self, change: &NameChange) -> bool {
        match (self.faults.0, change) {
            (Some(Fault::SnapshotNameNotSynced), NameChange::Created(path, _)) => {
                !path.ends_with("/snapshot")
            }
            (Some(Fault::CommitFileNameNotSynced), NameChange::Created(path, _))
            | (Some(Fault::OlderFilesComeBack), NameChange::Removed(path)) => !path.starts_with("commit/"),
            _ => true,
        }
    }
}

impl limn_disk::Files for Files {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        let number = self.disk().create(name(path))?;
        Ok(File { path: name(path).to_owned(), number, is_new: Cell::new(true) })
    }

    fn open_or_create(&self, path: &Path) -> io::Result<File> {
        self.open(path).or_else(|_| self.create(path))
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let number = self.disk().open(name(path))?;
        Ok(File { path: name(path).to_owned(), number, is_new: Cell::new(false) })
    }

    fn cut(&self, path: &Path, length: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let file = disk.open(name(path))?;
        if disk.read(file).len() as u64 > length { disk.cut(file, length) } else { Ok(()) }
    }

    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.faults.has(Fault::IndexNamesBeginnings) && file.path.ends_with("/index") {
            return self.disk().write_at(file.number, &entries_of_beginnings(bytes), at);
        }
        self.disk().write_at(file.number, bytes, at)
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let disk = self.disk();
        let told = self.told(&disk, file);
        let rest = told.get(at as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        Ok(self.told(&self.disk(), file).len() as u64)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if !self.syncs(file) {
            return Ok(());
        }
        let synced = self.disk().sync(file.number);
        match self.faults.has(Fault::SyncsAgain) && file.path.starts_with("shapes/") {
            true => synced.or_else(|_| self.disk().sync(file.number)),
            false => synced,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk().sync_folder(name(dir), |change| self.syncs_name(change))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Ok(self.disk().list(name(dir)))
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        // A folder is there once it holds something.
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk().remove(name(path))
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk().remove_folder(name(dir))
    }
}

fn name(path: &Path) -> &str {
    path.to_str().expect("the layout's paths are text")
}

/// The records of a commit log file, whatever their checksums, up to the first that is cut off or makes no sense.
fn records(mut file: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(head) = file.first_chunk() {
        let length = FRAME_HEAD_BYTES + payload_bytes(*head);
        let Some(Ok(record)) = file.get(FRAME_HEAD_BYTES..length).map(Record::decode) else { break };
        records.push(record);
        file = &file[length..];
    }
    records
}

/// Index entries of which each but the first has the position at which its item begins.
fn entries_of_beginnings(entries: &[u8]) -> Vec<u8> {
    let mut wrong = Vec::new();
    let mut begin = None;
    for entry in entries.as_chunks().0 {
        let mark = decode_entry(entry);
        encode_entry(&mut wrong, Mark { end: begin.unwrap_or(mark.end), ..mark });
        begin = Some(mark.end);
    }
    wrong
}

fn encoded(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.iter().for_each(|record| record.encode(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use limn_disk::{Files as _, Layout, Tail, recover};
    use std::path::PathBuf;

    /// A disk with a commit log whose records are not synced.
    fn unsynced(seed: u64) -> (Files, Layout) {
        let files = Files::new(Disk::new(Random::new(seed)), Faults::default());
        let layout = Layout::new(PathBuf::new());
        let file = files.create(&layout.commit_file(1)).unwrap();
        files.sync_dir(&layout.commit_dir()).unwrap();
        files.write_at(&file, &encoded(&[Record::Commit(1), Record::Commit(2)]), 0).unwrap();
        (files, layout)
    }

    #[test]
    fn a_power_failure_takes_no_record_back_that_a_start_has_read() {
        for seed in 0..200 {
            let (files, layout) = unsynced(seed);
            let processed = || recover(&files, &layout, 1_000, 1_000).unwrap().store.processed;
            assert_eq!(processed(), 2);
            files.disk().restart();
            assert_eq!(processed(), 2, "seed {seed}");
        }
    }

    #[test]
    fn a_power_failure_takes_no_record_back_that_a_second_process_was_handed() {
        for seed in 0..200 {
            let (files, layout) = unsynced(seed);
            let handed_on = || {
                let mut records = Vec::new();
                let each = |record| {
                    records.push(record);
                    Ok(())
                };
                Tail::new(files.clone(), layout.clone()).read(each).unwrap();
                records
            };
            let before = handed_on();
            files.disk().restart();
            assert_eq!(handed_on(), before, "seed {seed}");
            assert_eq!(before, [Record::Commit(1), Record::Commit(2)]);
        }
    }
}
