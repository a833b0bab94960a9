//! A shape's segment, written anew by a compaction (`limn_core::log::compaction`).
//!
//! The new segment has files of its own. Those of the old one stay as they are until the commit log tells of the new one.

use crate::Files;
use crate::files::Unread;
use crate::segment::{entry_at, index_path, log_path, read_entry, sync_file};
use limn_core::log::compaction::{Compacted, Compactor, Cut, Draft, Plan, SegmentStart, Written};
use limn_core::log::segment::{ENTRY_BYTES, decode_entry, encode_entry};
use limn_core::log::shape_log::{ChunkEnd, Mark};
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Bytes that are read, or written, at one time.
const PIECE_BYTES: usize = 256 << 10;

/// Writes the new segment as far as the plan goes, while the old one may grow. `stops` are the ends of its closed chunks.
/// Nothing is synced yet.
///
/// # Errors
/// Whatever the operating system says; [`InvalidData`](io::ErrorKind::InvalidData) where the old segment holds what cannot
/// be compacted, [`Interrupted`](io::ErrorKind::Interrupted) once `goes_on` says that it shall not go on.
pub fn begin(
    files: &impl Files,
    dir: &Path,
    plan: Plan,
    stops: Vec<ChunkEnd>,
    goes_on: impl Fn() -> bool,
) -> io::Result<Draft> {
    let Plan { start, cut, .. } = plan;
    let old = Segment::open(files, dir, start.generation)?;
    let mut items = Items::new(files, &old, start, Cut { byte: start.byte, item: start.item });
    let mut new = Output::new(files, Segment::create(files, dir, start.generation + 1)?, (0, 0));
    let mut compactor = Compactor::new(plan, stops);
    while items.at != cut {
        if !goes_on() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mark = items.read(cut)?;
        let item = items.item.get(1..).unwrap_or_default();
        compactor.push((mark.tx, mark.op), item).map_err(invalid)?;
        new.write(&compactor.take_written())?;
    }
    let (written, draft) = compactor.finish();
    new.write(&written)?;
    new.flush()?;
    Ok(draft)
}

/// Takes up what came into the old segment meanwhile, up to `end`, and makes the new one durable. Neither of them is
/// written to at the same time.
///
/// # Errors
/// Whatever the operating system says.
pub fn finish(files: &impl Files, dir: &Path, mut draft: Draft, end: Cut) -> io::Result<Compacted> {
    let (old_start, start) = (draft.plan.start, draft.start());
    let old = Segment::open(files, dir, old_start.generation)?;
    let mut items = Items::new(files, &old, old_start, draft.plan.cut);
    let (log, index) = (log_path(dir, start.generation), index_path(dir, start.generation));
    let new = Segment { items: files.open_or_create(&log)?, index: files.open_or_create(&index)? };
    let mut new = Output::new(files, new, (draft.bytes, draft.items));
    let mut last = items.last_before()?;
    while items.at != end {
        last = items.read(end)?;
        draft.copy(last, items.item.len() as u64 - 1);
        let mut entry = Vec::with_capacity(ENTRY_BYTES);
        encode_entry(&mut entry, start.in_segment(last));
        new.push(&items.item, &entry)?;
    }
    new.flush()?;
    [log, index].iter().try_for_each(|path| sync_file(files, path))?;
    files.sync_dir(dir)?;
    Ok(draft.finish(last, end.item))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The open files of a segment.
struct Segment<F> {
    items: F,
    index: F,
}

impl<F> Segment<F> {
    fn open(files: &impl Files<File = F>, dir: &Path, generation: u64) -> io::Result<Self> {
        let (items, index) = (log_path(dir, generation), index_path(dir, generation));
        Ok(Self { items: files.open(&items)?, index: files.open(&index)? })
    }

    /// Empty ones.
    fn create(files: &impl Files<File = F>, dir: &Path, generation: u64) -> io::Result<Self> {
        let (items, index) = (log_path(dir, generation), index_path(dir, generation));
        Ok(Self { items: files.create(&items)?, index: files.create(&index)? })
    }
}

/// The items of a segment, read in order.
struct Items<'a, F: Files> {
    files: &'a F,
    segment: &'a Segment<F::File>,
    start: SegmentStart,
    /// Up to where they are read.
    at: Cut,
    items: BufReader<Unread<'a, F>>,
    entries: BufReader<Unread<'a, F>>,
    /// The last one that was read, with its comma.
    item: Vec<u8>,
}

