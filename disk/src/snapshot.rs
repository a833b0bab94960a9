//! The way of a new shape's rows to the disk.

use crate::{Files, segment};
use limn_core::filter::EvalError;
use limn_core::log::shape_log::{PackPlace, SnapshotProgress};
use limn_core::pg::{Row, SnapshotBounds};
use limn_core::shape::SnapshotWriter;
use std::io;
use std::path::PathBuf;

/// Writes a snapshot as its rows come. One whose rows are all there before anything had to be written goes to a pack, and
/// is made durable by the commit log, together with whatever else that syncs; any other gets a file of its own.
///
/// Order of calls: [`push_row`](Self::push_row) for each row; [`write`](Self::write) where the
/// [buffer is full](Self::is_full); [`finish`](Self::finish). What each of the last two returns is to be shown to readers.
#[derive(Debug)]
pub struct SnapshotOut<F: Files> {
    files: F,
    dir: PathBuf,
    writer: SnapshotWriter,
    /// Bytes that are gathered before they are written.
    write_bytes: usize,
    /// Opened for the first bytes.
    file: Option<F::File>,
    /// Bytes in the file.
    written: u64,
}

/// A snapshot that is written, and not durable yet.
#[derive(Debug)]
pub enum WrittenSnapshot<T> {
    /// Its bytes, which are also in a pack.
    Small(Vec<u8>),
    /// The file, which is to be synced by [`segment::sync_snapshot`].
    Large(T),
}

impl<F: Files> SnapshotOut<F> {
    /// Nothing is written yet. `dir` is the shape's folder, which is made where it is needed.
    #[must_use]
    pub const fn new(files: F, dir: PathBuf, writer: SnapshotWriter, write_bytes: usize) -> Self {
        Self { files, dir, writer, write_bytes, file: None, written: 0 }
    }

    /// Takes a row.
    ///
    /// # Errors
    /// Where its tags cannot be told.
    pub fn push_row(&mut self, row: &impl Row) -> Result<(), EvalError> {
        self.writer.push_row(row)
    }

    /// True where so many bytes were gathered that they are to be written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.writer.buffer().len() >= self.write_bytes
    }

    /// Writes what was gathered to the file.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn write(&mut self) -> io::Result<SnapshotProgress> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                segment::create_dir(&self.files, &self.dir)?;
                self.files.create(&segment::snapshot_path(&self.dir))?
            }
        };
        self.files.write_at(&file, self.writer.buffer(), self.written)?;
        self.written += self.writer.buffer().len() as u64;
        self.file = Some(file);
        Ok(self.writer.handle_written())
    }

    /// Writes the rest, behind the last row: to a pack by `append_to_pack`, where nothing was written yet.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn finish(
        mut self,
        bounds: &SnapshotBounds,
        append_to_pack: impl FnOnce(&[u8]) -> io::Result<PackPlace>,
    ) -> io::Result<(SnapshotProgress, WrittenSnapshot<F::File>)> {
        self.writer.finish(bounds);
        if self.file.is_some() {
            let progress = self.write()?;
            let file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
            return Ok((progress, WrittenSnapshot::Large(file)));
        }
        let content = self.writer.buffer().to_vec();
        let pack = Some(append_to_pack(&content)?);
        let progress = SnapshotProgress { pack, ..self.writer.handle_written() };
        Ok((progress, WrittenSnapshot::Small(content)))
    }
}
