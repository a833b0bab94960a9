//! The commit log of a folder that another process writes to: everything it holds, then what is added.

use super::folder::Folder;
use super::records::Records;
use super::recovery::RecoveryError;
use limn_core::journal::record::Record;
use std::io;
use std::sync::Arc;

/// Reads along behind the process that owns the folder. Nothing is written, and a record that is not
/// whole yet is left for the next time.
#[derive(Debug)]
pub struct Tail {
    folder: Arc<Folder>,
    /// The file that is being read, with its number.
    current: Option<(u64, Records)>,
}

/// How a reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// At the end of what there is.
    End,
    /// At a gap: files went before they were read. What came from this tail so far is to be forgotten; it
    /// begins again with the oldest file.
    Gap,
}

impl Tail {
    /// A tail that has read nothing.
    #[must_use]
    pub const fn new(folder: Arc<Folder>) -> Self {
        Self { folder, current: None }
    }

    /// Hands every record that has come since to `each`.
    ///
    /// # Errors
    /// Where the folder cannot be read, or holds a record that is whole and makes no sense, or `each` fails.
    pub fn read(&mut self, mut each: impl FnMut(Record) -> io::Result<()>) -> Result<Reached, RecoveryError> {
        loop {
            // Listed before the file is read: one that has a successor is complete.
            let io_error = |source| RecoveryError::Io { path: self.folder.commit_dir(), source };
            let files = match self.folder.commit_files() {
                // Its owner has not made anything yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                files => files.map_err(io_error)?,
            };
            if let Some((_, records)) = &mut self.current {
                while let Some(record) = records.read()? {
                    each(record).map_err(io_error)?;
                }
            }
            let number = self.current.as_ref().map(|(number, _)| *number);
            let Some((next, path)) = files.into_iter().find(|(file, _)| Some(*file) > number) else {
                return Ok(Reached::End);
            };
            if number.is_some_and(|number| next != number + 1) {
                self.current = None;
                return Ok(Reached::Gap);
            }
            match Records::open(&path) {
                Ok(records) => self.current = Some((next, records)),
                Err(RecoveryError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    self.current = None;
                    return Ok(Reached::Gap);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn folder(name: &str) -> (Scratch, Arc<Folder>) {
        let path = std::env::temp_dir().join(format!("limn-tail-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let folder = Folder::open(&path).unwrap();
        drop(folder.try_lock().unwrap());
        (Scratch(path), Arc::new(folder))
    }

    fn frame(tx: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        Record::Commit(tx).encode(&mut frame);
        frame
    }

    fn append(folder: &Folder, number: u64, bytes: &[u8]) {
        let file = OpenOptions::new().create(true).append(true).open(folder.commit_file(number));
        file.unwrap().write_all(bytes).unwrap();
    }

    fn read(tail: &mut Tail) -> (Vec<Record>, Reached) {
        let mut records = Vec::new();
        let reached = tail.read(|record| {
            records.push(record);
            Ok(())
        });
        (records, reached.unwrap())
    }

    fn commits(txs: &[u64]) -> Vec<Record> {
        txs.iter().map(|tx| Record::Commit(*tx)).collect()
    }

    #[test]
    fn what_is_appended_is_read_once_and_only_when_it_is_whole() {
        let (_scratch, folder) = folder("append");
        let mut tail = Tail::new(folder.clone());
        assert_eq!(read(&mut tail), (commits(&[]), Reached::End));
        append(&folder, 7, &frame(1));
        assert_eq!(read(&mut tail), (commits(&[1]), Reached::End));
        let (whole, half) = (frame(2), frame(3));
        append(&folder, 7, &[&whole[..], &half[..5]].concat());
        assert_eq!(read(&mut tail), (commits(&[2]), Reached::End));
        assert_eq!(read(&mut tail), (commits(&[]), Reached::End));
        append(&folder, 7, &half[5..]);
        assert_eq!(read(&mut tail), (commits(&[3]), Reached::End));
    }

    #[test]
    fn the_next_file_is_read_also_where_the_last_one_ends_in_the_middle_or_has_gone() {
        let (_scratch, folder) = folder("next");
        let mut tail = Tail::new(folder.clone());
        append(&folder, 1, &frame(1));
        assert_eq!(read(&mut tail), (commits(&[1]), Reached::End));
        // The writer was killed, and has started again.
        append(&folder, 1, &[&frame(2)[..], &frame(9)[..5]].concat());
        append(&folder, 2, &frame(3));
        fs::remove_file(folder.commit_file(1)).unwrap();
        assert_eq!(read(&mut tail), (commits(&[2, 3]), Reached::End));
    }

    #[test]
    fn files_that_went_unread_are_a_gap_and_the_oldest_is_the_new_beginning() {
        let (_scratch, folder) = folder("gap");
        let mut tail = Tail::new(folder.clone());
        append(&folder, 1, &frame(1));
        assert_eq!(read(&mut tail), (commits(&[1]), Reached::End));
        fs::remove_file(folder.commit_file(1)).unwrap();
        append(&folder, 3, &frame(3));
        append(&folder, 4, &frame(4));
        assert_eq!(read(&mut tail), (commits(&[]), Reached::Gap));
        assert_eq!(read(&mut tail), (commits(&[3, 4]), Reached::End));
    }
}
