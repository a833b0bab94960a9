//! The records of a commit log file, read one by one, also while another process appends to it.

use crate::files::Unread;
use crate::{Files, RecoveryError};
use limn_core::journal::record::{FRAME_HEAD_BYTES, RECORD_BYTES_MAX, Record, payload_bytes, read_frame};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// A start frees it, which raises the size from which glibc maps memory anew for each buffer: with 64 KiB here, 64 connections
/// got 0.93 times as many replies of 119 kB (`cargo x bench small-shape`, two cores).
const BUFFER_BYTES: usize = 1 << 20;

/// One file of the commit log.
#[derive(Debug)]
pub(crate) struct Records<F: Files> {
    path: PathBuf,
    file: F::File,
    /// Where the next record begins.
    position: u64,
}

impl<F: Files> Records<F> {
    /// The records of a file, from its beginning.
    pub(crate) fn open(files: &F, path: &Path) -> Result<Self, RecoveryError> {
        let file = files.open(path).map_err(|source| RecoveryError::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, position: 0 })
    }

    /// Hands every further record that is whole to `each`. No power failure can take these back: whoever wrote the file
    /// may not have synced it, so it is synced here. Behind the last one the file can be read again: it may have grown.
    ///
    /// # Errors
    /// Where the file cannot be synced or read, a record makes no sense although it is whole, or `each` fails.
    pub(crate) fn read(
        &mut self,
        files: &F,
        mut each: impl FnMut(Record) -> io::Result<()>,
    ) -> Result<(), RecoveryError> {
        let path = self.path.clone();
        self.read_payloads(files, |payload| {
            let record = Record::decode(payload)
                .map_err(|source| RecoveryError::Record { path: path.clone(), source })?;
            each(record).map_err(|source| RecoveryError::Io { path: path.clone(), source })
        })
    }

    /// The same for payloads, which may make no sense.
    ///
    /// # Errors
    /// Where the file cannot be synced or read, or `each` fails.
    pub(crate) fn read_payloads(
        &mut self,
        files: &F,
        mut each: impl FnMut(&[u8]) -> Result<(), RecoveryError>,
    ) -> Result<(), RecoveryError> {
        let end = files.len(&self.file).map_err(|source| self.io_error(source))?;
        if end == self.position {
            return Ok(());
        }
        files.sync(&self.file).map_err(|source| self.io_error(source))?;
        let Self { path, file, position } = self;
        let io_error = |source| RecoveryError::Io { path: path.clone(), source };
        let unread = Unread { files, file, at: *position }.take(end.saturating_sub(*position));
        let mut unread = BufReader::with_capacity(BUFFER_BYTES, unread);
        let mut frame = Vec::new();
        while read_next(&mut unread, &mut frame).map_err(io_error)?
            && let Some((payload, length)) = read_frame(&frame)
        {
            *position += length as u64;
            each(payload)?;
        }
        Ok(())
    }

    fn io_error(&self, source: io::Error) -> RecoveryError {
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
