//! What a restart finds: the checkpoint of the oldest commit log file, and everything written since,
//! replayed over it.
//!
//! [`recover`] is called by origin's `serve` and by the simulation; what each record means,
//! [`limn_core::journal::recovery`] says. Its result goes to [`CommitWriter::start`](crate::CommitWriter::start), which makes
//! it durable, and then to [`limn_core::store::Writer::restore`].

use crate::layout::pack_number;
use crate::records::Records;
use crate::{Files, Layout, segment};
use limn_core::Handle;
use limn_core::journal::record::RecordError;
use limn_core::journal::recovery::{RecoveredShape, RecoveredStore, Recovery, ShapeFiles};
use limn_core::journal::replay::Survey;
use limn_core::log::shape_log::{PackPlace, ShapeLog};
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::PathBuf;

/// The state that a folder holds.
#[derive(Debug)]
pub struct Recovered {
    /// The shapes, with all that is known of each in its segment, and the positions.
    pub store: RecoveredStore,
    /// The number for the next commit log file.
    pub next_file: u64,
}

/// Why a folder cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A file could not be read or written.
    #[error("cannot recover from `{path}`: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A record is whole and makes no sense.
    #[error("`{path}`: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// The mistake in the record.
        source: RecordError,
    },
}

/// Reads the folder and rebuilds every shape that was durable. Tails that grow beyond `tail_bytes_max` meanwhile are moved to
/// their segments at once.
///
/// # Errors
/// Where a file cannot be read, or holds a record that is whole and makes no sense.
pub fn recover<F: Files>(
    files: &F,
    layout: &Layout,
    chunk_bytes_max: u64,
    tail_bytes_max: usize,
) -> Result<Recovered, RecoveryError> {
    let numbers = layout
        .commit_files(files)
        .map_err(|source| RecoveryError::Io { path: layout.commit_dir(), source })?;
    // All that is read is durable: the process before may have ended without a sync, and a power failure that takes a
    // record back must not leave the checkpoint of this start, which knows of it.
    let open = |number: &u64| Records::open(files, &layout.commit_file(*number));
    let mut survey = Survey::default();
    for number in &numbers {
        open(number)?.read_payloads(files, |payload| {
            survey.handle_payload(payload);
            Ok(())
        })?;
    }
    let mut recovery = Recovery::new(survey, chunk_bytes_max, tail_bytes_max);
    let mut folders = Folders { files, layout };
    for number in &numbers {
        open(number)?.read(files, |record| recovery.handle_record(record, &mut folders))?;
    }
    let mut store = recovery.finish();
    settle(&mut folders, &mut store.shapes)
        .map_err(|source| RecoveryError::Io { path: layout.shapes_dir(), source })?;
    Ok(Recovered { store, next_file: numbers.last().map_or(1, |last| last + 1) })
}

/// Makes the shapes' files hold all that the commit log said, and nothing else, durably.
fn settle<F: Files>(folders: &mut Folders<'_, F>, shapes: &mut [RecoveredShape]) -> io::Result<()> {
    let Folders { files, layout } = *folders;
    let mut grown = shapes.iter_mut().filter(|shape| shape.log.tail_bytes() > 0);
    grown.try_for_each(|shape| folders.flush_tail(shape.handle, &mut shape.log))?;
    // Most shapes may have no folder: asking the operating system for each of them would take longest of all.
    let names: HashSet<Handle> =
        files.list(&layout.shapes_dir())?.iter().filter_map(|name| name.parse().ok()).collect();
    let mut dirs = Vec::new();
    for shape in shapes.iter().filter(|shape| names.contains(&shape.handle)) {
        let dir = layout.shape_dir(shape.handle);
        segment::cut(files, &dir, &shape.log)?;
        dirs.push((dir, shape.log.start().generation));
    }
    let places = shapes.iter().filter_map(|shape| shape.log.pack());
    let dirs = dirs.iter().map(|(dir, generation)| (dir.as_path(), *generation));
    segment::sync_all(files, layout, dirs, places)
}

/// The shapes' files.
struct Folders<'a, F> {
    files: &'a F,
    layout: &'a Layout,
}

impl<F: Files> ShapeFiles for Folders<'_, F> {
    type Error = io::Error;

    fn flush_tail(&mut self, handle: Handle, log: &mut ShapeLog) -> io::Result<()> {
        segment::flush_tail(self.files, &self.layout.shape_dir(handle), log)
    }

    fn write_snapshot(&mut self, handle: Handle, pack: Option<PackPlace>, content: &[u8]) -> io::Result<()> {
        segment::write_snapshot(self.files, &self.layout.shape_dir(handle), pack, content)
    }
}