impl<'a, F: Files> Items<'a, F> {
    fn new(files: &'a F, segment: &'a Segment<F::File>, start: SegmentStart, at: Cut) -> Self {
        let unread = |file, at| BufReader::with_capacity(PIECE_BYTES, Unread { files, file, at });
        let items = unread(&segment.items, at.byte - start.byte);
        let entries = unread(&segment.index, entry_at(at.item - start.item));
        Self { files, segment, start, at, items, entries, item: Vec::new() }
    }

    /// The item before the first that is read.
    fn last_before(&self) -> io::Result<Mark> {
        let number = (self.at.item - self.start.item).checked_sub(1);
        let number = number.ok_or_else(|| invalid("a segment without an item is compacted"))?;
        Ok(self.start.in_log(read_entry(self.files, &self.segment.index, number)?))
    }

    /// Reads the next item, which ends at `end` at the latest, and gives its place in the change log.
    fn read(&mut self, end: Cut) -> io::Result<Mark> {
        let mut entry = [0; ENTRY_BYTES];
        self.entries.read_exact(&mut entry)?;
        let mark = self.start.in_log(decode_entry(&entry));
        let length = mark.end.checked_sub(self.at.byte).filter(|length| *length > 0 && mark.end <= end.byte);
        let length = length.ok_or_else(|| invalid("a segment's index does not fit its items"))?;
        self.item.resize(usize::try_from(length).map_err(invalid)?, 0);
        self.items.read_exact(&mut self.item)?;
        self.at = Cut { byte: mark.end, item: self.at.item + 1 };
        Ok(mark)
    }
}

/// A segment that is being written, in pieces.
struct Output<'a, F: Files> {
    files: &'a F,
    segment: Segment<F::File>,
    items_at: u64,
    entries_at: u64,
    items: Vec<u8>,
    entries: Vec<u8>,
}

impl<'a, F: Files> Output<'a, F> {
    /// Goes on behind so many bytes and items.
    const fn new(files: &'a F, segment: Segment<F::File>, (bytes, items): (u64, u64)) -> Self {
        let (items_at, entries_at) = (bytes, entry_at(items));
        Self { files, segment, items_at, entries_at, items: Vec::new(), entries: Vec::new() }
    }

    fn write(&mut self, written: &Written) -> io::Result<()> {
        self.push(&written.items, &written.entries)
    }

