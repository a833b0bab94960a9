//! The records of a commit log file, read one by one, also while another process appends to it.

use super::recovery::RecoveryError;
use limn_core::journal::record::{FRAME_HEAD_BYTES, RECORD_BYTES_MAX, Record, payload_bytes, read_frame};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 1 << 20;

/// One file of the commit log.
#[derive(Debug)]
pub(super) struct Records {
    path: PathBuf,
    file: BufReader<File>,
    /// Where the next record begins.
    position: u64,
    frame: Vec<u8>,
}

impl Records {
    /// The records of a file, from its beginning.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, RecoveryError> {
        let file = File::open(path).map_err(|source| RecoveryError::Io { path: path.to_owned(), source })?;
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(Self { path: path.to_owned(), file, position: 0, frame: Vec::new() })
    }

    /// The next record that is whole. After `None` the file can be asked again: it may have grown.
    ///
    /// # Errors
    /// Where the file cannot be read, or the record makes no sense although it is whole.
    pub fn read(&mut self) -> Result<Option<Record>, RecoveryError> {
        let is_there = read_next(&mut self.file, &mut self.frame).map_err(|source| self.io(source))?;
        let Some((payload, length)) = is_there.then(|| read_frame(&self.frame)).flatten() else {
            let back = self.file.seek(SeekFrom::Start(self.position));
            return back.map(|_| None).map_err(|source| self.io(source));
        };
        let record = Record::decode(payload)
            .map_err(|source| RecoveryError::Record { path: self.path.clone(), source })?;
        self.position += length as u64;
        Ok(Some(record))
    }

    fn io(&self, source: io::Error) -> RecoveryError {
        RecoveryError::Io { path: self.path.clone(), source }
    }
}

/// Reads the bytes that the next frame announces; false where there are not enough.
fn read_next(file: &mut impl Read, frame: &mut Vec<u8>) -> io::Result<bool> {
    frame.resize(FRAME_HEAD_BYTES, 0);
    if !read_whole(file, frame)? {
        return Ok(false);
    }
    let Some(length) = frame.first_chunk().map(|head| payload_bytes(*head)) else { return Ok(false) };
    if length > RECORD_BYTES_MAX {
        return Ok(false);
    }
    // Grows with what is there, not with what a damaged length claims.
    frame.truncate(FRAME_HEAD_BYTES);
    let read = file.take(length as u64).read_to_end(frame)?;
    Ok(read == length)
}

fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
