//! Turns the rows of the snapshot query into the snapshot part of a shape log.

use super::Definition;
use crate::Handle;
use crate::filter::EvalError;
use crate::log::item::ItemFormat;
use crate::log::shape_log::SnapshotProgress;
use crate::pg::{Row, SnapshotBounds};
use crate::protocol::message;
use crate::shape::dependent::{Tagger, View};

/// Encodes rows into a buffer that the caller empties into the snapshot's file, and keeps the chunks.
#[derive(Debug)]
pub struct SnapshotWriter {
    format: ItemFormat,
    /// Adds the tags of a shape with subqueries.
    tagger: Option<Tagger>,
    chunk_bytes_max: u64,
    buffer: Vec<u8>,
    open_chunk_bytes: u64,
    progress: SnapshotProgress,
}

impl SnapshotWriter {
    /// A writer whose chunks close at `chunk_bytes_max` bytes.
    #[must_use]
    pub fn new(format: ItemFormat, tagger: Option<Tagger>, chunk_bytes_max: u64) -> Self {
        let progress = SnapshotProgress::default();
        Self { format, tagger, chunk_bytes_max, buffer: Vec::new(), open_chunk_bytes: 0, progress }
    }

    /// A writer for the rows of a shape with this handle, in a snapshot in which its subqueries return `views`.
    #[must_use]
    pub fn of(definition: &Definition, handle: Handle, views: Vec<View>, chunk_bytes_max: u64) -> Self {
        let Definition { relation, projection, replica, .. } = definition;
        let format = ItemFormat::new(relation, &projection.columns, *replica);
        Self::new(format, definition.tagger(&handle.to_string(), views), chunk_bytes_max)
    }

    /// Encodes a row; the chunk that it fills closes behind it.
    ///
    /// # Errors
    /// Where the row's tags cannot be told.
    pub fn push_row(&mut self, row: &impl Row) -> Result<(), EvalError> {
        let start = self.buffer.len();
        self.buffer.push(b',');
        self.format.push_snapshot_row(&mut self.buffer, row);
        if let Some(tagger) = &self.tagger {
            tagger.tag(&mut self.buffer, row)?;
        }
        // The comma is counted: a snapshot row is its bytes and one more (protocol §3.3).
        self.count(self.buffer.len() - start);
        if self.open_chunk_bytes >= self.chunk_bytes_max {
            self.close_chunk();
        }
        Ok(())
    }

    /// Ends the snapshot with its snapshot-end message, which is a chunk of its own where the last row
    /// closed one.
    pub fn finish(&mut self, bounds: &SnapshotBounds) {
        let start = self.buffer.len();
        self.buffer.push(b',');
        self.buffer.extend_from_slice(&message::snapshot_end(bounds));
        self.count(self.buffer.len() - start);
        self.close_chunk();
        self.progress.complete = true;
    }

    /// The bytes encoded since the buffer was last emptied.
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// The buffer is in the file now: says how far the snapshot is.
    pub fn handle_written(&mut self) -> SnapshotProgress {
        self.buffer.clear();
        self.progress.clone()
    }

    fn count(&mut self, bytes: usize) {
        self.open_chunk_bytes += bytes as u64;
        self.progress.bytes += bytes as u64;
    }

    fn close_chunk(&mut self) {
        self.progress.chunk_ends.push(self.progress.bytes);
        self.open_chunk_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::{Column, QualifiedName, Relation, oid};
    use crate::protocol::request::Replica;
    use serde_json::Value;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    struct Text(String);

    impl Row for Text {
        fn text(&self, _: usize) -> Option<&[u8]> {
            Some(self.0.as_bytes())
        }
    }

    fn writer(chunk_bytes_max: u64) -> SnapshotWriter {
        let column = Column { not_null: true, pk_index: Some(0), ..Column::new("id", oid::INT4, "int4") };
        let relation = Relation::new(1, QualifiedName::new("public", "t"), vec![column]);
        SnapshotWriter::new(ItemFormat::new(&relation, &[0], Replica::Default), None, chunk_bytes_max)
    }

    fn bounds() -> SnapshotBounds {
        SnapshotBounds { xmin: 801, xmax: 806, xip: vec![803] }
    }

    #[test]
    fn chunks_hold_all_rows_and_end_with_snapshot_end() {
        let mut writer = writer(200);
        let mut file = Vec::new();
        for id in 0..10 {
            writer.push_row(&Text(id.to_string())).unwrap();
            file.extend_from_slice(writer.buffer());
            writer.handle_written();
        }
        writer.finish(&bounds());
        file.extend_from_slice(writer.buffer());
        let progress = writer.handle_written();
        assert!(progress.complete && progress.chunk_ends.len() > 2);
        assert_eq!(progress.chunk_ends.last(), Some(&(file.len() as u64)));
        let mut start = 0;
        let mut messages: Vec<Value> = Vec::new();
        for end in progress.chunk_ends {
            let body = [b"[", &file[start + 1..end as usize], b"]"].concat();
            messages.append(&mut serde_json::from_slice(&body).unwrap());
            start = end as usize;
        }
        assert_eq!(messages.len(), 11);
        assert_eq!(messages[10]["headers"]["control"], "snapshot-end");
        assert_eq!(messages[10]["headers"]["xip_list"][0], "803");
    }

    #[test]
    fn rows_that_are_written_together_are_counted_one_by_one() {
        let mut writer = writer(150);
        let mut ends = Vec::new();
        for id in 0..10 {
            writer.push_row(&Text(id.to_string())).unwrap();
            ends.push(writer.buffer().len() as u64);
        }
        writer.finish(&bounds());
        let written = writer.buffer().len() as u64;
        let progress = writer.handle_written();
        assert_eq!((progress.bytes, progress.chunk_ends.last()), (written, Some(&written)));
        let second: Vec<u64> = ends.into_iter().skip(1).step_by(2).collect();
        assert_eq!(progress.chunk_ends[..4], second[..4], "two rows fill a chunk");
    }

    #[test]
    fn a_full_last_chunk_leaves_snapshot_end_alone() {
        let mut writer = writer(1);
        writer.push_row(&Text("1".to_owned())).unwrap();
        writer.finish(&bounds());
        assert_eq!(writer.handle_written().chunk_ends.len(), 2);
    }

    #[test]
    fn an_empty_table_has_one_chunk() {
        let mut writer = writer(100);
        writer.finish(&bounds());
        let progress = writer.handle_written();
        assert_eq!(progress.chunk_ends, [progress.bytes]);
    }
}