/// Removes the files of shapes that did not survive. Only once that is durable, in a new commit log file: until
/// then a crash may bring them back.
pub(crate) fn remove_orphans(
    files: &impl Files,
    layout: &Layout,
    survivors: &[RecoveredShape],
) -> io::Result<()> {
    let packs: BTreeSet<u64> =
        survivors.iter().filter_map(|shape| shape.log.pack()).map(|place| place.pack).collect();
    let names = files.list(&layout.shapes_dir())?;
    // Most shapes may have no folder.
    let mut lost: HashSet<Handle> = names.iter().filter_map(|name| name.parse().ok()).collect();
    for survivor in survivors {
        if lost.is_empty() {
            break;
        }
        lost.remove(&survivor.handle);
    }
    for name in names {
        match pack_number(&name) {
            Some(number) if !packs.contains(&number) => files.remove_file(&layout.pack_file(number))?,
            None if name.parse().map_or(true, |handle| lost.contains(&handle)) => {
                files.remove_dir_all(&layout.shapes_dir().join(name))?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Native;
    use crate::scratch::Scratch;
    use limn_core::ShapeId;
    use limn_core::journal::record::{CreatedShape, Record, SnapshotDone};
    use limn_core::journal::tables::{StoredTable, TableRef};
    use limn_core::log::shape_log::SnapshotProgress;
    use limn_core::pg::{QualifiedName, Relation, SnapshotBounds, SnapshotFilter};
    use limn_core::protocol::request::parse_shape_request;
    use limn_core::protocol::route::Method;
    use std::collections::BTreeMap;
    use std::fs;

    const CONTENT: &[u8] = b",{}";

    fn records(pack: Option<PackPlace>) -> [Record; 3] {
        let id = ShapeId(1);
        let created = CreatedShape {
            id,
            handle: "5000-1".to_owned(),
            request: parse_shape_request(Method::Get, "table=t&offset=-1").unwrap().definition,
            relation: TableRef::Number(0),
            partitions: Vec::new(),
            inner: Vec::new(),
            inner_partitions: BTreeMap::new(),
        };
        let relation = Relation::new(1, QualifiedName::new("public", "t"), Vec::new());
        let table = StoredTable { number: 0, relation };
        let bounds = SnapshotBounds { xmin: 1, xmax: 1, xip: Vec::new() };
        let length = CONTENT.len() as u64;
        let done = SnapshotDone {
            id,
            filter: SnapshotFilter { bounds, ends_at: 9 },
            progress: SnapshotProgress { bytes: length, chunk_ends: vec![length], complete: true, pack },
            content: Some(CONTENT.to_vec()),
        };
        [Record::Table(Box::new(table)), Record::Created(Box::new(created)), Record::SnapshotDone(done)]
    }

    #[test]
    fn a_small_snapshot_comes_back_although_its_file_was_lost() {
        for pack in [None, Some(PackPlace { pack: 7, at: 2 })] {
            let scratch = Scratch::new("recovery");
            let layout = Layout::new(scratch.path().to_owned());
            [layout.commit_dir(), layout.shapes_dir()].iter().for_each(|dir| fs::create_dir(dir).unwrap());
            let mut file = Vec::new();
            records(pack).iter().for_each(|record| record.encode(&mut file));
            fs::write(layout.commit_file(1), file).unwrap();
            for _ in 0..2 {
                // The second time the file is there already.
                let recovered = recover(&Native, &layout, 1_000, 1_000).unwrap();
                let [shape] = &recovered.store.shapes[..] else { unreachable!("one shape survives") };
                let dir = layout.shape_dir(shape.handle);
                let (path, at) = segment::snapshot_place(&dir, shape.log.pack());
                assert_eq!(fs::read(path).unwrap()[at as usize..], *CONTENT);
                remove_orphans(&Native, &layout, &recovered.store.shapes).unwrap();
            }
            fs::write(layout.pack_file(8), "of nobody").unwrap();
            let recovered = recover(&Native, &layout, 1_000, 1_000).unwrap();
            remove_orphans(&Native, &layout, &recovered.store.shapes).unwrap();
            assert_eq!(fs::read_dir(layout.shapes_dir()).unwrap().count(), 1, "{pack:?}");
        }
    }
}
