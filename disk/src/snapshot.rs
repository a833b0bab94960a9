//! The way of a new shape's rows to the disk.

use crate::{Files, Layout, segment};
use limn_core::filter::EvalError;
use limn_core::log::shape_log::{PackPlace, SnapshotProgress};
use limn_core::pg::{Row, SnapshotBounds};
use limn_core::shape::SnapshotWriter;
use limn_core::shape::dependent::View;
use limn_core::store::{NamedShape, WrittenSnapshot};
use std::io;
use std::path::PathBuf;

/// The sizes of a snapshot's pieces.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotSizes {
    /// Item bytes at which a chunk closes.
    pub chunk_bytes_max: u64,
    /// Bytes that are gathered before they are written.
    pub write_bytes: usize,
}

/// Writes a snapshot as its rows come, and lets readers have what is written. One whose rows are all there before
/// anything had to be written goes to a pack, and is made durable by the commit log, together with whatever else that
/// syncs; any other gets a file of its own.
///
/// Order of calls: [`push_row`](Self::push_row) and [`write_if_full`](Self::write_if_full) for each row;
/// [`finish`](Self::finish).
#[derive(Debug)]
pub struct SnapshotOut<F: Files, S> {
    files: F,
    shape: S,
    /// The shape's folder, which is made where it is needed.
    dir: PathBuf,
    writer: SnapshotWriter,
    write_bytes: usize,
    /// Opened for the first bytes.
    file: Option<F::File>,
    /// Bytes in the file.
    written: u64,
}

impl<F: Files, S: NamedShape> SnapshotOut<F, S> {
    /// Nothing is written yet. The shape's subqueries return `views` in the snapshot.
    #[must_use]
    pub fn new(files: F, layout: &Layout, shape: S, views: Vec<View>, sizes: SnapshotSizes) -> Self {
        let SnapshotSizes { chunk_bytes_max, write_bytes } = sizes;
        let identity = shape.identity();
        let dir = layout.shape_dir(identity.handle);
        let writer = SnapshotWriter::of(identity.definition, identity.handle, views, chunk_bytes_max);
        Self { files, shape, dir, writer, write_bytes, file: None, written: 0 }
    }

    /// Takes a row.
    ///
    /// # Errors
    /// Where its tags cannot be told.
    pub fn push_row(&mut self, row: &impl Row) -> Result<(), EvalError> {
        self.writer.push_row(row)
    }

    /// Writes what was gathered to the file, where it is much. Returns how many bytes are there then.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn write_if_full(&mut self) -> io::Result<Option<u64>> {
        if self.writer.buffer().len() < self.write_bytes {
            return Ok(None);
        }
        self.write().map(Some)
    }

    fn write(&mut self) -> io::Result<u64> {
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
        let progress = self.writer.handle_written();
        self.show(progress);
        Ok(self.written)
    }

    /// Writes the rest, behind the last row: to a pack by `append_to_pack`, where nothing was written yet.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn finish(
        mut self,
        bounds: &SnapshotBounds,
        append_to_pack: impl FnOnce(&[u8]) -> io::Result<PackPlace>,
    ) -> io::Result<WrittenSnapshot<F::File>> {
        self.writer.finish(bounds);
        if self.file.is_some() {
            self.write()?;
            let file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
            return Ok(WrittenSnapshot::Large(file));
        }
        let content = self.writer.buffer().to_vec();
        let pack = Some(append_to_pack(&content)?);
        let progress = SnapshotProgress { pack, ..self.writer.handle_written() };
        self.show(progress);
        Ok(WrittenSnapshot::Small(content))
    }

    fn show(&self, progress: SnapshotProgress) {
        self.shape.with_log(|log| log.handle_snapshot_progress(progress));
        self.shape.show_snapshot();
    }
}
