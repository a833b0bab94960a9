//! Copies the rows of a shape's snapshot query to the snapshot's place.

use super::error::CreateError;
use crate::postgres::snapshot::Snapshot;
use crate::shapes::Shape;
use crate::store::Folder;
use futures::StreamExt;
use limn_core::pg::copy::{CopyDecoder, ProjectedRow};
use limn_core::protocol::request::LogMode;
use limn_core::shape::dependent::View;
use limn_core::store::WrittenSnapshot;
use limn_disk::{Native, SnapshotOut, SnapshotSizes};
use std::fs::File;
use std::sync::Arc;

/// Bytes of snapshot that are gathered before they are written. A snapshot that is shorter goes to a pack.
const WRITE_BYTES: usize = 64 << 10;

/// Streams the rows to the snapshot's place; readers follow behind. `views` are what the definition's subqueries return
/// in the snapshot. `on_written` is told how many bytes there are, each time that some were written.
pub(super) async fn copy(
    shape: &Arc<Shape>,
    snapshot: &Snapshot,
    views: Vec<View>,
    (folder, chunk_bytes_max): (&Folder, u64),
    mut on_written: impl FnMut(u64),
) -> Result<WrittenSnapshot<File>, CreateError> {
    let definition = &shape.definition;
    let sizes = SnapshotSizes { chunk_bytes_max, write_bytes: WRITE_BYTES };
    let mut out = SnapshotOut::new(Native, &folder.layout(), shape.clone(), views, sizes);
    if definition.log_mode == LogMode::Full {
        let places = definition.places();
        let mut chunks = snapshot.copy(&definition.snapshot_sql()).await?;
        let mut rows = CopyDecoder::new();
        while let Some(chunk) = chunks.next().await {
            rows.push(&chunk?);
            while let Some(row) = rows.next_row().map_err(|error| CreateError::Copy(error.to_string()))? {
                out.push_row(&ProjectedRow { row, places: &places })?;
                out.write_if_full()?.into_iter().for_each(&mut on_written);
            }
        }
        rows.finish().map_err(|error| CreateError::Copy(error.to_string()))?;
    }
    Ok(out.finish(snapshot.bounds(), |content| folder.append_to_pack(content))?)
}
