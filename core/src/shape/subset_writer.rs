//! Turns the rows of a subset's query into the body of its reply.

use crate::Lsn;
use crate::filter::EvalError;
use crate::log::item::ItemFormat;
use crate::pg::{Row, SnapshotBounds};
use crate::protocol::subset::{BODY_END, SnapshotMark, body_start};
use crate::shape::dependent::Tagger;

/// Encodes rows into a buffer that the caller takes piece by piece.
#[derive(Debug)]
pub struct SubsetWriter {
    format: ItemFormat,
    /// Adds the tags of a shape with subqueries.
    tagger: Option<Tagger>,
    mark: SnapshotMark,
    buffer: Vec<u8>,
    has_rows: bool,
}

impl SubsetWriter {
    /// A writer that has written what precedes the rows.
    #[must_use]
    pub fn new(
        format: ItemFormat,
        tagger: Option<Tagger>,
        bounds: &SnapshotBounds,
        database_lsn: Lsn,
        mark: SnapshotMark,
    ) -> Self {
        Self { format, tagger, mark, buffer: body_start(bounds, database_lsn, mark), has_rows: false }
    }

    /// Encodes a row.
    ///
    /// # Errors
    /// Where the row's tags cannot be told.
    pub fn push_row(&mut self, row: &impl Row) -> Result<(), EvalError> {
        if self.has_rows {
            self.buffer.push(b',');
        }
        self.has_rows = true;
        self.format.push_subset_row(&mut self.buffer, row, self.mark);
        self.tagger.as_ref().map_or(Ok(()), |tagger| tagger.tag(&mut self.buffer, row))
    }

    /// Ends the body.
    pub fn finish(&mut self) {
        self.buffer.extend_from_slice(BODY_END);
    }

    /// How many bytes wait to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// True where none do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The bytes since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::{Column, QualifiedName, Relation, oid};
    use crate::protocol::request::Replica;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    struct Text(&'static str);

    impl Row for Text {
        fn text(&self, _: usize) -> Option<&[u8]> {
            Some(self.0.as_bytes())
        }
    }

    #[test]
    fn pieces_make_one_object() {
        let column = Column { not_null: true, pk_index: Some(0), ..Column::new("id", oid::INT4, "int4") };
        let relation = Relation::new(1, QualifiedName::new("public", "t"), vec![column]);
        let format = ItemFormat::new(&relation, &[0], Replica::Default);
        let bounds = SnapshotBounds { xmin: 1, xmax: 1, xip: vec![] };
        let mut writer =
            SubsetWriter::new(format, None, &bounds, Lsn::new(5), SnapshotMark::from_random(7 << 33));
        let mut body = writer.take();
        for id in ["1", "2", "3"] {
            writer.push_row(&Text(id)).unwrap();
            assert!(!writer.is_empty());
            let waiting = writer.len();
            let piece = writer.take();
            assert_eq!((piece.len(), writer.len(), writer.is_empty()), (waiting, 0, true));
            body.extend(piece);
        }
        writer.finish();
        body.extend(writer.take());
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let rows = body["data"].as_array().unwrap();
        let ids: Vec<&str> = rows.iter().map(|row| row["value"]["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["1", "2", "3"]);
        assert!(rows.iter().all(|row| row["headers"]["snapshot_mark"] == 7));
        assert_eq!(body["metadata"]["snapshot_mark"], 7);
    }
}
