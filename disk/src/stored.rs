//! The places of a log's bytes.

use crate::{Files, Layout, segment};
use limn_core::Offset;
use limn_core::log::reading::Part;
use limn_core::log::rope::SharedBytes;
use limn_core::log::shape_log::{LogRange, ShapeLog};
use limn_core::log::{Clock, Read};
use limn_core::store::NamedShape;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Reads a shape's log after `after`; looks into the segment's index for what memory does not know. Never gives
/// [`Read::Search`].
///
/// # Errors
/// Where the index cannot be read.
pub fn read_log(
    files: &impl Files,
    layout: &Layout,
    shape: &impl NamedShape,
    after: Offset,
    clock: Clock,
) -> io::Result<Read> {
    loop {
        let (read, search) = shape.with_log(|log| (log.read(after, clock), log.index_search()));
        if read != Read::Search {
            return Ok(read);
        }
        let dir = layout.shape_dir(shape.identity().handle);
        let found = match segment::find(files, &dir, search, after) {
            // The log was compacted meanwhile, and the index is gone.
            Err(_) if shape.with_log(|log| log.start()) != search.start => continue,
            found => found?,
        };
        let read = shape.with_log(|log| log.read_at(after, found, clock));
        if read != Read::Search {
            return Ok(read);
        }
    }
}

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
