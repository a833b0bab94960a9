//! Copies the rows of a shape's snapshot query to the snapshot's place.

use super::error::CreateError;
use crate::postgres::snapshot::Snapshot;
use crate::shapes::{Life, Shape};
use crate::store::Folder;
use futures::StreamExt;
use limn_core::log::ItemFormat;
use limn_core::log::shape_log::{PackPlace, SnapshotProgress};
use limn_core::pg::copy::{CopyDecoder, ProjectedRow};
use limn_core::protocol::request::LogMode;
use limn_core::shape::SnapshotWriter;
use limn_core::shape::dependent::View;
use limn_disk::{Native, segment};
use std::fs::File;
use std::io::{self, Write};

/// Bytes of snapshot that are gathered before they are written. A snapshot that is shorter goes to a pack, and is made
/// durable by the commit log, together with whatever else that syncs.
const WRITE_BYTES: usize = 64 << 10;

/// A snapshot that is written, and not durable yet.
pub(super) enum Written {
    /// Its bytes, which are also in a pack.
    Small(Vec<u8>),
    /// The file, which is to be synced.
    Large(File),
}

/// Streams the rows to the snapshot's place; readers follow behind. `views` are what the definition's subqueries return
/// in the snapshot. `on_written` is told how many bytes there are, each time that some were written.
pub(super) async fn copy(
    shape: &Shape,
    snapshot: &Snapshot,
    views: Vec<View>,
    (folder, chunk_bytes_max): (&Folder, u64),
    mut on_written: impl FnMut(u64),
) -> Result<Written, CreateError> {
    let definition = &shape.definition;
    let format = ItemFormat::new(&definition.relation, &definition.projection.columns, definition.replica);
    let tagger = definition.tagger(&shape.handle.to_string(), views);
    let writer = SnapshotWriter::new(format, tagger, chunk_bytes_max);
    let mut out = Out { shape, folder, writer, file: None };
    if definition.log_mode == LogMode::Full {
        let places = definition.places();
        let mut chunks = snapshot.copy(&definition.snapshot_sql()).await?;
        let mut rows = CopyDecoder::new();
        while let Some(chunk) = chunks.next().await {
            rows.push(&chunk?);
            while let Some(row) = rows.next_row().map_err(|error| CreateError::Copy(error.to_string()))? {
                out.writer.push_row(&ProjectedRow { row, places: &places })?;
                if out.writer.buffer().len() >= WRITE_BYTES {
                    on_written(out.write()?);
                }
            }
        }
        rows.finish().map_err(|error| CreateError::Copy(error.to_string()))?;
    }
    out.writer.finish(snapshot.bounds());
    Ok(out.finish()?)
}

/// The way of a snapshot to its file.
struct Out<'a> {
    shape: &'a Shape,
    folder: &'a Folder,
    writer: SnapshotWriter,
    /// Opened for the first bytes.
    file: Option<File>,
}

impl Out<'_> {
    /// Writes what is encoded and lets readers have it. Returns how many bytes there are.
    fn write(&mut self) -> io::Result<u64> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                segment::create_dir(&Native, &self.shape.dir())?;
                File::create(segment::snapshot_path(&self.shape.dir()))?
            }
        };
        file.write_all(self.writer.buffer())?;
        self.file = Some(file);
        Ok(self.show(None))
    }

    /// Writes the rest.
    fn finish(mut self) -> io::Result<Written> {
        if let Some(mut file) = self.file.take() {
            file.write_all(self.writer.buffer())?;
            self.show(None);
            return Ok(Written::Large(file));
        }
        let content = self.writer.buffer().to_vec();
        let place = self.folder.append_to_pack(&content)?;
        self.show(Some(place));
        Ok(Written::Small(content))
    }

    fn show(&mut self, pack: Option<PackPlace>) -> u64 {
        let progress = SnapshotProgress { pack, ..self.writer.handle_written() };
        let bytes = progress.bytes;
        self.shape.log().handle_snapshot_progress(progress);
        // The first bytes make the shape readable, later ones wake those who read along.
        self.shape.set_life(Life::Readable);
        bytes
    }
}
