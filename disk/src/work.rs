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
        let place = shape.with_log(|log| (log.start().generation, log.pack()));
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
            let place = shape.with_log(|log| log.pack());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use crate::{Native, read_log};
    use limn_core::journal::record::CreatedShape;
    use limn_core::log::shape_log::SnapshotProgress;
    use limn_core::log::{Clock, Read, ShapeLog};
    use limn_core::pg::{Column, QualifiedName, Relation, oid};
    use limn_core::protocol::request::parse_shape_request;
    use limn_core::protocol::route::Method;
    use limn_core::shape::{Definition, GeneratedColumns};
    use limn_core::store::{ShapeIdentity, SharedShape};
    use limn_core::{Handle, Lsn, Offset, ShapeId};
    use std::cell::RefCell;
    use std::fs;
    use std::rc::Rc;
    use std::sync::Arc;

    const ID: ShapeId = ShapeId(7);

    struct Shape {
        created: CreatedShape,
        definition: Definition,
        log: RefCell<ShapeLog>,
    }

    impl SharedShape for Shape {
        fn with_log<T>(&self, change: impl FnOnce(&mut ShapeLog) -> T) -> T {
            change(&mut self.log.borrow_mut())
        }

        fn created(&self) -> CreatedShape {
            self.created.clone()
        }
    }

    impl NamedShape for Shape {
        fn identity(&self) -> ShapeIdentity<'_> {
            ShapeIdentity { id: ID, handle: Handle::new(1, 1), definition: &self.definition }
        }

        fn show_snapshot(&self) {}
    }

    /// A folder with one shape, whose log has these transactions.
    fn shape(name: &str, transactions: u64) -> (Scratch, Layout, Rc<Shape>) {
        let scratch = Scratch::new(name);
        let layout = Layout::new(scratch.path().to_owned());
        fs::create_dir(layout.shapes_dir()).unwrap();
        let request = parse_shape_request(Method::Get, "table=t&offset=-1").unwrap().definition;
        let id = Column { not_null: true, pk_index: Some(0), ..Column::new("id", oid::INT4, "int4") };
        let relation = Arc::new(Relation::new(1, QualifiedName::new("public", "t"), vec![id]));
        let definition = Definition::resolve(&request, &relation, &GeneratedColumns::Never, &[]).unwrap();
        let created = CreatedShape::new(ID, Handle::new(1, 1), &request, &definition);
        let mut log = ShapeLog::new(1_000_000);
        log.handle_snapshot_progress(SnapshotProgress { complete: true, ..SnapshotProgress::default() });
        log.handle_joined();
        for tx in 1..=transactions {
            let item = format!(
                r#"{{"key":"1","value":{{"id":"1"}},"headers":{{"operation":"update","lsn":"{tx}","op_position":0}}}}"#
            );
            log.append(tx, 0, item.as_bytes());
            log.commit();
        }
        segment::flush_tail(&Native, &layout.shape_dir(Handle::new(1, 1)), &mut log).unwrap();
        (scratch, layout, Rc::new(Shape { created, definition, log: RefCell::new(log) }))
    }

    fn work(layout: &Layout, work: SegmentWork<Rc<Shape>>, goes_on: bool) -> Worked {
        work_on_segment(&Native, layout, work, || goes_on, |_| Ok(()))
    }

    fn compact(shape: &Rc<Shape>) -> SegmentWork<Rc<Shape>> {
        let plan = shape.with_log(|log| log.plan_compaction()).unwrap();
        SegmentWork::Compact { id: ID, shape: shape.clone(), plan, stops: Vec::new() }
    }

    #[test]
    fn a_compaction_that_fails_leaves_nothing() {
        let (_scratch, layout, shape) = shape("work-fails", 9);
        let names = || {
            let mut names = Native.list(&layout.shape_dir(Handle::new(1, 1))).unwrap();
            names.sort();
            names
        };
        let Worked { report, failures } = work(&layout, compact(&shape), false);
        assert!(matches!(report, Some(Report::Drafted(ID, None))), "{report:?}");
        assert!(matches!(failures[..], [WorkFailure::Compaction(_)]), "{failures:?}");
        assert_eq!(names(), ["index", "log"]);
        let Worked { report, failures } = work(&layout, compact(&shape), true);
        assert!(matches!(report, Some(Report::Drafted(ID, Some(_)))) && failures.is_empty(), "{report:?}");
        assert_eq!(names(), ["index", "index.1", "log", "log.1"]);
    }

    #[test]
    fn a_folder_goes_with_its_place_in_a_pack() {
        let (_scratch, layout, shape) = shape("work-folder", 1);
        let pack = Some(PackPlace { pack: 3, at: 5 });
        let progress = SnapshotProgress { complete: true, pack, ..SnapshotProgress::default() };
        shape.with_log(|log| log.handle_snapshot_progress(progress));
        let mut released = None;
        let removal = SegmentWork::RemoveFolder { id: ID, shape };
        let worked = work_on_segment(
            &Native,
            &layout,
            removal,
            || true,
            |place| {
                released = Some(place);
                Ok(())
            },
        );
        assert!(worked.report.is_none() && worked.failures.is_empty());
        assert_eq!((released, Native.list(&layout.shapes_dir()).unwrap().len()), (pack, 0));
    }

    #[test]
    fn an_index_that_is_missing_is_an_error_only_where_it_should_be_there() {
        let (_scratch, layout, shape) = shape("work-read", 9);
        let clock = Clock { processed: Lsn::new(9), is_current: true };
        let read = || read_log(&Native, &layout, &shape, Offset::new(3, 0), clock);
        assert!(matches!(read(), Ok(Read::Changes { .. })));
        fs::remove_dir_all(layout.shape_dir(Handle::new(1, 1))).unwrap();
        assert_eq!(read().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
