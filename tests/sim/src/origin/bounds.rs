//! How much the process may keep in memory and on the disk (`limn_core::store::Limits`), measured from outside.

use super::engine::Engine;
use super::{Origin, Shape, layout};
use limn_core::journal::Record;
use limn_core::journal::record::{FRAME_HEAD_BYTES, payload_bytes, read_frame};
use limn_core::store::Limits;
use limn_disk::Files as _;
use std::io;
use std::rc::Rc;

impl Origin {
    /// The limit of memory that was exceeded.
    #[must_use]
    pub fn exceeded(&self) -> Option<String> {
        self.engine.exceeded.clone()
    }

    /// The limit of the disk that is exceeded where nothing is under way any more.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn exceeded_at_rest(&self) -> io::Result<Option<String>> {
        let files = &self.engine.files;
        let numbers = layout().commit_files(files)?;
        let [number] = numbers[..] else {
            return Ok(Some(format!("the commit log has the files {numbers:?}: one would do")));
        };
        let path = layout().commit_file(number);
        let head = files.part(&path, 0..4)?.first_chunk().copied().unwrap_or_default();
        let checkpoint = (FRAME_HEAD_BYTES + payload_bytes(head)) as u64;
        let behind = files.len(&files.open(&path)?)? - checkpoint;
        let max = self.engine.limits.commit_file_bytes_max;
        Ok((behind > max)
            .then(|| format!("the commit log has {behind} bytes behind its checkpoint, at most {max}")))
    }
}

impl Engine {
    /// Notes the limit that the tails exceed, behind a transaction and once they are written.
    pub(super) fn note_tails(&mut self) {
        self.exceeded = self.exceeded.take().or_else(|| self.tails_exceeded());
    }

    /// What is on its way to the disk counts only once it is there.
    fn tails_exceeded(&self) -> Option<String> {
        if self.is_writing() {
            return None;
        }
        let logs = self.writer.logs();
        let shapes = || logs.ids().into_iter().filter_map(|id| logs.shape(id));
        let tail = |shape: &Rc<Shape>| {
            let log = shape.log.borrow();
            log.flushable().last().map_or(0, |last| (last.end - log.flushed_bytes()) as usize)
        };
        let (each_max, all_max) = (self.limits.tail_bytes_max, self.limits.tails_bytes_max);
        let long = shapes().find(|shape| tail(shape) > each_max);
        let all: usize = shapes().map(tail).sum();
        let long = long.map(|shape| format!("the tail of {} has more than {each_max} bytes", shape.handle));
        long.or_else(|| (all > all_max).then(|| format!("all tails have {all} bytes, at most {all_max}")))
    }
}

/// The number of bytes of records that were gathered before the last of them, where these are too many. Only the records
/// that come with every transaction count: behind others nothing is handed on at once.
pub(super) fn overlong(bytes: &[u8], limits: &Limits) -> Option<String> {
    let (mut rest, mut gathered, mut last) = (bytes, 0, 0);
    while let Some((payload, length)) = read_frame(rest) {
        if let Ok(Record::Items(_) | Record::Commit(_) | Record::Backfill(_)) = Record::decode(payload) {
            gathered += last;
            last = length;
        }
        rest = &rest[length..];
    }
    let max = limits.pending_bytes_max;
    (gathered > max).then(|| format!("{gathered} bytes of records were gathered, at most {max}"))
}