    fn push(&mut self, items: &[u8], entries: &[u8]) -> io::Result<()> {
        self.items.extend_from_slice(items);
        self.entries.extend_from_slice(entries);
        if self.items.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        // An item's bytes are written before its entry.
        self.files.write_at(&self.segment.items, &self.items, self.items_at)?;
        self.files.write_at(&self.segment.index, &self.entries, self.entries_at)?;
        self.items_at += self.items.len() as u64;
        self.entries_at += self.entries.len() as u64;
        self.items.clear();
        self.entries.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use crate::{Native, segment, stored_part};
    use limn_core::Offset;
    use limn_core::log::reading::Part;
    use limn_core::log::shape_log::SnapshotProgress;
    use limn_core::log::{Clock, Read as LogRead, ShapeLog};
    use std::fs;

    const CLOCK: Clock = Clock { processed: limn_core::Lsn::new(1_000_000), is_current: true };

    fn log() -> ShapeLog {
        let mut log = ShapeLog::new(1_000);
        log.handle_snapshot_progress(SnapshotProgress { complete: true, ..SnapshotProgress::default() });
        log.handle_joined();
        log
    }

    /// Appends a transaction that updates each of these rows.
    fn update(log: &mut ShapeLog, tx: u64, rows: &[u64]) {
        for (op, row) in rows.iter().enumerate() {
            let headers = format!(r#"{{"operation":"update","lsn":"{tx}","op_position":{op}}}"#);
            let item =
                format!(r#"{{"key":"{row}","value":{{"id":"{row}","n":"{tx}"}},"headers":{headers}}}"#);
            log.append(tx, op as u64, item.as_bytes());
        }
        log.commit();
    }

    /// The items behind an offset, up to the log's end.
    fn read(dir: &Path, log: &ShapeLog, after: Offset) -> String {
        let (mut after, mut text) = (after, String::new());
        loop {
            let read = match log.read(after, CLOCK) {
                LogRead::Search => {
                    let found = segment::find(&Native, dir, log.index_search(), after).unwrap();
                    log.read_at(after, found, CLOCK)
                }
                read => read,
            };
            let LogRead::Changes { range, offset, .. } = read else { return text };
            let (file, tail) = stored_part(|| dir.to_owned(), &mut log.clone(), &Part::Changes(range));
            if let Some((path, bytes)) = file {
                let file = fs::read(path).unwrap();
                text += std::str::from_utf8(&file[bytes.start as usize..bytes.end as usize]).unwrap();
            }
            text += std::str::from_utf8(&tail.to_vec()).unwrap();
            after = offset;
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names = Native.list(dir).unwrap();
        names.sort();
        names
    }

    #[test]
    fn a_segment_is_compacted_while_it_grows() {
        let scratch = Scratch::new("compaction");
        let dir = scratch.path();
        let mut log = log();
        for tx in 1..=100 {
            update(&mut log, tx, &[1, 2, 3]);
        }
        segment::flush_tail(&Native, dir, &mut log).unwrap();
        for generation in 1..4 {
            let plan = log.plan_compaction().unwrap();
            let draft = begin(&Native, dir, plan, Vec::new(), || true).unwrap();
            let tx = log.last_offset().tx();
            update(&mut log, tx + 1, &[7]);
            segment::flush_tail(&Native, dir, &mut log).unwrap();
            update(&mut log, tx + 2, &[8]);
            let whole = log.clone();
            let compacted = finish(&Native, dir, draft, log.whole_segment().unwrap()).unwrap();
            log.handle_compacted(&compacted);
            assert_eq!(log.start().generation, generation);
            for behind in [tx, tx + 1, tx + 2] {
                let after = Offset::new(behind, 5);
                assert_eq!(read(dir, &log, after), read(dir, &whole, after), "behind the cut nothing is new");
            }
            let left = read(dir, &log, Offset::SNAPSHOT_END);
            assert!(left.matches("\"key\":\"1\"").count() < 12, "{left}");
            segment::flush_tail(&Native, dir, &mut log).unwrap();
            assert_eq!(read(dir, &log, Offset::SNAPSHOT_END), left);
            segment::remove(&Native, dir, generation - 1).unwrap();
            assert_eq!(names(dir), [format!("index.{generation}"), format!("log.{generation}")]);
        }
    }

    #[test]
    fn a_start_removes_what_a_compaction_has_left() {
        let scratch = Scratch::new("compaction-cut");
        let dir = scratch.path();
        let mut log = log();
        (1..=9).for_each(|tx| update(&mut log, tx, &[1]));
        segment::flush_tail(&Native, dir, &mut log).unwrap();
        let draft = begin(&Native, dir, log.plan_compaction().unwrap(), Vec::new(), || true).unwrap();
        assert_eq!(names(dir), ["index", "index.1", "log", "log.1"]);
        // The commit log does not know of the new segment.
        segment::cut(&Native, dir, &log).unwrap();
        assert_eq!(names(dir), ["index", "log"]);
        let draft_again = begin(&Native, dir, log.plan_compaction().unwrap(), Vec::new(), || true).unwrap();
        assert_eq!(draft_again, draft);
        let compacted = finish(&Native, dir, draft, log.whole_segment().unwrap()).unwrap();
        log.handle_compacted(&compacted);
        // It knows of it, and the old one is still there.
        segment::cut(&Native, dir, &log).unwrap();
        assert_eq!(names(dir), ["index.1", "log.1"]);
        assert_eq!(read(dir, &log, Offset::SNAPSHOT_END).matches("\"key\"").count(), 1);
    }

    #[test]
    fn what_is_no_log_of_rows_is_refused() {
        let scratch = Scratch::new("compaction-refused");
        let dir = scratch.path();
        let mut log = log();
        log.append(1, 0, b"{\"headers\":{\"event\":\"move-out\"}}");
        log.commit();
        segment::flush_tail(&Native, dir, &mut log).unwrap();
        let plan = log.plan_compaction().unwrap();
        assert_eq!(
            begin(&Native, dir, plan, Vec::new(), || true).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(
            begin(&Native, dir, plan, Vec::new(), || false).unwrap_err().kind(),
            io::ErrorKind::Interrupted
        );
        fs::write(log_path(dir, 0), b"").unwrap();
        assert_eq!(
            begin(&Native, dir, plan, Vec::new(), || true).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
