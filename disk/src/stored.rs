//! The places of a log's bytes.

use crate::segment;
use limn_core::log::reading::Part;
use limn_core::log::rope::SharedBytes;
use limn_core::log::shape_log::{LogRange, ShapeLog};
use std::ops::Range;
use std::path::PathBuf;

/// Finds the bytes of a part of a log: a range of a file, where any are in one, and behind it the bytes in memory, which
/// all readers of the same part share. `dir` gives the shape's folder.
pub fn stored_part(
    dir: impl FnOnce() -> PathBuf,
    log: &mut ShapeLog,
    part: &Part,
) -> (Option<(PathBuf, Range<u64>)>, SharedBytes) {
    match part {
        Part::Snapshot(range) => {
            let (path, at) = segment::snapshot_place(&dir(), log.pack());
            (Some((path, at + range.start..at + range.end)), SharedBytes::new())
        }
        Part::Changes(range) => {
            let LogRange { start, bytes } = range;
            let flushed = bytes.start..bytes.end.min(log.flushed_bytes());
            let in_file = |at: &Range<u64>| at.start - start.byte..at.end - start.byte;
            let file = (!flushed.is_empty())
                .then(|| (segment::log_path(&dir(), start.generation), in_file(&flushed)));
            (file, log.shared_tail_part(bytes.clone()))
        }
        Part::Nothing => (None, SharedBytes::new()),
    }
}
