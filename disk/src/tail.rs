//! The commit log of a folder that another process writes to: everything it holds, then what is added.

use crate::records::Records;
use crate::{Files, Layout, RecoveryError};
use limn_core::journal::record::Record;
use std::io;

/// Reads along behind the process that owns the folder. Nothing is written, and a record that is not
/// whole yet is left for the next time. A record is durable before it is handed on.
#[derive(Debug)]
pub struct Tail<F: Files> {
    files: F,
    layout: Layout,
    /// The file that is being read, with its number.
    current: Option<(u64, Records<F>)>,
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

impl<F: Files> Tail<F> {
    /// A tail that has read nothing.
    pub const fn new(files: F, layout: Layout) -> Self {
        Self { files, layout, current: None }
    }

    /// Hands every record that has come since to `each`.
    ///
    /// # Errors
    /// Where the folder cannot be read, or holds a record that is whole and makes no sense, or `each` fails.
    pub fn read(&mut self, mut each: impl FnMut(Record) -> io::Result<()>) -> Result<Reached, RecoveryError> {
        loop {
            // Listed before the file is read: one that has a successor is complete.
            let numbers = match self.layout.commit_files(&self.files) {
                // Its owner has not made anything yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                numbers => {
                    numbers.map_err(|source| RecoveryError::Io { path: self.layout.commit_dir(), source })?
                }
            };
            if let Some((_, records)) = &mut self.current {
                records.read(&self.files, &mut each)?;
            }
            let number = self.current.as_ref().map(|(number, _)| *number);
            let Some(next) = numbers.into_iter().find(|file| Some(*file) > number) else {
                return Ok(Reached::End);
            };
            if number.is_some_and(|number| next != number + 1) {
                self.current = None;
                return Ok(Reached::Gap);
            }
            match Records::open(&self.files, &self.layout.commit_file(next)) {
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
    use crate::Native;
    use crate::scratch::Scratch;
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    fn folder(name: &str) -> (Scratch, Layout) {
        let scratch = Scratch::new(name);
        let layout = Layout::new(scratch.path().to_owned());
        fs::create_dir(layout.commit_dir()).unwrap();
        (scratch, layout)
    }

    fn frame(tx: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        Record::Commit(tx).encode(&mut frame);
        frame
    }

    fn append(layout: &Layout, number: u64, bytes: &[u8]) {
        let file = OpenOptions::new().create(true).append(true).open(layout.commit_file(number));
        file.unwrap().write_all(bytes).unwrap();
    }

    fn read(tail: &mut Tail<Native>) -> (Vec<Record>, Reached) {
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
        let (_scratch, layout) = folder("tail-append");
        let mut tail = Tail::new(Native, layout.clone());
        assert_eq!(read(&mut tail), (commits(&[]), Reached::End));
        append(&layout, 7, &frame(1));
        assert_eq!(read(&mut tail), (commits(&[1]), Reached::End));
        let (whole, half) = (frame(2), frame(3));
        append(&layout, 7, &[&whole[..], &half[..5]].concat());
        assert_eq!(read(&mut tail), (commits(&[2]), Reached::End));
        assert_eq!(read(&mut tail), (commits(&[]), Reached::End));
        append(&layout, 7, &half[5..]);
        assert_eq!(read(&mut tail), (commits(&[3]), Reached::End));
    }

    #[test]
    fn the_next_file_is_read_also_where_the_last_one_ends_in_the_middle_or_has_gone() {
        let (_scratch, layout) = folder("tail-next");
        let mut tail = Tail::new(Native, layout.clone());
        append(&layout, 1, &frame(1));
        assert_eq!(read(&mut tail), (commits(&[1]), Reached::End));
        // The writer was killed, and has started again.
        append(&layout, 1, &[&frame(2)[..], &frame(9)[..5]].concat());
        append(&layout, 2, &frame(3));
        fs::remove_file(layout.commit_file(1)).unwrap();
        assert_eq!(read(&mut tail), (commits(&[2, 3]), Reached::End));
    }

    #[test]
    fn files_that_went_unread_are_a_gap_and_the_oldest_is_the_new_beginning() {
        let (_scratch, layout) = folder("tail-gap");
        let mut tail = Tail::new(Native, layout.clone());
        append(&layout, 1, &frame(1));
        assert_eq!(read(&mut tail), (commits(&[1]), Reached::End));
        fs::remove_file(layout.commit_file(1)).unwrap();
        append(&layout, 3, &frame(3));
        append(&layout, 4, &frame(4));
        assert_eq!(read(&mut tail), (commits(&[]), Reached::Gap));
        assert_eq!(read(&mut tail), (commits(&[3, 4]), Reached::End));
    }
}
