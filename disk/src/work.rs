//! Carries out what the write path has done with the files of shapes.

use crate::{Files, Layout, compaction, segment};
use limn_core::log::shape_log::PackPlace;
use limn_core::store::{NamedShape, Report, SegmentSync, SegmentWork, TailWrite};
use std::io;
use std::path::PathBuf;

/// The outcome of [work on a segment](work_on_segment).
#[derive(Debug)]
pub struct Worked {
    /// What the writer is to be told.
    pub report: Option<Report>,
    /// What was not possible. The shape's log is then as it was.
    pub failures: Vec<WorkFailure>,
}

/// The reason why a piece of work on a segment came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum WorkFailure {
    /// The segment stays as long as it is.
    #[error("a shape's log cannot be compacted; it stays as long as it is: {0}")]
    Compaction(#[source] io::Error),
    /// Files are left over.
    #[error("cannot remove a shape's files; the next start does: {0}")]
    Removal(#[source] io::Error),
}

/// Writes a tail to its segment.
///
/// # Errors
/// Whatever the operating system says.
pub fn write_tail(
    files: &impl Files,
    layout: &Layout,
    write: &TailWrite<impl NamedShape>,
) -> io::Result<Report> {
    segment::write(files, &dir(layout, &write.shape), &write.append)?;
    Ok(Report::Flushed(write.id))
}

/// Makes the files of shapes durable.
///
/// # Errors
/// Whatever the operating system says. A second sync may succeed without having written anything.
pub fn sync_segments(
    files: &impl Files,
    layout: &Layout,
    sync: &SegmentSync<impl NamedShape>,
) -> io::Result<Report> {
    let places = sync.shapes.iter().map(|shape| {
        let place = shape.with_log(|log| (log.start().generation, log.snapshot().pack));
        (dir(layout, shape), place)
    });
    let synced: Vec<_> = places.collect();
    let dirs = synced.iter().map(|(dir, (generation, _))| (dir.as_path(), *generation));
    segment::sync_all(files, layout, dirs, synced.iter().filter_map(|(_, (_, pack))| *pack))?;
    Ok(Report::SegmentsSynced(sync.file))
}

/// Does a piece of work on a segment. `goes_on` says whether a compaction shall go on; `release_pack` is called where a
/// shape goes whose snapshot is in a pack.
pub fn work_on_segment<S: NamedShape>(
    files: &impl Files,
    layout: &Layout,
    work: SegmentWork<S>,
    goes_on: impl Fn() -> bool,
    release_pack: impl FnOnce(PackPlace) -> io::Result<()>,
) -> Worked {
    let mut failures = Vec::new();
    let report = match work {
        SegmentWork::Compact { id, shape, plan, stops } => {
            let dir = dir(layout, &shape);
            let begun = compaction::begin(files, &dir, plan, stops, goes_on);
            let remove = || segment::remove(files, &dir, plan.start.generation + 1);
            Some(Report::Drafted(id, or_undone(begun, remove, &mut failures)))
        }
        SegmentWork::Finish { id, shape, draft, end } => {
            let (dir, generation) = (dir(layout, &shape), draft.start().generation);
            let finished = compaction::finish(files, &dir, draft, end);
            let remove = || segment::remove(files, &dir, generation);
            Some(Report::Compacted(id, or_undone(finished, remove, &mut failures)))
        }
        SegmentWork::Remove { shape, generation } => {
            let removed = segment::remove(files, &dir(layout, &shape), generation);
            failures.extend(removed.err().map(WorkFailure::Removal));
            None
        }
        SegmentWork::RemoveFolder { shape, .. } => {
            let place = shape.with_log(|log| log.snapshot().pack);
            let released = place.map_or(Ok(()), release_pack);
            let removed = released.and_then(|()| segment::remove_dir(files, &dir(layout, &shape)));
            failures.extend(removed.err().map(WorkFailure::Removal));
            None
        }
    };
    Worked { report, failures }
}

/// What a compaction came to. Where that is nothing, `remove` removes what it has left.
fn or_undone<T>(
    outcome: io::Result<T>,
    remove: impl FnOnce() -> io::Result<()>,
    failures: &mut Vec<WorkFailure>,
) -> Option<T> {
    match outcome {
        Ok(done) => Some(done),
        Err(error) => {
            failures.push(WorkFailure::Compaction(error));
            failures.extend(remove().err().map(WorkFailure::Removal));
            None
        }
    }
}

fn dir(layout: &Layout, shape: &impl NamedShape) -> PathBuf {
    layout.shape_dir(shape.identity().handle)
}
